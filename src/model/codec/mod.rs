//! The codec of latents: a learned prior over the latent grid, and the bytes that a range coder makes of a latent under it.
//!
//! Everything that decides a probability is whole numbers, so that every machine decodes the same bits.

mod activity;
mod coder;
mod container;
mod indices;
pub mod tables;
mod values;

pub use container::{Coded, VERSION};
pub use indices::IndexCodec;
pub use values::{BASIS_BITS, MOST_WHOLE, PARTS, ValueCodec, ValueParts, factor};

/// What is coded of a latent.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// What the decoder reads, `[6, s, s, channels]`.
    Values(Vec<f32>),
    /// Of levels or classes, `[6, s, s, slots]`.
    Indices(Vec<u16>),
}

/// The codec of a network's latents.
pub enum Codec {
    Values(Box<ValueCodec>),
    Indices(IndexCodec),
}

impl Codec {
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Self::Values(codec) => codec.parts.shape,
            Self::Indices(codec) => codec.shape,
        }
    }

    /// Layers of a file.
    pub fn layers(&self) -> usize {
        match self {
            Self::Values(codec) => codec.layers(),
            Self::Indices(codec) => codec.ends.len(),
        }
    }

    /// CRC-32 of all that the codec knows: tells codecs apart.
    pub fn hash(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut add = |numbers: &mut dyn Iterator<Item = u32>| {
            let (mut count, mut bytes) = (0u64, Vec::new());
            numbers.for_each(|x| {
                bytes.extend(x.to_le_bytes());
                count += 1;
            });
            hasher.update(&count.to_le_bytes());
            hasher.update(&bytes);
        };
        let (shape, ends, laws) = match self {
            Self::Values(codec) => {
                let parts = &codec.parts;
                add(&mut parts.order.iter().map(|&x| x as u32));
                add(&mut parts.steps.iter().map(|x| x.to_bits()));
                add(&mut parts.mean.iter().chain(&parts.basis).map(|&x| x as u32));
                add(&mut parts.coefficient_levels.iter().chain(&parts.levels).map(|&x| u32::from(x)));
                (parts.shape, &parts.ends, &parts.laws)
            }
            Self::Indices(codec) => (codec.shape, &codec.ends, &codec.laws),
        };
        add(&mut shape.iter().chain(ends).map(|&x| x as u32));
        laws.iter().for_each(|law| add(&mut law.iter().copied()));
        hasher.finalize()
    }

    /// The layers of a latent, at steps `coarser` quarter-octaves wider than the codec's own; indices have none.
    ///
    /// # Panics
    /// Where the code is of another kind or length.
    pub fn encode(&self, code: &Code, coarser: i8) -> Vec<Vec<u8>> {
        match (self, code) {
            (Self::Values(codec), Code::Values(values)) => codec.encode(values, coarser),
            (Self::Indices(codec), Code::Indices(indices)) => codec.encode(indices),
            _ => panic!("the code is of the codec's kind"),
        }
    }

    /// The latent of the first layers of a file.
    ///
    /// # Errors
    /// Where there are none or too many, or one is not what an encoder writes.
    pub fn decode(&self, layers: &[Vec<u8>], coarser: i8) -> Result<Code, String> {
        if layers.len() > self.layers() {
            return Err(format!("{} layers, the codec has {}", layers.len(), self.layers()));
        }
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        match self {
            Self::Values(codec) => codec.decode(&layers, coarser).map(Code::Values),
            Self::Indices(codec) => codec.decode(&layers).map(Code::Indices),
        }
    }
}
