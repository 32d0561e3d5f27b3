//! What kind of latent a network has, and the numbers that control it: the section `[latent]` of the settings.

use super::PriorKind;
use crate::error::{Error, Result};
use crate::ops::{LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE, Reduction};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// What stands between encoder and decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LatentKind {
    /// The encoder's output as it is.
    #[default]
    Deterministic,
    /// A Gaussian of the encoder's mean and variance.
    Gaussian,
    /// Groups of classes at each site, drawn by Gumbel-softmax, their prior uniform.
    Categorical,
    /// Each channel rounded to the nearest of a few levels (finite scalar quantisation).
    Fsq,
}

/// The section `[latent]`. A file has the keys that mean something for the kind: a run of another kind does not depend on
/// what they are by default.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bottleneck {
    pub kind: LatentKind,
    /// Weight of the KL divergence beside the reconstruction (the study: 1e-6).
    pub beta: f64,
    /// Steps over which the weight rises along a line from 0 (the study: 3,000); 0: none.
    pub kl_warmup: u64,
    /// Most that the weighted divergence adds to the loss; above it has no gradient.
    pub kl_cap: Option<f64>,
    /// Nats that each latent dimension has for nothing.
    pub free_bits: f64,
    pub kl_reduction: Reduction,
    /// The log-variance of every posterior at the start.
    pub initial_log_variance: f64,
    pub prior: PriorKind,
    /// Of a learned prior.
    pub components: usize,
    /// Of a group of a categorical latent.
    pub classes: usize,
    /// Of classes at each site.
    pub groups: usize,
    /// Of Gumbel-softmax in the first step and in the last; between, its logarithm falls along a line.
    pub temperature: f64,
    pub temperature_end: f64,
    /// Of the channels in turn.
    pub fsq_levels: Vec<usize>,
    /// Of a deterministic latent: what a bit of a mesh weighs beside the reconstruction; 0 trains for no rate.
    pub rate_weight: f64,
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
            prior: PriorKind::Standard,
            components: 8,
            classes: 64,
            groups: 32,
            temperature: 1.0,
            temperature_end: 0.5,
            fsq_levels: vec![63],
            rate_weight: 0.0,
        }
    }
}

/// Bounds that keep the products of sizes far from overflow; memory runs out long before.
const MOST_CLASSES: usize = 1 << 24;
const MOST_LEVELS: usize = 1 << 12;
pub const MOST_COMPONENTS: usize = 1 << 12;

/// Of every latent with a rate.
const OF_RATE: [&str; 5] = ["beta", "kl_warmup", "kl_cap", "free_bits", "kl_reduction"];

impl LatentKind {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::Gaussian => "gaussian",
            Self::Categorical => "categorical",
            Self::Fsq => "fsq",
        }
    }

    /// Whether a key of the section means anything for this kind.
    fn has(self, key: &str) -> bool {
        match self {
            Self::Deterministic => key == "rate_weight",
            Self::Gaussian => {
                OF_RATE.contains(&key) || ["initial_log_variance", "prior", "components"].contains(&key)
            }
            Self::Categorical => {
                OF_RATE.contains(&key)
                    || ["classes", "groups", "temperature", "temperature_end"].contains(&key)
            }
            Self::Fsq => key == "fsq_levels",
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
        let usual = Self::default().entries();
        let differs = self.entries().into_iter().filter(|entry| !usual.contains(entry));
        let mut asked_for = given.iter().copied().chain(differs.map(|(key, _)| key));
        if let Some(key) = asked_for.find(|&key| key != "kind" && !self.kind.has(key)) {
            return wrong(format!("{key} means nothing for a {} latent", self.kind.name()));
        }
        let learned = self.prior != PriorKind::Standard;
        if !learned && (self.components != Self::default().components || given.contains(&"components")) {
            return wrong("components means nothing for a standard prior".to_string());
        }
        if learned && self.free_bits > 0.0 {
            return wrong(
                "free_bits needs a standard prior: others have no divergence of a dimension".to_string(),
            );
        }
        let range = f64::from(LEAST_LOG_VARIANCE)..=f64::from(MOST_LOG_VARIANCE);
        if !(self.beta.is_finite() && self.beta >= 0.0) {
            wrong(format!("beta is {}, expected a number of at least 0", self.beta))
        } else if !(self.rate_weight.is_finite() && self.rate_weight >= 0.0) {
            wrong(format!("rate_weight is {}, expected a number of at least 0", self.rate_weight))
        } else if self.kl_cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
            wrong(format!("kl_cap is {}, expected a positive number", self.kl_cap.unwrap_or_default()))
        } else if !(self.free_bits.is_finite() && self.free_bits >= 0.0) {
            wrong(format!("free_bits is {}, expected a number of at least 0", self.free_bits))
        } else if !range.contains(&self.initial_log_variance) {
            wrong(format!("initial_log_variance is {}, expected -30 to 20", self.initial_log_variance))
        } else if !(1..=MOST_COMPONENTS).contains(&self.components) {
            wrong(format!("components is {}, expected 1 to {MOST_COMPONENTS}", self.components))
        } else if !(2..=MOST_CLASSES).contains(&self.classes) || !(1..=MOST_CLASSES).contains(&self.groups) {
            wrong(format!(
                "{} classes in {} groups, expected 2 to {MOST_CLASSES} in at least one group",
                self.classes, self.groups
            ))
        } else if ![self.temperature, self.temperature_end].iter().all(|t| (1e-3..=1e3).contains(t)) {
            wrong("temperature and temperature_end must lie between 0.001 and 1,000".to_string())
        } else if self.fsq_levels.is_empty()
            || !self.fsq_levels.iter().all(|levels| (2..=MOST_LEVELS).contains(levels))
        {
            wrong(format!("fsq_levels is {:?}, expected 2 to {MOST_LEVELS} a channel", self.fsq_levels))
        } else {
            Ok(())
        }
    }

    /// The temperature at `step` (from 0) of `steps`.
    pub fn temperature_at(&self, step: u64, steps: u64) -> f32 {
        let progress = (step as f64 / steps.saturating_sub(1).max(1) as f64).min(1.0);
        (self.temperature.ln() * (1.0 - progress) + self.temperature_end.ln() * progress).exp() as f32
    }

    /// Levels of a channel at most.
    pub fn most_levels(&self) -> usize {
        self.fsq_levels.iter().copied().max().unwrap_or_default()
    }

    /// The weight of the divergence at `step` (from 0).
    pub fn kl_weight(&self, step: u64) -> f64 {
        if step >= self.kl_warmup { self.beta } else { self.beta * step as f64 / self.kl_warmup as f64 }
    }

    /// Whether a deterministic latent is trained for a number of bits.
    pub fn has_rate(&self) -> bool {
        self.kind == LatentKind::Deterministic && self.rate_weight > 0.0
    }

    /// The weight of nats or bits at `step` (from 0).
    pub fn weight_at(&self, step: u64) -> f64 {
        if self.has_rate() { self.rate_weight } else { self.kl_weight(step) }
    }

    /// Every key with its value, but for a cap or a weight of bits that is not there and the components of a standard prior.
    fn entries(&self) -> Vec<(&'static str, toml::Value)> {
        use toml::Value;
        let integer = |n: u64| Value::Integer(n.try_into().unwrap_or(i64::MAX));
        let mut entries = vec![
            ("kind", Value::from(self.kind.name())),
            ("beta", Value::from(self.beta)),
            ("kl_warmup", integer(self.kl_warmup)),
            ("free_bits", Value::from(self.free_bits)),
            ("kl_reduction", Value::from(self.kl_reduction.name())),
            ("initial_log_variance", Value::from(self.initial_log_variance)),
            ("prior", Value::from(self.prior.name())),
            ("classes", integer(self.classes as u64)),
            ("groups", integer(self.groups as u64)),
            ("temperature", Value::from(self.temperature)),
            ("temperature_end", Value::from(self.temperature_end)),
            ("fsq_levels", Value::Array(self.fsq_levels.iter().map(|&n| integer(n as u64)).collect())),
        ];
        if self.prior != PriorKind::Standard {
            entries.push(("components", integer(self.components as u64)));
        }
        if self.rate_weight != 0.0 {
            entries.push(("rate_weight", Value::from(self.rate_weight)));
        }
        entries.extend(self.kl_cap.map(|cap| ("kl_cap", Value::from(cap))));
        entries
    }
}

impl Serialize for Bottleneck {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let entries = self.entries().into_iter();
        for (key, value) in entries.filter(|(key, _)| *key == "kind" || self.kind.has(key)) {
            map.serialize_entry(key, &value)?;
        }
        map.end()
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
    fn the_temperature_falls_from_the_first_step_to_the_last() {
        let latent = Bottleneck { temperature: 4.0, temperature_end: 0.25, ..Bottleneck::default() };
        let found = [0, 1, 2, 3, 4, 9].map(|step| latent.temperature_at(step, 5));
        for (found, expected) in found.into_iter().zip([4.0, 2.0, 1.0, 0.5, 0.25, 0.25]) {
            assert!((found / expected - 1.0f32).abs() < 1e-6, "{found} beside {expected}");
        }
        assert_eq!(latent.temperature_at(0, 1), 4.0);
    }

    #[test]
    fn a_file_has_what_means_something_and_reads_as_it_was() {
        for kind in
            [LatentKind::Deterministic, LatentKind::Gaussian, LatentKind::Categorical, LatentKind::Fsq]
        {
            let mut latent = Bottleneck { kind, ..Bottleneck::default() };
            if kind == LatentKind::Gaussian {
                latent = Bottleneck { kl_cap: Some(0.1), beta: 3e-7, kl_warmup: 7, ..latent };
            }
            if kind == LatentKind::Deterministic {
                // A file without a rate is one of programs that had none.
                assert!(!toml::to_string(&latent).unwrap().contains("rate_weight"));
                latent.rate_weight = 2e-6;
            }
            let text = toml::to_string(&latent).unwrap();
            assert_eq!(toml::from_str::<Bottleneck>(&text).unwrap(), latent, "{text}");
            assert_eq!(
                text.contains("beta"),
                [LatentKind::Gaussian, LatentKind::Categorical].contains(&kind)
            );
        }
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
            (Bottleneck { free_bits: f64::INFINITY, ..gaussian.clone() }, "free_bits is inf"),
            (Bottleneck { initial_log_variance: 21.0, ..gaussian.clone() }, "initial_log_variance is 21"),
            (Bottleneck { rate_weight: 1e-6, ..gaussian }, "rate_weight means nothing for a gaussian latent"),
            (Bottleneck { rate_weight: -1.0, ..Bottleneck::default() }, "rate_weight is -1"),
            (Bottleneck { rate_weight: f64::NAN, ..Bottleneck::default() }, "rate_weight is NaN"),
        ] {
            assert!(refused(&latent, &[]).contains(part), "{part}");
        }
    }
}
