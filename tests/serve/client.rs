//! As much of HTTP as a test needs.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Far above what any answer takes.
const LIMIT: Duration = Duration::from_secs(300);

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends bytes as they are; none where the connection ends without an answer.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut stream = connect(address);
    // A server that has answered already may have hung up.
    let _ = stream.write_all(bytes);
    answer(stream)
}

/// What a server says until it hangs up.
pub fn answer(mut stream: TcpStream) -> Option<Reply> {
    let mut all = Vec::new();
    let mut piece = [0; 1 << 16];
    while let Ok(read) = stream.read(&mut piece) {
        if read == 0 {
            break;
        }
        all.extend_from_slice(&piece[..read]);
    }
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head, body: all[end + 4..].to_vec() })
}

pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Reply {
    raw(address, &request("GET", path, &format!("Host: {address}\r\n"), b"")).expect("an answer")
}

#[track_caller]
pub fn post(address: SocketAddr, path: &str, body: &[u8]) -> Reply {
    raw(address, &request("POST", path, &format!("Host: {address}\r\n"), body)).expect("an answer")
}
