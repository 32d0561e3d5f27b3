//! What a request can ask planes and meshes of, and how it is found or made.

use super::app::{App, FIRST_UPLOAD, Given, Held, Shown};
use super::failure::{Answer, Failure};
use super::runs::{Run, Stamp, lock, mesh_names, stamp};
use crate::hexplane::field::{self, highest_occupancy, no_surface, surface_on};
use crate::hexplane::{Planes, files};
use crate::mesh::distance::MeshDistance;
use crate::mesh::{Mesh, Similarity, io};
use crate::train::{Prepare, mesh_folder, snapshot_path};
use std::sync::{Arc, Mutex, OnceLock};

/// `input:MESH`, `decoded:MESH`, `source:MESH`, `snapshot:STEP` or `latent:TOKEN`.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The planes of a mesh, and the surface that they imply.
    Input(usize),
    /// What the network makes of them.
    Decoded(usize),
    /// The mesh itself.
    Mesh(usize),
    Snapshot(u64),
    Latent(String),
}

/// A latent by the network of a hash.
pub struct Code {
    pub values: Vec<f32>,
    pub transform: Similarity,
    /// The mesh that it stands for.
    pub mesh: Option<usize>,
    pub hash: String,
}

/// A surface at a level, or why there is none.
pub enum Surface {
    Mesh(Arc<Mesh>, Option<usize>),
    Empty(String),
}

impl Source {
    pub fn parse(text: &str) -> Answer<Self> {
        let digits = |text: &str| text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| digits(text));
        let index = |text: &str| number(text).map(|index| index as usize);
        let found = match text.split_once(':') {
            Some(("input", rest)) => index(rest).map(Self::Input),
            Some(("decoded", rest)) => index(rest).map(Self::Decoded),
            Some(("source", rest)) => index(rest).map(Self::Mesh),
            Some(("snapshot", rest)) => number(rest).map(Self::Snapshot),
            Some(("latent", rest)) => is_token(rest).then(|| Self::Latent(rest.to_string())),
            _ => None,
        };
        found.ok_or_else(|| {
            let shown: String = text.escape_debug().take(60).collect();
            let expected = "input:MESH, decoded:MESH, source:MESH, snapshot:STEP or latent:TOKEN";
            Failure::bad(format!("{shown:?} is no source, expected {expected}"))
        })
    }
}

pub fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl App {
    /// A latent that is held.
    pub fn held(&self, token: &str) -> Answer<Arc<Held>> {
        let found = if is_token(token) { lock(&self.latents).get(&token.to_string()) } else { None };
        found.ok_or_else(|| Failure::unknown("there is no such latent, or it was too long ago"))
    }

    /// A mesh by its index.
    pub fn given(&self, run: &Run, index: usize) -> Answer<Arc<Given>> {
        if index >= FIRST_UPLOAD {
            let found = lock(&self.uploads).get(&(run.path.clone(), index));
            let gone = "this mesh is not held any more, or was dropped on another run: drop it again";
            return found.ok_or_else(|| Failure::unknown(gone));
        }
        let names = mesh_names(&run.path);
        let Some(name) = names.get(index) else {
            return Err(Failure::unknown(format!("the run has no mesh {index}, it has {}", names.len())));
        };
        let path = mesh_folder(&run.path, index).map(|folder| folder.join("input.ply"));
        let Some((path, now)) = path.and_then(|path| stamp(&path).map(|now| (path, now))) else {
            let problem = format!("the file of mesh {index} is not there: it is written when the run ends");
            return Err(Failure::unknown(problem));
        };
        let key = (run.path.clone(), index, Some(now));
        if let Some(given) = lock(&self.meshes).get(&key) {
            return Ok(given);
        }
        let given = Arc::new(self.prepare(run, name, &io::read(&path)?)?);
        lock(&self.meshes).put(key, given.clone());
        Ok(given)
    }

    /// A mesh as the network of a run sees it.
    pub fn prepare(&self, run: &Run, name: &str, mesh: &Mesh) -> Answer<Given> {
        let prepare = Prepare { settings: &run.settings, device: &self.device };
        let (mesh, transform, planes) = prepare.planes(mesh)?;
        let (name, encoded, distance) = (name.to_string(), Mutex::new(None), OnceLock::new());
        Ok(Given { name, mesh, transform, planes, encoded, distance })
    }

    /// Planes of a source; those of meshes are what was rasterised, of all else what the network decodes.
    pub fn shown(&self, run: &Run, source: &Source) -> Answer<Arc<Shown>> {
        match source {
            Source::Input(index) | Source::Mesh(index) => {
                let planes = self.given(run, *index)?.planes.clone();
                Ok(shown(planes, Some(*index)))
            }
            Source::Decoded(index) => self.decoded(run, *index),
            Source::Snapshot(step) => {
                let path = snapshot_path(&run.path, *step);
                let Some(now) = stamp(&path) else {
                    return Err(Failure::unknown(format!("the run has no snapshot of step {step}")));
                };
                self.kept(run, source, now, || Ok(shown(files::read(&path)?, Some(0))))
            }
            Source::Latent(token) => {
                let held = self.held(token)?;
                of_run(&held, run)?;
                self.kept(run, source, (None, 0), || {
                    let planes = self.decode(run, &self.latent(run, source)?)?;
                    Ok(shown(planes, held.mesh))
                })
            }
        }
    }

    /// Planes of a latent by the network that it is of.
    pub fn decode(&self, run: &Run, code: &Code) -> Answer<Planes> {
        let engine = self.engines.of(run)?;
        let mut engine = lock(&engine);
        same_network(&code.hash, &engine.hash)?;
        engine.decode(&code.values, code.transform)
    }

    /// What the run wrote, while its network is still the same, else what its network makes now.
    fn decoded(&self, run: &Run, index: usize) -> Answer<Arc<Shown>> {
        let checkpoint = stamp(&run.path.join("checkpoint.safetensors"));
        let folder = if index < FIRST_UPLOAD { mesh_folder(&run.path, index) } else { None };
        let file = folder.map(|folder| folder.join("decoded.safetensors"));
        let written = file.and_then(|file| stamp(&file).map(|now| (file, now)));
        if let Some((file, now)) = written.filter(|(_, now)| checkpoint.is_none_or(|then| then.0 <= now.0)) {
            let source = Source::Decoded(index);
            return self.kept(run, &source, now, || Ok(shown(files::read(&file)?, Some(index))));
        }
        let now = checkpoint.unwrap_or_default();
        self.kept(run, &Source::Decoded(index), now, || {
            let code = self.latent(run, &Source::Input(index))?;
            Ok(shown(self.decode(run, &code)?, Some(index)))
        })
    }

    /// Planes made once, as long as what they are made of is in this state.
    pub fn kept(
        &self,
        run: &Run,
        source: &Source,
        now: Stamp,
        make: impl FnOnce() -> Answer<Arc<Shown>>,
    ) -> Answer<Arc<Shown>> {
        let key = format!("{} {source:?} {now:?}", run.path.display());
        if let Some(shown) = lock(&self.planes).get(&key) {
            return Ok(shown);
        }
        let made = make()?;
        lock(&self.planes).put(key, made.clone());
        Ok(made)
    }

    /// Keeps the planes of a latent that was just decoded.
    pub fn keep(&self, run: &Run, token: &str, made: Arc<Shown>) {
        let (source, now): (_, Stamp) = (Source::Latent(token.to_string()), (None, 0));
        lock(&self.planes).put(format!("{} {source:?} {now:?}", run.path.display()), made);
    }

    /// The latent of a mesh or of a token by the run's network of now.
    pub fn latent(&self, run: &Run, source: &Source) -> Answer<Code> {
        let engine = self.engines.of(run)?;
        match source {
            Source::Input(index) => {
                let given = self.given(run, *index)?;
                let (mut engine, mut encoded) = (lock(&engine), lock(&given.encoded));
                let hash = engine.hash.clone();
                let known = encoded.as_ref().filter(|(of, _)| *of == hash).map(|(_, values)| values.clone());
                let values = match known {
                    Some(values) => values,
                    None => engine.encode(&given.planes)?,
                };
                *encoded = Some((hash.clone(), values.clone()));
                Ok(Code { values, transform: given.transform, mesh: Some(*index), hash })
            }
            Source::Latent(token) => {
                let held = self.held(token)?;
                of_run(&held, run)?;
                let hash = lock(&engine).hash.clone();
                same_network(&held.latent.model, &hash)?;
                let (values, transform) = (held.latent.values.clone(), held.latent.transform);
                Ok(Code { values, transform, mesh: held.mesh, hash })
            }
            _ => Err(Failure::bad("expected input:MESH or latent:TOKEN")),
        }
    }

    /// The surface of a source where the occupancy is `iso`.
    pub fn surface(&self, run: &Run, source: &Source, iso: f32) -> Answer<Surface> {
        if let Source::Mesh(index) = source {
            let mesh = Arc::new(self.given(run, *index)?.mesh.clone());
            return Ok(Surface::Mesh(mesh, Some(*index)));
        }
        let shown = self.shown(run, source)?;
        let (settings, grid) = (field::Settings::default(), run.settings.extraction.grid);
        let mesh = surface_on(&self.device, &shown.planes, &settings, grid, iso)?;
        if mesh.triangles.is_empty() {
            return Ok(Surface::Empty(no_surface(iso, highest_occupancy(&shown.planes, &settings, grid)?)));
        }
        Ok(Surface::Mesh(Arc::new(mesh), shown.mesh))
    }

    /// Distances of vertices to the mesh `index`; none where that has no distances.
    pub fn distances(&self, run: &Run, index: usize, vertices: &[[f32; 3]]) -> Answer<Option<Vec<f32>>> {
        let given = self.given(run, index)?;
        let distance = given.distance.get_or_init(|| MeshDistance::new(&given.mesh).ok());
        Ok(distance.as_ref().map(|distance| distance.distances(vertices)))
    }
}

pub fn shown(planes: Planes, mesh: Option<usize>) -> Arc<Shown> {
    Arc::new(Shown { planes, encoded: Mutex::new(None), mesh })
}

/// A latent is of one run.
fn of_run(held: &Held, run: &Run) -> Answer<()> {
    if held.run == run.path { Ok(()) } else { Err(Failure::unknown("this latent is of another run")) }
}

pub fn same_network(of_latent: &str, now: &str) -> Answer<()> {
    let problem = "the checkpoint of the run was replaced: encode or draw again";
    if of_latent == now { Ok(()) } else { Err(Failure::changed(problem)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_they_say_and_nothing_else() {
        assert_eq!(Source::parse("input:3").unwrap(), Source::Input(3));
        assert_eq!(Source::parse("snapshot:12").unwrap(), Source::Snapshot(12));
        let token = "0123456789abcdef0123456789abcdef";
        assert_eq!(Source::parse(&format!("latent:{token}")).unwrap(), Source::Latent(token.into()));
        for bad in [
            "",
            "input",
            "input:",
            "input:-1",
            "input:+1",
            "snapshot:../1",
            "latent:x",
            "file:1",
            "input:1 ",
            "decoded:99999999999999999999",
            "latent:0123456789ABCDEF0123456789ABCDEF",
            "snapshot:1.safetensors",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad:?}");
        }
    }
}
