//! The options of `hexcuda train` that choose and control the latent.

use crate::error::Result;
use crate::model::{Bottleneck, LatentKind, PriorKind};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Latent")]
pub struct Options {
    /// What stands between encoder and decoder [default: deterministic]
    #[arg(long, value_name = "KIND")]
    latent: Option<LatentKind>,
    /// Weight of the KL divergence [default: 1e-6]
    #[arg(long)]
    beta: Option<f64>,
    /// Steps over which that weight rises from 0 [default: 0]
    #[arg(long, value_name = "STEPS")]
    kl_warmup: Option<u64>,
    /// Most that the weighted divergence adds to the loss; above it has no gradient [default: none]
    #[arg(long, value_name = "LOSS")]
    kl_cap: Option<f64>,
    /// Nats that each latent dimension has for nothing [default: 0]
    #[arg(long, value_name = "NATS")]
    free_bits: Option<f64>,
    /// Of a gaussian latent [default: standard]
    #[arg(long)]
    prior: Option<PriorKind>,
    /// Of a learned prior [default: 8]
    #[arg(long, value_name = "K")]
    components: Option<usize>,
    /// Classes of a group of a categorical latent [default: 64]
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Groups of classes at each site of a categorical latent [default: 32]
    #[arg(long, value_name = "G")]
    groups: Option<usize>,
    /// Levels of the channels of an fsq latent in turn, for example 8,5,5,5 [default: 63]
    #[arg(long, value_name = "L,...", value_delimiter = ',')]
    fsq_levels: Option<Vec<usize>>,
    /// Of a deterministic latent: train for few bits, each with this weight in the loss; from 1e-7 (fine) to 1e-5 (coarse) [default: 0, not
    /// at all]
    #[arg(long, value_name = "WEIGHT")]
    rate: Option<f64>,
}

impl Options {
    /// Writes what was given into `latent`.
    ///
    /// # Errors
    /// Where an option means nothing for the kind of latent.
    pub fn apply(&self, latent: &mut Bottleneck) -> Result<()> {
        let mut given = Vec::new();
        set(&mut latent.kind, self.latent, "kind", &mut given);
        set(&mut latent.beta, self.beta, "beta", &mut given);
        set(&mut latent.kl_warmup, self.kl_warmup, "kl_warmup", &mut given);
        set(&mut latent.kl_cap, self.kl_cap.map(Some), "kl_cap", &mut given);
        set(&mut latent.free_bits, self.free_bits, "free_bits", &mut given);
        set(&mut latent.prior, self.prior, "prior", &mut given);
        set(&mut latent.components, self.components, "components", &mut given);
        set(&mut latent.classes, self.classes, "classes", &mut given);
        set(&mut latent.groups, self.groups, "groups", &mut given);
        set(&mut latent.fsq_levels, self.fsq_levels.clone(), "fsq_levels", &mut given);
        set(&mut latent.rate_weight, self.rate, "rate_weight", &mut given);
        latent.validate(&given)
    }
}

fn set<T>(slot: &mut T, value: Option<T>, key: &'static str, given: &mut Vec<&str>) {
    if let Some(value) = value {
        *slot = value;
        given.push(key);
    }
}
