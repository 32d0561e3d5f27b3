//! `manifest.json`: what a set is made of, and how much of its journal a finished build has left.

use super::{REBUILD, SetSettings};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

pub const FORMAT: &str = "hexcuda-set-1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub settings: SetSettings,
    /// Whether a build has come to its end.
    pub finished: bool,
    /// Lines of the journal then, and the checksum of the last one.
    pub lines: usize,
    pub head: String,
    /// SHA-256 of all the above.
    pub sha256: String,
}

impl Manifest {
    /// Of a set without a mesh.
    pub fn new(settings: SetSettings) -> Self {
        let format = FORMAT.to_string();
        Self { format, settings, finished: false, lines: 0, head: String::new(), sha256: String::new() }
    }

    pub fn path(set: &Path) -> PathBuf {
        set.join("manifest.json")
    }

    /// Whether the folder is a set, or was to be one.
    pub fn is_in(folder: &Path) -> bool {
        Self::path(folder).exists()
    }

    /// The text of the file, whose checksum is set anew.
    fn text(&self) -> Result<String> {
        let json = |manifest: &Self| {
            serde_json::to_string_pretty(manifest)
                .map_err(|error| Error::new("manifest.json", error, "this is a defect: please report it"))
        };
        let unsigned = Self { sha256: String::new(), ..self.clone() };
        let sha256 = hex(&Sha256::digest(json(&unsigned)?));
        Ok(json(&Self { sha256, ..unsigned })? + "\n")
    }

    /// # Errors
    /// Those of the folder.
    pub fn write(&self, set: &Path) -> Result<()> {
        let text = self.text()?;
        write_atomic(&Self::path(set), |file| file.write_all(text.as_bytes()))
    }

    /// # Errors
    /// A folder that holds no set, one of another version, and a file that is not byte for byte what was written.
    pub fn read(set: &Path) -> Result<Self> {
        let path = Self::path(set);
        if set.is_dir() && !path.exists() {
            let remedy = "name a folder that `hexcuda dataset` has made";
            return Err(Error::new(set.display(), "the folder holds no set (no manifest.json)", remedy));
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, &error))?;
        let wrong = |problem: String| Error::new(path.display(), problem, REBUILD);
        let json: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("it is not a set's manifest any more ({error})")))?;
        if json["format"] != FORMAT {
            return Err(wrong(format!("its format is {}, expected \"{FORMAT}\"", json["format"])));
        }
        let manifest: Self = serde_json::from_value(json)
            .map_err(|error| wrong(format!("its entries are broken ({error})")))?;
        // The text follows from the content to the last byte, so that no byte can change unseen.
        if manifest.text()?.as_bytes() != bytes {
            return Err(wrong("it is not what was written (checksum)".to_string()));
        }
        manifest.settings.validate().map_err(|error| wrong(error.to_string()))?;
        Ok(manifest)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
