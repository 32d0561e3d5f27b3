//! `checkpoint.safetensors`: weights, moments of the optimiser, step and settings; everything that
//! the next step depends on, since random draws follow from seed and step alone.
//!
//! Tensors have the names and the shapes that PyTorch gives them (`Conv2d.weight` is
//! `[out, in, kh, kw]`); the moments are `adam.first.NAME` and `adam.second.NAME`.

use super::{Settings, Trainer};
use crate::device::Buffer;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::model::Autoencoder;
use crate::nn::LossScale;
use crate::tape::{Parameter, ParameterLayout, Role};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const FORMAT: &str = "hexcuda-checkpoint-1";
/// The key of the metadata that holds [`Facts`] as JSON.
const KEY: &str = "hexcuda";
const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";

#[derive(Serialize, Deserialize)]
struct Facts {
    format: String,
    step: u64,
    adam_updates: u64,
    /// Of a run in fp16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<LossScale>,
    config: String,
}

/// The facts of a checkpoint beside its tensors.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub settings: Settings,
    pub step: u64,
    pub updates: u64,
    /// Of a run in fp16.
    pub loss_scale: Option<LossScale>,
}

impl Checkpoint {
    /// Writes the state of `trainer` whole or not at all.
    pub fn write(path: &Path, trainer: &Trainer, settings: &Settings) -> Result<()> {
        let (model, adam) = (&trainer.model, &trainer.adam);
        let blocks = [
            ("", model.parameters.values()?),
            (FIRST, adam.first.values()?),
            (SECOND, adam.second.values()?),
        ];
        let tensors =
            blocks.iter().flat_map(|(prefix, values)| file_tensors(prefix, &model.layout, values)).collect();
        let facts = Facts {
            format: FORMAT.to_string(),
            step: trainer.step,
            adam_updates: adam.outcome().updates,
            loss_scale: Some(adam.outcome().scale).filter(|scale| scale.factor > 1.0 || scale.steady > 0),
            config: settings.to_toml()?,
        };
        // One key: the order of several in the header would change from run to run.
        let facts = serde_json::to_string(&facts).map_err(|error| broken(path, error))?;
        let facts = HashMap::from([(KEY.to_string(), facts)]);
        write_tensors(path, tensors, facts)
    }

    /// Puts the state of the file at `path` into `trainer`, whose architecture must be the file's.
    pub fn restore(path: &Path, trainer: &mut Trainer) -> Result<Self> {
        let mut file = Stored::open(path)?;
        let facts = file.facts()?;
        let layout = &trainer.model.layout;
        file.fill(FIRST, layout, &mut trainer.adam.first)?;
        file.fill(SECOND, layout, &mut trainer.adam.second)?;
        file.fill("", layout, &mut trainer.model.parameters)?;
        trainer.adam.restore(facts.updates, facts.loss_scale)?;
        trainer.step = facts.step;
        Ok(facts)
    }

    /// The facts alone.
    pub fn read(path: &Path) -> Result<Self> {
        Stored::open(path)?.facts()
    }
}

/// The network of a run with its settings, for encoding and decoding: of its last step where `run` is its folder, or of a checkpoint in
/// the folder, such as the best one.
pub fn load_model(run: &Path) -> Result<(Autoencoder, Settings)> {
    if run.is_file() { load_network(run) } else { load_network(&run.join("checkpoint.safetensors")) }
}

/// The folder of a run that is named as in [`load_model`].
pub(super) fn run_folder(run: &Path) -> &Path {
    match run.parent() {
        Some(folder) if run.is_file() => folder,
        _ => run,
    }
}

/// The network of a checkpoint with its settings.
pub(super) fn load_network(path: &Path) -> Result<(Autoencoder, Settings)> {
    let mut file = Stored::open(path)?;
    let facts = file.facts()?;
    let mut model = facts.settings.network(None)?;
    file.fill("", &model.layout, &mut model.parameters)?;
    Ok((model, facts.settings))
}

/// A tensor for a file.
pub(super) struct FileTensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: FileValues<'a>,
}

/// The values of a tensor for a file.
pub(super) enum FileValues<'a> {
    InOrder(Vec<f32>),
    /// In the layout of the program, put in order only when they are written: a checkpoint takes no second copy of
    /// the network.
    Of(&'a Parameter, &'a [f32]),
}

impl FileValues<'_> {
    fn in_order(&self) -> Cow<'_, [f32]> {
        match self {
            Self::InOrder(values) => Cow::Borrowed(values),
            Self::Of(parameter, values) => Cow::Owned(in_file_order(parameter, values)),
        }
    }
}

/// A block of values in the layout of the parameters, a tensor each, as files have them; `prefix` before each name.
pub(super) fn file_tensors<'a>(
    prefix: &str,
    layout: &'a ParameterLayout,
    values: &'a [f32],
) -> Vec<FileTensor<'a>> {
    let tensor = |parameter: &'a Parameter| FileTensor {
        name: format!("{prefix}{}", parameter.name),
        shape: permuted(parameter.shape.extents(), to_file(parameter.role)),
        values: FileValues::Of(parameter, &values[parameter.range.clone()]),
    };
    layout.iter().map(tensor).collect()
}

/// Writes a file of F32 tensors in the order of their names, whole or not at all.
pub(super) fn write_tensors(
    path: &Path,
    mut tensors: Vec<FileTensor>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let info = |tensor: &FileTensor| {
        let start = end;
        end += size_of::<f32>() * tensor.shape.iter().product::<usize>();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) };
        (tensor.name.clone(), info)
    };
    let infos = tensors.iter().map(info).collect();
    let header = Metadata::new(Some(metadata), infos).map_err(|error| broken(path, error))?;
    let mut header = serde_json::to_string(&header).map_err(|error| broken(path, error))?;
    // The data begins at a multiple of 8 bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    write_atomic(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        tensors.iter().try_for_each(|tensor| file.write_all(bytemuck::cast_slice(&tensor.values.in_order())))
    })
}

pub(super) fn broken(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(path.display(), format!("not a whole checkpoint ({error})"), "train again or use another run")
}

/// Largest header that is read, as the format has it.
const MOST_HEADER: u64 = 100_000_000;

/// A file of tensors, read one at a time.
pub(super) struct Stored {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Where the first tensor begins.
    start: u64,
}

impl Stored {
    pub fn open(path: &Path) -> Result<Self> {
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::UnexpectedEof => broken(path, "it ends early"),
            _ => Error::io(path, &error),
        };
        let mut file = File::open(path).map_err(|error| Error::io(path, &error))?;
        let len = file.metadata().map_err(io)?.len();
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(io)?;
        let count = u64::from_le_bytes(count);
        if count > MOST_HEADER.min(len) {
            return Err(broken(path, format!("its header would have {count} bytes")));
        }
        let mut header = vec![0; count as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| broken(path, error))?;
        let (start, data) = (8 + count, metadata.data_len() as u64);
        if start + data != len {
            return Err(broken(path, format!("it has {len} bytes, {} expected", start + data)));
        }
        Ok(Self { path: path.to_path_buf(), file, metadata, start })
    }

    /// An entry of the metadata.
    pub fn text(&self, key: &str) -> Result<String> {
        let mut strings = self.metadata.metadata().clone().unwrap_or_default();
        strings.remove(key).ok_or_else(|| broken(&self.path, format!("its metadata has no {key}")))
    }

    fn facts(&self) -> Result<Checkpoint> {
        let path = &self.path;
        let facts: Facts = serde_json::from_str(&self.text(KEY)?).map_err(|error| broken(path, error))?;
        if facts.format != FORMAT {
            return Err(broken(path, format!("its format is {}, expected {FORMAT}", facts.format)));
        }
        let settings = toml::from_str(&facts.config);
        let settings: Settings = settings.map_err(|error| broken(path, error.message()))?;
        settings.validate().map_err(|error| broken(path, error))?;
        let (step, updates, loss_scale) = (facts.step, facts.adam_updates, facts.loss_scale);
        Ok(Checkpoint { settings, step, updates, loss_scale })
    }

    /// Reads every parameter of `layout` under `prefix` into `values`.
    pub fn fill(&mut self, prefix: &str, layout: &ParameterLayout, values: &mut Buffer) -> Result<()> {
        for parameter in layout.iter() {
            let data = self.values(&format!("{prefix}{}", parameter.name), parameter)?;
            let mut ours = vec![0.0; parameter.range.len()];
            from_file_order(parameter, &data, &mut ours);
            values.load(parameter.range.start, &ours)?;
        }
        Ok(())
    }

    /// The tensor `name`, which must have the shape of `parameter` and finite values.
    fn values(&mut self, name: &str, parameter: &Parameter) -> Result<Vec<f32>> {
        self.array(name, &permuted(parameter.shape.extents(), to_file(parameter.role)))
    }

    /// The tensor `name`, which must have this shape and finite values.
    pub fn array(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let path = self.path.display();
        let remedy = "use the settings and the program version that made the file";
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| Error::new(&path, format!("{name} is not in it"), remedy))?;
        if info.shape != expected || info.dtype != Dtype::F32 {
            let problem = format!("{name} is {:?} {:?}, expected F32 {expected:?}", info.dtype, info.shape);
            return Err(Error::new(path, problem, remedy));
        }
        let mut data = vec![0.0f32; expected.iter().product()];
        self.file
            .seek(SeekFrom::Start(self.start + info.data_offsets.0 as u64))
            .and_then(|_| self.file.read_exact(bytemuck::cast_slice_mut(&mut data)))
            .map_err(|error| Error::io(&self.path, &error))?;
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            let problem = format!("value {at} of {name} is {}", data[at]);
            return Err(Error::new(path, problem, "train again from an older checkpoint"));
        }
        Ok(data)
    }
}

/// For each extent in the file, which extent of the program it is.
fn to_file(role: Role) -> Option<[usize; 4]> {
    match role {
        // [KH, KW, I, O] -> [O, I, KH, KW]; for the adjoint [KH, KW, O, I] -> [I, O, KH, KW].
        Role::Conv | Role::ConvTranspose => Some([3, 2, 0, 1]),
        Role::Embedding => Some([0, 3, 1, 2]),
        Role::Bias | Role::Scale => None,
    }
}

fn permuted(extents: &[usize], order: Option<[usize; 4]>) -> Vec<usize> {
    order.map_or(extents.to_vec(), |order| order.iter().map(|&axis| extents[axis]).collect())
}

/// Visits every value as (place in the file, place in the program).
fn visit(parameter: &Parameter, mut each: impl FnMut(usize, usize)) {
    let Some(order) = to_file(parameter.role) else {
        return (0..parameter.shape.len()).for_each(|i| each(i, i));
    };
    let extents = parameter.shape.extents();
    let strides = [extents[1] * extents[2] * extents[3], extents[2] * extents[3], extents[3], 1];
    let [e, s] = [order.map(|axis| extents[axis]), order.map(|axis| strides[axis])];
    let mut place = 0;
    for a in 0..e[0] {
        for b in 0..e[1] {
            for c in 0..e[2] {
                for d in 0..e[3] {
                    each(place, a * s[0] + b * s[1] + c * s[2] + d * s[3]);
                    place += 1;
                }
            }
        }
    }
}

fn in_file_order(parameter: &Parameter, values: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    visit(parameter, |file, own| out[file] = values[own]);
    out
}

fn from_file_order(parameter: &Parameter, data: &[f32], values: &mut [f32]) {
    visit(parameter, |file, own| values[own] = data[file]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn conv_weights_are_stored_as_pytorch_has_them() {
        let mut layout = ParameterLayout::default();
        layout.add("w", Shape::new(&[2, 3, 4, 5]), Role::Conv, false, 1.0);
        let parameter = layout.get("w");
        let values: Vec<f32> = (0..120).map(|i| i as f32).collect();
        let file = in_file_order(parameter, &values);
        // Output channel 4, input channel 3, tap (1, 2).
        let (o, i, y, x) = (4, 3, 1, 2);
        assert_eq!(file[((o * 4 + i) * 2 + y) * 3 + x], values[((y * 3 + x) * 4 + i) * 5 + o]);
        let mut back = vec![0.0; 120];
        from_file_order(parameter, &file, &mut back);
        assert_eq!(back, values);
    }
}
