//! `hexcuda devices`: what is there and what would be used.

use crate::console;
use crate::cuda::driver_state;
use crate::device::DeviceChoice;
use crate::error::Result;
use crate::train::{Preset, Settings, Trainer};

/// Show what computes here, why not the rest, and the memory that each preset takes
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<()> {
    console::result(format_args!("used: {}", DeviceChoice::Auto.select()?))?;
    console::result(format_args!("cuda: {}; the engine of this version runs on the CPU", driver_state()))?;
    console::result(format_args!("memory of a training step, MiB:"))?;
    console::result(format_args!(
        "{:<10}{:>12}{:>14}{:>14}{:>10}",
        "preset", "parameters", "with adam", "step arena", "in all"
    ))?;
    for preset in [Preset::Quick, Preset::Standard, Preset::Paper] {
        let mut settings = Settings::preset(preset);
        settings.training.batch = 1;
        let trainer = Trainer::new(&settings, 1, None)?;
        let mib = |floats: usize| floats as f64 * 4.0 / f64::from(1 << 20);
        let (parameters, arena) = (trainer.model.layout.len(), trainer.plan().arena_len());
        console::result(format_args!(
            "{:<10}{:>12}{:>14.1}{:>14.1}{:>10.1}",
            format!("{preset:?}").to_lowercase(),
            trainer.model.parameter_count(),
            mib(4 * parameters),
            mib(arena),
            mib(4 * parameters + arena)
        ))?;
    }
    Ok(())
}
