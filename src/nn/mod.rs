//! What networks are made of: layers as composites of ops, initialisation, the optimiser and its
//! schedule.

mod adam;
mod init;
mod layers;
mod schedule;

pub use adam::{Adam, AdamSettings, LossScale, Outcome};
pub use init::initialise;
pub use layers::Builder;
pub use schedule::Schedule;
