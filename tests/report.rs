//! The page of a run: whole, self-contained, safe against what names and numbers may hold.

use std::f32::consts::PI;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::ZlibDecoder;
use hexcuda::mesh::Mesh;
use hexcuda::report::{CurvePoint, NamedMesh, Report, html, write};
use serde_json::{Value, json};

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

fn scores(f: f64) -> Value {
    json!({
        "samples": 100_000, "seed": 7, "chamfer_l1": 0.0021, "chamfer_l2": null,
        "f_scores": [{ "threshold": 0.01, "f_score": f, "precision": 0.97, "recall": 0.96 }],
        "health": { "vertices": 12345, "faces": 24686, "watertight": true }, "something_new": 0.125,
    })
}

fn summary() -> Value {
    json!({
        "device": "cpu", "preset": "quick", "parameters": 38_000_000, "seed": 1, "steps": 300,
        "latent": { "floats": 393_216, "bytes": 1_572_864 }, "seconds": 299.5,
        "peak_memory_bytes": 2_100_000_000u64,
        "mesh": scores(0.957), "linear": scores(0.7), "ceiling": scores(0.958),
    })
}

fn curve(steps: u64) -> Vec<CurvePoint> {
    (1..=steps)
        .map(|step| {
            let sdf = 0.1 / step as f64;
            let reconstruction = 1.0 / (step as f64).sqrt();
            let loss = reconstruction + sdf;
            CurvePoint {
                step,
                seconds: step as f64 * 0.5,
                loss,
                reconstruction,
                sdf,
                kl: 0.0,
                gradient_norm: 3.0,
            }
        })
        .collect()
}

fn page(summary: &Value, curve: &[CurvePoint], meshes: &[(&str, &Mesh)]) -> String {
    let meshes = meshes.iter().map(|&(name, mesh)| NamedMesh { name, mesh }).collect();
    let planes_png = b"\x89PNG not looked at";
    let notes = vec!["A note with <b>markup</b> & an ampersand".to_owned()];
    let title = "A \"head\" <script>alert(1)</script>";
    html(&Report { title, subtitle: "it's <i>here</i>", summary, curve, planes_png, meshes, notes })
        .expect("the page of a sound run")
}

/// What the script of the page reads.
fn data(page: &str) -> Value {
    let start = page.split("id=\"report-data\">").nth(1).expect("a data block");
    serde_json::from_str(start.split("</script>").next().expect("its end")).expect("JSON in the data block")
}

/// Positions and triangles of the mesh that `entry` describes, read as the script reads them.
fn unpacked(page: &str, entry: &Value) -> (Vec<[f64; 3]>, Vec<[usize; 3]>) {
    let opening = format!("id=\"{}\">", entry["block"].as_str().expect("a block"));
    let text = page.split(&opening).nth(1).expect("the block").split('<').next().expect("its end");
    let packed = BASE64.decode(text).expect("base64");
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed.as_slice()).read_to_end(&mut bytes).expect("a zlib stream");
    let count = entry["vertices"].as_u64().expect("a count") as usize;
    let mut positions = vec![[0.0; 3]; count];
    for axis in 0..3 {
        let (low, step) = (entry["low"][axis].as_f64().expect("low"), entry["step"].as_f64().expect("step"));
        let mut value = 0i64;
        for (vertex, position) in positions.iter_mut().enumerate() {
            let place = 2 * axis * count + vertex;
            let zigzag = i64::from(bytes[place]) + 256 * i64::from(bytes[place + count]);
            value += if zigzag % 2 == 0 { zigzag / 2 } else { -(zigzag + 1) / 2 };
            value = value.rem_euclid(65_536);
            position[axis] = low + step * value as f64;
        }
    }
    let mut rest = bytes[6 * count..].iter();
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
    let triangles = (0..entry["triangles"].as_u64().expect("a count")).map(|_| [index(), index(), index()]);
    let triangles: Vec<_> = triangles.collect();
    assert!(rest.next().is_none(), "the block ends with its last triangle");
    (positions, triangles)
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

#[test]
fn the_page_asks_nothing_of_the_network() {
    let (smooth, bumpy) = (sphere(24, 0.0), sphere(24, 0.05));
    let page = page(&summary(), &curve(50), &[("input", &smooth), ("network", &bumpy)]);
    assert!(page.contains("content=\"default-src 'none'; img-src data:;"));
    let foreign = page.replace("http://www.w3.org/2000/svg", "");
    for asking in
        ["http:", "https:", "//cdn", "@import", "url(", "fetch(", "XMLHttpRequest", "<link rel=\"style"]
    {
        assert!(!foreign.contains(asking), "the page holds {asking}");
    }
    for section in ["meshes", "planes", "curve", "metrics", "settings"] {
        assert!(page.contains(&format!("<section aria-labelledby=\"{section}-title\">")), "{section}");
    }
    assert!(!page.contains("{{"), "every slot is filled");
}

#[test]
fn what_names_hold_is_text_and_nothing_else() {
    let mut summary = summary();
    summary["device"] = json!("</script><img src=x onerror=alert(1)>");
    summary["mesh"]["<b>odd"] = json!(1.5);
    summary["meshes"] = json!([{ "name": "<u>head", "mesh": scores(0.9) }, { "mesh": scores(0.7) }]);
    let ball = sphere(8, 0.0);
    let page = page(&summary, &curve(3), &[("input", &ball), ("</script><script>alert(2)</script>", &ball)]);
    for markup in ["<script>alert", "<img src=x", "<b>odd", "<u>head", "<b>markup", "<i>here"] {
        assert!(!page.contains(markup), "{markup} got through");
    }
    assert!(page.contains("A &quot;head&quot; &lt;script&gt;"));
    // Two code blocks, the data, two meshes.
    assert_eq!(page.matches("<script").count(), 5);
    assert_eq!(page.matches("</script>").count(), 5);
    assert_eq!(data(&page)["meshes"][1]["name"], "</script><script>alert(2)</script>");
}

#[test]
fn a_mesh_comes_back_from_the_page() {
    let bumpy = sphere(24, 0.05);
    let page = page(&summary(), &[], &[("input", &bumpy)]);
    let entry = &data(&page)["meshes"][0];
    // The poles are one point each: 23 rings of 48 and two, and one triangle a cell there.
    assert_eq!(entry["vertices"], 23 * 48 + 2);
    assert_eq!(entry["triangles"], 22 * 48 * 2 + 48 * 2);
    let (positions, triangles) = unpacked(&page, entry);
    let step = entry["step"].as_f64().expect("a step");
    let mut corners = triangles.iter().flatten().map(|&vertex| positions[vertex]);
    for triangle in &bumpy.triangles {
        let exact = triangle.map(|vertex| bumpy.positions[vertex as usize].map(f64::from));
        if exact[0] == exact[1] || exact[1] == exact[2] || exact[2] == exact[0] {
            continue;
        }
        for expected in exact {
            let found = corners.next().expect("as many corners");
            for axis in 0..3 {
                // Half a step of rounding, and single precision on the way.
                assert!((found[axis] - expected[axis]).abs() <= 0.51 * step, "{found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn a_large_mesh_is_thinned_and_keeps_its_shape() {
    let large = sphere(220, 0.0);
    let page = page(&summary(), &[], &[("input", &large)]);
    let entry = &data(&page)["meshes"][0];
    assert_eq!(entry["total"], 220 * 440 * 2);
    let shown = entry["triangles"].as_u64().expect("a count");
    assert!((40_000..=120_000).contains(&shown), "{shown} triangles");
    let (positions, triangles) = unpacked(&page, entry);
    let exact = 4.0 / 3.0 * std::f64::consts::PI * 0.8f64.powi(3);
    // Cells of about 1/130 of the diameter: the mean of a cell lies at most (1/130)^2 radii inside.
    assert!((volume(&positions, &triangles) / exact - 1.0).abs() < 1e-3);
}

#[test]
fn missing_numbers_read_not_available() {
    let ball = sphere(8, 0.0);
    for summary in [json!(null), json!({}), json!({ "mesh": null, "latent": [], "meshes": 3 })] {
        let page = page(&summary, &[], &[("input", &ball)]);
        assert!(page.contains("This run has no metrics."));
        assert!(page.contains("n/a"));
    }
    let mut lacking = summary();
    lacking["linear"] = json!(null);
    let page = page(&lacking, &[], &[]);
    assert!(page.contains("<th scope=\"row\">something_new</th>"));
    assert!(page.contains("99.9 %"));
}

#[test]
fn meshes_without_a_surface_are_no_error() {
    let empty = Mesh::default();
    let broken = Mesh {
        positions: vec![[f32::NAN; 3], [0.0; 3], [1.0, 0.0, 0.0]],
        normals: None,
        triangles: vec![[0, 1, 2], [1, 2, 9], [1, 1, 1]],
    };
    let page = page(&summary(), &[], &[("input", &empty), ("network", &broken)]);
    let data = data(&page);
    assert_eq!(data["meshes"][0], json!({ "name": "input", "triangles": 0 }));
    assert_eq!(data["meshes"][1]["triangles"], 0);
    assert!(page.contains("No surface"));
}

#[test]
fn a_long_curve_keeps_its_ends_and_its_spike() {
    let mut long = curve(50_000);
    long[31_234].loss = 1e6;
    long[40_000].sdf = f64::NAN;
    let data = data(&page(&summary(), &long, &[]));
    let column = |name: &str| data["curve"][name].as_array().expect("a column").clone();
    assert!(column("step").len() <= 2000);
    assert_eq!(column("step").len(), column("sdf").len());
    assert!(column("loss").contains(&json!(1e6)));
    assert_eq!(column("step").first(), Some(&json!(1)));
    assert_eq!(column("step").last(), Some(&json!(50_000)));
}

#[test]
fn the_file_is_the_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.html");
    let summary = summary();
    let ball = sphere(8, 0.0);
    let meshes = vec![NamedMesh { name: "input", mesh: &ball }];
    let report = Report {
        title: "t",
        subtitle: "",
        summary: &summary,
        curve: &[],
        planes_png: &[],
        meshes,
        notes: vec![],
    };
    write(&path, &report).expect("written");
    assert_eq!(std::fs::read_to_string(&path).expect("read back"), html(&report).expect("the page"));
    let nowhere = write(folder.path().join("no/such/report.html"), &report).expect_err("no such folder");
    assert!(nowhere.to_string().contains("report.html"));
}
