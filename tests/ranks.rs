//! Several ranks under mpirun against one process: the same loss curve and weights but for the order of sums, after a
//! kill with another number of ranks too; sets to the byte; and what is wrong said once, with the rank where it is one's own.
//!
//! Tolerances. A gradient is a mean over meshes whose sums ranks add up in another order: it differs by some roundings of f32,
//! 2^-24 each, of the sums' largest terms. Adam divides a gradient by its own size, so that a weight whose gradient is itself of the
//! size of these roundings may go another way: no weight is further off than all steps together move it, and nearly all are far nearer.
//! The loss is a smooth function of all of them. What was measured is given beside each tolerance.

#![cfg(feature = "mpi")]

use safetensors::SafeTensors;
use std::f32::consts::PI;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(300);

/// Noise, warped visits and points: every draw of a step. At a rate that does not depend on the number of steps.
const CONFIG: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 8\nstem = 4\nlatent_channels = 16\n\
    widths = [8, 16]\nencoder_blocks = [0, 1]\ndecoder_blocks = [1, 1]\n[latent]\nkind = 'gaussian'\n[training]\nsteps = 12\n\
    batch = 4\nschedule = 'constant'\nsdf_weight = 0.1\nsdf_points = 64\ncheckpoint_every = 5\nsnapshots = 2\n\
    [augmentation]\nmirror = 0.5\nturn = 5.0\nscale = 0.1\n[optimiser]\nlearning_rate = 1e-3\nbeta1 = 0.9\nbeta2 = 0.999\n\
    [extraction]\ngrid = 16\n[metrics]\nsamples = 300\niou_grid = 8\n[validation]\nshare = 0.0\ntest_share = 0.0\n";
const RATE: f64 = 1e-3;

struct Place(TempDir);

impl Place {
    /// With a configuration and a set.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.at("config.toml"), CONFIG).unwrap();
        place.meshes("meshes", 7);
        good(&place.alone(&[&BUILD[..], &["set", "meshes"]].concat()));
        place
    }

    /// A folder of ellipsoids with swellings.
    fn meshes(&self, folder: &str, count: usize) {
        fs::create_dir(self.at(folder)).unwrap();
        for index in 0..count {
            let width = 0.5 + 0.7 * (index as f32 / count as f32);
            fs::write(self.at(folder).join(format!("{index:03}.obj")), ellipsoid(width)).unwrap();
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn alone(&self, arguments: &[&str]) -> Output {
        self.finish(self.start(Command::new(PROGRAM), arguments))
    }

    fn ranks(&self, ranks: usize, arguments: &[&str]) -> Output {
        let mut command = mpirun();
        command.args(["-n", &ranks.to_string(), PROGRAM]);
        self.finish(self.start(command, arguments))
    }

    fn start(&self, mut command: Command, arguments: &[&str]) -> Child {
        let file = |name: &str| fs::File::create(self.at(name)).unwrap();
        // Small enough that the network of the tests has several.
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("HEXCUDA_BUCKET_KIB", "4")
            .env_remove("RAYON_NUM_THREADS");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap()
    }

    fn finish(&self, mut child: Child) -> Output {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > LIMIT {
                child.kill().unwrap();
                panic!("it hangs: {}", fs::read_to_string(self.at("stderr")).unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| fs::read(self.at(name)).unwrap();
        Output { status, stdout: read("stdout"), stderr: read("stderr") }
    }

    /// The rows of a run: step, loss and all that adds up to it, norm of the gradient.
    fn curve(&self, run: &str) -> Vec<Vec<f64>> {
        let text = fs::read_to_string(self.at(run).join("metrics.csv")).unwrap();
        let numbers =
            |line: &str| -> Vec<f64> { line.split(',').map(|word| word.parse().unwrap()).collect() };
        let without_seconds = |row: Vec<f64>| [&row[..1], &row[2..]].concat();
        text.lines().skip(1).map(numbers).map(without_seconds).collect()
    }

    fn checkpoint(&self, run: &str) -> Vec<u8> {
        fs::read(self.at(run).join("checkpoint.safetensors")).unwrap()
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_hexcuda");
const BUILD: [&str; 7] = ["dataset", "build", "--size", "32", "--points", "256", "-o"];

/// Rings of 16 vertices between two poles, as OBJ.
fn ellipsoid(width: f32) -> String {
    const RINGS: usize = 9;
    const AROUND: usize = 16;
    let mut text = "v 0 1 0\nv 0 -1 0\n".to_string();
    let at = |ring: usize, k: usize| 3 + ring * AROUND + k % AROUND;
    for ring in 0..RINGS {
        let polar = PI * (ring + 1) as f32 / (RINGS + 1) as f32;
        for k in 0..AROUND {
            let turn = 2.0 * PI * k as f32 / AROUND as f32;
            let radius = polar.sin() * (1.0 + 0.2 * (3.0 * turn).cos());
            let [x, y, z] = [width * radius * turn.sin(), polar.cos(), radius * turn.cos()];
            writeln!(text, "v {x} {y} {z}").unwrap();
        }
    }
    for k in 0..AROUND {
        writeln!(text, "f 1 {} {}", at(0, k), at(0, k + 1)).unwrap();
        writeln!(text, "f {} 2 {}", at(RINGS - 1, k), at(RINGS - 1, k + 1)).unwrap();
        for ring in 1..RINGS {
            let [a, b, c, d] = [at(ring - 1, k), at(ring, k), at(ring, k + 1), at(ring - 1, k + 1)];
            writeln!(text, "f {a} {b} {c} {d}").unwrap();
        }
    }
    text
}

fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.arg("--oversubscribe");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.arg("--allow-run-as-root");
    }
    command
}

#[track_caller]
fn good(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The lines of the program itself, among those of mpirun.
fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("hexcuda: ")).map(str::to_string).collect()
}

const TRAIN: [&str; 5] = ["train", "--quiet", "--config", "config.toml", "set"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TRAIN, more].concat()
}

/// The most that two curves differ by, relative to the first, in any column of any step.
#[track_caller]
fn apart(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1e-30)).fold(0.0, f64::max)
}

/// The root mean square and the most that the weights of two checkpoints differ by.
fn weights_apart(a: &[u8], b: &[u8]) -> [f64; 2] {
    let (a, b) = (SafeTensors::deserialize(a).unwrap(), SafeTensors::deserialize(b).unwrap());
    let (mut squares, mut count, mut most) = (0.0, 0.0, 0.0f64);
    for (name, tensor) in a.tensors().into_iter().filter(|(name, _)| !name.starts_with("adam.")) {
        let values = |bytes: &[u8]| -> Vec<f64> {
            bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
        };
        for (a, b) in values(tensor.data()).into_iter().zip(values(b.tensor(&name).unwrap().data())) {
            squares += (a - b) * (a - b);
            count += 1.0;
            most = most.max((a - b).abs());
        }
    }
    [f64::sqrt(squares / count), most]
}

/// As the head of this file says; of curves up to `steps`.
#[track_caller]
fn alike(place: &Place, one: &str, several: &str, steps: usize) {
    let (a, b) = (place.curve(one), place.curve(several));
    assert_eq!(a.len(), steps);
    let first = apart(&a[..1], &b[..1]);
    // Measured: 9e-8; before the first update only sums differ.
    assert!(first < 2e-6, "{several}: the first step is {first:e} off");
    let all = apart(&a, &b);
    // Measured: up to 5e-6 after 12 steps.
    assert!(all < 1e-4, "{several}: {all:e} off");
    let [mean, most] = weights_apart(&place.checkpoint(one), &place.checkpoint(several));
    let moved = RATE * steps as f64;
    println!("{several}: losses {first:e} and {all:e} off, weights {mean:e}, one {most:e}");
    // Measured: 1e-5 of what the steps move a weight by, one of them 6e-4.
    assert!(mean < 2e-4 * moved && most < 0.1 * moved, "{several}: weights {mean:e} off, one {most:e}");
}

#[test]
fn two_and_four_ranks_train_as_one_process_does() {
    let place = Place::new();
    good(&place.alone(&train(&["--out", "one"])));
    for (ranks, run) in [(2, "two"), (4, "four"), (2, "again")] {
        good(&place.ranks(ranks, &train(&["--out", run])));
    }
    ["two", "four"].iter().for_each(|run| alike(&place, "one", run, 12));
    assert!(place.checkpoint("two") == place.checkpoint("again"), "two ranks twice are not the same bits");
    assert!(place.checkpoint("one") != place.checkpoint("two"), "nothing was summed in another order");
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(place.at("four/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["ranks"]["count"], 4);
    assert!(summary["ranks"]["buckets"].as_u64().unwrap() > 3, "{summary}");
    // Meshes that are named as files, where each rank has all of them.
    let named = ["train", "--quiet", "--config", "config.toml", "meshes", "--out"];
    good(&place.alone(&[&named[..], &["files"]].concat()));
    good(&place.ranks(2, &[&named[..], &["files-two"]].concat()));
    alike(&place, "files", "files-two", 12);
}

#[test]
fn a_latent_that_is_trained_for_a_rate_has_the_noise_of_one_process() {
    let place = Place::new();
    let config = CONFIG.replace("kind = 'gaussian'", "kind = 'deterministic'\nrate_weight = 1e-5");
    fs::write(place.at("config.toml"), config).unwrap();
    good(&place.alone(&train(&["--out", "one"])));
    good(&place.ranks(2, &train(&["--out", "two"])));
    alike(&place, "one", "two", 12);
}

/// Codes in use follow from how often each code occurs on all ranks.
#[test]
fn discrete_latents_count_the_codes_of_all_ranks() {
    let place = Place::new();
    let config = CONFIG.replace("kind = 'gaussian'", "kind = 'categorical'\nclasses = 4\ngroups = 8");
    fs::write(place.at("config.toml"), config).unwrap();
    let fsq = CONFIG.replace("kind = 'gaussian'", "kind = 'fsq'");
    fs::write(place.at("fsq.toml"), fsq).unwrap();
    for (config, one, two) in [("config.toml", "one", "two"), ("fsq.toml", "fsq-one", "fsq-two")] {
        let command =
            |out: &'static str| ["train", "--quiet", "--config", config, "set", "--steps", "2", "--out", out];
        good(&place.alone(&command(one)));
        good(&place.ranks(2, &command(two)));
        let (a, b) = (place.curve(one), place.curve(two));
        let perplexity = |curve: &[Vec<f64>]| curve.iter().map(|row| row[6]).collect::<Vec<_>>();
        assert!(perplexity(&a)[0] > 1.5 && apart(&a, &b) < 1e-4, "{a:?}\n{b:?}");
        // Whole numbers, so that only the logarithm rounds; a code next to two classes would show in the second step.
        assert_eq!(perplexity(&a)[0], perplexity(&b)[0]);
    }
}

/// The process of a rank of a job.
fn process_of(job: &Child, rank: usize) -> Option<u32> {
    let job = job.id();
    let children = fs::read_to_string(format!("/proc/{job}/task/{job}/children")).ok()?;
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is = |process: &u32| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    children.split_whitespace().filter_map(|word| word.parse().ok()).find(is)
}

fn signal(process: u32, name: &str) {
    good(&Command::new("kill").args([name, &process.to_string()]).output().unwrap());
}

/// Waits until `done`, for as long as the job goes on.
fn until(place: &Place, job: &mut Child, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        let said = || fs::read_to_string(place.at("stderr")).unwrap();
        assert!(job.try_wait().unwrap().is_none() || done(), "the job has ended: {}", said());
        assert!(started.elapsed() < LIMIT, "what is waited for does not come: {}", said());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The step of the checkpoint of a run.
fn step_of(place: &Place, run: &str) -> usize {
    let path = place.at(run).join("checkpoint.safetensors");
    hexcuda::train::Checkpoint::read(&path).map_or(0, |checkpoint| checkpoint.step as usize)
}

#[test]
fn a_killed_rank_is_named_and_another_number_of_ranks_goes_on() {
    let place = Place::new();
    let mut command = mpirun();
    command.args(["-n", "2", PROGRAM]);
    let mut job = place.start(command, &train(&["--out", "run", "--steps", "1000000"]));
    until(&place, &mut job, || step_of(&place, "run") >= 5);
    signal(process_of(&job, 1).unwrap(), "-9");
    let killed = Instant::now();
    let output = place.finish(job);
    assert!(killed.elapsed() < Duration::from_secs(60), "the others wait for {:?}", killed.elapsed());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("rank 1") && text.contains("signal 9"), "{text}");

    // Sent to one rank, which the others hear of, and which all end with a checkpoint for.
    let done = step_of(&place, "run");
    let mut command = mpirun();
    command.args(["-n", "4", PROGRAM]);
    let mut job = place.start(command, &train(&["--out", "run", "--resume", "--steps", "1000000"]));
    until(&place, &mut job, || step_of(&place, "run") > done);
    signal(process_of(&job, 2).unwrap(), "-TERM");
    let output = place.finish(job);
    assert_eq!(output.status.code(), Some(130));
    let interrupted = lines(&output);
    assert!(interrupted.len() == 1 && interrupted[0].contains("interrupted after step"), "{interrupted:?}");

    let steps = step_of(&place, "run") + 3;
    let steps_text = steps.to_string();
    good(&place.alone(&train(&["--out", "run", "--resume", "--steps", &steps_text])));
    good(&place.alone(&train(&["--out", "whole", "--steps", &steps_text])));
    alike(&place, "whole", "run", steps);
}

/// The way of a card's gradients by the host, on the software driver. Both runs are stopped when they have some steps: their results
/// would take most of the time.
#[test]
fn cards_train_over_ranks_as_one_does() {
    let place = Place::new();
    let config = CONFIG.replace("planes = 32", "planes = 16").replace("sdf_points = 64", "sdf_points = 16");
    let config = config.replace("turn = 5.0\nscale = 0.1\n", "").replace("every = 5", "every = 2");
    fs::write(place.at("config.toml"), config).unwrap();
    place.meshes("few", 4);
    let command = |out: &'static str| {
        let named = ["train", "--quiet", "--config", "config.toml", "few", "--device", "emulated"];
        [&named[..], &["--steps", "1000000", "--out", out]].concat()
    };
    let rows = |mut job: Child, run: &str, process: &dyn Fn(&Child) -> u32| {
        until(&place, &mut job, || step_of(&place, run) >= 2);
        signal(process(&job), "-TERM");
        assert_eq!(place.finish(job).status.code(), Some(130));
        place.curve(run)[..2].to_vec()
    };
    let one = rows(place.start(Command::new(PROGRAM), &command("one")), "one", &Child::id);
    let mut two = mpirun();
    two.args(["-n", "2", PROGRAM]);
    let two = rows(place.start(two, &command("two")), "two", &|job| process_of(job, 1).unwrap());
    let off = apart(&one, &two);
    assert!(off < 1e-4, "{off:e} off: {one:?} {two:?}");
}

#[test]
fn a_set_of_several_ranks_is_that_of_one_process_to_the_byte() {
    let place = Place::new();
    fs::write(place.at("meshes/broken.obj"), "v 0 0 nothing\n").unwrap();
    good(&place.alone(&[&BUILD[..], &["one", "meshes"]].concat()));
    let output = place.ranks(3, &[&BUILD[..], &["three", "meshes"]].concat());
    good(&output);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("7 added, 0 changed, 0 unchanged, 1 skipped") && stdout.lines().count() == 1,
        "{stdout}"
    );
    same_files(&place, "one", "three");

    // Killed on its way, and gone on with by another number of ranks.
    place.meshes("many", 300);
    let build = |set: &'static str| [&BUILD[..], &[set, "many"]].concat();
    good(&place.alone(&build("whole")));
    let lines = |set: &str| {
        fs::read_to_string(place.at(set).join("journal.jsonl")).map_or(0, |text| text.lines().count())
    };
    let mut command = mpirun();
    command.args(["-n", "2", PROGRAM]);
    let mut job = place.start(command, &build("parts"));
    until(&place, &mut job, || lines("parts") > 0);
    signal(process_of(&job, 1).unwrap(), "-9");
    let output = place.finish(job);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("rank 1"), "{text}");
    assert!(lines("parts") < 300, "it was killed too late to say anything");
    good(&place.ranks(4, &build("parts")));
    same_files(&place, "whole", "parts");
}

#[track_caller]
fn same_files(place: &Place, a: &str, b: &str) {
    for name in ["manifest.json", "journal.jsonl", "shards/00000.bin"] {
        let read = |set: &str| fs::read(place.at(set).join(name)).unwrap();
        assert!(!read(a).is_empty() && read(a) == read(b), "{name} of {b} differs");
    }
}

#[test]
fn what_is_wrong_is_said_once() {
    let place = Place::new();
    let refused = |arguments: &[&str], ranks: usize, code: i32, parts: &[&str]| {
        let output = place.ranks(ranks, arguments);
        let lines = lines(&output);
        assert_eq!((output.status.code(), lines.len()), (Some(code), 1), "{arguments:?}: {lines:?}");
        parts.iter().for_each(|part| assert!(lines[0].contains(part), "{part:?} in {}", lines[0]));
    };
    refused(
        &train(&["--out", "a"]),
        3,
        2,
        &["a step of 4 mesh(es) cannot be shared evenly by 3 ranks", "--batch"],
    );
    refused(&train(&["--out", "a", "--likelihood", "sigma"]), 2, 2, &["likelihood sigma", "whole batch"]);
    refused(&train(&["--out", "a", "--kl-cap", "1"]), 2, 2, &["kl_cap"]);
    refused(&train(&["--out", "a", "--free-bits", "1"]), 2, 2, &["free_bits"]);
    refused(&["train", "--out", "a", "none.obj"], 2, 1, &["hexcuda: none.obj: "]);
    refused(&["compare", "a.obj", "b.obj"], 2, 2, &["only train and dataset use several"]);
    refused(&["dataset", "info", "set"], 2, 2, &["only build and synth use several"]);
    // A loss that leaves the finite numbers does so everywhere.
    let diverging = train(&["--out", "b", "--learning-rate", "1e30"]);
    refused(&diverging, 2, 1, &["hexcuda: step ", "not finite"]);
    assert!(!place.at("a").exists());
}

/// What one rank alone has is said with its number.
#[test]
fn the_rank_that_fails_is_named() {
    let place = Place::new();
    let both = |first: &[&str], second: &[&str]| {
        let mut command = mpirun();
        command.args(["-n", "1", PROGRAM]).args(first).args([":", "-n", "1"]).args(second);
        let output = place.finish(place.start(command, &[]));
        assert!(!output.status.success());
        lines(&output)
    };
    let run = train(&["--out", "a"]);
    let other = [&[PROGRAM][..], &train(&["--out", "a", "--seed", "3"])].concat();
    let found = both(&run, &other);
    assert!(
        found.len() == 1 && found[0].contains("rank 1: its settings or inputs are not those of rank 0"),
        "{found:?}"
    );
    let missing = [&[PROGRAM][..], &["train", "--quiet", "--out", "a", "none.obj"]].concat();
    let found = both(&run, &missing);
    assert!(found.len() == 1 && found[0].starts_with("hexcuda: rank 1: none.obj: "), "{found:?}");

    // In the middle of training: a mesh that the linear code was not fitted to, and which one rank meets first.
    place.meshes("folder", 97);
    good(&place.alone(&[&BUILD[..], &["many", "folder"]].concat()));
    let set = hexcuda::dataset::Set::open(&place.at("many")).unwrap();
    let fitted: Vec<usize> = (0..64).map(|k| k * 97 / 64).collect();
    let index = (40..97).find(|index| !fitted.contains(index)).unwrap();
    let at = set.entries[index].place.as_ref().unwrap().offset;
    let path = place.at("many/shards/00000.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize..][..64].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let output = place
        .ranks(2, &["train", "--quiet", "--config", "config.toml", "many", "--out", "c", "--steps", "200"]);
    let (found, text) = (lines(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(!output.status.success() && found.len() == 1 && found[0].starts_with("hexcuda: rank "), "{text}");
    assert!(found[0].contains("many"), "{found:?}");
    assert!(place.at("c/checkpoint.safetensors").exists());
}

/// Where NCCL is missing, as on most machines that run this.
#[cfg(feature = "nccl")]
#[test]
fn a_missing_nccl_is_one_line() {
    if let Err(error) = hexcuda::cuda::nccl::require() {
        let line = error.to_string();
        assert!(line.starts_with("NCCL: its library ") && line.contains("libnccl.so.2"), "{line}");
        assert_eq!(hexcuda::cuda::nccl::new_job().unwrap_err().to_string(), line);
    }
}
