//! Variational latents against theory: linear models whose posterior and whose collapse are known in closed form.

use hexcuda::device::{Buffer, Device};
use hexcuda::model::{Gaussian, PosteriorStatistics};
use hexcuda::nn::{Adam, AdamSettings, Schedule};
use hexcuda::ops::{
    Conv2d, GaussianKl, GaussianLogDensity, GaussianSample, KlTerm, Law, MixtureLogDensity, Mse, Noise,
    WeightedSum,
};
use hexcuda::rng::Rng;
use hexcuda::shape::Shape;
use hexcuda::tape::{Graph, ParameterLayout, Role, Scale, Tape, Value};

/// Items of a batch.
const ITEMS: usize = 512;
/// Values of an item.
const VALUES: usize = 4;

/// x -> N(A x + a, exp(B x + b)) -> W z + w, trained on mean squared error + beta KL, whose decoder has the variance s^2 =
/// beta VALUES / 2: minus the evidence bound is VALUES mse / (2 s^2) + KL.
struct LinearVae {
    layout: ParameterLayout,
    parameters: Buffer,
    tape: Tape,
    loss: Value,
    counter: Value,
    mean: Value,
    log_variance: Value,
    /// Steps leave the decoder as it is.
    fixed_decoder: bool,
}

impl LinearVae {
    fn new(data: &[f32], latents: usize, beta: f64, decoder: Option<&[f32]>) -> Self {
        let mut layout = ParameterLayout::default();
        let mut graph = Graph::default();
        let mut map = |graph: &mut Graph, name: &str, x: Value, out: usize| {
            let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
            let from = graph.shape(x).extents()[3];
            layout.add(&weight, Shape::new(&[1, 1, from, out]), Role::Conv, false, 1.0);
            layout.add(&bias, Shape::new(&[out]), Role::Bias, true, 1.0);
            let inputs = [x, graph.parameter(&layout, &weight), graph.parameter(&layout, &bias)];
            graph.apply(Conv2d { stride: 1, padding: 0 }, &inputs).unwrap()
        };
        let x = graph.input(Shape::new(&[ITEMS, 1, 1, VALUES]));
        let mean = map(&mut graph, "mean", x, latents);
        let log_variance = map(&mut graph, "log_variance", x, latents);
        let counter = graph.input(Shape::new(&[2]));
        let noise = Noise { law: Law::Normal, extents: graph.shape(mean), seed: 1, stream: 0 };
        let noise = graph.apply(noise, &[counter]).unwrap();
        let z = graph.apply(GaussianSample, &[mean, log_variance, noise]).unwrap();
        let kl = graph.apply(GaussianKl { meshes: ITEMS }, &[mean, log_variance]).unwrap();
        let decoded = map(&mut graph, "decoder", z, VALUES);
        let (weights, beta) = (graph.constant(&[1.0; VALUES]), graph.constant(&[beta as f32]));
        let mse = graph.apply(Mse, &[decoded, x, weights]).unwrap();
        let term = graph.apply(KlTerm::PLAIN, &[kl, beta]).unwrap();
        let loss = graph.apply(WeightedSum { weights: vec![1.0, 1.0] }, &[mse, term]).unwrap();
        let mut tape = Tape::new(&Device::Cpu, graph, Some(loss), &[mean, log_variance]).unwrap();
        tape.load(x, 0, data).unwrap();
        let mut parameters = Buffer::zeros(&Device::Cpu, layout.len(), "a test").unwrap();
        let mut rng = Rng::named(0, "linear vae");
        for name in ["mean.weight", "decoder.weight"] {
            let range = layout.get(name).range.clone();
            let values: Vec<f32> = range.clone().map(|_| 0.3 * rng.normal()).collect();
            parameters
                .load(range.start, decoder.filter(|_| name == "decoder.weight").unwrap_or(&values))
                .unwrap();
        }
        let fixed_decoder = decoder.is_some();
        Self { layout, parameters, tape, loss, counter, mean, log_variance, fixed_decoder }
    }

    /// After so many steps, the posterior of each item, and the last loss.
    fn train(&mut self, steps: u64) -> (Vec<Gaussian>, f64) {
        let settings = AdamSettings {
            learning_rate: 0.02,
            beta1: 0.9,
            beta2: 0.99,
            clip_norm: 0.0,
            ..Default::default()
        };
        let mut adam = Adam::new(settings, &self.layout, &Device::Cpu).unwrap();
        let mut gradients = Buffer::zeros(&Device::Cpu, self.layout.len(), "a test").unwrap();
        let decoder =
            self.layout.get("decoder.weight").range.start..self.layout.get("decoder.bias").range.end;
        for step in 0..steps {
            self.tape.load(self.counter, 0, &Noise::counter(step)).unwrap();
            self.tape.forward(&self.parameters).unwrap();
            self.tape.backward(&self.parameters, &mut gradients, Scale::One).unwrap();
            if self.fixed_decoder {
                gradients.load(decoder.start, &vec![0.0; decoder.len()]).unwrap();
            }
            adam.update(&mut self.parameters, &gradients, Schedule::Cosine.factor(step, steps)).unwrap();
        }
        let [means, log_variances] =
            [self.mean, self.log_variance].map(|value| self.tape.value(value).unwrap());
        let latents = means.len() / ITEMS;
        let items = means.chunks(latents).zip(log_variances.chunks(latents));
        let items = items.map(|(mean, log_variance)| Gaussian {
            mean: mean.to_vec(),
            log_variance: log_variance.to_vec(),
        });
        (items.collect(), f64::from(self.tape.value(self.loss).unwrap()[0]))
    }
}

/// Items whose covariance has exactly these eigenvalues, along the axes turned by a rotation in two planes: columns of
/// independent normal draws are made orthonormal (Gram and Schmidt) and scaled.
fn data(eigenvalues: [f64; VALUES]) -> Vec<f32> {
    let mut rng = Rng::named(0, "linear data");
    let mut columns: Vec<Vec<f64>> = vec![vec![1.0; ITEMS]];
    for _ in 0..VALUES {
        let mut column: Vec<f64> = (0..ITEMS).map(|_| f64::from(rng.normal())).collect();
        // Twice is enough; the column of ones takes the mean away.
        for other in columns.iter().chain(&columns.clone()) {
            let dot = column.iter().zip(other).map(|(a, b)| a * b).sum::<f64>() / ITEMS as f64;
            column.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let length = (column.iter().map(|a| a * a).sum::<f64>() / ITEMS as f64).sqrt();
        column.iter_mut().for_each(|a| *a /= length);
        columns.push(column);
    }
    let (sine, cosine) = 0.6f64.sin_cos();
    let item = |i: usize| {
        let own: [f64; VALUES] = std::array::from_fn(|k| eigenvalues[k].sqrt() * columns[k + 1][i]);
        let turn = |a: f64, b: f64| [cosine * a - sine * b, sine * a + cosine * b];
        let ([a, b], [c, d]) = (turn(own[0], own[1]), turn(own[2], own[3]));
        let ([a, c], [b, d]) = (turn(a, c), turn(b, d));
        [a, b, c, d].map(|x| x as f32)
    };
    (0..ITEMS).flat_map(item).collect()
}

/// With a fixed decoder W whose columns are orthogonal, the posterior of x = W z + s e is N(W_k . x / (|W_k|^2 + s^2), s^2 /
/// (|W_k|^2 + s^2)) in each dimension k (Bishop, "Pattern Recognition and Machine Learning", 2006, equation 12.42).
#[test]
fn the_posterior_of_a_linear_gaussian_model_is_the_analytic_one() {
    const W: [[f32; 2]; VALUES] = [[1.2, 0.1], [0.4, -0.3], [0.0, 0.9], [-0.5, 0.0]];
    let dot = |a: usize, b: usize| W.iter().map(|row| f64::from(row[a] * row[b])).sum::<f64>();
    assert!(dot(0, 1).abs() < 1e-6);
    let variance = 0.3;
    let mut rng = Rng::named(0, "linear model");
    let x: Vec<[f32; VALUES]> = (0..ITEMS)
        .map(|_| {
            let z = [rng.normal(), rng.normal()];
            W.map(|row| row[0] * z[0] + row[1] * z[1] + (variance as f32).sqrt() * rng.normal())
        })
        .collect();
    let beta = 2.0 * variance / VALUES as f64;
    let flat: Vec<f32> = (0..2).flat_map(|k| W.map(|row| row[k])).collect();
    let (found, _) = LinearVae::new(x.as_flattened(), 2, beta, Some(&flat)).train(3000);
    for k in 0..2 {
        let precision = dot(k, k) + variance;
        let (mut error, mut size) = (0.0, 0.0);
        for (item, x) in found.iter().zip(&x) {
            let expected = W.iter().zip(x).map(|(row, x)| f64::from(row[k] * x)).sum::<f64>() / precision;
            error += (f64::from(item.mean[k]) - expected).powi(2);
            size += expected * expected;
            let ratio = f64::from(item.log_variance[k]).exp() * precision / variance;
            // The noise of 512 draws a step leaves the variance some per cent off.
            assert!((ratio - 1.0).abs() < 0.1, "dimension {k}: variance off by a factor of {ratio}");
        }
        assert!((error / size).sqrt() < 0.02, "dimension {k}: means off by {}", (error / size).sqrt());
    }
}

/// A direction of the data is alive iff its eigenvalue is above the decoder's variance, and then has the rate ln(eigenvalue /
/// variance) / 2 (Lucas et al., "Don't blame the ELBO! A linear VAE perspective on posterior collapse", NeurIPS 2019,
/// section 4; Dai et al., "Connections with robust PCA and the role of emergent sparsity in variational autoencoder models",
/// JMLR 2018).
#[test]
fn a_direction_collapses_on_the_predicted_side_of_beta() {
    const EIGENVALUES: [f64; VALUES] = [4.0, 1.5, 0.5, 0.15];
    let data = data(EIGENVALUES);
    for variance in [0.05, 0.3, 0.9, 2.5, 6.0] {
        let beta = 2.0 * variance / VALUES as f64;
        let (posteriors, loss) = LinearVae::new(&data, VALUES, beta, None).train(3000);
        let statistics = PosteriorStatistics::new(&posteriors);
        let alive = EIGENVALUES.iter().filter(|&&eigenvalue| eigenvalue > variance);
        let rate: f64 = alive.clone().map(|eigenvalue| 0.5 * (eigenvalue / variance).ln()).sum();
        assert_eq!(statistics.active_units(), alive.count(), "variance {variance}: {statistics:?}");
        assert!((statistics.rate() - rate).abs() < 0.05 * rate + 0.02, "{} beside {rate}", statistics.rate());
        // What is lost: s^2 of every direction that lives, all of the others.
        let lost: f64 =
            EIGENVALUES.iter().map(|eigenvalue| eigenvalue.min(variance)).sum::<f64>() / VALUES as f64;
        let expected = lost + beta * rate;
        assert!((loss / expected - 1.0).abs() < 0.1, "variance {variance}: loss {loss} beside {expected}");
    }
}

/// The divergence of a Gaussian from a mixture by 2^17 draws, against the integral of q ln(q / p).
#[test]
fn the_divergence_from_a_mixture_is_the_integral() {
    const DRAWS: usize = 1 << 17;
    let (mean, log_variance) = (0.4f32, -0.6f32);
    let (means, log_variances, logits) = ([-1.5f32, 0.5, 3.0], [0.2f32, -1.0, -0.4], [0.3f32, 1.0, -0.5]);
    let mut graph = Graph::default();
    let counter = graph.constant(&Noise::counter(0));
    let extents = Shape::new(&[DRAWS]);
    let noise = graph.apply(Noise { law: Law::Normal, extents, seed: 3, stream: 0 }, &[counter]).unwrap();
    let [m, l] = [mean, log_variance].map(|x| graph.constant(&vec![x; DRAWS]));
    let z = graph.apply(GaussianSample, &[m, l, noise]).unwrap();
    let components = [&means, &log_variances, &logits].map(|values| graph.constant(values));
    let q = graph.apply(GaussianLogDensity { meshes: DRAWS }, &[l, noise]).unwrap();
    let inputs = [z, components[0], components[1], components[2]];
    let p = graph.apply(MixtureLogDensity { meshes: DRAWS }, &inputs).unwrap();
    let kl = graph.apply(WeightedSum { weights: vec![1.0, -1.0] }, &[q, p]).unwrap();
    let mut tape = Tape::new(&Device::Cpu, graph, None, &[kl]).unwrap();
    tape.forward(&Buffer::zeros(&Device::Cpu, 0, "a test").unwrap()).unwrap();
    let found = f64::from(tape.value(kl).unwrap()[0]);
    let log_normal = |x: f64, mean: f32, l: f32| {
        -0.5 * (x - f64::from(mean)).powi(2) / f64::from(l).exp()
            - 0.5 * (f64::from(l) + std::f64::consts::TAU.ln())
    };
    let all: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let density = |x: f64| -> f64 {
        let term =
            |k: usize| f64::from(logits[k]).exp() / all * log_normal(x, means[k], log_variances[k]).exp();
        (0..3).map(term).sum()
    };
    let (mut expected, mut square) = (0.0, 0.0);
    for i in -80_000..80_000 {
        let (x, step) = (f64::from(i) * 1e-4, 1e-4);
        let ratio = log_normal(x, mean, log_variance) - density(x).ln();
        let weight = log_normal(x, mean, log_variance).exp() * step;
        expected += weight * ratio;
        square += weight * ratio * ratio;
    }
    // Five standard errors of the draws.
    let allowed = 5.0 * ((square - expected * expected) / DRAWS as f64).sqrt();
    assert!((found - expected).abs() < allowed, "{found} beside {expected} +- {allowed}");
}
