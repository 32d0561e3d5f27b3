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
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

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
        let blocks = [("", &model.parameters), (FIRST, &adam.first), (SECOND, &adam.second)];
        let mut tensors = Vec::new();
        for (prefix, values) in blocks {
            tensors.extend(file_tensors(prefix, &model.layout, values)?);
        }
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
        write_tensors(path, &tensors, facts)
    }

    /// Puts the state of the file at `path` into `trainer`, whose architecture must be the file's.
    pub fn restore(path: &Path, trainer: &mut Trainer) -> Result<Self> {
        let bytes = read(path)?;
        let facts = facts(path, &bytes)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| broken(path, error))?;
        let layout = &trainer.model.layout;
        fill(path, &tensors, FIRST, layout, &mut trainer.adam.first)?;
        fill(path, &tensors, SECOND, layout, &mut trainer.adam.second)?;
        fill(path, &tensors, "", layout, &mut trainer.model.parameters)?;
        trainer.adam.restore(facts.updates, facts.loss_scale)?;
        trainer.step = facts.step;
        Ok(facts)
    }

    /// The facts alone.
    pub fn read(path: &Path) -> Result<Self> {
        facts(path, &read(path)?)
    }
}

/// The network of a run folder with its settings, for encoding and decoding.
pub fn load_model(run: &Path) -> Result<(Autoencoder, Settings)> {
    let path = run.join("checkpoint.safetensors");
    let bytes = read(&path)?;
    let facts = facts(&path, &bytes)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| broken(&path, error))?;
    let mut model = Autoencoder::new(facts.settings.trained_architecture(), facts.settings.seed, None)?;
    fill(&path, &tensors, "", &model.layout, &mut model.parameters)?;
    Ok((model, facts.settings))
}

/// Name, shape and values of a tensor in a file.
pub(super) type FileTensor = (String, Vec<usize>, Vec<f32>);

/// A block of values in the layout of the parameters, a tensor each, as files have them; `prefix` before each name.
pub(super) fn file_tensors(
    prefix: &str,
    layout: &ParameterLayout,
    block: &Buffer,
) -> Result<Vec<FileTensor>> {
    let values = block.values()?;
    let tensor = |parameter: &Parameter| {
        let shape = permuted(parameter.shape.extents(), to_file(parameter.role));
        let values = in_file_order(parameter, &values[parameter.range.clone()]);
        (format!("{prefix}{}", parameter.name), shape, values)
    };
    Ok(layout.iter().map(tensor).collect())
}

/// Writes a file of F32 tensors, whole or not at all.
pub(super) fn write_tensors(
    path: &Path,
    tensors: &[FileTensor],
    metadata: HashMap<String, String>,
) -> Result<()> {
    let mut views = Vec::new();
    for (name, shape, values) in tensors {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        views.push((name.as_str(), view.map_err(|error| broken(path, error))?));
    }
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| broken(path, error))?;
    write_atomic(path, |file| file.write_all(&bytes))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io(path, &error))
}

fn broken(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(path.display(), format!("not a whole checkpoint ({error})"), "train again or use another run")
}

fn facts(path: &Path, bytes: &[u8]) -> Result<Checkpoint> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(path, error))?;
    let strings = header.metadata().clone().unwrap_or_default();
    let text = strings.get(KEY).ok_or_else(|| broken(path, format!("its metadata has no {KEY}")))?;
    let facts: Facts = serde_json::from_str(text).map_err(|error| broken(path, error))?;
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
fn fill(
    path: &Path,
    tensors: &SafeTensors,
    prefix: &str,
    layout: &ParameterLayout,
    values: &mut Buffer,
) -> Result<()> {
    for parameter in layout.iter() {
        let name = format!("{prefix}{}", parameter.name);
        let remedy = "use the settings and the program version that made the checkpoint";
        let tensor = tensors
            .tensor(&name)
            .map_err(|_| Error::new(path.display(), format!("the network's {name} is not in it"), remedy))?;
        let expected = permuted(parameter.shape.extents(), to_file(parameter.role));
        if tensor.shape() != expected || tensor.dtype() != Dtype::F32 {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            let problem = format!("{name} is {found}, expected F32 {expected:?}");
            return Err(Error::new(path.display(), problem, remedy));
        }
        let data: Vec<f32> =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            let problem = format!("value {at} of {name} is {}", data[at]);
            return Err(Error::new(path.display(), problem, "train again from an older checkpoint"));
        }
        let mut ours = vec![0.0; parameter.range.len()];
        from_file_order(parameter, &data, &mut ours);
        values.load(parameter.range.start, &ours)?;
    }
    Ok(())
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
