//! The CUDA path as a person meets it, on the software driver: a run like the CPU's, and one clear line where a driver
//! or a card fails.

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
        let text = fs::read_to_string(self.at(run).join("metrics.csv")).unwrap();
        text.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect()
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
    refuses(with("CUDA_EMULATOR_DEVICES", "0"), &["--device cuda:0"]);
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
    for (memory, remedy) in [("2G", "take --precision bf16"), ("1500M", "take --batch 1")] {
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

/// A stub of the library, as the CUDA toolkit brings one, answers every call with an error and lacks some.
#[test]
fn a_stub_library_is_refused() {
    let place = Place::new();
    fs::write(place.at("stub.c"), "int cuInit(unsigned flags) { (void)flags; return 34; }\n").unwrap();
    let library = place.at("stub.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(place.at("stub.c"));
    assert!(compile.status().unwrap().success(), "no C compiler, which rustc links with too");
    refuses(place.with_driver(&library, &train("cuda", "none")), &["--device cuda:0", "--device cpu"]);
    let text = String::from_utf8(succeeds(place.with_driver(&library, &["devices"])).stdout).unwrap();
    assert!(text.contains("used: cpu") && text.contains("does not start"), "{text}");
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
