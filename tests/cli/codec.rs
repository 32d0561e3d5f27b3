//! Coded latent files: `codec`, `encode` and `decode` from end to end.

use super::*;
use serde_json::Value;

/// A run of a kind of latent on five heads in `heads`, with a codec.
fn with_codec(options: &[&str]) -> Place {
    let place = Place::new();
    place.succeeds(&["head", "--count", "5", "-o", "heads"]);
    let train = ["train", "heads", "--config", "tiny.toml", "--out", "run", "-q"];
    place.succeeds(&[&train[..], options].concat());
    place.succeeds(&["codec", "heads", "--run", "run", "-q"]);
    place
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

const ENCODE: [&str; 6] = ["encode", "--run", "run", "heads/head_001.ply", "-o", "a.hexz"];

/// The decoded planes, and what was said. After one step of training not every kind of latent has a surface; planes are there all the same.
fn run_decode(place: &Place, file: &str, more: &[&str]) -> (Vec<u8>, String) {
    let _ = fs::remove_file(place.at("a.npy"));
    let decode = ["decode", "--run", "run", file, "-o", "a.ply", "--planes", "a.npy"];
    let outcome = place.run(&[&decode[..], more].concat());
    assert!(outcome.code == Some(0) || outcome.stderr.contains("no surface"), "{file}: {}", outcome.stderr);
    (fs::read(place.at("a.npy")).unwrap(), outcome.stderr)
}

#[test]
fn every_kind_of_latent_is_coded() {
    let kinds: [(&[&str], bool); 4] = [
        (&["--latent", "deterministic"], true),
        (&["--latent", "gaussian"], true),
        (&["--latent", "categorical", "--classes", "5", "--groups", "7"], false),
        (&["--latent", "fsq", "--fsq-levels", "7,4"], false),
    ];
    for (options, continuous) in kinds {
        let place = with_codec(options);
        let list = [&ENCODE[..], &["--json", "--list"]].concat();
        let report = json(&place.succeeds(&list));
        let file = fs::read(place.at("a.hexz")).unwrap();
        assert_eq!(report["bytes"], file.len(), "{options:?}: {report}");
        let layers = report["layers"].as_array().unwrap();
        let ends: Vec<u64> = layers.iter().map(|layer| layer["end"].as_u64().unwrap()).collect();
        assert_eq!(ends.last(), Some(&(file.len() as u64)), "{options:?}");
        assert_eq!(layers.last().unwrap()["error"], report["error"], "{options:?}");
        let vertices = report["vertices"].as_f64().unwrap();
        assert_eq!(report["bits_per_vertex"].as_f64().unwrap(), 8.0 * file.len() as f64 / vertices);
        place.succeeds(&list);
        assert!(file == fs::read(place.at("a.hexz")).unwrap(), "{options:?}: one mesh, two files");
        let (whole, said) = run_decode(&place, "a.hexz", &[]);
        assert!(!said.contains("layers"), "{options:?}: {said}");
        place.succeeds(&[&ENCODE[..], &["--uncompressed", "-q"]].concat());
        let plain = fs::read(place.at("a.hexz")).unwrap();
        assert!(plain.len() > 2 * file.len(), "{options:?}: {} and {}", plain.len(), file.len());
        let (uncoded, _) = run_decode(&place, "a.hexz", &[]);
        // Indices say all that there is of a latent; steps do not.
        assert_eq!(whole == uncoded, !continuous, "{options:?}");
        // Cut at a mark a file is one of fewer layers; else it is refused, unless it is asked for in parts.
        fs::write(place.at("whole.hexz"), &file).unwrap();
        for (count, &end) in (1..).zip(&ends[..ends.len() - 1]) {
            fs::write(place.at("cut.hexz"), &file[..end as usize]).unwrap();
            let (cut, said) = run_decode(&place, "cut.hexz", &[]);
            assert!(said.contains(&format!("{count} of {} layers", ends.len())), "{said}");
            let (first, _) = run_decode(&place, "whole.hexz", &["--layers", &count.to_string()]);
            assert!(cut == first, "{options:?}: {count} layers");
            fs::write(place.at("cut.hexz"), &file[..end as usize + 1]).unwrap();
            let refused = ["decode", "--run", "run", "cut.hexz", "-o", "new.ply"];
            place.refuses(&refused, 1, &["cut.hexz", "cut within layer", "--partial"]);
            assert!(cut == run_decode(&place, "cut.hexz", &["--partial"]).0, "{options:?}");
        }
    }
}

#[test]
fn steps_and_bounds() {
    let place = with_codec(&[]);
    let with = |more: &[&str]| json(&place.succeeds(&[&ENCODE[..], &["--json"], more].concat()));
    let (fine, usual, coarse) = (with(&["--coarser", "-8"]), with(&[]), with(&["--coarser", "8"]));
    let bytes = |report: &Value| report["bytes"].as_u64().unwrap();
    assert!(bytes(&fine) > bytes(&usual) && bytes(&usual) > bytes(&coarse), "{fine} {usual} {coarse}");
    run_decode(&place, "a.hexz", &[]);
    let text = place.succeeds(&[&ENCODE[..], &["--list"]].concat()).stdout;
    assert!(text.contains("bits a vertex") && text.contains("ceiling") && text.contains("layer"), "{text}");

    // The bound: the file is there, the exit code says that it was missed.
    let found = usual["error"]["hausdorff_95"].as_f64().unwrap();
    let [near, far] = [0.9, 1.1].map(|part| (part * found).to_string());
    fs::remove_file(place.at("a.hexz")).unwrap();
    let bounded = |most: &str| place.run(&[&ENCODE[..], &["-q", "--max-error", most]].concat());
    one_line(&["--max-error"], &bounded(&near), 1, &["a.hexz", "95 % Hausdorff", "--coarser -4"]);
    assert!(place.at("a.hexz").exists());
    assert_eq!(bounded(&far).code, Some(0));
    assert_eq!(bounded("0").code, Some(2));
}

#[test]
fn held_out_meshes_are_measured() {
    let place = with_codec(&[]);
    let arguments = ["codec", "heads", "--run", "run", "--held-out", "good.obj", "--json"];
    let report = json(&place.succeeds(&arguments));
    assert_eq!((report["latents"].as_u64(), report["components"].as_u64()), (Some(5), Some(4)));
    let rates = report["held_out"]["rates"].as_array().unwrap();
    let bytes: Vec<f64> = rates.iter().map(|rate| rate["bytes"].as_f64().unwrap()).collect();
    assert!(bytes.windows(2).all(|pair| pair[0] >= pair[1]) && bytes[0] > bytes[6], "{bytes:?}");
    // A row is what encode writes.
    let encoded = ["encode", "--run", "run", "good.obj", "-o", "g.hexz", "--coarser", "4", "--json"];
    let encoded = json(&place.succeeds(&encoded));
    assert_eq!(rates[3]["coarser"], 4);
    assert_eq!(rates[3]["hausdorff_95"], encoded["error"]["hausdorff_95"]);
    assert_eq!(rates[3]["bytes"].as_f64(), encoded["bytes"].as_f64());
    assert_eq!(report["held_out"]["ceiling"], encoded["ceiling"]);
}

#[test]
fn a_codec_that_does_not_fit_is_refused() {
    let place = with_codec(&[]);
    place.succeeds(&[&ENCODE[..], &["-q"]].concat());
    let read = ["decode", "--run", "run", "a.hexz", "-o", "new.ply"];
    let file = fs::read(place.at("a.hexz")).unwrap();
    for at in [0, 5, 12, 40, file.len() / 2, file.len() - 1] {
        let mut damaged = file.clone();
        damaged[at] ^= 0x20;
        fs::write(place.at("a.hexz"), damaged).unwrap();
        place.refuses(&read, 1, &["a.hexz", "encode the mesh again"]);
    }
    fs::write(place.at("a.hexz"), &file).unwrap();
    let codec = fs::read(place.at("run/codec.safetensors")).unwrap();
    // Another codec of the same network, none, half of one, and one that was changed by hand.
    place.succeeds(&["codec", "heads", "--run", "run", "--step", "0.01", "-q"]);
    place.refuses(&read, 1, &["a.hexz", "made with codec"]);
    fs::remove_file(place.at("run/codec.safetensors")).unwrap();
    place.refuses(&read, 2, &["codec.safetensors", "hexcuda codec"]);
    place.refuses(&[&ENCODE[..], &["--list"]].concat(), 2, &["codec.safetensors", "hexcuda codec"]);
    fs::write(place.at("run/codec.safetensors"), &codec[..codec.len() - 9]).unwrap();
    place.refuses(&read, 1, &["codec.safetensors", "bytes"]);
    let mut changed = codec.clone();
    let last = changed.len() - 4;
    changed[last..].copy_from_slice(&2f32.to_le_bytes());
    fs::write(place.at("run/codec.safetensors"), changed).unwrap();
    place.refuses(&read, 1, &["codec.safetensors"]);
    // Of another network.
    fs::write(place.at("run/codec.safetensors"), &codec).unwrap();
    place.succeeds(&["train", "heads", "--config", "tiny.toml", "--out", "run2", "--seed", "5", "-q"]);
    fs::copy(place.at("run2/checkpoint.safetensors"), place.at("run/checkpoint.safetensors")).unwrap();
    place.refuses(&read, 1, &["a.hexz", "made by model"]);
    place.refuses(&ENCODE, 1, &["codec.safetensors", "fitted to model", "hexcuda codec"]);
}

#[test]
fn wrong_usage() {
    let place = with_codec(&["--latent", "fsq", "--fsq-levels", "7"]);
    place.refuses(&[&ENCODE[..], &["--coarser", "4"]].concat(), 2, &["--coarser", "discrete"]);
    place.refuses(&[&ENCODE[..], &["--list", "--uncompressed"]].concat(), 2, &["--uncompressed"]);
    place.refuses(&["codec", "good.obj", "--run", "run"], 2, &["1 latent", "at least 2"]);
    place.refuses(&["codec", "heads", "--run", "run", "--step", "0"], 2, &["step is 0"]);
    place.refuses(&["codec", "heads", "--run", "none"], 1, &["none"]);
}
