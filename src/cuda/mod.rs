//! What we ask of the CUDA driver. It is loaded at run time: without it nothing fails.

use cudarc::driver::{result, sys};
use std::fmt;

/// The driver as this machine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverState {
    /// No driver library can be loaded.
    Absent,
    /// The library is there and does not work.
    Broken(String),
    /// The names of the cards.
    Cards(Vec<String>),
}

/// Looks for the driver and its cards.
pub fn driver_state() -> DriverState {
    // SAFETY: only looks whether the dynamic library can be loaded; cudarc asks for nothing else.
    if !unsafe { sys::is_culib_present() } {
        return DriverState::Absent;
    }
    cards().map_or_else(DriverState::Broken, DriverState::Cards)
}

fn cards() -> Result<Vec<String>, String> {
    let words = |error: result::DriverError| format!("{error:?}");
    result::init().map_err(words)?;
    let count = result::device::get_count().map_err(words)?;
    let name = |index| {
        let device = result::device::get(index).map_err(words)?;
        result::device::get_name(device).map_err(words)
    };
    (0..count).map(name).collect()
}

impl fmt::Display for DriverState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no CUDA driver is installed"),
            Self::Broken(why) => write!(f, "the CUDA driver does not start: {why}"),
            Self::Cards(cards) if cards.is_empty() => f.write_str("the CUDA driver finds no card"),
            Self::Cards(cards) => write!(f, "the CUDA driver finds {}", cards.join(", ")),
        }
    }
}
