//! Sets where the program takes meshes.

use super::{Place, TINY};
use std::fs;

/// A run over files and copies of them, and a set of the same files in full precision.
fn with_set(more: &[&str]) -> Place {
    let place = Place::new();
    place.put("all.toml", format!("{TINY}[validation]\nshare = 0.0\ntest_share = 0.0\n"));
    place.succeeds(&["head", "--count", "9", "-o", "heads"]);
    let train = ["train", "heads", "--config", "all.toml", "--out", "run", "--augment", "1", "-q"];
    place.succeeds(&train);
    let build = ["dataset", "build", "heads", "-o", "heads.set", "--size", "32", "--storage", "fp32", "-q"];
    place.succeeds(&[&build[..], more].concat());
    place
}

/// What a command prints and the file that it puts into the run, from files and from a set of them.
fn both(place: &Place, file: &str, command: [&str; 2], more: &[&str]) -> [(String, Vec<u8>); 2] {
    ["heads", "heads.set"].map(|input| {
        let arguments = [command[0], input, "--run", "run", "--held-out", input, command[1], "--json"];
        let told = place.succeeds(&[&arguments[..], more].concat()).stdout;
        (told, fs::read(place.at(&format!("run/{file}"))).unwrap())
    })
}

#[test]
fn a_codec_and_a_prior_are_fitted_to_a_set_as_to_its_files() {
    // Points and augmentation are for training alone.
    let place = with_set(&["--points", "0"]);
    let [files, set] = both(&place, "codec.safetensors", ["codec", "--step=0.01"], &[]);
    assert!(files == set, "{}\n{}", files.0, set.0);
    let [files, set] = both(&place, "prior.safetensors", ["prior", "--width=8"], &["--steps", "5"]);
    assert!(files == set, "{}\n{}", files.0, set.0);
    let train = ["train", "heads", "--config", "all.toml", "--out", "run2", "--held-out", "heads.set", "-q"];
    place.succeeds(&train);
    // Every eighth is set aside, of files and set as one row.
    let prior = ["prior", "heads", "heads.set", "--run", "run", "--width", "8", "--steps", "1", "--json"];
    let told: serde_json::Value = serde_json::from_str(&place.succeeds(&prior).stdout).unwrap();
    assert_eq!((told["latents"].as_u64(), told["judged"].as_u64()), (Some(16), Some(2)));
}

#[test]
fn a_set_that_does_not_serve_is_refused() {
    let place = with_set(&["--meshes", "false"]);
    let codec = ["codec", "heads", "--run", "run", "--held-out", "heads.set"];
    place.refuses(&codec, 1, &["no mesh to measure by", "name the files"]);
    let copies = ["prior", "heads.set", "--run", "run", "--augment", "1"];
    place.refuses(&copies, 2, &["--augment", "named as files"]);
    place.refuses(&["encode", "heads.set", "--run", "run", "-o", "a.hexz"], 1, &["heads.set"]);
    let sample = ["sample", "--run", "run", "-n", "1", "-o", "out", "--nearest-to", "heads.set"];
    place.succeeds(&["prior", "heads", "--run", "run", "--width", "8", "--steps", "1", "-q"]);
    place.refuses(&sample, 1, &["heads.set", "is a set", "dataset export"]);
    place.succeeds(&["dataset", "build", "heads", "-o", "small.set", "--size", "16", "-q"]);
    place.refuses(&["codec", "small.set", "--run", "run"], 1, &["small.set", "planes of 16", "32"]);
}
