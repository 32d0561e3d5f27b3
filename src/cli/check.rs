//! `hexcuda check`: the uniform check of every op, and on a card its optimiser, plane cache and geometry against the CPU's.

use crate::check::{GEOMETRY, check, check_geometry, check_training};
use crate::console;
use crate::cuda::Precision;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::ops::OPS;

/// Check every op: values against an f64 oracle, gradients against differences, determinism; on a card optimiser and geometry too
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How a card multiplies in convolutions: tf32 on the tensor cores, fp32 exactly; bf16 and fp16 also store
    /// activations and their gradients in 2 bytes a value. On the CPU bf16 multiplies on AMX, the rest is fp32
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
    /// Check this op alone, for example conv2d; on a card also rasterize, surface or distance
    #[arg(long, value_name = "NAME")]
    op: Option<String>,
    /// Print nothing but failures
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = super::device(args.device, args.precision, args.quiet)?;
    let mut failures = 0;
    if !args.quiet {
        console::result(format_args!(
            "{:<22}{:<46}{:>10}{:>10}{:>10}",
            "op", "case", "forward", "gradient", "allowed"
        ))?;
    }
    let wanted = |name: &str| args.op.as_ref().is_none_or(|op| op == name);
    let ops: Vec<_> = OPS.iter().filter(|op| wanted(op.name())).collect();
    let on_card = matches!(device, Device::Cuda(_));
    let geometry = GEOMETRY.into_iter().filter(|name| on_card && wanted(name)).count();
    if ops.is_empty() && geometry == 0 {
        let cards = GEOMETRY.into_iter().filter(|_| on_card);
        let names: Vec<&str> = OPS.iter().map(|op| op.name()).chain(cards).collect();
        return Err(Error::usage(
            "--op",
            "there is no such op",
            format!("choose one of {}", names.join(", ")),
        ));
    }
    let mut outcomes = Vec::new();
    for op in &ops {
        outcomes.extend(check(**op, &device)?);
    }
    if args.op.is_none() {
        outcomes.extend(check_training(&device)?);
    }
    outcomes.extend(check_geometry(&device, wanted)?);
    for outcome in outcomes {
        failures += usize::from(!outcome.failures.is_empty());
        if !args.quiet || !outcome.failures.is_empty() {
            let (op, case) = (outcome.op, &outcome.case);
            let (forward, gradient) = (outcome.forward_error, outcome.gradient_error);
            let words = outcome.failures.join("; ");
            console::result(format_args!(
                "{op:<22}{case:<46}{forward:>10.1e}{gradient:>10.1e}{:>10.1e}  {words}",
                outcome.tolerance
            ))?;
        }
    }
    if failures > 0 {
        return Err(Error::new(
            "check",
            format!("{failures} cases fail on {device}"),
            "report them with this table",
        ));
    }
    if !args.quiet {
        console::result(format_args!(
            "{} op(s) pass on {device}; errors are relative L2",
            ops.len() + geometry
        ))?;
    }
    Ok(())
}
