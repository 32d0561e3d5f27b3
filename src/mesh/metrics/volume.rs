//! Inside and outside on a grid, and the IoU of two insides.

use rayon::prelude::*;

use crate::device::Device;
use crate::error::Result;
use crate::mesh::distance::{Crossing, MeshDistance};

/// Whether the cell centres of an `n`^3 grid over [-1, 1]^3 are inside; z fastest, then x, then y. A closed mesh is
/// swept on the host, exactly and at less than a query a cell; those of an open one come from `device`.
///
/// # Errors
/// Those of the device.
pub fn inside(device: &Device, mesh: &MeshDistance, n: usize) -> Result<Vec<bool>> {
    if !mesh.is_closed() {
        let at = |i: usize| centre(i, n) as f32;
        let points: Vec<[f32; 3]> =
            (0..n * n * n).into_par_iter().map(|i| [at(i / n % n), at(i / (n * n)), at(i % n)]).collect();
        return mesh.inside_on(device, &points);
    }
    // By row of equal y, the triangles whose projection can reach it.
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); n];
    let triangles: Vec<([[f64; 3]; 3], i32)> =
        mesh.oriented().map(|(corners, w)| (corners.map(|p| p.map(f64::from)), i32::from(w))).collect();
    for (index, (corners, _)) in triangles.iter().enumerate().filter(|(_, (_, weight))| *weight != 0) {
        let (first, end) = cells(corners.map(|p| p[1]), n);
        rows[first.min(end)..end].iter_mut().for_each(|row| row.push(index as u32));
    }
    let mut out = vec![false; n * n * n];
    out.par_chunks_mut(n * n).zip(rows).enumerate().for_each(|(row, (inside, reach))| {
        let y = centre(row, n);
        let mut counts = vec![0i32; n * n];
        for index in reach {
            let (corners, weight) = &triangles[index as usize];
            let (first, end) = cells(corners.map(|p| p[0]), n);
            for column in first..end {
                if let Some(crossing) = Crossing::new(corners, centre(column, n), y) {
                    // The centres below the crossing are the ones whose upward ray meets it.
                    let below = first_at_or_above(crossing.z(), n);
                    if below > 0 {
                        counts[column * n + below - 1] += crossing.sign * weight;
                    }
                }
            }
        }
        for (inside, counts) in inside.chunks_mut(n).zip(counts.chunks(n)) {
            let mut winding = 0;
            for (inside, count) in inside.iter_mut().zip(counts).rev() {
                winding += count;
                *inside = winding != 0;
            }
        }
    });
    Ok(out)
}

/// Intersection over union; `None` for two empty insides.
pub fn iou(a: &[bool], b: &[bool]) -> Option<f64> {
    let (both, either) = (a.iter().zip(b)).fold((0usize, 0usize), |(both, either), (&a, &b)| {
        (both + usize::from(a & b), either + usize::from(a | b))
    });
    (either > 0).then(|| both as f64 / either as f64)
}

fn centre(cell: usize, n: usize) -> f64 {
    (2 * cell + 1) as f64 / n as f64 - 1.0
}

/// The cells, first and end, whose centres lie between the least and the greatest of three
/// coordinates, and one more on each side for rounding.
fn cells(coordinates: [f64; 3], n: usize) -> (usize, usize) {
    let low = coordinates.into_iter().fold(f64::INFINITY, f64::min);
    let high = coordinates.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let index = |x: f64| (x + 1.0) * 0.5 * n as f64 - 0.5;
    // Conversions to integers saturate, so coordinates of any size stay in the grid.
    (index(low).floor() as usize, (index(high).ceil() as usize).saturating_add(1).min(n))
}

/// The first cell whose centre is not below `z`; `n` without one.
fn first_at_or_above(z: f64, n: usize) -> usize {
    let near = (((z + 1.0) * 0.5 * n as f64 - 0.5).ceil() as usize).min(n);
    let mut cell = near.saturating_sub(1);
    while cell < n && centre(cell, n) < z {
        cell += 1;
    }
    cell
}
