//! Run folders, checkpoints and latent files that do not fit or are broken.

use super::*;
use safetensors::SafeTensors;

const TRAIN: [&str; 5] = ["train", "good.obj", "--config", "tiny.toml", "-q"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TRAIN[..], more].concat()
}

#[test]
fn a_run_is_not_overwritten_and_not_mixed_with_another() {
    let place = with_run();
    place.refuses(&train(&["--out", "run"]), 1, &["run/checkpoint.safetensors", "add --resume"]);
    place.refuses(&train(&["--out", "new", "--resume"]), 1, &["new/checkpoint.safetensors"]);
    let standard = ["train", "good.obj", "-q", "--preset", "standard", "--out", "run", "--resume"];
    place.refuses(&standard, 1, &["run/checkpoint.safetensors", "standard", "quick", "config.toml"]);
    place.put("wider.toml", TINY.replace("[8, 8]", "[8, 16]"));
    let wider = ["train", "good.obj", "-q", "--config", "wider.toml", "--out", "run", "--resume"];
    place.refuses(&wider, 1, &["`architecture.widths = [8, 8]`", "[8, 16]"]);
    place.refuses(&train(&["--out", "run", "--resume", "--seed", "7"]), 1, &["`seed = 0`", "`seed = 7`"]);
    place.refuses(&train(&["--out", "good.obj/run"]), 1, &["good.obj", "a part of the path is a file"]);
    place.succeeds(&train(&["--out", "run", "--resume", "--steps", "2"]));
}

#[test]
fn broken_checkpoints_are_refused() {
    let place = with_run();
    let path = "run/checkpoint.safetensors";
    let whole = fs::read(place.at(path)).unwrap();
    let text = String::from_utf8_lossy(&whole[8..]).into_owned();
    let start = text.find("{").unwrap() + 8;
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    let mut nan = whole.clone();
    let last = nan.len();
    nan[last - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "not a whole checkpoint"),
        (whole[..start + 30].to_vec(), "not a whole checkpoint"),
        (whole[..whole.len() / 2].to_vec(), "not a whole checkpoint"),
        (whole[..whole.len() - 1].to_vec(), "not a whole checkpoint"),
        (replaced("hexcuda-checkpoint-1", "hexcuda-checkpoint-9"), "expected hexcuda-checkpoint-1"),
        (replaced("\"decoder.in.weight", "\"decoder.in.waight"), "decoder.in.weight"),
        (replaced("planes = 32", "planes = 99"), "planes is 99"),
        (nan, "NaN"),
    ];
    for (bytes, part) in cases {
        place.put(path, bytes);
        place.refuses(&train(&["--out", "run", "--resume", "--steps", "2"]), 1, &[path, part]);
        place.refuses(&["train", "good.obj", "-q", "--out", "run", "--resume"], 1, &[path, part]);
        // The moments of the optimiser are not read for encoding.
        if part != "NaN" {
            place.refuses(&["encode", "--run", "run", "good.obj", "-o", "out.hexz"], 1, &[path, part]);
        }
    }
    place.refuses(&["encode", "--run", "none", "good.obj", "-o", "out.hexz"], 1, &["none/checkpoint"]);
}

#[test]
fn latents_of_another_model_and_broken_ones_are_refused() {
    let place = with_run();
    place.succeeds(&["decode", "--run", "run", "good.hexz", "-o", "good.ply"]);
    place.succeeds(&train(&["--out", "other", "--seed", "1"]));
    let good = fs::read(place.at("good.hexz")).unwrap();
    let decode = |run: &str, file: &str, parts: &[&str]| {
        place.refuses(&["decode", "--run", run, file, "-o", "out.ply", "--planes", "out.npy"], 1, parts);
    };
    decode("other", "good.hexz", &["good.hexz", "made by model", "--run"]);
    decode("run", "missing.hexz", &["missing.hexz", "check the path"]);
    decode("run", "good.obj", &["good.obj", "HEXZ"]);
    for (name, bytes) in
        [("cut.hexz", &good[..good.len() - 5]), ("empty.hexz", &[]), ("head.hexz", &good[..9])]
    {
        place.put(name, bytes);
        decode("run", name, &[name, "encode the mesh again"]);
    }
    place.refuses(&["decode", "--run", "run", "good.hexz", "-o", "out.txt"], 1, &["out.txt", "use .obj"]);
}

/// What `bench --gradients` leaves is what a step of training makes of the same checkpoint.
#[test]
fn a_benched_step_is_the_step_of_training() {
    let place = with_run();
    place.succeeds(&["bench", "good.obj", "--step", "--run", "run", "--gradients", "step.safetensors"]);
    place.succeeds(&train(&["--out", "run", "--resume", "--steps", "2"]));
    let read = |name: &str| fs::read(place.at(name)).unwrap();
    let (step, after) = (read("step.safetensors"), read("run/checkpoint.safetensors"));
    let step = SafeTensors::deserialize(&step).unwrap();
    let after = SafeTensors::deserialize(&after).unwrap();
    assert_eq!(step.tensor("planes").unwrap().shape(), [6, 4, 32, 32]);
    assert_eq!(step.tensor("points").unwrap().shape(), [1, 64, 3]);
    assert_eq!(step.tensor("distances").unwrap().shape(), [1, 64]);
    let mut parameters = 0;
    for name in after.names().into_iter().filter(|name| !name.starts_with("adam.")) {
        let (ours, theirs) = (step.tensor(&format!("updated.{name}")).unwrap(), after.tensor(name).unwrap());
        assert_eq!((ours.shape(), ours.data()), (theirs.shape(), theirs.data()), "{name}");
        assert_eq!(step.tensor(&format!("gradient.{name}")).unwrap().shape(), theirs.shape());
        parameters += 1;
    }
    // Beside them planes, points, distances and losses.
    assert_eq!(step.names().len(), 2 * parameters + 4);
}

#[test]
fn benched_steps_are_timed_one_by_one() {
    let place = with_run();
    let outcome = place.run(&["bench", "good.obj", "--steps", "3", "--run", "run", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["step_ms"].as_array().unwrap().len(), 3);
    place.refuses(&["bench", "--step", "--run", "none"], 1, &["none/checkpoint.safetensors"]);
}
