//! What is refused, and that the server lives on.

use super::*;
use client::{answer, connect, raw, request};
use hexcuda::rng::Rng;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

const HUGE: usize = 2_000_000_000;

fn host(served: &Served) -> String {
    format!("Host: {}\r\n", served.address)
}

#[test]
fn nothing_outside_the_folder_can_be_named() {
    let place = Place::with_runs();
    place.put("secret.txt", "secret");
    fs::create_dir(place.at("outside")).unwrap();
    copy(&place.at("runs/group/binary"), &place.at("outside/run"));
    #[cfg(unix)]
    std::os::unix::fs::symlink(place.at("outside"), place.at("runs/link")).unwrap();
    let served = place.serve();
    for path in [
        "/../secret.txt",
        "/assets/../../../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fCargo.toml",
        "/api/runs/..",
        "/api/runs/%2e%2e",
        "/api/runs/..%2foutside%2frun",
        "/api/runs/%2e%2e%2foutside%2frun",
        "/api/runs/..~outside~run",
        "/api/runs/group~..~..~outside~run",
        "/api/runs/link~run",
        "/api/runs/group%5c..%5cbinary",
        "/api/runs/%00",
        "/api/runs/%ff%fe",
        "/api/runs/group~binary%2f..%2f..",
        "/api/latents/../../secret.txt",
        "/api/latents/..%2f..%2fsecret.txt",
    ] {
        let reply = served.get(path);
        assert!([400, 404].contains(&reply.status), "{path}: {} {}", reply.status, reply.text());
        assert!(!reply.text().contains("secret"), "{path}: {}", reply.text());
    }
    let plain = raw(served.address, &request("GET", "../../secret.txt", &host(&served), b""));
    assert!(plain.is_none_or(|reply| reply.status == 400));
    assert_eq!(served.json("/api/runs").as_array().unwrap().len(), 2);
}

#[test]
fn other_hosts_and_other_sites_are_refused() {
    let served = Served::runs();
    let asked = |headers: &str| raw(served.address, &request("GET", "/api/runs", headers, b"")).unwrap();
    for headers in ["Host: evil.example\r\n", "Host: localhost.evil.example\r\n", "Host: 192.0.2.7\r\n"] {
        served.refuses(asked(headers), 403, "Host");
    }
    assert_eq!(asked("Host: localhost:1234\r\n").status, 200);
    assert!([400, 403].contains(&asked("").status));
    let own = host(&served);
    served.refuses(asked(&format!("{own}Origin: http://evil.example\r\n")), 403, "another site");
    served.refuses(asked(&format!("{own}Sec-Fetch-Site: cross-site\r\n")), 403, "another site");
    assert!(asked(&own).header("access-control-allow-origin").is_none());
}

#[test]
fn another_address_wants_its_token() {
    let place = Place::with_runs();
    let served = Served::on(&place.at("runs"), Ipv4Addr::UNSPECIFIED.into());
    let url = served.server.as_ref().unwrap().url();
    let token = url.split("?token=").nth(1).unwrap();
    assert_eq!(token.len(), 32);
    served.refuses(served.get("/api/runs"), 401, "token");
    served.refuses(served.get("/?token=00000000000000000000000000000000"), 401, "token");
    let entered = served.get(&format!("/?token={token}"));
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")));
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap();
    let headers = format!("{}Cookie: {cookie}\r\n", host(&served));
    assert_eq!(raw(served.address, &request("GET", "/api/runs", &headers, b"")).unwrap().status, 200);
}

#[test]
fn what_is_too_large_is_not_taken_in() {
    let served = Served::runs();
    let start = |length: usize, path: &str| {
        let head = format!("POST {path} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n", host(&served));
        raw(served.address, &[head.as_bytes(), b"v 0 0 0\n"].concat()).unwrap()
    };
    let encode = format!("{CONTINUOUS}/encode?name=a.obj");
    served.refuses(start(HUGE, &encode), 413, "67108864");
    served.refuses(start(HUGE, &format!("{CONTINUOUS}/edit")), 413, "1048576");
    served.refuses(start(HUGE, "/api/runs/none/encode?name=a.obj"), 404, "no run");
    // Without saying how much comes. A server that hangs up while it is written to may not be heard any more.
    let mut stream = connect(served.address);
    let head = format!("POST {encode} HTTP/1.1\r\n{}Transfer-Encoding: chunked\r\n\r\n", host(&served));
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..80 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert!(answer(stream).is_none_or(|reply| reply.status == 413));
    assert_eq!(served.get("/api/runs").status, 200);
}

#[test]
fn runs_that_are_not_there_and_runs_that_are_deleted_differ() {
    let place = Place::with_runs();
    let served = place.serve();
    let strokes = serde_json::json!({ "latent": null, "mesh": 0, "strokes": [] }).to_string();
    served.refuses(served.get("/api/runs/none"), 404, "there is no run none");
    served.refuses(served.get("/api/runs/none/planes?of=input:0"), 404, "there is no run none");
    served.refuses(
        post(served.address, "/api/runs/none/edit", strokes.as_bytes()),
        404,
        "there is no run none",
    );
    assert_eq!(served.get(&format!("{BINARY}/mesh?of=decoded:0")).status, 200);
    let body = serde_json::json!({ "a": "input:0", "b": "input:1", "t": 0.5 });
    let token = served.post(&format!("{BINARY}/interpolate"), &body)["latent"].as_str().unwrap().to_string();
    fs::remove_dir_all(place.at("runs/group/binary")).unwrap();
    for path in ["", "/metrics", "/planes?of=decoded:0", "/mesh?of=source:0"] {
        served.refuses(served.get(&format!("{BINARY}{path}")), 410, "was deleted");
    }
    served.refuses(post(served.address, &format!("{BINARY}/edit"), strokes.as_bytes()), 410, "was deleted");
    served.refuses(served.get(&format!("/api/latents/{token}.ply")), 410, "was deleted");
    assert_eq!(served.get(&format!("/api/latents/{token}.hexz")).status, 200);
    assert_eq!(served.json("/api/runs").as_array().unwrap().len(), 1);
}

#[test]
fn broken_files_of_a_run_are_told() {
    let place = Place::with_runs();
    let served = place.serve();
    let break_file =
        |name: &str| fs::write(place.at(&format!("runs/group/continuous/{name}")), "broken").unwrap();
    break_file("snapshots/2.safetensors");
    served.refuses(served.get(&format!("{CONTINUOUS}/planes?of=snapshot:2")), 500, "snapshots/2.safetensors");
    break_file("checkpoint.safetensors");
    let body = serde_json::json!({ "a": "input:0", "b": "input:1", "t": 0.5 }).to_string();
    let reply = post(served.address, &format!("{CONTINUOUS}/interpolate"), body.as_bytes());
    served.refuses(reply, 500, "not a whole checkpoint");
    fs::remove_file(place.at("runs/group/continuous/checkpoint.safetensors")).unwrap();
    let reply = post(served.address, &format!("{CONTINUOUS}/interpolate"), body.as_bytes());
    served.refuses(reply, 404, "no checkpoint yet");
    break_file("metrics.csv");
    assert_eq!(served.get(&format!("{CONTINUOUS}/metrics")).status, 200);
    fs::write(place.at("runs/group/continuous/metrics.csv"), "step,seconds\n1,x\n").unwrap();
    served.refuses(served.get(&format!("{CONTINUOUS}/metrics")), 500, "metrics.csv: line 2");
    break_file("config.toml");
    // A folder whose settings cannot be read is none.
    assert_eq!(served.json("/api/runs").as_array().unwrap().len(), 1);
    assert_eq!(served.get(&format!("{BINARY}/planes?of=decoded:0")).status, 200);
}

#[test]
fn who_goes_away_in_the_middle_harms_nothing() {
    let served = Served::runs();
    for round in 0..10 {
        // In the middle of an answer, of a request, and of events.
        let mut stream = connect(served.address);
        let path = format!("{CONTINUOUS}/planes?of=decoded:{}", round % 2);
        stream.write_all(&request("GET", &path, &host(&served), b"")).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        drop(stream);
        let mut stream = connect(served.address);
        let body = request("POST", &format!("{CONTINUOUS}/encode?name=a.obj"), &host(&served), &[b' '; 4096]);
        stream.write_all(&body[..2000]).unwrap();
        drop(stream);
        let mut stream = connect(served.address);
        stream.write_all(&request("GET", "/api/events", &host(&served), b"")).unwrap();
        drop(stream);
        let mut stream = connect(served.address);
        stream.write_all(&request("GET", &path, &host(&served), b"")).unwrap();
        drop(stream);
    }
    assert_eq!(served.get(&format!("{CONTINUOUS}/mesh?of=decoded:0")).status, 200);
    // Also when it ends while somebody listens.
    let mut stream = connect(served.address);
    stream.write_all(&request("GET", "/api/events", &host(&served), b"")).unwrap();
    let mut first = String::new();
    BufReader::new(&mut stream).read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    drop(served);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

/// Requests with bytes changed, cut and put in: an answer or none, and the server lives. HEXCUDA_REQUESTS says how many.
#[test]
fn requests_that_are_no_requests_end_nothing() {
    let served = Served::runs();
    let body = br#"{"latent":null,"mesh":0,"strokes":[{"view":2,"mode":"raise","radius":3,"amount":1,"points":[[9,9]]}]}"#;
    let good = [
        request("GET", &format!("{CONTINUOUS}/mesh?of=decoded:0&iso=0.5&distance=1"), &host(&served), b""),
        request("GET", &format!("{BINARY}/metrics?from=3"), &host(&served), b""),
        request("POST", &format!("{CONTINUOUS}/edit"), &host(&served), body),
        request("POST", &format!("{CONTINUOUS}/encode?name=a.obj"), &host(&served), TETRAHEDRON.as_bytes()),
        request("GET", "/api/latents/00000000000000000000000000000000.ply", &host(&served), b""),
    ];
    let mut rng = Rng::named(0, "requests");
    let rounds = std::env::var("HEXCUDA_REQUESTS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    for round in 0..rounds {
        let mut bytes = good[round % good.len()].clone();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] = rng.next_u32() as u8,
                1 => drop(bytes.drain(at..(at + 1 + rng.below(8)).min(bytes.len()))),
                2 => bytes.insert(at, b"/%.:\r\n{}\"0-\0"[rng.below(12)]),
                _ => bytes[at] ^= 1 << rng.below(8),
            }
        }
        let mut stream = connect(served.address);
        let _ = stream.write_all(&bytes);
        if round % 2 == 0 {
            // Gone at once, for the server.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        } else {
            // It may wait for more, of which there is none.
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        if let Some(reply) = answer(stream) {
            assert!(reply.status != 500, "{:?}: {}", String::from_utf8_lossy(&bytes), reply.text());
        }
    }
    assert_eq!(served.get(&format!("{CONTINUOUS}/mesh?of=decoded:0")).status, 200);
}
