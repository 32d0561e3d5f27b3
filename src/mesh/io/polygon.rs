//! Polygons to triangles: concave and many-cornered ones too, without losing a corner.

use std::fmt::Display;

use earcut::Earcut;
use glam::DVec3;

use super::Source;
use crate::error::Result;

/// More corners are refused: ear clipping is quadratic at worst.
const MAX_CORNERS: usize = 10_000;

/// The faces of a file, triangulated once all of its vertices are known.
#[derive(Default)]
pub struct Polygons {
    corners: Vec<u32>,
    /// The end of each face in `corners`.
    ends: Vec<usize>,
    /// The line or byte of each face, for messages.
    places: Vec<usize>,
}

impl Polygons {
    pub fn push_corner(&mut self, vertex: u32) {
        self.corners.push(vertex);
    }

    /// Ends the face made of the corners pushed since the last end.
    pub fn end_face(&mut self, place: usize) {
        self.ends.push(self.corners.len());
        self.places.push(place);
    }

    /// All corners, face after face.
    pub fn corners_mut(&mut self) -> &mut [u32] {
        &mut self.corners
    }

    /// The place of the face that has corner `index` of `corners_mut`.
    pub fn place_of_corner(&self, index: usize) -> usize {
        self.places[self.ends.partition_point(|&end| end <= index)]
    }

    /// Triangles of all faces over `positions`; faces of fewer than three corners have none.
    ///
    /// # Errors
    /// A corner out of range, or a face of too many corners; `place` puts its number into words.
    pub fn triangulate<P: Display>(
        &self,
        source: &Source,
        positions: &[[f32; 3]],
        place: impl Fn(usize) -> P,
    ) -> Result<Vec<[u32; 3]>> {
        if let Some(index) = self.corners.iter().position(|&corner| corner as usize >= positions.len()) {
            return Err(source.error(
                place(self.place_of_corner(index)),
                format_args!(
                    "a face refers to vertex {} counted from 0, there are {}",
                    self.corners[index],
                    positions.len()
                ),
                "the file is cut short or damaged: export it again",
            ));
        }
        let mut triangles = Vec::with_capacity(self.corners.len().saturating_sub(2 * self.ends.len()));
        let mut clipper = Clipper::default();
        let mut start = 0;
        for (&end, &at) in self.ends.iter().zip(&self.places) {
            let ring = &self.corners[start..end];
            start = end;
            match *ring {
                [a, b, c] => triangles.push([a, b, c]),
                [a, b, c, d] => triangles.extend(split_quad([a, b, c, d], positions)),
                _ if ring.len() < 3 => {}
                _ if ring.len() > MAX_CORNERS => {
                    return Err(source.error(
                        place(at),
                        format_args!("a face has {} corners, at most {MAX_CORNERS} are read", ring.len()),
                        "triangulate the mesh before export",
                    ));
                }
                _ => clipper.clip(ring, positions, &mut triangles),
            }
        }
        Ok(triangles)
    }
}

fn point(positions: &[[f32; 3]], vertex: u32) -> DVec3 {
    DVec3::from_array(positions[vertex as usize].map(f64::from))
}

/// Along the first diagonal, or along the second where the quad folds over the first one.
fn split_quad([a, b, c, d]: [u32; 4], positions: &[[f32; 3]]) -> [[u32; 3]; 2] {
    let [pa, pb, pc, pd] = [a, b, c, d].map(|vertex| point(positions, vertex));
    let normal = (pc - pa).cross(pd - pb);
    let along = |p: DVec3, q: DVec3, r: DVec3| (q - p).cross(r - p).dot(normal);
    let first = along(pa, pb, pc).min(along(pa, pc, pd));
    let second = along(pa, pb, pd).min(along(pb, pc, pd));
    if first < 0.0 && second > first { [[a, b, d], [b, c, d]] } else { [[a, b, c], [a, c, d]] }
}

#[derive(Default)]
struct Clipper {
    earcut: Earcut<f64>,
    flat: Vec<[f64; 2]>,
    found: Vec<u32>,
}

impl Clipper {
    /// Ear clipping in the plane that the ring spans (Newell normal). It drops corners that lie on a
    /// straight edge, which would leave a crack towards the neighbour, so these are put back; where
    /// the ring crosses itself and ears fail, a fan still uses every edge of the ring.
    fn clip(&mut self, ring: &[u32], positions: &[[f32; 3]], triangles: &mut Vec<[u32; 3]>) {
        self.flatten(ring, positions);
        self.found.clear();
        self.earcut.earcut::<u32>(self.flat.iter().copied(), &[], &mut self.found);
        let mut local: Vec<[u32; 3]> = self.found.as_chunks::<3>().0.to_vec();
        for triangle in &mut local {
            if self.doubled_area(*triangle) < 0.0 {
                triangle.swap(1, 2);
            }
        }
        restore_straight_corners(ring.len() as u32, &mut local);
        if local.len() != ring.len() - 2 {
            local = (1..ring.len() as u32 - 1).map(|corner| [0, corner, corner + 1]).collect();
        }
        triangles.extend(local.iter().map(|triangle| triangle.map(|corner| ring[corner as usize])));
    }

    fn flatten(&mut self, ring: &[u32], positions: &[[f32; 3]]) {
        let origin = point(positions, ring[0]);
        let offset = |corner: usize| point(positions, ring[corner % ring.len()]) - origin;
        let normal: DVec3 = (0..ring.len()).map(|corner| offset(corner).cross(offset(corner + 1))).sum();
        let (right, up) = normal.try_normalize().unwrap_or(DVec3::Z).any_orthonormal_pair();
        self.flat.clear();
        self.flat.extend((0..ring.len()).map(|corner| [offset(corner).dot(right), offset(corner).dot(up)]));
    }

    fn doubled_area(&self, triangle: [u32; 3]) -> f64 {
        let [a, b, c] = triangle.map(|corner| self.flat[corner as usize]);
        (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    }
}

/// Splits the triangle at each edge that skips corners of the ring, so that it has them all.
fn restore_straight_corners(corners: u32, triangles: &mut Vec<[u32; 3]>) {
    let mut used = vec![false; corners as usize];
    triangles.iter().flatten().for_each(|&corner| used[corner as usize] = true);
    let Some(first) = used.iter().position(|&used| used) else { return };
    let mut previous = first as u32;
    let mut skipped = Vec::new();
    for step in 1..=corners {
        let corner = (first as u32 + step) % corners;
        if !used[corner as usize] {
            skipped.push(corner);
            continue;
        }
        if !skipped.is_empty() {
            split_edge(previous, corner, &skipped, triangles);
            skipped.clear();
        }
        previous = corner;
    }
}

fn split_edge(from: u32, to: u32, between: &[u32], triangles: &mut Vec<[u32; 3]>) {
    let turned = |t: [u32; 3]| [t, [t[1], t[2], t[0]], [t[2], t[0], t[1]]];
    let found = triangles.iter().enumerate().find_map(|(index, &triangle)| {
        let hit = turned(triangle).into_iter().find(|t| t[0] == from && t[1] == to)?;
        Some((index, hit[2]))
    });
    let Some((index, apex)) = found else { return };
    let mut start = from;
    for &corner in between {
        triangles.push([start, corner, apex]);
        start = corner;
    }
    triangles[index] = [start, to, apex];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triangulate(ring: &[[f32; 3]]) -> Vec<[u32; 3]> {
        let mut polygons = Polygons::default();
        (0..ring.len() as u32).for_each(|corner| polygons.push_corner(corner));
        polygons.end_face(1);
        let source = Source { bytes: b"", name: "test", folder: None };
        polygons.triangulate(&source, ring, |line| line).unwrap()
    }

    /// Signed areas along +z, and the edges that have no opposite: the ring in a right triangulation.
    fn areas_and_rim(ring: &[[f32; 3]], triangles: &[[u32; 3]]) -> (Vec<f32>, Vec<[u32; 2]>) {
        let p = |corner: u32| ring[corner as usize];
        let area = |&[a, b, c]: &[u32; 3]| {
            let (a, b, c) = (p(a), p(b), p(c));
            0.5 * ((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
        };
        let edges: Vec<_> = triangles.iter().flat_map(|&[a, b, c]| [[a, b], [b, c], [c, a]]).collect();
        let mut rim: Vec<_> = edges.iter().filter(|[a, b]| !edges.contains(&[*b, *a])).copied().collect();
        rim.sort_unstable();
        (triangles.iter().map(area).collect(), rim)
    }

    fn assert_tiles(ring: &[[f32; 3]], expected_area: f32) {
        let triangles = triangulate(ring);
        let (areas, rim) = areas_and_rim(ring, &triangles);
        assert_eq!(triangles.len(), ring.len() - 2);
        assert!(areas.iter().all(|&area| area > 0.0), "{triangles:?} {areas:?}");
        assert!((areas.iter().sum::<f32>() - expected_area).abs() < 1e-5 * expected_area);
        let count = ring.len() as u32;
        let expected: Vec<_> = (0..count).map(|corner| [corner, (corner + 1) % count]).collect();
        assert!(expected.iter().all(|edge| rim.contains(edge)) && rim.len() == expected.len(), "{rim:?}");
    }

    #[test]
    fn concave_quads_split_along_the_inner_diagonal() {
        for turn in 0..4 {
            let mut dart = [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 4.0, 0.0]];
            dart.rotate_left(turn);
            assert_tiles(&dart, 4.0);
        }
    }

    #[test]
    fn concave_polygons_are_tiled_by_triangles_that_face_their_way() {
        let ell = [[0.0, 0.0], [3.0, 0.0], [3.0, 1.0], [1.0, 1.0], [1.0, 3.0], [0.0, 3.0]];
        assert_tiles(&ell.map(|[x, y]| [x, y, 7.0]), 5.0);
        let star: Vec<_> = (0..14)
            .map(|k| {
                let (radius, angle) = ([2.0_f32, 0.5][k % 2], k as f32 * std::f32::consts::PI / 7.0);
                [radius * angle.cos(), radius * angle.sin(), 0.0]
            })
            .collect();
        // 14 triangles between neighbouring spokes: r R sin(pi / 7) / 2 each.
        assert_tiles(&star, 14.0 * 0.5 * 2.0 * 0.5 * (std::f32::consts::PI / 7.0).sin());
    }

    #[test]
    fn corners_on_a_straight_edge_are_kept() {
        let ring = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [3.0, 3.0], [1.5, 3.0], [0.0, 3.0]];
        assert_tiles(&ring.map(|[x, y]| [x, y, 0.0]), 9.0);
    }

    #[test]
    fn a_polygon_that_crosses_itself_still_uses_every_edge_of_its_ring() {
        let ring = [[0.0, 0.0], [2.0, 2.0], [2.0, 0.0], [0.0, 2.0], [1.0, 3.0]].map(|[x, y]| [x, y, 0.0]);
        let triangles = triangulate(&ring);
        assert_eq!(triangles.len(), 3);
    }
}
