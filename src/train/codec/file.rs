//! `codec.safetensors` in a run folder: a fitted codec, and which network's latents it is of. Whole numbers up to 2^24 lie in F32 tensors,
//! which have them exactly.

use super::super::checkpoint::{FileTensor, FileValues, Stored, broken, run_folder, write_tensors};
use super::{Alphabet, CodecSettings};
use crate::error::{Error, Result};
use crate::model::Autoencoder;
use crate::model::codec::tables::LEVELS;
use crate::model::codec::{Codec, IndexCodec, MOST_WHOLE, ValueCodec, ValueParts};
use crate::model::hexz::model_hash;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Its name.
const CODEC_FILE: &str = "codec.safetensors";

const FORMAT: &str = "hexcuda-codec-1";
const KEY: &str = "hexcuda.codec";

/// What a file says beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodecFile {
    format: String,
    /// [`model_hash`] of the network.
    model: String,
    /// Of the codec, as `.hexz` files name it.
    pub hash: u32,
    pub settings: CodecSettings,
    /// Principal components that predict a latent.
    pub components: usize,
    /// Of the widest law.
    widest: usize,
    layers: usize,
    /// Names of the meshes that it was fitted to.
    pub meshes: Vec<String>,
}

const REMEDY: &str = "fit it again with hexcuda codec";

impl CodecFile {
    /// Of `model`, fitted to `meshes`.
    pub fn new(
        model: &Autoencoder,
        codec: &Codec,
        settings: CodecSettings,
        meshes: Vec<String>,
    ) -> Result<Self> {
        let (components, laws, layers) = match codec {
            Codec::Values(codec) => {
                (codec.parts.coefficient_levels.len(), &codec.parts.laws, codec.parts.ends.len())
            }
            Codec::Indices(codec) => (0, &codec.laws, codec.ends.len()),
        };
        let widest = laws.iter().map(Vec::len).max().unwrap_or_default();
        let (format, model, hash) = (FORMAT.to_string(), model_hash(model)?, codec.hash());
        Ok(Self { format, model, hash, settings, components, widest, layers, meshes })
    }

    pub fn path(run: &Path) -> PathBuf {
        run_folder(run).join(CODEC_FILE)
    }

    /// Writes the file of a run folder whole or not at all.
    pub fn write(&self, run: &Path, codec: &Codec) -> Result<()> {
        let path = Self::path(run);
        let mut tensors = Vec::new();
        let mut add = |name: &str, shape: Vec<usize>, values: Vec<f32>| {
            tensors.push(FileTensor { name: name.to_string(), shape, values: FileValues::InOrder(values) });
        };
        let (ends, laws) = match codec {
            Codec::Values(codec) => {
                let parts = &codec.parts;
                let (extents, count) = (parts.shape.to_vec(), self.components);
                add("latent.steps", vec![parts.steps.len()], parts.steps.clone());
                add("latent.order", vec![parts.order.len()], floats(&parts.order));
                add("latent.mean", extents.clone(), floats(&parts.mean));
                add("latent.components", [&[count], &parts.shape[..]].concat(), floats(&parts.basis));
                add("latent.levels", extents, floats(&parts.levels));
                add("latent.component_levels", vec![count], floats(&parts.coefficient_levels));
                (&parts.ends, &parts.laws)
            }
            Codec::Indices(codec) => (&codec.ends, &codec.laws),
        };
        add("layers.ends", vec![ends.len()], floats(ends));
        let mut padded = vec![0; laws.len() * self.widest];
        for (row, law) in padded.chunks_mut(self.widest.max(1)).zip(laws) {
            row[..law.len()].copy_from_slice(law);
        }
        add("laws", vec![laws.len(), self.widest], floats(&padded));
        let facts = serde_json::to_string(self).map_err(|error| broken(&path, error))?;
        write_tensors(&path, tensors, HashMap::from([(KEY.to_string(), facts)]))
    }

    /// The file of a run folder, whose network is `model`.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another network.
    pub fn read(run: &Path, model: &Autoencoder) -> Result<(Self, Codec)> {
        let path = Self::path(run);
        if !path.exists() {
            let problem = "this run has no codec";
            return Err(Error::usage(path.display(), problem, "fit one with hexcuda codec"));
        }
        let wrong = |problem: String| Error::new(path.display(), problem, REMEDY);
        let mut file = Tensors { stored: Stored::open(&path)?, path: &path };
        let facts: Self = serde_json::from_str(&file.stored.text(KEY)?)
            .map_err(|error| wrong(format!("not a codec ({error})")))?;
        if facts.format != FORMAT {
            return Err(wrong(format!("its format is {}, expected {FORMAT}", facts.format)));
        }
        let expected = model_hash(model)?;
        if facts.model != expected {
            return Err(wrong(format!("it was fitted to model {}, this run holds {expected}", facts.model)));
        }
        let codec = facts.codec(model, &mut file)?.map_err(&wrong)?;
        if codec.hash() != facts.hash {
            return Err(wrong("its checksum does not fit: the file is damaged".to_string()));
        }
        Ok((facts, codec))
    }

    fn codec(&self, model: &Autoencoder, file: &mut Tensors) -> Result<std::result::Result<Codec, String>> {
        let alphabet = Alphabet::of(model);
        let mut shape = model.latent_extents();
        shape[3] = alphabet.slots(shape[3]);
        let (count, channels) = (self.components, shape[3]);
        let ends = file.whole("layers.ends", &[self.layers])?;
        if alphabet != Alphabet::Values {
            let len: usize = shape.iter().product();
            let rows: Vec<u32> = file.whole("laws", &[len, self.widest])?;
            let law = |(i, row): (usize, &[u32])| row[..alphabet.size(i).min(row.len())].to_vec();
            let laws = rows.chunks(self.widest.max(1)).enumerate().map(law).collect();
            return Ok(IndexCodec::new(shape, ends, laws).map(Codec::Indices));
        }
        let rows: Vec<u32> = file.whole("laws", &[LEVELS, self.widest])?;
        let law = |row: &[u32]| row.iter().copied().take_while(|&p| p > 0).collect();
        let parts = ValueParts {
            shape,
            ends,
            order: file.whole("latent.order", &[channels])?,
            steps: file.stored.array("latent.steps", &[channels])?,
            mean: file.whole("latent.mean", &shape)?,
            basis: file.whole("latent.components", &[&[count], &shape[..]].concat())?,
            levels: file.whole("latent.levels", &shape)?,
            coefficient_levels: file.whole("latent.component_levels", &[count])?,
            laws: rows.chunks(self.widest.max(1)).map(law).collect(),
        };
        Ok(ValueCodec::new(parts).map(|codec| Codec::Values(Box::new(codec))))
    }
}

struct Tensors<'a> {
    stored: Stored,
    path: &'a Path,
}

impl Tensors<'_> {
    /// A tensor of whole numbers.
    fn whole<T: TryFrom<i32>>(&mut self, name: &str, shape: &[usize]) -> Result<Vec<T>> {
        let values = self.stored.array(name, shape)?;
        let number = |x: f32| {
            let whole = x.fract() == 0.0 && x.abs() <= MOST_WHOLE as f32;
            whole.then_some(x as i32).and_then(|x| T::try_from(x).ok())
        };
        let wrong = |x: f32| Error::new(self.path.display(), format!("{name} holds {x}"), REMEDY);
        values.into_iter().map(|x| number(x).ok_or_else(|| wrong(x))).collect()
    }
}

fn floats<T: Copy + TryInto<i32>>(values: &[T]) -> Vec<f32> {
    // All are far below 2^24, or were clipped to it.
    values.iter().map(|&x| x.try_into().unwrap_or(MOST_WHOLE) as f32).collect()
}
