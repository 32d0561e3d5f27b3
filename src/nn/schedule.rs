//! Learning rates over the steps of a run.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same rate throughout (the study's setting).
    Constant,
    /// Linear warm-up over the first 5 % of the steps (at most 100), then half a cosine down to 2 %
    /// of the rate (Loshchilov & Hutter, "SGDR", ICLR 2017, without restarts).
    Cosine,
    /// Linear warm-up over the first 10 % of the steps (at most 100), the full rate, and over the last 30 % a line down
    /// to 2 % of it: warm-up, stable, decay (Hu et al., "MiniCPM", 2024; Zhai et al., "Scaling Vision
    /// Transformers", CVPR 2022). docs/performance.md, "Time to quality", has what it saves beside a cosine.
    Plateau,
}

/// What is left of the rate at the end.
const FLOOR: f64 = 0.02;
/// Share of the steps over which a plateau falls.
const DECAY: f64 = 0.3;

impl Schedule {
    /// The factor on the learning rate at `step` (from 0) of `steps`.
    pub fn factor(self, step: u64, steps: u64) -> f64 {
        let share = match self {
            Self::Constant => return 1.0,
            Self::Cosine => 20,
            Self::Plateau => 10,
        };
        let warm_up = (steps / share).clamp(1, 100);
        if step < warm_up {
            return (step + 1) as f64 / warm_up as f64;
        }
        let progress = (step - warm_up) as f64 / steps.saturating_sub(warm_up).max(1) as f64;
        let left = match self {
            Self::Plateau => ((steps.saturating_sub(step)) as f64 / (DECAY * steps as f64)).min(1.0),
            _ => 0.5 * (1.0 + (PI * progress.min(1.0)).cos()),
        };
        FLOOR + (1.0 - FLOOR) * left
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

    #[test]
    fn a_plateau_rises_stays_and_falls_along_a_line() {
        let factor = |step| Schedule::Plateau.factor(step, 1000);
        assert!((0..100).all(|step| (factor(step) - (step + 1) as f64 / 100.0).abs() < 1e-12));
        assert!((99..=700).all(|step| factor(step) == 1.0));
        // From 1 at step 700 to 0.02 at the end.
        let line = |step: u64| 1.0 - 0.98 * (step - 700) as f64 / 300.0;
        assert!((700..1000).all(|step| (factor(step) - line(step)).abs() < 1e-12));
        // A resumed run may be past its end.
        assert_eq!(factor(2000), 0.02);
        // Few steps: every one of them moves the weights.
        assert!((1..20).all(|steps| (0..steps).all(|step| Schedule::Plateau.factor(step, steps) > 0.0)));
    }
}
