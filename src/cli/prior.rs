//! `hexcuda prior`: a second-stage prior over the latents of a trained run.

use super::frozen::{self, Frozen};
use crate::console;
use crate::error::{Error, Result};
use crate::train::{Encoder, FitReport, FlowSettings, Item, SecondStage, fit};
use std::path::PathBuf;

/// Of meshes without --held-out, every such one is set aside.
const SET_ASIDE: usize = 8;

/// Fit a prior to the latents of a trained run, for `hexcuda sample`
///
/// The network stays as it is. The prior is a flow from noise to latents: a Gaussian along their principal components,
/// and a network that adds what a Gaussian does not say, as far as meshes that were set aside gain by it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    fitted_to: frozen::Options,
    /// Meshes (files, folders or sets) that decide when to stop [default: every eighth input]
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    held_out: Vec<PathBuf>,
    /// Updates of the prior's weights, of which the best one is kept
    #[arg(long, default_value_t = FlowSettings::default().steps)]
    steps: u64,
    /// Channels of the prior's network
    #[arg(long, default_value_t = FlowSettings::default().width)]
    width: usize,
    /// Of weights, noise and order
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let mut run = args.fitted_to.network()?;
    let flow =
        FlowSettings { steps: args.steps, width: args.width, seed: args.seed, ..FlowSettings::default() };
    flow.validate()?;
    let sources = run.sources()?;
    let (sources, set_aside) = if args.held_out.is_empty() {
        let (kept, aside) = sources.without_every(SET_ASIDE);
        (kept, run.items(aside, 0)?)
    } else {
        (sources, run.judged(&args.held_out)?)
    };
    let names = sources.names();
    let fitted_to = run.items(sources, args.fitted_to.augment)?;
    let (fitted_to, judged) = (latents(&mut run, &fitted_to)?, latents(&mut run, &set_aside)?);
    let (fitted, report) = fit(&fitted_to, &judged, &flow, &run.device)?;
    let stage = SecondStage::new(&run.model, flow, report.clone(), names)?;
    stage.write(&args.fitted_to.run, &fitted, run.model.latent_extents())?;
    announce(&args, &report)
}

/// What the encoder says of meshes.
fn latents(run: &mut Frozen, items: &[Item]) -> Result<Vec<Vec<f32>>> {
    let mut encoder = Encoder::new(&mut run.model)?;
    items.iter().map(|item| encoder.mean(&run.model, &item.planes()?)).collect()
}

fn announce(args: &Args, report: &FitReport) -> Result<()> {
    if args.fitted_to.json {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| Error::new("the report", error, "report this"))?;
        return console::result(text);
    }
    if args.fitted_to.quiet {
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
    console::result(format_args!("{}", SecondStage::path(&args.fitted_to.run).display()))
}
