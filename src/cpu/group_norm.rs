//! Passes of group normalisation over NHWC images, on all cores.

use super::shared::SharedSlice;
use super::{math, simd};
use crate::shape::Shape;
use rayon::prelude::*;
use std::ops::Range;

/// Added to the variance.
pub const EPSILON: f64 = 1e-5;

/// The extents as the passes see them.
#[derive(Clone, Copy)]
pub struct Extents {
    pub images: usize,
    pub pixels: usize,
    pub channels: usize,
    pub groups: usize,
    /// Pixels of a chunk: the unit of parallel work, and of f32 sums.
    chunk: usize,
}

impl Extents {
    /// A chunk is at most 64 KiB of activations, and 256 pixels, few enough for f32 sums.
    pub fn new(x: Shape, groups: usize) -> Self {
        let [images, height, width, channels] = x.nhwc().unwrap_or_default();
        let chunk = ((1 << 14) / channels.max(1)).clamp(1, 256);
        Self { images, pixels: height * width, channels, groups, chunk }
    }

    fn chunks(&self) -> usize {
        self.pixels.div_ceil(self.chunk)
    }

    fn pixels_of(&self, chunk: usize) -> usize {
        self.chunk.min(self.pixels - chunk * self.chunk)
    }

    /// Two lines of channels for every chunk of every image.
    pub fn partial_len(&self) -> usize {
        self.images * self.chunks() * 2 * self.channels
    }

    /// A line of channels an image.
    pub fn lines_len(&self) -> usize {
        self.images * self.channels
    }

    /// Where chunk `index` of the batch lies: its image and its values.
    fn place(&self, index: usize) -> (usize, Range<usize>) {
        let (image, chunk) = (index / self.chunks(), index % self.chunks());
        let start = (image * self.pixels + chunk * self.chunk) * self.channels;
        (image, start..start + self.pixels_of(chunk) * self.channels)
    }

    /// Runs `pass` over every chunk of `values`.
    pub fn for_each_chunk(&self, values: &mut [f32], pass: &impl Pass) {
        let image_len = self.pixels * self.channels;
        let images = values.par_chunks_mut(image_len).enumerate();
        images.for_each(|(image, values)| {
            let chunks = values.par_chunks_mut(self.chunk * self.channels).enumerate();
            chunks.for_each(|(chunk, out)| {
                let (_, range) = self.place(image * self.chunks() + chunk);
                simd::dispatch(Chunk { pass, image, range, out });
            });
        });
    }

    /// Runs `pass` for the two lines of every chunk.
    pub fn reduce(&self, partial: &mut [f32], pass: &impl Pass) {
        partial.par_chunks_exact_mut(2 * self.channels).enumerate().for_each(|(index, out)| {
            let (image, range) = self.place(index);
            simd::dispatch(Chunk { pass, image, range, out });
        });
    }

    /// The two lines of every chunk of an image, with the number of the chunk.
    fn lines_of<'a>(&self, partial: &'a [f32], image: usize) -> impl Iterator<Item = (usize, &'a [f32])> {
        let len = self.chunks() * 2 * self.channels;
        partial[image * len..(image + 1) * len].chunks_exact(2 * self.channels).enumerate()
    }

    /// The channels of group `index % groups`.
    fn group(&self, index: usize) -> Range<usize> {
        let (group, width) = (index % self.groups, self.channels / self.groups);
        group * width..(group + 1) * width
    }

    /// Means and reciprocal deviations. Per chunk and channel the sums are taken relative to the
    /// chunk's first pixel, so that a large mean costs no digits; they are merged in f64 (Chan, Golub
    /// and LeVeque, "Algorithms for computing the sample variance", 1983).
    pub fn statistics(&self, x: &[f32], partial: &mut [f32], saved: &mut [f32]) {
        self.reduce(partial, &ShiftedSums { x });
        let (means, rstds) = saved.split_at_mut(self.images * self.groups);
        let count = (self.pixels * self.channels / self.groups) as f64;
        means.par_iter_mut().zip(rstds).enumerate().for_each(|(index, (mean, rstd))| {
            let image = index / self.groups;
            // (pixels, mean, sum of squared deviations) of every channel of every chunk.
            let parts = || {
                self.lines_of(partial, image).flat_map(|(chunk, lines)| {
                    let pixels = self.pixels_of(chunk) as f64;
                    let first = self.place(image * self.chunks() + chunk).1.start;
                    self.group(index).map(move |c| {
                        let (sum, squares) = (f64::from(lines[c]), f64::from(lines[self.channels + c]));
                        let offset = sum / pixels;
                        (pixels, f64::from(x[first + c]) + offset, squares - sum * offset)
                    })
                })
            };
            let centre = parts().map(|(pixels, mean, _)| pixels * mean).sum::<f64>() / count;
            let squares: f64 =
                parts().map(|(pixels, mean, squares)| squares + pixels * (mean - centre).powi(2)).sum();
            *mean = centre as f32;
            *rstd = (1.0 / ((squares / count).max(0.0) + EPSILON).sqrt()) as f32;
        });
    }

    /// The saved statistics as a line of channels an image.
    pub fn spread(&self, saved: &[f32], mean: &mut [f32], rstd: &mut [f32]) {
        let (means, rstds) = saved.split_at(self.images * self.groups);
        let width = self.channels / self.groups;
        for (values, groups) in [(mean, means), (rstd, rstds)] {
            values.chunks_exact_mut(width).zip(groups).for_each(|(values, group)| values.fill(*group));
        }
    }

    /// The sum over all chunks of value `at` of their two lines.
    pub fn over_images(&self, partial: &[f32], at: usize) -> f32 {
        partial.chunks_exact(2 * self.channels).map(|lines| f64::from(lines[at])).sum::<f64>() as f32
    }

    /// For every channel the mean over its group and image of gamma times the lines at `offset`.
    pub fn group_means(&self, partial: &[f32], offset: usize, gamma: &[f32], means: &mut [f32]) {
        let width = self.channels / self.groups;
        let count = (self.pixels * width) as f64;
        means.par_chunks_exact_mut(width).enumerate().for_each(|(index, means)| {
            let lines = self.lines_of(partial, index / self.groups);
            let terms = lines.flat_map(|(_, lines)| {
                self.group(index).map(move |c| f64::from(gamma[c]) * f64::from(lines[offset + c]))
            });
            means.fill((terms.sum::<f64>() / count) as f32);
        });
    }
}

/// What is done with a chunk of an image. `chunk` and all that it calls must be `#[inline(always)]`: see
/// [`simd::Vectorised`].
pub trait Pass: Sync {
    /// `range` is the chunk's place in the batch; `out` its values, or the two lines of its sums.
    fn chunk(&self, image: usize, range: Range<usize>, out: &mut [f32]);
}

struct Chunk<'a, P> {
    pass: &'a P,
    image: usize,
    range: Range<usize>,
    out: &'a mut [f32],
}

impl<P: Pass> simd::Vectorised for Chunk<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.pass.chunk(self.image, self.range, self.out);
    }
}

/// Sums over the pixels of x - first pixel and of its square.
struct ShiftedSums<'a> {
    x: &'a [f32],
}

impl Pass for ShiftedSums<'_> {
    #[inline(always)]
    fn chunk(&self, _: usize, range: Range<usize>, out: &mut [f32]) {
        let channels = out.len() / 2;
        let (sums, squares) = out.split_at_mut(channels);
        let x = &self.x[range];
        let (first, squares) = (&x[..channels], &mut squares[..channels]);
        sums.fill(0.0);
        squares.fill(0.0);
        for x in x.chunks_exact(channels) {
            for c in 0..channels {
                let d = x[c] - first[c];
                sums[c] += d;
                squares[c] += d * d;
            }
        }
    }
}

/// What the channels of every image are normalised with.
#[derive(Clone, Copy)]
pub struct Norms<'a> {
    /// A line of channels an image each.
    pub mean: &'a [f32],
    pub rstd: &'a [f32],
    /// A value a channel each.
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    /// Whether the SiLU follows.
    pub silu: bool,
}

/// Those of one image: lines of one length.
#[derive(Clone, Copy)]
struct Norm<'a> {
    mean: &'a [f32],
    rstd: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
}

impl<'a> Norms<'a> {
    #[inline(always)]
    fn of(&self, image: usize) -> Norm<'a> {
        let n = self.gamma.len();
        let line = image * n..(image + 1) * n;
        Norm {
            mean: &self.mean[line.clone()],
            rstd: &self.rstd[line],
            gamma: self.gamma,
            beta: &self.beta[..n],
        }
    }
}

impl Norm<'_> {
    /// x normalised, and the gradient with respect to what enters the SiLU.
    #[inline(always)]
    fn gradient<const SILU: bool>(&self, c: usize, x: f32, dy: f32) -> (f32, f32) {
        let xn = (x - self.mean[c]) * self.rstd[c];
        (xn, if SILU { dy * math::silu_slope(xn * self.gamma[c] + self.beta[c]) } else { dy })
    }
}

/// y of x.
pub struct Normalise<'a> {
    pub norms: Norms<'a>,
    pub x: &'a [f32],
}

impl Normalise<'_> {
    #[inline(always)]
    fn pixels<const SILU: bool>(norm: Norm, x: &[f32], y: &mut [f32]) {
        let n = norm.gamma.len();
        let (mean, rstd, beta) = (&norm.mean[..n], &norm.rstd[..n], &norm.beta[..n]);
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            for c in 0..n {
                let u = (x[c] - mean[c]) * rstd[c] * norm.gamma[c] + beta[c];
                y[c] = if SILU { math::silu(u) } else { u };
            }
        }
    }
}

impl Pass for Normalise<'_> {
    #[inline(always)]
    fn chunk(&self, image: usize, range: Range<usize>, y: &mut [f32]) {
        let (norm, x) = (self.norms.of(image), &self.x[range]);
        match self.norms.silu {
            true => Self::pixels::<true>(norm, x, y),
            false => Self::pixels::<false>(norm, x, y),
        }
    }
}

/// The sums over the pixels of du and of du x normalised.
pub struct GradientSums<'a> {
    norms: Norms<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    /// Where du goes, if anywhere.
    kept: Option<SharedSlice<'a>>,
}

impl<'a> GradientSums<'a> {
    /// With `keep`, which is as long as x, du is written there.
    pub fn new(norms: Norms<'a>, x: &'a [f32], dy: &'a [f32], keep: Option<&'a mut [f32]>) -> Self {
        Self { norms, x, dy, kept: keep.map(SharedSlice::new) }
    }

    #[inline(always)]
    fn pixels<const SILU: bool, const KEEP: bool>(&self, image: usize, range: Range<usize>, out: &mut [f32]) {
        let norm = self.norms.of(image);
        let n = norm.gamma.len();
        out.fill(0.0);
        let (sums, products) = out.split_at_mut(n);
        let products = &mut products[..n];
        let kept: &mut [f32] = match &self.kept {
            // SAFETY: every chunk is visited once, by one task.
            Some(kept) if KEEP => unsafe { kept.part(range.start, range.len()) },
            _ => &mut [],
        };
        let (x, dy) = (&self.x[range.clone()], &self.dy[range]);
        for (pixel, (x, dy)) in x.chunks_exact(n).zip(dy.chunks_exact(n)).enumerate() {
            let kept = if KEEP { &mut kept[pixel * n..][..n] } else { &mut [] };
            for c in 0..n {
                let (xn, du) = norm.gradient::<SILU>(c, x[c], dy[c]);
                sums[c] += du;
                products[c] += du * xn;
                if KEEP {
                    kept[c] = du;
                }
            }
        }
    }
}

impl Pass for GradientSums<'_> {
    #[inline(always)]
    fn chunk(&self, image: usize, range: Range<usize>, out: &mut [f32]) {
        match (self.norms.silu, self.kept.is_some()) {
            (true, true) => self.pixels::<true, true>(image, range, out),
            (true, false) => self.pixels::<true, false>(image, range, out),
            (false, true) => self.pixels::<false, true>(image, range, out),
            (false, false) => self.pixels::<false, false>(image, range, out),
        }
    }
}

/// dx = rstd (gamma du - mean(gamma du) - xn mean(gamma du xn)), the means over the group.
pub struct InputGradient<'a> {
    pub norms: Norms<'a>,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    /// The two means, a line of channels an image each.
    pub plain: &'a [f32],
    pub product: &'a [f32],
    pub before: Before,
}

/// What stands in dx before.
#[derive(Clone, Copy)]
pub enum Before {
    Anything,
    /// Another gradient, to be added to.
    Gradient,
    /// du, as [`GradientSums`] kept it.
    Kept,
}

const ANYTHING: u8 = 0;
const GRADIENT: u8 = 1;
const KEPT: u8 = 2;

impl InputGradient<'_> {
    #[inline(always)]
    fn pixels<const SILU: bool, const BEFORE: u8>(&self, image: usize, range: Range<usize>, dx: &mut [f32]) {
        let norm = self.norms.of(image);
        let n = norm.gamma.len();
        let line = image * n..(image + 1) * n;
        let (plain, product) = (&self.plain[line.clone()], &self.product[line]);
        let (x, dy) = (&self.x[range.clone()], &self.dy[range]);
        for ((x, dy), dx) in x.chunks_exact(n).zip(dy.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
            for c in 0..n {
                let dy = if BEFORE == KEPT { dx[c] } else { dy[c] };
                let (xn, du) = norm.gradient::<SILU>(c, x[c], dy);
                let value = norm.rstd[c] * (norm.gamma[c] * du - plain[c] - xn * product[c]);
                dx[c] = if BEFORE == GRADIENT { dx[c] + value } else { value };
            }
        }
    }
}

impl Pass for InputGradient<'_> {
    #[inline(always)]
    fn chunk(&self, image: usize, range: Range<usize>, dx: &mut [f32]) {
        match (self.before, self.norms.silu) {
            (Before::Kept, _) => self.pixels::<false, KEPT>(image, range, dx),
            (Before::Gradient, true) => self.pixels::<true, GRADIENT>(image, range, dx),
            (Before::Gradient, false) => self.pixels::<false, GRADIENT>(image, range, dx),
            (Before::Anything, true) => self.pixels::<true, ANYTHING>(image, range, dx),
            (Before::Anything, false) => self.pixels::<false, ANYTHING>(image, range, dx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 300 x 300 pixels around 1000 with a deviation of 1: the plain f32 sum of squares has no digit
    /// of the variance left. Rounding x itself to f32 moves it by 1000 eps / 2 = 6e-5.
    #[test]
    fn a_large_mean_costs_no_digits() {
        let mut rng = crate::rng::Rng::new(3, 0);
        let shape = Shape::new(&[1, 300, 300, 2]);
        let x: Vec<f32> = (0..shape.len()).map(|_| 1000.0 + rng.normal()).collect();
        let e = Extents::new(shape, 1);
        let mut saved = [0.0; 2];
        e.statistics(&x, &mut vec![f32::NAN; e.partial_len()], &mut saved);
        let count = x.len() as f64;
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
        assert!((f64::from(saved[0]) - mean).abs() < 6e-5);
        assert!((f64::from(saved[1]) - 1.0 / (variance + EPSILON).sqrt()).abs() < 1e-6);
    }
}
