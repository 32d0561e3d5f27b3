//! The page as one file: self-contained, safe against what names may hold; and meshes as it holds them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::DeflateDecoder;
use hexcuda::mesh::Mesh;
use hexcuda::page::{Block, Lattice, block_name, file};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::f32::consts::PI;
use std::io::Read;

/// A closed sphere of `rings` x `2 rings` cells with bumps of height `bumps`.
fn sphere(rings: u32, bumps: f32) -> Mesh {
    let around = 2 * rings;
    let mut mesh = Mesh::default();
    for ring in 0..=rings {
        for turn in 0..around {
            let (a, b) = (PI * ring as f32 / rings as f32, 2.0 * PI * turn as f32 / around as f32);
            // The sine of a rounded pi is not zero, but a pole is one point.
            let wide = if ring % rings == 0 { 0.0 } else { a.sin() };
            let radius = 0.8 + bumps * (7.0 * a).sin() * (6.0 * b).sin() * wide;
            mesh.positions.push([wide * b.cos(), a.cos(), wide * b.sin()].map(|c| radius * c));
            if ring < rings {
                let next = (turn + 1) % around;
                let corner = |ring, turn| ring * around + turn;
                let [p, q] = [corner(ring, turn), corner(ring, next)];
                let [r, s] = [corner(ring + 1, turn), corner(ring + 1, next)];
                mesh.triangles.extend([[p, q, r], [q, s, r]]);
            }
        }
    }
    mesh
}

/// A packed mesh, read as the page reads it.
struct Unpacked {
    positions: Vec<[f64; 3]>,
    triangles: Vec<[usize; 3]>,
    distances: Vec<f32>,
    total: usize,
    step: f64,
}

fn unpacked(bytes: &[u8]) -> Unpacked {
    assert_eq!(&bytes[..4], b"HXMC");
    let word = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap();
    let count = |at: usize| u32::from_le_bytes(word(at)) as usize;
    let number = |at: usize| f64::from(f32::from_le_bytes(word(at)));
    assert_eq!(count(4), 1, "the version");
    let (vertices, triangles, flags, step) = (count(8), count(12), count(16), number(36));
    let mut positions = vec![[0.0; 3]; vertices];
    for axis in 0..3 {
        let mut value = 0i64;
        for (vertex, position) in positions.iter_mut().enumerate() {
            let place = 40 + 2 * axis * vertices + vertex;
            let zigzag = i64::from(bytes[place]) + 256 * i64::from(bytes[place + vertices]);
            value += if zigzag % 2 == 0 { zigzag / 2 } else { -(zigzag + 1) / 2 };
            value = value.rem_euclid(65_536);
            position[axis] = number(24 + 4 * axis) + step * value as f64;
        }
    }
    let mut rest = bytes[40 + 6 * vertices..].iter();
    let mut next = 0usize;
    let mut index = || {
        let (mut below, mut shift) = (0usize, 0);
        loop {
            let byte = *rest.next().expect("another byte");
            below |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        next += usize::from(below == 0);
        if below == 0 { next - 1 } else { next - below }
    };
    let triangles: Vec<_> = (0..triangles).map(|_| [index(), index(), index()]).collect();
    let rest = rest.as_slice();
    assert_eq!(rest.len(), if flags & 1 == 1 { 2 * vertices } else { 0 }, "it ends with what it says");
    let half = |vertex| half::f16::from_le_bytes([rest[vertex], rest[vertex + vertices]]).to_f32();
    let distances = if rest.is_empty() { Vec::new() } else { (0..vertices).map(half).collect() };
    Unpacked { positions, triangles, distances, total: count(20), step }
}

/// Enclosed volume, by the divergence theorem.
fn volume(positions: &[[f64; 3]], triangles: &[[usize; 3]]) -> f64 {
    let of = |triangle: &[usize; 3]| {
        let [a, b, c] = triangle.map(|vertex| positions[vertex]);
        (a[0] * (b[1] * c[2] - b[2] * c[1])
            + a[1] * (b[2] * c[0] - b[0] * c[2])
            + a[2] * (b[0] * c[1] - b[1] * c[0]))
            / 6.0
    };
    triangles.iter().map(of).sum::<f64>().abs()
}

fn page(title: &str, name: &str) -> String {
    let data =
        json!({ "runs": [{ "id": "~", "name": name }], "blocks": { "~ mesh source:0": block_name(0) } });
    file(title, &data, &[Block::new(b"not looked at").unwrap()])
}

/// What stands between two texts, everywhere.
fn between<'a>(page: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    page.split(from).skip(1).map(|rest| rest.split(to).next().expect("its end")).collect()
}

#[test]
fn the_file_asks_nothing_of_a_network() {
    let page = page("a head", "a head");
    let foreign = page.replace("http://www.w3.org/2000/svg", "");
    for asking in
        ["http:", "https:", "//cdn", "@import", "url(", "XMLHttpRequest", "<link rel=\"style", "src=\"assets"]
    {
        assert!(!foreign.contains(asking), "the page holds {asking}");
    }
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"")[0];
    assert!(
        policy.starts_with("default-src 'none'; img-src data: blob:;") && !policy.contains("unsafe"),
        "{policy}"
    );
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    let script = between(&page, "<script type=\"module\">", "</script>");
    let style = between(&page, "<style>", "</style>");
    assert_eq!((script.len(), style.len()), (1, 1));
    assert!(policy.contains(&format!("script-src {};", hash(script[0]))), "{policy}");
    assert!(policy.contains(&format!("style-src {};", hash(style[0]))), "{policy}");
}

#[test]
fn what_names_hold_is_text_and_nothing_else() {
    let page = page("<b>a</b> & \"head\"", "</script><script>alert(1)</script>");
    for markup in ["<script>alert", "<b>a"] {
        assert!(!page.contains(markup), "{markup} got through");
    }
    assert!(page.contains("<title>&lt;b&gt;a&lt;/b&gt; &amp; &quot;head&quot;</title>"));
    // The data, a block and the modules.
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script>").count(), 3);
    let data = between(&page, "id=\"hexcuda-data\">", "</script>")[0];
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON in the data block");
    assert_eq!(data["runs"][0]["name"], "</script><script>alert(1)</script>");
    let block = between(&page, &format!("id=\"{}\">", block_name(0)), "<")[0];
    let mut bytes = Vec::new();
    DeflateDecoder::new(&BASE64.decode(block).unwrap()[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"not looked at");
}

#[test]
fn a_mesh_comes_back() {
    let bumpy = sphere(24, 0.05);
    let lattice = Lattice::new(&bumpy).expect("a surface");
    // The poles are one point each: 23 rings of 48 and two, and one triangle a cell there.
    let distances: Vec<f32> = (0..23 * 48 + 2).map(|vertex| vertex as f32 / 1024.0).collect();
    let mesh = unpacked(&lattice.bytes(Some(&distances)));
    assert_eq!(mesh.positions.len(), 23 * 48 + 2);
    assert_eq!((mesh.triangles.len(), mesh.total), (22 * 48 * 2 + 48 * 2, 22 * 48 * 2 + 48 * 2));
    // Half a step of a number below 2 in half precision.
    assert!(
        mesh.distances
            .iter()
            .zip(&distances)
            .all(|(found, wanted)| (found - wanted).abs() <= 0.5f32.powi(11))
    );
    for (found, exact) in lattice.positions().iter().zip(&mesh.positions) {
        assert!((0..3).all(|axis| (f64::from(found[axis]) - exact[axis]).abs() < 1e-6));
    }
    assert!(unpacked(&lattice.bytes(None)).distances.is_empty());
    let mut corners = mesh.triangles.iter().flatten().map(|&vertex| mesh.positions[vertex]);
    for triangle in &bumpy.triangles {
        let exact = triangle.map(|vertex| bumpy.positions[vertex as usize].map(f64::from));
        if exact[0] == exact[1] || exact[1] == exact[2] || exact[2] == exact[0] {
            continue;
        }
        for expected in exact {
            let found = corners.next().expect("as many corners");
            for axis in 0..3 {
                // Half a step of rounding, and single precision on the way.
                assert!((found[axis] - expected[axis]).abs() <= 0.51 * mesh.step, "{found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn a_large_mesh_is_thinned_and_keeps_its_shape() {
    let mesh = unpacked(&Lattice::new(&sphere(220, 0.0)).expect("a surface").bytes(None));
    // Two triangles of no area a cell beside the poles.
    assert_eq!(mesh.total, 220 * 440 * 2 - 2 * 440);
    assert!((40_000..=120_000).contains(&mesh.triangles.len()), "{} triangles", mesh.triangles.len());
    let exact = 4.0 / 3.0 * std::f64::consts::PI * 0.8f64.powi(3);
    // Cells of about 1/130 of the diameter: the mean of a cell lies at most (1/130)^2 radii inside.
    assert!((volume(&mesh.positions, &mesh.triangles) / exact - 1.0).abs() < 1e-3);
}

#[test]
fn a_mesh_without_a_surface_is_none() {
    let broken = Mesh {
        positions: vec![[f32::NAN; 3], [0.0; 3], [1.0, 0.0, 0.0]],
        normals: None,
        triangles: vec![[0, 1, 2], [1, 2, 9], [1, 1, 1]],
    };
    assert!(Lattice::new(&Mesh::default()).is_none());
    assert!(Lattice::new(&broken).is_none());
}
