//! What the server holds, and how it computes: on threads of their own, a few at a time.

use super::engine::Engines;
use super::events::Feed;
use super::failure::{Answer, Failure};
use super::lru::Lru;
use super::runs::{Run, Runs, is_run};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hexplane::Planes;
use crate::mesh::distance::MeshDistance;
use crate::mesh::{Mesh, Similarity};
use crate::model::hexz::Latent;
use crate::train::MetricsFollower;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::Semaphore;

/// What is kept of each kind.
const LATENTS: usize = 64;
const PLANES: usize = 8;
const MESHES: usize = 6;
const UPLOADS: usize = 8;
const LOGS: usize = 16;
/// Mesh files that are taken in at a time, of 64 MiB at most.
const MOST_UPLOADING: usize = 4;
/// Requests that wait for others to be computed.
const MOST_WAITING: usize = 32;

/// Indices of meshes that were dropped on the page start here, beyond those of any run.
pub const FIRST_UPLOAD: usize = 1 << 20;

/// A latent under a token.
pub struct Held {
    pub run: PathBuf,
    pub latent: Latent,
    /// The mesh that it stands for.
    pub mesh: Option<usize>,
}

/// A mesh that a run was trained on, or that was dropped on the page.
pub struct Given {
    pub name: String,
    /// In the normalised frame.
    pub mesh: Mesh,
    pub transform: Similarity,
    pub planes: Planes,
    /// Its latent by the network of this hash.
    pub encoded: Mutex<Option<(String, Vec<f32>)>>,
    pub distance: OnceLock<Option<MeshDistance>>,
}

/// Planes to show.
pub struct Shown {
    pub planes: Planes,
    /// What they encode to, once an edit has asked; by the network of this hash.
    pub encoded: Mutex<Option<(String, Vec<f32>)>>,
    /// The mesh that they stand for.
    pub mesh: Option<usize>,
}

/// A mesh of a run by its index, and the state of its file.
pub type GivenKey = (PathBuf, usize, Option<super::runs::Stamp>);

/// Everything behind the routes.
pub struct App {
    pub runs: Runs,
    pub device: Device,
    pub engines: Engines,
    pub latents: Mutex<Lru<String, Arc<Held>>>,
    pub planes: Mutex<Lru<String, Arc<Shown>>>,
    pub meshes: Mutex<Lru<GivenKey, Arc<Given>>>,
    /// By run and index.
    pub uploads: Mutex<Lru<(PathBuf, usize), Arc<Given>>>,
    pub logs: Mutex<Lru<PathBuf, Arc<Mutex<MetricsFollower>>>>,
    pub feed: Feed,
    /// Bodies of mesh files that are being taken in.
    pub uploading: Semaphore,
    next_upload: AtomicUsize,
    jobs: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl App {
    /// For the runs in `root`; `jobs` things are computed at a time.
    pub fn new(root: &Path, device: Device, jobs: usize) -> Self {
        Self {
            runs: Runs::new(root),
            engines: Engines::new(device.clone()),
            device,
            latents: Mutex::new(Lru::new(LATENTS)),
            planes: Mutex::new(Lru::new(PLANES)),
            meshes: Mutex::new(Lru::new(MESHES)),
            uploads: Mutex::new(Lru::new(UPLOADS)),
            logs: Mutex::new(Lru::new(LOGS)),
            feed: Feed::default(),
            uploading: Semaphore::new(MOST_UPLOADING),
            next_upload: AtomicUsize::new(FIRST_UPLOAD),
            jobs: Arc::new(Semaphore::new(jobs)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// An index that no mesh has had.
    pub fn upload_index(&self) -> usize {
        self.next_upload.fetch_add(1, Ordering::Relaxed)
    }

    /// Computes when it is its turn. A request whose client has gone away while it waited is not computed at all, so that
    /// of a slider's requests, each of which the page takes back for the next, the latest wins.
    pub async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let waiting = Waiting::new(self.clone())?;
        let permit = self.jobs.clone().acquire_owned().await.map_err(|_| Failure::busy())?;
        drop(waiting);
        // The permit goes with the work, which ends even if nobody waits for it any more.
        self.look(move |app| {
            let _permit = permit;
            work(app)
        })
        .await
    }

    /// Reads files, which takes no turn.
    pub async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let app = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        done.unwrap_or_else(|error| {
            Err(Error::new("serve", error, "this is a bug: report it with what you did").into())
        })
    }

    /// Works on a run. What fails because it was deleted meanwhile says so.
    pub fn on_run<T>(&self, id: &str, work: impl FnOnce(&Run) -> Answer<T>) -> Answer<T> {
        let run = self.runs.find(id)?;
        match work(&run) {
            Err(_) if !is_run(&run.path) => Err(Failure::gone(id)),
            answer => answer,
        }
    }

    /// Keeps a latent under a new token.
    pub fn hold(&self, held: Held) -> Answer<String> {
        let token = random_hex()?;
        super::runs::lock(&self.latents).put(token.clone(), Arc::new(held));
        Ok(token)
    }
}

/// A place in the queue.
struct Waiting(Arc<App>);

impl Waiting {
    fn new(app: Arc<App>) -> Answer<Self> {
        let before = app.waiting.fetch_add(1, Ordering::SeqCst);
        let place = Self(app);
        if before < MOST_WAITING { Ok(place) } else { Err(Failure::busy()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// 32 digits that nobody can guess.
pub fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new("random numbers", error, "check the operating system"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
