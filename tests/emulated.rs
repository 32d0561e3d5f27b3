//! The CUDA path as a person meets it, on the software driver: a run like the CPU's, and one clear line where a driver
//! or a card fails.

use hexcuda::hexplane::{Planes, files};
use hexcuda::mesh::sample_head::head;
use hexcuda::mesh::{io, metrics};
use hexcuda::model::hexz::Latent;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const TINY: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 16\nstem = 8\nlatent_channels = 16\n\
    widths = [8, 12]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 3\nsdf_points = 64\nsdf_weight = 0.0\n\
    plane_cache = 'fp32'\ncheckpoint_every = 1\n[extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.at("tiny.toml"), TINY).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
        command.args(arguments).current_dir(&self.0).env("RAYON_NUM_THREADS", "2");
        command
    }

    /// With the library at `driver` in the place of the card's.
    fn with_driver(&self, driver: &Path, arguments: &[&str]) -> Command {
        let folder = self.at("driver");
        fs::create_dir_all(&folder).unwrap();
        let link = folder.join("libcuda.so.1");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(driver, link).unwrap();
        let mut command = self.command(arguments);
        command.env("LD_LIBRARY_PATH", folder);
        command
    }

    fn losses(&self, run: &str) -> Vec<f64> {
        self.column(run, 2)
    }

    fn column(&self, run: &str, column: usize) -> Vec<f64> {
        let text = fs::read_to_string(self.at(run).join("metrics.csv")).unwrap();
        text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
    }
}

/// The library that cargo has built for these tests.
fn emulator() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join("libcuda_emulator.so")
}

fn train<'a>(device: &'a str, out: &'a str) -> Vec<&'a str> {
    train_in(device, "fp32", out)
}

fn train_in<'a>(device: &'a str, precision: &'a str, out: &'a str) -> Vec<&'a str> {
    vec![
        "train",
        "--config",
        "tiny.toml",
        "--quiet",
        "--device",
        device,
        "--precision",
        precision,
        "--out",
        out,
    ]
}

#[track_caller]
fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Exit code 1 and one line of the program's own that holds `parts`, beside what the driver says.
#[track_caller]
fn refuses(mut command: Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let all = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = all.lines().filter(|line| !line.starts_with("cuda-emulator: ")).collect();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {all}");
    assert!(lines.len() == 1 && lines[0].starts_with("hexcuda: "), "{command:?}: {all}");
    parts.iter().for_each(|part| assert!(lines[0].contains(part), "{command:?}: {part:?} in {all}"));
}

/// The two paths round sums in another order: some 1e-7 of a value, which Adam's first steps amplify where a
/// gradient is near 0 (its sign decides a whole step); measured 2e-5 of the loss after three steps.
#[test]
fn a_run_has_the_losses_of_the_cpu_and_no_finding() {
    const TOLERANCE: f64 = 1e-3;
    let place = Place::new();
    // The other tests leave the SDF loss out: the distances of its points are most of a tiny run.
    fs::write(place.at("tiny.toml"), TINY.replace("sdf_weight = 0.0", "sdf_weight = 0.1")).unwrap();
    let mut emulated = place.command(&train("emulated", "emulated"));
    emulated.env("CUDA_EMULATOR_REPORT", place.at("report.json"));
    succeeds(emulated);
    succeeds(place.command(&train("cpu", "cpu")));
    let (ours, cpu) = (place.losses("emulated"), place.losses("cpu"));
    assert_eq!(ours.len(), 3);
    for (a, b) in ours.iter().zip(&cpu) {
        assert!((a - b).abs() <= TOLERANCE * b.abs(), "{ours:?} against {cpu:?}");
    }
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(place.at("report.json")).unwrap()).unwrap();
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{}", report["findings"]);
    assert!(!report["kernels"].as_array().unwrap().is_empty(), "{report}");
    let summary = fs::read_to_string(place.at("emulated/summary.json")).unwrap();
    assert!(summary.contains("Emulated"), "{summary}");
    let [ours, cpu] =
        ["emulated", "cpu"].map(|run| files::read(&place.at(run).join("decoded.safetensors")).unwrap());
    assert!(relative(&ours.values, &cpu.values) < TOLERANCE);
    insta::assert_snapshot!(depths(&ours));
}

/// Latents that draw: the same numbers on both paths, and losses that differ no more than without.
#[test]
fn a_run_with_a_latent_that_draws_has_the_losses_of_the_cpu() {
    let kinds = [
        ("kind = 'gaussian'\nkl_warmup = 2\nbeta = 1e-4", 5),
        ("kind = 'gaussian'\nprior = 'vamp'\ncomponents = 2", 5),
        ("kind = 'categorical'\nclasses = 5\ngroups = 6", 5),
        ("rate_weight = 1e-5", 8),
        // A value that is rounded to another level on one path moves the loss by a share of the distance between levels.
        ("kind = 'fsq'\nfsq_levels = [2047]", 7),
    ];
    for (latent, column) in kinds {
        let place = Place::new();
        fs::write(place.at("tiny.toml"), format!("{TINY}[latent]\n{latent}\n")).unwrap();
        for device in ["emulated", "cpu"] {
            succeeds(place.command(&train(device, device)));
        }
        // The loss, and the KL divergence, the bits or the perplexity.
        for column in [2, column] {
            let (ours, cpu) = (place.column("emulated", column), place.column("cpu", column));
            assert!(ours.len() == 3 && ours.iter().all(|&value| value > 0.0), "{latent}: {ours:?}");
            let near = ours.iter().zip(&cpu).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs());
            assert!(near, "{latent}: {ours:?} against {cpu:?}");
        }
    }
}

/// Every fourth pixel of the six views side by side, as the number of borders that its depth exceeds. The software
/// driver computes each sum, product, quotient and root as IEEE 754 says, but powers of two (of SiLU) and the draws of
/// the first weights come from the mathematical library of the machine, which may round them otherwise: some 1e-7 of a
/// value, which the steps amplify to less than 1e-3 as between the CPU and a card. So the borders lie where no depth
/// is near, and a depth that comes near shows before a digit can differ.
fn depths(planes: &Planes) -> String {
    const BORDERS: [f32; 7] = [0.13, 0.211, 0.276, 0.331, 0.42, 0.524, 0.76];
    const CLEARANCE: f32 = 1.5e-3;
    let size = planes.size;
    let digit = |view: usize, row: usize, column: usize| {
        let depth = planes.view(view)[4 * (row * size + column)];
        let near = BORDERS.iter().find(|border| (depth - *border).abs() < CLEARANCE);
        assert!(near.is_none(), "view {view}, row {row}, column {column}: {depth} is near {near:?}");
        char::from(b'0' + BORDERS.iter().filter(|&&border| depth > border).count() as u8)
    };
    let places = || (2..size).step_by(4);
    let line = |row: usize| {
        let views = (0..6).map(|view| places().map(|column| digit(view, row, column)).collect::<String>());
        views.collect::<Vec<_>>().join(" ")
    };
    places().map(line).collect::<Vec<_>>().join("\n")
}

/// The network starts gently: what it adds to the linear code is small, and so is what a rounding of it does to the
/// loss; the linear code's own products have rounded factors. Measured 4e-3 of the loss after three steps in bf16, 1e-3
/// in fp16; a roundoff is 4e-3 and 5e-4.
#[test]
fn a_run_that_stores_2_bytes_a_value_has_about_the_losses_of_the_cpu() {
    let place = Place::new();
    fs::write(place.at("tiny.toml"), TINY.replace("sdf_weight = 0.0", "sdf_weight = 0.1")).unwrap();
    succeeds(place.command(&train("cpu", "cpu")));
    for (precision, tolerance) in [("bf16", 1.2e-2), ("fp16", 4e-3)] {
        let mut narrow = place.command(&train_in("emulated", precision, precision));
        narrow.env("CUDA_EMULATOR_REPORT", place.at("report.json"));
        succeeds(narrow);
        let (ours, cpu) = (place.losses(precision), place.losses("cpu"));
        assert_eq!(ours.len(), 3);
        for (a, b) in ours.iter().zip(&cpu) {
            assert!((a - b).abs() <= tolerance * b.abs(), "{precision}: {ours:?} against {cpu:?}");
        }
        let report: serde_json::Value =
            serde_json::from_slice(&fs::read(place.at("report.json")).unwrap()).unwrap();
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{}", report["findings"]);
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let place = Place::new();
    for precision in ["fp32", "bf16", "fp16"] {
        let (whole, parts) = (format!("{precision}-whole"), format!("{precision}-parts"));
        succeeds(place.command(&train_in("emulated", precision, &whole)));
        let mut first = train_in("emulated", precision, &parts);
        first.extend(["--steps", "2"]);
        succeeds(place.command(&first));
        let mut rest = train_in("emulated", precision, &parts);
        rest.push("--resume");
        succeeds(place.command(&rest));
        assert_eq!(place.losses(&whole), place.losses(&parts));
        let planes = |run: &str| fs::read(place.at(run).join("decoded.safetensors")).unwrap();
        assert!(planes(&whole) == planes(&parts), "the decoded planes differ in {precision}");
    }
}

#[test]
fn the_planes_can_lie_in_half_precision() {
    let place = Place::new();
    fs::write(place.at("tiny.toml"), TINY.replace("'fp32'", "'fp16'")).unwrap();
    succeeds(place.command(&train("emulated", "half")));
    succeeds(place.command(&train("cpu", "cpu")));
    // fp16 keeps 11 bits of a depth of up to 1.
    for (a, b) in place.losses("half").iter().zip(place.losses("cpu")) {
        assert!((a - b).abs() <= 5e-3 * b.abs(), "{a} against {b}");
    }
}

/// Resident planes, planes read from disk ahead of their step, and a driver without graphs: the same bits.
#[test]
fn where_planes_lie_and_how_steps_are_launched_changes_nothing() {
    let place = Place::new();
    let config = |name: &str, storage: &str, extra: &str| {
        let storage = format!("{storage}'\n{extra}");
        let text = TINY.replace("fp32'", &storage).replace("steps = 3", "steps = 5\nbatch = 1\naugment = 2");
        fs::write(place.at(name), text).unwrap();
    };
    for storage in ["fp16", "fp32"] {
        config("tiny.toml", storage, "");
        succeeds(place.command(&train("emulated", &format!("{storage}-resident"))));
        config("tiny.toml", storage, "cached_meshes = 1");
        succeeds(place.command(&train("emulated", &format!("{storage}-streamed"))));
        let mut plain = place.command(&train("emulated", &format!("{storage}-plain")));
        plain.env("CUDA_EMULATOR_GRAPHS", "0");
        succeeds(plain);
        let planes =
            |kind: &str| fs::read(place.at(&format!("{storage}-{kind}/decoded.safetensors"))).unwrap();
        let losses = |kind: &str| place.losses(&format!("{storage}-{kind}"));
        for kind in ["streamed", "plain"] {
            assert_eq!(losses(kind), losses("resident"), "{storage}, {kind}");
            assert!(planes(kind) == planes("resident"), "{storage}, {kind}");
        }
    }
}

/// The card runs ahead of what the host reads; what it was given behind the bad step must change nothing.
#[test]
fn a_loss_that_leaves_the_numbers_keeps_the_step_before() {
    let place = Place::new();
    let mut command = train("emulated", "diverged");
    command.extend(["--steps", "8", "--learning-rate", "1e30"]);
    refuses(place.command(&command), &["step 2: the loss is", "--learning-rate"]);
    let checkpoint = fs::read(place.at("diverged/checkpoint.safetensors")).unwrap();
    assert_eq!(place.losses("diverged").len(), 1);
    let mut once = train("emulated", "once");
    once.extend(["--steps", "1", "--learning-rate", "1e30"]);
    let _ = place.command(&once).output().unwrap();
    let tensors = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    let once = fs::read(place.at("once/checkpoint.safetensors")).unwrap();
    assert!(tensors(&checkpoint) == tensors(&once), "other weights than those of step 1");
}

#[test]
fn without_a_driver_the_cpu_is_used_and_a_card_refused() {
    let place = Place::new();
    let mut devices = place.command(&["devices"]);
    devices.env("LD_LIBRARY_PATH", "");
    let text = String::from_utf8(succeeds(devices).stdout).unwrap();
    if text.contains("no CUDA driver is installed") {
        assert!(text.contains("used: cpu"), "{text}");
        refuses(
            place.command(&train("cuda", "none")),
            &["--device cuda:0", "no CUDA driver", "--device cpu"],
        );
        assert!(!place.at("none").exists());
    }
}

#[test]
fn a_driver_without_cards_or_too_old_is_refused() {
    let place = Place::new();
    let with = |name: &str, value: &str| {
        let mut command = place.with_driver(&emulator(), &train("cuda", "none"));
        command.env(name, value);
        command
    };
    refuses(with("CUDA_EMULATOR_DEVICES", "0"), &["--device cuda:0", "finds no card"]);
    refuses(with("CUDA_EMULATOR_DRIVER_VERSION", "11040"), &["CUDA 11.4", "update the NVIDIA driver"]);
    let mut auto = place.with_driver(&emulator(), &["devices"]);
    auto.env("CUDA_EMULATOR_DEVICES", "0");
    assert!(String::from_utf8(succeeds(auto).stdout).unwrap().contains("used: cpu"));
    let mut old = place.with_driver(&emulator(), &["devices"]);
    old.env("CUDA_EMULATOR_DRIVER_VERSION", "11040");
    let text = String::from_utf8(succeeds(old).stdout).unwrap();
    assert!(text.contains("used: cpu") && text.contains("not used: --device cuda:0: "), "{text}");
    assert!(text.contains("CUDA 11.4"), "{text}");
    assert!(!place.at("none").exists());
}

#[test]
fn a_card_with_too_little_memory_is_refused_with_what_would_fit() {
    let place = Place::new();
    let arguments = [
        "train",
        "--preset",
        "paper",
        "--batch",
        "4",
        "--augment",
        "3",
        "--device",
        "emulated",
        "--quiet",
        "--out",
        "none",
    ];
    for (memory, remedy) in [("1800M", "take --precision bf16"), ("1500M", "take --batch 1")] {
        let mut command = place.command(&arguments);
        command.env("CUDA_EMULATOR_MEMORY", memory);
        refuses(command, &["a step takes", "MiB are free", remedy]);
    }
    assert!(!place.at("none").exists());
}

#[test]
fn a_device_that_the_host_has_no_room_for_is_refused() {
    let place = Place::new();
    let mut command = Command::new("sh");
    // KiB of address space, far below the 12 GB of the device.
    command.args(["-c", "ulimit -v 4194304 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_hexcuda")]);
    command.args(train("emulated", "none")).current_dir(&place.0);
    refuses(command, &["--device emulated", "out of memory"]);
    assert!(!place.at("none").exists());
}

/// A stub of the library, as the CUDA toolkit brings one: it answers every call with an error and lacks some.
fn stub(place: &Place) -> PathBuf {
    fs::write(place.at("stub.c"), "int cuInit(unsigned flags) { (void)flags; return 34; }\n").unwrap();
    let library = place.at("stub.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(place.at("stub.c"));
    assert!(compile.status().unwrap().success(), "no C compiler, which rustc links with too");
    library
}

#[test]
fn a_stub_library_is_refused() {
    let place = Place::new();
    let library = stub(&place);
    refuses(place.with_driver(&library, &train("cuda", "none")), &["--device cuda:0", "--device cpu"]);
    let text = String::from_utf8(succeeds(place.with_driver(&library, &["devices"])).stdout).unwrap();
    assert!(text.contains("used: cpu") && text.contains("does not start"), "{text}");
}

#[test]
fn another_driver_on_the_way_is_not_taken_for_the_software_driver() {
    let place = Place::new();
    let library = stub(&place);
    let check = ["check", "--op", "identity", "--device"];
    for name in ["libcuda.so", "libcuda.so.12"] {
        let emulated = [&check[..], &["emulated"]].concat();
        let command = place.with_driver(&library, &emulated);
        std::os::unix::fs::symlink(&library, place.at("driver").join(name)).unwrap();
        let said = String::from_utf8(succeeds(command).stdout).unwrap();
        assert!(said.contains("Emulated"), "{said}");
        // It is what a program finds there otherwise.
        refuses(place.with_driver(&library, &[&check[..], &["cuda"]].concat()), &["does not start"]);
    }
}

#[test]
fn a_card_that_auto_passes_over_is_named_in_one_line() {
    let place = Place::new();
    io::write(&place.at("head.ply"), &head(1, 400)).unwrap();
    let draw = ["rasterize", "head.ply", "-o", "planes.npy", "--size", "16"];
    let said = |command: Command| -> Vec<String> {
        let text = String::from_utf8(succeeds(command).stderr).unwrap();
        text.lines().filter(|line| !line.starts_with("cuda-emulator: ")).map(str::to_string).collect()
    };
    let mut old = place.with_driver(&emulator(), &draw);
    old.env("CUDA_EMULATOR_DRIVER_VERSION", "11040");
    let lines = said(old);
    assert!(lines.len() == 1 && lines[0].starts_with("hexcuda: computing on cpu ("), "{lines:?}");
    assert!(lines[0].contains("not used: --device cuda:0: ") && lines[0].contains("CUDA 11.4"), "{lines:?}");
    let lines = said(place.with_driver(&stub(&place), &draw));
    assert!(lines.len() == 1 && lines[0].contains("does not start"), "{lines:?}");
    // Nothing is said where no card refuses.
    let mut none = place.with_driver(&emulator(), &draw);
    none.env("CUDA_EMULATOR_DEVICES", "0");
    assert_eq!(said(none), Vec::<String>::new());
    let mut chosen = draw.to_vec();
    chosen.extend(["--device", "cpu"]);
    assert_eq!(said(place.with_driver(&stub(&place), &chosen)), Vec::<String>::new());
}

/// ||a - b|| / ||b||.
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut b.iter().copied())).sqrt()
}

/// Sums in another order, some 1e-7 of a value a layer, through a network of some ten layers.
#[test]
fn encode_decode_and_compare_give_what_the_cpu_gives() {
    const TOLERANCE: f64 = 1e-5;
    let place = Place::new();
    io::write(&place.at("head.ply"), &head(1, 600)).unwrap();
    succeeds(place.command(&[&train("cpu", "run")[..], &["head.ply"]].concat()));
    let on = |device: &str, arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.args(["--device", device]).env("CUDA_EMULATOR_REPORT", place.at("report.json"));
        let output = succeeds(command);
        if device == "emulated" {
            let report = fs::read(place.at("report.json")).unwrap();
            let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
            assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{}", report["findings"]);
            assert!(
                !report["kernels"].as_array().unwrap().is_empty(),
                "{arguments:?}: nothing ran on the card"
            );
            fs::remove_file(place.at("report.json")).unwrap();
        }
        output.stdout
    };
    let [ours, cpu] = ["emulated", "cpu"].map(|device| {
        let name = |ending: &str| format!("{device}.{ending}");
        on(device, &["encode", "--run", "run", "head.ply", "-o", &name("hexz")]);
        // The same latent for both, so that decoding is judged by itself.
        let latent = if device == "emulated" { name("hexz") } else { "emulated.hexz".to_string() };
        let decode = ["decode", "--run", "run", &latent, "-o", &name("ply"), "--planes", &name("npy")];
        on(device, &decode);
        let latent = Latent::read(&place.at(&name("hexz"))).unwrap();
        let planes = files::read(&place.at(&name("npy"))).unwrap();
        (latent, planes.values, io::read(&place.at(&name("ply"))).unwrap())
    });
    assert_eq!((&ours.0.shape, &ours.0.model, &ours.0.name), (&cpu.0.shape, &cpu.0.model, &cpu.0.name));
    assert!(relative(&ours.0.values, &cpu.0.values) < TOLERANCE);
    assert!(relative(&ours.1, &cpu.1) < TOLERANCE);
    // The surface of one lies on that of the other.
    let settings = metrics::Settings { samples: 2000, iou_grid: 16, ..metrics::Settings::default() };
    let gap = metrics::compare(&cpu.2, &ours.2, &settings).unwrap();
    assert!(gap.hausdorff_95.unwrap() < 1e-4, "{gap:?}");
    let measured = |device: &str, mesh: &str| -> metrics::Metrics {
        let text = on(device, &["compare", "head.ply", mesh, "--samples", "1000", "--json"]);
        serde_json::from_slice(&text).unwrap()
    };
    let (a, b) = (measured("emulated", "cpu.ply"), measured("cpu", "cpu.ply"));
    let numbers = |m: &metrics::Metrics| {
        let scores = m.scores.iter().flat_map(|score| [score.f_score, score.precision, score.recall]);
        let distances = [m.chamfer_l1, m.chamfer_l2, m.hausdorff_95, m.volume_iou];
        let distances = distances.map(Option::unwrap);
        scores.chain(distances).chain([m.near_surface_accuracy]).collect::<Vec<f64>>()
    };
    for (a, b) in numbers(&a).into_iter().zip(numbers(&b)) {
        assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} for {b}");
    }
    // Of triangles that are equally near either may be found, and their normals differ: on surfaces as far apart as
    // these some hundredths of the samples have an edge or a corner for their nearest point.
    let consistency = [&a, &b].map(|metrics| metrics.normal_consistency.unwrap());
    assert!((consistency[0] - consistency[1]).abs() < 0.02, "{consistency:?}");
    assert_eq!((a.health, a.reference_health, a.samples), (b.health, b.reference_health, b.samples));
}

#[test]
fn a_failure_in_mid_step_leaves_the_last_checkpoint() {
    let place = Place::new();
    let mut command = place.command(&train("emulated", "broken"));
    // Some hundred launches a step.
    command.env("CUDA_EMULATOR_FAIL_AFTER", "450");
    refuses(command, &["CUDA card 0", "launch fail"]);
    let rows = place.losses("broken").len();
    assert!((1..3).contains(&rows), "{rows} steps");
    let mut rest = train("emulated", "broken");
    rest.push("--resume");
    succeeds(place.command(&rest));
    succeeds(place.command(&train("emulated", "whole")));
    assert_eq!(place.losses("broken"), place.losses("whole"));
}
