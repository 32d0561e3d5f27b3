//! Binary planes from the mesh to the page, on the CPU and on the software driver, under every likelihood; and what is
//! left of a run whose planes have no surface.

use hexcuda::hexplane::{Representation, files};
use hexcuda::train::{Likelihood, LikelihoodKind, Preset, Settings};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const TINY: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 16\nstem = 8\nlatent_channels = 16\n\
    widths = [8, 12]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 3\nsdf_points = 64\n\
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

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> Output {
        finished(self.command(arguments))
    }

    /// Exit code 1 and a line that holds `part`.
    #[track_caller]
    fn fails(&self, arguments: &[&str], part: &str) {
        let output = self.command(arguments).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {line}");
        assert!(line.contains(part), "{arguments:?}: {part:?} in {line}");
    }

    /// A tiny run on binary planes into `out`.
    #[track_caller]
    fn train(&self, out: &str, more: &[&str]) -> Output {
        let base = ["train", "--config", "tiny.toml", "--representation", "binary", "--out", out];
        self.succeeds(&[&base, more].concat())
    }

    fn summary(&self, run: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.at(run).join("summary.json")).unwrap()).unwrap()
    }

    /// Column `index` of the log.
    fn column(&self, run: &str, index: usize) -> Vec<f64> {
        let text = fs::read_to_string(self.at(run).join("metrics.csv")).unwrap();
        text.lines().skip(1).map(|line| line.split(',').nth(index).unwrap().parse().unwrap()).collect()
    }
}

#[track_caller]
fn finished(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

const LIKELIHOODS: [&[&str]; 3] =
    [&["--likelihood", "mse"], &["--likelihood", "sigma"], &["--likelihood", "bernoulli"]];

#[test]
fn a_run_leaves_what_a_run_leaves() {
    let place = Place::new();
    for likelihood in LIKELIHOODS {
        let run = likelihood[1];
        place.train(run, &[likelihood, &["--sdf-weight", "0.01", "--device", "cpu", "--quiet"]].concat());
        for name in ["planes.png", "mesh.ply", "mesh.glb", "ceiling.ply", "linear.ply", "report.html"] {
            assert!(place.at(run).join(name).exists(), "{run}/{name}");
        }
        let planes = files::read(&place.at(run).join("decoded.safetensors")).unwrap();
        assert_eq!((planes.representation, planes.size), (Representation::Binary, 32));
        let summary = place.summary(run);
        assert_eq!(summary["representation"], "binary");
        assert_eq!(summary["config"]["architecture"]["channels"], 1);
        assert!(summary["no_surface"].is_null());
        // Started from a code of half the values of a patch, it reaches the silhouettes nearly at once.
        let [mesh, ceiling] = ["mesh", "ceiling"].map(|k| summary[k]["volume_iou"].as_f64().unwrap());
        assert!(ceiling > 0.5 && mesh > 0.9 * ceiling, "{run}: {mesh} of {ceiling}");
        if run == "bernoulli" {
            assert!(planes.values.iter().all(|p| (0.0..=1.0).contains(p)), "not probabilities");
        }
        // The same planes by way of a latent file, and the same mesh of them.
        place.succeeds(&["head", "-o", "head.ply"]);
        place.succeeds(&["encode", "--run", run, "head.ply", "-o", "z.hexz", "--device", "cpu", "--quiet"]);
        let decode =
            ["decode", "--run", run, "z.hexz", "-o", "z.ply", "--planes", "z.safetensors", "--device", "cpu"];
        place.succeeds(&decode);
        let again = files::read(&place.at("z.safetensors")).unwrap();
        assert_eq!(again.representation, Representation::Binary);
        let extract = ["extract", "z.safetensors", "-o", "y.ply", "--grid", "16", "--device", "cpu"];
        place.succeeds(&extract);
        assert!(fs::read(place.at("z.ply")).unwrap() == fs::read(place.at("y.ply")).unwrap());
    }
}

#[test]
fn the_settings_that_follow_from_the_planes_need_no_words() {
    let place = Place::new();
    place.train("run", &["--quiet", "--device", "cpu", "--steps", "1"]);
    let load = |asked, file: &str| {
        let settings = Settings::load_for(None, asked, Some(&place.at(file))).unwrap();
        settings.validate().unwrap();
        settings
    };
    let binary = load(None, "run/config.toml");
    assert_eq!((binary.representation, binary.architecture.channels), (Representation::Binary, 1));
    assert_eq!((binary.training.depth_weight, binary.training.sdf_weight), (1.0, 0.0));
    // All settings of one kind, asked for planes of the other.
    let back = load(Some(Representation::Continuous), "run/config.toml");
    let usual = Settings::preset(Preset::Quick);
    assert_eq!(back.architecture.channels, 4);
    assert_eq!(back.training.depth_weight, usual.training.depth_weight);
    let named = format!("representation = 'binary'\n{TINY}[likelihood]\nkind = 'bernoulli'\n");
    fs::write(place.at("named.toml"), named).unwrap();
    let named = load(None, "named.toml");
    assert_eq!((named.architecture.channels, named.training.depth_weight), (1, 1.0));
    let likelihood = Likelihood { kind: LikelihoodKind::Bernoulli, ..Likelihood::default() };
    assert_eq!(named.likelihood, likelihood);
    // A configuration from before there were likelihoods.
    let text = usual.to_toml().unwrap();
    let (before, after) = text.split_once("[likelihood]").unwrap();
    fs::write(place.at("old.toml"), [before, &after[after.find('[').unwrap()..]].concat()).unwrap();
    assert_eq!(load(None, "old.toml"), usual);
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let place = Place::new();
    let all = ["--likelihood", "bernoulli", "--sdf-weight", "0.1", "--quiet", "--device", "cpu"];
    place.train("whole", &all);
    place.train("parts", &[&all[..], &["--steps", "2"]].concat());
    place.train("parts", &[&all[..], &["--resume"]].concat());
    let file = |run: &str| fs::read(place.at(run).join("decoded.safetensors")).unwrap();
    assert!(file("whole") == file("parts"));
    let other = ["--likelihood", "mse", "--sdf-weight", "0.1", "--quiet", "--device", "cpu", "--resume"];
    let base = ["train", "--config", "tiny.toml", "--representation", "binary", "--out", "parts"];
    place.fails(&[&base, &other[..]].concat(), "`likelihood.kind = \"bernoulli\"`");
    let resumed = ["train", "--out", "parts", "--resume", "--representation", "continuous", "--quiet"];
    let output = place.command(&resumed).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && line.contains("bernoulli is for binary planes"), "{line}");
}

/// The two paths round sums in another order: tests/emulated.rs.
#[test]
fn the_software_driver_has_the_losses_of_the_cpu_and_no_finding() {
    const TOLERANCE: f64 = 1e-3;
    let place = Place::new();
    for likelihood in LIKELIHOODS {
        let all = [likelihood, &["--sdf-weight", "0.05", "--quiet", "--precision", "fp32"]].concat();
        let base = ["train", "--config", "tiny.toml", "--representation", "binary", "--device", "emulated"];
        let mut emulated = place.command(&[&base, &all[..], &["--out", "emulated"]].concat());
        emulated.env("CUDA_EMULATOR_REPORT", place.at("report.json"));
        finished(emulated);
        place.train("cpu", &[&all[..], &["--device", "cpu"]].concat());
        // Total, reconstruction and SDF.
        for index in 2..5 {
            let (ours, cpu) = (place.column("emulated", index), place.column("cpu", index));
            assert_eq!(ours.len(), 3);
            for (a, b) in ours.iter().zip(&cpu) {
                assert!((a - b).abs() <= TOLERANCE * b.abs(), "{likelihood:?}: {ours:?} against {cpu:?}");
            }
        }
        let report = fs::read(place.at("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{}", report["findings"]);
        let planes = ["emulated", "cpu"]
            .map(|run| files::read(&place.at(run).join("decoded.safetensors")).unwrap().values);
        let apart = planes[0].iter().zip(&planes[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-2, "{likelihood:?}: {apart}");
        for run in ["emulated", "cpu"] {
            fs::remove_dir_all(place.at(run)).unwrap();
        }
    }
}

/// Weighed so little, hits are given up.
#[test]
fn planes_without_a_surface_are_a_result() {
    let place = Place::new();
    let small =
        ["--init", "random", "--learning-rate", "0.03", "--device", "cpu", "--likelihood", "bernoulli"];
    let output = place.train("run", &[&small[..], &["--steps", "40", "--positive-weight", "1e-6"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("sample-head: mesh: no surface at 0.5: highest occupancy 0.0"), "{said}");
    let summary = place.summary("run");
    let found = &summary["no_surface"]["mesh"];
    assert_eq!(found["iso"], 0.5);
    assert!(found["highest_occupancy"].as_f64().unwrap() < 0.1, "{found}");
    assert!(summary["no_surface"]["ceiling"].is_null());
    assert_eq!(summary["mesh"]["scores"][0]["f_score"], 0.0);
    for name in ["mesh.ply", "mesh.glb"] {
        assert!(!place.at("run").join(name).exists(), "{name}");
    }
    let page = fs::read_to_string(place.at("run/report.html")).unwrap();
    assert!(page.contains("no surface at 0.5: highest occupancy 0.0"));
    let words = "no surface at 0.5: highest occupancy 0.0";
    place.fails(&["extract", "run/decoded.safetensors", "-o", "x.ply", "--grid", "16"], words);
    place.succeeds(&["head", "-o", "head.ply"]);
    place.succeeds(&["encode", "--run", "run", "head.ply", "-o", "z.hexz", "--quiet"]);
    place.fails(&["decode", "--run", "run", "z.hexz", "-o", "x.ply"], words);
    assert!(!place.at("x.ply").exists());
}

/// A mesh of an earlier end of a run does not outlive it.
#[test]
fn an_empty_mesh_takes_the_file_of_an_earlier_one_away() {
    let place = Place::new();
    let all = ["--likelihood", "bernoulli", "--device", "cpu", "--quiet", "--steps", "2"];
    place.train("run", &all);
    assert!(place.at("run/mesh.ply").exists());
    // Above every probability at the start of a run; the ceiling's planes are 1 inside.
    fs::write(place.at("tiny.toml"), TINY.replace("grid = 16", "grid = 16\niso = 0.99999")).unwrap();
    place.train("run", &[&all[..], &["--resume"]].concat());
    let summary = place.summary("run");
    let empty = |column: &str| !summary["no_surface"][column].is_null();
    assert!(empty("mesh") && !place.at("run/mesh.ply").exists() && !place.at("run/mesh.glb").exists());
    assert!(!empty("ceiling") && place.at("run/ceiling.ply").exists());
}
