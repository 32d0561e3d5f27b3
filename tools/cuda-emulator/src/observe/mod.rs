//! What a launch did: counters and their table.

use std::fmt::Write;

/// A class of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Class {
    /// Integer, logic, address and move instructions.
    Integer,
    /// Half and single precision, conversions.
    Float,
    /// Double precision.
    Double,
    /// Reciprocal, square root, sine and their like.
    Special,
    /// Tensor-core instructions.
    Tensor,
    /// Loads, stores and asynchronous copies of global and constant memory.
    Global,
    /// Accesses to shared memory.
    Shared,
    /// Accesses to local memory and parameters.
    Local,
    /// Atomic operations.
    Atomic,
    /// Shuffles, votes, barriers and fences.
    Synchronisation,
    /// Branches, calls and returns.
    Control,
}

impl Class {
    /// Every class with its name, in the order of the table.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Integer, "integer"),
        (Self::Float, "float"),
        (Self::Double, "double"),
        (Self::Special, "special"),
        (Self::Tensor, "tensor"),
        (Self::Global, "global"),
        (Self::Shared, "shared"),
        (Self::Local, "local"),
        (Self::Atomic, "atomic"),
        (Self::Synchronisation, "sync"),
        (Self::Control, "control"),
    ];
}

/// Counts of one launch, or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Instructions times active lanes, by [`Class`].
    pub lane_instructions: [u64; Class::ALL.len()],
    /// Instructions issued to warps.
    pub warp_instructions: u64,
    /// Sectors of 32 bytes of global memory that loads touched, warp by warp.
    pub load_sectors: u64,
    /// Sectors that the same bytes would fill without gaps.
    pub load_sectors_ideal: u64,
    /// Sectors of 32 bytes of global memory that stores touched.
    pub store_sectors: u64,
    /// Sectors that the same bytes would fill without gaps.
    pub store_sectors_ideal: u64,
    /// Wavefronts of shared-memory accesses.
    pub shared_wavefronts: u64,
    /// Wavefronts above the least possible: bank conflicts.
    pub shared_conflicts: u64,
    /// Barriers completed by blocks.
    pub barriers: u64,
    /// Blocks run.
    pub blocks: u64,
    /// Floating-point operations of tensor-core instructions (a multiplication and an addition are two).
    pub tensor_operations: u64,
}

impl Counters {
    /// All lane-instructions.
    pub fn total(&self) -> u64 {
        self.lane_instructions.iter().sum()
    }

    /// Adds the counts of another launch or block.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.lane_instructions.iter_mut().zip(other.lane_instructions) {
            *sum += count;
        }
        for ((_, sum), (_, count)) in self.figures_mut().into_iter().zip(other.figures()) {
            *sum += count;
        }
    }

    /// The counts of `of` blocks where `blocks` of them ran, to the nearest whole number.
    #[must_use]
    pub fn scaled(mut self, of: u64, blocks: u64) -> Self {
        if of == blocks {
            return self;
        }
        let (of, blocks) = (u128::from(of), u128::from(blocks));
        let scale = |count: &mut u64| *count = ((u128::from(*count) * of + blocks / 2) / blocks) as u64;
        self.lane_instructions.iter_mut().for_each(scale);
        self.figures_mut().into_iter().for_each(|(_, count)| scale(count));
        self
    }

    /// Everything but the instructions by class, with names.
    pub fn figures(&self) -> [(&'static str, u64); 10] {
        self.clone().figures_mut().map(|(name, count)| (name, *count))
    }

    fn figures_mut(&mut self) -> [(&'static str, &mut u64); 10] {
        [
            ("warp_instructions", &mut self.warp_instructions),
            ("load_sectors", &mut self.load_sectors),
            ("load_sectors_ideal", &mut self.load_sectors_ideal),
            ("store_sectors", &mut self.store_sectors),
            ("store_sectors_ideal", &mut self.store_sectors_ideal),
            ("shared_wavefronts", &mut self.shared_wavefronts),
            ("shared_conflicts", &mut self.shared_conflicts),
            ("barriers", &mut self.barriers),
            ("blocks", &mut self.blocks),
            ("tensor_operations", &mut self.tensor_operations),
        ]
    }
}

/// A table with a row per kernel: name, launches and counters, widest first column.
pub fn table<'a>(rows: impl IntoIterator<Item = (&'a str, u64, &'a Counters)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{:width$} {:>8} {:>14}", "kernel", "launches", "lane-instr.");
    for (_, name) in Class::ALL {
        let _ = write!(text, " {name:>8}");
    }
    text.push_str("   sectors ideal%  wavefronts conflict%   barriers\n");
    for (name, launches, counters) in rows {
        let total = counters.total();
        let _ = write!(text, "{name:width$} {launches:>8} {total:>14}");
        for (class, _) in Class::ALL {
            let _ = write!(text, " {:>7.1}%", percent(counters.lane_instructions[class as usize], total));
        }
        let sectors = counters.load_sectors + counters.store_sectors;
        let ideal = counters.load_sectors_ideal + counters.store_sectors_ideal;
        let _ = writeln!(
            text,
            " {sectors:>9} {:>6.1} {:>11} {:>9.1} {:>10}",
            percent(ideal, sectors),
            counters.shared_wavefronts,
            percent(counters.shared_conflicts, counters.shared_wavefronts),
            counters.barriers
        );
    }
    text
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
