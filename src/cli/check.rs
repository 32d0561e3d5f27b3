//! `hexcuda check`: the uniform check of every op.

use crate::check::check;
use crate::console;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::ops::OPS;

/// Check every op: values against an f64 oracle, gradients against differences, determinism
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Print nothing but failures
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> Result<()> {
    let device = args.device.select()?;
    let mut failures = 0;
    if !args.quiet {
        console::result(format_args!(
            "{:<18}{:<34}{:>10}{:>10}{:>10}",
            "op", "case", "forward", "gradient", "allowed"
        ))?;
    }
    for outcome in OPS.iter().flat_map(|op| check(*op)) {
        failures += usize::from(!outcome.failures.is_empty());
        if !args.quiet || !outcome.failures.is_empty() {
            let (op, case) = (outcome.op, &outcome.case);
            let (forward, gradient) = (outcome.forward_error, outcome.gradient_error);
            let words = outcome.failures.join("; ");
            console::result(format_args!(
                "{op:<18}{case:<34}{forward:>10.1e}{gradient:>10.1e}{:>10.1e}  {words}",
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
        console::result(format_args!("all {} ops pass on {device}; errors are relative L2", OPS.len()))?;
    }
    Ok(())
}
