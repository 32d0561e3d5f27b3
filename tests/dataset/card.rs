//! Sets on a card, on the software driver: the losses of the CPU, whether planes stay there or every visit brings its own.

use super::*;
use hexcuda::dataset::heads;

const CONFIG: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 16\nstem = 8\nlatent_channels = 16\n\
    widths = [8, 12]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 4\nbatch = 2\nsdf_points = 64\n\
    plane_cache = 'fp32'\n[extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n[validation]\nshare = 0.4\nevery = 2\n\
    meshes = 1\n";

/// As between any run on the two (tests/emulated.rs): sums are rounded in another order.
const TOLERANCE: f64 = 1e-3;

#[test]
fn a_run_over_a_set_has_the_losses_of_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let settings = SetSettings { size: 32, points: 512, ..SetSettings::default() };
    build_from(&heads(6, 0, 2000), &folder.path().join("set"), &settings).unwrap();
    for augmentation in ["mirror = 0.0", "mirror = 0.5", "mirror = 0.5\nturn = 3.0"] {
        fs::write(folder.path().join("config.toml"), format!("{CONFIG}[augmentation]\n{augmentation}\n"))
            .unwrap();
        let numbers = |device: &str, file: &str, column: usize| -> Vec<f64> {
            let text = fs::read_to_string(folder.path().join(device).join(file)).unwrap();
            text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
        };
        for device in ["cpu", "emulated"] {
            let _ = fs::remove_dir_all(folder.path().join(device));
            let command = [
                "train",
                "set",
                "--config",
                "config.toml",
                "-q",
                "--device",
                device,
                "--precision",
                "fp32",
                "--out",
                device,
            ];
            let (code, _, errors) = program(&command, folder.path());
            assert_eq!(code, Some(0), "{errors}");
        }
        for (file, column, count) in [("metrics.csv", 2, 4), ("validation.csv", 2, 2)] {
            let (ours, cpu) = (numbers("emulated", file, column), numbers("cpu", file, column));
            assert_eq!(ours.len(), count);
            for (a, b) in ours.iter().zip(&cpu) {
                assert!(
                    (a - b).abs() <= TOLERANCE * b.abs(),
                    "{augmentation}, {file}: {ours:?} against {cpu:?}"
                );
            }
        }
    }
}
