//! Training for a rate: what the loss counts as bits is what a coder writes, a larger weight buys fewer of them, and the codec of
//! such a run takes the steps that training saw.

use hexcuda::device::{Buffer, Device};
use hexcuda::mesh::sample_head::family;
use hexcuda::mesh::{Mesh, io};
use hexcuda::model::codec::tables::{integers, laplace, level_of};
use hexcuda::model::codec::{Code, Codec, IndexCodec, PARTS, ValueCodec, ValueParts};
use hexcuda::model::{FactorisedPrior, RATE_LOCATION, RATE_LOG_SCALE, RATE_LOG_STEP};
use hexcuda::ops::{KlTerm, LaplaceBits};
use hexcuda::shape::Shape;
use hexcuda::tape::{Graph, Tape};
use hexcuda::train::{
    CodecSettings, Encoder, LogRow, MetricsFollower, Options, Prepare, Settings, load_model, prepare_all,
    train,
};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

const CONFIG: &str = "preset = 'quick'\n[architecture]\nplanes = 32\npatch = 8\nstem = 4\nlatent_channels = 32\n\
    widths = [8, 16]\nencoder_blocks = [0, 1]\ndecoder_blocks = [1, 1]\n[training]\nsteps = 60\nbatch = 8\n\
    sdf_weight = 0.0\nsnapshots = 0\n[extraction]\ngrid = 16\n[metrics]\nsamples = 500\niou_grid = 8\n";

const MESHES: usize = 8;

fn meshes() -> Vec<(String, Mesh)> {
    let heads = family(1000, MESHES, 2000).into_iter();
    heads.enumerate().map(|(i, head)| (format!("head {i}"), head)).collect()
}

/// A run whose every step sees all of the meshes.
struct Run {
    rows: Vec<LogRow>,
    prior: FactorisedPrior,
    /// Of the meshes.
    latents: Vec<Vec<f32>>,
    shape: [usize; 4],
    /// Locations, logarithms of scales and of steps.
    parameters: [Vec<f32>; 3],
}

fn trained(meshes: &[(String, Mesh)], weight: f64) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, format!("{CONFIG}[latent]\nrate_weight = {weight:e}\n")).unwrap();
    let settings = Settings::load(None, Some(&path)).unwrap();
    let options = Options {
        held_out: Vec::new(),
        out: folder.path().join("run"),
        resume: false,
        time: None,
        quiet: true,
        tensorboard: false,
        device: Device::Cpu,
        interrupt: &AtomicBool::new(false),
    };
    train(&settings, meshes, &options).unwrap();
    let (mut model, settings) = load_model(&options.out).unwrap();
    let prepare = Prepare { settings: &settings, device: &Device::Cpu };
    let items = prepare_all(&prepare, meshes, 0, folder.path()).unwrap();
    let mut encoder = Encoder::new(&mut model).unwrap();
    let latents = items.iter().map(|item| encoder.encode(&model, &item.planes().unwrap()).unwrap()).collect();
    let values = model.parameters.values().unwrap();
    let parameters = [RATE_LOCATION, RATE_LOG_SCALE, RATE_LOG_STEP]
        .map(|name| values[model.layout.get(name).range.clone()].to_vec());
    Run {
        rows: MetricsFollower::new(&options.out.join("metrics.csv")).update().unwrap().to_vec(),
        prior: model.factorised_prior().unwrap().unwrap(),
        latents,
        shape: model.latent_extents(),
        parameters,
    }
}

impl Run {
    /// Bits of the rounded latents, mean over the meshes.
    fn bits(&self) -> f64 {
        self.latents.iter().map(|latent| self.prior.bits(latent)).sum::<f64>() / MESHES as f64
    }

    /// The same as the loss counts them, without noise.
    fn bits_of_the_loss(&self) -> f64 {
        let rounded = |latent: &Vec<f32>| -> Vec<f32> {
            let indices = self.prior.indices(latent);
            let value = |(i, &q): (usize, &i32)| {
                (self.prior.location[i] + f64::from(q) * f64::from(self.prior.steps[i % self.shape[3]]))
                    as f32
            };
            indices.iter().enumerate().map(value).collect()
        };
        let values: Vec<f32> = self.latents.iter().flat_map(rounded).collect();
        let mut graph = Graph::default();
        let [_, height, width, channels] = self.shape;
        let y = graph.input(Shape::new(&[6 * MESHES, height, width, channels]));
        let [location, log_scale] = [0, 1].map(|_| graph.input(Shape::new(&self.shape)));
        let log_step = graph.input(Shape::new(&[channels]));
        let bits = graph.apply(LaplaceBits { meshes: MESHES }, &[y, location, log_scale, log_step]).unwrap();
        let one = graph.constant(&[1.0]);
        let sum = graph.apply(KlTerm::PLAIN, &[bits, one]).unwrap();
        let mut tape = Tape::new(&Device::Cpu, graph, None, &[sum]).unwrap();
        tape.load(y, 0, &values).unwrap();
        for (input, values) in [location, log_scale, log_step].into_iter().zip(&self.parameters) {
            tape.load(input, 0, values).unwrap();
        }
        tape.forward(&Buffer::zeros(&Device::Cpu, 0, "a test").unwrap()).unwrap();
        f64::from(tape.value(sum).unwrap()[0])
    }

    /// Bits that the codec's coder writes of whole steps from the locations, its probabilities the prior's.
    fn written(&self) -> f64 {
        let all: Vec<Vec<i32>> = self.latents.iter().map(|latent| self.prior.indices(latent)).collect();
        let most = all.iter().flatten().map(|q| q.abs()).max().unwrap();
        let law = |entry: usize| {
            let mass: Vec<f64> = (-most..=most).map(|q| self.prior.mass(entry, q)).collect();
            integers(&mass)
        };
        let laws = (0..all[0].len()).map(law).collect();
        let codec = IndexCodec::new(self.shape, vec![self.shape[3]], laws).unwrap();
        let bytes = |indices: &Vec<i32>| {
            let indices: Vec<u16> = indices.iter().map(|q| (q + most) as u16).collect();
            let layers = codec.encode(&indices);
            let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
            assert_eq!(codec.decode(&slices).unwrap(), indices);
            layers.iter().map(Vec::len).sum::<usize>()
        };
        8.0 * all.iter().map(bytes).sum::<usize>() as f64 / MESHES as f64
    }

    /// Bits that the codec of values writes where it knows the prior and nothing else.
    fn coded(&self) -> f64 {
        let channels = self.shape[3];
        let of = |i: usize| f64::from(self.prior.steps[i % channels]);
        let entries = 0..self.latents[0].len();
        let parts = ValueParts {
            shape: self.shape,
            order: (0..channels).collect(),
            ends: vec![channels],
            steps: self.prior.steps.clone(),
            mean: entries.clone().map(|i| (self.prior.location[i] / of(i) * PARTS).round() as i32).collect(),
            basis: Vec::new(),
            coefficient_levels: Vec::new(),
            levels: entries.map(|i| level_of(self.prior.scale[i] / of(i))).collect(),
            laws: (0..64).map(laplace).collect(),
        };
        let codec = Codec::Values(Box::new(ValueCodec::new(parts).unwrap()));
        let layers = |latent: &Vec<f32>| codec.encode(&Code::Values(latent.clone()), 0);
        let bytes = self.latents.iter().flat_map(layers).map(|layer| layer.len());
        8.0 * bytes.sum::<usize>() as f64 / MESHES as f64
    }
}

#[test]
fn a_larger_weight_buys_fewer_bits_and_the_loss_counts_those_that_a_coder_writes() {
    let meshes = meshes();
    let runs = [1e-7, 1e-6, 1e-5].map(|weight| trained(&meshes, weight));
    for run in &runs {
        let entries = run.latents[0].len() as f64;
        let (bits, written, coded) = (run.bits(), run.written(), run.coded());
        let last = run.rows.last().unwrap().losses;
        // Masses of 3,072 entries in f32, as the check of the op has them.
        let of_the_loss = run.bits_of_the_loss();
        assert!((of_the_loss / bits - 1.0).abs() < 1e-5, "{of_the_loss} beside {bits}");
        // Probabilities in 1/65536, of which every index has one at least, and the words that end a layer: measured 0.2 %.
        assert!((written - bits).abs() < 0.005 * bits + 32.0, "{written} written, {bits} counted");
        // Levels a quarter of an octave apart, their adaptation to a site, rounding that saves bits: measured 3 to 8 % fewer.
        assert!(coded < bits && coded > 0.85 * bits, "{coded} coded, {bits} counted");
        // Noise leaves a step where rounding does not: 0.84 / 8 bits of an entry whose law is the narrowest (the integral of
        // -log2(1 - exp(-x) / 2), in sixteenths of a step at both ends of half a step).
        let most = 1.03 * bits + 0.105 * entries;
        assert!(last.rate > 0.97 * bits && last.rate < most, "{} beside {bits}", last.rate);
        assert_eq!(last.kl, 0.0);
    }
    let bits: Vec<f64> = runs.iter().map(Run::bits).collect();
    let errors: Vec<f64> = runs.iter().map(|run| run.rows.last().unwrap().losses.reconstruction).collect();
    for pair in bits.windows(2) {
        // Steps are as wide as the root of the weight: a decade of it is 1.7 bits of each lively entry.
        assert!(pair[1] < 0.8 * pair[0], "{bits:?}");
    }
    assert!(errors[0] < errors[1] && errors[1] < errors[2], "{errors:?}");
    for run in &runs {
        // Error and bits together, from the balance that they start at.
        let [first, last] = [0, 59].map(|step: usize| run.rows[step].losses.total);
        assert!(last < 0.9 * first, "{first} to {last}");
    }
}

#[test]
fn a_file_of_an_older_codec_has_its_step() {
    let older: CodecSettings = serde_json::from_str(r#"{"step":0.004}"#).unwrap();
    assert_eq!(older, CodecSettings::default());
    let learned = CodecSettings { step: None, ..older };
    assert_eq!(serde_json::to_string(&learned).unwrap(), r#"{"components":64}"#);
}

fn hexcuda(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hexcuda"));
    command.args(line.split_whitespace()).current_dir(folder).output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Path, line: &str) {
    let output = hexcuda(folder, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Wrong usage, in one line that holds `part`.
#[track_caller]
fn is_refused(folder: &Path, line: &str, part: &str) {
    let output = hexcuda(folder, line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{line}: {said}");
    assert!(said.contains(part) && said.lines().count() == 1, "{line}: {said}");
}

fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(name).unwrap().data().to_vec();
    data.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn the_codec_takes_the_steps_that_training_saw() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("tiny.toml"), CONFIG.replace("steps = 60", "steps = 3")).unwrap();
    for (i, (_, mesh)) in meshes().iter().take(3).enumerate() {
        io::write(&at(&format!("{i}.ply")), mesh).unwrap();
    }
    let train = "train 0.ply 1.ply 2.ply --config tiny.toml --quiet --device cpu";
    succeeds(folder.path(), &format!("{train} --rate 1e-6 --out run"));
    let codec = "codec 0.ply 1.ply 2.ply --run run --quiet --device cpu";
    is_refused(folder.path(), &format!("{codec} --step 0.01"), "has learned its steps");
    assert!(!at("run/codec.safetensors").exists());
    succeeds(folder.path(), codec);
    let learned = tensor(&at("run/checkpoint.safetensors"), RATE_LOG_STEP);
    let learned: Vec<f32> = learned.iter().map(|log| log.exp()).collect();
    assert_eq!(tensor(&at("run/codec.safetensors"), "latent.steps"), learned);
    succeeds(folder.path(), "encode --run run 0.ply -o 0.hexz --quiet --device cpu");
    succeeds(folder.path(), "decode --run run 0.hexz -o back.ply --device cpu");
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(at("run/summary.json")).unwrap()).unwrap();
    assert!(summary["latent"]["rate"]["bits"].as_f64().unwrap() > 0.0, "{summary}");
    for (latent, part) in [
        ("--latent gaussian --rate 1e-6", "rate_weight means nothing for a gaussian latent"),
        ("--latent categorical --rate 1e-6", "rate_weight means nothing for a categorical latent"),
        ("--latent fsq --rate 1e-6", "rate_weight means nothing for a fsq latent"),
        ("--rate=-1", "rate_weight is -1, expected a number of at least 0"),
        ("--rate nan", "rate_weight is NaN"),
    ] {
        is_refused(folder.path(), &format!("{train} {latent} --out other"), part);
    }
    assert!(!at("other").exists());
}
