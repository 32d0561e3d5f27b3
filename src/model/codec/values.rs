//! The codec of continuous latents: coefficients of principal components, then what these leave of every entry.
//!
//! Entry i of channel c has the prediction p_i = mean_i + sum_k q_k basis_ki in whole 1/256 of the channel's step s_c, where q_k are the
//! rounded coefficients, and the value z_i = s_c (p_i / 256 + f r_i), with r_i whole and f the factor of the file: 2^(j/4). The
//! prediction and all that decides probabilities is integer arithmetic; z_i is two products and one sum of f64, rounded once to f32.

use super::activity::Activity;
use super::coder::{MOST, Reader, Writer};
use super::tables::{LEVELS, Table};

/// Parts of a step that predictions are in.
pub const PARTS: f64 = 256.0;
/// Fraction bits of the basis beyond these parts.
pub const BASIS_BITS: u32 = 12;
/// Whole numbers that f32 has, so that files of f32 hold them.
pub const MOST_WHOLE: i32 = 1 << 24;

/// A step that is a quarter of an octave wider, and so on.
const QUARTERS: [f64; 4] = [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];

/// Squared error, in squares of a step, that a bit is worth: the slope of rate and distortion of a uniform quantiser at high rates,
/// (2 ln 2) / 12 (Gish & Pierce 1968).
const BIT_WORTH: f64 = 0.1155;

/// What fitting finds, in whole numbers but for the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueParts {
    pub shape: [usize; 4],
    /// Channels in the order in which they are coded.
    pub order: Vec<usize>,
    /// How many of them are coded at the end of each layer behind the first, which has the coefficients.
    pub ends: Vec<usize>,
    /// Of the channels.
    pub steps: Vec<f32>,
    /// In 1/256 of the channel's step, as the basis is in 1/2^20.
    pub mean: Vec<i32>,
    /// `[components, entries]`.
    pub basis: Vec<i32>,
    pub coefficient_levels: Vec<u8>,
    /// `[entries]`.
    pub levels: Vec<u8>,
    /// Probabilities of each level's symbols.
    pub laws: Vec<Vec<u32>>,
}

pub struct ValueCodec {
    pub parts: ValueParts,
    tables: Vec<Table>,
}

/// What is decoded so far: residuals of the entries, and how lively each site is.
struct State {
    prediction: Vec<i64>,
    residuals: Vec<i32>,
    sites: Vec<Activity>,
}

/// 2^(coarser/4).
pub fn factor(coarser: i8) -> f64 {
    let (octave, quarter) = (i64::from(coarser).div_euclid(4), i64::from(coarser).rem_euclid(4));
    QUARTERS[quarter as usize] * f64::from_bits(((1023 + octave) as u64) << 52)
}

impl ValueParts {
    /// What is wrong with parts that a file holds.
    fn fault(&self) -> Option<String> {
        let (len, channels) = (self.shape.iter().product::<usize>(), self.shape[3]);
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        let level = |&level: &u8| usize::from(level) < LEVELS;
        let rising = self.ends.windows(2).all(|pair| pair[0] < pair[1]);
        let fault = if !sorted.into_iter().eq(0..channels) {
            "its order is none of the channels"
        } else if !rising || self.ends.first() == Some(&0) || self.ends.last() != Some(&channels) {
            "its layers do not hold every channel once"
        } else if self.steps.len() != channels || !self.steps.iter().all(|s| s.is_normal() && *s > 0.0) {
            "a step is not positive"
        } else if self.mean.len() != len
            || self.levels.len() != len
            || self.basis.len() != len * self.coefficient_levels.len()
        {
            "its arrays are not of one length"
        } else if !self.levels.iter().chain(&self.coefficient_levels).all(level) || self.laws.len() != LEVELS
        {
            "a level has no law"
        } else {
            return None;
        };
        Some(fault.to_string())
    }
}

impl ValueCodec {
    /// # Errors
    /// Where the parts do not fit together.
    pub fn new(parts: ValueParts) -> Result<Self, String> {
        if let Some(fault) = parts.fault() {
            return Err(fault);
        }
        let tables = parts.laws.iter().map(|law| Table::new(law)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { parts, tables })
    }

    fn len(&self) -> usize {
        self.parts.shape.iter().product()
    }

    pub fn layers(&self) -> usize {
        1 + self.parts.ends.len()
    }

    fn channels(&self, layer: usize) -> &[usize] {
        let start = if layer == 1 { 0 } else { self.parts.ends[layer - 2] };
        &self.parts.order[start..self.parts.ends[layer - 1]]
    }

    fn own_level(&self, entry: usize, coarser: i8) -> usize {
        (i32::from(self.parts.levels[entry]) - i32::from(coarser)).clamp(0, LEVELS as i32 - 1) as usize
    }

    fn state(&self, coefficients: &[i32]) -> State {
        let len = self.len();
        let half = 1i64 << (BASIS_BITS - 1);
        let predict = |i: usize| {
            let rows = coefficients.iter().zip(self.parts.basis.chunks_exact(len));
            let sum: i64 = rows.map(|(&q, row)| i64::from(q) * i64::from(row[i])).sum();
            i64::from(self.parts.mean[i]) + (sum + half).div_euclid(2 * half)
        };
        State {
            prediction: (0..len).map(predict).collect(),
            residuals: vec![0; len],
            sites: vec![Activity::default(); len / self.parts.shape[3]],
        }
    }

    /// Visits the entries of a layer in the order of the file with the level of each; `code` gives the residual.
    fn visit<E>(
        &self,
        (layer, coarser): (usize, i8),
        state: &mut State,
        mut code: impl FnMut(usize, usize, i64) -> Result<i32, E>,
    ) -> Result<(), E> {
        let channels = self.parts.shape[3];
        for (site, activity) in state.sites.iter_mut().enumerate() {
            for &channel in self.channels(layer) {
                let entry = site * channels + channel;
                let own = self.own_level(entry, coarser);
                let q = code(entry, activity.level(own), state.prediction[entry])?;
                state.residuals[entry] = q;
                activity.add(q, self.tables[own].expected);
            }
        }
        Ok(())
    }

    /// Every layer of a latent.
    pub fn encode(&self, latent: &[f32], coarser: i8) -> Vec<Vec<u8>> {
        let coefficients = self.coefficients(latent);
        let mut first = Writer::default();
        for (&q, &level) in coefficients.iter().zip(&self.parts.coefficient_levels) {
            first.value(q, &self.tables[usize::from(level)]);
        }
        let mut layers = vec![first.into_bytes()];
        let mut state = self.state(&coefficients);
        let factor = factor(coarser);
        for layer in 1..self.layers() {
            let mut writer = Writer::default();
            let put = |entry: usize, level: usize, prediction: i64| {
                let table = &self.tables[level];
                let step = f64::from(self.parts.steps[entry % self.parts.shape[3]]);
                let x = (f64::from(latent[entry]) / step - prediction as f64 / PARTS) / factor;
                let q = chosen(x, table);
                writer.value(q, table);
                Ok::<i32, ()>(q)
            };
            let visited = self.visit((layer, coarser), &mut state, put);
            debug_assert!(visited.is_ok());
            layers.push(writer.into_bytes());
        }
        layers
    }

    /// Counts the symbols of every level in residuals, in steps, beside a prediction: what laws are learned from.
    pub fn count(&self, residuals: &[f64], coarser: i8, counts: &mut [Vec<u32>]) {
        let mut state = self.state(&vec![0; self.parts.coefficient_levels.len()]);
        let factor = factor(coarser);
        for layer in 1..self.layers() {
            let put = |entry: usize, level: usize, _: i64| {
                let (table, counts) = (&self.tables[level], &mut counts[level]);
                let q = chosen(residuals[entry] / factor, table);
                let symbol = if q.abs() > table.reach { 2 * table.reach + 1 } else { table.reach + q };
                counts[symbol as usize] += 1;
                Ok::<i32, ()>(q)
            };
            let visited = self.visit((layer, coarser), &mut state, put);
            debug_assert!(visited.is_ok());
        }
    }

    /// Along the components, in steps, rounded.
    fn coefficients(&self, latent: &[f32]) -> Vec<i32> {
        let (len, channels) = (self.len(), self.parts.shape[3]);
        let unit = PARTS * f64::from(1u32 << BASIS_BITS);
        let centred = |i: usize| {
            f64::from(latent[i]) / f64::from(self.parts.steps[i % channels])
                - f64::from(self.parts.mean[i]) / PARTS
        };
        let centred: Vec<f64> = (0..len).map(centred).collect();
        let along = |row: &[i32]| {
            let sum: f64 = row.iter().zip(&centred).map(|(&b, x)| f64::from(b) / unit * x).sum();
            // As far as predictions stay far from overflow.
            sum.round().clamp(-f64::from(MOST), f64::from(MOST)) as i32
        };
        self.parts.basis.chunks_exact(len).map(along).collect()
    }

    /// The latent of the first layers of a file; entries of the others take their prediction.
    ///
    /// # Errors
    /// Where a layer is not what an encoder writes.
    pub fn decode(&self, layers: &[&[u8]], coarser: i8) -> Result<Vec<f32>, String> {
        let Some((first, residuals)) = layers.split_first() else {
            return Err("no layer is whole".to_string());
        };
        let mut reader = Reader::new(first)?;
        let levels = self.parts.coefficient_levels.iter();
        let coefficients = levels
            .map(|&level| reader.value(&self.tables[usize::from(level)]))
            .collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        let mut state = self.state(&coefficients);
        for (layer, bytes) in (1..).zip(residuals) {
            let mut reader = Reader::new(bytes)?;
            self.visit((layer, coarser), &mut state, |_, level, _| reader.value(&self.tables[level]))?;
            reader.finish()?;
        }
        let factor = factor(coarser);
        let value = |i: usize| {
            let step = f64::from(self.parts.steps[i % self.parts.shape[3]]);
            let parts = state.prediction[i] as f64 * (step / PARTS);
            (parts + f64::from(state.residuals[i]) * (step * factor)) as f32
        };
        let values: Vec<f32> = (0..self.len()).map(value).collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err("a layer holds values that are not finite".to_string());
        }
        Ok(values)
    }
}

/// The whole number for `x`: the nearest, or the next one towards 0 where that saves more bits than it costs error.
fn chosen(x: f64, table: &Table) -> i32 {
    let near = x.round().clamp(-f64::from(MOST), f64::from(MOST)) as i32;
    let lower = near - near.signum();
    if near == 0 || near.abs() > table.reach {
        return near;
    }
    let cost = |q: i32| {
        let bits = f64::from(table.bits[(table.reach + q) as usize]);
        (x - f64::from(q)).powi(2) + BIT_WORTH * bits
    };
    if cost(lower) < cost(near) { lower } else { near }
}
