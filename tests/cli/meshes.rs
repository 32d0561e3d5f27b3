//! Mesh files that cannot be read, and meshes that can but are no good surface.

use super::*;

/// The three vertices and the face of a PLY in text, with the counts given.
fn ply(vertices: &str, faces: &str) -> String {
    format!(
        "ply\nformat ascii 1.0\nelement vertex {vertices}\nproperty float x\nproperty float y\nproperty float z\n\
        element face {faces}\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    )
}

fn gltf(changes: &str) -> String {
    // Base64 of three vertices, 36 bytes.
    let buffer = "AAAAAAAAAAAAAAAAAACAPwAAAAAAAAAAAAAAAAAAgD8AAAAA";
    format!(
        "{{\"asset\":{{\"version\":\"2.0\"}},\"scene\":0,\
        \"buffers\":[{{\"byteLength\":36,\"uri\":\"data:application/octet-stream;base64,{buffer}\"}}],\
        \"bufferViews\":[{{\"buffer\":0,\"byteLength\":36}}],\
        \"accessors\":[{{\"bufferView\":0,\"componentType\":5126,\"count\":3,\"type\":\"VEC3\",\
        \"min\":[0,0,0],\"max\":[1,1,0]}}],\
        \"meshes\":[{{\"primitives\":[{{\"attributes\":{{\"POSITION\":0}}}}]}}],{changes}}}"
    )
}

#[test]
fn broken_files_are_refused_by_every_command_that_reads_a_mesh() {
    let place = with_run();
    place.put("bad.obj", "v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n");
    let line = ["bad.obj: line 2"];
    place.refuses(&["rasterize", "bad.obj", "-o", "out.npy", "--size", "16"], 1, &line);
    place.refuses(&["train", "bad.obj", "--config", "tiny.toml", "--out", "new", "-q"], 1, &line);
    place.refuses(&["encode", "--run", "run", "bad.obj", "-o", "out.hexz"], 1, &line);
    place.refuses(&["compare", "bad.obj", "good.obj"], 1, &line);
    place.refuses(&["compare", "good.obj", "bad.obj"], 1, &line);
    place.refuses(&["bench", "bad.obj", "--runs", "1"], 1, &line);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let place = Place::new();
    place.succeeds(&["rasterize", "good.obj", "-o", "good.npy", "--size", "32"]);
    for name in ["good.ply", "good.stl", "good.glb"] {
        place.succeeds(&["extract", "good.npy", "-o", name, "--grid", "16"]);
    }
    let cut = |name: &str, keep: f64| {
        let bytes = fs::read(place.at(name)).unwrap();
        bytes[..(bytes.len() as f64 * keep) as usize].to_vec()
    };
    let node = |nodes: &str| gltf(&format!("\"nodes\":[{nodes}],\"scenes\":[{{\"nodes\":[0]}}]"));
    let draco = "\"extensionsUsed\":[\"KHR_draco_mesh_compression\"],\
        \"extensionsRequired\":[\"KHR_draco_mesh_compression\"],\
        \"nodes\":[{\"mesh\":0}],\"scenes\":[{\"nodes\":[0]}]";
    let counted = {
        let mut bytes = cut("good.stl", 1.0);
        bytes[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.ply", vec![], "the file is empty"),
        ("empty.obj", vec![], "the file is empty"),
        ("empty.stl", vec![], "the file is empty"),
        ("empty.glb", vec![], "the file is empty"),
        ("cut.ply", cut("good.ply", 0.7), "byte"),
        ("cut.ply", cut("good.ply", 0.002), "end_header"),
        ("cut.stl", cut("good.stl", 0.7), ""),
        ("cut.stl", cut("good.stl", 0.001), ""),
        ("cut.glb", cut("good.glb", 0.7), ""),
        ("cut.glb", cut("good.glb", 0.001), ""),
        ("nan.ply", ply("3", "1").replace("1 0 0", "nan 0 0").into(), "vertex 1"),
        ("infinite.obj", b"v 0 0 0\nv 1 0 -inf\nv 0 1 0\nf 1 2 3\n".into(), "line 2"),
        ("large.obj", b"v 0 0 0\nv 1e39 0 0\nv 0 1 0\nf 1 2 3\n".into(), "line 2"),
        ("index.ply", ply("3", "1").replace("3 0 1 2", "3 0 1 3").into(), "3"),
        ("index.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n".into(), "line 4"),
        ("index.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 -4\n".into(), "line 4"),
        ("count.ply", ply("4000000000", "1").into(), ""),
        ("count.ply", ply("3", "99999999999999999999").into(), ""),
        ("count.stl", counted, "4294967295"),
        ("none.ply", ply("3", "0").into(), "no triangles"),
        ("none.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n".into(), "no triangles"),
        ("magic.ply", b"plywood\n".into(), ""),
        ("magic.glb", b"glTFxxxxxxxxxxxxxxxx".into(), ""),
        ("noise.stl", (0..=255).cycle().take(999).collect(), ""),
        ("noise.obj", (128..=255).cycle().take(999).collect(), ""),
        ("other.stl", cut("good.glb", 1.0), "rename it to end in .glb"),
        ("cycle.gltf", node("{\"mesh\":0,\"children\":[1]},{\"children\":[0]}").into(), "node"),
        ("draco.gltf", gltf(draco).into(), "KHR_draco_mesh_compression"),
    ];
    for (name, bytes, part) in cases {
        place.put(name, bytes);
        place.refuses(&["rasterize", name, "-o", "out.npy", "--size", "16"], 1, &[name, part]);
    }
    place.put("fine.gltf", node("{\"mesh\":0}"));
    place.succeeds(&["rasterize", "fine.gltf", "-o", "out.npy", "--size", "16"]);
}

#[test]
fn paths_that_lead_nowhere_are_named() {
    let place = Place::new();
    fs::create_dir(place.at("folder.ply")).unwrap();
    fs::create_dir(place.at("nothing")).unwrap();
    place.put("nothing/notes.txt", "no mesh");
    let refuses = |input: &str, part: &str| {
        place.refuses(&["rasterize", input, "-o", "out.npy"], 1, &[input, part]);
    };
    refuses("missing.obj", "check the path");
    refuses("good.obj/head.ply", "a part of the path is a file");
    refuses("folder.ply", "name a file, not a folder");
    refuses("tiny.toml", "use .obj, .ply, .stl, .glb or .gltf");
    let train = |input: &str, part: &str| {
        place.refuses(&["train", input, "--config", "tiny.toml", "--out", "new", "-q"], 1, &[input, part]);
    };
    train("nothing", "holds no mesh");
    train("missing", "");
    let write = |output: &str, part: &str| {
        place.refuses(&["rasterize", "good.obj", "-o", output, "--size", "16"], 1, &[output, part]);
    };
    write("nowhere/out.npy", "create it");
    write("good.obj/out.npy", "");
    write("out.xyz", ".safetensors");
    place.refuses(&["head", "-o", "out.xyz"], 1, &["out.xyz", "use .obj"]);
    place.refuses(&["extract", "missing.npy", "-o", "out.xyz"], 1, &["out.xyz", "use .obj"]);
}

/// What can be read, and whether the commands make something of it or say why not.
#[test]
fn poor_surfaces_work_or_are_refused_with_the_reason() {
    let place = Place::new();
    let body = TETRAHEDRON;
    let face = "f 1 3 2\nf 1 2 4\nf 1 4 3\n";
    let turned = "f 1 2 3\nf 1 4 2\nf 1 3 4\nf 2 4 3\n";
    let vertices = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n";
    let flat = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n";
    let many: String = (0..300).map(|i| format!("v {} {} 0\n", i % 17, i / 17)).collect();
    // (mesh, refusals of rasterize, of train and of compare; none where it works)
    let cases: [(&str, String, [Option<&str>; 3]); 11] = [
        ("triangle", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n".into(), [None; 3]),
        ("coplanar", flat.into(), [None; 3]),
        ("duplicate", format!("{body}{face}"), [None; 3]),
        ("inside-out", format!("{vertices}{turned}"), [None; 3]),
        ("open", format!("{vertices}{face}"), [None; 3]),
        ("mixed", format!("{vertices}f 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"), [None; 3]),
        ("collinear", "v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n".into(), [None, Some("no view"), None]),
        ("point", "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n".into(), [Some("all vertices lie in one point"); 3]),
        ("far", format!("{body}v 1e30 0 0\nf 1 2 5\n"), [None, Some("no view"), None]),
        (
            "outlier",
            format!("{many}v 1e30 0 0\nf 299 300 301\nf 1 2 18\n{}", quads(280)),
            [Some("remove the outliers"); 3],
        ),
        ("tiny", body.replace("v 1 0 0", "v 1e-30 0 0"), [None; 3]),
    ];
    for (name, text, [rasterize, train, compare]) in cases {
        let file = format!("{name}.obj");
        place.put(&file, text);
        let check = |arguments: &[&str], refusal: Option<&str>| match refusal {
            None => drop(place.succeeds(arguments)),
            Some(part) => place.refuses(arguments, 1, &[name, part]),
        };
        check(&["rasterize", &file, "-o", &format!("{name}.npy"), "--size", "32"], rasterize);
        check(&["train", &file, "--config", "tiny.toml", "--out", name, "-q"], train);
        check(&["compare", &file, &file, "--samples", "100"], compare);
    }
}

/// Faces between neighbours of a strip of vertices.
fn quads(count: usize) -> String {
    (1..=count).map(|i| format!("f {i} {} {}\n", i + 1, i + 17)).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    let place = with_run();
    place.succeeds(&["rasterize", "good.obj", "-o", "good.npy", "--size", "16"]);
    for name in ["full.ply", "full.npy", "full.png", "full.hexz", "full.html"] {
        std::os::unix::fs::symlink("/dev/full", place.at(name)).unwrap();
    }
    let full = |arguments: &[&str], name: &str| {
        place.refuses(arguments, 1, &[name, "No space left", "free some space"]);
    };
    full(&["rasterize", "good.obj", "-o", "full.npy", "--size", "16"], "full.npy");
    full(&["rasterize", "good.obj", "-o", "full.png", "--size", "16"], "full.png");
    full(&["extract", "good.npy", "-o", "full.ply", "--grid", "16"], "full.ply");
    full(&["encode", "--run", "run", "good.obj", "-o", "full.hexz"], "full.hexz");
    full(&["decode", "--run", "run", "good.hexz", "-o", "full.ply"], "full.ply");
    full(&["report", "run", "-o", "full.html"], "full.html");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_or_closed_standard_output_is_no_panic() {
    let place = Place::new();
    let compare = ["compare", "good.obj", "good.obj", "--samples", "100"];
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let outcome = place.run_to(&compare, full.into());
    one_line(&compare, &outcome, 1, &["standard output", "free some space"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = place.run_to(&compare, writer.into());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}
