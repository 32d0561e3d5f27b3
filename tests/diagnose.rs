//! A small grid from end to end: what is predicted, kept, gone on with, refused and shown.

use hexcuda::device::Device;
use hexcuda::diagnose::{
    End, Grid, Look, Options, Outcome, PosteriorLook, Profile, RunResult, Verdict, diagnose, verdicts,
};
use hexcuda::mesh::Mesh;
use hexcuda::mesh::sample_head::family;
use hexcuda::train::Preset;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The cells of the quick grid that begin so, for a few steps.
fn grid(names: &[&str], steps: u64) -> Grid {
    let mut grid = Grid::preset(Preset::Quick);
    grid.cells.retain(|cell| names.iter().any(|name| cell.name.starts_with(name)));
    for cell in &mut grid.cells {
        cell.settings.training.steps = steps;
        cell.settings.extraction.grid = 24;
        cell.settings.metrics.samples = 500;
    }
    grid.looks = 2;
    grid
}

fn heads() -> Vec<(String, Mesh)> {
    family(0, 3, 600).into_iter().enumerate().map(|(at, head)| (format!("head_{at}"), head)).collect()
}

fn run(out: &Path, grid: &Grid, seeds: u64, interrupt: &AtomicBool) -> hexcuda::Result<()> {
    run_on(&heads(), out, grid, seeds, interrupt)
}

fn run_on(
    meshes: &[(String, Mesh)],
    out: &Path,
    grid: &Grid,
    seeds: u64,
    interrupt: &AtomicBool,
) -> hexcuda::Result<()> {
    let options = Options { out: out.to_path_buf(), seeds, quiet: true, device: Device::Cpu, interrupt };
    diagnose(grid, meshes, &options)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_grid_is_predicted_run_judged_and_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let (out, never) = (place.path(), AtomicBool::new(false));
    let grid = grid(&["binary-mse-mean-1e-6", "continuous-mse-mean-1e-6", "binary-deterministic"], 6);
    assert_eq!(grid.cells.len(), 3);
    run(out, &grid, 3, &never).unwrap();

    let predictions: serde_json::Value = serde_json::from_str(&read(out.join("predictions.json"))).unwrap();
    assert_eq!(predictions.as_array().unwrap().len(), 2, "one for each Gaussian cell");
    for prediction in predictions.as_array().unwrap() {
        let critical: Vec<f64> =
            prediction["critical_beta"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        assert!(critical[0] >= critical[1] && critical[1] >= critical[2] && critical[2] > 0.0);
    }

    let path = RunResult::path(out, &grid.cells[0], 1);
    let first = RunResult::read(&path).unwrap().unwrap();
    let steps: Vec<u64> = first.looks.iter().map(|look| look.step).collect();
    assert_eq!(steps, [0, 3, 6]);
    let parts = first.looks[0].gradient.unwrap();
    assert!(parts.reconstruction > 0.0 && parts.rate > 0.0 && parts.cosine.abs() <= 1.0, "{parts:?}");

    let verdicts: Vec<Verdict> = serde_json::from_str(&read(out.join("verdicts.json"))).unwrap();
    assert!(verdicts.iter().any(|verdict| verdict.claim.contains("explodes")));
    let page = read(out.join("report.html"));
    assert!(page.contains("binary-deterministic"));
    // The name of SVG's elements is the only address in it.
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("://"));

    // A run that is gone is made again to the same result; one that is there is not touched.
    let kept = RunResult::path(out, &grid.cells[2], 0);
    let written = std::fs::metadata(&kept).unwrap().modified().unwrap();
    std::fs::remove_file(&path).unwrap();
    run(out, &grid, 3, &never).unwrap();
    assert_eq!(RunResult::read(&path).unwrap().unwrap(), first);
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), written);
}

#[test]
fn fewer_seeds_than_a_spread_needs_decide_nothing() {
    let place = tempfile::tempdir().unwrap();
    run(
        place.path(),
        &grid(&["binary-mse-mean-1e-6", "binary-deterministic"], 2),
        1,
        &AtomicBool::new(false),
    )
    .unwrap();
    let verdicts: Vec<Verdict> = serde_json::from_str(&read(place.path().join("verdicts.json"))).unwrap();
    assert!(!verdicts.is_empty());
    assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Undecided));
}

#[test]
fn folders_and_inputs_that_do_not_fit_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let (out, never) = (place.path(), AtomicBool::new(false));
    let small = grid(&["binary-deterministic"], 2);
    run(out, &small, 1, &never).unwrap();

    let refused = |grid: &Grid| run(out, grid, 1, &never).unwrap_err().to_string();
    assert!(refused(&grid(&["binary-deterministic"], 3)).contains("another grid"));

    let path = RunResult::path(out, &small.cells[0], 0);
    std::fs::write(&path, "{ \"format\": 99 }").unwrap();
    assert!(refused(&small).contains("format 99"), "{}", refused(&small));
    std::fs::write(&path, "{ \"format\": 1, \"cell\"").unwrap();
    assert!(refused(&small).contains("line 1"), "{}", refused(&small));
    std::fs::write(out.join("diagnosis.json"), "{").unwrap();
    assert!(refused(&small).contains("diagnosis.json"));

    let one = &heads()[..1];
    let options =
        Options { out: out.join("other"), seeds: 1, quiet: true, device: Device::Cpu, interrupt: &never };
    let error = diagnose(&small, one, &options).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("at least 2 meshes"));
    let alike = [one, one].concat();
    let error = diagnose(&small, &alike, &options).unwrap_err();
    assert!(error.to_string().contains("all look alike"), "{error}");
}

#[test]
fn an_interruption_keeps_what_is_finished() {
    let place = tempfile::tempdir().unwrap();
    let error =
        run(place.path(), &grid(&["binary-deterministic"], 2), 1, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(error.exit_code(), 130);
    assert!(place.path().join("predictions.json").exists());
    assert!(!place.path().join("report.html").exists());
}

#[test]
fn meshes_of_one_name_are_told_apart_and_a_grid_may_grow() {
    let place = tempfile::tempdir().unwrap();
    let (out, never) = (place.path(), AtomicBool::new(false));
    let small = grid(&["binary-deterministic"], 2);
    run(out, &small, 1, &never).unwrap();
    let kept = RunResult::path(out, &small.cells[0], 0);
    let written = || std::fs::metadata(&kept).unwrap().modified().unwrap();
    let first = written();

    let mut others = heads();
    others[1].1.positions[7][0] += 1e-3;
    let refused = run_on(&others, out, &small, 1, &never).unwrap_err();
    assert!(refused.to_string().contains("another mesh by the name of head_1"), "{refused}");
    assert_eq!(refused.exit_code(), 1);

    // A folder of before holds names alone.
    let manifest = out.join("diagnosis.json");
    let mut held: serde_json::Value = serde_json::from_str(&read(&manifest)).unwrap();
    assert!(held.as_object_mut().unwrap().remove("checksums").is_some());
    std::fs::write(&manifest, held.to_string()).unwrap();
    let grown = grid(&["binary-deterministic", "binary-fsq"], 2);
    run(out, &grown, 1, &never).unwrap();
    assert_eq!(written(), first);
    assert!(RunResult::path(out, &grown.cells[1], 0).exists());
    let shrunk = run(out, &small, 1, &never).unwrap_err().to_string();
    assert!(shrunk.contains("another grid"), "{shrunk}");
    assert!(run_on(&others, out, &grown, 1, &never).is_err());
}

/// A VampPrior that starts from the meshes is the mean of their posteriors, which lie far apart: each mesh costs ln 3 nats. A
/// mixture starts at the posteriors' means with the log-variance -2, theirs is -6: (exp(-4) - 1 + 4) / 2 nats more a dimension.
#[test]
fn the_rate_of_a_learned_prior_is_the_divergence_from_it() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path();
    let grid = grid(&["binary-mixture-1e-3", "binary-vamp-1e-3"], 4);
    assert_eq!(grid.cells.len(), 2);
    run(out, &grid, 1, &AtomicBool::new(false)).unwrap();
    assert_eq!(read(out.join("predictions.json")).trim(), "[]", "the theory has another prior");
    let result = |name: &str| {
        let cell = grid.cells.iter().find(|cell| cell.name == name).unwrap();
        let result = RunResult::read(&RunResult::path(out, cell, 0)).unwrap().unwrap();
        assert_eq!(result.settings.latent.components, 3);
        for look in &result.looks {
            let posterior = look.posterior.as_ref().unwrap();
            assert!(posterior.by_channel.is_empty() && posterior.rate.is_finite(), "{posterior:?}");
        }
        result
    };
    let rate = |result: &RunResult| result.looks[0].posterior.as_ref().unwrap().rate;
    let vamp = rate(&result("binary-vamp-1e-3"));
    // Sums of some thousand nats in f32.
    assert!((vamp - 3.0f64.ln()).abs() < 0.02, "{vamp}");
    let mixture = result("binary-mixture-1e-3");
    let dimensions = mixture.settings.architecture.latent_floats() as f64;
    let ratio = (-4.0f64).exp();
    let expected = 3.0f64.ln() + dimensions * 0.5 * (ratio - 1.0 + 4.0);
    // Five standard errors of twelve draws.
    let allowed = 5.0 * 0.5 * (1.0 - ratio) * (2.0 * dimensions / 12.0).sqrt();
    assert!((rate(&mixture) - expected).abs() < allowed, "{} beside {expected} +- {allowed}", rate(&mixture));
    // Neither is offered as shares of channels.
    let page = read(out.join("report.html"));
    let count = |part: &str| page.matches(part).count();
    assert!(count("\"by_channel\":[]") > 0);
    assert_eq!(count("\"by_channel\":["), count("\"by_channel\":[]"));
}

#[test]
fn a_learned_prior_has_a_component_a_mesh() {
    let all = Grid::preset(Preset::Quick);
    let grown = all.for_meshes(5).unwrap();
    let learned: Vec<&str> =
        grown.cells.iter().filter(|cell| cell.learned_prior()).map(|cell| cell.name.as_str()).collect();
    let names = ["binary-mixture-1e-3", "binary-mixture-1e-6", "binary-vamp-1e-3", "binary-vamp-1e-6"];
    assert_eq!(learned, names);
    for (before, after) in all.cells.iter().zip(&grown.cells) {
        let expected = if after.learned_prior() { 5 } else { before.settings.latent.components };
        assert_eq!(after.settings.latent.components, expected);
        assert!(after.learned_prior() || before == after);
    }
    let error = all.for_meshes(5000).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("5000 meshes, but the prior of binary-mixture-1e-3"), "{error}");
}

/// Runs of `seeds` seeds of the cells (name, variance explained, rate), with nothing else in them.
fn results(cells: &[(&str, f64, f64)], seeds: u64) -> Vec<RunResult> {
    let grid = Grid::preset(Preset::Quick).for_meshes(12).unwrap();
    let runs = cells.iter().flat_map(|&cell| (0..seeds).map(move |seed| (cell, seed)));
    let of = |((name, explained, rate), seed): ((&str, f64, f64), u64)| {
        let cell = grid.cells.iter().find(|cell| cell.name == name).unwrap();
        let mut settings = cell.settings.clone();
        settings.seed = seed;
        let posterior = PosteriorLook {
            rate,
            active: 1,
            by_channel: Vec::new(),
            log_variance: [0.0; 2],
            variance_of_mean: 1.0,
            mean: 1.0,
        };
        let look = Look {
            step: 0,
            epoch: 0.0,
            losses: None,
            posterior: Some(posterior),
            squared_error: 0.0,
            explained,
            output_variance: 0.0,
            occupied: 0.0,
            gradient: None,
            edge: Profile::default(),
        };
        RunResult {
            format: 1,
            cell: name.into(),
            role: cell.role,
            seed,
            meshes: (0..12).map(|at| at.to_string()).collect(),
            settings,
            parameters: 0,
            data_occupied: 0.0,
            data_variance: 1.0,
            looks: vec![look],
            end: Some(End { of_mean: explained, ..End::default() }),
            diverged: None,
        }
    };
    runs.map(of).collect()
}

#[test]
fn learned_priors_are_judged_where_the_standard_one_fails() {
    const STANDARD: &str = "binary-mse-mean-1e-3";
    const MIXTURE: &str = "binary-mixture-1e-3";
    const VAMP: &str = "binary-vamp-1e-3";
    let of = |cells: &[(&str, f64, f64)], seeds: u64| {
        let all = verdicts(&results(cells, seeds));
        all.into_iter().find(|verdict| verdict.claim.starts_with("A learned prior repairs"))
    };
    let judged = |standard: f64, mixture: f64, vamp: f64| {
        let verdict =
            of(&[(STANDARD, standard, 2.2), (MIXTURE, mixture, 13.5), (VAMP, vamp, 2.5)], 3).unwrap();
        (verdict.outcome, verdict.effect, verdict.cells[0].clone())
    };
    assert_eq!(judged(-0.2, 0.94, 0.9), (Outcome::Supported, 0.9, VAMP.into()));
    assert_eq!(judged(-0.2, 0.01, -0.3), (Outcome::NotSupported, 0.01, MIXTURE.into()));
    assert_eq!(judged(-0.2, 0.94, -0.3).0, Outcome::Undecided, "one works, one fails");
    assert_eq!(judged(-0.2, 0.3, 0.2).0, Outcome::Undecided, "between the bounds");
    assert_eq!(judged(0.9, 0.94, 0.95).0, Outcome::Undecided, "nothing is there to repair");

    let whole = [(STANDARD, -0.2, 2.2), (MIXTURE, 0.94, 13.5), (VAMP, 0.9, 2.5)];
    let told = of(&whole, 3).unwrap().why;
    for part in ["binary-mixture-1e-3 0.940 at 13.500", "binary-mse-mean-1e-3 -0.200 at 2.200", "2.485 nats"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(of(&whole, 2).unwrap().outcome, Outcome::Undecided, "too few seeds");
    let missing = of(&whole[..2], 3).unwrap();
    assert_eq!(missing.outcome, Outcome::Undecided);
    assert!(missing.why.contains("for want of cells: vamp"), "{}", missing.why);
    assert_eq!(of(&whole[1..], 3).unwrap().outcome, Outcome::Undecided, "no standard prior beside them");
    assert!(of(&whole[..1], 3).is_none());

    // What a learned prior reaches says nothing of the plain Gaussian latent.
    let all = verdicts(&results(&whole, 3));
    let plain = all.iter().find(|verdict| verdict.claim.starts_with("A Gaussian latent")).unwrap();
    assert_eq!((plain.outcome, &plain.cells[..]), (Outcome::Supported, &[STANDARD.to_string()][..]));
}
