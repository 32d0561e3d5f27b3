//! What the meshes of a set come from: files of folders, or the built-in heads.

use super::journal::Origin;
use super::manifest::hex;
use crate::error::{Error, Result};
use crate::mesh::sample_head::head;
use crate::mesh::{Mesh, io};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// One mesh to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub name: String,
    from: From,
}

#[derive(Clone, Debug, PartialEq)]
enum From {
    File(PathBuf),
    Head { seed: u64, triangles: usize },
}

impl Source {
    /// The path, or the command that makes the same mesh.
    pub fn source(&self) -> String {
        match &self.from {
            From::File(path) => path.display().to_string(),
            From::Head { seed, triangles } => format!("hexcuda head --seed {seed} --triangles {triangles}"),
        }
    }

    /// Whether what a set has of it is of the same content; its date is looked at before its bytes are.
    pub(super) fn is_unchanged(&self, known: &Origin) -> bool {
        match &self.from {
            From::Head { .. } => known.source == self.source() && known.modified == 0,
            From::File(path) => {
                let (bytes, modified) = stamp(path);
                let alike = (bytes, modified) == (known.bytes, known.modified) && modified != 0;
                alike || (bytes == known.bytes && checksum(path).is_ok_and(|sum| sum == known.sha256))
            }
        }
    }

    /// The mesh in its own frame, and where it is from.
    pub(super) fn read(&self) -> (Origin, Result<Mesh>) {
        let source = self.source();
        match &self.from {
            From::File(path) => {
                // The stamp first: what changes while it is read is taken again next time.
                let (bytes, modified) = stamp(path);
                let sha256 = checksum(path).unwrap_or_default();
                (Origin { source, bytes, modified, sha256 }, io::read(path))
            }
            From::Head { seed, triangles } => {
                // By way of its file, so that both have the same bits.
                let file = io::to_bytes(&head(*seed, *triangles), io::Format::Ply, &self.name);
                let bytes = file.as_ref().map_or(0, Vec::len) as u64;
                let sha256 = file.as_ref().map_or(String::new(), |file| hex(&Sha256::digest(file)));
                let mesh = file.and_then(|file| io::read_bytes(&file, io::Format::Ply, &self.name));
                (Origin { source, bytes, modified: 0, sha256 }, mesh)
            }
        }
    }
}

fn stamp(path: &Path) -> (u64, u64) {
    let Ok(metadata) = std::fs::metadata(path) else { return (0, 0) };
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    (metadata.len(), since.map_or(0, |since| since.as_nanos() as u64))
}

fn checksum(path: &Path) -> std::io::Result<String> {
    // A pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

/// The built-in heads of `count` seeds, under the names and with the bits that `hexcuda head --count` gives their files.
pub fn heads(count: u32, seed: u64, triangles: usize) -> Vec<Source> {
    let one = |index: u64| Source {
        name: format!("head_{index:03}"),
        from: From::Head { seed: seed.wrapping_add(index), triangles },
    };
    (0..u64::from(count)).map(one).collect()
}

/// All mesh files below folders (and files named by themselves), sorted by name: the path below the folder, without
/// ending. Links to folders are not followed. Several files may come to one name.
///
/// # Errors
/// A folder that cannot be read, and no mesh file at all.
pub fn in_folders(folders: &[PathBuf]) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for folder in folders {
        if folder.is_dir() {
            below(folder, "", &mut found)?;
        } else {
            io::Format::from_path(folder)?;
            std::fs::metadata(folder).map_err(|error| Error::io(folder, &error))?;
            found.push(file("", folder));
        }
    }
    if found.is_empty() {
        let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let problem = "no mesh below it, expected .obj, .ply, .stl, .glb or .gltf files";
        return Err(Error::new(places.join(", "), problem, "name a folder with meshes"));
    }
    found.sort_by(|a, b| (&a.name, a.source()).cmp(&(&b.name, b.source())));
    found.dedup();
    Ok(found)
}

fn file(prefix: &str, path: &Path) -> Source {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Source { name: format!("{prefix}{stem}"), from: From::File(path.to_path_buf()) }
}

fn below(folder: &Path, prefix: &str, found: &mut Vec<Source>) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(folder, &error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            below(&path, &format!("{prefix}{}/", entry.file_name().to_string_lossy()), found)?;
        } else if io::Format::from_path(&path).is_ok() && !path.is_dir() {
            found.push(file(prefix, &path));
        }
    }
    Ok(())
}
