//! `prior.safetensors` in a run folder: a fitted flow, and which network's latents it is of.

use super::super::checkpoint::{
    FileTensor, FileValues, Stored, broken, file_tensors, run_folder, write_tensors,
};
use super::{FitReport, FlowSettings};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::hexz::model_hash;
use crate::model::{Autoencoder, Flow, LatentBasis};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Its name.
const PRIOR_FILE: &str = "prior.safetensors";

const FORMAT: &str = "hexcuda-prior-1";
const KEY: &str = "hexcuda.prior";
const MEAN: &str = "latent.mean";
const COMPONENTS: &str = "latent.components";
const DEVIATIONS: &str = "latent.deviations";

/// What a file says beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecondStage {
    format: String,
    /// [`model_hash`] of the network.
    model: String,
    pub settings: FlowSettings,
    pub report: FitReport,
    /// Names of the meshes that it was fitted to.
    pub meshes: Vec<String>,
}

const REMEDY: &str = "fit it again with hexcuda prior";

impl SecondStage {
    /// Of `model`, fitted to `meshes`.
    pub fn new(
        model: &Autoencoder,
        settings: FlowSettings,
        report: FitReport,
        meshes: Vec<String>,
    ) -> Result<Self> {
        Ok(Self { format: FORMAT.to_string(), model: model_hash(model)?, settings, report, meshes })
    }

    pub fn path(run: &Path) -> PathBuf {
        run_folder(run).join(PRIOR_FILE)
    }

    /// Writes the file of a run folder whole or not at all; `extents` are those of a latent.
    pub fn write(&self, run: &Path, flow: &Flow, extents: [usize; 4]) -> Result<()> {
        let path = Self::path(run);
        let Flow { basis, layout, .. } = flow;
        let parameters = flow.parameters.values()?;
        let mut tensors = file_tensors("", layout, &parameters);
        let mut add = |name: &str, shape: Vec<usize>, values: &[f32]| {
            tensors.push(FileTensor {
                name: name.to_string(),
                shape,
                values: FileValues::InOrder(values.to_vec()),
            });
        };
        add(MEAN, extents.to_vec(), &basis.mean);
        add(COMPONENTS, [&[basis.len()], &extents[..]].concat(), &basis.components);
        add(DEVIATIONS, vec![basis.len()], &basis.deviations);
        let facts = serde_json::to_string(self).map_err(|error| broken(&path, error))?;
        write_tensors(&path, tensors, HashMap::from([(KEY.to_string(), facts)]))
    }

    /// The file of a run folder, whose network is `model`.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another network.
    pub fn read(run: &Path, model: &Autoencoder, device: &Device) -> Result<(Self, Flow)> {
        let path = Self::path(run);
        if !path.exists() {
            let problem = "this run has no second-stage prior";
            return Err(Error::usage(path.display(), problem, "fit one with hexcuda prior"));
        }
        let mut file = Stored::open(&path)?;
        let wrong = |problem: String| Err(Error::new(path.display(), problem, REMEDY));
        let facts: Self = match serde_json::from_str(&file.text(KEY)?) {
            Ok(facts) => facts,
            Err(error) => return wrong(format!("not a second-stage prior ({error})")),
        };
        facts.settings.validate()?;
        if facts.format != FORMAT {
            return wrong(format!("its format is {}, expected {FORMAT}", facts.format));
        }
        let expected = model_hash(model)?;
        if facts.model != expected {
            return wrong(format!("it was fitted to model {}, this run holds {expected}", facts.model));
        }
        let (extents, count) = (model.latent_extents(), facts.report.components);
        let basis = LatentBasis {
            mean: file.array(MEAN, &extents)?,
            components: file.array(COMPONENTS, &[&[count], &extents[..]].concat())?,
            deviations: file.array(DEVIATIONS, &[count])?,
        };
        let mut flow = Flow::new(facts.settings.width, basis, device, 0)?;
        file.fill("", &flow.layout, &mut flow.parameters)?;
        Ok((facts, flow))
    }
}
