//! What a run leaves for whoever follows it: snapshots, and TensorBoard's file.

use super::*;

/// CRC-32C by the definition: the remainder of a division of polynomials, here over the reversed bits.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        for bit in 0..8 {
            let carry = (crc ^ u32::from(byte >> bit)) & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    !crc
}

/// The data of every record, whose checksums must fit.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut found) = (0, Vec::new());
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let checked = |part: &[u8], masked: u32| {
        let crc = masked.wrapping_sub(0xa282_ead8);
        assert_eq!(crc.rotate_left(15), crc32c(part));
    };
    while at < bytes.len() {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        checked(&bytes[at..at + 8], word(at + 8));
        let data = bytes[at + 12..at + 12 + len].to_vec();
        checked(&data, word(at + 12 + len));
        found.push(data);
        at += 16 + len;
    }
    found
}

/// (field, bytes of its value) of a message; numbers as eight bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let len = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, message[..len].to_vec()));
        message = &message[len..];
    }
    found
}

/// Step, time and scalars of each event behind the first.
fn events(path: &Path) -> Vec<(u64, f64, BTreeMap<String, f32>)> {
    let all = records(&fs::read(path).unwrap());
    let first = fields(&all[0]);
    assert_eq!(first[1], (3, b"brain.Event:2".to_vec()));
    let event = |data: &Vec<u8>| {
        let fields = fields(data);
        assert_eq!(fields.iter().map(|(field, _)| *field).collect::<Vec<_>>(), [1, 2, 5]);
        let eight = |at: usize| <[u8; 8]>::try_from(&fields[at].1[..]).unwrap();
        let scalar = |(field, value): (u64, Vec<u8>)| {
            assert_eq!(field, 1);
            let parts = self::fields(&value);
            let number = f32::from_le_bytes(parts[1].1[..].try_into().unwrap());
            (String::from_utf8(parts[0].1.clone()).unwrap(), number)
        };
        let scalars = self::fields(&fields[2].1).into_iter().map(scalar).collect();
        (u64::from_le_bytes(eight(1)), f64::from_le_bytes(eight(0)), scalars)
    };
    all[1..].iter().map(event).collect()
}

const EVENTS: &str = "runs/new/events.out.tfevents.hexcuda";

#[test]
fn tensorboard_reads_the_metrics_also_of_a_resumed_run() {
    let place = Place::new();
    let train = ["train", "a.obj", "--config", "tiny.toml", "--out", "runs/new", "-q", "--tensorboard"];
    place.hexcuda(&train);
    let before = events(&place.at(EVENTS));
    place.hexcuda(&[&train[..], &["--resume", "--steps", "9"]].concat());
    let found = events(&place.at(EVENTS));
    assert_eq!(found[..6], before);
    assert_eq!(found.iter().map(|event| event.0).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    let csv = fs::read_to_string(place.at("runs/new/metrics.csv")).unwrap();
    let names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    for ((_, time, scalars), line) in found.iter().zip(csv.lines().skip(1)) {
        for (name, word) in names.iter().zip(line.split(',')).skip(1) {
            let expected: f64 = word.parse().unwrap();
            let value = f64::from(scalars.get(*name).copied().unwrap_or_default());
            // Seven digits of either, three decimals of seconds.
            assert!(
                (value - expected).abs()
                    <= 1e-6 * expected.abs() + 5e-4 * f64::from(u8::from(*name == "seconds"))
            );
        }
        // Since this century.
        assert!(*time > 9.4e8 && scalars["loss"] > 0.0 && !scalars.contains_key("kl"));
    }
    assert!(found.iter().map(|event| event.1).is_sorted());
}

/// Every snapshot of a run with its bytes.
fn snapshots(place: &Place, run: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(place.at(run).join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn snapshots_are_bounded_and_the_same_after_a_stop() {
    let place = Place::new();
    place.put("few.toml", TINY.replace("steps = 6", "steps = 20\nsnapshots = 4\ncheckpoint_every = 5"));
    let train = |out: &str, more: &[&str]| {
        let start = ["train", "a.obj", "--config", "few.toml", "-q", "--out", out];
        place.hexcuda(&[&start[..], more].concat());
    };
    train("runs/whole", &[]);
    let whole = snapshots(&place, "runs/whole");
    let names: Vec<&str> = whole.keys().map(String::as_str).collect();
    assert_eq!(names, ["1.safetensors", "20.safetensors", "3.safetensors", "7.safetensors"]);
    // Ended by its time after the first step, and gone on with.
    train("runs/stopped", &["--time", "0.001s"]);
    train("runs/stopped", &["--resume"]);
    assert!(snapshots(&place, "runs/stopped") == whole);
    // What the last step decodes to is what the run leaves.
    let last = hexcuda::hexplane::files::read(&place.at("runs/whole/snapshots/20.safetensors")).unwrap();
    let decoded = hexcuda::hexplane::files::read(&place.at("runs/whole/decoded.safetensors")).unwrap();
    let rounded = decoded.values.iter().map(|&v| half::f16::from_f32(v).to_f32());
    assert!(rounded.eq(last.values.iter().copied()) && last.transform == decoded.transform);
    // More steps: other snapshots, no more of them.
    train("runs/whole", &["--resume", "--steps", "40"]);
    let more = snapshots(&place, "runs/whole");
    assert!(more.len() <= 4 && more.contains_key("40.safetensors"), "{:?}", more.keys());
    place.put("none.toml", TINY.replace("steps = 6", "steps = 6\nsnapshots = 0"));
    place.hexcuda(&["train", "a.obj", "--config", "none.toml", "-q", "--out", "runs/none"]);
    assert!(!place.at("runs/none/snapshots").exists());
}
