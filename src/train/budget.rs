//! The memory of a run on a card, worked out before anything is allocated there.

use super::Settings;
use super::trainer::{InboxLayout, record};
use crate::cuda::{Inbox, Precision};
use crate::device::Kind;
use crate::error::{Error, Result};
use crate::tape::{Graph, Plan};
use std::fmt;

/// Bytes of a card left to the driver, to code and to small buffers.
const RESERVE: usize = 256 << 20;

/// The card of reference: an RTX 3060 of 12 GB.
pub const fn reference(precision: Precision) -> Kind {
    Kind::Cuda { multiprocessors: 28, precision }
}
pub const REFERENCE: Kind = reference(Precision::Tf32);
pub const REFERENCE_BYTES: usize = 12 << 30;

const MIB: f64 = (1 << 20) as f64;

/// What a training step holds, and what a mesh takes in the plane cache.
pub struct Budget {
    /// Learned values.
    pub parameters: usize,
    /// Floats of one block of them, as it lies in memory.
    pub block: usize,
    on: Kind,
    pub plan: Plan,
    /// Bytes of a mesh's planes in the cache.
    pub mesh: usize,
    /// Bytes of the inputs of two steps, sent ahead.
    pub inbox: usize,
}

impl Budget {
    /// For steps of `batch` meshes.
    pub fn new(settings: &Settings, on: Kind, batch: usize) -> Result<Self> {
        let mut model = settings.network_without_values()?;
        let mut graph = Graph::default();
        let recorded = record(&mut model, &mut graph, settings, batch)?;
        let plan = graph.plan(on, Some(recorded.loss), &recorded.kept())?;
        let a = &settings.architecture;
        let values = a.plane_values();
        let mesh = values * settings.training.plane_cache.bytes();
        let inbox = match on {
            Kind::Cpu(_) => 0,
            Kind::Cuda { .. } => Inbox::size(InboxLayout::new(settings, values, batch).len()),
        };
        Ok(Self { parameters: model.parameter_count(), block: model.layout.len(), on, plan, mesh, inbox })
    }

    /// Bytes on a card without the cache: weights, gradients, two moments, the arena, inputs sent ahead.
    pub fn fixed(&self) -> usize {
        4 * (4 * self.block + self.plan.arena_len()) + self.inbox
    }

    /// Meshes that the cache holds beside the rest in `free` bytes.
    pub fn room(&self, free: usize) -> usize {
        free.saturating_sub(self.fixed() + RESERVE) / self.mesh
    }

    /// # Errors
    /// Where a step does not fit into `free` bytes; says what would.
    pub fn require(
        &self,
        place: impl fmt::Display,
        settings: &Settings,
        batch: usize,
        free: usize,
    ) -> Result<()> {
        let needed = self.fixed() + RESERVE;
        if needed <= free {
            return Ok(());
        }
        let fits = |on: Kind, batch: usize| {
            Self::new(settings, on, batch).map(|smaller| smaller.fixed() + RESERVE <= free)
        };
        let narrow = match self.on {
            Kind::Cuda { multiprocessors, .. } => Kind::Cuda { multiprocessors, precision: Precision::Bf16 },
            on @ Kind::Cpu(_) => on,
        };
        let remedy = if !self.on.narrow() && fits(narrow, batch)? {
            "take --precision bf16"
        } else if batch > 1 && fits(self.on, 1)? {
            "take --batch 1"
        } else {
            "take a smaller --preset, or --device cpu"
        };
        let mega = |bytes: usize| bytes.div_ceil(1 << 20);
        let problem = format!("a step takes {} MiB of the card, {} MiB are free", mega(needed), mega(free));
        Err(Error::new(place, problem, remedy))
    }
}

impl fmt::Display for Budget {
    /// A line a part, in MiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / MIB;
        let block = 4 * self.block;
        writeln!(f, "{:<12} {:>13} {:>10.1} MiB", "parameters", self.parameters, mib(block))?;
        writeln!(f, "{:<12} {:>24.1} MiB", "gradients", mib(block))?;
        writeln!(f, "{:<12} {:>24.1} MiB", "adam", mib(2 * block))?;
        writeln!(f, "{}", self.plan)?;
        if self.inbox > 0 {
            writeln!(f, "{:<12} {:>24.1} MiB", "inputs ahead", mib(self.inbox))?;
        }
        write!(f, "{:<12} {:>24.1} MiB", "in all", mib(self.fixed()))
    }
}

/// What a step takes in each precision, in MiB: a line.
pub fn by_precision(settings: &Settings, on: Kind, batch: usize) -> Result<String> {
    let multiprocessors = match on {
        Kind::Cuda { multiprocessors, .. } => multiprocessors,
        Kind::Cpu(_) => return Ok(String::new()),
    };
    let part = |(name, precision): (&str, Precision)| {
        let budget = Budget::new(settings, Kind::Cuda { multiprocessors, precision }, batch)?;
        let mib = |bytes: usize| bytes as f64 / MIB;
        Ok(format!("{name} {:.0} MiB (arena {:.0})", mib(budget.fixed()), mib(4 * budget.plan.arena_len())))
    };
    let all = [
        ("fp32", Precision::Fp32),
        ("tf32", Precision::Tf32),
        ("bf16", Precision::Bf16),
        ("fp16", Precision::Fp16),
    ];
    Ok(all.into_iter().map(part).collect::<Result<Vec<_>>>()?.join(", "))
}

/// How a card of `bytes` is filled: the step, what is kept free, the cache.
pub fn on_card(budget: &Budget, bytes: usize) -> String {
    let mib = |bytes: usize| bytes as f64 / MIB;
    let (fixed, room) = (budget.fixed(), budget.room(bytes));
    if fixed + RESERVE > bytes {
        let missing = mib(fixed + RESERVE - bytes);
        return format!(
            "{missing:.0} MiB too little: {:.0} for the step, {:.0} kept free",
            mib(fixed),
            mib(RESERVE)
        );
    }
    format!(
        "{:.0} MiB - {:.0} for the step - {:.0} kept free = {:.0} for the plane cache: {room} meshes of {:.1} MiB",
        mib(bytes),
        mib(fixed),
        mib(RESERVE),
        mib(bytes - fixed - RESERVE),
        mib(budget.mesh),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Preset;

    #[test]
    fn the_paper_preset_and_300_meshes_fit_the_card_of_reference() {
        let settings = Settings::preset(Preset::Paper);
        let budget = Budget::new(&settings, REFERENCE, 1).unwrap();
        assert_eq!(budget.mesh, 6 * 512 * 512 * 4 * 2);
        assert!(budget.room(REFERENCE_BYTES) >= 300, "{}", on_card(&budget, REFERENCE_BYTES));
        budget.require("a card", &settings, 1, REFERENCE_BYTES).unwrap();
    }

    #[test]
    fn normalising_again_takes_less_memory() {
        let mut settings = Settings::preset(Preset::Paper);
        let again = Budget::new(&settings, REFERENCE, 1).unwrap().plan.arena_len();
        settings.training.recompute = false;
        let kept = Budget::new(&settings, REFERENCE, 1).unwrap().plan.arena_len();
        assert!(4 * again < 3 * kept, "{again} floats instead of {kept}");
    }

    #[test]
    fn a_card_that_is_too_small_is_refused_with_what_would_fit() {
        let mut settings = Settings::preset(Preset::Paper);
        // Its activations are what lies in 2 bytes a value.
        settings.training.recompute = false;
        let (one, many) =
            (Budget::new(&settings, REFERENCE, 1).unwrap(), Budget::new(&settings, REFERENCE, 8).unwrap());
        let between = (one.fixed() + many.fixed()) / 2;
        let line = many.require("a card", &settings, 8, between).unwrap_err().to_string();
        assert!(line.starts_with("a card: a step takes ") && line.ends_with("; take --batch 1"), "{line}");
        let half = Budget::new(&settings, reference(Precision::Bf16), 8).unwrap();
        assert!(half.plan.arena_len() * 10 < many.plan.arena_len() * 7, "the arena hardly shrinks");
        let line = many.require("a card", &settings, 8, half.fixed() + RESERVE).unwrap_err().to_string();
        assert!(line.ends_with("; take --precision bf16"), "{line}");
        let line = one.require("a card", &settings, 1, 1 << 20).unwrap_err().to_string();
        assert!(line.contains("smaller --preset"), "{line}");
    }
}
