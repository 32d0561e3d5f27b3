//! The uniform check of an op on a device: every declared case against the f64 oracle, its
//! gradients against central differences of the oracle, and the contract of the calls (poisoned
//! and guarded buffers, overwrite and add, equal bits in every run and for any number of threads).

mod buffers;
mod geometry;
mod training;

pub use geometry::{GEOMETRY, check_geometry};
pub use training::check_training;

use crate::cpu::products::Products;
use crate::cuda::{Precision, Queue};
use crate::device::{Device, Kind};
use crate::error::Result;
use crate::ops::cuda::Target;
use crate::ops::{Backward, Case, Forward, Gradient, Memory, Op, Oracle, Storage, Tensor, cuda};
use crate::rng::Rng;
use crate::shape::Shape;
use buffers::{Guarded, Piece, Uploaded, narrow, widen};

/// Half a unit in the last place of f32 relative to 1.
const UNIT_ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;
/// A sum of n rounded terms errs by about sqrt(n) roundoffs when signs are random (Higham,
/// "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 2.8); the factor covers the
/// handful of roundings on the way into and out of the sum.
const ROUNDINGS: f64 = 16.0;
/// Step of the central differences in f64: truncation ~ h^2, cancellation ~ 1e-16 / h.
const STEP: f64 = 1e-5;
/// What the differences themselves may be off by, relative to the gradient.
const DIFFERENCE_ERROR: f64 = 1e-7;
/// Entries of a gradient that are compared one by one; the rest by random directions.
const ENTRIES: usize = 256;

/// The outcome of one case.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub op: &'static str,
    pub case: String,
    /// Relative L2 error of the output against the oracle.
    pub forward_error: f64,
    /// The largest relative L2 error of a gradient.
    pub gradient_error: f64,
    pub tolerance: f64,
    /// What broke, in words; empty when all is well.
    pub failures: Vec<String>,
}

/// The same for products on the tensor cores, whose factors are rounded to 11 or 8 bits (PTX ISA, `cvt`), and for
/// values that lie in 2 bytes.
fn format_roundoff(precision: Precision) -> f64 {
    match precision {
        Precision::Tf32 | Precision::Fp16 => 1.0 / 2048.0,
        Precision::Bf16 => 1.0 / 256.0,
        Precision::Fp32 => 0.0,
    }
}

/// Runs every declared case of `op` on `device`; where that stores 2 bytes a value, a second time with the arrays in
/// these.
///
/// # Errors
/// Those of the device; what is wrong with the op stands in its outcomes.
pub fn check(op: &dyn Op, device: &Device) -> Result<Vec<Outcome>> {
    let twice = device.kind().narrow() && op.storage() != Storage::Exact;
    let ways: &[bool] = if twice { &[false, true] } else { &[false] };
    let cases = op.cases();
    cases
        .iter()
        .flat_map(|case| ways.iter().map(|&in_2_bytes| check_case(case, device, in_2_bytes)))
        .collect()
}

/// Runs one case; its inputs and cotangent follow from its name. `in_2_bytes`: those arrays that may ([`Storage`]) lie
/// in the 2-byte format of the card.
pub fn check_case(case: &Case, device: &Device, in_2_bytes: bool) -> Result<Outcome> {
    let mut rng = Rng::named(0, &format!("{}/{}", case.op.name(), case.name));
    let mut outcome = Outcome {
        op: case.op.name(),
        case: format!("{}{}", case.name, if in_2_bytes { ", in 2 bytes" } else { "" }),
        forward_error: f64::NAN,
        gradient_error: 0.0,
        tolerance: ROUNDINGS * UNIT_ROUNDOFF * (case.terms.max(1) as f64).sqrt(),
        failures: Vec::new(),
    };
    let on = device.kind();
    let shapes: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
    let output_shape = match case.op.shape(&shapes) {
        Ok(shape) => shape,
        Err(error) => {
            outcome.failures.push(format!("its own case is refused: {error}"));
            return Ok(outcome);
        }
    };
    let precision = match on {
        Kind::Cpu(Products::Fp32) => Precision::Fp32,
        Kind::Cpu(Products::Bf16) => Precision::Bf16,
        Kind::Cuda { precision, .. } => precision,
    };
    // Relative to the result, random errors of the products keep their size in the sum.
    if case.op.operations(&shapes) > 0.0 {
        outcome.tolerance += 2.0 * format_roundoff(precision);
    }
    // A stored result is off by up to a roundoff, one that was added to a stored one by two. What goes in is given
    // as it is stored.
    if in_2_bytes {
        outcome.tolerance += 2.0 * format_roundoff(precision);
    }
    let mut problem = Problem {
        op: &*case.op,
        device,
        in_2_bytes,
        precision,
        memory: case.op.memory(on, &shapes),
        inputs: case.inputs.iter().map(|input| input.values(&mut rng)).collect(),
        cotangent: (0..output_shape.len()).map(|_| rng.normal()).collect(),
        output_shape,
        shapes,
    };
    problem.store();
    problem.check_forward(&mut outcome)?;
    problem.check_gradients(&mut outcome, &mut rng)?;
    problem.check_repeatability(&mut outcome)?;
    Ok(outcome)
}

/// A case with its numbers.
struct Problem<'a> {
    op: &'a dyn Op,
    device: &'a Device,
    in_2_bytes: bool,
    precision: Precision,
    memory: Memory,
    shapes: Vec<Shape>,
    inputs: Vec<Vec<f32>>,
    output_shape: Shape,
    cotangent: Vec<f32>,
}

/// What a forward or backward call left behind.
struct Run {
    output: Vec<f32>,
    saved: Vec<f32>,
    gradients: Vec<Option<Vec<f32>>>,
    /// A write outside a buffer, in words.
    trespass: Option<String>,
}

impl Problem<'_> {
    /// Whether an input lies in 2 bytes, with its gradient.
    fn narrow(&self, input: usize) -> bool {
        let alike = match self.op.storage() {
            Storage::Exact => 0,
            Storage::Alike(count) => count,
            Storage::Product => 1,
        };
        self.in_2_bytes && input < alike
    }

    /// Whether the op is given an input in 2 bytes: the factors of a product however they lie.
    fn given_narrow(&self, input: usize) -> bool {
        self.narrow(input) || (self.factors() && input < 2)
    }

    fn factors(&self) -> bool {
        self.device.kind().narrow() && self.op.storage() == Storage::Product
    }

    /// Rounds what lies in 2 bytes, so that the oracle sees what the op does.
    fn store(&mut self) {
        self.inputs = (0..self.inputs.len()).map(|i| self.stored(self.narrow(i), &self.inputs[i])).collect();
        self.cotangent = self.stored(self.in_2_bytes, &self.cotangent);
    }

    fn stored(&self, in_2_bytes: bool, values: &[f32]) -> Vec<f32> {
        if in_2_bytes { widen(&narrow(values, self.precision), self.precision) } else { values.to_vec() }
    }

    fn check_forward(&self, outcome: &mut Outcome) -> Result<()> {
        let run = self.forward()?;
        outcome.failures.extend(run.trespass.map(|what| format!("forward wrote {what}")));
        let expected = self.op.oracle(&self.oracle_inputs());
        if expected.len() != run.output.len() {
            outcome.failures.push(format!(
                "the oracle gives {} values, the shape rule {}",
                expected.len(),
                run.output.len()
            ));
            return Ok(());
        }
        outcome.forward_error = relative_error(&run.output, &expected);
        if !within(outcome.forward_error, outcome.tolerance) {
            outcome.failures.push(format!("forward is off by {:.1e}", outcome.forward_error));
        }
        Ok(())
    }

    fn check_gradients(&self, outcome: &mut Outcome, rng: &mut Rng) -> Result<()> {
        let overwritten = self.both(None)?;
        let mut random = |(i, x): (usize, &Vec<f32>)| {
            self.stored(self.narrow(i), &x.iter().map(|_| rng.normal()).collect::<Vec<f32>>())
        };
        let prefill: Vec<Vec<f32>> = self.inputs.iter().enumerate().map(&mut random).collect();
        let added = self.both(Some(&prefill))?;
        for run in [&overwritten, &added] {
            outcome.failures.extend(run.trespass.iter().map(|what| format!("backward wrote {what}")));
        }
        for index in (0..self.inputs.len()).filter(|&index| self.op.differentiable(index)) {
            let (Some(plain), Some(sum)) = (&overwritten.gradients[index], &added.gradients[index]) else {
                continue;
            };
            let error = self.gradient_error(index, plain, rng);
            match error {
                Err(problem) => outcome.failures.push(format!("gradient {index}: {problem}")),
                Ok(error) => {
                    outcome.gradient_error = outcome.gradient_error.max(error);
                    if !within(error, outcome.tolerance + DIFFERENCE_ERROR) {
                        outcome.failures.push(format!("gradient {index} is off by {error:.1e}"));
                    }
                }
            }
            let expected: Vec<f64> =
                plain.iter().zip(&prefill[index]).map(|(g, p)| f64::from(*g) + f64::from(*p)).collect();
            let error = relative_error(sum, &expected);
            // Relative to the sum, in which the gradient itself may nearly vanish with its error.
            let growth = (norm(plain) / norm(sum)).max(1.0);
            if !within(error, growth * outcome.tolerance) {
                outcome
                    .failures
                    .push(format!("gradient {index} added to a filled buffer is off by {error:.1e}"));
            }
        }
        Ok(())
    }

    /// The same bits again, and on the CPU with one, two and three threads.
    fn check_repeatability(&self, outcome: &mut Outcome) -> Result<()> {
        let first = self.both(None)?;
        let bits = |run: &Run| -> Vec<u32> {
            let gradients = run.gradients.iter().flatten().flatten();
            run.output.iter().chain(gradients).map(|x| x.to_bits()).collect()
        };
        if bits(&self.both(None)?) != bits(&first) {
            outcome.failures.push("two runs differ in their bits".into());
        }
        for threads in [1, 2, 3] {
            if let Device::Cuda(_) = self.device {
                break;
            }
            let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() else { continue };
            if bits(&pool.install(|| self.both(None))?) != bits(&first) {
                outcome.failures.push(format!("the bits depend on the threads ({threads})"));
            }
        }
        Ok(())
    }

    fn oracle_inputs(&self) -> Vec<Oracle> {
        let widen = |(shape, values): (&Shape, &Vec<f32>)| Oracle {
            shape: *shape,
            values: values.iter().map(|&x| f64::from(x)).collect(),
        };
        self.shapes.iter().zip(&self.inputs).map(widen).collect()
    }

    /// L = sum(cotangent * oracle): the scalar whose gradient backward gives.
    fn loss(&self, inputs: &[Oracle]) -> f64 {
        self.op.oracle(inputs).iter().zip(&self.cotangent).map(|(y, &c)| y * f64::from(c)).sum()
    }

    /// Relative L2 error over sampled entries and random directions against central differences.
    fn gradient_error(
        &self,
        index: usize,
        gradient: &[f32],
        rng: &mut Rng,
    ) -> std::result::Result<f64, String> {
        let mut inputs = self.oracle_inputs();
        let n = gradient.len();
        let entries: Vec<usize> =
            if n <= ENTRIES { (0..n).collect() } else { (0..ENTRIES).map(|_| rng.below(n)).collect() };
        let mut directions: Vec<Vec<(usize, f64)>> = entries.iter().map(|&i| vec![(i, 1.0)]).collect();
        if n > ENTRIES {
            directions.extend((0..4).map(|_| (0..n).map(|i| (i, f64::from(rng.normal()))).collect()));
        }
        let (mut ours, mut expected) = (Vec::new(), Vec::new());
        for direction in &directions {
            let length = direction.iter().map(|(_, d)| d * d).sum::<f64>().sqrt();
            let step = STEP / length;
            let at = |sign: f64, inputs: &mut Vec<Oracle>| {
                let kept: Vec<f64> = direction.iter().map(|&(i, _)| inputs[index].values[i]).collect();
                direction.iter().for_each(|&(i, d)| inputs[index].values[i] += sign * step * d);
                let loss = self.loss(inputs);
                direction.iter().zip(kept).for_each(|(&(i, _), x)| inputs[index].values[i] = x);
                loss
            };
            let slope = (at(1.0, &mut inputs) - at(-1.0, &mut inputs)) / (2.0 * STEP);
            expected.push(slope);
            ours.push(direction.iter().map(|&(i, d)| f64::from(gradient[i]) * d / length).sum::<f64>() as f32);
        }
        let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm < 1e-6 {
            return Err(format!("vacuous: its norm is {norm:.1e} for a random cotangent"));
        }
        Ok(relative_error(&ours, &expected))
    }

    fn forward(&self) -> Result<Run> {
        let output = Piece { len: self.output_shape.len(), narrow: self.in_2_bytes };
        let [saved, workspace] = [self.memory.saved, self.memory.forward_workspace].map(Piece::wide);
        let mut guarded = Guarded::new(&[output, saved, workspace], self.precision);
        match self.device {
            Device::Cpu | Device::CpuBf16 => {
                let zipped = self.shapes.iter().zip(&self.inputs);
                let tensors: Vec<Tensor> = zipped.map(|(&shape, values)| Tensor { shape, values }).collect();
                let products = self.device.products();
                guarded.with(|mut pieces| {
                    let (workspace, saved, output) = take3(&mut pieces);
                    self.op.forward_cpu(Forward { products, inputs: &tensors, output, saved, workspace });
                });
            }
            Device::Cuda(queue) => {
                let inputs = self.uploaded(queue, |_| true)?;
                guarded.with_card(queue, |pieces| {
                    self.op.forward_cuda(cuda::Forward {
                        queue,
                        inputs: &self.tensors(&inputs),
                        output: pieces[0],
                        saved: pieces[1].wide(),
                        workspace: pieces[2].wide(),
                    })
                })?;
            }
        }
        Ok(Run {
            output: guarded.values(0),
            saved: guarded.values(1),
            gradients: Vec::new(),
            trespass: guarded.trespass(),
        })
    }

    /// Copies of the `visible` inputs on the card; the others are empty.
    fn uploaded(&self, queue: &Queue, visible: impl Fn(usize) -> bool) -> Result<Vec<Uploaded>> {
        let values = |(i, x): (usize, &Vec<f32>)| {
            Uploaded::new(queue, if visible(i) { &x[..] } else { &[] }, self.given_narrow(i))
        };
        self.inputs.iter().enumerate().map(values).collect()
    }

    fn tensors(&self, inputs: &[Uploaded]) -> Vec<cuda::Tensor> {
        let tensor = |(&shape, x): (&Shape, &Uploaded)| cuda::Tensor { shape, values: x.source() };
        self.shapes.iter().zip(inputs).map(tensor).collect()
    }

    /// Forward, then backward into poisoned (`None`) or prefilled gradients. Backward sees only
    /// what the op's memory rule says it reads.
    fn both(&self, prefill: Option<&[Vec<f32>]>) -> Result<Run> {
        let mut run = self.forward()?;
        let wanted: Vec<usize> = (0..self.inputs.len()).filter(|&i| self.op.differentiable(i)).collect();
        let mut sizes = vec![Piece::wide(self.memory.backward_workspace)];
        sizes.extend(wanted.iter().map(|&i| Piece { len: self.inputs[i].len(), narrow: self.narrow(i) }));
        let mut guarded = Guarded::new(&sizes, self.precision);
        if let Some(prefill) = prefill {
            wanted.iter().enumerate().for_each(|(slot, &i)| guarded.fill(slot + 1, &prefill[i]));
        }
        let add = prefill.is_some();
        match self.device {
            Device::Cpu | Device::CpuBf16 => self.backward_cpu(&run, &wanted, add, &mut guarded),
            Device::Cuda(queue) => self.backward_cuda(queue, &run, &wanted, add, &mut guarded)?,
        }
        run.gradients = self.inputs.iter().map(|_| None).collect();
        for (slot, &i) in wanted.iter().enumerate() {
            run.gradients[i] = Some(guarded.values(slot + 1));
        }
        run.trespass = run.trespass.or(guarded.trespass());
        Ok(run)
    }

    fn backward_cpu(&self, run: &Run, wanted: &[usize], add: bool, guarded: &mut Guarded) {
        let visible =
            |i: usize| if self.memory.backward_inputs.contains(&i) { &self.inputs[i][..] } else { &[] };
        let tensors: Vec<Tensor> =
            self.shapes.iter().enumerate().map(|(i, &shape)| Tensor { shape, values: visible(i) }).collect();
        guarded.with(|mut pieces| {
            let mut given: Vec<Option<Gradient>> = self.inputs.iter().map(|_| None).collect();
            for &i in wanted.iter().rev() {
                given[i] = pieces.pop().map(|values| Gradient { values, add });
            }
            self.op.backward_cpu(Backward {
                products: self.device.products(),
                inputs: &tensors,
                output: if self.memory.backward_output { &run.output } else { &[] },
                output_gradient: &self.cotangent,
                saved: &run.saved,
                workspace: pieces.pop().unwrap_or_default(),
                gradients: given,
            });
        });
    }

    fn backward_cuda(
        &self,
        queue: &Queue,
        run: &Run,
        wanted: &[usize],
        add: bool,
        guarded: &mut Guarded,
    ) -> Result<()> {
        let inputs = self.uploaded(queue, |i| self.memory.backward_inputs.contains(&i))?;
        let output = if self.memory.backward_output { &run.output[..] } else { &[] };
        let output = Uploaded::new(queue, output, self.in_2_bytes)?;
        let output_gradient = Uploaded::new(queue, &self.cotangent, self.in_2_bytes)?;
        let factor = Uploaded::new(queue, &self.cotangent, self.in_2_bytes || self.factors())?;
        let saved = queue.array_from(&run.saved, "what forward saved")?;
        guarded.with_card(queue, |pieces: &[Target]| {
            let mut given: Vec<Option<cuda::Gradient>> = self.inputs.iter().map(|_| None).collect();
            for (slot, &i) in wanted.iter().enumerate() {
                given[i] = Some(cuda::Gradient { values: pieces[slot + 1], add });
            }
            self.op.backward_cuda(cuda::Backward {
                queue,
                inputs: &self.tensors(&inputs),
                output: output.source(),
                output_gradient: output_gradient.source(),
                factor: factor.source(),
                saved: saved.read(),
                workspace: pieces[0].wide(),
                gradients: &given,
            })
        })
    }
}

fn take3<'a>(pieces: &mut Vec<&'a mut [f32]>) -> (&'a mut [f32], &'a mut [f32], &'a mut [f32]) {
    let mut next = || pieces.pop().unwrap_or_default();
    (next(), next(), next())
}

/// NaN, the mark of a value left unwritten, is not within anything.
fn within(error: f64, tolerance: f64) -> bool {
    error <= tolerance
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// ||a - b|| / ||b||, infinite or NaN where `a` is not finite; absolute where b is 0.
fn relative_error(ours: &[f32], expected: &[f64]) -> f64 {
    let difference: f64 = ours.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| b * b).sum();
    (difference / if norm > 0.0 { norm } else { 1.0 }).sqrt()
}
