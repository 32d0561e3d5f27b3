//! A small grid from end to end: what is predicted, kept, gone on with, refused and shown.

use hexcuda::device::Device;
use hexcuda::diagnose::{Grid, Options, Outcome, RunResult, Verdict, diagnose};
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
