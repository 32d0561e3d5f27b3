//! The codec of latents without a network: what it writes it reads, on every machine the same, and whatever else is refused.

use hexcuda::mesh::Similarity;
use hexcuda::model::codec::tables::integers;
use hexcuda::model::codec::{Code, Codec, Coded, IndexCodec, ValueCodec, ValueParts};
use hexcuda::rng::Rng;
use hexcuda::train::{Alphabet, CodecSettings, fit_indices, fit_values};
use proptest::prelude::*;

const SHAPE: [usize; 4] = [6, 3, 3, 16];
const COMPONENTS: usize = 64;

fn len(shape: [usize; 4]) -> usize {
    shape.iter().product()
}

/// Latents with three directions in common, and a heavy-tailed rest that is livelier at some sites than at others.
fn latents(count: usize) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(5, 0);
    let n = len(SHAPE);
    let mean: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
    let directions: Vec<Vec<f32>> = (0..3).map(|_| (0..n).map(|_| rng.normal()).collect()).collect();
    (0..count)
        .map(|_| {
            let weights = [(); 3].map(|()| rng.normal());
            let lively: Vec<f32> = (0..n / SHAPE[3]).map(|_| rng.normal().abs()).collect();
            let at = |i: usize| {
                let shared: f32 = (0..3).map(|k| weights[k] * directions[k][i]).sum();
                let noise = rng.normal() * rng.normal();
                mean[i] + 0.3 * shared + 0.1 * lively[i / SHAPE[3]] * noise / (1 + i % SHAPE[3]) as f32
            };
            (0..n).map(at).collect()
        })
        .collect()
}

/// Fitted to all but the last of 24 latents, and that one.
fn fitted() -> (Codec, Vec<f32>) {
    let mut latents = latents(24);
    let other = latents.pop().unwrap();
    let gains: Vec<f32> = (0..SHAPE[3]).map(|c| 1.0 / (1.0 + c as f32 / 8.0)).collect();
    let steps: Vec<f32> = gains.iter().map(|gain| 0.02 / gain).collect();
    (fit_values((&latents, 23), SHAPE, &steps, COMPONENTS).unwrap(), other)
}

fn values(code: Code) -> Vec<f32> {
    match code {
        Code::Values(values) => values,
        Code::Indices(_) => panic!("the codec is one of values"),
    }
}

fn step(codec: &Codec, entry: usize) -> f32 {
    match codec {
        Codec::Values(codec) => codec.parts.steps[entry % SHAPE[3]],
        Codec::Indices(_) => panic!("the codec is one of values"),
    }
}

fn decoded(codec: &Codec, layers: &[Vec<u8>], coarser: i8) -> Vec<f32> {
    values(codec.decode(layers, coarser).unwrap())
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn a_left_out_latent_comes_back_to_its_steps() {
    let (codec, latent) = fitted();
    let code = Code::Values(latent.clone());
    let mut sizes = Vec::new();
    for coarser in [-32, -8, 0, 5, 8, 32] {
        let layers = codec.encode(&code, coarser);
        let back = decoded(&codec, &layers, coarser);
        let width = 2f32.powf(f32::from(coarser) / 4.0);
        for (entry, (z, found)) in latent.iter().zip(&back).enumerate() {
            // Half a step of rounding and one more where that saves bits; 1e-5 is the rounding of values of some units.
            let most = 1.5 * step(&codec, entry) * width + 1e-5;
            assert!((z - found).abs() <= most, "{coarser}: {entry}: {z} {found}");
        }
        sizes.push(layers.iter().map(Vec::len).sum::<usize>());
    }
    assert!(sizes.windows(2).all(|pair| pair[0] > pair[1]), "{sizes:?}");
    // Of 3,456 bytes of floats.
    assert!(sizes[2] < 500, "{sizes:?}");
}

/// What is coded under the laws that were learned takes fewer bytes than under one law for all entries: an optimal code of the same
/// rounded residuals by their frequencies over the whole latent.
#[test]
fn learned_scales_save_bytes() {
    let (codec, latent) = fitted();
    let layers = codec.encode(&Code::Values(latent), 0);
    let bytes: usize = layers.iter().map(Vec::len).sum();
    let back = decoded(&codec, &layers, 0);
    let predicted = decoded(&codec, &layers[..1], 0);
    let mut counts = std::collections::BTreeMap::new();
    for (entry, (a, b)) in back.iter().zip(&predicted).enumerate() {
        *counts.entry(((a - b) / step(&codec, entry)).round() as i32).or_insert(0.0f64) += 1.0;
    }
    let n = len(SHAPE) as f64;
    let entropy: f64 = counts.values().map(|count| -count * (count / n).log2()).sum();
    // Of which 12 bytes and the coefficients are the ends of layers and the prediction.
    assert!((bytes as f64) < 0.9 * entropy / 8.0, "{bytes} bytes, {} under one law", entropy / 8.0);
}

#[test]
fn every_layer_adds_and_what_is_missing_is_predicted() {
    let (codec, latent) = fitted();
    let layers = codec.encode(&Code::Values(latent.clone()), -4);
    assert_eq!(layers.len(), codec.layers());
    let prefixes: Vec<Vec<f32>> = (1..=layers.len()).map(|n| decoded(&codec, &layers[..n], -4)).collect();
    let errors: Vec<f64> = prefixes.iter().map(|back| squared_error(back, &latent)).collect();
    assert!(errors.windows(2).all(|pair| pair[0] > pair[1]), "{errors:?}");
    for pair in prefixes.windows(2) {
        // A layer changes its own channels alone.
        let changed = |c: usize| (c..latent.len()).step_by(SHAPE[3]).any(|i| pair[0][i] != pair[1][i]);
        assert!((0..SHAPE[3]).filter(|&c| changed(c)).count() < SHAPE[3]);
    }
    assert!(codec.decode(&[], 0).is_err());
    assert!(codec.decode(&[&layers[..], &layers[..1]].concat(), -4).is_err());
}

/// A codec of whole numbers that no machine's floats have a part in.
fn whole_codec() -> ValueCodec {
    let mut rng = Rng::new(11, 3);
    let n = len(SHAPE);
    let mut law = |level: usize| {
        let reach = 1 + level;
        let weights: Vec<u32> = (0..=2 * reach + 1).map(|_| 1 + rng.next_u32() % 100).collect();
        let rest = (1 << 16) - weights.iter().sum::<u32>();
        let mut law = weights;
        law[reach] += rest;
        law
    };
    let laws = (0..64).map(&mut law).collect();
    let mut below = |most: i32| (rng.next_u32() % most as u32) as i32;
    ValueCodec::new(ValueParts {
        shape: SHAPE,
        order: (0..SHAPE[3]).rev().collect(),
        ends: vec![1, 5, SHAPE[3]],
        steps: (0..SHAPE[3]).map(|c| 0.25 + c as f32 / 64.0).collect(),
        mean: (0..n).map(|_| below(1 << 12) - (1 << 11)).collect(),
        basis: (0..2 * n).map(|_| below(1 << 18) - (1 << 17)).collect(),
        coefficient_levels: vec![30, 20],
        levels: (0..n).map(|_| below(64) as u8).collect(),
        laws,
    })
    .unwrap()
}

#[test]
fn every_machine_decodes_the_same_bits() {
    let codec = Codec::Values(Box::new(whole_codec()));
    let mut rng = Rng::new(2, 9);
    // Multiples of 1/64 up to 16, made without a rounding.
    let latent: Vec<f32> = (0..len(SHAPE)).map(|_| (rng.next_u32() % 2048) as f32 / 64.0 - 16.0).collect();
    let layers = codec.encode(&Code::Values(latent), 3);
    let bytes: Vec<u8> = layers.concat();
    let back = decoded(&codec, &layers, 3);
    let bits: Vec<u8> = back.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect();
    let found = [crc32fast::hash(&bytes), crc32fast::hash(&bits), codec.hash()];
    assert_eq!(found, EXPECTED, "{found:08x?}");
}

/// Of the layers, of the latent and of the codec, from one machine (x86-64, Linux). The last two have no float in them whose result a
/// standard leaves open; the first has the encoder's logarithms, of which a last place could only turn a choice between equals.
const EXPECTED: [u32; 3] = [0xb5a0_1590, 0xe25e_2d29, 0xcd64_c5fc];

fn coded(codec: &Codec, latent: &[f32]) -> Coded {
    let layers = codec.encode(&Code::Values(latent.to_vec()), 0);
    let (half, root) = (0.5, 0.75f64.sqrt());
    Coded {
        model: "0123abcd-12345".to_string(),
        codec: codec.hash(),
        coarser: 0,
        shape: SHAPE,
        transform: Similarity {
            rotation: [[half, -root, 0.0], [root, half, 0.0], [0.0, 0.0, 1.0]],
            centre: [1.0, -2.0, 1e7],
            scale: 0.125,
        },
        name: "Kopf ä".to_string(),
        total: layers.len(),
        layers,
    }
}

#[test]
fn a_file_comes_back_whole_and_up_to_every_mark() {
    let (codec, latent) = fitted();
    let mut whole = coded(&codec, &latent);
    for rotation in [
        whole.transform.rotation,
        Similarity::default().rotation,
        [[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    ] {
        whole.transform.rotation = rotation;
        let bytes = whole.to_bytes().unwrap();
        assert_eq!(Coded::parse(&bytes, false).unwrap(), whole);
        let mut marks = vec![bytes.len()];
        whole.layers.iter().rev().for_each(|layer| marks.push(marks[marks.len() - 1] - layer.len()));
        let header = marks.pop().unwrap();
        for end in 0..bytes.len() {
            let expected = marks.iter().filter(|&&mark| mark <= end).count();
            let (strict, partial) = (Coded::parse(&bytes[..end], false), Coded::parse(&bytes[..end], true));
            assert_eq!(strict.is_ok(), marks.contains(&end), "cut to {end}");
            assert_eq!(partial.is_ok(), end > header && expected > 0, "cut to {end}");
            if let Ok(found) = partial {
                assert_eq!(found.layers, whole.layers[..expected], "cut to {end}");
                assert_eq!(found.total, whole.total);
            }
        }
    }
    whole.name = "ä".repeat(200);
    let long = Coded::parse(&whole.to_bytes().unwrap(), false).unwrap();
    assert_eq!(long.name, "ä".repeat(127));
    whole.model = "none".to_string();
    assert!(whole.to_bytes().is_err());
}

#[test]
fn every_flipped_byte_other_version_and_swapped_layer_is_refused() {
    let (codec, latent) = fitted();
    let whole = coded(&codec, &latent);
    let bytes = whole.to_bytes().unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 0x10, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(Coded::parse(&damaged, false).is_err(), "byte {at}");
            // Damage is no cut.
            assert!(Coded::parse(&damaged, true).is_err(), "byte {at}");
        }
    }
    let header = bytes.len() - whole.layers.iter().map(Vec::len).sum::<usize>();
    let mut swapped = bytes[..header].to_vec();
    [1, 0, 2, 3].iter().for_each(|&layer: &usize| swapped.extend(&whole.layers[layer]));
    assert!(Coded::parse(&swapped, true).is_err());
    let longer = [&bytes[..], &[0]].concat();
    assert!(Coded::parse(&longer, true).unwrap_err().contains("follow"));
    let mut other = bytes.clone();
    other[4] = 3;
    assert!(Coded::parse(&other, false).unwrap_err().contains("version 3"));
}

/// Discrete latents: each slot prefers one index, by its site.
fn indices(count: usize, levels: &[usize]) -> Vec<Vec<u16>> {
    let mut rng = Rng::new(8, 1);
    let one = |rng: &mut Rng| -> Vec<u16> {
        let index = |i: usize| {
            let levels = levels[i % levels.len()];
            if rng.below(4) > 0 { (i / 5 % levels) as u16 } else { rng.below(levels) as u16 }
        };
        (0..len(SHAPE)).map(index).collect()
    };
    (0..count).map(|_| one(&mut rng)).collect()
}

#[test]
fn indices_come_back_for_less_than_their_logarithm() {
    let levels: Vec<usize> = (0..SHAPE[3]).map(|c| [7, 4, 300][c % 3]).collect();
    let mut all = indices(40, &levels);
    let other = all.pop().unwrap();
    let codec = fit_indices(&all, SHAPE, &Alphabet::Levels(levels.clone())).unwrap();
    let layers = codec.encode(&Code::Indices(other.clone()), 0);
    assert_eq!(codec.decode(&layers, 0).unwrap(), Code::Indices(other.clone()));
    let bits: f64 = (0..other.len()).map(|i| (levels[i % SHAPE[3]] as f64).log2()).sum();
    let bytes: usize = layers.iter().map(Vec::len).sum();
    assert!((bytes as f64) < 0.75 * bits / 8.0, "{bytes} bytes, {} uniform", bits / 8.0);
    // What is not there yet is the likeliest index, which most entries have.
    let Code::Indices(first) = codec.decode(&layers[..1], 0).unwrap() else { panic!("indices") };
    let right = first.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(right > len(SHAPE) / 2 && right < len(SHAPE), "{right}");
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let latents = latents(3);
    let fit = |latents: &[Vec<f32>], step| {
        fit_values((latents, latents.len()), SHAPE, &[step; SHAPE[3]], COMPONENTS).map(|_| ())
    };
    assert!(fit(&latents[..1], 0.1).unwrap_err().to_string().contains("at least 2"));
    let wrong = CodecSettings { step: Some(f32::NAN), ..CodecSettings::default() };
    assert!(wrong.validate().unwrap_err().to_string().contains("step is NaN"));
    let far: Vec<Vec<f32>> = latents.iter().map(|l| l.iter().map(|x| x + 1e6).collect()).collect();
    assert!(fit(&far, 1e-5).unwrap_err().to_string().contains("wider --step"));
    fit(&latents[..2], 0.1).unwrap();
    // Latents that are all the same have no components and no residual.
    fit(&[latents[0].clone(), latents[0].clone()], 0.1).unwrap();
    // Copies of one mesh have no others to be judged by.
    fit_values((&latents, 1), SHAPE, &[0.004; SHAPE[3]], COMPONENTS).unwrap();
    let classes = Alphabet::Classes { groups: 1, classes: 1 << 16 };
    assert!(fit_indices(&[vec![0; 9], vec![0; 9]], [1, 3, 3, 1], &classes).is_err());
}

proptest! {
    /// Bytes that a checksum would let through are decoded or refused, at once.
    #[test]
    fn any_layers_end(
        layers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        coarser in any::<i8>(),
    ) {
        let codec = Codec::Values(Box::new(whole_codec()));
        if let Ok(Code::Values(values)) = codec.decode(&layers, coarser) {
            prop_assert!(values.len() == len(SHAPE) && values.iter().all(|x| x.is_finite()));
        }
        let law = |i: usize| integers(&vec![1.0; 2 + i % 7]);
        let codec = IndexCodec::new(SHAPE, vec![3, SHAPE[3]], (0..len(SHAPE)).map(law).collect()).unwrap();
        if let Ok(Code::Indices(indices)) = Codec::Indices(codec).decode(&layers, 0) {
            prop_assert!(indices.iter().enumerate().all(|(i, &index)| usize::from(index) < 2 + i % 7));
        }
    }

    #[test]
    fn any_bytes_are_no_file(mut bytes in prop::collection::vec(any::<u8>(), 0..300), partial: bool) {
        prop_assert!(Coded::parse(&bytes, partial).is_err());
        let start = b"HEXZ\x02\0\0\0";
        bytes.splice(..bytes.len().min(start.len()), start.iter().copied());
        prop_assert!(Coded::parse(&bytes, partial).is_err());
    }

    /// Headers with a checksum that fits say anything.
    #[test]
    fn any_header_ends(fields in prop::collection::vec(any::<u8>(), 0..300), rest in prop::collection::vec(any::<u8>(), 0..60), partial: bool) {
        let mut bytes = b"HEXZ\x02\0\0\0".to_vec();
        bytes.extend(((14 + fields.len()) as u16).to_le_bytes());
        bytes.extend(&fields);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.extend(&rest);
        if let Ok(found) = Coded::parse(&bytes, partial) {
            prop_assert!(found.layers.iter().map(Vec::len).sum::<usize>() <= rest.len());
        }
    }

    #[test]
    fn any_latent_comes_back(seed in any::<u64>(), spread in 0.0f32..12.0, coarser in -32i8..=32) {
        let codec = whole_codec();
        let steps = codec.parts.steps.clone();
        let codec = Codec::Values(Box::new(codec));
        let mut rng = Rng::new(seed, 0);
        let latent: Vec<f32> = (0..len(SHAPE)).map(|_| rng.normal() * spread.exp2()).collect();
        let layers = codec.encode(&Code::Values(latent.clone()), coarser);
        let back = decoded(&codec, &layers, coarser);
        let width = f64::from(coarser) / 4.0;
        for (i, (z, found)) in latent.iter().zip(&back).enumerate() {
            let most = 1.5 * f64::from(steps[i % SHAPE[3]]) * width.exp2() + 1e-6 * f64::from(z.abs());
            prop_assert!(f64::from(z - found).abs() <= most, "{}: {} {}", i, z, found);
        }
    }
}
