//! Files of planes that cannot be extracted.

use super::*;

fn npy(shape: &str, values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    values.into_iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

#[test]
fn planes_that_are_none_are_refused() {
    let place = Place::new();
    place.succeeds(&["rasterize", "good.obj", "-o", "good.safetensors", "--size", "16"]);
    place.succeeds(&["extract", "good.safetensors", "-o", "good.ply", "--grid", "16"]);
    let good = fs::read(place.at("good.safetensors")).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    let zeros = |count: usize| vec![0.0; count];
    let mut nan = zeros(6 * 4 * 4 * 4);
    nan[70] = f32::NAN;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.npy", vec![], "byte 0"),
        ("empty.safetensors", vec![], "header"),
        ("cut.safetensors", good[..good.len() - 1].to_vec(), ""),
        ("cut.safetensors", good[..20].to_vec(), "header"),
        ("length.safetensors", flipped(7), "header"),
        ("mesh.npy", TETRAHEDRON.into(), "expected the header of a .npy file"),
        ("shape.npy", npy("(6, 3, 4, 4)", zeros(6 * 3 * 16)), "found [6, 3, 4, 4]"),
        ("oblong.npy", npy("(6, 4, 4, 5)", zeros(6 * 4 * 20)), "found [6, 4, 4, 5]"),
        ("large.npy", npy("(6, 4, 4096, 4096)", []), "data"),
        ("nan.npy", npy("(6, 4, 4, 4)", nan), "expected a finite number, found NaN"),
        ("infinite.npy", npy("(6, 2, 2)", vec![f32::INFINITY; 24]), "expected a finite number, found inf"),
        ("picture.png", good.clone(), "a picture holds no planes"),
        ("planes.txt", good.clone(), ".safetensors"),
        ("background.npy", npy("(6, 8, 8)", zeros(6 * 64)), "no surface at 0.5: highest occupancy 0"),
    ];
    for (name, bytes, part) in cases {
        place.put(name, bytes);
        place.refuses(&["extract", name, "-o", "out.ply", "--grid", "16"], 1, &[name, part]);
    }
    place.refuses(&["extract", "missing.npy", "-o", "out.ply"], 1, &["missing.npy", "check the path"]);
    place.refuses(&["extract", "good.safetensors", "-o", "out.ply", "--iso", "nan"], 2, &["--iso"]);
    place.refuses(&["extract", "good.safetensors", "-o", "out.ply", "--iso", "1"], 2, &["--iso"]);
}

/// Numbers that are finite but mean nothing: a mesh or a reason, not a panic.
#[test]
fn planes_of_absurd_values_do_not_break_the_program() {
    let place = Place::new();
    for (name, value) in [("large", 1e38_f32), ("negative", -1e38), ("small", 1e-38), ("one", 1.0)] {
        let file = format!("{name}.npy");
        place.put(&file, npy("(6, 4, 4, 4)", (0..6 * 4 * 16).map(|i| value * ((i % 3) as f32 - 1.0))));
        let arguments = ["extract", &file, "-o", "out.ply", "--grid", "16"];
        let outcome = place.run(&arguments);
        if outcome.code != Some(0) {
            one_line(&arguments, &outcome, 1, &[&file]);
        }
    }
}
