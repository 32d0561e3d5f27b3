//! PLY: text and both byte orders, and its faults.

use super::*;

const PROPERTIES: &str = "element vertex 4\nproperty uchar red\nproperty double z\nproperty float x\n\
    property list uchar short flags\nproperty float y\nelement edge 1\nproperty int vertex1\n\
    element face 2\nproperty float quality\nproperty list uint8 int32 vertex_index\nend_header\n";

fn binary(big_endian: bool) -> Vec<u8> {
    let name = if big_endian { "big" } else { "little" };
    let mut bytes =
        format!("ply\nformat binary_{name}_endian 1.0\ncomment \u{e9}\n{PROPERTIES}").into_bytes();
    let mut put = |number: &[u8]| {
        let mut number = number.to_vec();
        if big_endian {
            number.reverse();
        }
        bytes.extend(number);
    };
    for [x, y, z] in TETRAHEDRON {
        put(&[255]);
        put(&f64::from(z).to_le_bytes());
        put(&x.to_le_bytes());
        put(&[1]);
        put(&7i16.to_le_bytes());
        put(&y.to_le_bytes());
    }
    put(&5i32.to_le_bytes());
    for face in [&[0, 2, 1][..], &[0, 1, 2, 3]] {
        put(&0.5f32.to_le_bytes());
        put(&[face.len() as u8]);
        face.iter().for_each(|index: &i32| put(&index.to_le_bytes()));
    }
    bytes
}

#[test]
fn text_and_both_byte_orders_read_the_same() {
    let text = format!(
        "ply\r\nformat ascii 1.0\r\n{}0 0 0 1 7 0\n0 0 1 0 0\n0 0 0 2 1 1 2\n0 3 0 0 0\n5\n0.5 3 0 2 1\n0.5 4 0 1 2 3",
        PROPERTIES.replace('\n', "\r\n")
    );
    let little = ok(binary(false), Format::Ply);
    assert_eq!(little.positions, TETRAHEDRON);
    assert_eq!(little.triangles.len(), 3);
    assert_eq!(little, ok(binary(true), Format::Ply));
    assert_eq!(little, ok(text, Format::Ply));
}

#[test]
fn truncation_anywhere_is_an_error_and_never_a_panic() {
    let whole = binary(false);
    for length in 1..whole.len() {
        refused(&whole[..length], Format::Ply, &[]);
    }
}

#[test]
fn faults_name_their_place() {
    let head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n\
        element face 1\nproperty list uchar int vertex_indices\nend_header\n";
    let refused = |text: String, parts: &[&str]| refused(text, Format::Ply, parts);
    let v3 = "0 0 0\n1 0 0\n0 1 0\n";
    refused(format!("{head}0 0 0\n0 nan 0\n0 1 0\n3 0 1 2\n"), &["line 10", "vertex 1", "NaN"]);
    refused(format!("{head}0 0 0\n0 a 0\n0 1 0\n3 0 1 2\n"), &["line 11", "\"a\""]);
    refused(format!("{head}{v3}3 0 1 3\n"), &["line 12", "vertex 3", "there are 3"]);
    refused(format!("{head}{v3}3 0 1 -1\n"), &["line 13", "vertex index", "-1"]);
    refused(format!("{head}{v3}4 0 1 2\n"), &["ends in the middle"]);
    let huge = head.replace("vertex 3", "vertex 4000000000000000000");
    refused(format!("{huge}{v3}"), &["element vertex", "are left"]);
    let huge = head.replace("face 1", "face 18446744073709551615");
    refused(format!("{huge}{v3}"), &["element face", "are left"]);
    refused(head.replace("face 1", "face 18446744073709551616"), &["header"]);
    refused(format!("{}{v3}3 0 1 2\n", head.replace("float z", "float w")), &["no property z"]);
    refused(
        format!("{}{v3}3 0 1 2\n", head.replace("vertex_indices", "strip")),
        &["no property vertex_indices"],
    );
    refused(head.replace("float z", "float x"), &["twice"]);
    refused("ply\nformat ascii 1.0\n".to_string(), &["end_header"]);
    refused("plx\n".to_string(), &["expected \"ply\""]);
    let cloud = head.split("element face").next().unwrap();
    refused(format!("{cloud}end_header\n{v3}"), &["no triangles among 3 vertices", "point cloud"]);
}
