//! `hexcuda report`: what is in the file, and what has no room in it.

use super::Place;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::DeflateDecoder;
use hexcuda::device::Device;
use hexcuda::serve::{Contents, export};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;

/// The file's data and its blocks.
struct Report {
    text: String,
    data: Value,
}

impl Report {
    fn of(place: &Place, folder: &str, options: &[&str]) -> Self {
        place.hexcuda(&[&["report", folder, "-o", "out.html"], options].concat());
        Self::read(place, "out.html")
    }

    fn read(place: &Place, name: &str) -> Self {
        let text = fs::read_to_string(place.at(name)).unwrap();
        let data = text.split("id=\"hexcuda-data\">").nth(1).unwrap().split("</script>").next().unwrap();
        Self { data: serde_json::from_str(data).unwrap(), text }
    }

    fn block(&self, key: &str) -> Vec<u8> {
        let name = self.data["blocks"][key].as_str().unwrap_or_else(|| panic!("no {key}"));
        let block = self.text.split(&format!("id=\"{name}\">")).nth(1).unwrap().split('<').next().unwrap();
        let mut bytes = Vec::new();
        DeflateDecoder::new(&BASE64.decode(block).unwrap()[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn run(&self, id: &str) -> &Value {
        let runs = self.data["runs"].as_array().unwrap();
        runs.iter().find(|run| run["id"] == id).unwrap_or_else(|| panic!("no run {id}"))
    }
}

#[test]
fn a_file_holds_what_the_server_answers() {
    let place = Place::with_runs();
    let report = Report::of(&place, "runs", &[]);
    let served = place.serve();
    for id in ["group~continuous", "group~binary"] {
        let mut expected = served.json(&format!("/api/runs/{id}"));
        // The last one is what is decoded at the end.
        let steps = expected["snapshots"].as_array_mut().unwrap();
        assert_eq!(steps.pop(), Some(json!(6)));
        assert_eq!(*report.run(id), expected);
        let steps = expected["snapshots"].as_array().unwrap().clone();
        let snapshots = steps.iter().map(|step| format!("snapshot:{step}"));
        for source in
            ["input:0", "decoded:0", "input:1", "decoded:1"].map(String::from).into_iter().chain(snapshots)
        {
            let answer = super::get(served.address, &format!("/api/runs/{id}/planes?of={source}"));
            assert!(report.block(&format!("{id} planes {source}")) == answer.body, "{id} {source}");
        }
        let columns = &served.json(&format!("/api/runs/{id}/metrics"))["columns"];
        assert_eq!(report.data["metrics"][id], *columns);
        for (source, near) in [("source:0", 0), ("decoded:1", 1), ("source:1", 0)] {
            let key = format!("{id} mesh {source}");
            if report.data["empty"][&key].is_null() {
                let bytes = report.block(&key);
                assert_eq!((&bytes[..4], bytes[16]), (&b"HXMC"[..], near), "{key}");
            }
        }
    }
    let own = Report::read(&place, "runs/group/continuous/report.html");
    assert_eq!(own.run("~")["pair"], Value::Null);
    assert_eq!(own.run("~")["state"], "done");
}

#[test]
fn a_file_without_room_has_the_first_mesh_alone() {
    let place = Place::with_runs();
    let contents = export(&place.at("runs"), &place.at("out.html"), Device::Cpu, 0).unwrap();
    let report = Report::read(&place, "out.html");
    let runs = report.data["runs"].as_array().unwrap();
    let (meshes, snapshots) =
        (runs[0]["meshes"].as_array().unwrap(), runs[0]["snapshots"].as_array().unwrap());
    assert_eq!((runs.len(), meshes.len(), snapshots.len()), (1, 1, 0));
    assert_eq!(runs[0]["pair"], Value::Null);
    // The other mesh, and all snapshots but the one of the end.
    let kept = fs::read_dir(place.at("runs/group/binary/snapshots")).unwrap().count();
    assert_eq!(contents, Contents { runs: 1, runs_left_out: 1, parts_left_out: 1 + kept - 1 });
    let output = place.command(&["report", "runs", "-o", "out.html", "--limit", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_empty_mesh_says_why() {
    let place = Place::with_runs();
    let config = fs::read_to_string(place.at("runs/group/binary/config.toml")).unwrap();
    let (before, after) = config.split_once("iso = ").expect("a level");
    let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    place.put("runs/group/binary/config.toml", format!("{before}iso = 0.999\n{rest}"));
    let report = Report::of(&place, "runs/group/binary", &[]);
    let why = report.data["empty"]["~ mesh decoded:0"].as_str().expect("no surface");
    assert!(why.starts_with("no surface at 0.999: highest occupancy "), "{why}");
}

#[test]
fn what_is_no_run_or_broken_is_named() {
    let place = Place::with_runs();
    let refused = |folder: &str, part: &str| {
        let output = place.command(&["report", folder, "-o", "none.html"]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.contains(part), "{folder}: {errors}");
        assert!(!place.at("none.html").exists());
    };
    refused("nowhere", "nowhere");
    refused("runs/group/binary/snapshots", "no run here or below");
    let run = "runs/group/continuous";
    place.put(&format!("{run}/decoded.safetensors"), b"no planes");
    refused(run, "continuous/decoded.safetensors");
    place.put(&format!("{run}/metrics.csv"), b"step\n1,2\n");
    fs::remove_file(place.at(&format!("{run}/decoded.safetensors"))).unwrap();
    refused(run, "continuous/metrics.csv: line");
    place.put(&format!("{run}/summary.json"), b"{\"name\": ");
    refused(run, "continuous/summary.json: line 1");
    place.put(&format!("{run}/config.toml"), b"preset = 7");
    refused(run, "continuous/config.toml");
}
