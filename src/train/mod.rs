//! Training: settings, data, the step, checkpoints, the loop and what a run leaves behind.

mod augment;
mod augmentation;
mod bottleneck;
pub mod budget;
mod checkpoint;
mod codec;
mod data;
mod evaluate;
mod given;
mod likelihood;
mod log;
mod prior;
mod rate;
mod results;
mod run;
mod second_stage;
mod sets;
mod settings;
mod snapshots;
mod step_file;
mod tensorboard;
mod trainer;
mod validation;

pub use augmentation::Augmentation;
pub use checkpoint::{Checkpoint, load_model};
pub use codec::{
    Alphabet, CodeEncoder, CodecFile, CodecSettings, channel_gains, fit_codec, fit_indices, fit_values,
    latent_of_code,
};
pub use data::{Item, Prepare};
pub use evaluate::{Decoder, Encoder, highest_of_planes, linear_planes, mesh_of_planes};
pub use given::{Inputs, SetInput, mesh_folder};
pub use likelihood::{Likelihood, LikelihoodKind};
pub use log::{LogRow, MetricsFollower, MetricsLog, columns, is_growing, values};
pub use prior::{Prior, start_prior};
pub use rate::start_rate;
pub use run::{Options, prepare_all, train, train_among, train_on};
pub use second_stage::{FitReport, FlowSettings, SecondStage, fit};
pub use sets::{Given, all_of, trained_on};
pub use settings::{Extraction, Initialisation, Preset, Settings, Training};
pub use snapshots::{Snapshots, list_snapshots, snapshot_path, snapshot_steps};
pub use step_file::{StepInputs, write_step};
pub use tensorboard::EVENT_FILE;
pub use trainer::{GradientParts, Losses, SharedTimes, Trainer, Wait};
pub use validation::Validation;
