//! The field on a regular grid.
//!
//! All six projections are along axes. Along a row of the grid (x varies), four views keep their pixel
//! rows and their depth, so two pixel rows are voted on and mixed once, then read at every sample; the other
//! two (left, right) keep their four pixels and only the depth moves.

use super::bounds::Bounds;
use super::tap::{larger, lerp, position};
use super::{Field, Footprint, ViewTaps};
use crate::error::Result;
use crate::hexplane::VIEWS;
use crate::mesh::marching_cubes::Volume;
use rayon::prelude::*;

/// Pixels of a mixed row that are held at a time.
const SPAN: usize = 256;

/// Samples of a [`Field`] at n^3 points that span [-1,1]^3, borders included.
#[derive(Debug)]
pub struct GridField<'a> {
    field: &'a Field,
    coordinates: Vec<f32>,
    /// (pixel, fraction) of the coordinates, and of the negated coordinates.
    positions: [Vec<(u32, f32)>; 2],
    bounds: Vec<Bounds>,
    /// Samples along x whose pixels fit into [`SPAN`].
    stretch: usize,
}

/// A world axis and whether a camera's direction runs against it.
#[derive(Clone, Copy)]
struct Axis {
    index: usize,
    negative: bool,
}

impl Axis {
    fn of(direction: [f32; 3]) -> Self {
        let index = direction.iter().position(|&c| c != 0.0).expect("view directions are unit vectors");
        Self { index, negative: direction[index] < 0.0 }
    }

    fn along(self, coordinate: f32) -> f32 {
        if self.negative { -coordinate } else { coordinate }
    }
}

impl<'a> GridField<'a> {
    pub(super) fn new(field: &'a Field, n: usize) -> Result<Self> {
        super::check_grid(n)?;
        let coordinates: Vec<f32> = (0..n).map(|i| -1.0 + (2.0 / (n - 1) as f32) * i as f32).collect();
        let positions = [false, true].map(|negative| {
            let place = |&c: &f32| position(if negative { -c } else { c }, field.size);
            coordinates.iter().map(place).map(|(pixel, fraction)| (pixel as u32, fraction)).collect()
        });
        let step = field.size as f32 / (n - 1) as f32;
        Ok(Self {
            field,
            coordinates,
            positions,
            bounds: field.views.par_iter().map(|taps| Bounds::new(taps, field.size)).collect(),
            stretch: ((SPAN - 4) as f32 / step) as usize + 1,
        })
    }

    fn position(&self, axis: Axis, against: bool, sample: usize) -> (usize, f32) {
        let (pixel, fraction) = self.positions[usize::from(axis.negative != against)][sample];
        (pixel as usize, fraction)
    }

    /// Raises `out` to the votes of a view that looks across the row.
    fn across(&self, view: usize, [x0, y, z]: [usize; 3], out: &mut [f32]) {
        let (taps, Field { tau, size, .. }) = (&self.field.views[view], self.field);
        let [right, up, forward] = axes(view);
        let w = forward.along(self.coordinates[[x0, y, z][forward.index]]);
        let (row, down) = self.position(up, true, [x0, y, z][up.index]);
        let mut mixed = [0.0; SPAN];
        for (part, out) in out.chunks_mut(self.stretch).enumerate() {
            let x0 = x0 + part * self.stretch;
            let ends = [x0, x0 + out.len() - 1].map(|x| self.position(right, false, x).0);
            let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]) + 1);
            let upper = row * size + low;
            mix_rows(taps, upper, *size, (w, *tau, down), &mut mixed[..=high - low]);
            let places = &self.positions[usize::from(right.negative)][x0..];
            for (out, &(pixel, fraction)) in out.iter_mut().zip(places) {
                let at = pixel as usize - low;
                *out = larger(*out, lerp(mixed[at], mixed[at + 1], fraction));
            }
        }
    }

    /// Raises `out` to the votes of a view that looks along the row.
    fn along(&self, view: usize, [x0, y, z]: [usize; 3], out: &mut [f32]) {
        let (taps, &Field { tau, size, .. }) = (&self.field.views[view], self.field);
        let [right, up, forward] = axes(view);
        let (column, across) = self.position(right, false, [x0, y, z][right.index]);
        let (row, down) = self.position(up, true, [x0, y, z][up.index]);
        let footprint = Footprint { pixel: row * size + column, size, across, down };
        let corners = footprint.pixels().map(|pixel| taps.tap(pixel));
        for (out, &x) in out.iter_mut().zip(&self.coordinates[x0..]) {
            let w = forward.along(x);
            let [a, b, c, d] = corners.map(|tap| tap.vote(w, tau));
            *out = larger(*out, lerp(lerp(a, c, down), lerp(b, d, down), across));
        }
    }
}

fn axes(view: usize) -> [Axis; 3] {
    let view = &VIEWS[view];
    [view.right, view.up, view.forward].map(Axis::of)
}

/// The votes of a pixel row mixed with those of the row below, from pixel `upper` on.
fn mix_rows(taps: &ViewTaps, upper: usize, size: usize, (w, tau, down): (f32, f32, f32), mixed: &mut [f32]) {
    let n = mixed.len();
    let rows = [upper, upper + size]
        .map(|from| (&taps.depth[from..from + n], &taps.slope[from..from + n], &taps.floor[from..from + n]));
    let vote = |row: usize, i: usize| {
        let (depth, slope, floor) = rows[row];
        super::Tap { depth: depth[i], slope: slope[i], floor: floor[i] }.vote(w, tau)
    };
    for (i, mixed) in mixed.iter_mut().enumerate() {
        *mixed = lerp(vote(0, i), vote(1, i), down);
    }
}

impl Volume for GridField<'_> {
    fn dims(&self) -> [usize; 3] {
        [self.coordinates.len(); 3]
    }

    fn origin(&self) -> [f32; 3] {
        [-1.0; 3]
    }

    fn spacing(&self) -> [f32; 3] {
        [2.0 / (self.coordinates.len() - 1) as f32; 3]
    }

    fn row(&self, y: usize, z: usize, x0: usize, out: &mut [f32]) {
        out.fill(-self.field.tau);
        if out.is_empty() {
            return;
        }
        for (view, camera) in VIEWS.iter().enumerate() {
            if camera.forward[0] == 0.0 {
                self.across(view, [x0, y, z], out);
            } else {
                self.along(view, [x0, y, z], out);
            }
        }
    }

    fn range(&self, low: [usize; 3], high: [usize; 3]) -> (f32, f32) {
        let tau = self.field.tau;
        let mut range = (-tau, -tau);
        for (view, bounds) in self.bounds.iter().enumerate() {
            let [right, up, forward] = axes(view);
            let ends = |axis: Axis, against: bool| {
                let [a, b] = [low, high].map(|corner| self.position(axis, against, corner[axis.index]).0);
                [a.min(b), a.max(b) + 1]
            };
            let [a, b] = [low, high].map(|corner| forward.along(self.coordinates[corner[forward.index]]));
            let (least, most) = bounds.of(ends(right, false), ends(up, true), [a.min(b), a.max(b)]);
            range.0 = larger(range.0, least);
            range.1 = larger(range.1, most);
        }
        // What mixing may round beyond its votes.
        let slack = 1e-5 * tau;
        (range.0.min(tau) - slack, range.1.min(tau) + slack)
    }
}
