//! What can be asked of runs.

use super::*;
use hexcuda::hexplane::field::{self, surface_on};
use hexcuda::hexplane::{Planes, Representation, files};
use hexcuda::mesh::distance::MeshDistance;
use hexcuda::mesh::{Mesh, Similarity, io, normalise};

#[test]
fn the_page_is_there_and_may_load_nothing_from_elsewhere() {
    let served = Served::runs();
    let page = served.get("/");
    assert_eq!(page.status, 200);
    assert!(page.text().starts_with("<!doctype html>"), "{}", page.text());
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")] {
        assert_eq!(page.header(name), Some(value));
    }
    assert_eq!(served.get("/assets/style.css").header("content-type"), Some("text/css"));
    served.refuses(served.get("/assets/none.js"), 404, "no such file");
    served.refuses(served.get("/api/none"), 404, "nothing at this address");
}

#[test]
fn runs_are_listed_with_what_they_are() {
    let place = Place::with_runs();
    let served = place.serve();
    let runs = served.json("/api/runs");
    let ids: Vec<&str> = runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["group~binary", "group~continuous"]);
    let run = &runs[1];
    assert_eq!(run["name"], "continuous");
    assert_eq!(run["representation"], "continuous");
    assert_eq!(run["latent"], "gaussian");
    assert_eq!((&run["preset"], &run["planes"]), (&Value::from("quick"), &Value::from(32)));
    assert_eq!((&run["state"], &run["step"], &run["steps"]), (&"done".into(), &6.into(), &6.into()));
    assert_eq!(run["meshes"], serde_json::json!(["a", "b"]));
    assert_eq!((&run["pair"], &runs[0]["pair"]), (&"group~binary".into(), &"group~continuous".into()));
    assert_eq!(run["priors"], serde_json::json!(["own", "second-stage"]));
    assert_eq!(runs[0]["priors"], serde_json::json!([]));
    // A run by itself.
    let served = Served::on(&place.at("runs/group/binary"), Ipv4Addr::LOCALHOST.into());
    let runs = served.json("/api/runs");
    assert_eq!(
        (&runs[0]["id"], &runs[0]["name"], &runs[0]["pair"]),
        (&"~".into(), &"binary".into(), &Value::Null)
    );
    assert_eq!(served.json("/api/runs/~")["iso"], 0.5);
}

#[test]
fn a_run_tells_its_settings_its_results_and_its_metrics() {
    let served = Served::runs();
    let run = served.json(CONTINUOUS);
    assert!(run["config"].as_str().unwrap().contains("planes = 32"), "{run}");
    assert_eq!(run["summary"]["steps"], 6);
    assert_eq!(run["snapshots"], serde_json::json!([1, 2, 3, 4, 5, 6]));
    assert_eq!((&run["grid"], &run["patch"]), (&16.into(), &8.into()));
    assert_eq!(run["latent_shape"], serde_json::json!([6, 4, 4, 32]));
    assert!(run["transform"]["scale"].as_f64().unwrap() > 0.0);
    let columns = &served.json(&format!("{CONTINUOUS}/metrics"))["columns"];
    assert_eq!(columns["step"], serde_json::json!([1, 2, 3, 4, 5, 6]));
    for name in ["seconds", "loss", "reconstruction", "sdf", "kl", "kl_weight", "perplexity", "gradient_norm"]
    {
        assert_eq!(columns[name].as_array().unwrap().len(), 6, "{name}");
    }
    assert!(columns["kl"][5].as_f64().unwrap() > 0.0);
    let later = served.json(&format!("{CONTINUOUS}/metrics?from=4"));
    assert_eq!(later["columns"]["step"], serde_json::json!([5, 6]));
}

/// Planes as they were sent.
fn values(reply: &Reply) -> (usize, usize, Vec<f32>) {
    let bytes = &reply.body;
    assert_eq!((reply.status, &bytes[..4], word(bytes, 1)), (200, &b"HXPL"[..], 1), "{}", reply.text());
    let (size, channels) = (word(bytes, 2), word(bytes, 3));
    let half = |pair: &[u8]| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
    let values: Vec<f32> = bytes[16..].chunks_exact(2).map(half).collect();
    assert_eq!(values.len(), 6 * size * size * channels);
    (size, channels, values)
}

#[test]
fn planes_are_those_of_the_run() {
    let place = Place::with_runs();
    let served = place.serve();
    for (run, folder, channels) in [(CONTINUOUS, "continuous", 4), (BINARY, "binary", 1)] {
        let of = |source: &str| values(&served.get(&format!("{run}/planes?of={source}")));
        let rounded = |path: &str| {
            let planes = files::read(&place.at(&format!("runs/group/{folder}/{path}"))).unwrap();
            planes.values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect::<Vec<f32>>()
        };
        assert!(of("decoded:0") == (32, channels, rounded("decoded.safetensors")), "{run}");
        assert!(of("decoded:1") == (32, channels, rounded("meshes/001-b/decoded.safetensors")), "{run}");
        assert!(of("snapshot:3") == (32, channels, rounded("snapshots/3.safetensors")), "{run}");
        // Half of what is seen of a tetrahedron in its box is background.
        let (_, _, input) = of("input:0");
        let background = if channels == 4 { 1.0 } else { 0.0 };
        let share =
            input.iter().step_by(channels).filter(|v| **v == background).count() as f32 / (6.0 * 1024.0);
        assert!((0.2..0.8).contains(&share), "{run}: {share}");
        assert_eq!(of("source:0").2, input);
    }
    for (source, status) in [
        ("input:2", 404),
        ("snapshot:7", 404),
        ("decoded:99", 404),
        ("latent:00000000000000000000000000000000", 404),
        ("latent:../../x", 400),
        ("file:config.toml", 400),
        ("snapshot:../1", 400),
        ("", 400),
    ] {
        let reply = served.get(&format!("{CONTINUOUS}/planes?of={source}"));
        served.refuses(reply, status, "");
    }
    served.refuses(served.get(&format!("{CONTINUOUS}/planes")), 400, "of");
}

/// A mesh as it was sent, and its distances.
fn mesh(reply: &Reply) -> (Mesh, Vec<f32>) {
    let bytes = &reply.body;
    assert_eq!((reply.status, &bytes[..4], word(bytes, 1)), (200, &b"HXMS"[..], 1), "{}", reply.text());
    let (vertices, triangles, flags) = (word(bytes, 2), word(bytes, 3), word(bytes, 4));
    let floats: Vec<f32> =
        bytes[20..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let indices: Vec<u32> = floats.iter().map(|f| f.to_bits()).collect();
    let positions = floats[..3 * vertices].as_chunks().0.to_vec();
    let found = indices[3 * vertices..3 * (vertices + triangles)].as_chunks().0.to_vec();
    let distances = floats[3 * (vertices + triangles)..].to_vec();
    assert_eq!(distances.len(), if flags & 1 == 1 { vertices } else { 0 });
    (Mesh { positions, normals: None, triangles: found }, distances)
}

#[test]
fn meshes_are_those_of_the_command_line() {
    let place = Place::with_runs();
    let served = place.serve();
    let decoded = files::read(&place.at("runs/group/continuous/decoded.safetensors")).unwrap();
    for iso in [0.2, 0.5, 0.7] {
        let (found, distances) = mesh(&served.get(&format!("{CONTINUOUS}/mesh?of=decoded:0&iso={iso}")));
        let expected = surface_on(&Device::Cpu, &decoded, &field::Settings::default(), 16, iso).unwrap();
        assert!(found == Mesh { normals: None, ..expected }, "{iso}");
        assert!(distances.is_empty());
    }
    // The mesh itself, in the cube, and its distance to itself.
    let (own, distances) = mesh(&served.get(&format!("{CONTINUOUS}/mesh?of=source:0&distance=1")));
    let read = io::read(&place.at("runs/group/continuous/input.ply")).unwrap();
    let (expected, _) = normalise::normalise(&read, Default::default()).unwrap();
    assert_eq!((&own.positions, &own.triangles), (&expected.positions, &expected.triangles));
    assert!(distances.iter().all(|d| d.abs() < 1e-6), "{distances:?}");
    let (far, distances) = mesh(&served.get(&format!("{CONTINUOUS}/mesh?of=snapshot:6&distance=1")));
    assert_eq!(distances, MeshDistance::new(&expected).unwrap().distances(&far.positions));
    for iso in ["0", "1", "-1", "nan", "x"] {
        served.refuses(served.get(&format!("{CONTINUOUS}/mesh?of=decoded:0&iso={iso}")), 400, "");
    }
}

#[test]
fn planes_without_a_surface_say_so() {
    let place = Place::with_runs();
    let empty = Planes::background(Representation::Continuous, 32, Similarity::default());
    let path = place.at("runs/group/continuous/snapshots/2.safetensors");
    files::write(&path, &empty, files::Precision::F16).unwrap();
    let served = place.serve();
    let found = served.json(&format!("{CONTINUOUS}/mesh?of=snapshot:2&iso=0.4"));
    assert_eq!(found, serde_json::json!({ "empty": "no surface at 0.4: highest occupancy 0" }));
}

#[test]
fn runs_are_never_written_to() {
    let place = Place::with_runs();
    let before = place.contents("runs");
    {
        let served = place.serve();
        let all = [
            "",
            "/metrics",
            "/planes?of=decoded:1",
            "/planes?of=snapshot:2",
            "/mesh?of=input:0",
            "/mesh?of=decoded:1&distance=1",
        ];
        all.iter()
            .for_each(|path| assert_eq!(served.get(&format!("{CONTINUOUS}{path}")).status, 200, "{path}"));
        let edit = serde_json::json!({ "latent": null, "mesh": 0, "strokes": [] });
        served.post(&format!("{CONTINUOUS}/edit"), &edit);
    }
    assert!(before == place.contents("runs"));
}
