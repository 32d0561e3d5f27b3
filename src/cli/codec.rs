//! `hexcuda codec`: the codec of a trained run's latents.

use super::frozen::{self, Frozen};
use super::measured::{COLUMNS, Errors, Measure};
use crate::console;
use crate::error::{Error, Result};
use crate::model::Autoencoder;
use crate::model::codec::{Code, Codec, Coded};
use crate::model::hexz::model_hash;
use crate::train::{
    Alphabet, CodeEncoder, CodecFile, CodecSettings, Decoder, Item, Settings, channel_gains, fit_codec,
    latent_of_code,
};
use serde::Serialize;
use std::path::PathBuf;

/// Quarter-octaves at which held-out meshes are measured.
const RATES: [i8; 7] = [-8, -4, 0, 4, 8, 12, 16];

/// Fit a codec to the latents of a trained run, for `hexcuda encode`
///
/// The network stays as it is. The codec predicts a latent from principal components of those that it is fitted to and
/// has a learned probability for every whole number of steps that lies between; `encode` writes these with a range coder.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    fitted_to: frozen::Options,
    /// Meshes (files, folders or sets) that are coded and measured at several rates; nothing is fitted to them
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    held_out: Vec<PathBuf>,
    /// What a step of any channel changes of decoded planes, as the root of the loss's mean squared error; of a continuous latent, and
    /// not of one that was trained for a rate, which has learned its steps [default: 0.004]
    #[arg(long)]
    step: Option<f32>,
    /// Principal components at most that predict a continuous latent
    #[arg(long, value_name = "N", default_value_t = CodecSettings::default().components)]
    components: usize,
}

/// What is told.
#[derive(Serialize)]
struct Report {
    latents: usize,
    components: usize,
    layers: usize,
    /// None where the network has learned its steps.
    step: Option<f32>,
    held_out: Option<HeldOut>,
}

/// Means over the meshes that were held out.
#[derive(Serialize)]
struct HeldOut {
    meshes: usize,
    /// Of mesh to planes to mesh, without a network.
    ceiling: Errors,
    /// Of latents as they are.
    uncoded: Errors,
    rates: Vec<Rate>,
}

#[derive(Clone, Serialize)]
struct Rate {
    coarser: i8,
    bytes: f64,
    bits_per_vertex: f64,
    #[serde(flatten)]
    errors: Errors,
}

pub fn run(args: Args) -> Result<()> {
    let mut run = args.fitted_to.network()?;
    let fitting = fitting(&run.settings, args.step, args.components)?;
    let sources = run.sources()?;
    let (names, of_files) = (sources.names(), sources.of_files());
    let held_out = run.judged(&args.held_out)?;
    if let Some(item) = held_out.iter().find(|item| !item.has_mesh()) {
        return Err(without_mesh(item));
    }
    let mut encoder = CodeEncoder::new(&mut run.model)?;
    let items = run.items(sources, args.fitted_to.augment)?;
    let codes = items.iter().map(|item| encoder.encode(&run.model, &item.planes()?));
    let codes: Vec<Code> = codes.collect::<Result<_>>()?;
    let codec = fit(&mut run.model, (&codes, of_files), &run.settings, &fitting)?;
    let file = CodecFile::new(&run.model, &codec, fitting, names)?;
    file.write(&args.fitted_to.run, &codec)?;
    let held_out = judge(&mut run, &mut encoder, &codec, &held_out)?;
    let report = Report {
        latents: codes.len(),
        components: file.components,
        layers: codec.layers(),
        step: file.settings.step,
        held_out,
    };
    announce(&args, &report)
}

/// Steps that training has learned are what it saw: no other one goes with them.
fn fitting(settings: &Settings, step: Option<f32>, components: usize) -> Result<CodecSettings> {
    let learned = settings.latent.has_rate();
    if learned && step.is_some() {
        let problem = "this run was trained for a rate and has learned its steps";
        return Err(Error::usage(
            "--step",
            problem,
            "leave it out; encode --coarser widens or narrows all of them",
        ));
    }
    let step = if learned { None } else { step.or(CodecSettings::default().step) };
    let fitting = CodecSettings { step, components };
    fitting.validate()?;
    Ok(fitting)
}

fn fit(
    model: &mut Autoencoder,
    (codes, meshes): (&[Code], usize),
    settings: &Settings,
    fitting: &CodecSettings,
) -> Result<Codec> {
    let alphabet = Alphabet::of(model);
    let mut shape = model.latent_extents();
    shape[3] = alphabet.slots(shape[3]);
    let latents: Vec<Vec<f32>> = codes
        .iter()
        .filter_map(|code| if let Code::Values(v) = code { Some(v.clone()) } else { None })
        .collect();
    let steps = match (model.factorised_prior()?, fitting.step) {
        (Some(prior), _) => prior.steps,
        (None, Some(step)) if !latents.is_empty() => {
            channel_gains(model, &latents, settings)?.iter().map(|gain| step / gain).collect()
        }
        _ => Vec::new(),
    };
    fit_codec((codes, meshes), shape, &alphabet, (&steps, fitting.components))
}

/// What the codec makes of meshes that it was not fitted to.
fn judge(
    run: &mut Frozen,
    encoder: &mut CodeEncoder,
    codec: &Codec,
    items: &[Item],
) -> Result<Option<HeldOut>> {
    if items.is_empty() {
        return Ok(None);
    }
    let Frozen { model, settings, device, .. } = run;
    let rates: &[i8] = if matches!(codec, Codec::Values(_)) { &RATES } else { &[0] };
    let (mut ceilings, mut uncoded) = (Vec::new(), Vec::new());
    let mut found = vec![Vec::new(); rates.len()];
    let mut decoder = Decoder::new(model)?;
    for item in items {
        let planes = item.planes()?;
        let mesh = item.mesh()?.ok_or_else(|| without_mesh(item))?;
        let code = encoder.encode(model, &planes)?;
        let as_it_is = latent_of_code(model, &code)?;
        let coded = rates.iter().map(|&coarser| coded(model, codec, (item, &code), coarser));
        let coded: Vec<(usize, Vec<f32>)> = coded.collect::<Result<_>>()?;
        let mut measure = Measure::new(model, &mut decoder, (settings, device), &mesh)?;
        ceilings.push(measure.planes(&planes)?);
        uncoded.push(measure.latent(&as_it_is)?);
        for (found, (bytes, latent)) in found.iter_mut().zip(coded) {
            let bits_per_vertex = 8.0 * bytes as f64 / mesh.positions.len() as f64;
            let errors = measure.latent(&latent)?;
            found.push(Rate { coarser: 0, bytes: bytes as f64, bits_per_vertex, errors });
        }
    }
    Ok(Some(HeldOut {
        meshes: items.len(),
        ceiling: Errors::mean(&ceilings),
        uncoded: Errors::mean(&uncoded),
        rates: rates.iter().zip(&found).map(|(&coarser, all)| Rate::mean(coarser, all)).collect(),
    }))
}

fn without_mesh(item: &Item) -> Error {
    let remedy = "build the set with its meshes, or name the files";
    Error::new(&item.name, "there is no mesh to measure by", remedy)
}

impl Rate {
    fn mean(coarser: i8, all: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        let errors: Vec<Errors> = all.iter().map(|rate| rate.errors).collect();
        Self {
            coarser,
            bytes: mean(&|rate| rate.bytes),
            bits_per_vertex: mean(&|rate| rate.bits_per_vertex),
            errors: Errors::mean(&errors),
        }
    }
}

/// The bytes of a file, and the latent that it holds.
fn coded(
    model: &mut Autoencoder,
    codec: &Codec,
    (item, code): (&Item, &Code),
    coarser: i8,
) -> Result<(usize, Vec<f32>)> {
    let broken = |problem: String| Error::new(&item.name, problem, "report this");
    let coded = Coded {
        model: model_hash(model)?,
        codec: 0,
        coarser,
        shape: codec.shape(),
        transform: item.transform()?,
        name: item.name.clone(),
        layers: codec.encode(code, coarser),
        total: codec.layers(),
    };
    let decoded = codec.decode(&coded.layers, coarser).map_err(broken)?;
    Ok((coded.to_bytes().map_err(broken)?.len(), latent_of_code(model, &decoded)?))
}

fn announce(args: &Args, report: &Report) -> Result<()> {
    if args.fitted_to.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| Error::new("the report", error, "report this"))?;
        return console::result(text);
    }
    if args.fitted_to.quiet {
        return Ok(());
    }
    let Report { latents, components, layers, .. } = report;
    console::result(format_args!(
        "{components} principal components of {latents} latents, {layers} layers a file"
    ))?;
    if let Some(held_out) = &report.held_out {
        console::result(format_args!("means over {} meshes held out:", held_out.meshes))?;
        console::result(format_args!("{:<12}{:>9}{:>13}  {COLUMNS}", "--coarser", "bytes", "bits/vertex"))?;
        for rate in &held_out.rates {
            let Rate { coarser, bytes, bits_per_vertex, errors } = rate;
            let columns = errors.columns();
            console::result(format_args!("{coarser:<12}{bytes:>9.0}{bits_per_vertex:>13.2}{columns}"))?;
        }
        console::result(format_args!("{:<34}{}", "not coded", held_out.uncoded.columns()))?;
        console::result(format_args!("{:<34}{}", "ceiling", held_out.ceiling.columns()))?;
    }
    console::result(format_args!("{}", CodecFile::path(&args.fitted_to.run).display()))
}
