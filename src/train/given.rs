//! `inputs.json`, and the first mesh: what a run was given, there from its first step for whoever follows it.

use super::Item;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::mesh::io;
use crate::mesh::normalise::denormalise;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

const FILE: &str = "inputs.json";

/// What a run was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// Names of the meshes trained on, without warped copies.
    pub meshes: Vec<String>,
}

impl Inputs {
    /// Writes the file, and `input.ply` in the units of the mesh.
    pub(super) fn write(out: &Path, items: &[Item]) -> Result<()> {
        let inputs = Self { meshes: items.iter().map(|item| item.name.clone()).collect() };
        let text = serde_json::to_string_pretty(&inputs)
            .map_err(|error| Error::new(FILE, error, "this is a bug: report it"))?;
        write_atomic(&out.join(FILE), |file| writeln!(file, "{text}"))?;
        items.first().map_or(Ok(()), |item| {
            io::write(&out.join("input.ply"), &denormalise(&item.mesh, &item.transform))
        })
    }

    /// Of the run in `out`; none where it was made by a program that did not write the file.
    pub fn read(out: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(out.join(FILE)).ok()?).ok()
    }
}

/// The folder of the files of a mesh by its index; `None` where there is none.
pub fn mesh_folder(out: &Path, index: usize) -> Option<PathBuf> {
    if index == 0 {
        return Some(out.to_path_buf());
    }
    let prefix = format!("{index:03}-");
    let entries = std::fs::read_dir(out.join("meshes")).ok()?;
    let mut found = entries.filter_map(|entry| entry.ok());
    found.find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).map(|entry| entry.path())
}
