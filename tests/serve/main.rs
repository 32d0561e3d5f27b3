//! The server as a browser and an attacker meet it: every address that there is, what it refuses, and that it never
//! touches a run.

mod bad;
mod client;
mod command;
mod endpoints;
mod export;
mod files;
mod latents;

use client::{Reply, get, post};
use hexcuda::device::Device;
use hexcuda::serve::{Options, Server};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

/// A network and a grid that take well under a second.
const TINY: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 8\nstem = 4\nlatent_channels = 32\n\
    widths = [8, 8]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 6\nsdf_points = 64\n\
    schedule = 'constant'\n[extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n";

const TETRAHEDRON: &str = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n";

/// A folder with two meshes and, in `runs`, two runs of them that belong together.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.put("tiny.toml", TINY);
        place.put("a.obj", TETRAHEDRON);
        place.put("b.obj", TETRAHEDRON.replace("v 0 0 1", "v 0.3 0.2 1.4"));
        fs::create_dir(place.at("runs")).unwrap();
        place
    }

    /// With a continuous run of a Gaussian latent, `group/continuous`, which has a second-stage prior too, and a
    /// binary one, `group/binary`; copied from one that is made once.
    fn with_runs() -> Self {
        static MADE: OnceLock<Place> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let place = Self::new();
            let train = ["train", "a.obj", "b.obj", "--config", "tiny.toml", "-q", "--out"];
            let continuous = ["runs/group/continuous", "--latent", "gaussian", "--tensorboard"];
            place.hexcuda(&[&train[..], &continuous].concat());
            place.hexcuda(&[&train[..], &["runs/group/binary", "--representation", "binary"]].concat());
            let prior = ["prior", "a.obj", "b.obj", "--run", "runs/group/continuous", "--steps", "5"];
            place.hexcuda(&prior);
            place
        });
        let place = Self { folder: tempfile::tempdir().unwrap() };
        copy(made.folder.path(), place.folder.path());
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(name), bytes).unwrap();
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    fn hexcuda(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        output
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
        command.args(arguments).current_dir(&self.folder).env("RAYON_NUM_THREADS", "2");
        command
    }

    fn serve(&self) -> Served {
        Served::on(&self.at("runs"), Ipv4Addr::LOCALHOST.into())
    }

    /// Every file below a folder with its bytes and its time.
    fn contents(&self, name: &str) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.at(name)]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let time = fs::metadata(&path).unwrap().modified().unwrap();
                if path.is_dir() {
                    found.insert(path.clone(), (Vec::new(), time));
                    folders.push(path);
                } else {
                    found.insert(path.clone(), (fs::read(&path).unwrap(), time));
                }
            }
        }
        found
    }
}

/// With the times of files, in their order, so that what was written last is newest.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&target).unwrap().set_modified(time).unwrap();
        }
    }
}

/// A server that ends with the test.
struct Served {
    server: Option<Server>,
    address: SocketAddr,
    /// What it serves, where no test needs it.
    place: Option<Place>,
}

const CONTINUOUS: &str = "/api/runs/group~continuous";
const BINARY: &str = "/api/runs/group~binary";

impl Served {
    fn on(root: &Path, host: IpAddr) -> Self {
        let (root, device) = (root.to_path_buf(), Device::Cpu);
        let server = Server::start(Options { root, host, port: 0, device, jobs: 2, quiet: true }).unwrap();
        let url = server.url();
        let port = url.trim_start_matches("http://").split([':', '/']).nth(1).unwrap();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse().unwrap());
        Self { server: Some(server), address, place: None }
    }

    /// On runs of its own.
    fn runs() -> Self {
        let place = Place::with_runs();
        let mut served = place.serve();
        served.place = Some(place);
        served
    }

    fn get(&self, path: &str) -> Reply {
        get(self.address, path)
    }

    /// An answer that must be JSON with status 200.
    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let reply = post(self.address, path, body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    /// The request is refused with this status and one line of JSON.
    #[track_caller]
    fn refuses(&self, reply: Reply, status: u16, part: &str) {
        assert_eq!(reply.status, status, "{}", reply.text());
        let problem = reply.json()["error"].as_str().unwrap().to_string();
        assert!(problem.contains(part), "{problem:?} has no {part:?}");
        assert!(!problem.contains('\n') && problem.len() < 600, "{problem:?}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.take().unwrap().stop();
    }
}

/// A word of four bytes.
fn word(bytes: &[u8], index: usize) -> usize {
    u32::from_le_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap()) as usize
}
