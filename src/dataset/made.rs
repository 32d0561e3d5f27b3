//! A mesh that was made for a set, on its way to whoever writes it.

use super::journal::Origin;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A record in bytes, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub facts: Facts,
    /// Of the record; nothing where it is skipped.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub name: String,
    pub origin: Origin,
    /// Whether the set has something of that name.
    pub known: bool,
    /// Why there is no record.
    pub skipped: Option<String>,
    /// Of the record.
    pub sha256: String,
}

impl Made {
    /// For another rank: the length of the facts as JSON, they, the record.
    ///
    /// # Errors
    /// None that a mesh can have.
    pub fn to_message(&self) -> Result<Vec<u8>> {
        let facts = serde_json::to_vec(&self.facts).map_err(defect)?;
        Ok([&(facts.len() as u64).to_le_bytes()[..], &facts, &self.bytes].concat())
    }

    /// What another rank has sent.
    ///
    /// # Errors
    /// None where it has.
    pub fn from_message(message: &[u8]) -> Result<Self> {
        let cut = || defect("a message is cut short");
        let (len, rest) = message.split_first_chunk().ok_or_else(cut)?;
        let (facts, bytes) = rest.split_at_checked(u64::from_le_bytes(*len) as usize).ok_or_else(cut)?;
        Ok(Self { facts: serde_json::from_slice(facts).map_err(defect)?, bytes: bytes.to_vec() })
    }
}

fn defect(problem: impl std::fmt::Display) -> Error {
    Error::new("a mesh of another rank", problem, "this is a defect: please report it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_reaches_another_rank_whole() {
        let origin = Origin { source: "a/ä.obj".into(), bytes: 7, modified: 1 << 60, sha256: "ab".into() };
        for (skipped, bytes) in [(None, vec![0, 255, 3]), (Some("no triangles; mend it".to_string()), vec![])]
        {
            let facts =
                Facts {
                    name: "ä".into(), origin: origin.clone(), known: true, skipped, sha256: "cd".into()
                };
            let made = Made { facts, bytes };
            let message = made.to_message().unwrap();
            assert_eq!(Made::from_message(&message).unwrap(), made);
            assert!(Made::from_message(&message[..7]).is_err());
            assert!(Made::from_message(&message[..20]).is_err());
        }
    }
}
