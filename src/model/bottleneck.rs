//! What kind of latent a network has, and the numbers that control it: the section `[latent]` of the settings.

use crate::error::{Error, Result};
use crate::ops::{LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE, Reduction};
use serde::{Deserialize, Serialize};

/// What stands between encoder and decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LatentKind {
    /// The encoder's output as it is.
    #[default]
    Deterministic,
    /// A Gaussian of the encoder's mean and variance, its prior standard normal.
    Gaussian,
}

/// The section `[latent]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bottleneck {
    pub kind: LatentKind,
    /// Weight of the KL divergence beside the reconstruction (the study: 1e-6).
    pub beta: f64,
    /// Steps over which the weight rises along a line from 0 (the study: 3,000); 0: none.
    pub kl_warmup: u64,
    /// Most that the weighted divergence adds to the loss; above it has no gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_cap: Option<f32>,
    /// Nats that each latent dimension has for nothing.
    pub free_bits: f32,
    pub kl_reduction: Reduction,
    /// The log-variance of every posterior at the start.
    pub initial_log_variance: f32,
}

impl Default for Bottleneck {
    fn default() -> Self {
        Self {
            kind: LatentKind::Deterministic,
            beta: 1e-6,
            kl_warmup: 0,
            kl_cap: None,
            free_bits: 0.0,
            kl_reduction: Reduction::Sum,
            initial_log_variance: -6.0,
        }
    }
}

/// Of every latent with a rate.
const OF_RATE: [&str; 5] = ["beta", "kl_warmup", "kl_cap", "free_bits", "kl_reduction"];

impl LatentKind {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Gaussian => "gaussian",
        }
    }

    /// Whether a key of the section means anything for this kind.
    fn has(self, key: &str) -> bool {
        match self {
            Self::Deterministic => false,
            Self::Gaussian => OF_RATE.contains(&key) || key == "initial_log_variance",
        }
    }
}

impl Bottleneck {
    /// Whether the numbers make sense together. `given` are keys that somebody asked for by name.
    ///
    /// # Errors
    /// Wrong usage, where a key that differs from its default or was given means nothing for this kind, too.
    pub fn validate(&self, given: &[&str]) -> Result<()> {
        let remedy = "change the option or the line of the configuration file";
        let wrong = |problem: String| Err(Error::usage("settings", problem, remedy));
        let (ours, usual) = (self.to_table()?, Self::default().to_table()?);
        let differs = ours.iter().filter(|(key, value)| usual.get(*key) != Some(value));
        let mut asked_for = given.iter().copied().chain(differs.map(|(key, _)| key.as_str()));
        if let Some(key) = asked_for.find(|&key| key != "kind" && !self.kind.has(key)) {
            return wrong(format!("{key} means nothing for a {} latent", self.kind.name()));
        }
        let range = LEAST_LOG_VARIANCE..=MOST_LOG_VARIANCE;
        if !(self.beta.is_finite() && self.beta >= 0.0) {
            wrong(format!("beta is {}, expected a number of at least 0", self.beta))
        } else if self.kl_cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
            wrong(format!("kl_cap is {}, expected a positive number", self.kl_cap.unwrap_or_default()))
        } else if !(self.free_bits.is_finite() && self.free_bits >= 0.0) {
            wrong(format!("free_bits is {}, expected a number of at least 0", self.free_bits))
        } else if !range.contains(&self.initial_log_variance) {
            wrong(format!("initial_log_variance is {}, expected -30 to 20", self.initial_log_variance))
        } else {
            Ok(())
        }
    }

    /// The weight of the divergence at `step` (from 0).
    pub fn kl_weight(&self, step: u64) -> f64 {
        if step >= self.kl_warmup { self.beta } else { self.beta * step as f64 / self.kl_warmup as f64 }
    }

    fn to_table(&self) -> Result<toml::Table> {
        toml::Table::try_from(self).map_err(|error| Error::new("settings", error, "report this"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_rises_along_a_line() {
        let latent = Bottleneck { beta: 2.0, kl_warmup: 4, ..Bottleneck::default() };
        assert_eq!([0, 1, 2, 3, 4, 9].map(|step| latent.kl_weight(step)), [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]);
        assert_eq!(Bottleneck::default().kl_weight(0), 1e-6);
    }

    #[test]
    fn what_means_nothing_for_the_kind_is_refused() {
        let refused = |latent: &Bottleneck, given: &[&str]| latent.validate(given).unwrap_err().to_string();
        let plain = Bottleneck::default();
        plain.validate(&[]).unwrap();
        assert!(refused(&plain, &["beta"]).contains("beta means nothing for a deterministic latent"));
        let capped = Bottleneck { kl_cap: Some(1.0), ..plain.clone() };
        assert!(refused(&capped, &[]).contains("kl_cap means nothing"));
        let gaussian = Bottleneck { kind: LatentKind::Gaussian, ..capped };
        gaussian.validate(&["beta", "kl_cap"]).unwrap();
        for (latent, part) in [
            (Bottleneck { beta: -1.0, ..gaussian.clone() }, "beta is -1"),
            (Bottleneck { beta: f64::NAN, ..gaussian.clone() }, "beta is NaN"),
            (Bottleneck { kl_cap: Some(0.0), ..gaussian.clone() }, "kl_cap is 0"),
            (Bottleneck { free_bits: f32::INFINITY, ..gaussian.clone() }, "free_bits is inf"),
            (Bottleneck { initial_log_variance: 21.0, ..gaussian }, "initial_log_variance is 21"),
        ] {
            assert!(refused(&latent, &[]).contains(part), "{part}");
        }
    }
}
