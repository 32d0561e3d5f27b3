//! Signed-distance supervision of planes: mean |f(p) - clamp(sdf(p), -tau, tau)|, with f the field that
//! the planes imply ([`crate::hexplane::field`]).

use super::cuda;
use super::{Backward, Case, CaseInput, Fill, Forward, Memory, Op, Oracle, Storage};
use crate::cpu::arena::padded;
use crate::cuda::{Launch, int, kernels};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::hexplane::field::{Footprint, TAU, Tap, depth_along, silhouette_distance};
use crate::hexplane::{VIEWS, View};
use crate::rng::Rng;
use crate::shape::Shape;
use rayon::prelude::*;

/// Inputs: planes `[6 B, N, N, 4]` (six views a mesh, in the order of [`VIEWS`]), points `[B, P, 3]` and
/// their signed distances `[B, P]`. Output: a scalar. Only the planes carry a gradient; which pixels are
/// foreground, and how far the background is from them, counts as constant.
#[derive(Clone, Debug)]
pub struct FieldLoss {
    /// Where field and distances are clamped, world units.
    pub tau: f32,
}

/// Points that one task evaluates; fixed, as every division of the work is.
const POINTS: usize = 64;

/// N, P and floats of workspace a view.
fn extents(planes: Shape, distances: Shape) -> [usize; 3] {
    let (size, points) = (planes.extents()[1], distances.extents()[1]);
    [size, points, size * size + size]
}

/// The extents as kernels take them.
struct Counts {
    /// 6 B.
    views: usize,
    /// N, for the host and for kernels.
    edge: usize,
    size: i32,
    /// P, and B P.
    count: i32,
    total: i32,
}

impl Counts {
    fn new(planes: Shape, distances: Shape) -> Result<Self> {
        let [size, points, _] = extents(planes, distances);
        int(4 * distances.len())?;
        let (count, total) = (int(points)?, int(distances.len())?);
        Ok(Self { views: planes.extents()[0], edge: size, size: int(size)?, count, total })
    }
}

impl Op for FieldLoss {
    fn name(&self) -> &'static str {
        "field_loss"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if let [planes, points, distances] = inputs
            && let (&[views, height, width, 4], &[meshes, count, 3]) = (planes.extents(), points.extents())
            && (views == 6 * meshes && height == width && width >= 2)
            && (distances.extents() == [meshes, count] && meshes * count > 0)
        {
            return Ok(Shape::scalar());
        }
        Err(Error::new(
            "field_loss",
            format!(
                "expected planes [6 B, N, N, 4], points [B, P, 3] and distances [B, P], found {inputs:?}"
            ),
            "match them",
        ))
    }

    fn differentiable(&self, index: usize) -> bool {
        index == 0
    }

    fn memory(&self, on: Kind, inputs: &[Shape]) -> Memory {
        let [size, _, view] = extents(inputs[0], inputs[2]);
        let (views, points) = (inputs[0].extents()[0], inputs[2].len());
        let pixels = padded(views * size * size);
        let (forward_workspace, backward_workspace) = match on {
            Kind::Cpu(_) => (views * view + points, 0),
            Kind::Cuda { .. } => (pixels + points, pixels + 4 * points),
        };
        Memory {
            saved: points,
            forward_workspace,
            backward_workspace,
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
        let size = inputs[0].shape.extents()[1];
        let (points, count) = (inputs[2].values.len(), inputs[2].shape.extents()[1]);
        let tau = f64::from(self.tau);
        let plane = size * size * 4;
        let floors: Vec<Vec<f64>> =
            inputs[0].values.chunks(plane).map(|view| oracle::floors(view, size, tau)).collect();
        let mut sum = 0.0;
        for i in 0..points {
            let p = &inputs[1].values[3 * i..][..3];
            let mut field = -tau;
            for (k, view) in VIEWS.iter().enumerate() {
                let index = 6 * (i / count) + k;
                let pixels = &inputs[0].values[index * plane..][..plane];
                field = field.max(oracle::view_value(pixels, &floors[index], size, view, p, tau));
            }
            sum += (field - inputs[2].values[i].clamp(-tau, tau)).abs();
        }
        vec![sum / points as f64]
    }

    /// Saves for every point which view decided, and the sign of the error: ±(view + 1), or 0.
    fn forward_cpu(&self, call: Forward) {
        let [size, count, view_len] = extents(call.inputs[0].shape, call.inputs[2].shape);
        let planes: &[[f32; 4]] = bytemuck::cast_slice(call.inputs[0].values);
        let points: &[[f32; 3]] = bytemuck::cast_slice(call.inputs[1].values);
        let distances = call.inputs[2].values;
        let (floors, errors) = call.workspace.split_at_mut(view_len * planes.len() / (size * size));
        floors.par_chunks_mut(view_len).zip(planes.par_chunks(size * size)).for_each(|(floor, pixels)| {
            let (floor, scratch) = floor.split_at_mut(size * size);
            silhouette_distance(pixels, size, self.tau, floor, scratch);
        });
        let floors = &*floors;
        let chunks = call.saved.par_chunks_mut(POINTS).zip(errors.par_chunks_mut(POINTS));
        chunks.enumerate().for_each(|(chunk, (codes, errors))| {
            for (j, (code, error)) in codes.iter_mut().zip(errors).enumerate() {
                let i = chunk * POINTS + j;
                let first = 6 * (i / count);
                let (view, field) = self.field(points[i], size, |view, pixel| {
                    let view_index = first + view;
                    Tap::continuous(
                        planes[view_index * size * size + pixel],
                        &VIEWS[view],
                        floors[view_index * view_len + pixel],
                    )
                });
                let difference = field - distances[i].clamp(-self.tau, self.tau);
                *error = difference.abs();
                *code = if difference == 0.0 { 0.0 } else { (view + 1) as f32 * difference.signum() };
            }
        });
        let sum: f64 = errors.iter().map(|&error| f64::from(error)).sum();
        call.output[0] = (sum / errors.len() as f64) as f32;
    }

    fn backward_cpu(&self, mut call: Backward) {
        let Some(gradient) = &mut call.gradients[0] else { return };
        let size = call.inputs[0].shape.extents()[1];
        let count = call.inputs[2].shape.extents()[1];
        let planes: &[[f32; 4]] = bytemuck::cast_slice(call.inputs[0].values);
        let points: &[[f32; 3]] = bytemuck::cast_slice(call.inputs[1].values);
        let (codes, add) = (call.saved, gradient.add);
        let scale = call.output_gradient[0] / codes.len() as f32;
        let slots: &mut [[f32; 4]] = bytemuck::cast_slice_mut(gradient.values);
        // One task owns a view and goes through its mesh's points in order.
        slots.par_chunks_mut(size * size).enumerate().for_each(|(index, slots)| {
            if !add {
                slots.fill([0.0; 4]);
            }
            let pixels = &planes[index * size * size..][..size * size];
            let own = index / 6 * count..(index / 6 + 1) * count;
            for (&code, &p) in codes[own.clone()].iter().zip(&points[own]) {
                if code.abs() == (index % 6 + 1) as f32 {
                    self.scatter(&VIEWS[index % 6], p, scale * code.signum(), pixels, slots);
                }
            }
        });
    }

    fn forward_cuda(&self, call: cuda::Forward) -> Result<()> {
        let [planes, points, distances] = [0, 1, 2].map(|i| call.inputs[i].values.wide());
        let (queue, n) = (call.queue, Counts::new(call.inputs[0].shape, call.inputs[2].shape)?);
        let pixels = n.views * n.edge * n.edge;
        let (floors, errors) = (
            call.workspace.part(0..pixels),
            call.workspace.part(padded(pixels)..padded(pixels) + distances.len),
        );
        let (tau, size, total) = (self.tau, n.size, n.total);
        let edge = n.edge as u32;
        let grid = [edge.div_ceil(128), edge.div_ceil(32), n.views as u32];
        let launch = Launch { grid, block: [128, 1, 1], shared: 0 };
        kernels::field_loss::forward_columns(queue, launch, planes, size, tau, floors)?;
        let launch = Launch { grid: [edge, n.views as u32, 1], block: [128, 1, 1], shared: 4 * edge };
        kernels::field_loss::forward_rows(queue, launch, size, tau, floors)?;
        let (launch, floors) = (Launch::blocks(distances.len.div_ceil(16), 128), floors.into());
        kernels::field_loss::forward(
            queue, launch, planes, floors, points, distances, n.count, total, size, tau, call.saved, errors,
        )?;
        kernels::field_loss::forward_mean(
            queue,
            Launch::blocks(1, 256),
            errors.into(),
            total,
            call.output.wide(),
        )
    }

    fn backward_cuda(&self, call: cuda::Backward) -> Result<()> {
        let Some(gradient) = call.gradients[0] else { return Ok(()) };
        let [planes, points] = [0, 1].map(|i| call.inputs[i].values.wide());
        let (queue, n) = (call.queue, Counts::new(call.inputs[0].shape, call.inputs[2].shape)?);
        let (pixels, contributions) = (n.views * n.edge * n.edge, 4 * call.saved.len);
        let heads = call.workspace.part(0..pixels).cast::<i32>();
        let next = call.workspace.part(padded(pixels)..padded(pixels) + contributions).cast::<i32>();
        queue.fill_bytes(heads, 0xff)?;
        let (codes, size, total) = (call.saved, n.size, n.total);
        let launch = Launch::items(codes.len, 128);
        kernels::field_loss::backward_link(queue, launch, points, codes, n.count, total, size, heads, next)?;
        let grid = [(n.edge * n.edge).div_ceil(128) as u32, n.views as u32, 1];
        let launch = Launch { grid, block: [128, 1, 1], shared: 0 };
        let (add, loss) = (gradient.add(), call.output_gradient.wide());
        kernels::field_loss::backward(
            queue,
            launch,
            planes,
            points,
            codes,
            heads.into(),
            next,
            loss,
            total,
            size,
            self.tau,
            add,
            gradient.values.wide(),
        )
    }

    fn cases(&self) -> Vec<Case> {
        let case = |name: &str, tau: f32, [meshes, size, points]: [usize; 3]| Case {
            name: name.into(),
            op: Box::new(FieldLoss { tau }),
            inputs: vec![
                CaseInput { shape: Shape::new(&[6 * meshes, size, size, 4]), fill: Fill::With(blobs) },
                CaseInput { shape: Shape::new(&[meshes, points, 3]), fill: Fill::With(near_blobs) },
                CaseInput {
                    shape: Shape::new(&[meshes, points]),
                    fill: Fill::Uniform { low: -1.5 * tau, high: 1.5 * tau },
                },
            ],
            terms: 24 * points,
        };
        vec![
            case("coarse", 0.3, [1, 5, 7]),
            case("two meshes", TAU, [2, 8, 70]),
            // The seed of a case is its name; one is chosen at which no point lies within a difference's
            // step of a kink.
            case("three chunks of points", 0.1, [1, 11, 150]),
            case("many points a pixel", 0.3, [1, 3, 300]),
        ]
    }
}

impl FieldLoss {
    /// The field and the first view that gives it; as [`crate::hexplane::field::Field::value`].
    fn field(&self, p: [f32; 3], size: usize, tap: impl Fn(usize, usize) -> Tap) -> (usize, f32) {
        let mut best = (0, f32::NEG_INFINITY);
        for (index, view) in VIEWS.iter().enumerate() {
            let w = depth_along(view, p);
            let value = Footprint::of(view, p, size).mix(|pixel| tap(index, pixel).vote(w, self.tau));
            if value > best.1 {
                best = (index, value);
            }
        }
        best
    }

    /// Adds the gradient of one point to the four pixels that its view mixed.
    fn scatter(&self, view: &View, p: [f32; 3], scale: f32, pixels: &[[f32; 4]], slots: &mut [[f32; 4]]) {
        let footprint = Footprint::of(view, p, pixels.len().isqrt());
        let w = depth_along(view, p);
        for (pixel, weight) in footprint.pixels().into_iter().zip(footprint.weights()) {
            let gradient = Tap::vote_gradient(pixels[pixel], view, w, self.tau);
            for (slot, g) in slots[pixel].iter_mut().zip(gradient) {
                *slot += scale * weight * g;
            }
        }
    }
}

/// The definition once more, in f64 and plain loops.
mod oracle {
    use crate::hexplane::View;

    fn dot(a: &[f64], b: [f32; 3]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * f64::from(b)).sum()
    }

    fn foreground(pixel: &[f64]) -> bool {
        pixel[1..].iter().map(|n| n * n).sum::<f64>().sqrt() >= 0.5
    }

    /// World distance to the nearest foreground pixel less one pixel; -tau on the foreground.
    pub fn floors(view: &[f64], size: usize, tau: f64) -> Vec<f64> {
        let hits: Vec<usize> = (0..size * size).filter(|&i| foreground(&view[4 * i..][..4])).collect();
        let mut floors = vec![-tau; size * size];
        for (i, floor) in floors.iter_mut().enumerate() {
            if hits.binary_search(&i).is_err() {
                let apart = |j: usize| {
                    let (dx, dy) = ((i % size).abs_diff(j % size), (i / size).abs_diff(j / size));
                    ((dx * dx + dy * dy) as f64).sqrt()
                };
                let nearest = hits.iter().map(|&j| apart(j)).fold(f64::INFINITY, f64::min);
                *floor = (nearest - 1.0) * 2.0 / size as f64;
            }
        }
        floors
    }

    /// What one view says about `p`.
    pub fn view_value(view: &[f64], floors: &[f64], size: usize, camera: &View, p: &[f64], tau: f64) -> f64 {
        let centre =
            |coordinate: f64| ((coordinate + 1.0) / 2.0 * size as f64 - 0.5).clamp(0.0, (size - 1) as f64);
        let (x, y) = (centre(dot(p, camera.right)), centre(-dot(p, camera.up)));
        let w = dot(p, camera.forward);
        let mut sum = 0.0;
        for i in 0..size * size {
            let hat = |at: f64, pixel: usize| (1.0 - (at - pixel as f64).abs()).max(0.0);
            let weight = hat(x, i % size) * hat(y, i / size);
            if weight == 0.0 {
                continue;
            }
            let pixel = &view[4 * i..][..4];
            let length = pixel[1..].iter().map(|n| n * n).sum::<f64>().sqrt();
            let away = dot(&pixel[1..], camera.forward) / length;
            let vote = if !foreground(pixel) {
                floors[i]
            } else if away > 0.2 {
                -tau
            } else {
                (2.0 * pixel[0] - 1.0 - w) * (-away).max(0.02)
            };
            sum += weight * vote.clamp(-tau, tau);
        }
        sum
    }
}

/// A ball of radius 0.6 in every mesh, with the errors of decoded planes: depths off by up to 0.01,
/// normals not of unit length, some turned away, background normals not quite zero.
fn blobs(rng: &mut Rng, shape: &Shape) -> Vec<f32> {
    let size = shape.extents()[1];
    let mut values = Vec::with_capacity(shape.len());
    for i in 0..shape.len() / 4 {
        let at = |index: usize| (2 * index + 1) as f32 / size as f32 - 1.0;
        let view = &VIEWS[i / (size * size) % 6];
        let (u, v) = (at(i % size), -at(i / size % size));
        let square = 0.36 - u * u - v * v;
        if square > 0.0 {
            let depth = 0.5 * (1.0 - square.sqrt());
            let turned = if rng.uniform() < 0.05 { -1.0 } else { 1.0 };
            let length = turned * rng.range(0.7, 1.3) / 0.6;
            values.push(depth + rng.range(-0.01, 0.01));
            values.extend(view.unproject([u, v, depth]).map(|c| c * length));
        } else {
            values.push(rng.range(0.9, 1.0));
            values.extend([0; 3].map(|_| rng.range(-0.2, 0.2)));
        }
    }
    values
}

/// Points within 0.05 of the surface of that ball.
fn near_blobs(rng: &mut Rng, shape: &Shape) -> Vec<f32> {
    let point = |_| {
        let direction: [f32; 3] = std::array::from_fn(|_| rng.normal());
        let length = direction.iter().map(|c| c * c).sum::<f32>().sqrt();
        let radius = rng.range(0.55, 0.65);
        direction.map(|c| c * radius / length)
    };
    (0..shape.len() / 3).flat_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::hexplane::field::{Field, Settings};
    use crate::hexplane::{Planes, Representation};
    use crate::mesh::Similarity;

    #[test]
    fn forward_and_backward_are_those_of_the_oracle() {
        for outcome in check(&FieldLoss { tau: TAU }, &crate::device::Device::Cpu).unwrap() {
            assert!(outcome.failures.is_empty(), "{outcome:?}");
        }
    }

    #[test]
    fn the_loss_is_taken_on_the_field_that_is_meshed() {
        let case = &FieldLoss { tau: TAU }.cases()[2];
        let mut rng = Rng::new(2, 0);
        let inputs: Vec<Vec<f32>> = case.inputs.iter().map(|input| input.values(&mut rng)).collect();
        let planes = Planes {
            representation: Representation::Continuous,
            size: 11,
            values: inputs[0].clone(),
            transform: Similarity::default(),
        };
        let field = Field::new(&planes, &Settings { tau: 0.1 }).unwrap();
        let points: &[[f32; 3]] = bytemuck::cast_slice(&inputs[1]);
        let sum: f64 = points
            .iter()
            .zip(&inputs[2])
            .map(|(&p, d)| f64::from((field.value(p) - d.clamp(-0.1, 0.1)).abs()))
            .sum();
        let widened = |(input, values): (&CaseInput, &Vec<f32>)| Oracle {
            shape: input.shape,
            values: values.iter().copied().map(f64::from).collect(),
        };
        let oracles: Vec<Oracle> = case.inputs.iter().zip(&inputs).map(widened).collect();
        let expected = case.op.oracle(&oracles)[0];
        assert!((sum / points.len() as f64 - expected).abs() < 1e-6 * expected);
    }
}
