//! Arrays of 2 bytes a value on a card: how they are rounded, what that does to gradients, and the memory it saves.

use half::{bf16, f16};
use hexcuda::cuda::Precision;
use hexcuda::device::{Buffer, Device, DeviceChoice, Kind};
use hexcuda::ops::cuda::{Source, round};
use hexcuda::ops::{Add, AddEmbedding, Conv2d, ConvTranspose2d, GroupNorm, Identity, Mse, Silu, ViewMean};
use hexcuda::rng::Rng;
use hexcuda::shape::Shape;
use hexcuda::tape::{Graph, ParameterLayout, Role, Scale, Tape, Value};

fn emulated(precision: Precision) -> Device {
    DeviceChoice::Emulated.select(precision).unwrap()
}

/// Ties, the ends of both ranges, subnormals, what is not a number, and an odd count.
#[test]
fn values_are_rounded_to_nearest_ties_to_even() {
    let tiny = f32::from_bits(1);
    let mut values = vec![0.0, -0.0, 1.0, 65_504.0, 65_519.9, 65_520.0, -70_000.0, f32::MAX, f32::INFINITY];
    values.extend([tiny, f32::MIN_POSITIVE, 2f32.powi(-24), 2f32.powi(-25), 3.0 * 2f32.powi(-26), f32::NAN]);
    for ulp in [2f32.powi(-7), 2f32.powi(-10)] {
        values.extend([0.5, 1.5, 2.5, 3.5].map(|ulps: f32| -1.0 - ulps * ulp));
    }
    let mut rng = Rng::new(5, 0);
    values.extend((0..1000).map(|_| rng.normal()));
    assert_eq!(values.len() % 2, 1);
    for precision in [Precision::Bf16, Precision::Fp16] {
        let Device::Cuda(queue) = emulated(precision) else { unreachable!("a card was asked for") };
        let from = queue.array_from(&values, "values").unwrap();
        let place = queue.array::<f32>(values.len().div_ceil(2), "their copy").unwrap();
        let Source::Narrow(there) = round(&queue, from.read(), place.write()).unwrap() else {
            panic!("the copy is wide")
        };
        let mut found = vec![0; values.len()];
        queue.download(there, &mut found).unwrap();
        for (&value, &bits) in values.iter().zip(&found) {
            let (expected, nan) = match precision {
                Precision::Bf16 => (bf16::from_f32(value).to_bits(), bf16::from_bits(bits).is_nan()),
                _ => (f16::from_f32(value).to_bits(), f16::from_bits(bits).is_nan()),
            };
            assert!(
                bits == expected || (value.is_nan() && nan),
                "{value} became {bits:#x}, not {expected:#x}"
            );
        }
    }
}

/// Every op that can store 2 bytes a value between an input and a loss: images of 8 channels, and of 6 and 5, so that
/// pieces of 16, 8 and 4 bytes and single values are copied; an array read twice, one written in fp32.
struct Net {
    graph: Graph,
    layout: ParameterLayout,
    planes: Value,
    weight: Value,
    loss: Value,
}

impl Net {
    fn new(size: usize) -> Self {
        let (mut graph, mut layout) = (Graph::default(), ParameterLayout::default());
        let planes = graph.input(Shape::new(&[2, size, size, 4]));
        let mut parameter = |graph: &mut Graph, extents: &[usize]| {
            let name = format!("p{}", layout.iter().count());
            layout.add(&name, Shape::new(extents), Role::Bias, false, 1.0);
            graph.parameter(&layout, &name)
        };
        let same = || Conv2d { stride: 1, padding: 1 };
        let [w, b] = [&[2, 2, 4, 8][..], &[8]].map(|extents| parameter(&mut graph, extents));
        let x = graph.apply(Conv2d { stride: 2, padding: 0 }, &[planes, w, b]).unwrap();
        let [gamma, beta] = [(); 2].map(|()| parameter(&mut graph, &[8]));
        let normed = graph.apply(GroupNorm { groups: 2, silu: true }, &[x, gamma, beta]).unwrap();
        let [w, b] = [&[3, 3, 8, 8][..], &[8]].map(|extents| parameter(&mut graph, extents));
        let branch = graph.apply(same(), &[normed, w, b]).unwrap();
        let x = graph.apply(Add, &[x, branch]).unwrap();
        let x = graph.apply(Add, &[x, x]).unwrap();
        let e = parameter(&mut graph, &[1, size / 2, size / 2, 8]);
        let x = graph.apply(AddEmbedding, &[x, e]).unwrap();
        let x = graph.apply(ViewMean { views: 2 }, &[x]).unwrap();
        let [w, b] = [&[3, 3, 8, 6][..], &[6]].map(|extents| parameter(&mut graph, extents));
        let x = graph.apply(same(), &[x, w, b]).unwrap();
        let x = graph.apply(Silu, &[x]).unwrap();
        let [w, b] = [&[3, 3, 6, 5][..], &[5]].map(|extents| parameter(&mut graph, extents));
        let x = graph.apply(same(), &[x, w, b]).unwrap();
        let x = graph.apply(Identity, &[x]).unwrap();
        let [w, b] = [&[2, 2, 4, 5][..], &[4]].map(|extents| parameter(&mut graph, extents));
        let decoded = graph.apply(ConvTranspose2d { stride: 2, padding: 0 }, &[x, w, b]).unwrap();
        let weight = graph.input(Shape::new(&[4]));
        let loss = graph.apply(Mse, &[decoded, planes, weight]).unwrap();
        Self { graph, layout, planes, weight, loss }
    }

    /// The loss and the gradients of all parameters, scaled by `scale` on their way on a card.
    fn gradients(self, device: &Device, scale: f32) -> (f32, Vec<Vec<f32>>) {
        let mut rng = Rng::new(7, 0);
        let len = self.layout.len();
        let mut values = vec![0.0; len];
        for parameter in self.layout.iter() {
            let fan = parameter.shape.extents().iter().rev().skip(1).product::<usize>().max(1) as f32;
            values[parameter.range.clone()].iter_mut().for_each(|x| *x = rng.normal() / fan.sqrt());
        }
        let images: Vec<f32> = (0..self.graph.shape(self.planes).len()).map(|_| rng.normal()).collect();
        let mut tape = Tape::new(device, self.graph, Some(self.loss), &[]).unwrap();
        tape.load(self.planes, 0, &images).unwrap();
        tape.load(self.weight, 0, &[1.0; 4]).unwrap();
        let mut parameters = Buffer::zeros(device, len, "parameters").unwrap();
        parameters.load(0, &values).unwrap();
        let mut found = Buffer::zeros(device, len, "gradients").unwrap();
        tape.forward(&parameters).unwrap();
        match device {
            Device::Cpu | Device::CpuBf16 => tape.backward(&parameters, &mut found, Scale::One).unwrap(),
            Device::Cuda(queue) => {
                let there = queue.array_from(&[scale], "the scale").unwrap();
                tape.backward(&parameters, &mut found, Scale::There(there.read())).unwrap();
            }
        }
        let found = found.values().unwrap();
        let scale = if matches!(device, Device::Cpu) { 1.0 } else { scale };
        let of = |range: std::ops::Range<usize>| found[range].iter().map(|g| g / scale).collect();
        let gradients = self.layout.iter().map(|parameter| of(parameter.range.clone())).collect();
        (tape.value(self.loss).unwrap()[0], gradients)
    }
}

/// Some thirty stored arrays and factors lie between the parameters and their gradients, each off by up to a unit
/// roundoff and by 0.4 of one in the mean; errors that are independent grow with the root of their number: 0.4 sqrt(30)
/// = 2.2 roundoffs, and the slopes of what stands in between are about 1. Four times that is allowed.
#[test]
fn gradients_differ_from_the_cpus_by_roundings_alone() {
    let (loss, expected) = Net::new(8).gradients(&Device::Cpu, 1.0);
    for (precision, roundoff) in [(Precision::Bf16, 1.0 / 256.0), (Precision::Fp16, 1.0 / 2048.0)] {
        let scale = if precision == Precision::Fp16 { 1024.0 } else { 1.0 };
        let (narrow_loss, found) = Net::new(8).gradients(&emulated(precision), scale);
        let allowed = 9.0 * roundoff;
        assert!((narrow_loss - loss).abs() <= allowed * loss, "{precision:?}: {narrow_loss}, not {loss}");
        for (index, (ours, expected)) in found.iter().zip(&expected).enumerate() {
            let square = |x: &dyn Fn(usize) -> f32| (0..ours.len()).map(|i| x(i).powi(2)).sum::<f32>();
            let error = (square(&|i| ours[i] - expected[i]) / square(&|i| expected[i])).sqrt();
            assert!(error <= allowed, "{precision:?}: parameter {index} is off by {error}");
        }
    }
}

#[test]
fn two_replays_give_the_same_bits() {
    let device = emulated(Precision::Bf16);
    assert_eq!(Net::new(4).gradients(&device, 1.0), Net::new(4).gradients(&device, 1.0));
}

/// All but the images, which are a loss's target and its input, halves.
#[test]
fn half_the_bytes_take_about_half_the_arena() {
    let arena = |precision| {
        let net = Net::new(64);
        let on = Kind::Cuda { multiprocessors: 28, precision };
        net.graph.plan(on, Some(net.loss), &[]).unwrap().arena_len() as f64
    };
    let (wide, narrow) = (arena(Precision::Tf32), arena(Precision::Bf16));
    assert_eq!(arena(Precision::Fp32), wide);
    assert_eq!(arena(Precision::Fp16), narrow);
    // Input, decoded images and their gradient, each 2 x 64 x 64 x 4 floats.
    let images = 3.0 * 32_768.0;
    assert!(narrow - images <= 0.6 * (wide - images), "{narrow} of {wide}");
}
