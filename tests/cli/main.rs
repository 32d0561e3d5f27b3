//! The program on bad input: the right exit code, one clear line, nothing left behind, and never a
//! panic, a hang or all of the memory.

mod codec;
mod latents;
mod meshes;
mod planes;
mod runs;
mod sets;
mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Seconds of processor time, far above what any case takes; the process is ended behind it.
const SECONDS: u32 = 60;
/// For what waits without computing.
const LIMIT: Duration = Duration::from_secs(600);
/// KiB of address space: an attempt to allocate what a broken count claims ends the process.
const MEMORY: u32 = 4 << 20;

/// A network, a grid and metrics that take well under a second; at a rate that does not depend on the number of steps.
const TINY: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 8\nstem = 4\nlatent_channels = 32\n\
    widths = [8, 8]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 1\nsdf_points = 64\n\
    schedule = 'constant'\n[extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n";

/// A closed mesh with an inside, as OBJ.
const TETRAHEDRON: &str = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n";

/// What a process did.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A folder to run in.
struct Place {
    folder: TempDir,
}

impl Place {
    /// With `tiny.toml` and `good.obj`.
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.put("tiny.toml", TINY);
        place.put("good.obj", TETRAHEDRON);
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(name), bytes).unwrap();
    }

    /// Every file below the folder with its bytes.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() || !path.is_dir() {
                    let regular = path.metadata().is_ok_and(|metadata| metadata.is_file());
                    found.insert(path.clone(), if regular { fs::read(path).unwrap() } else { Vec::new() });
                } else {
                    found.insert(path.clone(), Vec::new());
                    folders.push(path);
                }
            }
        }
        found
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_to(arguments, Stdio::piped())
    }

    fn run_to(&self, arguments: &[&str], stdout: Stdio) -> Outcome {
        let errors = tempfile::tempfile().unwrap();
        let mut child = limited(arguments)
            .current_dir(&self.folder)
            .env("RAYON_NUM_THREADS", "2")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(errors.try_clone().unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > LIMIT {
                child.kill().unwrap();
                panic!("{arguments:?} hangs");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let stderr = {
            use std::io::{Read, Seek};
            let (mut errors, mut text) = (errors, String::new());
            errors.rewind().unwrap();
            errors.read_to_string(&mut text).unwrap();
            text
        };
        Outcome { code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap(), stderr }
    }

    /// The command ends with `code` and one line that holds `parts`; every file is as it was.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let before = self.contents();
        let outcome = self.run(arguments);
        one_line(arguments, &outcome, code, parts);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        let after = self.contents();
        let names: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
        assert!(names.is_empty(), "{arguments:?} leaves {names:?}");
        assert!(before == after, "{arguments:?} changes a file");
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        outcome
    }
}

#[track_caller]
fn one_line(arguments: &[&str], outcome: &Outcome, code: i32, parts: &[&str]) {
    let line = &outcome.stderr;
    assert_eq!(outcome.code, Some(code), "{arguments:?}: {line}");
    assert!(line.starts_with("hexcuda: ") && line.contains("; "), "{arguments:?}: {line}");
    assert!(line.ends_with('\n') && line.lines().count() == 1 && line.len() < 600, "{arguments:?}: {line}");
    parts.iter().for_each(|part| assert!(line.contains(part), "{arguments:?}: {part:?} in {line}"));
}

/// The program with bounds on its memory and its time where the shell can set one.
fn limited(arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_hexcuda");
    if !cfg!(target_os = "linux") {
        let mut command = Command::new(program);
        command.args(arguments);
        return command;
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {MEMORY}; ulimit -t {SECONDS}; exec \"$0\" \"$@\""), program])
        .args(arguments);
    command
}

/// A place that holds a finished run in `run`, copied from one that is made once.
fn with_run() -> Place {
    static RUN: OnceLock<Place> = OnceLock::new();
    let made = RUN.get_or_init(|| {
        let place = Place::new();
        place.succeeds(&["train", "good.obj", "--config", "tiny.toml", "--out", "run", "-q"]);
        place.succeeds(&["encode", "--run", "run", "good.obj", "-o", "good.hexz"]);
        place
    });
    let place = Place::new();
    copy(made.folder.path(), place.folder.path());
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
