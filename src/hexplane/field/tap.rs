//! What one pixel says about a point, and the four pixels around a point.

use crate::hexplane::View;

/// The slope of the steepest surface that still counts: keeps the sign of a vote on the limb.
const LEAST_SLOPE: f32 = 0.02;
/// N . forward above which a surface faces away. Above 0, so that the noise of a decoded limb does
/// not switch its votes off.
const FACES_AWAY: f32 = 0.2;
/// World depth that is in front of every point of the cube by more than any tau.
const IN_FRONT: f32 = -4.0;

/// One pixel's vote: `clamp(max((depth - w) slope, floor), -tau, tau)` for a point at world depth w.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tap {
    /// World depth of the surface along forward, -1 at the near face.
    pub depth: f32,
    /// Cosine between the surface normal and the viewing ray, positive.
    pub slope: f32,
    /// The vote is not below this.
    pub floor: f32,
}

/// Whether a pixel (D, N) shows the surface: |N| >= 0.5, and all of it a number.
#[inline(always)]
pub(crate) fn is_foreground(pixel: [f32; 4]) -> bool {
    let [depth, x, y, z] = pixel;
    let square = x * x + y * y + z * z;
    square >= 0.25 && square.is_finite() && depth.is_finite()
}

/// World depth of `p` along the viewing direction.
pub(crate) fn depth_along(view: &View, p: [f32; 3]) -> f32 {
    dot(view.forward, p)
}

impl Tap {
    /// The tap of a pixel (D, N); `floor` is its silhouette distance.
    #[inline(always)]
    pub fn continuous(pixel: [f32; 4], view: &View, floor: f32) -> Self {
        if !is_foreground(pixel) {
            return Self { depth: IN_FRONT, slope: 1.0, floor };
        }
        let [depth, x, y, z] = pixel;
        let away = dot([x, y, z], view.forward) / length([x, y, z]);
        if away > FACES_AWAY {
            return Self { depth: IN_FRONT, slope: 1.0, floor };
        }
        Self { depth: 2.0 * depth - 1.0, slope: larger(-away, LEAST_SLOPE), floor }
    }

    /// The tap of a pixel that holds the probability of a hit.
    pub fn binary(probability: f32, tau: f32) -> Self {
        let probability = if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) };
        Self { depth: IN_FRONT, slope: 1.0, floor: tau * (1.0 - 2.0 * probability) }
    }

    /// The vote on a point at world depth `w`.
    #[inline(always)]
    pub fn vote(self, w: f32, tau: f32) -> f32 {
        smaller(larger(larger((self.depth - w) * self.slope, self.floor), -tau), tau)
    }

    /// The derivative of [`Tap::vote`] by the pixel's (D, N).
    pub fn vote_gradient(pixel: [f32; 4], view: &View, w: f32, tau: f32) -> [f32; 4] {
        let tap = Self::continuous(pixel, view, -tau);
        let distance = tap.depth - w;
        if (distance * tap.slope).abs() >= tau || tap.depth == IN_FRONT {
            return [0.0; 4];
        }
        let [_, x, y, z] = pixel;
        let norm = length([x, y, z]);
        let away = dot([x, y, z], view.forward) / norm;
        let [nx, ny, nz] = if -away > LEAST_SLOPE {
            // d(-n . forward)/dN with n = N / |N|.
            std::array::from_fn(|k| (away * [x, y, z][k] / norm - view.forward[k]) / norm * distance)
        } else {
            [0.0; 3]
        };
        [2.0 * tap.slope, nx, ny, nz]
    }
}

/// The four pixels around a point in a view, and where between them it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// Index of the upper left pixel.
    pub pixel: usize,
    /// Pixels along an edge.
    pub size: usize,
    /// Fraction towards the right and the lower pixels.
    pub across: f32,
    pub down: f32,
}

impl Footprint {
    pub fn of(view: &View, p: [f32; 3], size: usize) -> Self {
        let (column, across) = position(dot(view.right, p), size);
        let (row, down) = position(-dot(view.up, p), size);
        Self { pixel: row * size + column, size, across, down }
    }

    /// Bilinear mixture of the values at the four pixels: down first, then across.
    pub fn mix(&self, value: impl Fn(usize) -> f32) -> f32 {
        let [a, b, c, d] = self.pixels().map(value);
        lerp(lerp(a, c, self.down), lerp(b, d, self.down), self.across)
    }

    /// Upper left, upper right, lower left, lower right.
    #[inline(always)]
    pub fn pixels(&self) -> [usize; 4] {
        let Self { pixel, size, .. } = *self;
        [pixel, pixel + 1, pixel + size, pixel + size + 1]
    }

    /// The share of each of [`Footprint::pixels`].
    pub fn weights(&self) -> [f32; 4] {
        let (a, d) = (self.across, self.down);
        [(1.0 - a) * (1.0 - d), a * (1.0 - d), (1.0 - a) * d, a * d]
    }
}

/// The pixel at or before a coordinate in [-1,1] along a row or column, and the fraction towards the
/// next one. Beyond the outermost centres the outermost pixels hold.
#[inline(always)]
pub(crate) fn position(coordinate: f32, size: usize) -> (usize, f32) {
    let x = ((coordinate + 1.0) * 0.5 * size as f32 - 0.5).clamp(0.0, (size - 1) as f32);
    let index = (x as usize).min(size - 2);
    (index, x - index as f32)
}

#[inline(always)]
pub(crate) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// The larger of two numbers, as one instruction (f32::max must also care for NaN).
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[inline(always)]
fn length(v: [f32; 3]) -> f32 {
    dot(v, v).sqrt()
}
