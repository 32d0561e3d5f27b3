//! Training: settings, data, the step, checkpoints, the loop and what a run leaves behind.

mod augment;
mod bottleneck;
pub mod budget;
mod checkpoint;
mod data;
mod evaluate;
mod likelihood;
mod log;
pub mod page;
mod prior;
mod results;
mod run;
mod second_stage;
mod settings;
mod step_file;
mod trainer;

pub use checkpoint::{Checkpoint, load_model};
pub use data::{Item, Prepare};
pub use evaluate::{Decoder, Encoder, highest_of_planes, linear_planes, mesh_of_planes};
pub use likelihood::{Likelihood, LikelihoodKind};
pub use log::{LogRow, MetricsLog};
pub use prior::{Prior, start_prior};
pub use run::{Options, prepare_all, train};
pub use second_stage::{FitReport, FlowSettings, SecondStage, fit};
pub use settings::{Extraction, Initialisation, Preset, Settings, Training};
pub use step_file::{StepInputs, write_step};
pub use trainer::{GradientParts, Losses, Trainer, Wait};
