//! `hexcuda prior`: a second-stage prior over the latents of a trained run.

use super::codec::Frozen;
use super::inputs;
use super::latent::EXACT;
use crate::console;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::mesh::Mesh;
use crate::model::Autoencoder;
use crate::train::{Encoder, FitReport, FlowSettings, SecondStage, fit, load_model};
use std::path::PathBuf;

/// Of meshes without --held-out, every such one is set aside.
const SET_ASIDE: usize = 8;

/// Fit a prior to the latents of a trained run, for `hexcuda sample`
///
/// The network stays as it is. The prior is a flow from noise to latents: a Gaussian along their principal components,
/// and a network that adds what a Gaussian does not say, as far as meshes that were set aside gain by it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mesh files or folders of them, usually those that the run was trained on
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The run folder with the trained network, or one of its checkpoints; the prior is put there, in place of an earlier one
    #[arg(long)]
    run: PathBuf,
    /// Meshes that decide when to stop [default: every eighth input]
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    held_out: Vec<PathBuf>,
    /// Warped copies of each mesh to fit to beside it
    #[arg(long, value_name = "N", default_value_t = 0)]
    augment: usize,
    /// Updates of the prior's weights, of which the best one is kept
    #[arg(long, default_value_t = FlowSettings::default().steps)]
    steps: u64,
    /// Channels of the prior's network
    #[arg(long, default_value_t = FlowSettings::default().width)]
    width: usize,
    /// Of weights, noise and order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, EXACT, args.json || args.quiet)?;
    let (model, settings) = load_model(&args.run)?;
    let mut model = model.on(&device)?;
    let flow =
        FlowSettings { steps: args.steps, width: args.width, seed: args.seed, ..FlowSettings::default() };
    flow.validate()?;
    let (meshes, set_aside) = split(&args)?;
    let names = meshes.iter().map(|(name, _)| name.clone()).collect();
    let on = Frozen { settings: &settings, device: &device, run: &args.run };
    let fitted_to = latents(&on, &mut model, &meshes, args.augment)?;
    let judged = latents(&on, &mut model, &set_aside, 0)?;
    let (fitted, report) = fit(&fitted_to, &judged, &flow, &device)?;
    SecondStage::new(&model, flow, report.clone(), names)?.write(
        &args.run,
        &fitted,
        model.latent_extents(),
    )?;
    announce(&args, &report)
}

type Named = Vec<(String, Mesh)>;

/// Meshes to fit to, and meshes that are set aside.
fn split(args: &Args) -> Result<(Named, Named)> {
    let all = inputs::meshes(&args.inputs, 0)?;
    if !args.held_out.is_empty() {
        return Ok((all, inputs::meshes(&args.held_out, 0)?));
    }
    let (mut kept, mut aside) = (Vec::new(), Vec::new());
    for (at, mesh) in all.into_iter().enumerate() {
        if at % SET_ASIDE == SET_ASIDE - 1 { aside.push(mesh) } else { kept.push(mesh) }
    }
    Ok((kept, aside))
}

/// What the encoder says of meshes, and of warped copies of them.
fn latents(
    on: &Frozen,
    model: &mut Autoencoder,
    meshes: &[(String, Mesh)],
    copies: usize,
) -> Result<Vec<Vec<f32>>> {
    let items = on.items(meshes, copies)?;
    let mut encoder = Encoder::new(model)?;
    items.iter().map(|item| encoder.mean(model, &item.planes()?)).collect()
}

fn announce(args: &Args, report: &FitReport) -> Result<()> {
    if args.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| Error::new("the report", error, "report this"))?;
        return console::result(text);
    }
    if args.quiet {
        return Ok(());
    }
    let FitReport { latents, components, judged, .. } = report;
    console::result(format_args!("{components} principal components of {latents} latents"))?;
    if let (Some(gaussian), Some(error)) = (report.gaussian_error, report.error) {
        let kept = match report.step {
            0 => "no update of the network was better than the Gaussian, which is kept".to_string(),
            step => format!("the flow's {error:.4}, after update {step}"),
        };
        console::result(format_args!(
            "error on {judged} latents set aside: a Gaussian's {gaussian:.4}; {kept}"
        ))?;
    }
    console::result(format_args!("{}", SecondStage::path(&args.run).display()))
}
