//! On a machine with a card: the checks in every precision and a tiny training run, on that card. Elsewhere there is nothing to
//! test here; the other tests run the same kernels on the software driver.

use std::path::Path;
use std::process::{Command, Output};

const TINY: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 16\nstem = 8\nlatent_channels = 16\n\
    widths = [8, 12]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 3\nsdf_points = 64\n\
    plane_cache = 'fp32'\n[extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n";

fn hexcuda(arguments: &[&str], folder: &Path) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_hexcuda")).args(arguments).current_dir(folder).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    output
}

fn there_is_one(folder: &Path) -> bool {
    let found = hexcuda(&["devices"], folder).stdout.starts_with(b"used: cuda");
    if !found {
        eprintln!("no card here: nothing to test");
    }
    found
}

#[test]
fn every_check_passes_on_the_card() {
    let folder = tempfile::tempdir().unwrap();
    if there_is_one(folder.path()) {
        for precision in ["tf32", "bf16", "fp16", "fp32"] {
            hexcuda(&["check", "--quiet", "--device", "cuda", "--precision", precision], folder.path());
        }
    }
}

/// The tolerance of the software driver's run in tests/emulated.rs, for its reason.
#[test]
fn a_run_on_the_card_has_the_losses_of_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    if !there_is_one(folder.path()) {
        return;
    }
    std::fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    let losses = |device: &str| -> Vec<f64> {
        let train = ["train", "--config", "tiny.toml", "--quiet", "--precision", "fp32", "--device", device];
        hexcuda(&[&train[..], &["--out", device]].concat(), folder.path());
        let text = std::fs::read_to_string(folder.path().join(device).join("metrics.csv")).unwrap();
        text.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect()
    };
    let (card, cpu) = (losses("cuda"), losses("cpu"));
    assert_eq!(card.len(), 3);
    for (a, b) in card.iter().zip(&cpu) {
        assert!((a - b).abs() <= 1e-3 * b.abs(), "{card:?} against {cpu:?}");
    }
}
