//! The processes that work on one run or one set, started by `mpirun` or `srun`. Each has a number, its rank; the first, rank 0,
//! alone writes files and prints. One process alone is a job of one rank, which needs no MPI and waits for nobody.
//!
//! What ranks do together they do in the same order: whoever may fail alone asks the others by [`Ranks::agree`] before
//! the next such call, or ends the job with a line that names it ([`Ranks::end`]).

#[cfg(not(feature = "mpi"))]
#[path = "absent.rs"]
mod job;
#[cfg(feature = "mpi")]
#[path = "mpi.rs"]
mod job;
mod threads;

use crate::console;
use crate::error::{Error, Kind, Result};
use job::Job;
pub use job::Sums;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A job, seen from one of its ranks.
pub struct Ranks {
    rank: usize,
    size: usize,
    /// Among the ranks of this machine.
    local: usize,
    /// All ranks know of the error that ends them.
    agreed: AtomicBool,
    job: Option<Job>,
}

/// Values that are summed over all ranks: those of this one, and the sums.
pub struct Piece {
    pub given: Vec<f32>,
    pub sum: Vec<f32>,
}

impl Piece {
    pub fn new(len: usize) -> Self {
        Self { given: vec![0.0; len], sum: vec![0.0; len] }
    }
}

/// How long sums took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SumTimes {
    /// From the begin of the first sum to the end of the last.
    pub in_flight: Duration,
    /// Of that, behind the work that they were beside.
    pub waited: Duration,
}

/// What launchers set: the number of the process, and how many there are.
const RANK: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"];
const SIZE: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

fn first_of(names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| std::env::var(name).ok()?.parse().ok())
}

impl Ranks {
    /// One process.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, local: 0, agreed: AtomicBool::new(false), job: None }
    }

    /// The job that this process was started in, before anything else is done: ranks but the first are silent from now on, and
    /// the ranks of a machine share its cores, unless `RAYON_NUM_THREADS` says how many threads each has.
    ///
    /// # Errors
    /// Several processes of a build without MPI.
    pub fn start() -> Result<Self> {
        let Some(rank) = first_of(&RANK) else { return Ok(Self::alone()) };
        if rank > 0 {
            console::silence();
        }
        let Some(job) = Job::start()? else {
            let size = first_of(&SIZE).unwrap_or(1);
            if size == 1 {
                return Ok(Self::alone());
            }
            let problem = format!("{size} processes were started, and this build has no MPI to join them");
            return Err(Error::usage(
                "mpirun",
                problem,
                "build it with --features mpi, or start one process",
            ));
        };
        let (rank, size) = job.place();
        if size == 1 {
            return Ok(Self::alone());
        }
        // Unwinding would wait for ranks that wait for this one.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            console::insist(format_args!("hexcuda: rank {rank}: panic, the job ends"));
            usual(panic);
            std::process::abort();
        }));
        let machine = job.machine(threads::cores());
        threads::limit(machine.cores, machine.ranks);
        Ok(Self { rank, size, local: machine.rank, agreed: AtomicBool::new(false), job: Some(job) })
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// The number among the ranks of this machine.
    pub fn local(&self) -> usize {
        self.local
    }

    /// Whether this rank writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    pub fn is_alone(&self) -> bool {
        self.size == 1
    }

    /// Goes on where all ranks have a result; else all have the error of the first that has none, which is named where not all failed.
    ///
    /// # Errors
    /// That one.
    pub fn agree<T>(&self, result: Result<T>) -> Result<T> {
        let Some(job) = &self.job else { return result };
        let (failed, succeeded) = (result.is_err(), result.is_ok());
        // The highest of them is that of the first rank.
        let [failed, succeeded] =
            job.most([if failed { (self.size - self.rank) as u64 } else { 0 }, u64::from(succeeded)]);
        if failed == 0 {
            return result;
        }
        let first = self.size - failed as usize;
        let mut bytes = match &result {
            Err(error) if first == self.rank => error.to_bytes(),
            _ => Vec::new(),
        };
        job.broadcast_bytes(first, &mut bytes);
        let error = Error::from_bytes(&bytes);
        Err(self.known(if succeeded == 0 { error } else { error.within(format!("rank {first}")) }))
    }

    /// Of an error that all ranks have.
    fn known(&self, error: Error) -> Error {
        self.agreed.store(true, Ordering::SeqCst);
        error
    }

    /// By flag, whether it is set on any rank.
    pub fn any<const N: usize>(&self, flags: [bool; N]) -> [bool; N] {
        match &self.job {
            None => flags,
            Some(job) => job.most(flags.map(u64::from)).map(|flag| flag > 0),
        }
    }

    /// All ranks have the values of the first one.
    pub fn spread(&self, values: &mut [f32]) {
        if let Some(job) = &self.job {
            job.broadcast(values);
        }
    }

    /// The same for words.
    pub fn spread_words<const N: usize>(&self, words: [u64; N]) -> [u64; N] {
        let mut bytes: Vec<u8> = bytemuck::cast_slice(&words).to_vec();
        self.spread_bytes(&mut bytes);
        let mut words = [0; N];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(&bytes);
        words
    }

    /// The same for bytes, however many the others have.
    pub fn spread_bytes(&self, bytes: &mut Vec<u8>) {
        if let Some(job) = &self.job {
            job.broadcast_bytes(0, bytes);
        }
    }

    /// The bytes of every rank in their order on the first one; nothing elsewhere.
    pub fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        match &self.job {
            None => vec![bytes],
            Some(job) => job.gather(bytes),
        }
    }

    /// Requires that all ranks have the number of the first one; `what` it is of stands in the error.
    ///
    /// # Errors
    /// The first rank that has another one, on all ranks.
    pub fn require_same(&self, number: u64, what: &str, remedy: &str) -> Result<()> {
        let Some(job) = &self.job else { return Ok(()) };
        let [first] = self.spread_words([number]);
        let other = if number == first { 0 } else { (self.size - self.rank) as u64 };
        let [other] = job.most([other]);
        if other == 0 {
            return Ok(());
        }
        let rank = format!("rank {}", self.size - other as usize);
        Err(self.known(Error::new(rank, format!("{what} are not those of rank 0"), remedy)))
    }

    /// Sums `pieces` over all ranks beside `work`, which fills them one by one. On every rank the same bits come out, and
    /// in every such job again.
    ///
    /// # Errors
    /// Those of `work`; a job of one rank sums nothing.
    pub fn sum_beside(
        &self,
        pieces: &mut [Piece],
        work: impl FnOnce(&mut Sums) -> Result<()>,
    ) -> Result<SumTimes> {
        match &self.job {
            None => Err(Error::new("a sum", "there is one rank", "this is a defect: please report it")),
            Some(job) => job.sum_beside(pieces, work),
        }
    }

    /// What the process is to end with. An error that all ranks have is said once; one of this rank alone is said with its
    /// number and ends the job here and now, since the others wait for it.
    ///
    /// # Errors
    /// That of `result`.
    pub fn end(&self, result: Result<()>) -> Result<()> {
        let Some(job) = &self.job else { return result };
        if let Err(error) = &result {
            let everywhere = [Kind::Interrupted, Kind::Diverged].contains(&error.kind());
            if !everywhere && !self.agreed.load(Ordering::SeqCst) {
                console::insist(format_args!("hexcuda: rank {}: {error}", self.rank));
                job.abort(error.exit_code());
            }
            // Before any rank ends, which would make the launcher end them all.
            console::note(format_args!("hexcuda: {error}"));
            console::silence();
        }
        job.most([0]);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rank_agrees_with_itself() {
        let ranks = Ranks::alone();
        assert!(ranks.is_first() && ranks.is_alone());
        assert_eq!(ranks.agree(Ok(3)).unwrap(), 3);
        let error = ranks.agree::<()>(Err(Error::new("a", "b", "c"))).unwrap_err();
        assert_eq!(error.to_string(), "a: b; c");
        assert_eq!((ranks.any([true, false]), ranks.spread_words([7])), ([true, false], [7]));
        assert_eq!(ranks.gather(vec![1]), [[1]]);
        ranks.require_same(4, "numbers", "").unwrap();
        assert!(ranks.sum_beside(&mut [Piece::new(1)], |_| Ok(())).is_err());
    }
}
