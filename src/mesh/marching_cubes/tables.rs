//! The cell: numbering of corners, edges and faces, contour loops, and the triangles of the sign
//! patterns that the signs alone decide.
//!
//! Corner `c` lies at (c & 1, c >> 1 & 1, c >> 2 & 1). Edges 0-3 run along x at (y, z) = (e & 1,
//! e >> 1), edges 4-7 along y at (x, z), edges 8-11 along z at (x, y). Face `2 * axis + side`.

use std::sync::LazyLock;

use super::polygon;

/// Corners of each edge, low end first.
pub const EDGE_CORNERS: [[usize; 2]; 12] =
    [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]];

/// Corners of each face, counter-clockwise seen from outside the cell.
pub const FACE_CORNERS: [[usize; 4]; 6] =
    [[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]];

/// Edge `i` of a face joins its corners `i` and `i + 1`.
const FACE_EDGES: [[u8; 4]; 6] =
    [[8, 6, 10, 4], [5, 11, 7, 9], [0, 9, 2, 8], [10, 3, 11, 1], [4, 1, 5, 0], [2, 7, 3, 6]];

/// Two edges with a common bit lie in a common face.
pub const EDGE_FACES: [u8; 12] = {
    let mut masks = [0; 12];
    let mut face = 0;
    while face < 6 {
        let mut i = 0;
        while i < 4 {
            masks[FACE_EDGES[face][i] as usize] |= 1 << face;
            i += 1;
        }
        face += 1;
    }
    masks
};

/// Bit `e` of entry `case` is set where the surface crosses edge `e`; bit `c` of a case is set
/// where corner `c` is inside.
pub const CASE_EDGES: [u16; 256] = {
    let mut masks = [0; 256];
    let mut case = 0;
    while case < 256 {
        let mut edge = 0;
        while edge < 12 {
            let [a, b] = EDGE_CORNERS[edge];
            masks[case] |= (((case >> a ^ case >> b) & 1) << edge) as u16;
            edge += 1;
        }
        case += 1;
    }
    masks
};

/// Whether the inside corners of `face` are two diagonal ones.
pub fn is_ambiguous(case: u8, face: usize) -> bool {
    let inside = FACE_CORNERS[face].map(|corner| case >> corner & 1);
    inside[0] == inside[2] && inside[1] == inside[3] && inside[0] != inside[1]
}

/// The closed polygons in which a surface meets the faces of a cell: at most four, of three to
/// twelve edges each, counter-clockwise seen from the outside of the surface.
#[derive(Default)]
pub struct Loops {
    edges: [u8; 12],
    ends: [usize; 4],
    count: usize,
}

impl Loops {
    /// Follows the contour lines from face to face. Bit `f` of `joined` says that the two inside
    /// corners of the ambiguous face `f` are connected within the face.
    pub fn trace(case: u8, joined: u8) -> Self {
        let next = successors(case, joined);
        let mut remaining = CASE_EDGES[case as usize];
        let mut loops = Loops::default();
        let mut length = 0;
        while remaining != 0 {
            let first = remaining.trailing_zeros() as u8;
            let mut edge = first;
            loop {
                loops.edges[length] = edge;
                length += 1;
                remaining &= !(1 << edge);
                edge = next[edge as usize];
                if edge == first {
                    break;
                }
            }
            loops.ends[loops.count] = length;
            loops.count += 1;
        }
        loops
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.edges[start..self.ends[index]]
    }
}

/// For each crossed edge the edge at the other end of the contour line that starts there. Seen
/// from outside the cell a line has the inside on its right. Every crossed edge lies in two faces
/// and is walked in opposite directions there, so it starts one line and ends one.
fn successors(case: u8, joined: u8) -> [u8; 12] {
    let mut next = [0; 12];
    for face in 0..6 {
        let inside = FACE_CORNERS[face].map(|corner| case >> corner & 1 == 1);
        let edges = FACE_EDGES[face];
        let enters = |i: usize| !inside[i % 4] && inside[(i + 1) % 4];
        let leaves = |i: usize| inside[i % 4] && !inside[(i + 1) % 4];
        let around_outside = joined >> face & 1 == 1 && is_ambiguous(case, face);
        for start in (0..4).filter(|&i| enters(i)) {
            // The line cuts off the outside corner just passed, or the inside corners to come.
            let end = if around_outside {
                (start + 3) % 4
            } else {
                (1..4).map(|k| start + k).find(|&i| leaves(i)).unwrap_or(start) % 4
            };
            next[edges[start] as usize] = edges[end];
        }
    }
    next
}

/// Triangles of a sign pattern, as edges.
#[derive(Clone, Copy)]
pub struct Entry {
    triangles: [[u8; 3]; MAX_PLAIN],
    /// `None` where the values must decide: an ambiguous face, or more than one loop.
    count: Option<u8>,
}

const MAX_PLAIN: usize = 5;

impl Entry {
    /// The triangles; `None` where the values must decide.
    pub fn triangles(&self) -> Option<&[[u8; 3]]> {
        self.count.map(|count| &self.triangles[..count as usize])
    }
}

/// One entry for each of the 256 sign patterns.
pub static CASES: LazyLock<[Entry; 256]> = LazyLock::new(|| std::array::from_fn(|case| entry(case as u8)));

fn entry(case: u8) -> Entry {
    let mut entry = Entry { triangles: [[0; 3]; MAX_PLAIN], count: None };
    let loops = Loops::trace(case, 0);
    let plain = loops.len() <= 1 && !(0..6).any(|face| is_ambiguous(case, face));
    if !plain {
        return entry;
    }
    let midpoints: [_; 12] = std::array::from_fn(|edge| polygon::edge_point(edge, 0.5));
    let mut triangles = Vec::new();
    let done = loops.len() == 0 || polygon::disc(loops.get(0), &midpoints, &mut triangles);
    if done && triangles.len() <= MAX_PLAIN {
        entry.triangles[..triangles.len()].copy_from_slice(&triangles);
        entry.count = Some(triangles.len() as u8);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbering_is_consistent() {
        for (edge, corners) in EDGE_CORNERS.iter().enumerate() {
            assert_eq!(corners[0] ^ corners[1], 1 << (edge / 4), "edge {edge} runs along its axis");
            assert_eq!(EDGE_FACES[edge].count_ones(), 2);
        }
        for face in 0..6 {
            for i in 0..4 {
                let mut ends = [FACE_CORNERS[face][i], FACE_CORNERS[face][(i + 1) % 4]];
                assert_eq!(ends[0] >> (face / 2) & 1, face & 1, "corner on its face");
                ends.sort();
                assert_eq!(EDGE_CORNERS[FACE_EDGES[face][i] as usize], ends);
            }
        }
    }

    /// The signs alone decide the patterns of 9 of the 15 classes of Lorensen and Cline (1987).
    #[test]
    fn plain_cases_have_their_triangles() {
        let plain = (0..256).filter(|&case| CASES[case].triangles().is_some()).count();
        let by_rule = (0..=255u8)
            .filter(|&case| {
                let diagonal = [0b1000_0001, 0b0100_0010, 0b0010_0100, 0b0001_1000];
                let opposite = diagonal.iter().any(|&d| case == d || case == !d);
                !opposite && !(0..6).any(|face| is_ambiguous(case, face))
            })
            .count();
        assert_eq!(plain, by_rule);
        assert_eq!(CASES[1].triangles().map(<[_]>::len), Some(1));
        assert_eq!(CASES[0b1111].triangles().map(<[_]>::len), Some(2));
        assert_eq!(CASES[0].triangles().map(<[_]>::len), Some(0));
    }

    /// The tables as the kernels have them: the one source is this file.
    fn header() -> String {
        let list = |values: &[usize]| {
            let values: Vec<String> = values.iter().map(usize::to_string).collect();
            format!("{{{}}}", values.join(", "))
        };
        let lists = |rows: &[&[usize]]| {
            let rows: Vec<String> = rows.iter().map(|row| list(row)).collect();
            format!("{{{}}}", rows.join(", "))
        };
        let edge_corners = EDGE_CORNERS.each_ref().map(<[_; 2]>::as_slice);
        let face_corners = FACE_CORNERS.each_ref().map(<[_; 4]>::as_slice);
        let face_edges = FACE_EDGES.map(|edges| edges.map(usize::from));
        let face_edges = face_edges.each_ref().map(<[_; 4]>::as_slice);
        let edge_faces = EDGE_FACES.map(usize::from);
        let code = |entry: &Entry| {
            let Some(triangles) = entry.triangles() else { return 15 };
            let edges = triangles.iter().flatten().enumerate();
            edges.fold(triangles.len() as u64, |code, (i, &edge)| code | u64::from(edge) << (4 + 4 * i))
        };
        let cases: Vec<String> = CASES.iter().map(|entry| format!("0x{:016x}", code(entry))).collect();
        let cases: Vec<String> = cases.chunks(4).map(|row| format!("    {},\n", row.join(", "))).collect();
        format!(
            "// The tables of src/mesh/marching_cubes/tables.rs, whose tests compare this file with them.\n\
             #pragma once\n\n\
             // Corners of each edge, low end first.\n\
             static __device__ const unsigned char EDGE_CORNERS[12][2] =\n    {};\n\n\
             // Corners of each face, counter-clockwise seen from outside the cell.\n\
             static __device__ const unsigned char FACE_CORNERS[6][4] =\n    {};\n\n\
             // Edge `i` of a face joins its corners `i` and `i + 1`.\n\
             static __device__ const unsigned char FACE_EDGES[6][4] =\n    {};\n\n\
             // Two edges with a common bit lie in a common face.\n\
             static __device__ const unsigned char EDGE_FACES[12] = {};\n\n\
             // The triangles of each sign pattern: four bits for their number, 15 where the values must decide,\n\
             // then four bits an edge.\n\
             static __device__ const unsigned long long CASES[256] = {{\n{}}};\n",
            lists(&edge_corners),
            lists(&face_corners),
            lists(&face_edges),
            list(&edge_faces),
            cases.concat()
        )
    }

    #[test]
    fn the_kernels_have_the_same_tables() {
        let (found, header) = (include_str!("../../../kernels/marching_cubes_tables.cuh"), header());
        assert!(found == header, "kernels/marching_cubes_tables.cuh must read:\n{header}");
    }
}
