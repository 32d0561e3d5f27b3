//! glTF 2.0, binary (GLB) or text: the triangles of the default scene under their node transforms.
//!
//! The `gltf` crate supplies the types of the document. Its validation is not used, because it panics
//! on some indices out of range; every index is checked where it is followed instead. Triangles, strips
//! and fans are read; points and lines, materials, skins and morph targets are passed over.

use glam::{DMat3, DMat4, DQuat, DVec3};
use gltf::json::mesh::{Mode, Primitive, Semantic};
use gltf::json::validation::Checked;
use gltf::json::{Index, Node, Root};

use super::accessor::Buffers;
use super::{Format, MAX_ELEMENTS, Parts, Source, finite_vertex};
use crate::error::{Error, Result};
use crate::mesh::Mesh;

const DAMAGED: &str = "the file is damaged: export it again";

/// Required extensions that do not change the shape; quantisation needs no more than accessors do.
const HARMLESS: [&str; 7] = [
    "KHR_materials_",
    "KHR_texture_",
    "EXT_texture_",
    "KHR_lights_",
    "KHR_animation_",
    "KHR_xmp_",
    "KHR_mesh_quantization",
];

pub fn read(source: &Source, format: Format) -> Result<Mesh> {
    let (json, chunk) = match format {
        Format::Glb => split_glb(source)?,
        _ => (source.bytes, None),
    };
    let root: Root = serde_json::from_slice(json)
        .map_err(|error| source.error("JSON", format_args!("no glTF 2.0 document: {error}"), DAMAGED))?;
    refuse_extensions(source, &root)?;
    let buffers = Buffers::load(source, &root, chunk)?;
    let mut scene = Scene { source, root: &root, buffers: &buffers, parts: Parts::default() };
    scene.read()?;
    scene.parts.finish(source)
}

/// The JSON and the binary chunk (glTF 2.0, 4.4); chunks of other types are skipped.
fn split_glb<'a>(source: &Source<'a>) -> Result<(&'a [u8], Option<&'a [u8]>)> {
    let bytes = source.bytes;
    let error = |at: usize, problem: String| {
        source.error(format_args!("byte {at}"), problem, "the file is cut short or no GLB: get it again")
    };
    let word = |at: usize| {
        let found = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
        found
            .map(|bytes| u32::from_le_bytes(*bytes))
            .ok_or_else(|| error(at, "the file ends here".to_string()))
    };
    if !bytes.starts_with(b"glTF") {
        return Err(error(0, "expected \"glTF\"".to_string()));
    }
    let version = word(4)?;
    if version != 2 {
        return Err(source.error(
            "byte 4",
            format_args!("expected version 2, found {version}"),
            "export as glTF 2.0",
        ));
    }
    let length = word(8)? as usize;
    if length > bytes.len() {
        return Err(error(8, format!("expected {length} bytes, the file has {}", bytes.len())));
    }
    let (mut json, mut chunk, mut at) = (None, None, 12);
    while at < length {
        let (size, kind) = (word(at)? as usize, word(at + 4)?);
        let start = at + 8;
        let Some(content) = start.checked_add(size).and_then(|end| bytes.get(start..end)) else {
            return Err(error(at, format!("a chunk of {size} bytes, {} are left", bytes.len() - start)));
        };
        match &kind.to_le_bytes() {
            b"JSON" if json.is_none() => json = Some(content),
            b"BIN\0" if chunk.is_none() => chunk = Some(content),
            _ => {}
        }
        at = start + size;
    }
    Ok((json.ok_or_else(|| error(12, "expected a JSON chunk, found none".to_string()))?, chunk))
}

fn refuse_extensions(source: &Source, root: &Root) -> Result<()> {
    let understood = |name: &String| HARMLESS.iter().any(|prefix| name.starts_with(prefix));
    let Some(name) = root.extensions_required.iter().find(|name| !understood(name)) else { return Ok(()) };
    let remedy = if name.contains("draco") || name.contains("meshopt") {
        "export without mesh compression"
    } else {
        "export without it"
    };
    Err(source.error("extensionsRequired", format_args!("the extension {name} is not supported"), remedy))
}

struct Scene<'a> {
    source: &'a Source<'a>,
    root: &'a Root,
    buffers: &'a Buffers<'a>,
    parts: Parts,
}

impl Scene<'_> {
    fn error(&self, node: usize, problem: impl std::fmt::Display) -> Error {
        self.source.error(format_args!("node {node}"), problem, DAMAGED)
    }

    /// The nodes to start from: of the default scene, else of the first, else those without a parent.
    fn starts(&self) -> Result<Vec<usize>> {
        let scene = match self.root.scene {
            Some(scene) => Some(self.root.get(scene).ok_or_else(|| {
                self.source.error("scene", format_args!("there is no scene {}", scene.value()), DAMAGED)
            })?),
            None => self.root.scenes.first(),
        };
        if let Some(scene) = scene {
            return Ok(scene.nodes.iter().map(Index::value).collect());
        }
        let children = self.root.nodes.iter().flat_map(|node| node.children.iter().flatten());
        let children: std::collections::HashSet<usize> = children.map(Index::value).collect();
        Ok((0..self.root.nodes.len()).filter(|node| !children.contains(node)).collect())
    }

    fn read(&mut self) -> Result<()> {
        if self.root.nodes.is_empty() {
            for mesh in 0..self.root.meshes.len() {
                self.read_mesh(mesh, 0, DMat4::IDENTITY)?;
            }
            return Ok(());
        }
        let mut stack: Vec<_> =
            self.starts()?.into_iter().rev().map(|node| (node, DMat4::IDENTITY)).collect();
        let mut visited = vec![false; self.root.nodes.len()];
        while let Some((index, parent)) = stack.pop() {
            let root = self.root;
            let node = root.nodes.get(index).ok_or_else(|| self.error(index, "there is none"))?;
            if std::mem::replace(&mut visited[index], true) {
                return Err(self.error(index, "it is reached twice: the nodes are no tree"));
            }
            let world = parent * local_transform(node);
            if let Some(mesh) = node.mesh {
                self.read_mesh(mesh.value(), index, world)?;
            }
            stack.extend(node.children.iter().flatten().rev().map(|child| (child.value(), world)));
        }
        Ok(())
    }

    fn read_mesh(&mut self, mesh: usize, node: usize, world: DMat4) -> Result<()> {
        let root = self.root;
        let Some(found) = root.meshes.get(mesh) else {
            return Err(self.error(node, format_args!("it refers to mesh {mesh}, there is none")));
        };
        for primitive in &found.primitives {
            self.read_primitive(mesh, node, primitive, world)?;
        }
        Ok(())
    }

    fn read_primitive(
        &mut self,
        mesh: usize,
        node: usize,
        primitive: &Primitive,
        world: DMat4,
    ) -> Result<()> {
        let Checked::Valid(mode @ (Mode::Triangles | Mode::TriangleStrip | Mode::TriangleFan)) =
            primitive.mode
        else {
            return Ok(());
        };
        let attribute = |semantic: Semantic| primitive.attributes.get(&Checked::Valid(semantic)).copied();
        let Some(positions) = attribute(Semantic::Positions) else { return Ok(()) };
        let positions = self.buffers.vectors(positions)?;
        let normals =
            attribute(Semantic::Normals).map(|normals| self.buffers.vectors(normals)).transpose()?;
        let indices = match primitive.indices {
            Some(indices) => self.buffers.indices(indices)?,
            None => (0..positions.len() as u32).collect(),
        };
        if let Some(index) = indices.iter().find(|&&index| index as usize >= positions.len()) {
            let problem = format!("index {index} is beyond the {} vertices", positions.len());
            return Err(self.source.error(format_args!("mesh {mesh}"), problem, DAMAGED));
        }
        let first = self.parts.positions.len();
        if first + positions.len() > MAX_ELEMENTS || self.parts.triangles.len() + indices.len() > MAX_ELEMENTS
        {
            return Err(self.source.error(
                format_args!("node {node}"),
                format_args!("the scene grows beyond {MAX_ELEMENTS} vertices or triangles"),
                "simplify the mesh",
            ));
        }
        for (index, position) in positions.iter().enumerate() {
            let moved = world.transform_point3(DVec3::from_array(position.map(f64::from))).to_array();
            let place = format_args!("mesh {mesh} under node {node}");
            self.parts.positions.push(finite_vertex(self.source, place, index, moved)?);
        }
        if let Some(normals) = normals.filter(|normals| normals.len() == positions.len()) {
            // Zero stands for the vertices before that have none.
            self.parts.normals.resize(first, [0.0; 3]);
            let turn = normal_transform(world);
            let turned =
                |normal: &[f32; 3]| (turn * DVec3::from_array(normal.map(f64::from))).normalize_or_zero();
            self.parts.normals.extend(normals.iter().map(|normal| turned(normal).as_vec3().to_array()));
        }
        if !self.parts.normals.is_empty() {
            self.parts.normals.resize(self.parts.positions.len(), [0.0; 3]);
        }
        let mirrored = DMat3::from_mat4(world).determinant() < 0.0;
        self.parts.triangles.extend(triangles(mode, &indices).map(|[a, b, c]| {
            let [b, c] = if mirrored { [c, b] } else { [b, c] };
            [a, b, c].map(|index| first as u32 + index)
        }));
        Ok(())
    }
}

fn local_transform(node: &Node) -> DMat4 {
    if let Some(matrix) = node.matrix {
        return DMat4::from_cols_array(&matrix.map(f64::from));
    }
    let vector = |given: Option<[f32; 3]>, default: DVec3| {
        given.map_or(default, |given| DVec3::from_array(given.map(f64::from)))
    };
    let rotation = node.rotation.map_or(DQuat::IDENTITY, |given| {
        let quaternion = DQuat::from_array(given.0.map(f64::from));
        if quaternion.length() > 0.0 { quaternion.normalize() } else { DQuat::IDENTITY }
    });
    let scale = vector(node.scale, DVec3::ONE);
    DMat4::from_scale_rotation_translation(scale, rotation, vector(node.translation, DVec3::ZERO))
}

/// The inverse transpose up to a positive factor, also where the transform flattens one direction.
fn normal_transform(world: DMat4) -> DMat3 {
    let DMat3 { x_axis: x, y_axis: y, z_axis: z } = DMat3::from_mat4(world);
    let sign = if x.cross(y).dot(z) < 0.0 { -1.0 } else { 1.0 };
    DMat3::from_cols(y.cross(z), z.cross(x), x.cross(y)) * sign
}

/// The triangles of a primitive; every second one of a strip is turned (glTF 2.0, 3.7.2.1).
fn triangles(mode: Mode, indices: &[u32]) -> Box<dyn Iterator<Item = [u32; 3]> + '_> {
    match mode {
        Mode::TriangleStrip => Box::new(indices.windows(3).enumerate().map(|(number, corners)| {
            if number % 2 == 0 {
                [corners[0], corners[1], corners[2]]
            } else {
                [corners[0], corners[2], corners[1]]
            }
        })),
        Mode::TriangleFan => {
            Box::new(indices.windows(2).skip(1).map(|corners| [indices[0], corners[0], corners[1]]))
        }
        _ => Box::new(indices.as_chunks::<3>().0.iter().copied()),
    }
}
