//! Options and settings that make no sense.

use super::*;

#[test]
fn options_that_the_parser_refuses_end_with_2() {
    let place = Place::new();
    let cases: [&[&str]; 13] = [
        &["trian"],
        &["rasterize"],
        &["rasterize", "good.obj"],
        &["rasterize", "good.obj", "-o", "out.npy", "--size", "0"],
        &["train", "--device", "gpu"],
        &["train", "--preset", "huge"],
        &["train", "--time", "soon"],
        &["check", "--device", "cuda:x"],
        &["bench", "--step", "--runs", "3"],
        &["bench", "--step", "--roofline", "new.svg"],
        &["bench", "--step", "--steps", "2"],
        &["bench", "--steps", "0"],
        &["bench", "--gradients", "out.safetensors"],
    ];
    for arguments in cases {
        let before = place.contents();
        let outcome = place.run(arguments);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(outcome.stderr.starts_with("error: ") && outcome.stderr.contains("--help"), "{arguments:?}");
        assert!(before == place.contents(), "{arguments:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let place = Place::new();
    for device in ["cuda", "cuda:9"] {
        let arguments =
            ["train", "good.obj", "--config", "tiny.toml", "--out", "new", "-q", "--device", device];
        place.refuses(&arguments, 1, &["--device", "cpu"]);
    }
}

#[test]
fn settings_out_of_range_are_refused_before_any_work() {
    let place = Place::new();
    let cases: [(&[&str], &str); 17] = [
        (&["--steps", "0"], "steps is 0"),
        (&["--batch", "0"], "batch is 0"),
        (&["--batch", "18446744073709551615"], "batch"),
        (&["--learning-rate", "nan"], "learning_rate"),
        (&["--learning-rate", "0"], "learning_rate"),
        (&["--sdf-weight", "inf"], "sdf_weight"),
        (&["--depth-weight", "0"], "depth_weight"),
        (&["--likelihood", "bernoulli"], "bernoulli is for binary planes"),
        (&["--positive-weight", "2"], "positive_weight is for likelihood bernoulli"),
        (&["--representation", "binary", "--positive-weight", "2"], "positive_weight is for"),
        (&["--representation", "binary", "--depth-weight", "2"], "depth_weight must be 1 for binary"),
        (&["--representation", "binary", "--fill-background"], "fill_background is for continuous planes"),
        (
            &["--representation", "binary", "--likelihood", "bernoulli", "--positive-weight", "0"],
            "positive_weight must be a positive number",
        ),
        (&["--kl-cap", "1"], "kl_cap means nothing for a deterministic latent"),
        (&["--beta", "1e-6"], "beta means nothing for a deterministic latent"),
        (&["--latent", "gaussian", "--beta", "nan"], "beta"),
        (&["--latent", "gaussian", "--kl-cap", "0"], "kl_cap"),
    ];
    for (more, part) in cases {
        let arguments =
            [&["train", "good.obj", "--config", "tiny.toml", "--out", "new", "-q"], more].concat();
        place.refuses(&arguments, 2, &["settings", part]);
    }
}

/// Each line of the file replaces one of the good settings.
#[test]
fn configurations_that_make_no_sense_are_refused() {
    let place = Place::new();
    let changed = |from: &str, to: &str| {
        assert!(TINY.contains(from), "{from}");
        TINY.replace(from, to)
    };
    let cases: Vec<(String, i32, &str)> = vec![
        ("steps = 1".into(), 1, "steps"),
        ("preset = 'huge'".into(), 1, "huge"),
        (changed("steps = 1", "stepz = 1"), 1, "stepz"),
        (changed("steps = 1", "steps = 'many'"), 1, "steps"),
        (changed("steps = 1", "steps = -1"), 1, "steps"),
        (changed("steps = 1", "steps = "), 1, "line 11"),
        (changed("[training]", "[training"), 1, "line 10"),
        (changed("planes = 32", "planes = 33"), 2, "planes is 33"),
        (changed("planes = 32", "planes = 1073741824"), 2, "planes"),
        (changed("planes = 32", "planes = 32\nchannels = 3"), 2, "channels"),
        (changed("widths = [8, 8]", "widths = [8]"), 2, ""),
        (changed("widths = [8, 8]", "widths = [8, 99999999999]"), 2, "widths"),
        (changed("widths = [8, 8]", "widths = [8, 16384]").replace("[0, 1]", "[0, 60]"), 1, "memory"),
        (changed("encoder_blocks = [0, 1]", "encoder_blocks = [0, 9999999999]"), 2, "encoder_blocks"),
        (changed("latent_channels = 32", "latent_channels = 999999999999"), 2, "latent_channels"),
        (changed("stem = 4", "stem = 9223372036854775807"), 2, "patch"),
        (format!("{TINY}[latent]\nkl_cap = 1.0\n"), 2, "kl_cap means nothing"),
        (format!("{TINY}[latent]\nkind = 'cubist'\n"), 1, "cubist"),
        (changed("sdf_points = 64", "sdf_points = 999999999999999"), 2, "sdf_points"),
        (changed("samples = 500", "samples = 999999999999999"), 2, "samples"),
        (changed("iou_grid = 8", "iou_grid = 999999"), 2, "iou_grid"),
        (changed("grid = 16", "grid = 1"), 2, "grid"),
        (format!("{TINY}thresholds = [nan]\n"), 2, "thresholds"),
        (format!("{TINY}[optimiser]\nbeta1 = 1.5\n"), 2, "beta1"),
        (format!("{TINY}[optimiser]\nepsilon = 0.0\n"), 2, "epsilon"),
        (format!("{TINY}[optimiser]\nclip_norm = -1.0\n"), 2, "clip_norm"),
        (format!("{TINY}[likelihood]\nkind = 'sigma'\nsigma_floor = 0.0\n"), 2, "sigma_floor"),
        (format!("{TINY}[likelihood]\nsigma_floor = -inf\n"), 2, "sigma_floor"),
        (format!("{TINY}[likelihood]\nkind = 'bernoulli'\n"), 2, "binary planes"),
        (format!("{TINY}[likelihood]\nkind = 'laplace'\n"), 1, "laplace"),
        (
            format!("representation = 'binary'\n{TINY}").replace("planes = 32", "planes = 32\nchannels = 4"),
            2,
            "channels",
        ),
        ("\u{0}".into(), 1, "line 1"),
    ];
    for (text, code, part) in cases {
        place.put("bad.toml", text);
        let arguments = ["train", "good.obj", "--config", "bad.toml", "--out", "new", "-q"];
        let place_named = if code == 1 && part != "memory" { "bad.toml" } else { "" };
        place.refuses(&arguments, code, &[place_named, part]);
    }
    place.put("bad.toml", [0xff, 0xfe]);
    place.refuses(&["train", "--config", "bad.toml", "--out", "new", "-q"], 1, &["bad.toml"]);
    place.refuses(
        &["train", "--config", "none.toml", "--out", "new", "-q"],
        1,
        &["none.toml", "check the path"],
    );
}

/// Processes that cannot find each other would all write the same run.
#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_is_not_started_several_times() {
    let place = Place::new();
    for rank in ["0", "1"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
        command.env("OMPI_COMM_WORLD_RANK", rank).env("OMPI_COMM_WORLD_SIZE", "2");
        let arguments = ["train", "good.obj", "--config", "tiny.toml", "--out", "run"];
        let output = command.args(arguments).current_dir(&place.folder).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let line = String::from_utf8(output.stderr).unwrap();
        let said = "hexcuda: mpirun: 2 processes were started, and this build has no MPI to join them; ";
        assert!(if rank == "0" { line.starts_with(said) } else { line.is_empty() }, "{line}");
        assert!(!place.at("run").exists());
    }
}
