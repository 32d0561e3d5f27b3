//! The bytes of one mesh in a shard (docs/datasets.md, "A record").

use super::{DistancePoints, SetSettings};
use crate::error::{Error, Result};
use crate::hexplane::Planes;
use crate::hexplane::cache::Storage;
use crate::mesh::{Mesh, Similarity};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::borrow::Cow;
use std::ops::Range;

/// Every part begins at a multiple of this, which suits any number and a line of the processor's cache.
pub const ALIGNMENT: usize = 64;
const MAGIC: &[u8; 8] = b"HXRECRD1";
const HEAD: usize = 128;

/// A mesh as it goes into a set.
pub struct Record {
    /// With the map from the mesh's own frame.
    pub planes: Planes,
    pub points: DistancePoints,
    /// In the normalised frame, where the set keeps meshes.
    pub mesh: Option<Mesh>,
}

impl Record {
    /// The bytes of a shard, a multiple of 64.
    pub fn to_bytes(&self, storage: Storage) -> Vec<u8> {
        let Self { planes, points, mesh } = self;
        let none = Mesh::default();
        let mesh = mesh.as_ref().unwrap_or(&none);
        let mut bytes = MAGIC.to_vec();
        let Similarity { rotation, centre, scale } = planes.transform;
        let transform = rotation.into_iter().flatten().chain(centre).chain([scale]);
        transform.for_each(|value| bytes.extend(value.to_le_bytes()));
        let counts = [
            points.points.len(),
            mesh.positions.len(),
            mesh.triangles.len(),
            usize::from(mesh.normals.is_some()),
        ];
        counts.into_iter().for_each(|count| bytes.extend((count as u32).to_le_bytes()));
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        };
        match storage {
            Storage::Fp32 => part(bytemuck::cast_slice(&planes.values)),
            Storage::Fp16 => {
                let mut values = vec![f16::ZERO; planes.values.len()];
                values.convert_from_f32_slice(&planes.values);
                part(bytemuck::cast_slice(&values));
            }
        }
        part(bytemuck::cast_slice(&points.points));
        part(bytemuck::cast_slice(&points.distances));
        part(bytemuck::cast_slice(&mesh.positions));
        part(bytemuck::cast_slice(mesh.normals.as_deref().unwrap_or_default()));
        part(bytemuck::cast_slice(&mesh.triangles));
        bytes
    }
}

/// A record in place.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    settings: &'a SetSettings,
    counts: [usize; 4],
}

impl<'a> RecordView<'a> {
    /// Of bytes that begin at a multiple of 64; `place` stands for them in messages.
    ///
    /// # Errors
    /// Bytes that are no record of such a set.
    pub fn new(bytes: &'a [u8], settings: &'a SetSettings, place: &str) -> Result<Self> {
        let wrong = |problem: String| Err(Error::new(place, problem, super::REBUILD));
        if bytes.len() < HEAD || &bytes[..8] != MAGIC {
            return wrong("its bytes are no record of a mesh".to_string());
        }
        let count = |k: usize| {
            let at = HEAD - 16 + 4 * k;
            bytes[at..at + 4].iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte))
        };
        let view = Self { bytes, settings, counts: [0, 1, 2, 3].map(count) };
        let end = view.part(5).end.next_multiple_of(ALIGNMENT);
        if end != bytes.len() {
            return wrong(format!("it has {} bytes, its head says {end}", bytes.len()));
        }
        Ok(view)
    }

    /// Whether what it refers to is there, which reading relies on: all of it is looked at.
    pub(super) fn is_sound(&self) -> bool {
        let [_, vertices, ..] = self.counts;
        self.triangles().iter().flatten().all(|&vertex| (vertex as usize) < vertices)
    }

    /// Where part `index` lies.
    fn part(&self, index: usize) -> Range<usize> {
        let [points, vertices, triangles, normals] = self.counts;
        let lengths = [
            self.settings.values() * self.settings.storage.bytes(),
            12 * points,
            4 * points,
            12 * vertices,
            12 * vertices * normals.min(1),
            12 * triangles,
        ];
        let start = HEAD + lengths[..index].iter().map(|l| l.next_multiple_of(ALIGNMENT)).sum::<usize>();
        start..start + lengths[index]
    }

    fn of<T: bytemuck::Pod>(&self, index: usize) -> &'a [T] {
        bytemuck::cast_slice(&self.bytes[self.part(index)])
    }

    /// `[6, size, size, channels]`; in place where the set holds fp32.
    pub fn planes(&self) -> Cow<'a, [f32]> {
        match self.settings.storage {
            Storage::Fp32 => Cow::Borrowed(self.of(0)),
            Storage::Fp16 => {
                let mut values = vec![0.0; self.settings.values()];
                self.planes_fp16().convert_to_f32_slice(&mut values);
                Cow::Owned(values)
            }
        }
    }

    /// The same in place where the set holds fp16; else empty.
    pub fn planes_fp16(&self) -> &'a [f16] {
        if self.settings.storage == Storage::Fp16 { self.of(0) } else { &[] }
    }

    /// Even entries near the surface, odd ones anywhere, in the normalised frame.
    pub fn points(&self) -> &'a [[f32; 3]] {
        self.of(1)
    }

    /// Of the points, signed, in world units, not clipped.
    pub fn distances(&self) -> &'a [f32] {
        self.of(2)
    }

    fn triangles(&self) -> &'a [[u32; 3]] {
        self.of(5)
    }

    /// From the mesh's own frame to the normalised one.
    pub fn transform(&self) -> Similarity {
        let value = |k: usize| f64::from_le_bytes(std::array::from_fn(|i| self.bytes[8 + 8 * k + i]));
        Similarity {
            rotation: std::array::from_fn(|row| std::array::from_fn(|column| value(3 * row + column))),
            centre: std::array::from_fn(|axis| value(9 + axis)),
            scale: value(12),
        }
    }

    /// A copy of the normalised mesh; `None` where the set keeps none.
    pub fn mesh(&self) -> Option<Mesh> {
        let triangles = self.triangles();
        (!triangles.is_empty()).then(|| Mesh {
            positions: self.of(3).to_vec(),
            normals: (self.counts[3] > 0).then(|| self.of(4).to_vec()),
            triangles: triangles.to_vec(),
        })
    }
}
