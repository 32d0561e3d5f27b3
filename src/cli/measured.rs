//! The error of decoded latents against the mesh that they stand for.

use crate::device::Device;
use crate::error::Result;
use crate::hexplane::Planes;
use crate::mesh::metrics::{Metrics, Reference};
use crate::mesh::{Mesh, Similarity};
use crate::model::Autoencoder;
use crate::train::{Decoder, Settings, mesh_of_planes};
use serde::Serialize;

/// The distance of the F-score that is told.
const THRESHOLD: f32 = 0.01;

/// Lengths in the normalised frame of the source. Where a decoded latent has no surface the F-score is 0 and there are no distances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Errors {
    /// At 0.01.
    pub f_score: f64,
    pub hausdorff_95: Option<f64>,
    pub chamfer_l1: Option<f64>,
}

impl Errors {
    fn of(metrics: &Metrics) -> Self {
        let Metrics { hausdorff_95, chamfer_l1, .. } = *metrics;
        Self { f_score: metrics.at(THRESHOLD).map_or(0.0, |score| score.f_score), hausdorff_95, chamfer_l1 }
    }

    /// Of several meshes; a distance that one of them lacks is none.
    pub fn mean(all: &[Self]) -> Self {
        let count = all.len() as f64;
        let of = |value: &dyn Fn(&Self) -> Option<f64>| -> Option<f64> {
            all.iter().map(value).sum::<Option<f64>>().map(|sum| sum / count)
        };
        Self {
            f_score: of(&|e| Some(e.f_score)).unwrap_or_default(),
            hausdorff_95: of(&|e| e.hausdorff_95),
            chamfer_l1: of(&|e| e.chamfer_l1),
        }
    }

    /// F-score, Hausdorff and Chamfer distance.
    pub fn columns(&self) -> String {
        let number = |x: Option<f64>| x.map_or("n/a".to_string(), |x| format!("{x:.5}"));
        format!("{:>8.4}{:>11}{:>11}", self.f_score, number(self.hausdorff_95), number(self.chamfer_l1))
    }
}

/// What stands above [`Errors::columns`].
pub const COLUMNS: &str = "F 0.01 Hausd. 95%  Chamfer L1";

/// Measures latents of one mesh.
pub struct Measure<'a> {
    pub model: &'a Autoencoder,
    pub decoder: &'a mut Decoder,
    pub settings: &'a Settings,
    pub device: &'a Device,
    reference: Reference,
}

impl<'a> Measure<'a> {
    /// Against `mesh`, which is in the normalised frame.
    pub fn new(
        model: &'a Autoencoder,
        decoder: &'a mut Decoder,
        (settings, device): (&'a Settings, &'a Device),
        mesh: &Mesh,
    ) -> Result<Self> {
        let mut metrics = settings.metrics.clone();
        if !metrics.thresholds.contains(&THRESHOLD) {
            metrics.thresholds.push(THRESHOLD);
        }
        let reference = Reference::on(device, mesh, &metrics)?;
        Ok(Self { model, decoder, settings, device, reference })
    }

    pub fn latent(&mut self, values: &[f32]) -> Result<Errors> {
        let planes = self.decoder.decode(self.model, values, Similarity::default())?;
        self.planes(&planes)
    }

    pub fn planes(&self, planes: &Planes) -> Result<Errors> {
        let mesh = mesh_of_planes(self.device, planes, self.settings)?;
        Ok(Errors::of(&self.reference.compare(&mesh)?))
    }
}
