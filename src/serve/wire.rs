//! Planes and meshes as bytes, little-endian (docs/serve.md, "Bytes").

use crate::hexplane::Planes;
use crate::mesh::Mesh;
use half::f16;
use half::slice::HalfFloatSliceExt;

const VERSION: u32 = 1;

/// Values that are converted at a time.
const PIECE: usize = 4096;

fn head(magic: &[u8; 4], words: &[u32], room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + 4 * words.len() + room);
    bytes.extend(magic);
    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes
}

/// `HXPL`, version, size N, channels, then fp16 `[6, N, N, channels]`.
pub fn planes(planes: &Planes) -> Vec<u8> {
    let words = [VERSION, planes.size as u32, planes.channels() as u32];
    let mut bytes = head(b"HXPL", &words, 2 * planes.values.len());
    let mut piece = [f16::ZERO; PIECE];
    for values in planes.values.chunks(PIECE) {
        let piece = &mut piece[..values.len()];
        piece.convert_from_f32_slice(values);
        piece.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    }
    bytes
}

/// `HXMS`, version, vertices V, triangles T, flags (1: distances follow), f32 `[V, 3]`, u32 `[T, 3]`, then f32 `[V]`.
pub fn mesh(mesh: &Mesh, distances: Option<&[f32]>) -> Vec<u8> {
    let (vertices, triangles) = (mesh.positions.len(), mesh.triangles.len());
    let words = [VERSION, vertices as u32, triangles as u32, u32::from(distances.is_some())];
    let mut bytes = head(b"HXMS", &words, 16 * vertices + 12 * triangles);
    mesh.positions.iter().flatten().for_each(|c| bytes.extend(c.to_le_bytes()));
    mesh.triangles.iter().flatten().for_each(|index| bytes.extend(index.to_le_bytes()));
    distances.into_iter().flatten().for_each(|distance| bytes.extend(distance.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hexplane::Representation;
    use crate::mesh::Similarity;

    #[test]
    fn bytes_are_as_documented() {
        let mut all = Planes::background(Representation::Continuous, 2, Similarity::default());
        all.values[1] = -0.5;
        let bytes = planes(&all);
        assert_eq!(bytes.len(), 16 + 2 * 6 * 2 * 2 * 4);
        assert_eq!(&bytes[..20], b"HXPL\x01\0\0\0\x02\0\0\0\x04\0\0\0\0\x3c\0\xb8");
        let triangle = Mesh {
            positions: vec![[0.0, 0.5, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            normals: None,
            triangles: vec![[0, 1, 2]],
        };
        let bytes = mesh(&triangle, Some(&[0.25, 0.0, 2.0]));
        assert_eq!(&bytes[..20], b"HXMS\x01\0\0\0\x03\0\0\0\x01\0\0\0\x01\0\0\0");
        assert_eq!(bytes.len(), 20 + 36 + 12 + 12);
        assert_eq!(&bytes[24..28], &0.5f32.to_le_bytes());
        assert_eq!(&bytes[56..68], b"\0\0\0\0\x01\0\0\0\x02\0\0\0");
        assert_eq!(&bytes[68..72], &0.25f32.to_le_bytes());
    }
}
