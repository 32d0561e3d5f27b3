//! Learning rates over the steps of a run.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same rate throughout (the study's setting).
    Constant,
    /// Linear warm-up over the first 5 % of the steps (at most 100), then half a cosine down to 2 %
    /// of the rate (Loshchilov & Hutter, "SGDR", ICLR 2017, without restarts).
    Cosine,
}

impl Schedule {
    /// The factor on the learning rate at `step` (from 0) of `steps`.
    pub fn factor(self, step: u64, steps: u64) -> f64 {
        if self == Self::Constant {
            return 1.0;
        }
        let warm_up = (steps / 20).clamp(1, 100);
        if step < warm_up {
            return (step + 1) as f64 / warm_up as f64;
        }
        let progress = (step - warm_up) as f64 / steps.saturating_sub(warm_up).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        0.02 + 0.98 * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn cosine_rises_then_falls() {
        let factor = |step| Schedule::Cosine.factor(step, 1000);
        assert!((factor(49) - 1.0).abs() < 1e-12);
        assert!(factor(0) < 0.03 && factor(999) < 0.021);
        assert!((60..999).all(|step| factor(step) > factor(step + 1)));
        assert_eq!(Schedule::Constant.factor(999, 1000), 1.0);
    }
}
