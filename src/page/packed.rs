//! A mesh in few bytes: welded, quantised, thinned where it is too large for a file.
//!
//! `HXMC` (docs/serve.md, "Bytes"): after the header, `V` vertices and `T` triangles: for each axis the low bytes, then the
//! high bytes of `V` zigzag differences of 16-bit coordinates; then `3 T` variable-length integers, each the distance of
//! an index below the next unused one (0: the next unused one itself), which works because vertices stand in the order of
//! their first use. `binary.js` reads it back.

use crate::mesh::Mesh;
use half::f16;
use std::collections::{HashMap, HashSet};

const VERSION: u32 = 1;
/// Above this many triangles a mesh is thinned to at most [`SHOWN`].
const WHOLE: usize = 150_000;
const SHOWN: usize = 120_000;
/// Steps across the longest side of the bounding box.
const STEPS: f32 = 65_535.0;

type Cell = [u16; 3];

/// Quantised positions and triangles over them.
#[derive(Default)]
pub struct Lattice {
    points: Vec<Cell>,
    triangles: Vec<[u32; 3]>,
    /// Position = `low + step * point`.
    low: [f32; 3],
    step: f32,
    /// Triangles before thinning.
    total: usize,
}

impl Lattice {
    /// Of a mesh; `None` without a triangle of finite, existing corners that span an area.
    pub fn new(mesh: &Mesh) -> Option<Self> {
        let sound = |triangle: &&[u32; 3]| {
            triangle.iter().all(|&vertex| {
                mesh.positions.get(vertex as usize).is_some_and(|p| p.iter().all(|c| c.is_finite()))
            })
        };
        let corners: Vec<[[f32; 3]; 3]> = (mesh.triangles.iter().filter(sound))
            .map(|triangle| triangle.map(|vertex| mesh.positions[vertex as usize]))
            .collect();
        let mut low = [f32::INFINITY; 3];
        let mut high = [f32::NEG_INFINITY; 3];
        for point in corners.iter().flatten() {
            for axis in 0..3 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let step = (0..3).map(|axis| high[axis] - low[axis]).fold(0.0, f32::max) / STEPS;
        if !(step.is_normal()) {
            return None;
        }
        let quantise =
            |p: [f32; 3]| std::array::from_fn(|axis| ((p[axis] - low[axis]) / step).round() as u16);
        let mut lattice = welded(corners.iter().map(|corner| corner.map(quantise)));
        let total = lattice.triangles.len();
        if total > WHOLE {
            lattice = thinned(&lattice);
        }
        (!lattice.triangles.is_empty()).then_some(Self { low, step, total, ..lattice })
    }

    pub fn positions(&self) -> Vec<[f32; 3]> {
        let position =
            |cell: &Cell| std::array::from_fn(|axis| self.low[axis] + self.step * f32::from(cell[axis]));
        self.points.iter().map(position).collect()
    }

    /// `HXMC`, with a distance a vertex where there are such.
    pub fn bytes(&self, distances: Option<&[f32]>) -> Vec<u8> {
        let (vertices, triangles) = (self.points.len(), self.triangles.len());
        let mut bytes = Vec::with_capacity(40 + 8 * vertices + 4 * triangles);
        bytes.extend(b"HXMC");
        let words =
            [VERSION, vertices as u32, triangles as u32, u32::from(distances.is_some()), self.total as u32];
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        self.low.iter().chain([&self.step]).for_each(|number| bytes.extend(number.to_le_bytes()));
        self.write_points(&mut bytes);
        self.write_triangles(&mut bytes);
        let halves: Vec<u16> =
            distances.into_iter().flatten().map(|&distance| f16::from_f32(distance).to_bits()).collect();
        bytes.extend(halves.iter().map(|&bits| bits as u8));
        bytes.extend(halves.iter().map(|&bits| (bits >> 8) as u8));
        bytes
    }

    fn write_points(&self, bytes: &mut Vec<u8>) {
        for axis in 0..3 {
            let mut before = 0u16;
            let differences: Vec<u16> = (self.points.iter())
                .map(|point| {
                    let difference = point[axis].wrapping_sub(before) as i16;
                    before = point[axis];
                    ((difference << 1) ^ (difference >> 15)) as u16
                })
                .collect();
            bytes.extend(differences.iter().map(|&d| d as u8));
            bytes.extend(differences.iter().map(|&d| (d >> 8) as u8));
        }
    }

    fn write_triangles(&self, bytes: &mut Vec<u8>) {
        let mut next = 0;
        for &index in self.triangles.iter().flatten() {
            let mut below = next - index;
            if below == 0 {
                next += 1;
            }
            while below >= 128 {
                bytes.push(below as u8 | 128);
                below >>= 7;
            }
            bytes.push(below as u8);
        }
    }
}

/// Equal points become one vertex, numbered by first use; triangles without an area go.
fn welded(corners: impl Iterator<Item = [Cell; 3]>) -> Lattice {
    let mut numbers: HashMap<Cell, u32> = HashMap::new();
    let mut lattice = Lattice::default();
    for [a, b, c] in corners {
        if a == b || b == c || c == a {
            continue;
        }
        lattice.triangles.push([a, b, c].map(|point| {
            *numbers.entry(point).or_insert_with(|| {
                lattice.points.push(point);
                lattice.points.len() as u32 - 1
            })
        }));
    }
    lattice
}

/// Vertex clustering (Rossignac and Borrel 1993) on the finest grid that leaves at most [`SHOWN`]
/// triangles. Two cells a side leave at most 112, so there always is one.
fn thinned(lattice: &Lattice) -> Lattice {
    let (mut coarse, mut fine) = (2, 2048);
    while fine - coarse > 1 {
        let middle = (coarse + fine) / 2;
        if clustered_triangles(lattice, &clusters(lattice, middle).0).len() <= SHOWN {
            coarse = middle;
        } else {
            fine = middle;
        }
    }
    let (cluster_of, means) = clusters(lattice, coarse);
    let triangles = clustered_triangles(lattice, &cluster_of);
    welded(triangles.into_iter().map(|triangle| triangle.map(|cluster| means[cluster as usize])))
}

/// The cluster of every point on a grid of `cells` a side, and the mean point of every cluster.
fn clusters(lattice: &Lattice, cells: u32) -> (Vec<u32>, Vec<Cell>) {
    let mut numbers: HashMap<Cell, u32> = HashMap::new();
    let mut sums: Vec<([u64; 3], u64)> = Vec::new();
    let mut cluster_of = Vec::with_capacity(lattice.points.len());
    for point in &lattice.points {
        let cell = point.map(|coordinate| (u32::from(coordinate) * cells / 65_536) as u16);
        let number = *numbers.entry(cell).or_insert_with(|| {
            sums.push(([0; 3], 0));
            sums.len() as u32 - 1
        });
        let (sum, count) = &mut sums[number as usize];
        for axis in 0..3 {
            sum[axis] += u64::from(point[axis]);
        }
        *count += 1;
        cluster_of.push(number);
    }
    let means = sums.iter().map(|(sum, count)| sum.map(|s| (s / count) as u16)).collect();
    (cluster_of, means)
}

/// Triangles whose corners lie in three clusters, each kept once.
fn clustered_triangles(lattice: &Lattice, cluster_of: &[u32]) -> Vec<[u32; 3]> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for triangle in &lattice.triangles {
        let [a, b, c] = triangle.map(|vertex| cluster_of[vertex as usize]);
        if a == b || b == c || c == a {
            continue;
        }
        let smallest_first = if a < b && a < c {
            [a, b, c]
        } else if b < c {
            [b, c, a]
        } else {
            [c, a, b]
        };
        if seen.insert(smallest_first) {
            kept.push(smallest_first);
        }
    }
    kept
}
