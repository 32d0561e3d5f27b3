//! Version 2 of `.hexz`: the layers of a coded latent.
//!
//! Bytes, numbers little-endian: `HEXZ`, version 2 (u32), length of the header with its checksum (u16), hash of the model (CRC u32, parameters
//! u64), hash of the codec (u32), quarter-octaves that steps are wider (i8), shape (4 x u16), rotation (u16: nine entries of -1, 0 or 1
//! to base 3, or 65535 and 9 x f64), centre (3 x f64), scale (f64), name (u8 length, UTF-8), layers (u8 count, then length u32 and
//! CRC-32 u32 each), CRC-32 of all before it (u32); then the layers. A file may end behind any layer.

use crate::mesh::Similarity;

pub const MAGIC: [u8; 4] = *b"HEXZ";
pub const VERSION: u32 = 2;

/// Layers at most.
const MOST_LAYERS: usize = 16;
const LONGEST_NAME: usize = 255;
const OTHER_ROTATION: u16 = u16::MAX;

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// As `hexz::model_hash` has it.
    pub model: String,
    pub codec: u32,
    pub coarser: i8,
    pub shape: [usize; 4],
    pub transform: Similarity,
    pub name: String,
    /// Those that are there.
    pub layers: Vec<Vec<u8>>,
    /// Those that the encoder wrote.
    pub total: usize,
}

impl Coded {
    /// The bytes of a file with all its layers.
    ///
    /// # Errors
    /// Where the model's hash or the sizes are none that a file can hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let hash = self.model.split_once('-');
        let hash = hash
            .and_then(|(crc, count)| Some((u32::from_str_radix(crc, 16).ok()?, count.parse::<u64>().ok()?)));
        let (crc, count) = hash.ok_or_else(|| format!("{} is no hash of a model", self.model))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(self.codec.to_le_bytes());
        bytes.extend(self.coarser.to_le_bytes());
        for extent in self.shape {
            bytes.extend(
                u16::try_from(extent).map_err(|_| "the shape is too large".to_string())?.to_le_bytes(),
            );
        }
        put_rotation(&self.transform.rotation, &mut bytes);
        self.transform.centre.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        bytes.extend(self.transform.scale.to_le_bytes());
        let name = &self.name.as_bytes()[..self.name.floor_char_boundary_of(LONGEST_NAME)];
        bytes.push(name.len() as u8);
        bytes.extend(name);
        bytes.push(self.layers.len() as u8);
        for layer in &self.layers {
            bytes.extend((layer.len() as u32).to_le_bytes());
            bytes.extend(crc32fast::hash(layer).to_le_bytes());
        }
        let len = (bytes.len() + 4) as u16;
        bytes[8..10].copy_from_slice(&len.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        self.layers.iter().for_each(|layer| bytes.extend(layer));
        Ok(bytes)
    }

    /// A file that ends behind one of its layers; with `partial` also one that ends anywhere, up to its last whole layer.
    ///
    /// # Errors
    /// What is wrong with any other.
    pub fn parse(bytes: &[u8], partial: bool) -> Result<Self, String> {
        let header = header(bytes)?;
        let mut fields = Fields { bytes: header, at: 10 };
        let model = (fields.u32()?, fields.u64()?);
        let codec = fields.u32()?;
        let coarser = fields.take::<1>()?[0] as i8;
        let mut shape = [0; 4];
        for extent in &mut shape {
            *extent = usize::from(fields.u16()?);
        }
        let transform = fields.transform()?;
        let len = usize::from(fields.take::<1>()?[0]);
        let name =
            String::from_utf8(fields.slice(len)?.to_vec()).map_err(|_| damaged("its name is no UTF-8"))?;
        let total = usize::from(fields.take::<1>()?[0]);
        if total == 0 || total > MOST_LAYERS {
            return Err(damaged(format_args!("{total} layers")));
        }
        let table = (0..total).map(|_| Ok((fields.u32()? as usize, fields.u32()?)));
        let table = table.collect::<Result<Vec<_>, String>>()?;
        if fields.at != header.len() {
            return Err(damaged("its header is longer than what is in it"));
        }
        let layers = layers(&bytes[header.len() + 4..], &table, partial)?;
        let model = format!("{:08x}-{}", model.0, model.1);
        Ok(Self { model, codec, coarser, shape, transform, name, layers, total })
    }
}

/// The largest index up to `most` that lies between two characters.
trait Boundary {
    fn floor_char_boundary_of(&self, most: usize) -> usize;
}

impl Boundary for str {
    fn floor_char_boundary_of(&self, most: usize) -> usize {
        (0..=most.min(self.len())).rev().find(|&at| self.is_char_boundary(at)).unwrap_or_default()
    }
}

fn damaged(problem: impl std::fmt::Display) -> String {
    format!("the file is damaged: {problem}")
}

/// The header without its checksum, which fits.
fn header(bytes: &[u8]) -> Result<&[u8], String> {
    let mut fields = Fields { bytes, at: 4 };
    if bytes.get(..4) != Some(&MAGIC) {
        return Err("not a latent file: it does not start with HEXZ".to_string());
    }
    let version = fields.u32()?;
    if version != VERSION {
        return Err(format!("version {version} of the format, expected 1 or {VERSION}"));
    }
    let len = usize::from(fields.u16()?);
    let body = len.checked_sub(4).filter(|&body| body >= fields.at && len <= bytes.len());
    let body = body.ok_or("its header is cut short or damaged")?;
    let crc = Fields { bytes, at: body }.u32()?;
    if crc != crc32fast::hash(&bytes[..body]) {
        return Err(damaged("the checksum of its header does not fit"));
    }
    Ok(&bytes[..body])
}

/// The layers that are there whole.
fn layers(mut rest: &[u8], table: &[(usize, u32)], partial: bool) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for (index, &(len, crc)) in table.iter().enumerate() {
        if rest.is_empty() {
            break;
        }
        let Some(layer) = rest.get(..len) else {
            if partial {
                rest = &[];
                break;
            }
            let have = rest.len();
            return Err(format!("cut within layer {}: {have} of its {len} bytes are there", index + 1));
        };
        if crc != crc32fast::hash(layer) {
            return Err(damaged(format_args!("the checksum of layer {} does not fit", index + 1)));
        }
        found.push(layer.to_vec());
        rest = &rest[len..];
    }
    if !rest.is_empty() {
        return Err(damaged(format_args!("{} bytes follow its last layer", rest.len())));
    }
    if found.is_empty() {
        return Err("cut before the end of its first layer".to_string());
    }
    Ok(found)
}

fn put_rotation(rotation: &[[f64; 3]; 3], bytes: &mut Vec<u8>) {
    let entries = rotation.iter().flatten();
    // The sign of a zero says nothing of a rotation.
    if entries.clone().all(|x| [-1.0, 0.0, 1.0].contains(x)) {
        let packed = entries.fold(0u16, |packed, x| 3 * packed + (x + 1.0) as u16);
        return bytes.extend(packed.to_le_bytes());
    }
    bytes.extend(OTHER_ROTATION.to_le_bytes());
    entries.for_each(|x| bytes.extend(x.to_le_bytes()));
}

/// Fields one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], String> {
        let found = self.bytes.get(self.at..self.at + len).ok_or("its header is cut short or damaged")?;
        self.at += len;
        Ok(found)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut found = [0; N];
        found.copy_from_slice(self.slice(N)?);
        Ok(found)
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.take().map(u64::from_le_bytes)
    }

    fn finite(&mut self) -> Result<f64, String> {
        let x = f64::from_le_bytes(self.take()?);
        if x.is_finite() { Ok(x) } else { Err(damaged("its transform is not finite")) }
    }

    fn transform(&mut self) -> Result<Similarity, String> {
        let mut rotation = [[0.0; 3]; 3];
        match self.u16()? {
            OTHER_ROTATION => {
                for entry in rotation.iter_mut().flatten() {
                    *entry = self.finite()?;
                }
            }
            mut packed => {
                for entry in rotation.iter_mut().flatten().rev() {
                    *entry = f64::from(packed % 3) - 1.0;
                    packed /= 3;
                }
            }
        }
        let mut centre = [0.0; 3];
        for x in &mut centre {
            *x = self.finite()?;
        }
        let scale = self.finite()?;
        if scale <= 0.0 {
            return Err(damaged("its scale is not positive"));
        }
        Ok(Similarity { rotation, centre, scale })
    }
}
