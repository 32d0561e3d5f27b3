//! Plane files: what is written is read, layouts are as documented, bad files get one line.

use half::f16;
use hexcuda::hexplane::files::{Precision, read, write};
use hexcuda::hexplane::{Planes, Representation};
use hexcuda::mesh::Similarity;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn similarity() -> Similarity {
    Similarity {
        rotation: [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        centre: [0.1, -2.0, 1.0 / 3.0],
        scale: 0.7,
    }
}

/// Every value says where it is: view, row, column, channel; exact in fp16.
fn planes(representation: Representation, size: usize) -> Planes {
    let channels = representation.channels();
    let values = (0..6 * size * size * channels).map(|k| k as f32 / 1024.0).collect();
    Planes { representation, size, values, transform: similarity() }
}

fn in_folder(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

#[test]
fn what_is_written_is_read() {
    for representation in [Representation::Continuous, Representation::Binary] {
        for precision in [Precision::F32, Precision::F16] {
            for (name, transform) in [("p.safetensors", similarity()), ("p.NPY", Similarity::default())] {
                let (_folder, path) = in_folder(name);
                let planes = planes(representation, 5);
                write(&path, &planes, precision).unwrap();
                assert_eq!(read(&path).unwrap(), Planes { transform, ..planes }, "{name} {precision:?}");
            }
        }
    }
}

#[test]
fn a_safetensors_file_is_as_documented() {
    let (_folder, path) = in_folder("p.safetensors");
    let planes = planes(Representation::Continuous, 3);
    write(&path, &planes, Precision::F16).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("planes").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F16, &[6, 4, 3, 3][..]));
    for (index, bytes) in tensor.data().chunks(2).enumerate() {
        let (view, channel, pixel) = (index / 36, index / 9 % 4, index % 9);
        let value = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        assert_eq!(value, planes.values[(view * 9 + pixel) * 4 + channel]);
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    assert_eq!((metadata["representation"].as_str(), metadata["size"].as_str()), ("continuous", "3"));
    assert_eq!(serde_json::from_str::<Similarity>(&metadata["transform"]).unwrap(), similarity());
}

#[test]
fn an_npy_file_is_as_documented() {
    let (_folder, path) = in_folder("p.npy");
    let planes = planes(Representation::Binary, 4);
    write(&path, &planes, Precision::F32).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let header = String::from_utf8_lossy(&bytes[10..128]).to_string();
    assert!(header.contains("'<f4'") && header.contains("(6, 4, 4, )"), "{header}");
    let data: Vec<f32> =
        bytes[bytes.len() - 384..].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(data, planes.values);
}

#[test]
fn a_picture_is_written_but_not_read() {
    let (_folder, path) = in_folder("p.png");
    write(&path, &planes(Representation::Continuous, 8), Precision::F32).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    assert!(said(&path).contains("a picture holds no planes"));
}

fn said(path: &Path) -> String {
    let line = read(path).unwrap_err().to_string();
    assert!(line.starts_with(&path.display().to_string()) && !line.contains('\n'), "{line}");
    line
}

#[test]
fn values_that_do_not_fit_are_refused_and_nothing_is_written() {
    let (folder, path) = in_folder("p.safetensors");
    let mut planes = planes(Representation::Continuous, 3);
    planes.values[36 + 4 * 5 + 2] = 1e9;
    let line = write(&path, &planes, Precision::F16).unwrap_err().to_string();
    assert!(line.contains("bottom [1, 2] channel 2: 1000000000 does not fit"), "{line}");
    write(&path, &planes, Precision::F32).unwrap();
    planes.values[0] = f32::NAN;
    write(&path, &planes, Precision::F32).unwrap_err();
    assert_eq!(read(&path).unwrap().values[58], 1e9, "the file from before stays");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(
        write(&folder.path().join("p.txt"), &planes, Precision::F32)
            .unwrap_err()
            .to_string()
            .contains(".txt")
    );
}

/// A safetensors file with one tensor of zeros and the given metadata.
fn crafted(dtype: &str, shape: &[usize], bytes: usize, key: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let metadata: std::collections::BTreeMap<_, _> = metadata.iter().copied().collect();
    let tensor = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [0, bytes]});
    let header = serde_json::json!({"__metadata__": metadata, key: tensor}).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn bad_safetensors_get_one_line() {
    let (_folder, path) = in_folder("p.safetensors");
    assert!(said(&path).contains("No such file"));
    let shape = [6, 2, 2];
    let proper = r#"{"rotation":[[1,0,0],[0,1,0],[0,0,1]],"centre":[0,0,0],"scale":1}"#;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "header"),
        (b"not a tensor file at all".to_vec(), "header"),
        (u64::MAX.to_le_bytes().to_vec(), "header"),
        (crafted("F32", &shape, 96, "depth", &[]), "expected a tensor `planes`, found [\"depth\"]"),
        (crafted("F32", &[6, 2, 3], 144, "planes", &[]), "found [6, 2, 3]"),
        (crafted("F32", &[6, 0, 0], 0, "planes", &[]), "found [6, 0, 0]"),
        (crafted("I32", &shape, 96, "planes", &[]), "expected F32 or F16, found I32"),
        (crafted("F32", &shape, 96, "planes", &[("size", "3")]), "size: the shape says 2, the metadata 3"),
        (crafted("F32", &shape, 96, "planes", &[("representation", "continuous")]), "the shape says binary"),
        (crafted("F32", &shape, 96, "planes", &[("transform", "{}")]), "transform: missing field"),
        (
            crafted("F32", &shape, 96, "planes", &[("transform", &proper.replace(":1}", ":0}"))]),
            "positive scale",
        ),
        (
            crafted("F32", &shape, 96, "planes", &[("transform", &proper.replace("[[1", "[[-1"))]),
            "proper rotation",
        ),
        (
            crafted("F32", &shape, 96, "planes", &[("transform", &proper.replace("[[1", "[[2"))]),
            "proper rotation",
        ),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let line = said(&path);
        assert!(line.contains(expected), "{line} lacks {expected}");
    }
    std::fs::write(&path, crafted("F32", &shape, 96, "planes", &[("transform", proper)])).unwrap();
    assert_eq!(read(&path).unwrap(), Planes::background(Representation::Binary, 2, Similarity::default()));
    let whole = std::fs::read(&path).unwrap();
    for length in [3, 40, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        said(&path);
    }
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn bad_npy_files_get_one_line() {
    let (_folder, path) = in_folder("p.npy");
    let header = |kind: &str, order: &str, shape: &str| {
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    };
    let nan = [f32::NAN.to_le_bytes(); 24].concat();
    let cases = [
        (vec![], "byte 0"),
        (b"\x93NUMPY".to_vec(), "byte 0"),
        (npy("{'descr': '<f4'", &[]), "header"),
        (npy(&"(".repeat(60_000), &[]), "a header of 60000 bytes"),
        (npy(&header("<f4", "False", "(6, 2, 2)"), &[0; 95]), "data"),
        (npy(&header("<f4", "False", "(6, 2, 2)"), &nan), "top [0, 0] channel 0: expected a finite number"),
        (npy(&header("<f4", "True", "(6, 2, 2)"), &[0; 96]), "Fortran order"),
        (npy(&header("<i4", "False", "(6, 2, 2)"), &[0; 96]), "found '<i4'"),
        (npy(&header("<f4", "False", "(6, 3, 2, 2)"), &[0; 288]), "found [6, 3, 2, 2]"),
        (
            npy(&header("<f4", "False", "(6, 99999999999, 99999999999)"), &[]),
            "header: expected a shape of at most",
        ),
        (npy(&header("<f4", "False", "(6, 9999, 9999)"), &[]), "found [6, 9999, 9999]"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&path, bytes).unwrap();
        let line = said(&path);
        assert!(line.contains(expected), "{line} lacks {expected}");
    }
    let doubles: Vec<u8> = (0..24).flat_map(|k| f64::from(k).to_be_bytes()).collect();
    std::fs::write(&path, npy(&header(">f8", "False", "(6, 2, 2)"), &doubles)).unwrap();
    assert_eq!(read(&path).unwrap().values, (0..24).map(|k| k as f32).collect::<Vec<_>>());
}
