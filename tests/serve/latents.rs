//! Latents that the server makes: between meshes, drawn, of dropped meshes, edited.

use super::*;
use hexcuda::model::hexz::Latent;
use serde_json::json;

fn path(run: &str, what: &str) -> String {
    format!("{run}/{what}")
}

/// The latent under the token of a reply.
fn latent(served: &Served, reply: &Value) -> Latent {
    let token = reply["latent"].as_str().unwrap();
    let file = served.get(&format!("/api/latents/{token}.hexz"));
    assert_eq!(file.status, 200, "{}", file.text());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.hexz");
    fs::write(&path, &file.body).unwrap();
    Latent::read(&path).unwrap()
}

fn between(served: &Served, run: &str, a: &str, b: &str, t: f32) -> Value {
    served.post(&path(run, "interpolate"), &json!({ "a": a, "b": b, "t": t }))
}

#[test]
fn the_way_between_two_meshes_is_a_line() {
    let place = Place::with_runs();
    let served = place.serve();
    let at = |t: f32| latent(&served, &between(&served, CONTINUOUS, "input:0", "input:1", t));
    let [a, middle, b] = [at(0.0), at(0.5), at(1.0)];
    for ((a, b), middle) in a.values.iter().zip(&b.values).zip(&middle.values) {
        assert_eq!(*middle, 0.5 * a + 0.5 * b);
    }
    // The command encodes the same, but for the roundings of a mesh that went through a file.
    place.hexcuda(&["encode", "--run", "runs/group/continuous", "a.obj", "-o", "a.hexz"]);
    let expected = Latent::read(&place.at("a.hexz")).unwrap();
    assert_eq!((&a.model, a.shape), (&expected.model, expected.shape));
    assert!((a.transform.scale / expected.transform.scale - 1.0).abs() < 1e-6);
    let scale = expected.values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    assert!(a.values.iter().zip(&expected.values).all(|(a, b)| (a - b).abs() < 1e-3 * scale));
    // A token is an end too.
    let token =
        between(&served, CONTINUOUS, "input:1", "input:1", 0.0)["latent"].as_str().unwrap().to_string();
    let found = latent(&served, &between(&served, CONTINUOUS, "input:0", &format!("latent:{token}"), 1.0));
    assert_eq!(found.values, b.values);
    for (body, part) in [
        (json!({ "a": "input:0", "b": "input:1", "t": 1.5 }), "expected 0 to 1"),
        (json!({ "a": "input:0", "b": "decoded:1", "t": 0.5 }), "expected input:MESH or latent:TOKEN"),
        (json!({ "a": "input:0" }), "missing field"),
    ] {
        let reply = post(served.address, &path(CONTINUOUS, "interpolate"), body.to_string().as_bytes());
        served.refuses(reply, 400, part);
    }
}

#[test]
fn priors_are_drawn_from() {
    let served = Served::runs();
    let draw = |prior: &str, seed: u64, index: u64| {
        let body = json!({ "prior": prior, "seed": seed, "index": index });
        latent(&served, &served.post(&path(CONTINUOUS, "sample"), &body)).values
    };
    for prior in ["own", "second-stage"] {
        assert_eq!(draw(prior, 1, 2), draw(prior, 1, 2), "{prior}");
        assert_ne!(draw(prior, 1, 2), draw(prior, 1, 3), "{prior}");
        assert_ne!(draw(prior, 1, 2), draw(prior, 2, 2), "{prior}");
    }
    let refused = |run: &str, prior: &str, status: u16, part: &str| {
        let body = json!({ "prior": prior, "seed": 0, "index": 0 }).to_string();
        served.refuses(post(served.address, &path(run, "sample"), body.as_bytes()), status, part);
    };
    refused(BINARY, "own", 400, "deterministic");
    refused(BINARY, "second-stage", 404, "hexcuda prior");
    refused(CONTINUOUS, "none", 400, "unknown variant");
}

#[test]
fn a_dropped_mesh_is_a_mesh_like_others() {
    let place = Place::with_runs();
    let served = place.serve();
    let body = fs::read(place.at("b.obj")).unwrap();
    let reply = post(served.address, &path(CONTINUOUS, "encode?name=my%20b.obj"), &body).json();
    assert_eq!(reply["name"], "my b");
    let index = reply["mesh"].as_u64().unwrap();
    let of_run = between(&served, CONTINUOUS, "input:1", "input:1", 0.0);
    let (found, expected) = (latent(&served, &reply), latent(&served, &of_run));
    assert_eq!(found.name, "my b");
    let scale = expected.values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    assert!(found.values.iter().zip(&expected.values).all(|(a, b)| (a - b).abs() < 1e-3 * scale));
    let token = reply["latent"].as_str().unwrap();
    for source in [format!("input:{index}"), format!("decoded:{index}"), format!("latent:{token}")] {
        assert_eq!(
            served.get(&path(CONTINUOUS, &format!("planes?of={source}"))).body.len(),
            16 + 2 * 6 * 1024 * 4
        );
        let mesh = served.get(&path(CONTINUOUS, &format!("mesh?of={source}&distance=1")));
        assert!(mesh.body.starts_with(b"HXMS") && word(&mesh.body, 4) == 1, "{source}: {}", mesh.text());
    }
    // It is of this run alone.
    served.refuses(served.get(&path(BINARY, &format!("planes?of=input:{index}"))), 404, "drop it again");
    served.refuses(served.get(&path(BINARY, &format!("planes?of=latent:{token}"))), 404, "another run");
    let bad: [(&str, &[u8]); 7] = [
        ("x.obj", b""),
        ("x.obj", b"v 0 0 0\nf 1 1 1\n"),
        ("x.obj", b"\xff\xfe\0garbage"),
        ("x.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\nend_header\n"),
        ("x.stl", &[0; 90]),
        ("x.glb", b"glTF\x02\0\0\0\xff\xff\xff\xff"),
        ("x.exe", TETRAHEDRON.as_bytes()),
    ];
    for (name, body) in bad {
        served.refuses(
            post(served.address, &path(CONTINUOUS, &format!("encode?name={name}")), body),
            422,
            "",
        );
    }
    served.refuses(post(served.address, &path(CONTINUOUS, "encode"), &body), 400, "name");
}

#[test]
fn latents_are_downloaded_in_every_format() {
    let place = Place::with_runs();
    let served = place.serve();
    let token =
        between(&served, CONTINUOUS, "input:0", "input:0", 0.0)["latent"].as_str().unwrap().to_string();
    for ending in ["hexz", "ply", "glb", "obj", "stl"] {
        let file = served.get(&format!("/api/latents/{token}.{ending}"));
        assert_eq!(file.status, 200, "{ending}: {}", file.text());
        let saved = file.header("content-disposition").unwrap();
        assert_eq!(saved, format!("attachment; filename=\"a-to-a.{ending}\""));
        place.put(&format!("found.{ending}"), &file.body);
    }
    // In the units of the mesh, and what the command makes of the same latent.
    place.hexcuda(&["decode", "--run", "runs/group/continuous", "found.hexz", "-o", "expected.ply"]);
    assert!(fs::read(place.at("found.ply")).unwrap() == fs::read(place.at("expected.ply")).unwrap());
    served.refuses(served.get(&format!("/api/latents/{token}.exe")), 404, ".hexz, .ply");
    served.refuses(served.get(&format!("/api/latents/{token}")), 404, ".hexz, .ply");
    served.refuses(served.get("/api/latents/..%2f..%2fconfig.toml"), 404, "no such latent");
}

fn stroke(view: usize, mode: &str) -> Value {
    json!({ "view": view, "mode": mode, "radius": 5.0, "amount": 1.0, "points": [[10.0, 18.0], [14.0, 18.0]] })
}

fn edit(served: &Served, run: &str, latent: &Value, strokes: &[Value]) -> Value {
    served.post(&path(run, "edit"), &json!({ "latent": latent, "mesh": 0, "strokes": strokes }))
}

#[test]
fn an_edit_changes_the_sites_under_the_brush_and_no_other_bit() {
    let served = Served::runs();
    for (run, modes) in [(CONTINUOUS, &["raise", "lower", "smooth"][..]), (BINARY, &["paint", "erase"])] {
        let base = latent(&served, &between(&served, run, "input:0", "input:0", 0.0));
        for mode in modes {
            let reply = edit(&served, run, &Value::Null, &[stroke(2, mode)]);
            let found = latent(&served, &reply);
            let channels = found.shape[3];
            let sites = base.values.chunks(channels).zip(found.values.chunks(channels));
            let changed: Vec<usize> =
                sites.enumerate().filter(|(_, (a, b))| a != b).map(|(site, _)| site).collect();
            let told = reply["changed_sites"].as_u64().unwrap() as usize;
            assert!(!changed.is_empty() && changed.len() <= told && told <= 6 * 16, "{mode}: {reply}");
            // Of the view that was painted, those under the brush alone: columns 5 to 19, rows 13 to 23.
            let painted = changed.iter().filter(|site| **site / 16 == 2).map(|site| (site / 4 % 4, site % 4));
            for (row, column) in painted {
                assert!((1..3).contains(&row) && (0..3).contains(&column), "{mode}: {row} {column}");
            }
            let outside = reply["outside"].as_f64().unwrap();
            assert!((0.0..1.0).contains(&outside), "{mode}: {outside}");
            assert!(reply["milliseconds"].as_f64().unwrap() > 0.0);
            let token = reply["latent"].as_str().unwrap();
            let planes = |of: &str| served.get(&path(run, &format!("planes?of={of}"))).body;
            assert_ne!(planes(&format!("latent:{token}")), planes("decoded:0"), "{mode}");
        }
        // Strokes that change nothing leave every bit, and an edit of an edit goes on from it.
        let none = edit(&served, run, &Value::Null, &[]);
        assert_eq!(latent(&served, &none).values, base.values);
        assert_eq!((&none["changed_sites"], &none["outside"]), (&0.into(), &0.0.into()));
        let again = edit(&served, run, &none["latent"], &[stroke(3, modes[0])]);
        assert_ne!(latent(&served, &again).values, base.values);
        assert_eq!(latent(&served, &again).name, "a-edited");
    }
    for (strokes, part) in [
        (json!([{ "view": 6, "mode": "raise", "radius": 2, "amount": 1, "points": [[1, 1]] }]), "view is 6"),
        (json!([{ "view": 0, "mode": "raise", "radius": 1e9, "amount": 1, "points": [[1, 1]] }]), "radius"),
        (
            json!([{ "view": 0, "mode": "paint", "radius": 2, "amount": 1, "points": [[1, 1]] }]),
            "continuous planes",
        ),
        (
            json!([{ "view": 0, "mode": "melt", "radius": 2, "amount": 1, "points": [[1, 1]] }]),
            "unknown variant",
        ),
        (json!("all"), "invalid type"),
    ] {
        let body = json!({ "latent": null, "mesh": 0, "strokes": strokes }).to_string();
        served.refuses(post(served.address, &path(CONTINUOUS, "edit"), body.as_bytes()), 400, part);
    }
}

#[test]
fn two_who_edit_at_once_do_not_meet() {
    let served = Served::runs();
    let chain = |view: usize| {
        let mut token = Value::Null;
        for mode in ["raise", "lower", "smooth", "raise"] {
            token = edit(&served, CONTINUOUS, &token, &[stroke(view, mode)])["latent"].clone();
        }
        latent(&served, &json!({ "latent": token })).values
    };
    let alone = [chain(2), chain(4)];
    assert_ne!(alone[0], alone[1]);
    let both = std::thread::scope(|scope| {
        let [a, b] = [2, 4].map(|view| scope.spawn(move || chain(view)));
        [a.join().unwrap(), b.join().unwrap()]
    });
    assert!(alone == both);
}

/// A checkpoint that is replaced while a page is open: its latents are of a network that is gone.
#[test]
fn latents_of_a_network_that_was_replaced_are_told() {
    let place = Place::with_runs();
    let served = place.serve();
    let token =
        between(&served, CONTINUOUS, "input:0", "input:1", 0.5)["latent"].as_str().unwrap().to_string();
    let seen =
        between(&served, CONTINUOUS, "input:0", "input:1", 0.5)["latent"].as_str().unwrap().to_string();
    let planes = |token: &str| served.get(&path(CONTINUOUS, &format!("planes?of=latent:{token}")));
    assert_eq!(planes(&seen).status, 200);
    let resume =
        ["train", "a.obj", "b.obj", "--out", "runs/group/continuous", "--resume", "--steps", "7", "-q"];
    place.hexcuda(&resume);
    served.refuses(planes(&token), 409, "checkpoint of the run was replaced");
    let body = json!({ "latent": token, "mesh": 0, "strokes": [] }).to_string();
    served.refuses(post(served.address, &path(CONTINUOUS, "edit"), body.as_bytes()), 409, "replaced");
    // What was decoded already, and the file of the latent, are still there; and the new network works.
    assert_eq!(planes(&seen).status, 200);
    assert_eq!(served.get(&format!("/api/latents/{token}.hexz")).status, 200);
    assert_eq!(served.get(&path(CONTINUOUS, "mesh?of=decoded:0")).status, 200);
    between(&served, CONTINUOUS, "input:0", "input:1", 0.5);
}
