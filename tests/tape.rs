//! The tape against gradients worked out by hand and against itself without memory sharing.

use hexcuda::cuda::Precision;
use hexcuda::device::{Buffer, Device, DeviceChoice};
use hexcuda::ops::{Add, AddEmbedding, Conv2d, GroupNorm, Identity, Mse, WeightedSum};
use hexcuda::shape::Shape;
use hexcuda::tape::{Graph, ParameterLayout, Role, Scale, Tape, Value};

fn parameter(layout: &mut ParameterLayout, name: &str, extents: &[usize]) {
    layout.add(name, Shape::new(extents), Role::Bias, false, 1.0);
}

fn devices() -> [Device; 2] {
    [Device::Cpu, DeviceChoice::Emulated.select(Precision::Fp32).unwrap()]
}

fn buffer(device: &Device, len: usize, values: &[f32]) -> Buffer {
    let mut buffer = Buffer::zeros(device, len, "a test").unwrap();
    buffer.load(0, values).unwrap();
    buffer
}

/// loss = w * mean((x + x - target)^2): the repeated input must count twice.
#[test]
fn a_repeated_input_counts_twice() {
    devices().iter().for_each(repeated_input);
}

fn repeated_input(device: &Device) {
    let mut layout = ParameterLayout::default();
    parameter(&mut layout, "x", &[1, 1, 1, 3]);
    let mut graph = Graph::default();
    let x = graph.parameter(&layout, "x");
    let doubled = {
        let copy = graph.apply(Identity, &[x]).unwrap();
        graph.apply(Add, &[copy, copy]).unwrap()
    };
    let target = graph.input(Shape::new(&[1, 1, 1, 3]));
    let weight = graph.input(Shape::new(&[3]));
    let mse = graph.apply(Mse, &[doubled, target, weight]).unwrap();
    let loss = graph.apply(WeightedSum { weights: vec![0.5] }, &[mse]).unwrap();
    let mut tape = Tape::new(device, graph, Some(loss), &[doubled]).unwrap();
    tape.load(target, 0, &[1.0, 0.0, -2.0]).unwrap();
    tape.load(weight, 0, &[1.0; 3]).unwrap();
    let parameters = buffer(device, layout.len(), &[1.0, 2.0, 3.0]);
    let mut gradients = buffer(device, layout.len(), &[]);
    for _ in 0..2 {
        tape.forward(&parameters).unwrap();
        tape.backward(&parameters, &mut gradients, Scale::One).unwrap();
    }
    assert_eq!(tape.value(doubled).unwrap(), [2.0, 4.0, 6.0]);
    // d/dx 0.5 / 3 * (2x - t)^2 = 2 / 3 * (2x - t)
    let expected = [1.0, 4.0, 8.0].map(|d: f32| 2.0 / 3.0 * d);
    for (gradient, expected) in gradients.values().unwrap().iter().zip(expected) {
        assert!((gradient - expected).abs() < 1e-6, "{gradient} against {expected}");
    }
}

/// The least work of two convolutions of 1 x 1: the first takes no gradient of its image.
#[test]
fn work_is_counted_from_shapes() {
    let mut layout = ParameterLayout::default();
    parameter(&mut layout, "w1", &[1, 1, 3, 2]);
    parameter(&mut layout, "b1", &[2]);
    parameter(&mut layout, "w2", &[1, 1, 2, 1]);
    parameter(&mut layout, "b2", &[1]);
    let mut graph = Graph::default();
    let x = graph.input(Shape::new(&[1, 2, 2, 3]));
    let [w1, b1, w2, b2] = ["w1", "b1", "w2", "b2"].map(|name| graph.parameter(&layout, name));
    let hidden = graph.apply(Conv2d { stride: 1, padding: 0 }, &[x, w1, b1]).unwrap();
    let y = graph.apply(Conv2d { stride: 1, padding: 0 }, &[hidden, w2, b2]).unwrap();
    let (target, weight) = (graph.input(Shape::new(&[1, 2, 2, 1])), graph.input(Shape::new(&[1])));
    let loss = graph.apply(Mse, &[y, target, weight]).unwrap();
    let device = Device::Cpu;
    let mut tape = Tape::new(&device, graph, Some(loss), &[]).unwrap();
    let parameters = buffer(&device, layout.len(), &[]);
    let mut gradients = buffer(&device, layout.len(), &[]);
    let ops = tape.time_ops(&parameters, &mut gradients, 1).unwrap();
    let work = |index: usize| {
        ops[index].passes.map(|pass| {
            let pass = pass.expect("both directions run");
            (pass.operations, pass.bytes)
        })
    };
    // Values: x 12, w1 6, b1 2, hidden 8; backward reads x, w1 and the cotangent 8 and writes those of w1 and b1.
    assert_eq!(work(0), [(48.0, 4.0 * 28.0), (48.0, 4.0 * (26.0 + 8.0))]);
    // hidden 8, w2 2, b2 1, y 4; backward reads hidden, w2 and the cotangent 4 and writes all three gradients.
    assert_eq!(work(1), [(16.0, 4.0 * 15.0), (32.0, 4.0 * (14.0 + 11.0))]);
}

/// One parameter used in two places adds up, a parameter used nowhere keeps gradient 0, and a
/// branch that the loss does not see has no say.
#[test]
fn gradients_add_up_over_uses() {
    devices().iter().for_each(repeated_uses);
}

fn repeated_uses(device: &Device) {
    let mut layout = ParameterLayout::default();
    parameter(&mut layout, "used", &[1, 1, 1, 2]);
    parameter(&mut layout, "unused", &[4]);
    let mut graph = Graph::default();
    let x = graph.input(Shape::new(&[2, 1, 1, 2]));
    let e = graph.parameter(&layout, "used");
    let once = graph.apply(AddEmbedding, &[x, e]).unwrap();
    let dead_end = graph.apply(Add, &[once, once]).unwrap();
    let twice = graph.apply(AddEmbedding, &[once, e]).unwrap();
    let weight = graph.input(Shape::new(&[2]));
    let loss = graph.apply(Mse, &[twice, x, weight]).unwrap();
    let mut tape = Tape::new(device, graph, Some(loss), &[dead_end]).unwrap();
    tape.load(x, 0, &[1.0, -1.0, 0.5, 2.0]).unwrap();
    tape.load(weight, 0, &[1.0; 2]).unwrap();
    let parameters = buffer(device, layout.len(), &[0.25, -0.5]);
    let mut gradients = buffer(device, layout.len(), &[]);
    tape.forward(&parameters).unwrap();
    tape.backward(&parameters, &mut gradients, Scale::One).unwrap();
    let gradients = gradients.values().unwrap();
    // loss = mean over 4 values of (2e)^2; d/de_c = 2 * 8 e_c / 4 = 4 e_c
    assert_eq!(gradients[..2], [1.0, -2.0]);
    assert!(gradients[16..].iter().all(|&g| g == 0.0));
}

/// x1 = x0 + (x0 + e1), x2 = (x1 + e2) + x1: sums whose cotangent goes on in the place of the gradient of the input
/// that is added to later, and of the one that is not.
#[test]
fn a_passed_on_cotangent_adds_up() {
    devices().iter().for_each(residual);
}

fn residual(device: &Device) {
    let gradients = of_embeddings(device, |graph, zero, [e0, e1, e2]| {
        let x0 = graph.apply(AddEmbedding, &[zero, e0]).unwrap();
        let branch = graph.apply(AddEmbedding, &[x0, e1]).unwrap();
        let x1 = graph.apply(Add, &[x0, branch]).unwrap();
        let branch = graph.apply(AddEmbedding, &[x1, e2]).unwrap();
        graph.apply(Add, &[branch, x1]).unwrap()
    });
    // x2 = 4 e0 + 2 e1 + e2 = (5.25, 6.5), and the loss is the mean over 2 values: dL/dx2 = x2 - target.
    assert_eq!(gradients, [[1.0, -2.0], [0.5, -1.0], [0.25, -0.5]]);
}

/// Gradients of three embeddings e0 = (1, 2), e1 = (0.5, -1) and e2 = (0.25, 0.5), from the mean squared difference of what
/// `record` makes of zeros and them to (5, 7).
fn of_embeddings(device: &Device, record: impl Fn(&mut Graph, Value, [Value; 3]) -> Value) -> [[f32; 2]; 3] {
    let mut layout = ParameterLayout::default();
    let names = ["e0", "e1", "e2"];
    names.iter().for_each(|name| parameter(&mut layout, name, &[1, 1, 1, 2]));
    let mut graph = Graph::default();
    let [zero, target] = [0; 2].map(|_| graph.input(Shape::new(&[1, 1, 1, 2])));
    let weight = graph.input(Shape::new(&[2]));
    let embeddings = names.map(|name| graph.parameter(&layout, name));
    let sum = record(&mut graph, zero, embeddings);
    let loss = graph.apply(Mse, &[sum, target, weight]).unwrap();
    let mut tape = Tape::new(device, graph, Some(loss), &[]).unwrap();
    tape.load(target, 0, &[5.0, 7.0]).unwrap();
    tape.load(weight, 0, &[1.0; 2]).unwrap();
    let mut parameters = buffer(device, layout.len(), &[]);
    for (place, values) in [(0, [1.0, 2.0]), (16, [0.5, -1.0]), (32, [0.25, 0.5])] {
        parameters.load(place, &values).unwrap();
    }
    let mut gradients = buffer(device, layout.len(), &[]);
    tape.forward(&parameters).unwrap();
    tape.backward(&parameters, &mut gradients, Scale::One).unwrap();
    let gradients = gradients.values().unwrap();
    [0, 16, 32].map(|place| [gradients[place], gradients[place + 1]])
}

/// x + (y + z) where x comes from y: the cotangent that x and the inner sum share must not become the gradient of y, to
/// which x adds later.
#[test]
fn a_shared_cotangent_stays_as_long_as_it_is_read() {
    devices().iter().for_each(nested_sums);
}

fn nested_sums(device: &Device) {
    let gradients = of_embeddings(device, |graph, zero, [e0, e1, e2]| {
        let y = graph.apply(AddEmbedding, &[zero, e0]).unwrap();
        let x = graph.apply(AddEmbedding, &[y, e1]).unwrap();
        let z = graph.apply(AddEmbedding, &[zero, e2]).unwrap();
        let inner = graph.apply(Add, &[y, z]).unwrap();
        graph.apply(Add, &[x, inner]).unwrap()
    });
    // The sum is 2 e0 + e1 + e2 = (2.75, 3.5), and the loss the mean over 2 values: dL/dsum = sum - target.
    assert_eq!(gradients, [[-4.5, -7.0], [-2.25, -3.5], [-2.25, -3.5]]);
}

#[test]
fn memory_is_shared_by_liveness() {
    let mut layout = ParameterLayout::default();
    parameter(&mut layout, "e", &[1, 8, 8, 4]);
    let mut graph = Graph::default();
    let mut x = graph.input(Shape::new(&[1, 8, 8, 4]));
    let e = graph.parameter(&layout, "e");
    for _ in 0..20 {
        x = graph.apply(AddEmbedding, &[x, e]).unwrap();
    }
    let tape = Tape::new(&Device::Cpu, graph, None, &[x]).unwrap();
    // The input, the result, and two more that are alive at a time.
    assert!(tape.plan().arena_len() <= 4 * 256, "{}", tape.plan());
    assert!(tape.plan().unshared_len() >= 21 * 256);
}

#[test]
fn a_loss_must_be_a_scalar() {
    let mut graph = Graph::default();
    let x = graph.input(Shape::new(&[2]));
    let error = Tape::new(&Device::Cpu, graph, Some(x), &[]).err().unwrap();
    assert!(error.to_string().contains("scalar"), "{error}");
}

/// Two convolutions after normalisations, on both devices: what is normalised again in backward has the bits of what was
/// kept, and takes less memory.
#[test]
fn what_is_made_again_has_the_same_bits() {
    for device in devices() {
        let [(kept, kept_len), (again, again_len)] =
            [false, true].map(|recompute| normalised(&device, recompute));
        assert!(kept.iter().any(|&bits| bits != 0));
        assert!(kept == again, "the gradients differ");
        assert!(again_len < kept_len, "{again_len} floats instead of {kept_len}");
    }
}

/// Bits of the gradients, and floats of the arena.
fn normalised(device: &Device, recompute: bool) -> (Vec<u32>, usize) {
    let mut layout = ParameterLayout::default();
    parameter(&mut layout, "e", &[1, 4, 4, 16]);
    for part in ["1", "2", "3"] {
        parameter(&mut layout, &format!("gamma{part}"), &[16]);
        parameter(&mut layout, &format!("beta{part}"), &[16]);
        parameter(&mut layout, &format!("w{part}"), &[1, 1, 16, 16]);
    }
    let mut graph = Graph::default();
    graph.recompute = recompute;
    let input = graph.input(Shape::new(&[8, 4, 4, 16]));
    let e = graph.parameter(&layout, "e");
    let mut x = graph.apply(AddEmbedding, &[input, e]).unwrap();
    for part in ["1", "2", "3"] {
        let [gamma, beta, w] =
            ["gamma", "beta", "w"].map(|name| graph.parameter(&layout, &format!("{name}{part}")));
        let normed = graph.apply(GroupNorm { groups: 2, silu: true }, &[x, gamma, beta]).unwrap();
        x = graph.apply(Conv2d { stride: 1, padding: 0 }, &[normed, w, beta]).unwrap();
    }
    let weight = graph.input(Shape::new(&[16]));
    let loss = graph.apply(Mse, &[x, input, weight]).unwrap();
    let mut tape = Tape::new(device, graph, Some(loss), &[]).unwrap();
    let wave = |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (step * i as f32).sin()).collect() };
    tape.load(input, 0, &wave(8 * 256, 0.7)).unwrap();
    tape.load(weight, 0, &[1.0; 16]).unwrap();
    let parameters = buffer(device, layout.len(), &wave(layout.len(), 0.3));
    let mut gradients = buffer(device, layout.len(), &[]);
    for _ in 0..2 {
        tape.forward(&parameters).unwrap();
        tape.backward(&parameters, &mut gradients, Scale::One).unwrap();
    }
    let bits = gradients.values().unwrap().iter().map(|value| value.to_bits()).collect();
    (bits, tape.plan().arena_len())
}

/// What a tape fills itself stays in place however often it runs.
#[test]
fn a_constant_is_there_in_every_replay() {
    for device in devices() {
        let mut graph = Graph::default();
        let constant = graph.constant(&[2.0]);
        let x = graph.input(Shape::new(&[1]));
        let sum = graph.apply(WeightedSum { weights: vec![1.0, 10.0] }, &[constant, x]).unwrap();
        let mut tape = Tape::new(&device, graph, None, &[sum]).unwrap();
        for value in [1.0, 3.0] {
            tape.load(x, 0, &[value]).unwrap();
            tape.forward(&buffer(&device, 1, &[])).unwrap();
            assert_eq!(tape.value(sum).unwrap(), [2.0 + 10.0 * value]);
        }
    }
}
