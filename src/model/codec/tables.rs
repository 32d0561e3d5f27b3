//! Probabilities of quantised values: a discretised Laplace law for each of [`LEVELS`] scales, in integers.
//!
//! A value q of a law of scale b (both in quantisation steps) has the probability that |x - q| <= 1/2 of a Laplace
//! variable x: 1 - exp(-1/(2b)) for 0, exp(-(|q| - 1/2)/b) (1 - exp(-1/b)) / 2 otherwise. Beyond the table's reach stands one escape.

use constriction::stream::model::{ContiguousCategoricalEntropyModel, IterableEntropyModel as _};

/// Bits of a probability.
pub const PRECISION: usize = 16;

/// Scales of a table, a quarter of an octave apart.
pub const LEVELS: usize = 64;
pub const PER_OCTAVE: i32 = 4;
/// The level of the scale 1; the lowest scale, 1/16, gives 0 all but 3e-4 of the probability.
pub const LEVEL_OF_ONE: i32 = 16;

/// The largest magnitude that has a probability of its own.
const REACH: f64 = 511.0;
/// Scales that a table reaches: beyond lie 3e-4 of the probability.
const SCALES: f64 = 8.0;

pub type Model = ContiguousCategoricalEntropyModel<u16, Vec<u16>, PRECISION>;

/// The law of one scale.
pub struct Table {
    /// Magnitudes up to this have a symbol: `reach + q`; the escape is the symbol behind them.
    pub reach: i32,
    pub model: Model,
    /// Bits of each symbol; for the choice of the encoder alone.
    pub bits: Vec<f32>,
    /// Mean magnitude in 1/256 of a step.
    pub expected: u32,
}

/// The scale of a level, in steps.
fn scale(level: usize) -> f64 {
    ((level as i32 - LEVEL_OF_ONE) as f64 / f64::from(PER_OCTAVE)).exp2()
}

/// The level whose scale is nearest to `scale`.
pub fn level_of(scale: f64) -> u8 {
    let level = f64::from(PER_OCTAVE) * scale.max(f64::MIN_POSITIVE).log2() + f64::from(LEVEL_OF_ONE);
    level.round().clamp(0.0, (LEVELS - 1) as f64) as u8
}

/// Probabilities of all symbols of a level, which add up to 2^16.
pub fn laplace(level: usize) -> Vec<u32> {
    let b = scale(level);
    let reach = (SCALES * b).ceil().min(REACH) as i32;
    let tail = |from: f64| (-from / b).exp();
    let of = |q: i32| match q {
        0 => 1.0 - tail(0.5),
        _ => 0.5 * tail(f64::from(q.abs()) - 0.5) * (1.0 - tail(1.0)),
    };
    let mut probabilities: Vec<f64> = (-reach..=reach).map(of).collect();
    probabilities.push(tail(f64::from(reach) + 0.5));
    integers(&probabilities)
}

/// The largest whole numbers above 0 in proportion to `weights` with the sum 2^16; what rounding leaves goes to the heaviest.
pub fn integers(weights: &[f64]) -> Vec<u32> {
    let all: f64 = weights.iter().sum();
    let free = f64::from((1u32 << PRECISION) - weights.len() as u32);
    let mut found: Vec<u32> = weights.iter().map(|w| 1 + (w / all * free) as u32).collect();
    let heaviest = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap_or_default();
    found[heaviest] += (1 << PRECISION) - found.iter().sum::<u32>();
    found
}

/// A model of such probabilities.
///
/// # Errors
/// Where they are no law of at least two symbols.
pub fn model(probabilities: &[u32]) -> Result<Model, String> {
    let whole = probabilities.iter().try_fold(0u32, |sum, &p| sum.checked_add(p));
    if probabilities.len() < 2 || whole != Some(1 << PRECISION) || probabilities.contains(&0) {
        return Err("its probabilities do not add up".to_string());
    }
    let as_u16 = probabilities.iter().map(|&p| p as u16);
    Model::from_nonzero_fixed_point_probabilities(as_u16, false)
        .map_err(|()| "its probabilities do not add up".to_string())
}

/// Bits of each symbol of a model.
pub fn bits(model: &Model) -> Vec<f32> {
    let bits = |p: u16| PRECISION as f32 - f32::from(p).log2();
    model.symbol_table().map(|(_, _, p)| bits(p.get())).collect()
}

impl Table {
    /// # Errors
    /// Where the probabilities are no law of magnitudes from 0 and an escape.
    pub fn new(probabilities: &[u32]) -> Result<Self, String> {
        if probabilities.len() < 4 || probabilities.len() % 2 == 1 {
            return Err(format!("a table of {} probabilities", probabilities.len()));
        }
        let reach = (probabilities.len() / 2 - 1) as i32;
        let model = model(probabilities)?;
        let magnitude = |symbol: usize| (symbol as i32 - reach).unsigned_abs();
        let sum: u64 = (0..).zip(probabilities).map(|(s, &p)| u64::from(magnitude(s)) * u64::from(p)).sum();
        Ok(Self { reach, bits: bits(&model), model, expected: (sum >> (PRECISION - 8)) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_law_with_the_scale_it_stands_for() {
        for level in 0..LEVELS {
            let probabilities = laplace(level);
            let table = Table::new(&probabilities).unwrap();
            assert_eq!(probabilities.iter().sum::<u32>(), 1 << PRECISION, "level {level}");
            let b = scale(level);
            assert_eq!(usize::from(level_of(b)), level);
            // Of the discretised law: exp(-1/(2b)) / (1 - exp(-1/b)). A magnitude beyond the reach counts as the next one.
            let expected = (-0.5 / b).exp() / (1.0 - (-1.0 / b).exp());
            if SCALES * b < REACH {
                // A probability is rounded to 2^-16, and 8e-3 of the mean lie beyond the reach.
                let found = f64::from(table.expected) / 256.0;
                assert!((found - expected).abs() < 0.02 * expected + 0.01, "{level}: {found} {expected}");
            }
        }
    }

    #[test]
    fn what_is_no_law_is_refused() {
        assert!(Table::new(&[1 << 16]).is_err());
        assert!(Table::new(&[1, 2, 3, 4]).is_err());
        assert!(Table::new(&[0, 1 << 15, 1 << 15, 0]).is_err());
        assert!(Table::new(&[u32::MAX, 1, 1, 65535]).is_err());
        assert!(Table::new(&[1, 65533, 1, 1]).is_ok());
    }
}
