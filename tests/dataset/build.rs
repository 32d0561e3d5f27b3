//! Building: contents, going on, adding, and the commands around it.

use super::*;
use hexcuda::dataset::heads;
use hexcuda::hexplane::cache::Storage;
use hexcuda::hexplane::rasterize::rasterize;
use hexcuda::mesh::distance::MeshDistance;
use hexcuda::mesh::normalise::normalise;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_record_is_what_its_mesh_gives() {
    let folder = tempfile::tempdir().unwrap();
    let meshes = meshes(folder.path(), 4);
    for storage in [Storage::Fp32, Storage::Fp16] {
        let settings = SetSettings { storage, ..settings() };
        let set = folder.path().join(format!("{storage:?}"));
        let report =
            build_from(&in_folders(std::slice::from_ref(&meshes)).unwrap(), &set, &settings).unwrap();
        assert_eq!((report.added, report.changed, report.unchanged, report.skipped.len()), (4, 0, 0, 1));
        let set = Set::open(&set).unwrap();
        assert_eq!(names(&set), ["e0", "e1", "e3", "more/e2"]);
        assert!(set.skipped[0].name == "broken" && report.skipped[0].0 == "broken");
        let reason = set.skipped[0].skipped.as_ref().unwrap();
        assert!(reason.contains("broken.obj: line 2"), "{reason}");
        let record = set.record(set.find("more/e2").unwrap()).unwrap();
        let (mesh, transform) =
            normalise(&io::read(&meshes.join("more/e2.ply")).unwrap(), settings.up).unwrap();
        assert_eq!(record.mesh().unwrap(), mesh);
        assert_eq!(record.transform(), transform);
        let planes =
            rasterize(&mesh, &transform, settings.size, settings.representation, settings.normals).unwrap();
        let expected: Vec<f32> = match storage {
            Storage::Fp32 => planes.values,
            Storage::Fp16 => planes.values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect(),
        };
        assert_eq!(&record.planes()[..], &expected[..]);
        // Fp32 planes are read where they lie.
        assert_eq!(matches!(record.planes(), std::borrow::Cow::Borrowed(_)), storage == Storage::Fp32);
        assert_eq!(record.points().len(), 64);
        let distances = MeshDistance::new(&mesh).unwrap().signed_distances(record.points());
        assert_eq!(record.distances(), &distances[..]);
        // Not clipped: half of the points lie anywhere in the cube.
        assert!(distances.iter().any(|d| d.abs() > 0.3));
    }
}

#[test]
fn files_that_are_added_or_changed_are_taken_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (meshes, set) = (meshes(folder.path(), 4), folder.path().join("set"));
    build(&meshes, &set).unwrap();
    let first = files(&set);
    let again = build(&meshes, &set).unwrap();
    assert_eq!((again.added, again.changed, again.unchanged, again.skipped.len()), (0, 0, 4, 1));
    assert!(files(&set) == first, "a build without anything to do changes a file");

    io::write(&meshes.join("new.stl"), &ellipsoid(0.9)).unwrap();
    io::write(&meshes.join("e1.obj"), &ellipsoid(0.3)).unwrap();
    fs::write(
        meshes.join("broken.obj"),
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n",
    )
    .unwrap();
    // The same content at another date is not made again.
    fs::write(meshes.join("e0.obj"), fs::read(meshes.join("e0.obj")).unwrap()).unwrap();
    // What is gone stays in the set.
    fs::remove_file(meshes.join("e3.obj")).unwrap();
    let report = build(&meshes, &set).unwrap();
    assert_eq!((report.added, report.changed, report.unchanged, report.skipped.len()), (1, 2, 2, 0));
    let open = Set::open(&set).unwrap();
    assert_eq!(names(&open), ["broken", "e0", "e1", "e3", "more/e2", "new"]);
    assert!(open.corrupted().is_empty());
    let (mesh, _) = normalise(&ellipsoid(0.3), settings().up).unwrap();
    let found = open.record(open.find("e1").unwrap()).unwrap().mesh().unwrap();
    assert_eq!(found.triangles, mesh.triangles);
    // The record that was replaced is still there, and counted.
    let (bytes, unused) = open.bytes();
    assert!(unused > 0 && unused < bytes / 3, "{unused} of {bytes}");

    // A file whose name without ending is taken.
    io::write(&meshes.join("e0.ply"), &ellipsoid(0.7)).unwrap();
    let report = build(&meshes, &set).unwrap();
    assert!(report.skipped[0].0.ends_with("e0.ply") && report.skipped[0].1.contains("e0.obj"), "{report:?}");
}

/// Whatever a stopped build can leave behind: any number of whole lines, a torn one, bytes without a line.
#[test]
fn a_build_that_was_stopped_anywhere_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (meshes, set) = (meshes(folder.path(), 9), folder.path().join("set"));
    build(&meshes, &set).unwrap();
    let whole = files(&set);
    let journal = whole[Path::new("journal.jsonl")].clone();
    let ends: Vec<usize> =
        journal.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    assert_eq!(ends.len(), 10);
    let began = {
        let other = folder.path().join("other");
        let interrupt = AtomicBool::new(true);
        let sources = in_folders(std::slice::from_ref(&meshes)).unwrap();
        let build = Build { set: &other, settings: &settings(), device: &Device::Cpu, interrupt: &interrupt };
        let error = build.run(&sources, |_| {}).unwrap_err();
        assert_eq!(error.exit_code(), 130, "{error}");
        files(&other)
    };
    for kept in 0..=ends.len() {
        for torn in [0, 1, 40, 100] {
            let end = if kept == 0 { 0 } else { ends[kept - 1] };
            let mut stopped = began.clone();
            stopped.insert(
                "journal.jsonl".into(),
                journal[..(end + torn).min(journal.len() - 1).max(end)].to_vec(),
            );
            // The bytes of all meshes, or but a part of what was in flight behind the last line.
            let mut shard = whole[Path::new("shards/00000.bin")].clone();
            let needed: u64 = lines_end(&journal[..end]);
            shard.truncate((needed as usize + 77 * torn * torn).min(shard.len()));
            stopped.insert("shards/00000.bin".into(), shard);
            put(&set, &stopped);
            let error = Set::open(&set).err().unwrap().to_string();
            assert!(error.contains("not finished"), "{error}");
            build(&meshes, &set).unwrap();
            assert!(files(&set) == whole, "{kept} lines and {torn} bytes");
        }
    }
}

/// The end of the last record that whole lines of a journal speak of.
fn lines_end(journal: &[u8]) -> u64 {
    let ends = journal.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).filter_map(|line| {
        let entry: serde_json::Value = serde_json::from_slice(&line[64..]).unwrap();
        Some(entry["place"]["offset"].as_u64()? + entry["place"]["len"].as_u64()?)
    });
    ends.max().unwrap_or(0)
}

/// The program itself, killed without a warning.
#[test]
fn a_killed_process_loses_nothing_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (meshes, set) = (meshes(folder.path(), 120), folder.path().join("set"));
    let command =
        ["dataset", "build", "meshes", "-o", "set", "--size", "64", "--points", "512", "--shard", "1", "-q"];
    let whole = {
        let (code, _, errors) = program(
            &[
                "dataset", "build", "meshes", "-o", "whole", "--size", "64", "--points", "512", "--shard",
                "1", "-q",
            ],
            folder.path(),
        );
        assert_eq!(code, Some(0), "{errors}");
        files(&folder.path().join("whole"))
    };
    assert!(whole.len() > 12, "several shards");
    let mut stops = Vec::new();
    for kill in 1..=3 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hexcuda"))
            .args(command)
            .current_dir(folder.path())
            .env("RAYON_NUM_THREADS", "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (started, enough) = (Instant::now(), 20 * kill);
        let lines =
            || fs::read(set.join("journal.jsonl")).map_or(0, |j| j.iter().filter(|b| **b == b'\n').count());
        while lines() < enough && child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        stops.push(lines());
    }
    // On a busy machine the last ones may come too late.
    assert!(stops[0] < 121, "{stops:?}");
    let (code, said, errors) = program(&["dataset", "build", "meshes", "-o", "set"], folder.path());
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("; 120 meshes"), "{said}");
    assert!(files(&set) == whole);
    assert_eq!(fs::read_dir(meshes.join("more")).unwrap().count(), 40);
}

#[test]
fn heads_in_a_set_are_those_of_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = program(
        &["head", "--count", "2", "--seed", "5", "--triangles", "2000", "-o", "files"],
        folder.path(),
    );
    assert_eq!(code, Some(0), "{errors}");
    let [made, read] = ["made", "read"].map(|name| folder.path().join(name));
    build_from(&heads(2, 5, 2000), &made, &settings()).unwrap();
    build(&folder.path().join("files"), &read).unwrap();
    let shard = |set: &Path| fs::read(set.join("shards/00000.bin")).unwrap();
    assert!(shard(&made) == shard(&read), "other bits");
    // Also by what the sets know of them.
    let report = build(&folder.path().join("files"), &made).unwrap();
    assert_eq!((report.added, report.changed, report.unchanged), (0, 0, 2));
    assert_eq!(build_from(&heads(3, 5, 2000), &made, &settings()).unwrap().added, 1);
    // Heads of other seeds are other meshes.
    assert_eq!(build_from(&heads(3, 6, 2000), &made, &settings()).unwrap().changed, 3);
}

#[test]
fn the_commands_say_what_a_set_holds_and_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    meshes(folder.path(), 3);
    let run = |arguments: &[&str]| program(arguments, folder.path());
    let good = |arguments: &[&str]| {
        let (code, said, errors) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        (said, errors)
    };
    let (said, errors) = good(&["dataset", "build", "meshes", "-o", "set", "--size", "32", "--points", "0"]);
    assert!(said.contains("3 added, 0 changed, 0 unchanged, 1 skipped; 3 meshes"), "{said}");
    assert!(errors.contains("skipped broken: ") && errors.contains("line 2"), "{errors}");
    let (said, _) = good(&["dataset", "info", "set"]);
    assert!(said.contains("6 x 32 x 32") && said.contains("skipped broken: "), "{said}");
    let facts: serde_json::Value =
        serde_json::from_str(&good(&["dataset", "info", "set", "--json"]).0).unwrap();
    assert_eq!(facts["settings"]["size"], 32);
    assert_eq!((facts["finished"].as_bool(), facts["meshes"].as_array().unwrap().len()), (Some(true), 3));
    assert!(good(&["dataset", "verify", "set"]).0.contains("3 meshes"));
    let facts: serde_json::Value =
        serde_json::from_str(&good(&["dataset", "export", "set", "e0"]).0).unwrap();
    assert!(
        facts["mesh"]["origin"]["source"].as_str().unwrap().ends_with("e0.obj") && facts["triangles"] == 80
    );
    good(&["dataset", "export", "set", "e0", "-o", "e0.safetensors"]);
    good(&["rasterize", "meshes/e0.obj", "--size", "32", "--fp16", "-o", "direct.safetensors"]);
    let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("e0.safetensors") == bytes("direct.safetensors"));
    good(&["dataset", "export", "set", "e0", "-o", "e0.npy"]);
    good(&["dataset", "export", "set", "e0", "-o", "e0.png"]);
    good(&["dataset", "export", "set", "more/e2", "-o", "e2.ply"]);
    let (mesh, back) = (ellipsoid(0.6), io::read(&folder.path().join("e2.ply")).unwrap());
    for (a, b) in mesh.positions.iter().flatten().zip(back.positions.iter().flatten()) {
        // Two roundings to single precision of numbers up to 1.
        assert!((a - b).abs() < 2.5e-7, "{a} {b}");
    }

    let refused = |arguments: &[&str], code: i32, parts: &[&str]| {
        let (found, said, errors) = run(arguments);
        assert_eq!((found, said.as_str()), (Some(code), ""), "{arguments:?}: {errors}");
        assert!(errors.lines().count() == 1 && errors.starts_with("hexcuda: "), "{errors}");
        parts.iter().for_each(|part| assert!(errors.contains(part), "{part:?} in {errors}"));
    };
    refused(&["dataset", "export", "set", "none"], 1, &["no mesh of this name"]);
    refused(&["dataset", "export", "set", "broken"], 1, &["was skipped", "line 2"]);
    refused(&["dataset", "export", "set", "e0", "-o", "e0.txt"], 1, &["e0.txt"]);
    refused(&["dataset", "build", "meshes", "-o", "set", "--size", "64"], 1, &["`size = 32`", "`size = 64`"]);
    refused(&["dataset", "build", "meshes", "-o", "meshes"], 1, &["not empty"]);
    refused(&["dataset", "build", "nothing", "-o", "other"], 1, &["nothing"]);
    refused(&["dataset", "build", "meshes", "-o", "other", "--points", "3"], 2, &["points is 3"]);
    refused(&["dataset", "build", "meshes/broken.obj", "-o", "other"], 1, &["none of 1 meshes", "line 2"]);
    refused(&["dataset", "info", "meshes"], 1, &["holds no set"]);
    refused(&["dataset", "verify", "nowhere"], 1, &["nowhere"]);
    assert_eq!(run(&["dataset", "build", "-o", "set"]).0, Some(2));
}

#[test]
fn one_build_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (meshes, set) = (meshes(folder.path(), 2), folder.path().join("set"));
    build(&meshes, &set).unwrap();
    let journal = fs::OpenOptions::new().append(true).open(set.join("journal.jsonl")).unwrap();
    journal.lock().unwrap();
    let error = build(&meshes, &set).unwrap_err().to_string();
    assert!(error.contains("another build"), "{error}");
    drop(journal);
    build(&meshes, &set).unwrap();
}
