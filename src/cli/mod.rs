//! The command line: one file per subcommand.

mod bench;
mod bottleneck;
mod check;
mod codec;
mod compare;
mod dataset;
mod demo;
mod devices;
mod diagnose;
mod extract;
mod frozen;
mod head;
mod inputs;
mod latent;
mod measured;
mod nearest;
mod prior;
mod rasterize;
mod report;
mod sample;
mod serve;
mod train;

use crate::console;
use crate::cuda::Precision;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::ranks::Ranks;
use clap::{Parser, Subcommand};
use std::rc::Rc;

/// 3-D meshes to compact latents and back, through six orthographic planes
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Args>),
    Rasterize(rasterize::Args),
    Extract(extract::Args),
    Encode(latent::EncodeArgs),
    Decode(latent::DecodeArgs),
    Compare(compare::Args),
    Codec(codec::Args),
    Prior(prior::Args),
    Sample(sample::SampleArgs),
    Interpolate(sample::InterpolateArgs),
    Head(head::Args),
    Dataset(dataset::Args),
    Diagnose(diagnose::Args),
    Report(report::Args),
    Serve(serve::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Check(check::Args),
    Devices(devices::Args),
}

/// Parses the arguments of the process and does what they say. Wrong usage ends the process with
/// exit code 2, as clap does.
pub fn run() -> Result<()> {
    let command = Cli::parse().command;
    let ranks = Rc::new(Ranks::start()?);
    let result = dispatch(command, &ranks);
    ranks.end(result)
}

fn dispatch(command: Command, ranks: &Rc<Ranks>) -> Result<()> {
    if !ranks.is_alone() && !matches!(command, Command::Train(_) | Command::Dataset(_)) {
        let problem =
            format!("{} processes were started, and only train and dataset use several", ranks.size());
        return ranks.agree(Err(Error::usage("mpirun", problem, "start the program by itself")));
    }
    match command {
        Command::Train(args) => train::run(&args, ranks),
        Command::Dataset(args) => dataset::run(args, ranks),
        Command::Rasterize(args) => rasterize::run(args),
        Command::Extract(args) => extract::run(args),
        Command::Encode(args) => latent::encode(args),
        Command::Decode(args) => latent::decode(args),
        Command::Compare(args) => compare::run(args),
        Command::Codec(args) => codec::run(args),
        Command::Prior(args) => prior::run(args),
        Command::Sample(args) => sample::sample(args),
        Command::Interpolate(args) => sample::interpolate(args),
        Command::Head(args) => head::run(args),
        Command::Diagnose(args) => diagnose::run(args),
        Command::Report(args) => report::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(args),
        Command::Devices(args) => devices::run(args),
    }
}

/// The device that a command computes on. Where `auto` passes a card over, a line says why, unless `quiet`.
fn device(choice: DeviceChoice, precision: Precision, quiet: bool) -> Result<Device> {
    let (device, refusals) = choice.select_with_reasons(precision)?;
    for why in refusals.iter().filter(|_| !quiet) {
        console::note(format_args!("hexcuda: computing on {device}; not used: {why}"));
    }
    Ok(device)
}

/// The same for one of several ranks: where no card is named, each of a machine begins with another one.
fn device_of(ranks: &Ranks, choice: DeviceChoice, precision: Precision, quiet: bool) -> Result<Device> {
    device(choice.for_rank(ranks.local()), precision, quiet)
}
