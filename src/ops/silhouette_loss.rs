//! Occupancy supervision of binary planes: the mean over points of the binary cross entropy between the silhouette hull
//! o(p) = min_k B_k(u, v), bilinear samples of the six views, and whether the point lies inside.
//!
//! B is clamped to [0, 1] and o to [clamp, 1 - clamp], so that the loss is finite; what is clamped has no gradient. That
//! also keeps it sane where no silhouette can be right: in a hollow that no view looks into (an ear, under a chin) the
//! hull is inside and the mesh outside, and a point there must not pull at planes that are certain of it.

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::arena::padded;
use crate::cuda::{Launch, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::hexplane::VIEWS;
use crate::hexplane::field::Footprint;
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: planes `[6 B, N, N, 1]` of probabilities (six views a mesh, in the order of [`VIEWS`]), points `[B, P, 3]` and
/// their signed distances `[B, P]`, negative inside. Output: a scalar, in nats. Only the planes carry a gradient.
#[derive(Clone, Debug)]
pub struct SilhouetteLoss {
    /// The occupancy is taken within [clamp, 1 - clamp]; between 0 and 1/2.
    pub clamp: f32,
}

impl SilhouetteLoss {
    /// With the clamp of training.
    pub fn usual() -> Self {
        Self { clamp: 0.01 }
    }
}

/// Points that one task evaluates; fixed, as every division of the work is.
const POINTS: usize = 64;

/// N and P.
fn extents(planes: Shape, distances: Shape) -> [usize; 2] {
    [planes.extents()[1], distances.extents()[1]]
}

impl Op for SilhouetteLoss {
    fn name(&self) -> &'static str {
        "silhouette_loss"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if let [planes, points, distances] = inputs
            && let (&[views, height, width, 1], &[meshes, count, 3]) = (planes.extents(), points.extents())
            && (views == 6 * meshes && height == width && width >= 2)
            && (distances.extents() == [meshes, count] && meshes * count > 0)
        {
            return Ok(Shape::scalar());
        }
        Err(Error::new(
            "silhouette_loss",
            format!(
                "expected planes [6 B, N, N, 1], points [B, P, 3] and distances [B, P], found {inputs:?}"
            ),
            "match them",
        ))
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let (pixels, points) = (padded(inputs[0].len()), inputs[2].len());
        Memory {
            saved: 2 * points,
            forward_workspace: points,
            backward_workspace: match on {
                Kind::Cpu(_) => 0,
                Kind::Cuda { .. } => pixels + 4 * points,
            },
            backward_inputs: vec![0, 1],
            ..Memory::default()
        }
    }

    fn storage(&self) -> Storage {
        Storage::Exact
    }

    fn operations(&self, _inputs: &[Shape]) -> f64 {
        0.0
    }

    fn oracle(&self, inputs: &[Oracle]) -> Vec<f64> {
        let (planes, size) = (&inputs[0].values, inputs[0].shape.extents()[1]);
        let (points, count) = (inputs[2].values.len(), inputs[2].shape.extents()[1]);
        let clamp = f64::from(self.clamp);
        let mut sum = 0.0;
        for i in 0..points {
            let p = &inputs[1].values[3 * i..][..3];
            let along = |axis: [f32; 3]| p.iter().zip(axis).map(|(p, a)| p * f64::from(a)).sum::<f64>();
            let centre = |c: f64| ((c + 1.0) / 2.0 * size as f64 - 0.5).clamp(0.0, (size - 1) as f64);
            let mut occupancy = f64::INFINITY;
            for (k, view) in VIEWS.iter().enumerate() {
                let (x, y) = (centre(along(view.right)), centre(-along(view.up)));
                let hat = |at: f64, pixel: usize| (1.0 - (at - pixel as f64).abs()).max(0.0);
                let plane = &planes[(6 * (i / count) + k) * size * size..][..size * size];
                let hits = plane.iter().enumerate();
                let mixed: f64 =
                    hits.map(|(j, b)| hat(x, j % size) * hat(y, j / size) * b.clamp(0.0, 1.0)).sum();
                occupancy = occupancy.min(mixed);
            }
            let occupancy = occupancy.clamp(clamp, 1.0 - clamp);
            sum -= if inputs[2].values[i] < 0.0 { occupancy.ln() } else { (1.0 - occupancy).ln() };
        }
        vec![sum / points as f64]
    }

    /// Saves for every point which view decided (its number from 1, or 0 where the point has no gradient), and behind
    /// all of these the derivative of its error by the occupancy.
    fn forward_cpu(&self, call: Forward) {
        let [size, count] = extents(call.inputs[0].shape, call.inputs[2].shape);
        let (planes, distances) = (call.inputs[0].values, call.inputs[2].values);
        let points: &[[f32; 3]] = bytemuck::cast_slice(call.inputs[1].values);
        let (codes, slopes) = call.saved.split_at_mut(points.len());
        let chunks = codes.par_chunks_mut(POINTS).zip(slopes.par_chunks_mut(POINTS));
        chunks.zip(call.workspace.par_chunks_mut(POINTS)).enumerate().for_each(
            |(chunk, ((codes, slopes), errors))| {
                for j in 0..codes.len() {
                    let i = chunk * POINTS + j;
                    let views = &planes[6 * (i / count) * size * size..][..6 * size * size];
                    let (view, occupancy) = hull(points[i], size, views);
                    let inside = distances[i] < 0.0;
                    let most = 1.0 - self.clamp;
                    let free = occupancy >= self.clamp && occupancy <= most;
                    let occupancy = occupancy.clamp(self.clamp, most);
                    let likelihood = if inside { occupancy } else { 1.0 - occupancy };
                    errors[j] = -likelihood.ln();
                    slopes[j] = if inside { -1.0 } else { 1.0 } / likelihood;
                    codes[j] = if free { (view + 1) as f32 } else { 0.0 };
                }
            },
        );
        let sum: f64 = call.workspace.iter().map(|&error| f64::from(error)).sum();
        call.output[0] = (sum / points.len() as f64) as f32;
    }

    fn backward_cpu(&self, mut call: Backward) {
        let Some(gradient) = &mut call.gradients[0] else { return };
        let [size, count] = extents(call.inputs[0].shape, call.inputs[2].shape);
        let planes = call.inputs[0].values;
        let points: &[[f32; 3]] = bytemuck::cast_slice(call.inputs[1].values);
        let (codes, slopes) = call.saved.split_at(points.len());
        let scale = call.output_gradient[0] / points.len() as f32;
        let add = gradient.add;
        // One task owns a view and goes through its mesh's points in order.
        gradient.values.par_chunks_mut(size * size).enumerate().for_each(|(index, slots)| {
            if !add {
                slots.fill(0.0);
            }
            let pixels = &planes[index * size * size..][..size * size];
            for i in index / 6 * count..(index / 6 + 1) * count {
                if codes[i] != (index % 6 + 1) as f32 {
                    continue;
                }
                let footprint = Footprint::of(&VIEWS[index % 6], points[i], size);
                for (pixel, weight) in footprint.pixels().into_iter().zip(footprint.weights()) {
                    if (0.0..=1.0).contains(&pixels[pixel]) {
                        slots[pixel] += scale * slopes[i] * weight;
                    }
                }
            }
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [planes, points, distances] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let [size, count] = extents(call.inputs[0].shape, call.inputs[2].shape);
        let (queue, total) = (call.queue, distances.len);
        let (codes, slopes) = (call.saved.part(0..total), call.saved.part(total..2 * total));
        let (size, count, all, clamp) = (int(size)?, int(count)?, int(total)?, self.clamp);
        let (launch, errors) = (Launch::blocks(total.div_ceil(16), 128), call.workspace);
        kernels::silhouette_loss::forward(
            queue, launch, planes, points, distances, count, all, size, clamp, codes, slopes, errors,
        )?;
        let launch = Launch::blocks(1, 256);
        kernels::field_loss::forward_mean(queue, launch, errors.into(), all, call.output.wide())
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(gradient) = call.gradients[0] else { return Ok(()) };
        let [planes, points] = [0, 1].map(|i| call.inputs[i].values.wide());
        let [edge, count] = extents(call.inputs[0].shape, call.inputs[2].shape);
        let (queue, total) = (call.queue, points.len / 3);
        let (codes, slopes) = (call.saved.part(0..total), call.saved.part(total..2 * total));
        let heads = call.workspace.part(0..planes.len).cast::<i32>();
        let links = padded(planes.len)..padded(planes.len) + 4 * total;
        let next = call.workspace.part(links).cast::<i32>();
        queue.fill_bytes(heads, 0xff)?;
        int(4 * total)?;
        let (size, count, all) = (int(edge)?, int(count)?, int(total)?);
        let launch = Launch::items(total, 128);
        kernels::field_loss::backward_link(queue, launch, points, codes, count, all, size, heads, next)?;
        let views = planes.len / (edge * edge);
        let launch = Launch::items(edge * edge, 128).over(views, 1);
        kernels::silhouette_loss::backward(
            queue,
            launch,
            planes,
            points,
            slopes,
            heads.into(),
            next,
            call.output_gradient.wide(),
            all,
            size,
            gradient.add(),
            gradient.values.wide(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, clamp: f32, [meshes, size, points]: [usize; 3]| Case {
            name: name.into(),
            op: Box::new(SilhouetteLoss { clamp }),
            inputs: vec![
                // Decoded planes overshoot.
                CaseInput {
                    shape: Shape::new(&[6 * meshes, size, size, 1]),
                    fill: Fill::Uniform { low: -0.1, high: 1.6 },
                },
                CaseInput {
                    shape: Shape::new(&[meshes, points, 3]),
                    fill: Fill::Uniform { low: -1.1, high: 1.1 },
                },
                CaseInput {
                    shape: Shape::new(&[meshes, points]),
                    fill: Fill::Uniform { low: -0.02, high: 0.02 },
                },
            ],
            terms: 24 * points,
        };
        vec![
            case("coarse", 0.01, [1, 5, 7]),
            case("two meshes", 0.01, [2, 8, 70]),
            case("three chunks of points", 0.2, [1, 11, 150]),
            case("many points a pixel", 0.05, [1, 3, 300]),
        ]
    }
}

/// The smallest sample of six views, and the first view that has it; not yet clamped to what has a logarithm.
fn hull(p: [f32; 3], size: usize, planes: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::INFINITY);
    for (index, (view, plane)) in VIEWS.iter().zip(planes.chunks_exact(size * size)).enumerate() {
        let value = Footprint::of(view, p, size).mix(|pixel| plane[pixel].clamp(0.0, 1.0));
        if value < best.1 {
            best = (index, value);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hexplane::field::{Field, Settings};
    use crate::hexplane::{Planes, Representation};
    use crate::mesh::Similarity;
    use crate::rng::Rng;

    #[test]
    fn the_loss_is_taken_on_the_hull_that_is_meshed() {
        let mut rng = Rng::new(2, 0);
        let size = 9;
        let values: Vec<f32> = (0..6 * size * size).map(|_| rng.range(-0.1, 1.6)).collect();
        let planes = Planes {
            representation: Representation::Binary,
            size,
            values: values.clone(),
            transform: Similarity::default(),
        };
        let field = Field::new(&planes, &Settings::default()).unwrap();
        for _ in 0..500 {
            let p: [f32; 3] = std::array::from_fn(|_| rng.range(-1.0, 1.0));
            let (_, occupancy) = hull(p, size, &values);
            // The field is in units of tau, 1/50: a few roundings of a number below 1.
            assert!((occupancy - field.occupancy(p)).abs() < 1e-6, "{p:?}");
        }
    }

    /// Planes that know nothing cost ln 2 a point; planes that are certain, and right or wrong, the two ends of the clamp.
    #[test]
    fn closed_forms() {
        let op = SilhouetteLoss { clamp: 0.01 };
        let loss = |value: f64, distance: f64| {
            let input = |extents: &[usize], value: f64| {
                let shape = Shape::new(extents);
                Oracle { shape, values: vec![value; shape.len()] }
            };
            op.oracle(&[input(&[6, 4, 4, 1], value), input(&[1, 3, 3], 0.3), input(&[1, 3], distance)])[0]
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a} is not {b}");
        near(loss(0.5, 1.0), 2f64.ln());
        near(loss(0.25, -1.0), 4f64.ln());
        near(loss(1.0, -1.0), -0.99f64.ln());
        near(loss(1.5, 1.0), 100f64.ln());
        near(loss(-0.5, -1.0), 100f64.ln());
    }
}
