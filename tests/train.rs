//! Training as a whole: a run that was stopped goes on to the same bits, bits do not depend on the
//! number of threads but on the seed, and a known small run still gives its known result.

use hexcuda::device::Device;
use hexcuda::error::Kind;
use hexcuda::hexplane::files;
use hexcuda::mesh::Mesh;
use hexcuda::model::{Bottleneck, LatentKind, PriorKind};
use hexcuda::nn::Schedule;
use hexcuda::train::{Checkpoint, Options, Settings, train};
use safetensors::SafeTensors;
use std::f32::consts::PI;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const STEPS: u64 = 6;
/// Everything that the steps depend on, so that other presets do not change the known result.
const CONFIG: &str = "preset = 'quick'\nnormals = 'interpolated'\n[architecture]\nplanes = 32\npatch = 8\nstem = 4\n\
    latent_channels = 32\nwidths = [8, 16]\nencoder_blocks = [0, 1]\ndecoder_blocks = [1, 1]\nlinear_path = true\n\
    embedding = true\nexchange = true\n[training]\nsteps = 6\nbatch = 2\ninitialisation = 'principal'\n\
    schedule = 'cosine'\ndepth_weight = 16.0\nsdf_weight = 0.1\nsdf_points = 64\n[optimiser]\n\
    learning_rate = 1e-3\nbeta1 = 0.9\nbeta2 = 0.999\nepsilon = 1e-8\nclip_norm = 1.0\n[extraction]\ngrid = 16\n\
    [metrics]\nsamples = 500\niou_grid = 8\n";

fn settings(seed: u64) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, CONFIG).unwrap();
    Settings { seed, ..Settings::load(None, Some(&path)).unwrap() }
}

/// More meshes than a batch holds, so that the order of an epoch matters: ellipsoids with a swelling.
fn meshes() -> Vec<(String, Mesh)> {
    (0..3).map(|index| (format!("ellipsoid {index}"), ellipsoid(0.5 + 0.2 * index as f32))).collect()
}

/// Rings of 16 vertices between two poles.
fn ellipsoid(width: f32) -> Mesh {
    const RINGS: u32 = 9;
    const AROUND: u32 = 16;
    let mut positions = vec![[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]];
    let mut triangles = Vec::new();
    for ring in 0..RINGS {
        let polar = PI * (ring + 1) as f32 / (RINGS + 1) as f32;
        for k in 0..AROUND {
            let turn = 2.0 * PI * k as f32 / AROUND as f32;
            let radius = polar.sin() * (1.0 + 0.2 * (3.0 * turn).cos());
            positions.push([width * radius * turn.sin(), polar.cos(), radius * turn.cos()]);
            let at = |ring: u32, k: u32| 2 + ring * AROUND + k % AROUND;
            if ring == 0 {
                triangles.push([0, at(0, k), at(0, k + 1)]);
            } else {
                triangles.push([at(ring - 1, k), at(ring, k), at(ring, k + 1)]);
                triangles.push([at(ring - 1, k), at(ring, k + 1), at(ring - 1, k + 1)]);
            }
            if ring + 1 == RINGS {
                triangles.push([at(ring, k), 1, at(ring, k + 1)]);
            }
        }
    }
    Mesh { positions, normals: None, triangles }
}

/// Trains into `out`; with `stop` for one step only.
fn run(out: &Path, settings: &Settings, resume: bool, stop: bool) {
    run_on(Device::Cpu, out, settings, resume, stop);
}

fn run_on(device: Device, out: &Path, settings: &Settings, resume: bool, stop: bool) {
    let options = Options {
        held_out: Vec::new(),
        out: out.to_path_buf(),
        resume,
        time: None,
        quiet: true,
        tensorboard: false,
        device,
        interrupt: &AtomicBool::new(stop),
    };
    match train(settings, &meshes(), &options) {
        Ok(()) => assert!(!stop),
        Err(error) => assert!(stop && error.kind() == Kind::Interrupted, "{error}"),
    }
}

/// The checkpoint of a whole run with its decoded planes, on `threads` threads.
fn result(seed: u64, threads: usize) -> [Vec<u8>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| run(folder.path(), &settings(seed), false, false));
    files_of(folder.path())
}

#[test]
fn a_network_that_sees_depth_behind_silhouettes_learns_better_and_shows_background() {
    let of = |fill: bool| {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(0);
        settings.architecture.fill_background = fill;
        settings.training.sdf_weight = 0.0;
        run(folder.path(), &settings, false, false);
        let loss: f64 = losses(folder.path()).pop().unwrap()[1].parse().unwrap();
        (loss, files::read(&folder.path().join("decoded.safetensors")).unwrap())
    };
    let ((far, _), (filled, planes)) = (of(false), of(true));
    // The jump at the silhouettes, half the cube, is most of what a squared error sees of a smooth body.
    assert!(filled < 0.5 * far, "{filled} and {far}");
    let background = |pixel: &[f32]| pixel[1..].iter().map(|n| n * n).sum::<f32>() < 0.25;
    let (behind, before): (Vec<_>, Vec<_>) =
        planes.values.chunks_exact(4).partition(|pixel| background(pixel));
    assert!(!before.is_empty() && !behind.is_empty());
    assert!(behind.iter().all(|pixel| pixel == &[1.0, 0.0, 0.0, 0.0]));
}

#[test]
fn products_in_bf16_give_the_same_bits_on_any_number_of_threads_and_train_as_well() {
    let on = |device: &Device, threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run_on(device.clone(), folder.path(), &settings(0), false, false));
        let last = losses(folder.path()).pop().unwrap();
        (files_of(folder.path()), last[1].parse::<f64>().unwrap())
    };
    let (wide, loss) = on(&Device::Cpu, 2);
    let (narrow, narrow_loss) = on(&Device::CpuBf16, 1);
    assert!(on(&Device::CpuBf16, 3).0 == narrow);
    assert!(wide[0] != narrow[0], "products are not in bf16");
    // Factors off by up to 1/256 each, in a loss that is a square.
    assert!((narrow_loss / loss - 1.0).abs() < 4.0 / 256.0, "{narrow_loss} beside {loss}");
}

fn files_of(run: &Path) -> [Vec<u8>; 2] {
    ["checkpoint.safetensors", "decoded.safetensors"].map(|name| fs::read(run.join(name)).unwrap())
}

fn assert_same_tensors(a: &[u8], b: &[u8]) {
    let (first, second) = (SafeTensors::deserialize(a).unwrap(), SafeTensors::deserialize(b).unwrap());
    assert_eq!(first.len(), second.len());
    for (name, tensor) in first.tensors() {
        assert!(tensor.data() == second.tensor(&name).unwrap().data(), "{name} differs");
    }
    assert!(a == b, "the headers differ");
}

/// The rows without their seconds.
fn losses(run: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    let words = |line: &str| line.split(',').map(str::to_string).collect::<Vec<_>>();
    text.lines()
        .map(words)
        .map(|mut words| [words.drain(..1).collect(), words.split_off(1)].concat())
        .collect()
}

/// Stops `settings` after each of three steps, and compares with a run that never stopped; its losses.
fn stopped_and_whole(settings: &Settings) -> Vec<Vec<String>> {
    let whole = tempfile::tempdir().unwrap();
    run(whole.path(), settings, false, false);
    let parts = tempfile::tempdir().unwrap();
    for step in 0..3 {
        run(parts.path(), settings, step > 0, true);
    }
    assert!(!parts.path().join("summary.json").exists(), "not finished yet");
    run(parts.path(), settings, true, false);
    let ([whole_state, whole_planes], [state, planes]) = (files_of(whole.path()), files_of(parts.path()));
    assert_same_tensors(&whole_state, &state);
    assert_same_tensors(&whole_planes, &planes);
    assert_eq!(losses(whole.path()), losses(parts.path()));
    losses(whole.path())
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let rows = stopped_and_whole(&settings(0));
    assert_eq!(rows.len() as u64, 1 + STEPS);
}

#[test]
fn so_does_one_at_a_plateau_which_falls_at_its_end() {
    let mut settings = settings(0);
    settings.training.schedule = Schedule::Plateau;
    let rows = stopped_and_whole(&settings);
    let rate = |row: &Vec<String>| row.last().unwrap().parse::<f64>().unwrap();
    let rates: Vec<f64> = rows[1..].iter().map(rate).collect();
    let full = settings.optimiser.learning_rate;
    assert!(rates[..5].iter().all(|rate| (rate / full - 1.0).abs() < 1e-6), "{rates:?}");
    // One of the last 1.8 steps is left.
    assert!((rates[5] / full - (0.02 + 0.98 / 1.8)).abs() < 1e-6, "{rates:?}");
}

/// Noise follows from seed and step alone, and the weight of the divergence from the step.
#[test]
fn so_does_one_whose_latent_draws() {
    let mut settings = settings(0);
    settings.latent =
        Bottleneck { kind: LatentKind::Gaussian, beta: 1e-3, kl_warmup: 4, ..Bottleneck::default() };
    let rows = stopped_and_whole(&settings);
    let column = |name: &str| rows[0].iter().position(|found| found == name).unwrap();
    let of =
        |name: &str| -> Vec<f64> { rows[1..].iter().map(|row| row[column(name)].parse().unwrap()).collect() };
    assert_eq!(of("kl_weight"), [0.0, 2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3]);
    assert!(of("kl").iter().all(|&kl| kl > 0.0), "{:?}", of("kl"));
}

#[test]
fn so_does_one_that_is_trained_for_a_rate() {
    let mut settings = settings(0);
    settings.latent = Bottleneck { rate_weight: 1e-5, ..Bottleneck::default() };
    let rows = stopped_and_whole(&settings);
    let column = |name: &str| rows[0].iter().position(|found| found == name).unwrap();
    let of =
        |name: &str| -> Vec<f64> { rows[1..].iter().map(|row| row[column(name)].parse().unwrap()).collect() };
    assert_eq!(of("rate_weight"), [1e-5; STEPS as usize]);
    assert!(of("rate").iter().all(|&bits| bits > 0.0) && of("kl").iter().all(|&kl| kl == 0.0), "{rows:?}");
}

#[test]
fn so_do_those_whose_prior_is_learned() {
    for prior in [PriorKind::Mixture, PriorKind::Vamp] {
        let mut settings = settings(0);
        let latent = Bottleneck { kind: LatentKind::Gaussian, ..Bottleneck::default() };
        settings.latent = Bottleneck { prior, components: 2, beta: 1e-3, ..latent };
        let rows = stopped_and_whole(&settings);
        let kl: Vec<f64> = rows[1..].iter().map(|row| row[4].parse().unwrap()).collect();
        assert!(rows[0][4] == "kl" && kl.iter().all(|&kl| kl > 0.0), "{kl:?}");
    }
}

#[test]
fn so_do_those_with_codes() {
    for kind in [LatentKind::Categorical, LatentKind::Fsq] {
        let mut settings = settings(0);
        settings.latent = Bottleneck { kind, ..Bottleneck::default() };
        stopped_and_whole(&settings);
    }
}

/// An update of 1e9 a weight leaves nothing finite: the run ends with the step and the term that went first, and the
/// weights of the step before it.
#[test]
fn a_loss_that_is_not_finite_names_its_term_and_keeps_the_weights_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(0);
    settings.latent = Bottleneck { kind: LatentKind::Gaussian, ..Bottleneck::default() };
    settings.optimiser.learning_rate = 1e25;
    let options = Options {
        held_out: Vec::new(),
        out: folder.path().to_path_buf(),
        resume: false,
        time: None,
        quiet: true,
        tensorboard: false,
        device: Device::Cpu,
        interrupt: &AtomicBool::new(false),
    };
    let error = train(&settings, &meshes(), &options).unwrap_err().to_string();
    assert!(error.starts_with("step 2: the loss is") && error.contains("not finite is first its"), "{error}");
    let kept = Checkpoint::read(&folder.path().join("checkpoint.safetensors")).unwrap();
    assert_eq!(kept.step, 1);
}

#[test]
fn bits_depend_on_the_seed_and_not_on_the_threads() {
    let [state, planes] = result(0, 1);
    for threads in [2, 3] {
        let [other_state, other_planes] = result(0, threads);
        assert_same_tensors(&state, &other_state);
        assert_same_tensors(&planes, &other_planes);
    }
    let [other_state, other_planes] = result(1, 2);
    let (a, b) = (SafeTensors::deserialize(&state).unwrap(), SafeTensors::deserialize(&other_state).unwrap());
    let name = "encoder.stem.weight";
    assert!(a.tensor(name).unwrap().data() != b.tensor(name).unwrap().data());
    assert!(planes != other_planes);
}

/// Every fourth pixel of the middle rows of decoded planes, and the losses, as they were when this
/// was written. Processors with other vector units round otherwise: some 1e-7 of a value a step,
/// which a few steps amplify to some 1e-5. The tolerance leaves that room and is far below what any
/// change of the method does. It is a bound and not a rounding, which would flip at its borders.
#[test]
fn a_small_run_gives_its_known_result() {
    const TOLERANCE: f64 = 1e-3;
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &settings(0), false, false);
    let planes = files::read(&folder.path().join("decoded.safetensors")).unwrap();
    let mut found: Vec<f64> = Vec::new();
    for view in 0..6 {
        let pixels = planes.view(view);
        found.extend((0..8).map(|k| f64::from(pixels[(16 * 32 + 4 * k) * 4 + k % 4])));
    }
    let rows = losses(folder.path());
    found.extend(rows[1..].iter().map(|row| row[1].parse::<f64>().unwrap()));
    let expected: Vec<f64> =
        include_str!("train/known.txt").split_whitespace().map(|word| word.parse().unwrap()).collect();
    let text: Vec<String> = found.iter().map(|value| format!("{value:.5}")).collect();
    let same =
        found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= TOLERANCE);
    assert!(
        same,
        "expected {expected:?}, found\n{}",
        text.chunks(8).map(|row| row.join(" ") + "\n").collect::<String>()
    );
}

/// What the decoded planes look like from afar: a map of the front view, `#` where the normal is
/// longer than 0.6, `.` where it is shorter than 0.4, `+` between. Other vector units move a length by
/// some 1e-4, so that a pixel changes its letter only where it lies that close to a border.
#[test]
fn a_small_run_decodes_to_its_known_silhouette() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &settings(0), false, false);
    let planes = files::read(&folder.path().join("decoded.safetensors")).unwrap();
    let letter = |pixel: &[f32]| match pixel[1..].iter().map(|n| n * n).sum::<f32>().sqrt() {
        length if (length - 0.5).abs() < 0.1 => '+',
        length if length > 0.5 => '#',
        _ => '.',
    };
    let lines: Vec<String> = planes
        .view(2)
        .chunks(2 * 32 * 4)
        .map(|rows| rows[..32 * 4].chunks(4).map(letter).collect())
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}
