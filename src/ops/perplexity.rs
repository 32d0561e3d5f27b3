//! How many codes of a discrete latent are in use: exp of the entropy of the codes of a group over all sites of a batch, mean
//! over the groups (the perplexity that van den Oord et al., "Neural discrete representation learning", NeurIPS 2017, follow).

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cuda::{Launch, THREADS, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::shape::Shape;

/// One-hot codes `[..., G*classes]` by themselves, or levels `[..., C]` from -1 to 1 with their numbers `[C]`. Nothing carries a
/// gradient. Output: a scalar.
#[derive(Clone, Debug)]
pub struct Perplexity {
    pub codes: Codes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// As [`super::OneHot`] makes them.
    OneHot { classes: usize },
    /// As [`super::Fsq`] makes them, at most so many in a channel.
    Levels { most: usize },
}

impl Perplexity {
    /// Codes of a group at most.
    fn codes(&self) -> usize {
        match self.codes {
            Codes::OneHot { classes } => classes,
            Codes::Levels { most } => most,
        }
    }

    /// Adds to `counts`, a number a code of each group, how often the codes `y` have each, where `levels` are those of the
    /// channels or nothing; the number of sites.
    pub fn count(&self, y: &[f32], levels: &[f32], counts: &mut [f32]) -> usize {
        match self.codes {
            Codes::OneHot { .. } => {
                let rows = y.chunks(counts.len());
                rows.clone().for_each(|row| counts.iter_mut().zip(row).for_each(|(n, y)| *n += y.round()));
                rows.len()
            }
            Codes::Levels { most } => {
                let rows = y.chunks(counts.len() / most);
                for row in rows.clone() {
                    for (channel, (y, levels)) in row.iter().zip(levels).enumerate() {
                        let code = ((y + 1.0) * 0.5 * (levels - 1.0)).round() as usize;
                        counts[channel * most + code.min(most - 1)] += 1.0;
                    }
                }
                rows.len()
            }
        }
    }

    /// That of codes which were counted at so many sites.
    pub fn of_counts(&self, counts: &[f32], sites: usize) -> f32 {
        let entropy = |counts: &[f32]| -> f64 {
            let shares = counts.iter().map(|&n| f64::from(n) / sites as f64).filter(|&share| share > 0.0);
            -shares.map(|share| share * share.ln()).sum::<f64>()
        };
        let groups = counts.chunks(self.codes());
        let count = groups.len() as f64;
        (groups.map(|counts| entropy(counts).exp()).sum::<f64>() / count) as f32
    }

    /// Groups, and codes of each at most.
    fn extents(&self, y: Shape) -> [usize; 2] {
        let last = y.extents().last().copied().unwrap_or(1);
        match self.codes {
            Codes::OneHot { classes } => [last / classes, classes],
            Codes::Levels { most } => [last, most],
        }
    }
}

impl Op for Perplexity {
    fn name(&self) -> &'static str {
        "perplexity"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let fits = match (self.codes, inputs) {
            (Codes::OneHot { classes }, [y]) => {
                y.extents().last().is_some_and(|last| last.is_multiple_of(classes))
            }
            (Codes::Levels { .. }, [y, levels]) => y.extents().last() == Some(&levels.len()),
            _ => false,
        };
        fits.then(Shape::scalar).ok_or_else(|| {
            let problem = format!("expected {:?}, found {inputs:?}", self.codes);
            Error::new("perplexity", problem, "pass one-hot codes, or levels with their numbers")
        })
    }

    fn differentiable(&self, _index: usize) -> bool {
        false
    }

    fn memory(&self, _on: Kind, inputs: &[Shape]) -> Memory {
        // How often each code occurs.
        Memory { forward_workspace: self.extents(inputs[0]).iter().product(), ..Memory::default() }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let y = &inputs[0];
        let [groups, codes] = self.extents(y.shape);
        let width = match self.codes {
            Codes::OneHot { .. } => groups * codes,
            Codes::Levels { .. } => groups,
        };
        let sites = y.values.len() / width;
        let mut sum = 0.0;
        for group in 0..groups {
            let mut entropy = 0.0;
            for code in 0..codes {
                let is = |site: usize| match self.codes {
                    Codes::OneHot { .. } => y.values[site * width + group * codes + code] == 1.0,
                    Codes::Levels { .. } => {
                        let place = 2.0 * code as f64 / (inputs[1].values[group] - 1.0) - 1.0;
                        (y.values[site * width + group] - place).abs() < 1e-3
                    }
                };
                let share = (0..sites).filter(|&site| is(site)).count() as f64 / sites as f64;
                entropy -= if share > 0.0 { share * share.ln() } else { 0.0 };
            }
            sum += entropy.exp();
        }
        vec![sum / groups as f64]
    }

    fn forward_cpu(&self, call: Forward) {
        let counts = call.workspace;
        counts.fill(0.0);
        let levels = call.inputs.get(1).map_or(&[][..], |levels| levels.values);
        let sites = self.count(call.inputs[0].values, levels, counts);
        call.output[0] = self.of_counts(counts, sites);
    }

    fn backward_cpu(&self, _call: Backward) {}

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let y = call.inputs[0];
        let [groups, codes] = self.extents(y.shape);
        let values = y.values.wide();
        int(values.len)?;
        let (one_hot, width) = match self.codes {
            Codes::OneHot { .. } => (1, groups * codes),
            Codes::Levels { .. } => (0, groups),
        };
        // One-hot codes have no levels to read.
        let levels = call.inputs.get(1).map_or(values, |levels| levels.values.wide());
        let (sites, counts) = (int(values.len / width)?, call.workspace);
        let launch = Launch::items(groups * codes, THREADS);
        let (groups, codes, queue) = (int(groups)?, int(codes)?, call.queue);
        kernels::perplexity::forward_count(
            queue, launch, values, levels, counts, sites, groups, codes, one_hot,
        )?;
        let launch = Launch::blocks(1, THREADS);
        kernels::perplexity::forward(queue, launch, counts.into(), call.output.wide(), sites, groups, codes)
    }

    fn backward_cuda(&self, _call: cuda::Backward) -> Result<()> {
        Ok(())
    }

    fn cases(&self) -> Vec<Case> {
        /// Rows of one-hot codes of five classes each, the first ones oftener.
        fn one_hot(rng: &mut Rng, shape: &Shape) -> Vec<f32> {
            let mut values = vec![0.0; shape.len()];
            values.chunks_mut(5).for_each(|row| row[rng.below(5).min(rng.below(5))] = 1.0);
            values
        }
        /// Channels of 2, 3, 4, 2, 3, 4, ... levels.
        fn levels(_: &mut Rng, shape: &Shape) -> Vec<f32> {
            (0..shape.len()).map(|channel| 2.0 + (channel % 3) as f32).collect()
        }
        fn grid(rng: &mut Rng, shape: &Shape) -> Vec<f32> {
            let channels = shape.extents()[shape.rank() - 1];
            let level = |i: usize| 2 + i % channels % 3;
            (0..shape.len()).map(|i| 2.0 * rng.below(level(i)) as f32 / (level(i) - 1) as f32 - 1.0).collect()
        }
        let input =
            |extents: &[usize], fill| CaseInput { shape: Shape::new(extents), fill: Fill::With(fill) };
        let case = |name: &str, codes: Codes, inputs: Vec<CaseInput>| Case {
            name: name.into(),
            op: Box::new(Perplexity { codes }),
            inputs,
            terms: 5,
        };
        let classes = Codes::OneHot { classes: 5 };
        let most = Codes::Levels { most: 4 };
        vec![
            case("one row", classes, vec![input(&[1, 5], one_hot)]),
            case("groups", classes, vec![input(&[2, 3, 5, 15], one_hot)]),
            case("many groups", classes, vec![input(&[4, 1500], one_hot)]),
            case("levels", most, vec![input(&[6, 3, 3, 7], grid), input(&[7], levels)]),
        ]
    }
}
