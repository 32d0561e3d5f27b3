//! What a run is given: meshes, and sets of them with their parts.

use super::given::SetInput;
use super::{Item, Settings};
use crate::dataset::{Set, SetMesh, Shares, Split, split_of};
use crate::error::{Error, Result};
use crate::mesh::Mesh;
use std::sync::Arc;

/// What to train on.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    /// (name, mesh in its own frame): all of them are trained on.
    pub meshes: &'a [(String, Mesh)],
    /// Their meshes are trained on, validated on or kept for the test, by their names.
    pub sets: &'a [Arc<Set>],
    /// Sets that are only judged.
    pub held_out_sets: &'a [Arc<Set>],
}

/// The meshes of sets, by name in each.
#[derive(Default)]
pub(super) struct Parts {
    pub train: Vec<Item>,
    pub validation: Vec<Item>,
    pub test: Vec<Item>,
    pub inputs: Vec<SetInput>,
}

impl Given<'_> {
    pub(super) fn parts(&self, settings: &Settings) -> Result<Parts> {
        let shares = Shares { validation: settings.validation.share, test: settings.validation.test_share };
        let mut parts = Parts::default();
        for set in self.sets {
            require(set, settings)?;
            let of = |split: Split| -> Vec<usize> {
                let named = set.entries.iter().enumerate();
                named.filter(|(_, entry)| split_of(&entry.name, shares) == split).map(|(i, _)| i).collect()
            };
            let [train, validation, test] = [Split::Train, Split::Validation, Split::Test].map(of);
            if train.is_empty() {
                let problem = format!("none of its {} meshes is left to train on", set.entries.len());
                let remedy = "set share and test_share in [validation] to 0, or add meshes";
                return Err(Error::new(set.path().display(), problem, remedy));
            }
            parts.inputs.push(SetInput {
                path: set.path().display().to_string(),
                train: train.len(),
                validation: validation.len(),
                test: test.len(),
                sha256: set.fingerprint(train.iter().chain(&validation).copied()),
            });
            for (part, indices) in
                [(&mut parts.train, train), (&mut parts.validation, validation), (&mut parts.test, test)]
            {
                part.extend(
                    indices
                        .into_iter()
                        .map(|index| Item::in_set(SetMesh { set: set.clone(), index }, settings)),
                );
            }
        }
        Ok(parts)
    }

    /// All meshes of the sets that are only judged.
    pub(super) fn held_out(&self, settings: &Settings) -> Result<Vec<Item>> {
        all_of(self.held_out_sets, &settings.without_training())
    }
}

/// Those meshes of sets that a run with such settings is trained on.
///
/// # Errors
/// A set that does not fit the settings, or has no such mesh.
pub fn trained_on(sets: &[Arc<Set>], settings: &Settings) -> Result<Vec<Item>> {
    Ok(Given { sets, ..Given::default() }.parts(settings)?.train)
}

/// All meshes of sets.
///
/// # Errors
/// A set that does not fit the settings.
pub fn all_of(sets: &[Arc<Set>], settings: &Settings) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for set in sets {
        require(set, settings)?;
        let all = 0..set.entries.len();
        items.extend(all.map(|index| Item::in_set(SetMesh { set: set.clone(), index }, settings)));
    }
    Ok(items)
}

/// Whether a set holds what the settings train on.
fn require(set: &Set, settings: &Settings) -> Result<()> {
    let wrong = |problem: String, remedy: &str| Err(Error::new(set.path().display(), problem, remedy));
    let (has, training) = (&set.settings, &settings.training);
    let differs = |what: &str, has: String, wanted: String| {
        let problem = format!("the set has {what} {has}, the settings {wanted}");
        wrong(problem, "choose the --preset or the settings that fit, or build another set")
    };
    if has.size != settings.architecture.planes {
        return differs("planes of", has.size.to_string(), settings.architecture.planes.to_string());
    }
    if has.representation != settings.representation {
        let kinds = (format!("{:?}", has.representation), format!("{:?}", settings.representation));
        return differs("planes that are", kinds.0.to_lowercase(), kinds.1.to_lowercase());
    }
    if has.normals != settings.normals {
        let kinds = (format!("{:?}", has.normals), format!("{:?}", settings.normals));
        return differs("normals that are", kinds.0.to_lowercase(), kinds.1.to_lowercase());
    }
    if has.up != settings.up {
        return differs("meshes whose up is", has.up.to_string(), settings.up.to_string());
    }
    if training.sdf_weight > 0.0 && has.points < 2 {
        let remedy = "build the set with --points, or take --sdf-weight 0";
        return wrong("the set has no points for the SDF loss".to_string(), remedy);
    }
    if settings.augmentation.needs_meshes() && !has.meshes {
        return Err(super::augmentation::without_mesh(&set.path().display().to_string()));
    }
    if training.blur > 0.0 {
        return wrong("planes of a set are not blurred".to_string(), "name the meshes, or set blur to 0");
    }
    if training.augment > 0 {
        let remedy = "take [augmentation] in a configuration for sets, or name the meshes";
        return wrong("--augment makes copies of meshes that are named as files".to_string(), remedy);
    }
    if set.entries.is_empty() {
        return wrong("the set has no meshes".to_string(), "build it from folders with meshes");
    }
    Ok(())
}
