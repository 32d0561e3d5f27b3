//! The commands that serve, and what they tell while a run trains.

use super::*;
use client::{connect, request};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

/// A program that serves.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.command(arguments);
        let log = fs::File::create(place.at("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        Self { child, address }
    }

    /// Waits until a run has come to an end.
    fn done(&self, run: &str) {
        loop {
            let reply = get(self.address, run);
            if reply.status == 200 && reply.json()["state"] == "done" {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Ctrl-C.
    #[cfg(unix)]
    fn interrupt(mut self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    #[cfg(not(unix))]
    fn interrupt(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn serve_prints_its_address_logs_refusals_and_ends_by_ctrl_c() {
    let place = Place::with_runs();
    let before = place.contents("runs");
    let running = Running::start(&place, &["serve", "runs", "--port", "0", "--device", "cpu"]);
    assert_eq!(get(running.address, "/api/runs").json().as_array().unwrap().len(), 2);
    assert_eq!(get(running.address, "/api/runs/no%0Ane").status, 404);
    running.interrupt();
    let log = fs::read_to_string(place.at("log")).unwrap();
    let expected = "hexcuda: serve: 404 GET /api/runs/no%0Ane: there is no run no\\nne\n";
    assert_eq!(log, expected);
    assert!(before == place.contents("runs"));
    for (arguments, code, part) in [
        (&["serve", "none"][..], 1, "there is no such folder"),
        (&["serve", "a.obj"], 1, "this is no folder"),
        (&["serve", "runs", "--port", "70000"], 2, "--port"),
        (&["serve", "runs", "--host", "example.org"], 2, "is no address"),
        (&["serve", "runs", "--host", "192.0.2.1", "--port", "0"], 1, "--host"),
        (&["train", "a.obj", "--config", "tiny.toml", "--out", "new", "--port", "1"], 2, "--port"),
    ] {
        let output = place.command(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    }
}

#[test]
fn train_serves_itself_and_goes_on_serving() {
    let place = Place::new();
    let train =
        ["train", "a.obj", "--config", "tiny.toml", "--out", "runs/new", "-q", "--serve", "--port", "0"];
    let running = Running::start(&place, &train);
    running.done("/api/runs/~");
    assert_eq!(get(running.address, "/api/runs/~/planes?of=decoded:0").status, 200);
    running.interrupt();
    assert!(place.at("runs/new/report.html").exists());
}

/// The page of a folder hears of a run that appears in it, of its steps and snapshots, of its end, and that it is gone.
#[test]
fn events_follow_a_run() {
    let place = Place::with_runs();
    let served = place.serve();
    let mut stream = connect(served.address);
    let host = format!("Host: {}\r\n", served.address);
    stream.write_all(&request("GET", "/api/events", &host, b"")).unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    assert!(lines.next().unwrap().contains("200"));
    let mut next = || {
        let mut kind = String::new();
        loop {
            let line = lines.next().expect("the events go on");
            if let Some(name) = line.strip_prefix("event: ") {
                kind = name.to_string();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (kind, serde_json::from_str::<Value>(data).unwrap());
            }
        }
    };
    // Those that are there already: from now on nothing is missed.
    let there = [next(), next()].map(|(kind, run)| (kind, run["id"].as_str().unwrap().to_string()));
    assert_eq!(there, [("run".into(), "group~binary".into()), ("run".into(), "group~continuous".into())]);
    let train = ["train", "a.obj", "--config", "tiny.toml", "--out", "runs/new", "-q", "--steps", "60"];
    let mut child = place.command(&train).spawn().unwrap();
    let (mut state, mut step, mut snapshots) = (Value::Null, 0, Vec::new());
    while state != "done" || snapshots.last() != Some(&60) {
        let (kind, data) = next();
        assert_eq!(data["id"], "new");
        match kind.as_str() {
            "run" => state = data["state"].clone(),
            "step" => {
                let now = data["step"].as_u64().unwrap();
                assert!(now > step && data["steps"] == 60 && data["loss"].is_f64(), "{data}");
                step = now;
            }
            "snapshot" => snapshots.push(data["step"].as_u64().unwrap()),
            other => panic!("{other}"),
        }
    }
    assert!(child.wait().unwrap().success());
    fs::remove_dir_all(place.at("runs/new")).unwrap();
    while next().0 != "gone" {}
    assert!(snapshots.is_sorted() && snapshots.len() <= 12, "{snapshots:?}");
}

#[test]
fn the_demonstration_trains_a_pair() {
    let place = Place::new();
    place.hexcuda(&["demo", "--out", "demo", "--config", "tiny.toml", "--no-serve", "-q"]);
    let served = Served::on(&place.at("demo"), Ipv4Addr::LOCALHOST.into());
    let runs = served.json("/api/runs");
    assert_eq!((&runs[0]["id"], &runs[0]["pair"]), (&"binary".into(), &"continuous".into()));
    assert_eq!((&runs[1]["id"], &runs[1]["pair"]), (&"continuous".into(), &"binary".into()));
    let before = place.contents("demo");
    place.hexcuda(&["demo", "--out", "demo", "--config", "tiny.toml", "--no-serve", "-q"]);
    assert!(before == place.contents("demo"));
    let wrong = place.command(&["demo", "--out", "demo", "--no-serve", "--port", "1"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}
