//! Meshes named on the command line: files, folders, or the built-in head.

use crate::dataset::{Manifest, Set};
use crate::error::{Error, Result};
use crate::mesh::sample_head::head;
use crate::mesh::{Mesh, io};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Triangles of the built-in head.
pub const HEAD_TRIANGLES: usize = 20_000;

/// The sets among inputs, opened, and the rest of these.
pub fn sets(inputs: &[PathBuf]) -> Result<(Vec<Arc<Set>>, Vec<PathBuf>)> {
    let (sets, rest): (Vec<PathBuf>, Vec<PathBuf>) =
        inputs.iter().cloned().partition(|input| Manifest::is_in(input));
    let open = |path: &PathBuf| Set::open(path).map(Arc::new);
    Ok((sets.iter().map(open).collect::<Result<_>>()?, rest))
}

/// (name, mesh) of every input; the built-in head of `seed` without any.
pub fn meshes(inputs: &[PathBuf], seed: u64) -> Result<Vec<(String, Mesh)>> {
    if inputs.is_empty() {
        return Ok(vec![("sample-head".to_string(), head(seed, HEAD_TRIANGLES))]);
    }
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            files.extend(in_folder(input)?);
        } else {
            files.push(input.clone());
        }
    }
    files.iter().map(|file| Ok((stem(file), io::read(file)?))).collect()
}

/// The mesh files of a folder, sorted by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    if Manifest::is_in(folder) {
        let remedy = "name mesh files or folders of them; hexcuda dataset export writes a mesh of a set";
        return Err(Error::new(folder.display(), "this is a set, expected meshes", remedy));
    }
    let failed = |error: std::io::Error| Error::io(folder, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && io::Format::from_path(&path).is_ok() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let problem = "the folder holds no mesh, expected .obj, .ply, .stl, .glb or .gltf files";
        return Err(Error::new(folder.display(), problem, "name a folder with meshes or a file"));
    }
    Ok(files)
}

/// The name of a file without folder and ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "mesh".to_string(), |stem| stem.to_string_lossy().into_owned())
}
