//! `hexcuda devices`: what is there and what would be used.

use crate::console;
use crate::cuda::{DriverState, Precision, driver_state};
use crate::device::{DeviceChoice, Kind};
use crate::error::Result;
use crate::train::budget::{Budget, REFERENCE, REFERENCE_BYTES, on_card};
use crate::train::{Preset, Settings};

/// Show what computes here, why not the rest, and the memory that each preset takes
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<()> {
    let (used, refusals) = DeviceChoice::Auto.select_with_reasons(Precision::default())?;
    console::result(format_args!("used: {used}"))?;
    console::result(format_args!("cuda: {}", driver_state()))?;
    if let DriverState::Cards(_) = driver_state() {
        refusals.iter().try_for_each(|why| console::result(format_args!("not used: {why}")))?;
    }
    let card = match driver_state() {
        DriverState::Cards(cards) => cards.into_iter().find(|card| card.unfit().is_none()),
        DriverState::Absent | DriverState::Broken(_) => None,
    };
    let (name, kind, bytes) = match &card {
        Some(card) => {
            let kind = Kind::Cuda { multiprocessors: card.multiprocessors, precision: Precision::default() };
            (card.name.as_str(), kind, card.memory)
        }
        None => ("a card of 12 GB such as an RTX 3060", REFERENCE, REFERENCE_BYTES),
    };
    console::result(format_args!("memory of a training step of one mesh on {name}:"))?;
    for preset in [Preset::Quick, Preset::Standard, Preset::Paper] {
        let mut settings = Settings::preset(preset);
        settings.training.batch = 1;
        let budget = Budget::new(&settings, kind, 1)?;
        let name = format!("{preset:?}").to_lowercase();
        console::result(format_args!("{name:<10}{}", on_card(&budget, bytes)))?;
    }
    Ok(())
}
