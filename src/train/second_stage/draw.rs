//! Latents drawn from a fitted flow.

use crate::error::Result;
use crate::model::{Autoencoder, Flow, LatentKind, Posterior};
use crate::rng::Rng;
use crate::tape::{Graph, Tape, Value};

/// Steps from noise to a latent, each by Heun's method: a Gaussian, of which the flow is the identity, comes out with
/// deviations that are right to 0.2 %.
const STEPS: usize = 32;

/// A flow with its memory, and the way from what the encoder says to what the decoder reads.
pub struct FlowDraws {
    flow: Flow,
    tape: Tape,
    input: Value,
    correction: Value,
    /// Of a discrete latent.
    code: Option<Code>,
}

struct Code {
    tape: Tape,
    mean: Value,
    latent: Value,
}

impl FlowDraws {
    /// Draws for `model`, or of the encoder's output itself without one.
    pub fn new(mut flow: Flow, model: Option<&mut Autoencoder>) -> Result<Self> {
        let mut graph = Graph::default();
        let (input, correction) = flow.record(&mut graph, 1)?;
        let tape = Tape::new(&flow.parameters.device(), graph, None, &[correction])?;
        let code = match model {
            Some(model) if matches!(model.latent.kind, LatentKind::Categorical | LatentKind::Fsq) => {
                Some(Code::new(model)?)
            }
            _ => None,
        };
        Ok(Self { flow, tape, input, correction, code })
    }

    /// What the decoder reads.
    pub fn draw(&mut self, model: &Autoencoder, rng: &mut Rng) -> Result<Vec<f32>> {
        let mean = self.draw_mean(rng)?;
        let Some(Code { tape, mean: input, latent }) = &mut self.code else { return Ok(mean) };
        tape.load(*input, 0, &mean)?;
        tape.forward(&model.parameters)?;
        tape.value(*latent)
    }

    /// What the encoder would say.
    pub fn draw_mean(&mut self, rng: &mut Rng) -> Result<Vec<f32>> {
        let mut x: Vec<f32> = (0..self.flow.basis.len()).map(|_| rng.normal()).collect();
        for step in 0..STEPS - 1 {
            let [time, next] = [step, step + 1].map(|step| step as f32 / STEPS as f32);
            let length = next - time;
            let first = self.velocity(&x, time)?;
            let ahead: Vec<f32> = x.iter().zip(&first).map(|(x, v)| x + length * v).collect();
            let second = self.velocity(&ahead, next)?;
            for (x, (a, b)) in x.iter_mut().zip(first.iter().zip(&second)) {
                *x += 0.5 * length * (a + b);
            }
        }
        // From here a step of Euler's goes all the way to the estimate.
        let coefficients = self.estimate(&x, (STEPS - 1) as f32 / STEPS as f32)?;
        Ok(self.flow.basis.latent(&coefficients))
    }

    fn velocity(&mut self, x: &[f32], time: f32) -> Result<Vec<f32>> {
        let estimate = self.estimate(x, time)?;
        Ok(estimate.iter().zip(x).map(|(c, x)| (c - x) / (1.0 - time)).collect())
    }

    /// Of the coefficients of a latent.
    fn estimate(&mut self, x: &[f32], time: f32) -> Result<Vec<f32>> {
        self.tape.load(self.input, 0, &Flow::input(x, time))?;
        self.tape.forward(&self.flow.parameters)?;
        let correction = self.tape.value(self.correction)?;
        let estimate = Flow::gaussian_estimate(x, time);
        Ok(estimate.iter().zip(&correction).map(|(e, c)| e + c).collect())
    }
}

impl Code {
    fn new(model: &mut Autoencoder) -> Result<Self> {
        let mut graph = Graph::default();
        let mean = graph.input(model.latent_shape(1));
        let latent = model.record_code(&mut graph, Posterior { mean, log_variance: None })?;
        let tape = Tape::new(&model.parameters.device(), graph, None, &[latent])?;
        Ok(Self { tape, mean, latent })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FlowSettings, fit};
    use super::*;
    use crate::device::Device;

    const LEN: usize = 96;

    /// Latents along one direction, whose places are given.
    fn along_a_line(places: impl Iterator<Item = f32>) -> Vec<Vec<f32>> {
        let mut rng = Rng::new(7, 0);
        let direction: Vec<f32> = (0..LEN).map(|_| rng.normal()).collect();
        places.map(|place| direction.iter().map(|d| 1.0 + place * d).collect()).collect()
    }

    /// Coefficients of 400 draws.
    fn drawn(flow: Flow) -> Vec<f32> {
        let (basis, mut draws) = (flow.basis.clone(), FlowDraws::new(flow, None).unwrap());
        let mut draw = |index: u64| {
            let latent = draws.draw_mean(&mut Rng::new(1, index)).unwrap();
            basis.coefficients(&latent)[0]
        };
        (0..400).map(&mut draw).collect()
    }

    #[test]
    fn without_a_network_noise_comes_out_as_it_was() {
        let mut rng = Rng::new(5, 0);
        let latents = along_a_line((0..50).map(|_| rng.normal()));
        let (flow, report) = fit(&latents, &[], &FlowSettings::default(), &Device::Cpu).unwrap();
        assert_eq!((report.components, report.step, report.error), (1, 0, None));
        for (index, found) in drawn(flow).into_iter().enumerate() {
            let expected = Rng::new(1, index as u64).normal();
            // Heun's method leaves an error of the square of a step, 1 / 32, times a second derivative of about 1.
            assert!((found - expected).abs() < 2e-3 * expected.abs().max(1.0), "{found} beside {expected}");
        }
    }

    /// Two heaps of latents: a Gaussian puts 38 % of its draws between them, a flow almost none.
    #[test]
    fn what_no_gaussian_says_is_learned() {
        let mut rng = Rng::new(6, 0);
        let mut places = |count: usize| {
            let place = |at: usize| if at.is_multiple_of(2) { 1.0 } else { -1.0 };
            along_a_line((0..count).map(|at| place(at) + 0.1 * rng.normal()).collect::<Vec<_>>().into_iter())
        };
        let (latents, set_aside) = (places(64), places(16));
        let settings = FlowSettings { width: 32, ..FlowSettings::default() };
        let (flow, report) = fit(&latents, &set_aside, &settings, &Device::Cpu).unwrap();
        // Of -1 and 1 beside normal noise, the best estimate has nine tenths of the error of the best linear one over these times.
        assert!(report.error.unwrap() < 0.96 * report.gaussian_error.unwrap(), "{report:?}");
        let found = drawn(flow);
        let between = found.iter().filter(|x| x.abs() < 0.5).count();
        // A Gaussian: 153 of 400, with a deviation of 10.
        assert!(between < 60, "{between} of 400 lie between the heaps");
        let above = found.iter().filter(|&&x| x > 0.0).count();
        assert!((130..270).contains(&above), "{above} of 400 lie in the upper heap");
    }
}
