//! OBJ: the forms that exporters write, and its faults.

use super::*;

#[test]
fn the_forms_that_exporters_write_are_read() {
    let text = "# a comment \\\r\nmtllib missing.mtl\r\no first\r\nv 0 0 0 1.0\r\nv 1 0 0 0.1 0.2 0.3\r\n\
        v 1 1 0\r\nv 0 1 0\r\nvt 0 0\r\nvn 0 0 2\r\ng lid\r\nusemtl skin\r\ns off\r\n\
        f 1/1/1 2/1/1 \\\r\n 3/1/1 4/1/1\r\no second\r\nv 0 0 1 # at the back\r\nf -1//1 -4//1 1//1\r\nl 1 2\r\nf 1 1 2";
    let mesh = ok(text, Format::Obj);
    assert_eq!(mesh.triangles.len(), 3);
    assert_eq!(
        corners(&mesh)[0],
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]],
        "the quad splits at its first diagonal"
    );
    assert_eq!(corners(&mesh)[2], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]);
    let normals = mesh.normals.unwrap();
    assert!(mesh.triangles.iter().flatten().all(|&vertex| normals[vertex as usize] == [0.0, 0.0, 1.0]));
}

#[test]
fn a_position_with_two_normals_becomes_two_vertices() {
    let text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvn 0 0 1\nvn 0 1 0\nf 1//1 2//1 3//1\nf 1//2 4//2 2//2\n";
    let mesh = ok(text, Format::Obj);
    assert_eq!((mesh.positions.len(), mesh.triangles.len()), (6, 2));
    assert_eq!(weld(&mesh).positions.len(), 4);
}

#[test]
fn missing_and_zero_normals_are_computed() {
    let text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 0\nvn 0 0 3\nf 1//1 2//2 3\n";
    assert_eq!(ok(text, Format::Obj).normals.unwrap(), [[0.0, 0.0, 1.0]; 3]);
}

#[test]
fn old_macintosh_line_ends_are_read() {
    assert_eq!(ok("v 0 0 0\rv 1 0 0\rv 0 1 0\rf 1 2 3\r", Format::Obj).triangles, [[0, 1, 2]]);
}

#[test]
fn faults_name_their_line() {
    let refused = |text: &str, parts: &[&str]| refused(text, Format::Obj, parts);
    let v3 = "v 0 0 0\nv 1 0 0\nv 0 1 0\n";
    refused("v 0 0 0\nv 1 0\n", &["line 2", "expected 3 numbers after v, found 2"]);
    refused("v 0 0 x\n", &["line 1", "\"x\""]);
    refused("v 0 0 0\n\nv 0 nan 0\n", &["line 3", "vertex 2", "NaN"]);
    refused("v 0 0 1e39\n", &["line 1", "not finite"]);
    refused(&format!("{v3}f 1 2 4\n"), &["line 4", "vertex 3 counted from 0, there are 3"]);
    refused(&format!("{v3}f 0 1 2\n"), &["line 4", "vertex index"]);
    refused(&format!("{v3}f 1 2 -4\n"), &["line 4", "\"-4\""]);
    refused(&format!("{v3}f 1//1 2//1 3//1\n"), &["line 4", "normal 1, there are 0"]);
    refused(&format!("{v3}f 1 2 99999999999999999999\n"), &["line 4"]);
    refused(v3, &["no triangles among 3 vertices"]);
    refused(&format!("{v3}f 1 1 2\n"), &["no triangles"]);
    refused("PK\u{3}\u{4} not a mesh", &["no triangles"]);
    let many: String = (0..10_001).map(|_| " 1").collect();
    refused(&format!("{v3}f{many}\n"), &["line 4", "10001 corners", "triangulate"]);
}
