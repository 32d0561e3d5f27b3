//! `inputs.json`, and the first mesh: what a run was given, there from its first step for whoever follows it.

use super::evaluate::input_mesh;
use super::{Item, Settings};
use crate::device::Device;
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
    /// Names of the meshes trained on, without warped copies; of a set those of which the run folder has files.
    pub meshes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetInput>,
}

/// A set that a run was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetInput {
    pub path: String,
    /// Meshes of each part.
    pub train: usize,
    pub validation: usize,
    pub test: usize,
    /// Of the names and the content of what steps and looks depend on.
    pub sha256: String,
}

impl Inputs {
    /// Writes the file, and `input.ply` in the units of the mesh.
    pub(super) fn write(
        out: &Path,
        items: &[&Item],
        sets: &[SetInput],
        (settings, device): (&Settings, &Device),
    ) -> Result<()> {
        let meshes = items.iter().map(|item| item.name.clone()).collect();
        let inputs = Self { meshes, sets: sets.to_vec() };
        let text = serde_json::to_string_pretty(&inputs)
            .map_err(|error| Error::new(FILE, error, "this is a bug: report it"))?;
        write_atomic(&out.join(FILE), |file| writeln!(file, "{text}"))?;
        items.first().map_or(Ok(()), |item| {
            let mesh = input_mesh(item, device, settings)?;
            io::write(&out.join("input.ply"), &denormalise(&mesh, &item.transform()?))
        })
    }

    /// A run goes on only with the sets that it began with.
    ///
    /// # Errors
    /// Other meshes, or other content of one.
    pub(super) fn require_same(out: &Path, sets: &[SetInput]) -> Result<()> {
        let found = Self::read(out).unwrap_or_default().sets;
        let alike = |(a, b): (&SetInput, &SetInput)| a.sha256 == b.sha256;
        if found.len() == sets.len() && found.iter().zip(sets).all(alike) {
            return Ok(());
        }
        let problem = "the run was made with other meshes of sets";
        Err(Error::new(out.display(), problem, "name the sets as they were, or another --out"))
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
