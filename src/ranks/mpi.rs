//! A job of several ranks, by MPI. All calls come from the main thread.

use super::{Piece, SumTimes};
use crate::error::{Error, Result};
use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::environment::Universe;
use mpi::point_to_point::{Destination, Source};
use mpi::request::{LocalScope, Request, scope};
use mpi::topology::{Communicator, SimpleCommunicator};
use std::time::{Duration, Instant};

/// Values of a message at most: MPI counts in 31 bits.
const MESSAGE: usize = 1 << 28;
/// How long a rank looks for others without a pause, and how long its pauses are then: who writes results or looks at
/// validation meshes needs the cores more.
const PATIENCE: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_micros(200);
/// Words of a set of cores, a bit each.
const CORES: usize = 64;

pub struct Job {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped, as the last field.
    _universe: Universe,
}

/// What a rank finds on its machine.
pub struct Machine {
    pub rank: usize,
    pub ranks: usize,
    /// Cores that any of them may use.
    pub cores: usize,
}

impl Job {
    pub fn start() -> Result<Option<Self>> {
        let started = mpi::initialize_with_threading(mpi::Threading::Funneled);
        let (universe, _) = started.ok_or_else(|| {
            Error::new("MPI", "it was started before", "this is a defect: please report it")
        })?;
        Ok(Some(Self { world: universe.world(), _universe: universe }))
    }

    /// Rank and size.
    pub fn place(&self) -> (usize, usize) {
        (self.world.rank() as usize, self.world.size() as usize)
    }

    /// `cores` are those that this rank may use.
    pub fn machine(&self, cores: Vec<usize>) -> Machine {
        let node = self.world.split_shared(self.world.rank());
        let (mut own, mut all) = ([0u64; CORES], [0u64; CORES]);
        for core in cores.into_iter().filter(|core| core / 64 < CORES) {
            own[core / 64] |= 1 << (core % 64);
        }
        node.all_reduce_into(&own[..], &mut all[..], SystemOperation::bitwise_or());
        let cores = all.iter().map(|word| word.count_ones() as usize).sum();
        Machine { rank: node.rank() as usize, ranks: node.size() as usize, cores }
    }

    /// The most of each word over all ranks. Who comes early waits with patience.
    pub fn most<const N: usize>(&self, words: [u64; N]) -> [u64; N] {
        let mut most = [0; N];
        scope(|scope| {
            let operation = SystemOperation::max();
            wait(self.world.immediate_all_reduce_into(scope, &words[..], &mut most[..], operation));
        });
        most
    }

    /// Those of the first rank.
    pub fn broadcast(&self, values: &mut [f32]) {
        let root = self.world.process_at_rank(0);
        values.chunks_mut(MESSAGE).for_each(|values| root.broadcast_into(values));
    }

    pub fn broadcast_bytes(&self, from: usize, bytes: &mut Vec<u8>) {
        let root = self.world.process_at_rank(from as i32);
        let mut len = bytes.len() as u64;
        root.broadcast_into(&mut len);
        bytes.resize(len as usize, 0);
        bytes.chunks_mut(MESSAGE).for_each(|bytes| root.broadcast_into(bytes));
    }

    pub fn gather(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let (rank, size) = self.place();
        if rank > 0 {
            let first = self.world.process_at_rank(0);
            first.send(&(bytes.len() as u64));
            bytes.chunks(MESSAGE).for_each(|bytes| first.send(bytes));
            return Vec::new();
        }
        let mut all = vec![bytes];
        for other in (1..size).map(|rank| self.world.process_at_rank(rank as i32)) {
            let (len, _) = other.receive::<u64>();
            let mut bytes = vec![0u8; len as usize];
            bytes.chunks_mut(MESSAGE).for_each(|bytes| {
                other.receive_into(bytes);
            });
            all.push(bytes);
        }
        all
    }

    pub fn sum_beside(
        &self,
        pieces: &mut [Piece],
        work: impl FnOnce(&mut Sums) -> Result<()>,
    ) -> Result<SumTimes> {
        scope(|scope| {
            let rest = pieces.iter_mut();
            let mut sums = Sums { world: &self.world, scope, rest, under_way: Vec::new(), begun: None };
            let result = work(&mut sums);
            let behind = Instant::now();
            while !sums.under_way.is_empty() {
                sums.progress();
                std::thread::yield_now();
            }
            let (waited, in_flight) = (behind.elapsed(), sums.begun.map(|begun| begun.elapsed()));
            result.map(|()| SumTimes { in_flight: in_flight.unwrap_or_default(), waited })
        })
    }

    /// Ends all ranks.
    pub fn abort(&self, code: u8) -> ! {
        self.world.abort(code.into())
    }
}

/// Sums over all ranks that go on beside other work.
pub struct Sums<'s, 'a> {
    world: &'s SimpleCommunicator,
    scope: &'s LocalScope<'a>,
    rest: std::slice::IterMut<'a, Piece>,
    under_way: Vec<Request<'a, [f32], &'s LocalScope<'a>>>,
    begun: Option<Instant>,
}

impl Sums<'_, '_> {
    /// Has the next piece filled and begins its sum.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn begin(&mut self, fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        let Some(Piece { given, sum }) = self.rest.next() else {
            return Err(Error::new(
                "a sum",
                "there are no more pieces",
                "this is a defect: please report it",
            ));
        };
        fill(given)?;
        self.begun.get_or_insert_with(Instant::now);
        let operation = SystemOperation::sum();
        self.under_way.push(self.world.immediate_all_reduce_into(
            self.scope,
            &given[..],
            &mut sum[..],
            operation,
        ));
        Ok(())
    }

    /// Lets sums come on: MPI moves data when it is called.
    pub fn progress(&mut self) {
        let under_way = std::mem::take(&mut self.under_way);
        self.under_way = under_way.into_iter().filter_map(|request| request.test().err()).collect();
    }
}

/// Waits for others, which may have to do without for long.
fn wait<'a>(mut request: Request<'a, [u64], &LocalScope<'a>>) {
    let started = Instant::now();
    while let Err(open) = request.test() {
        request = open;
        if started.elapsed() < PATIENCE {
            std::thread::yield_now();
        } else {
            std::thread::sleep(PAUSE);
        }
    }
}
