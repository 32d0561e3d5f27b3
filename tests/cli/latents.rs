//! Latents of every kind: what cannot be, what is drawn from them, and the way between two.

use super::*;

/// A run of a kind of latent, in `run`.
fn with_latent(options: &[&str]) -> Place {
    let place = Place::new();
    let train = ["train", "good.obj", "--config", "tiny.toml", "--out", "run", "-q"];
    place.succeeds(&[&train[..], options].concat());
    place
}

fn rows(outcome: &Outcome) -> Vec<serde_json::Value> {
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn every_prior_is_sampled_and_each_draw_follows_from_its_seed() {
    let kinds: [&[&str]; 5] = [
        &["--latent", "gaussian", "--prior", "mixture", "--components", "2"],
        &["--latent", "gaussian", "--prior", "vamp", "--components", "2"],
        &["--latent", "gaussian", "--beta", "1e-3"],
        &["--latent", "categorical", "--classes", "5", "--groups", "7"],
        &["--latent", "fsq", "--fsq-levels", "7,4"],
    ];
    for options in kinds {
        let place = with_latent(options);
        let sample = |seed: &str, out: &str| {
            let arguments = ["sample", "--run", "run", "-n", "3", "--seed", seed, "-o", out, "--json"];
            rows(&place.succeeds(&arguments))
        };
        let found = sample("1", "a");
        assert_eq!(found.len(), 3, "{options:?}");
        for (index, row) in found.iter().enumerate() {
            assert_eq!(row["name"], format!("sample-{index:03}"));
            assert_eq!(row["file"].is_null(), row["health"].is_null());
            assert!(row["file"].as_str().is_none_or(|file| place.at(file).exists()), "{row}");
        }
        sample("1", "b");
        sample("2", "c");
        let picture = |out: &str| fs::read(place.at(out).join("planes.png")).unwrap();
        assert!(picture("a") == picture("b"), "{options:?}: one seed, two draws");
        assert!(picture("a") != picture("c"), "{options:?}: two seeds, one draw");
        place.succeeds(&["encode", "--run", "run", "good.obj", "-o", "good.hexz"]);
        let way = ["interpolate", "--run", "run", "good.obj", "good.hexz", "-n", "2", "-o", "way", "--json"];
        assert_eq!(rows(&place.succeeds(&way)).len(), 2, "{options:?}");
    }
}

/// Two meshes that are normalised as they are, one of them the one trained on: `compare` in the frame of each is then the frame
/// of the samples.
#[test]
fn samples_are_compared_with_the_meshes_that_are_named() {
    let place = with_latent(&["--latent", "gaussian", "--prior", "mixture", "--components", "1"]);
    fs::create_dir(place.at("trained")).unwrap();
    let corner = "v -0.9 -0.9 -0.9\nv 0.9 -0.9 -0.9\nv -0.9 0.9 -0.9\nv -0.9 -0.9 0.9\n";
    place.put("trained/corner.obj", format!("{corner}f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"));
    let kite = "v 0.9 0.1 0.9\nv -0.9 0.1 -0.9\nv -0.9 -0.1 0.9\nv 0.9 -0.1 -0.9\n";
    place.put("trained/kite.obj", format!("{kite}f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"));
    let sample = ["sample", "--run", "run", "-n", "3", "-o", "out", "--nearest-to", "trained"];
    let found = rows(&place.succeeds(&[&sample[..], &["--json"]].concat()));
    let compared = |a: &str, b: &str| {
        let outcome = place.succeeds(&["compare", a, b, "--samples", "2000", "--json"]);
        let metrics: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        metrics["chamfer_l1"].as_f64().unwrap()
    };
    // 500 samples beside 2,000 of another draw.
    let alike = |a: f64, b: f64| (a / b - 1.0).abs() < 0.1;
    let between = compared("trained/corner.obj", "trained/kite.obj");
    let surfaces: Vec<&serde_json::Value> = found.iter().filter(|row| !row["file"].is_null()).collect();
    assert!(!surfaces.is_empty(), "{found:?}");
    for row in &surfaces {
        let file = row["file"].as_str().unwrap();
        let [corner, kite] = ["trained/corner.obj", "trained/kite.obj"].map(|mesh| compared(mesh, file));
        let nearest = &row["nearest"];
        assert_eq!(nearest["name"], if corner < kite { "corner" } else { "kite" }, "{row}");
        assert!(alike(nearest["chamfer_l1"].as_f64().unwrap(), corner.min(kite)), "{row}: {corner} {kite}");
        assert!(alike(nearest["between_meshes"].as_f64().unwrap(), between), "{row}: {between}");
    }
    let text = place.succeeds(&sample).stdout;
    assert!(text.lines().any(|line| line.contains(", nearest corner at 0.")), "{text}");
    assert!(text.lines().last().unwrap().contains("of 2 meshes: samples 0."), "{text}");

    // One mesh has no other; without names nothing is compared.
    let alone = ["sample", "--run", "run", "-n", "1", "-o", "out", "--nearest-to", "trained/corner.obj"];
    let text = place.succeeds(&alone).stdout;
    assert!(
        text.lines().last().unwrap().contains("another one n/a; ratio n/a, about 1 for new ones"),
        "{text}"
    );
    let plain = rows(&place.succeeds(&["sample", "--run", "run", "-n", "1", "-o", "out", "--json"]));
    assert!(plain[0].get("nearest").is_none());
    let none = ["sample", "--run", "run", "-o", "new", "--nearest-to", "none.obj"];
    place.refuses(&none, 1, &["none.obj"]);
    place.put("flat.obj", "v 0 0 0\n");
    place.refuses(&["sample", "--run", "run", "-o", "new", "--nearest-to", "flat.obj"], 1, &["flat"]);
}

#[test]
fn a_deterministic_latent_is_interpolated_and_not_sampled() {
    let place = with_run();
    let parts = ["run", "its latent is deterministic", "--latent"];
    place.refuses(&["sample", "--run", "run", "-o", "new"], 2, &parts);
    let way = ["interpolate", "--run", "run", "good.obj", "good.hexz", "-n", "3", "-o", "way", "--json"];
    let found = rows(&place.succeeds(&way));
    let names: Vec<&str> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["step-000", "step-001", "step-002"]);
    // Both ends are the same mesh.
    assert_eq!(found[0]["health"], found[2]["health"]);
    place.refuses(
        &["interpolate", "--run", "run", "good.obj", "good.hexz", "-n", "1", "-o", "new"],
        2,
        &["-n"],
    );
    place.refuses(&["interpolate", "--run", "run", "good.obj", "none.hexz", "-o", "new"], 1, &["none.hexz"]);
    place.refuses(&["interpolate", "--run", "none", "good.obj", "good.obj", "-o", "new"], 1, &["none"]);
}

/// A run of a kind of latent on nine heads in `heads`.
fn with_heads(options: &[&str]) -> Place {
    let place = Place::new();
    place.succeeds(&["head", "--count", "9", "-o", "heads"]);
    let train = ["train", "heads", "--config", "tiny.toml", "--out", "run", "-q"];
    place.succeeds(&[&train[..], options].concat());
    place
}

const PRIOR: [&str; 7] = ["prior", "heads", "--run", "run", "--width", "8", "--json"];

#[test]
fn a_second_stage_prior_serves_every_kind_of_latent() {
    let kinds: [&[&str]; 4] = [
        &["--latent", "deterministic"],
        &["--latent", "gaussian"],
        &["--latent", "categorical", "--classes", "5", "--groups", "7"],
        &["--latent", "fsq", "--fsq-levels", "7,4"],
    ];
    for options in kinds {
        let place = with_heads(options);
        let report: serde_json::Value =
            serde_json::from_str(&place.succeeds(&[&PRIOR[..], &["--steps", "30"]].concat()).stdout).unwrap();
        assert_eq!(
            (report["latents"].as_u64(), report["judged"].as_u64()),
            (Some(8), Some(1)),
            "{options:?}"
        );
        assert_eq!(report["components"], 7, "{options:?}");
        assert!(report["error"].as_f64().unwrap() <= report["gaussian_error"].as_f64().unwrap(), "{report}");
        let first = fs::read(place.at("run/prior.safetensors")).unwrap();
        place.succeeds(&[&PRIOR[..], &["--steps", "30"]].concat());
        let again = fs::read(place.at("run/prior.safetensors")).unwrap();
        assert!(first == again, "{options:?}: one seed, two priors");
        let picture = |seed: &str, more: &[&str]| {
            let sample = ["sample", "--run", "run", "-n", "2", "--seed", seed, "-o", "out"];
            place.succeeds(&[&sample[..], more].concat());
            fs::read(place.at("out/planes.png")).unwrap()
        };
        let drawn = picture("1", &["--second-stage"]);
        assert!(drawn == picture("1", &["--second-stage"]), "{options:?}: one seed, two draws");
        assert!(drawn != picture("2", &["--second-stage"]), "{options:?}: two seeds, one draw");
        // What has a prior of its own keeps it where nothing is said.
        assert_eq!(drawn == picture("1", &[]), options[1] == "deterministic", "{options:?}");
    }
}

#[test]
fn a_second_stage_prior_that_cannot_be_is_refused() {
    let place = with_heads(&[]);
    let sample = ["sample", "--run", "run", "-n", "1", "-o", "new", "--second-stage"];
    place.refuses(&sample, 2, &["prior.safetensors", "hexcuda prior"]);
    place.refuses(&["prior", "good.obj", "--run", "run"], 2, &["1 latent", "at least 2"]);
    place.refuses(&["prior", "good.obj", "good.obj", "--run", "run"], 2, &["all the same latent"]);
    place.refuses(&["prior", "heads", "--run", "none"], 1, &["none"]);
    place.refuses(&["prior", "heads", "--run", "run", "--width", "0"], 2, &["width is 0"]);
    assert!(!place.at("run/prior.safetensors").exists());
    place.succeeds(&[&PRIOR[..], &["--steps", "2"]].concat());
    let whole = fs::read(place.at("run/prior.safetensors")).unwrap();
    fs::write(place.at("run/prior.safetensors"), &whole[..whole.len() - 9]).unwrap();
    place.refuses(&sample, 1, &["prior.safetensors", "bytes"]);
    // Of another network.
    fs::write(place.at("run/prior.safetensors"), &whole).unwrap();
    place.succeeds(&["train", "heads", "--config", "tiny.toml", "--out", "run2", "--seed", "5", "-q"]);
    fs::copy(place.at("run2/checkpoint.safetensors"), place.at("run/checkpoint.safetensors")).unwrap();
    place.refuses(&sample, 1, &["prior.safetensors", "fitted to model", "hexcuda prior"]);
}

#[test]
fn latents_that_make_no_sense_are_refused() {
    let place = Place::new();
    let cases: [(&[&str], i32, &str); 12] = [
        (&["--prior", "vamp"], 2, "prior means nothing for a deterministic latent"),
        (&["--latent", "gaussian", "--components", "9"], 2, "components means nothing for a standard prior"),
        (
            &["--latent", "gaussian", "--prior", "vamp", "--free-bits", "1"],
            2,
            "free_bits needs a standard prior",
        ),
        (&["--latent", "gaussian", "--prior", "mixture", "--components", "0"], 2, "components is 0"),
        (&["--classes", "8"], 2, "classes means nothing for a deterministic latent"),
        (&["--latent", "fsq", "--beta", "1"], 2, "beta means nothing for a fsq latent"),
        (&["--latent", "gaussian", "--fsq-levels", "4"], 2, "fsq_levels means nothing"),
        (&["--latent", "fsq", "--fsq-levels", "1"], 2, "fsq_levels is [1]"),
        (&["--latent", "categorical", "--classes", "1"], 2, "1 classes"),
        (&["--latent", "categorical", "--groups", "0"], 2, "0 groups"),
        (&["--latent", "categorical", "--groups", "33"], 2, "more groups of classes than latent_channels"),
        (&["--latent", "categorical", "--classes", "16777216"], 1, "--classes"),
    ];
    for (more, code, part) in cases {
        let arguments =
            [&["train", "good.obj", "--config", "tiny.toml", "--out", "new", "-q"], more].concat();
        place.refuses(&arguments, code, &[part]);
    }
}
