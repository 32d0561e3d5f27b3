//! `.hexz`: the latent of one mesh.
//!
//! Version 1 has the values as they are; version 2, [`super::codec::Coded`], a codec's layers.
//!
//! Bytes of version 1: `HEXZ`, version (u32), length of the header (u32), header (JSON: shape, transform, hash of
//! the model, name), values (f32), CRC-32 of all before it (u32). Numbers are little-endian.

use super::Autoencoder;
use super::codec::{self, Coded};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::mesh::Similarity;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

const MAGIC: [u8; 4] = *b"HEXZ";
const VERSION: u32 = 1;
/// A header is a few hundred bytes; more than this is damage.
const LONGEST_HEADER: usize = 1 << 20;

/// A latent with what is needed to decode it.
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    /// `[6, s, s, channels]`.
    pub shape: [usize; 4],
    /// From the mesh's own frame to the normalised one.
    pub transform: Similarity,
    /// [`model_hash`] of the network that made it.
    pub model: String,
    /// Of the mesh.
    pub name: String,
    pub values: Vec<f32>,
}

/// A file of either version.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyLatent {
    Plain(Latent),
    Coded(Coded),
}

impl AnyLatent {
    /// With `partial` also a coded file that ends within a layer, up to the last whole one.
    ///
    /// # Errors
    /// When the file is missing, cut short, damaged, of another kind or of another version.
    pub fn read(path: &Path, partial: bool) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
        let version = bytes.get(4..8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        if bytes.get(..4) == Some(&MAGIC) && version == Some(codec::VERSION) {
            let remedy = match partial {
                true => "encode the mesh again",
                false => "encode the mesh again, or take its whole layers with decode --partial",
            };
            let coded = Coded::parse(&bytes, partial);
            return coded.map(Self::Coded).map_err(|problem| Error::new(path.display(), problem, remedy));
        }
        let plain = Latent::parse(&bytes);
        plain.map(Self::Plain).map_err(|problem| Error::new(path.display(), problem, "encode the mesh again"))
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    shape: [usize; 4],
    transform: Similarity,
    model: String,
    name: String,
}

/// CRC-32 of all weights with their count, in hexadecimal: tells networks apart.
///
/// # Errors
/// Those of the device that has the weights.
pub fn model_hash(model: &Autoencoder) -> Result<String> {
    let crc = crc32fast::hash(bytemuck::cast_slice(&model.parameters.values()?));
    Ok(format!("{crc:08x}-{}", model.parameter_count()))
}

impl Latent {
    /// Writes the file whole or not at all; returns its length in bytes.
    pub fn write(&self, path: &Path) -> Result<usize> {
        let bytes = self.to_bytes()?;
        write_atomic(path, |file| file.write_all(&bytes))?;
        Ok(bytes.len())
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = Header {
            shape: self.shape,
            transform: self.transform,
            model: self.model.clone(),
            name: self.name.clone(),
        };
        let header =
            serde_json::to_vec(&header).map_err(|error| Error::new(&self.name, error, "report this"))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((header.len() as u32).to_le_bytes());
        bytes.extend(header);
        self.values.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        Ok(bytes)
    }

    /// # Errors
    /// When the file is missing, cut short, damaged, of another kind or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
        Self::parse(&bytes).map_err(|problem| Error::new(path.display(), problem, "encode the mesh again"))
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let word =
            |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        if bytes.get(..4) != Some(&MAGIC) {
            return Err("not a latent file: it does not start with HEXZ".to_string());
        }
        let (version, len) = (word(4), word(8));
        if version != Some(VERSION) {
            let (found, coded) = (version.unwrap_or_default(), codec::VERSION);
            return Err(format!("version {found} of the format, expected {VERSION} or {coded}"));
        }
        let body = bytes.len().checked_sub(4).filter(|&end| end >= 12).ok_or("the file is cut short")?;
        if word(body) != Some(crc32fast::hash(&bytes[..body])) {
            return Err("its checksum does not fit: the file is damaged or cut short".to_string());
        }
        let len = len.map_or(usize::MAX, |len| len as usize);
        if len > LONGEST_HEADER || 12 + len > body {
            return Err(format!("a header of {len} bytes does not fit into the file"));
        }
        let header: Header =
            serde_json::from_slice(&bytes[12..12 + len]).map_err(|error| error.to_string())?;
        let expected = header.shape.iter().try_fold(4usize, |product, &n| product.checked_mul(n));
        let data = &bytes[12 + len..body];
        if expected != Some(data.len()) {
            return Err(format!("{} bytes of values do not fill the shape {:?}", data.len(), header.shape));
        }
        let values: Vec<f32> =
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(format!("value {at} is {}", values[at]));
        }
        let Header { shape, transform, model, name } = header;
        Ok(Self { shape, transform, model, name, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latent() -> Latent {
        Latent {
            shape: [6, 1, 1, 2],
            transform: Similarity { scale: 0.5, ..Similarity::default() },
            model: "00000000-1".into(),
            name: "a".into(),
            values: (0..12).map(|i| i as f32 - 3.5).collect(),
        }
    }

    #[test]
    fn comes_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.hexz");
        let bytes = latent().write(&path).unwrap();
        assert_eq!(bytes as u64, std::fs::metadata(&path).unwrap().len());
        assert_eq!(Latent::read(&path).unwrap(), latent());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.hexz");
        latent().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            assert!(Latent::parse(&bytes[..end]).is_err(), "cut to {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Latent::parse(&damaged).is_err(), "byte {at}");
        }
    }
}
