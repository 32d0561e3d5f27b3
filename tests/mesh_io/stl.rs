//! STL: text and binary, and its faults.

use super::*;

fn text(corners: &[[[f32; 3]; 3]]) -> String {
    let facet = |corners: &[[f32; 3]; 3]| {
        let vertices: String =
            corners.iter().map(|[x, y, z]| format!("      vertex {x} {y} {z}\n")).collect();
        format!("  facet normal 0 0 0\n    outer loop\n{vertices}    endloop\n  endfacet\n")
    };
    let facets: String = corners.iter().map(facet).collect();
    format!("solid a name\n{facets}endsolid\n")
}

fn binary(header: &[u8], corners: &[[[f32; 3]; 3]]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(80, b' ');
    bytes.extend((corners.len() as u32).to_le_bytes());
    for facet in corners {
        bytes.extend([0; 12]);
        facet.iter().flatten().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend([0; 2]);
    }
    bytes
}

#[test]
fn text_and_binary_share_vertices_at_equal_places() {
    let mut facets = corners(&tetrahedron());
    facets[1][0] = [-0.0, 0.0, 0.0];
    let read = [
        ok(text(&facets), Format::Stl),
        ok(text(&facets).to_uppercase(), Format::Stl),
        ok(binary(b"", &facets), Format::Stl),
        ok(binary(b"solid but binary", &facets), Format::Stl),
    ];
    for mesh in read {
        assert_eq!((mesh.positions.len(), mesh.triangles.len()), (4, 4));
        assert_eq!(corners(&mesh), corners(&tetrahedron()));
        assert_eq!(mesh.normals, None);
    }
}

#[test]
fn faults_name_their_place() {
    let facets = corners(&tetrahedron());
    let whole = binary(b"", &facets);
    for length in 1..whole.len() {
        refused(&whole[..length], Format::Stl, &[]);
    }
    refused(&whole[..whole.len() - 1], Format::Stl, &["byte 80", "4 facets need 284 bytes", "has 283"]);
    let mut claims_more = whole.clone();
    claims_more[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(claims_more, Format::Stl, &["4294967295 facets"]);
    let mut broken = facets.clone();
    broken[2][1][0] = f32::INFINITY;
    refused(binary(b"", &broken), Format::Stl, &["byte 208", "vertex 7", "inf"]);
    refused(text(&broken), Format::Stl, &["line 19", "vertex 7", "inf"]);
    let text = text(&facets);
    refused(text.replace("endsolid", ""), Format::Stl, &["before endsolid"]);
    refused(text.replacen("vertex 0", "corner 0", 1), Format::Stl, &["line 4", "\"corner\""]);
    refused(text.replacen("vertex 0 0 0", "vertex 0 0", 1), Format::Stl, &["line 4", "3 numbers"]);
    refused(text.replacen("      vertex 0 0 0\n", "", 1), Format::Stl, &["line 7", "found 2"]);
    refused("solid nothing\nendsolid\n", Format::Stl, &["no triangles"]);
}
