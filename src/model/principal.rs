//! The best linear code of patches: principal components, the baseline of every report and the
//! initialisation of the network's linear path.

use super::{Architecture, VIEWS};
use crate::error::{Error, Result};
use crate::memory;
use crate::rng::Rng;
use nalgebra::DMatrix;
use std::borrow::Cow;

/// How much more depth usually counts than a component of a normal, in amplitude. The mesh follows from the
/// depth alone, to a few thousandths; at 4, where a unit of depth weighs like a turn of the normal,
/// the linear code of the quick preset reaches F 0.21 at 0.005 on a scanned head, at 32 0.31, and the
/// network after 150 steps 0.66 and 0.92.
pub const DEPTH_SCALE: f32 = 32.0;

/// Distinct patches the components are fitted to at most; more are thinned out evenly.
const MAX_PATCHES: usize = 8192;
/// Eigenvectors cost the cube of this; beyond it patches are thinned out further.
const MAX_ORDER: usize = 2048;
/// More vectors than asked for, which speeds the convergence of the last ones wanted.
const OVERSAMPLING: usize = 16;
const MAX_ROUNDS: usize = 30;
/// Rounds end when the variance that is kept grows by less than this share.
const CONVERGED: f64 = 1e-7;
/// Whitening divides by the deviation of a component, but by no less than this share of the
/// largest one: components that the data barely has would only amplify rounding.
const MIN_DEVIATION: f64 = 1e-4;

/// z = We x + be (whitened), x = Wd z + bd over patches of `patch`^2 pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearCode {
    /// `[patch, patch, channels, latent_channels]`.
    pub encoder_weight: Vec<f32>,
    /// `[latent_channels]`.
    pub encoder_bias: Vec<f32>,
    /// `[patch, patch, channels, latent_channels]`, as a transposed convolution stores it.
    pub decoder_weight: Vec<f32>,
    /// `[channels]`.
    pub decoder_bias: Vec<f32>,
    /// Share of the scaled variance that the components keep, over the fitted patches.
    pub explained: f64,
}

/// Planes `[6, N, N, channels]` of so many meshes, made when they are asked for: several times, one after the other.
pub struct PlanesOf<'a> {
    pub count: usize,
    pub values: &'a dyn Fn(usize) -> Result<Cow<'a, [f32]>>,
}

/// The distinct patches of planes, which are gone through anew each time: kept, they would take as much memory as the planes
/// of all meshes.
struct Patches<'p, 'a> {
    architecture: &'p Architecture,
    planes: &'p PlanesOf<'a>,
    mean: Vec<f32>,
    /// How often each occurs.
    counts: Vec<f64>,
}

impl LinearCode {
    /// Fits the code to planes of one or more meshes: principal components
    /// of the patches about the mean of each channel, depth scaled by the architecture's `depth_scale`.
    ///
    /// # Errors
    /// Those of planes that cannot be had, and planes without a surface.
    pub fn fit(architecture: &Architecture, planes: &PlanesOf) -> Result<Self> {
        let a = architecture;
        let dimension = a.patch * a.patch * a.channels;
        // Components in f64; encoder and decoder in f32.
        memory::require("linear code", 16 * dimension * a.latent_channels, "take a smaller patch or latent")?;
        let patches = Patches::count(a, planes)?;
        let (components, deviations, explained) = patches.components(dimension, a.latent_channels)?;
        Ok(Self::assemble(a, &patches.mean, &components, &deviations, explained))
    }

    fn assemble(
        a: &Architecture,
        mean: &[f32],
        components: &[Vec<f64>],
        deviations: &[f64],
        explained: f64,
    ) -> Self {
        let (c, latent) = (a.channels, a.latent_channels);
        let dimension = a.patch * a.patch * c;
        let mut code = Self {
            encoder_weight: vec![0.0; dimension * latent],
            encoder_bias: vec![0.0; latent],
            decoder_weight: vec![0.0; dimension * latent],
            decoder_bias: mean.to_vec(),
            explained,
        };
        for (k, (component, deviation)) in components.iter().zip(deviations).enumerate() {
            let mut bias = 0.0;
            for (i, value) in component.iter().enumerate() {
                let scale = f64::from(a.channel_scale(i % c));
                let weight = value * scale / deviation;
                code.encoder_weight[i * latent + k] = weight as f32;
                code.decoder_weight[i * latent + k] = (value * deviation / scale) as f32;
                bias -= weight * f64::from(mean[i % c]);
            }
            code.encoder_bias[k] = bias as f32;
        }
        code
    }
}

impl<'p, 'a> Patches<'p, 'a> {
    fn count(architecture: &'p Architecture, planes: &'p PlanesOf<'a>) -> Result<Self> {
        let mut patches =
            Self { architecture, planes, mean: mean(architecture, planes)?, counts: Vec::new() };
        let mut counts: Vec<f64> = Vec::new();
        patches.each(|at, _| {
            if at == counts.len() {
                counts.push(0.0);
            }
            counts[at] += 1.0;
        })?;
        patches.counts = counts;
        Ok(patches)
    }

    /// Calls `visit` for every patch, about the mean and scaled, with its index among the distinct ones: these are
    /// numbered as they come. Patches of nothing but background are equal to the bit: one stands for all of them.
    fn each(&self, mut visit: impl FnMut(usize, &[f32])) -> Result<()> {
        let (a, sites) = (self.architecture, self.architecture.latent_size());
        let c = a.channels;
        let (mut row, mut distinct) = (Vec::with_capacity(a.patch * a.patch * c), 0);
        let mut flat: Option<(usize, Vec<f32>)> = None;
        for at in 0..self.planes.count {
            let values = (self.planes.values)(at)?;
            for site in 0..VIEWS * sites * sites {
                let (view, i, j) = (site / (sites * sites), site / sites % sites, site % sites);
                row.clear();
                for y in 0..a.patch {
                    let start = ((view * a.planes + i * a.patch + y) * a.planes + j * a.patch) * c;
                    row.extend_from_slice(&values[start..][..a.patch * c]);
                }
                let is_flat = row.chunks_exact(c).all(|pixel| pixel == &row[..c]);
                row.iter_mut()
                    .enumerate()
                    .for_each(|(k, x)| *x = (*x - self.mean[k % c]) * a.channel_scale(k % c));
                match &flat {
                    Some((at, known)) if is_flat && *known == row => visit(*at, &row),
                    _ => {
                        if is_flat {
                            flat = Some((distinct, row.clone()));
                        }
                        visit(distinct, &row);
                        distinct += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Every `stride`-th, and the most frequent ones, so that about `most` are left.
    fn thinned(&self, most: usize) -> Vec<usize> {
        let stride = self.counts.len().div_ceil(most);
        (0..self.counts.len()).filter(|&i| i % stride == 0 || self.counts[i] > 1.0).collect()
    }

    /// Those of some indices in rising order, one behind the other.
    fn rows(&self, chosen: &[usize]) -> Result<Vec<f32>> {
        let (mut rows, mut next) = (Vec::new(), chosen.iter().peekable());
        self.each(|at, row| {
            if next.next_if_eq(&&at).is_some() {
                rows.extend_from_slice(row);
            }
        })?;
        Ok(rows)
    }

    /// (components, deviations, explained share), the largest first. Where the data has fewer
    /// directions than asked for, the rest are zero with the smallest deviation.
    fn components(&self, dimension: usize, wanted: usize) -> Result<(Vec<Vec<f64>>, Vec<f64>, f64)> {
        // The smaller of the two Gram matrices has the same eigenvalues.
        let of_rows = self.counts.len().min(MAX_ORDER) < dimension;
        let chosen = self.thinned(if of_rows { MAX_ORDER } else { MAX_PATCHES });
        let total: f64 = chosen.iter().map(|&i| self.counts[i]).sum();
        let rows = self.rows(&chosen)?;
        let x = DMatrix::<f64>::from_fn(chosen.len(), dimension, |r, c| {
            (self.counts[chosen[r]] / total).sqrt() * f64::from(rows[r * dimension + c])
        });
        drop(rows);
        let gram = if of_rows { &x * x.transpose() } else { x.transpose() * &x };
        let (values, vectors) = leading_eigenpairs(&gram, wanted);
        let largest = values.first().copied().unwrap_or(0.0).max(0.0).sqrt();
        if !(largest.is_finite() && largest > 0.0) {
            let problem =
                format!("the largest deviation of the patches is {largest}, expected a positive number");
            return Err(Error::new("linear code", problem, "check that the planes show a surface"));
        }
        let (mut components, mut deviations, mut kept) = (Vec::new(), Vec::new(), 0.0);
        for k in 0..wanted {
            let deviation = values.get(k).map_or(0.0, |value| value.max(0.0).sqrt());
            if deviation < MIN_DEVIATION * largest {
                components.push(vec![0.0; dimension]);
                deviations.push(MIN_DEVIATION * largest);
                continue;
            }
            kept += deviation * deviation;
            let vector = vectors.column(k);
            let component = if of_rows { x.tr_mul(&vector) / deviation } else { vector.into_owned() };
            components.push(component.iter().copied().collect());
            deviations.push(deviation);
        }
        Ok((components, deviations, kept / gram.trace()))
    }
}

/// Of each channel.
fn mean(a: &Architecture, planes: &PlanesOf) -> Result<Vec<f32>> {
    let c = a.channels;
    let mut mean = vec![0.0f64; c];
    for at in 0..planes.count {
        let values = (planes.values)(at)?;
        let pixels = values.chunks_exact(c);
        pixels.for_each(|pixel| mean.iter_mut().zip(pixel).for_each(|(m, x)| *m += f64::from(*x)));
    }
    let pixels = (planes.count * VIEWS * a.planes * a.planes) as f64;
    Ok(mean.iter().map(|m| (m / pixels) as f32).collect())
}

/// The largest `wanted` eigenvalues of a symmetric positive semi-definite matrix in falling order,
/// with their vectors as columns: subspace iteration from a random start with a Rayleigh-Ritz step
/// a round (Halko, Martinsson & Tropp, SIAM Review 2011, algorithm 4.4 and section 5).
pub(super) fn leading_eigenpairs(matrix: &DMatrix<f64>, wanted: usize) -> (Vec<f64>, DMatrix<f64>) {
    let order = matrix.nrows();
    let columns = (wanted + OVERSAMPLING).min(order);
    let mut rng = Rng::named(0, "principal components");
    let mut basis = DMatrix::<f64>::from_fn(order, columns, |_, _| f64::from(rng.normal()));
    let mut kept = 0.0;
    for _ in 0..MAX_ROUNDS {
        let (values, ritz) = orthonormalised(&(matrix * &basis));
        // The image of an orthonormal basis has the eigenvalues as its singular values.
        basis = ritz;
        let sum: f64 = values.iter().take(wanted).sum();
        if (sum - kept).abs() <= CONVERGED * sum {
            break;
        }
        kept = sum;
    }
    let projected = basis.tr_mul(&(matrix * &basis));
    let (values, turn) = sorted_eigen(projected);
    (values, basis * turn)
}

/// An orthonormal basis of the columns in falling order of their singular values; directions that
/// rounding alone has made are left out.
fn orthonormalised(columns: &DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let (squares, turn) = sorted_eigen(columns.tr_mul(columns));
    let floor = squares.first().copied().unwrap_or(0.0) * 1e-20;
    let rank = squares.iter().take_while(|&&square| square > floor).count().max(1);
    let values: Vec<f64> = squares[..rank].iter().map(|square| square.sqrt()).collect();
    let mut basis = columns * turn.columns(0, rank);
    for (mut column, value) in basis.column_iter_mut().zip(&values) {
        column /= value.max(f64::MIN_POSITIVE);
    }
    // Squaring costs half the digits: a second pass makes the basis orthonormal again, and leaves out
    // columns that are nothing but rounding, which have lost the length of 1 that the first gave them.
    let (squares, turn) = sorted_eigen(basis.tr_mul(&basis));
    let rank = squares.iter().take_while(|&&square| square > 1e-10).count().max(1);
    let mut again = &basis * turn.columns(0, rank);
    for (mut column, square) in again.column_iter_mut().zip(&squares) {
        column /= square.sqrt();
    }
    (values, again)
}

fn sorted_eigen(matrix: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let eigen = matrix.symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let values = order.iter().map(|&k| eigen.eigenvalues[k]).collect();
    (values, eigen.eigenvectors.select_columns(&order))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix with known eigenpairs: a diagonal turned by a random orthonormal basis.
    #[test]
    fn leading_pairs_of_a_known_matrix() {
        let n = 120;
        let mut rng = Rng::new(5, 0);
        let (_, basis) = orthonormalised(&DMatrix::from_fn(n, n, |_, _| f64::from(rng.normal())));
        let known: Vec<f64> = (0..n).map(|k| 10.0 * 0.8f64.powi(k as i32)).collect();
        let diagonal = DMatrix::from_fn(n, n, |r, c| if r == c { known[r] } else { 0.0 });
        let matrix = &basis * diagonal * basis.transpose();
        let (values, vectors) = leading_eigenpairs(&matrix, 12);
        for k in 0..12 {
            assert!((values[k] / known[k] - 1.0).abs() < 1e-6, "{k}: {} against {}", values[k], known[k]);
            let residual = (&matrix * vectors.column(k) - vectors.column(k) * values[k]).norm();
            assert!(residual < 1e-3 * known[k], "{k}: {residual}");
        }
    }

    /// Columns that depend on each other exactly leave no more directions than they span.
    #[test]
    fn bases_of_few_directions_are_orthonormal() {
        let mut rng = Rng::new(11, 0);
        for rank in 1..=5 {
            let mut normal = |rows, columns| DMatrix::from_fn(rows, columns, |_, _| f64::from(rng.normal()));
            let (_, basis) = orthonormalised(&(normal(64, rank) * normal(rank, 22)));
            assert!(basis.ncols() >= rank, "{} of {rank}", basis.ncols());
            let error = (basis.tr_mul(&basis) - DMatrix::identity(basis.ncols(), basis.ncols())).amax();
            // Of a column of length 1e-5 one rounding is this much.
            assert!(error < 1e-5, "rank {rank}: {error}");
        }
    }

    /// Planes that lie in a space of few directions come back exactly.
    #[test]
    fn a_code_with_enough_components_is_exact() {
        let architecture = Architecture {
            planes: 16,
            channels: 4,
            patch: 4,
            depth_scale: DEPTH_SCALE,
            latent_channels: 6,
            stem: 4,
            widths: vec![1],
            encoder_blocks: vec![0],
            decoder_blocks: vec![0],
            linear_path: true,
            embedding: false,
            exchange: false,
            fill_background: false,
            logits: false,
        };
        let mut rng = Rng::new(9, 0);
        let directions: Vec<Vec<f32>> = (0..3).map(|_| (0..64).map(|_| rng.normal()).collect()).collect();
        let mut values = vec![0.0; 6 * 16 * 16 * 4];
        for view_site in 0..6 * 16 {
            let (view, i, j) = (view_site / 16, view_site / 4 % 4, view_site % 4);
            let weights: Vec<f32> = (0..3).map(|_| rng.normal()).collect();
            for k in 0..64 {
                let (y, x, c) = (k / 16, k / 4 % 4, k % 4);
                let at = ((view * 16 + i * 4 + y) * 16 + j * 4 + x) * 4 + c;
                values[at] = directions.iter().zip(&weights).map(|(d, w)| w * d[k]).sum();
            }
        }
        let planes = PlanesOf { count: 1, values: &|_| Ok(Cow::Borrowed(&values)) };
        let code = LinearCode::fit(&architecture, &planes).unwrap();
        assert!((code.explained - 1.0).abs() < 1e-9);
        let mut model = crate::model::Autoencoder::new(architecture, 0, Some(&code)).unwrap();
        let mut graph = crate::tape::Graph::default();
        let halves = model.record(&mut graph, 1).unwrap();
        let mut tape =
            crate::tape::Tape::new(&crate::device::Device::Cpu, graph, None, &[halves.decoded]).unwrap();
        tape.load(halves.planes, 0, &values).unwrap();
        tape.forward(&model.parameters).unwrap();
        let error = tape
            .value(halves.decoded)
            .unwrap()
            .iter()
            .zip(&values)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        // Two sums of 64 and 6 rounded terms of size up to about 10.
        assert!(error < 1e-4, "{error}");
    }
}
