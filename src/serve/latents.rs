//! New latents: between two, drawn from a prior, of a mesh that was dropped; and their files.

use super::app::{App, Held};
use super::failure::{Answer, Failure};
use super::runs::{Run, lock};
use super::source::{Source, Surface};
use crate::mesh::io::{self, Format};
use crate::mesh::normalise::denormalise;
use crate::model::hexz::Latent;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Most triangles of a mesh that is dropped: the time that is taken for one request stays bounded.
const MOST_TRIANGLES: usize = 4_000_000;
/// Longest name that is kept of a file.
const LONGEST_NAME: usize = 80;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpolate {
    a: String,
    b: String,
    t: f32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub enum PriorName {
    #[serde(rename = "own")]
    Own,
    #[serde(rename = "second-stage")]
    SecondStage,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    prior: PriorName,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    index: u64,
}

impl App {
    /// The latent (1 - t) a + t b, in the frame of a.
    pub fn interpolate(&self, run: &Run, request: &Interpolate) -> Answer<Value> {
        let t = request.t;
        if !(0.0..=1.0).contains(&t) {
            return Err(Failure::bad(format!("t is {t}, expected 0 to 1")));
        }
        let (a, b) = (Source::parse(&request.a)?, Source::parse(&request.b)?);
        let [from, to] = [self.latent(run, &a)?, self.latent(run, &b)?];
        if from.hash != to.hash {
            return Err(Failure::changed("the checkpoint of the run was replaced meanwhile: try again"));
        }
        let values = from.values.iter().zip(&to.values).map(|(a, b)| (1.0 - t) * a + t * b).collect();
        let name = format!("{}-to-{}", self.name(run, &a)?, self.name(run, &b)?);
        let transform = from.transform;
        self.new_latent(run, Latent { transform, model: from.hash, ..latent(run, &name, values) }, None)
    }

    pub fn sample(&self, run: &Run, request: Sample) -> Answer<Value> {
        let engine = self.engines.of(run)?;
        let (values, model) = {
            let mut engine = lock(&engine);
            let second_stage = matches!(request.prior, PriorName::SecondStage);
            (engine.draw(&run.path, second_stage, request.seed, request.index)?, engine.hash.clone())
        };
        let name = format!("sample-{}-{:03}", request.seed, request.index);
        self.new_latent(run, Latent { model, ..latent(run, &name, values) }, None)
    }

    /// Takes a mesh file; what is wrong with it is the file's fault.
    pub fn encode(&self, run: &Run, name: &str, bytes: &[u8]) -> Answer<Value> {
        let path = Path::new(name);
        let format = Format::from_path(path).map_err(Failure::unusable)?;
        let stem = path.file_stem().map_or_else(|| "mesh".into(), |stem| stem.to_string_lossy());
        let stem: String = stem.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
        let mesh = io::read_bytes(bytes, format, &stem).map_err(Failure::unusable)?;
        if mesh.triangles.len() > MOST_TRIANGLES {
            let problem =
                format!("{} triangles, {MOST_TRIANGLES} are the most that is taken", mesh.triangles.len());
            return Err(Failure::unusable(problem));
        }
        let unusable = |failure: Failure| Failure::unusable(failure.problem);
        let given = self.prepare(run, &stem, &mesh).map_err(unusable)?;
        if given.planes.is_background() {
            return Err(Failure::unusable("no view of the mesh shows a surface"));
        }
        let (index, transform) = (self.upload_index(), given.transform);
        lock(&self.uploads).put((run.path.clone(), index), Arc::new(given));
        let code = self.latent(run, &Source::Input(index))?;
        let kept = Latent { transform, model: code.hash, ..latent(run, &stem, code.values) };
        let mut reply = self.new_latent(run, kept, Some(index))?;
        reply["name"] = json!(stem);
        reply["mesh"] = json!(index);
        Ok(reply)
    }

    fn new_latent(&self, run: &Run, latent: Latent, mesh: Option<usize>) -> Answer<Value> {
        let token = self.hold(Held { run: run.path.clone(), latent, mesh })?;
        Ok(json!({ "latent": token }))
    }

    /// The file `TOKEN.ENDING` with the name that it is to be saved under.
    pub fn download(&self, file: &str) -> Answer<(Vec<u8>, String)> {
        let (token, ending) = file.split_once('.').unwrap_or((file, ""));
        let held = self.held(token)?;
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let name: String = held.latent.name.chars().map(plain).take(LONGEST_NAME).collect();
        let name = format!("{}.{ending}", if name.is_empty() { "mesh" } else { &name });
        if ending == "hexz" {
            return Ok((held.latent.to_bytes()?, name));
        }
        if !["ply", "glb", "obj", "stl"].contains(&ending) {
            return Err(Failure::unknown("a latent is kept as .hexz, .ply, .glb, .obj or .stl"));
        }
        let format = Format::from_path(Path::new(&name))?;
        let id = self.runs.all().into_iter().find(|run| run.path == held.run).map(|run| run.id);
        let gone = || Failure::gone(&held.run.file_name().unwrap_or_default().to_string_lossy());
        let id = id.ok_or_else(gone)?;
        self.on_run(&id, |run| {
            let iso = run.settings.extraction.iso;
            match self.surface(run, &Source::Latent(token.to_string()), iso)? {
                Surface::Empty(why) => Err(Failure::unusable(why)),
                Surface::Mesh(mesh, _) => {
                    let own = denormalise(&mesh, &held.latent.transform);
                    Ok((io::to_bytes(&own, format, &name)?, name.clone()))
                }
            }
        })
    }
}

/// In the cube, of no model yet.
fn latent(run: &Run, name: &str, values: Vec<f32>) -> Latent {
    let architecture = &run.settings.architecture;
    let sites = architecture.latent_size();
    Latent {
        shape: [6, sites, sites, architecture.latent_channels],
        transform: Default::default(),
        model: String::new(),
        name: name.to_string(),
        values,
    }
}
