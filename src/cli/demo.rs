//! `hexcuda demo`: one head, trained on its depth and normals and on its silhouettes, side by side.

use super::inputs;
use super::latent::EXACT;
use super::report;
use super::serve::{Address, interrupt, until};
use crate::console;
use crate::device::{Device, DeviceChoice};
use crate::error::Result;
use crate::hexplane::Representation;
use crate::mesh::Mesh;
use crate::train::{self, Options, Preset, Settings};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Train the built-in head on depth and normals and on silhouettes, quickly, and serve both runs
///
/// The page is there from the start, so that it shows them train. A demonstration that was stopped goes on; one that is
/// whole is served as it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the two runs, continuous and binary
    #[arg(long)]
    out: PathBuf,
    /// End when both are trained, without a page
    #[arg(long)]
    no_serve: bool,
    #[command(flatten)]
    address: Address,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Settings in TOML in place of the preset quick
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Print nothing but errors and the address
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, EXACT, args.quiet)?;
    let pair = [Representation::Continuous, Representation::Binary];
    let settings = pair.map(|kind| Settings::load_for(args.preset(), Some(kind), args.config.as_deref()));
    let [continuous, binary] = settings;
    let settings = [("continuous", continuous?), ("binary", binary?)];
    settings.iter().try_for_each(|(_, settings)| settings.validate())?;
    let interrupt = interrupt()?;
    let server = args.address.serve_beside(&args.out, !args.no_serve)?;
    let meshes = inputs::meshes(&[], settings[0].1.seed)?;
    for (name, settings) in &settings {
        one(&args.out.join(name), settings, &meshes, (device.clone(), interrupt, args.quiet))?;
    }
    if let Some(server) = server {
        if !args.quiet {
            console::note("both are trained; Ctrl-C ends the page");
        }
        until(interrupt);
        server.stop();
    }
    Ok(())
}

impl Args {
    fn preset(&self) -> Option<Preset> {
        self.config.is_none().then_some(Preset::Quick)
    }
}

/// Trains one of the two, from where it was stopped.
fn one(
    out: &Path,
    settings: &Settings,
    meshes: &[(String, Mesh)],
    (device, interrupt, quiet): (Device, &AtomicBool, bool),
) -> Result<()> {
    if out.join("report.html").exists() {
        return Ok(());
    }
    if !quiet {
        console::note(format_args!("{}, preset {:?} on {device}", out.display(), settings.preset));
    }
    let options = Options {
        out: out.to_path_buf(),
        held_out: Vec::new(),
        resume: out.join("checkpoint.safetensors").exists(),
        time: None,
        quiet,
        tensorboard: false,
        device,
        interrupt,
    };
    train::train(settings, meshes, &options)?;
    report::of_trained(out, quiet)
}
