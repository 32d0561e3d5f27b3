//! The field on a regular grid.
//!
//! All six projections are along axes. Along a row of the grid (x varies), four views keep their pixel
//! rows and their depth, so two pixel rows are voted on and mixed once, then read at every sample; the other
//! two (left, right) keep their four pixels and only the depth moves.

use super::bounds::Bounds;
use super::tap::{larger, lerp, position};
use super::{Field, Footprint, Tap, ViewTaps};
use crate::cpu::simd::{self, Vectorised};
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
    /// Right, up and forward of the views.
    axes: [[Axis; 3]; 6],
    /// Samples along x whose pixels fit into [`SPAN`].
    stretch: usize,
}

/// A world axis and whether a camera's direction runs against it.
#[derive(Clone, Copy, Debug)]
struct Axis {
    index: usize,
    negative: bool,
}

impl Axis {
    fn of(direction: [f32; 3]) -> Self {
        let index = direction.iter().position(|&c| c != 0.0).expect("view directions are unit vectors");
        Self { index, negative: direction[index] < 0.0 }
    }

    #[inline(always)]
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
            axes: std::array::from_fn(axes),
            stretch: ((SPAN - 4) as f32 / step) as usize + 1,
        })
    }

    #[inline(always)]
    fn position(&self, axis: Axis, against: bool, sample: usize) -> (usize, f32) {
        let (pixel, fraction) = self.positions[usize::from(axis.negative != against)][sample];
        (pixel as usize, fraction)
    }

    /// Raises `out` to the votes of a view that looks across the row.
    #[inline(always)]
    fn across(&self, view: usize, [x0, y, z]: [usize; 3], out: &mut [f32]) {
        let (taps, Field { tau, size, .. }) = (&self.field.views[view], self.field);
        let [right, up, forward] = self.axes[view];
        let w = forward.along(self.coordinates[[x0, y, z][forward.index]]);
        let (row, down) = self.position(up, true, [x0, y, z][up.index]);
        let mut mixed = [0.0; SPAN];
        for (part, out) in out.chunks_mut(self.stretch).enumerate() {
            let x0 = x0 + part * self.stretch;
            let first = self.position(right, false, x0).0;
            let last = self.position(right, false, x0 + out.len() - 1).0;
            let (low, high) = (first.min(last), first.max(last) + 1);
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
    #[inline(always)]
    fn along(&self, view: usize, [x0, y, z]: [usize; 3], out: &mut [f32]) {
        let (taps, &Field { tau, size, .. }) = (&self.field.views[view], self.field);
        let [right, up, forward] = self.axes[view];
        let (column, across) = self.position(right, false, [x0, y, z][right.index]);
        let (row, down) = self.position(up, true, [x0, y, z][up.index]);
        let footprint = Footprint { pixel: row * size + column, size, across, down };
        let [a, b, c, d] = footprint.pixels();
        let (a, b, c, d) = (taps.tap(a), taps.tap(b), taps.tap(c), taps.tap(d));
        for (out, &x) in out.iter_mut().zip(&self.coordinates[x0..]) {
            let w = forward.along(x);
            let left = lerp(a.vote(w, tau), c.vote(w, tau), down);
            let right = lerp(b.vote(w, tau), d.vote(w, tau), down);
            *out = larger(*out, lerp(left, right, across));
        }
    }
}

fn axes(view: usize) -> [Axis; 3] {
    let view = &VIEWS[view];
    [view.right, view.up, view.forward].map(Axis::of)
}

/// The votes of a pixel row mixed with those of the row below, from pixel `upper` on.
#[inline(always)]
fn mix_rows(taps: &ViewTaps, upper: usize, size: usize, (w, tau, down): (f32, f32, f32), mixed: &mut [f32]) {
    let n = mixed.len();
    let rows = [upper, upper + size];
    let [depth, lower_depth] = rows.map(|from| &taps.depth[from..from + n]);
    let [slope, lower_slope] = rows.map(|from| &taps.slope[from..from + n]);
    let [floor, lower_floor] = rows.map(|from| &taps.floor[from..from + n]);
    for (i, mixed) in mixed.iter_mut().enumerate() {
        let above = Tap { depth: depth[i], slope: slope[i], floor: floor[i] };
        let below = Tap { depth: lower_depth[i], slope: lower_slope[i], floor: lower_floor[i] };
        *mixed = lerp(above.vote(w, tau), below.vote(w, tau), down);
    }
}

/// Samples of a row from `start` on.
struct Row<'a> {
    field: &'a GridField<'a>,
    start: [usize; 3],
    out: &'a mut [f32],
}

impl Vectorised for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { field, start, out } = self;
        out.fill(-field.field.tau);
        if out.is_empty() {
            return;
        }
        for (view, camera) in VIEWS.iter().enumerate() {
            if camera.forward[0] == 0.0 {
                field.across(view, start, out);
            } else {
                field.along(view, start, out);
            }
        }
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
        simd::dispatch(Row { field: self, start: [x0, y, z], out });
    }

    fn range(&self, low: [usize; 3], high: [usize; 3]) -> (f32, f32) {
        let tau = self.field.tau;
        let mut range = (-tau, -tau);
        for (view, bounds) in self.bounds.iter().enumerate() {
            let [right, up, forward] = self.axes[view];
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
