//! The page of a run, made from the files of its folder alone.

use super::log;
use crate::error::{Error, Result};
use crate::hexplane::field::no_surface;
use crate::mesh::{Mesh, io};
use crate::report::{self, CurvePoint, NamedMesh, Report};
use std::path::Path;

/// The files of a run that the page shows, with the names it gives them.
const MESHES: [(&str, &str); 4] = [
    ("input", "input.ply"),
    ("network", "mesh.ply"),
    ("linear code", "linear.ply"),
    ("ceiling", "ceiling.ply"),
];

/// Writes the page of the run in `run` to `path`.
///
/// # Errors
/// When a file of the run is missing or broken; a mesh file that is missing stands for a
/// reconstruction without a surface.
pub fn write(run: &Path, path: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read(run.join(name)).map_err(|error| Error::io(run.join(name), &error));
    let summary: serde_json::Value = serde_json::from_slice(&read("summary.json")?).map_err(|error| {
        Error::new(run.join("summary.json").display(), error, "train again or restore the file")
    })?;
    let mut meshes = Vec::new();
    for (name, file) in MESHES {
        let file = run.join(file);
        meshes.push((name, if file.exists() { io::read(&file)? } else { Mesh::default() }));
    }
    let curve: Vec<CurvePoint> = log::read(&run.join("metrics.csv"))?
        .iter()
        .map(|row| CurvePoint {
            step: row.step,
            seconds: row.seconds,
            loss: row.losses.total,
            reconstruction: row.losses.reconstruction,
            sdf: row.losses.sdf,
            kl: row.losses.kl,
            gradient_norm: row.losses.gradient_norm,
        })
        .collect();
    report::write(
        path,
        &Report {
            title: summary["name"].as_str().unwrap_or("a run"),
            subtitle: "mesh → six planes → latent → six planes → mesh",
            summary: &summary,
            curve: &curve,
            planes_png: &read("planes.png")?,
            meshes: meshes.iter().map(|(name, mesh)| NamedMesh { name, mesh }).collect(),
            notes: notes(&summary),
        },
    )
}

/// A sentence for every reconstruction of the first mesh that is empty.
fn notes(summary: &serde_json::Value) -> Vec<String> {
    let names = ["network", "linear code", "ceiling"].into_iter().zip(["mesh", "linear", "ceiling"]);
    let note = |(name, column): (&str, &str)| {
        let found = &summary["no_surface"][column];
        let (iso, highest) = (found["iso"].as_f64()?, found["highest_occupancy"].as_f64()?);
        Some(format!("{name}: {}", no_surface(iso as f32, highest as f32)))
    };
    names.filter_map(note).collect()
}
