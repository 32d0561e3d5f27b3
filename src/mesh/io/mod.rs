//! Mesh files: OBJ, PLY, STL, GLB and glTF in and out, by the ending of the name.
//!
//! All readers keep the same promises. Every fault of a file is one [`Error`] that names the file, the
//! line, byte or item in it, and what to do; nothing in a file makes them panic, and what they allocate
//! is bounded by the size of the file, whatever counts it claims ([`MAX_BYTES`], [`MAX_ELEMENTS`]).
//! Polygons are triangulated, faces that name a vertex twice after that are left out (they have no
//! area), duplicate faces are kept, and normals come out finite and of unit length or not at all.

mod accessor;
mod glb;
mod glb_write;
mod obj;
mod ply;
mod polygon;
mod stl;

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;

use super::Mesh;
use super::normalise::{mend_normals, mesh_fault};
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// Larger files are refused before they are read.
pub const MAX_BYTES: u64 = 1 << 31;
/// Most vertices, and most triangles, of a mesh: what a glTF scene may grow to by using a mesh often.
pub const MAX_ELEMENTS: usize = 1 << 26;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Obj,
    Ply,
    Stl,
    Glb,
    Gltf,
}

impl Format {
    /// The format that the ending of `path` names, in upper or lower case.
    pub fn from_path(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("obj") => Ok(Self::Obj),
            Some("ply") => Ok(Self::Ply),
            Some("stl") => Ok(Self::Stl),
            Some("glb") => Ok(Self::Glb),
            Some("gltf") => Ok(Self::Gltf),
            other => Err(Error::new(
                path.display(),
                match other {
                    Some(ending) => format!("meshes are not read or written as .{ending}"),
                    None => "the name has no ending that says which format it is".to_string(),
                },
                "use .obj, .ply, .stl, .glb or .gltf",
            )),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Obj => "OBJ",
            Self::Ply => "PLY",
            Self::Stl => "STL",
            Self::Glb => "GLB",
            Self::Gltf => "glTF",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Obj => ".obj",
            Self::Ply => ".ply",
            Self::Stl => ".stl",
            Self::Glb => ".glb",
            Self::Gltf => ".gltf",
        }
    }

    /// What the first bytes say beyond doubt; OBJ and STL have no magic number.
    fn from_magic(bytes: &[u8]) -> Option<Self> {
        let first = bytes.trim_ascii_start().first();
        if bytes.starts_with(b"glTF") {
            Some(Self::Glb)
        } else if bytes.starts_with(b"ply\n") || bytes.starts_with(b"ply\r") {
            Some(Self::Ply)
        } else {
            (first == Some(&b'{')).then_some(Self::Gltf)
        }
    }
}

/// Reads a mesh; the ending names the format, the content must agree.
///
/// # Errors
/// One line for whatever is wrong with the path or with the file.
pub fn read(path: &Path) -> Result<Mesh> {
    let format = Format::from_path(path)?;
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, &error))?;
    if metadata.is_dir() {
        return Err(Error::io(path, &std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    if !metadata.is_file() {
        return Err(Error::new(path.display(), "this is a device or a pipe", "name a regular file"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(too_large(path.display(), metadata.len()));
    }
    let bytes = fs::read(path).map_err(|error| Error::io(path, &error))?;
    let name = path.display().to_string();
    Source { bytes: &bytes, name: &name, folder: Some(path.parent().unwrap_or(Path::new(""))) }.read(format)
}

/// Reads a mesh from memory; `name` stands for the file in messages. A glTF may not refer to other files.
pub fn read_bytes(bytes: &[u8], format: Format, name: &str) -> Result<Mesh> {
    Source { bytes, name, folder: None }.read(format)
}

/// Writes a mesh in the format that the ending names, whole or not at all.
///
/// PLY and STL come out binary (PLY little endian), `.gltf` as one file with its buffer inside. OBJ and
/// PLY carry the normals that the mesh has; GLB and glTF always have normals, computed where the mesh has
/// none, because viewers shade faceted without.
///
/// # Errors
/// One line: a mesh without triangles, with vertices that are not finite or indices out of range, or
/// what the operating system says about the path.
pub fn write(path: &Path, mesh: &Mesh) -> Result<()> {
    let format = Format::from_path(path)?;
    if let Some(fault) = mesh_fault(mesh) {
        return Err(Error::new(
            path.display(),
            fault,
            "there is nothing to write: look at what made the mesh",
        ));
    }
    write_atomic(path, |writer| write_as(writer, mesh, format))
}

/// The bytes of a file, as [`write()`] has them; `name` stands for the file in messages.
///
/// # Errors
/// As of [`write()`].
pub fn to_bytes(mesh: &Mesh, format: Format, name: &str) -> Result<Vec<u8>> {
    if let Some(fault) = mesh_fault(mesh) {
        return Err(Error::new(name, fault, "there is nothing to write: look at what made the mesh"));
    }
    let mut bytes = Vec::new();
    write_as(&mut bytes, mesh, format).map_err(|error| Error::io(name, &error))?;
    Ok(bytes)
}

fn write_as(writer: &mut impl Write, mesh: &Mesh, format: Format) -> std::io::Result<()> {
    match format {
        Format::Obj => obj::write(writer, mesh),
        Format::Ply => ply::write(writer, mesh),
        Format::Stl => stl::write(writer, mesh),
        Format::Glb => glb_write::write_glb(writer, mesh),
        Format::Gltf => glb_write::write_gltf(writer, mesh),
    }
}

fn too_large(place: impl Display, bytes: u64) -> Error {
    Error::new(
        place,
        format_args!("the file has {bytes} bytes, {MAX_BYTES} are the most that is read"),
        "simplify the mesh",
    )
}

/// The bytes of a file and what messages call it.
struct Source<'a> {
    bytes: &'a [u8],
    name: &'a str,
    /// Where files that it refers to lie; `None` where it may not refer to any.
    folder: Option<&'a Path>,
}

impl Source<'_> {
    fn error(&self, place: impl Display, problem: impl Display, remedy: impl Display) -> Error {
        Error::new(format_args!("{}: {place}", self.name), problem, remedy)
    }

    fn read(&self, format: Format) -> Result<Mesh> {
        if self.bytes.is_empty() {
            return Err(Error::new(self.name, "the file is empty", "get it again"));
        }
        if self.bytes.len() as u64 > MAX_BYTES {
            return Err(too_large(self.name, self.bytes.len() as u64));
        }
        if let Some(found) = Format::from_magic(self.bytes).filter(|&found| found != format) {
            return Err(Error::new(
                self.name,
                format_args!("expected {}, the content is {}", format.name(), found.name()),
                format_args!("rename it to end in {}", found.ending()),
            ));
        }
        match format {
            Format::Obj => obj::read(self),
            Format::Ply => ply::read(self),
            Format::Stl => stl::read(self),
            Format::Glb | Format::Gltf => glb::read(self, format),
        }
    }
}

/// What a reader has gathered; indices are in range and positions finite.
#[derive(Default)]
struct Parts {
    positions: Vec<[f32; 3]>,
    /// Empty, or one a vertex as the file has it: zero where it has none.
    normals: Vec<[f32; 3]>,
    triangles: Vec<[u32; 3]>,
}

impl Parts {
    fn finish(mut self, source: &Source) -> Result<Mesh> {
        self.triangles.retain(|&[a, b, c]| a != b && b != c && c != a);
        if self.triangles.is_empty() {
            return Err(Error::new(
                source.name,
                format_args!("no triangles among {} vertices", self.positions.len()),
                "give a surface mesh; a point cloud must be meshed first",
            ));
        }
        let given = self.normals.iter().any(|normal| *normal != [0.0; 3]);
        let mesh = Mesh { positions: self.positions, normals: None, triangles: self.triangles };
        let normals = given.then(|| mend_normals(&mesh, self.normals));
        Ok(Mesh { normals, ..mesh })
    }
}

/// The three single-precision coordinates of vertex `index`, refused where they are not finite.
fn finite_vertex(
    source: &Source,
    place: impl Display,
    index: usize,
    [x, y, z]: [f64; 3],
) -> Result<[f32; 3]> {
    let vertex = [x as f32, y as f32, z as f32];
    if vertex.iter().all(|c| c.is_finite()) {
        return Ok(vertex);
    }
    Err(source.error(
        place,
        format_args!("vertex {index} is ({x}, {y}, {z}), not finite in single precision"),
        "export the mesh again",
    ))
}
