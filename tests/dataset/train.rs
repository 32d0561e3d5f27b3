//! Training over sets: the same bits as over meshes, after any stop, and none of the parts mixed up.

use super::*;
use hexcuda::dataset::{Shares, Split, split_of};
use hexcuda::error::Kind;
use hexcuda::hexplane::cache::Storage;
use hexcuda::train::{Augmentation, Given, Options, Preset, Settings, Trainer, Validation, train_on};
use std::sync::Arc;

const CONFIG: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 8\nstem = 4\nlatent_channels = 16\n\
    widths = [8, 8]\nencoder_blocks = [0, 1]\ndecoder_blocks = [0, 1]\n[training]\nsteps = 12\nbatch = 2\nsdf_points = 64\n\
    schedule = 'constant'\nsnapshots = 2\n[extraction]\ngrid = 16\n[metrics]\nsamples = 300\niou_grid = 8\n\
    [validation]\nshare = 0.25\ntest_share = 0.2\nevery = 4\nmeshes = 2\n";

fn config(folder: &Path) -> Settings {
    let path = folder.join("config.toml");
    fs::write(&path, CONFIG).unwrap();
    Settings::load(None, Some(&path)).unwrap()
}

/// A set of 14 ellipsoids for such a network.
fn set(folder: &Path, storage: Storage) -> Arc<Set> {
    let meshes = meshes(folder, 14);
    let path = folder.join(format!("set-{storage:?}"));
    let settings = SetSettings { size: 32, points: 512, storage, ..SetSettings::default() };
    build_from(&in_folders(&[meshes]).unwrap(), &path, &settings).unwrap();
    Arc::new(Set::open(&path).unwrap())
}

fn run(out: &Path, settings: &Settings, given: &Given, resume: bool, stop: bool) -> hexcuda::Result<()> {
    let options = Options {
        held_out: Vec::new(),
        out: out.to_path_buf(),
        resume,
        time: None,
        quiet: true,
        tensorboard: false,
        device: Device::Cpu,
        interrupt: &AtomicBool::new(stop),
    };
    train_on(settings, given, &options)
}

/// What a stop must not change.
fn kept(out: &Path) -> Vec<(String, Vec<u8>)> {
    let names = [
        "checkpoint.safetensors",
        "best.safetensors",
        "validation.csv",
        "decoded.safetensors",
        "inputs.json",
    ];
    names.map(|name| (name.to_string(), fs::read(out.join(name)).unwrap_or_default())).to_vec()
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_run_over_a_set_that_was_stopped_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [set(folder.path(), Storage::Fp16)];
    let given = Given { sets: &sets, ..Given::default() };
    let off = Augmentation::default();
    for augmentation in
        [off, Augmentation { mirror: 0.5, ..off }, Augmentation { mirror: 0.5, turn: 5.0, scale: 0.1 }]
    {
        let settings = Settings { augmentation, ..config(folder.path()) };
        let [whole, parts] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        run(whole.path(), &settings, &given, false, false).unwrap();
        for step in 0..7 {
            let error = run(parts.path(), &settings, &given, step > 0, true).unwrap_err();
            assert_eq!(error.kind(), Kind::Interrupted, "{error}");
        }
        run(parts.path(), &settings, &given, true, false).unwrap();
        for ((name, a), (_, b)) in kept(whole.path()).into_iter().zip(kept(parts.path())) {
            assert!(!a.is_empty() && a == b, "{augmentation:?}: {name} differs");
        }
        let rows = fs::read_to_string(whole.path().join("validation.csv")).unwrap();
        let steps: Vec<&str> = rows.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(steps, ["4", "8", "12"]);
        let best = summary(whole.path())["best_step"].as_u64().unwrap();
        let score = |line: &str| line.split(',').nth(1).unwrap().parse::<f64>().unwrap();
        let top = rows.lines().skip(1).map(score).fold(0.0, f64::max);
        let of_best = rows.lines().skip(1).find(|line| line.starts_with(&format!("{best},"))).map(score);
        assert_eq!(of_best, Some(top), "{rows}");
    }
}

/// The same planes and points: where they lie makes no difference. Other draws: augmentation does.
#[test]
fn where_planes_lie_makes_no_difference_and_augmentation_does() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), Storage::Fp32);
    let mut settings = config(folder.path());
    // The pool of points of meshes is larger than the set's.
    settings.training.sdf_weight = 0.0;
    settings.validation = Validation { share: 0.0, test_share: 0.0, ..settings.validation };
    let losses = |settings: &Settings, given: &Given| -> Vec<String> {
        let out = tempfile::tempdir().unwrap();
        run(out.path(), settings, given, false, false).unwrap();
        let rows = fs::read_to_string(out.path().join("metrics.csv")).unwrap();
        rows.lines().skip(1).map(|row| row.split(',').nth(2).unwrap().to_string()).collect()
    };
    let sources: Vec<(String, Mesh)> = set
        .entries
        .iter()
        .map(|entry| (entry.name.clone(), io::read(Path::new(&entry.origin.source)).unwrap()))
        .collect();
    let of_meshes = losses(&settings, &Given { meshes: &sources, ..Given::default() });
    let sets = [set];
    let of_set = losses(&settings, &Given { sets: &sets, ..Given::default() });
    assert_eq!(of_meshes, of_set);
    settings.architecture.fill_background = true;
    let filled = losses(&settings, &Given { sets: &sets, ..Given::default() });
    assert_ne!(filled, of_set);
    assert_eq!(filled, losses(&settings, &Given { meshes: &sources, ..Given::default() }));
    settings.architecture.fill_background = false;
    settings.augmentation.mirror = 1.0;
    let mirrored = losses(&settings, &Given { sets: &sets, ..Given::default() });
    assert_ne!(mirrored, of_set);
    assert_eq!(mirrored, losses(&settings, &Given { meshes: &sources, ..Given::default() }));
}

#[test]
fn parts_are_told_by_names_and_summed_up_apart() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [set(folder.path(), Storage::Fp16)];
    let settings = config(folder.path());
    let out = tempfile::tempdir().unwrap();
    run(
        out.path(),
        &settings,
        &Given { sets: &sets, held_out_sets: &sets, ..Given::default() },
        false,
        false,
    )
    .unwrap();
    let shares = Shares { validation: 0.25, test: 0.2 };
    let of = |part: Split| -> Vec<String> {
        names(&sets[0]).into_iter().filter(|name| split_of(name, shares) == part).collect()
    };
    let summary = summary(out.path());
    let listed = |part: &str| -> Vec<String> {
        let meshes = summary[part]["meshes"].as_array().unwrap();
        meshes.iter().map(|mesh| mesh["name"].as_str().unwrap().to_string()).collect()
    };
    let [train, validation, test] = [Split::Train, Split::Validation, Split::Test].map(of);
    assert!(validation.len() >= 2 && !test.is_empty(), "{validation:?} {test:?}");
    assert_eq!((listed("validation"), listed("test")), (validation.clone(), test.clone()));
    assert_eq!(listed("held_out").len(), 14);
    assert_eq!(listed_of(&summary["meshes"]), train[..4]);
    let inputs: serde_json::Value =
        serde_json::from_slice(&fs::read(out.path().join("inputs.json")).unwrap()).unwrap();
    let found = &inputs["sets"][0];
    assert_eq!(
        [&found["train"], &found["validation"], &found["test"]],
        [train.len(), validation.len(), test.len()]
    );
    assert!(summary["input_seconds"].as_f64().unwrap() > 0.0);
}

fn listed_of(meshes: &serde_json::Value) -> Vec<String> {
    meshes.as_array().unwrap().iter().map(|mesh| mesh["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn a_run_that_does_not_get_better_ends() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [set(folder.path(), Storage::Fp16)];
    let given = Given { sets: &sets, ..Given::default() };
    let mut settings = config(folder.path());
    // Nothing is learned: the first look stays the best.
    settings.optimiser.learning_rate = 1e-30;
    settings.training.steps = 100;
    settings.validation = Validation { every: 2, patience: 3, ..settings.validation };
    let out = tempfile::tempdir().unwrap();
    run(out.path(), &settings, &given, false, false).unwrap();
    let found = summary(out.path());
    assert_eq!((found["steps"].as_u64(), found["best_step"].as_u64()), (Some(8), Some(2)));
    // Nor does it go on.
    run(out.path(), &settings, &given, true, false).unwrap();
    assert_eq!(summary(out.path())["steps"], 8);
}

#[test]
fn sets_that_do_not_fit_and_sets_that_changed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), Storage::Fp16);
    let settings = config(folder.path());
    let refused = |settings: &Settings, sets: &[Arc<Set>], resume: bool, part: &str| {
        let out = folder.path().join(if resume { "run" } else { "none" });
        let error = run(&out, settings, &Given { sets, ..Given::default() }, resume, false).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(part), "{part:?} in {error}");
        assert_eq!(out.exists(), resume, "{part}");
    };
    let sets = [set.clone()];
    let changed = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        settings
    };
    refused(&changed(&|s| s.architecture.planes = 64), &sets, false, "planes of 32, the settings 64");
    refused(&changed(&|s| s.up = "z".parse().unwrap()), &sets, false, "up is y, the settings z");
    refused(&changed(&|s| s.training.augment = 1), &sets, false, "--augment");
    let bare = SetSettings { size: 32, points: 0, meshes: false, ..SetSettings::default() };
    let path = folder.path().join("bare");
    build_from(&in_folders(&[folder.path().join("meshes")]).unwrap(), &path, &bare).unwrap();
    let bare = [Arc::new(Set::open(&path).unwrap())];
    refused(&settings, &bare, false, "no points");
    let without = changed(&|s| {
        s.training.sdf_weight = 0.0;
        s.augmentation.turn = 3.0;
    });
    refused(&without, &bare, false, "keeps none");
    // Without meshes the planes' own surface is what is compared with.
    let plain = changed(&|s| s.training.sdf_weight = 0.0);
    let out = folder.path().join("of-planes");
    run(&out, &plain, &Given { sets: &bare, ..Given::default() }, false, false).unwrap();
    assert_eq!(summary(&out)["ceiling"]["scores"][2]["f_score"], 1.0);

    let run_folder = folder.path().join("run");
    let error =
        run(&run_folder, &settings, &Given { sets: &sets, ..Given::default() }, false, true).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    let trained = set.entries.iter().find(|entry| {
        split_of(&entry.name, Shares { validation: 0.25, test: 0.2 }) == Split::Train
            && !entry.name.contains('/')
    });
    let file = PathBuf::from(&trained.unwrap().origin.source);
    io::write(&file, &ellipsoid(0.1)).unwrap();
    let own = SetSettings { size: 32, points: 512, ..SetSettings::default() };
    build_from(&in_folders(&[folder.path().join("meshes")]).unwrap(), set.path(), &own).unwrap();
    let again = [Arc::new(Set::open(set.path()).unwrap())];
    refused(&settings, &again, true, "other meshes of sets");
}

/// The system tells what is free on Linux alone.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_the_memory_has_no_room_for_is_refused_with_one_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = config(folder.path());
    settings.training.batch = 60_000;
    // A batch is never more than there are meshes.
    Trainer::require(&Device::Cpu, &settings, 14).unwrap();
    settings.architecture = Settings::preset(Preset::Quick).architecture;
    let line = Trainer::require(&Device::Cpu, &settings, 60_000).unwrap_err().to_string();
    let batch = line.rsplit("take --batch ").next().unwrap();
    assert!(line.starts_with("a step of 60000 meshes: ") && batch.parse::<usize>().unwrap() >= 1, "{line}");
    settings.training.batch = batch.parse().unwrap();
    Trainer::require(&Device::Cpu, &settings, 60_000).unwrap();
}

/// The program takes a set where it takes meshes; a corrupted one ends it with exit code 1 and one line.
#[test]
fn the_program_trains_over_a_set_and_refuses_a_corrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let set = set(folder.path(), Storage::Fp16);
    config(folder.path());
    let train = |out: &str| {
        program(
            &["train", "set-Fp16", "--config", "config.toml", "--out", out, "--steps", "12", "-q"],
            folder.path(),
        )
    };
    let (code, _, errors) = train("run");
    assert_eq!(code, Some(0), "{errors}");
    for name in ["report.html", "best.safetensors", "validation.csv", "input.ply", "summary.json"] {
        assert!(folder.path().join("run").join(name).exists(), "{name}");
    }
    let shard = set.path().join("shards/00000.bin");
    let mut bytes = fs::read(&shard).unwrap();
    let place = set.entries[0].place.clone().unwrap();
    bytes[place.offset as usize + 300] ^= 4;
    drop(set);
    fs::write(&shard, bytes).unwrap();
    let (code, said, errors) = train("other");
    assert_eq!((code, said.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.lines().count() == 1 && errors.contains("e0") && errors.contains("checksum"), "{errors}");
}
