//! A build without MPI: there is no job of several ranks.

use super::{Piece, SumTimes};
use crate::error::Result;

/// No job.
pub enum Job {}

/// What a rank finds on its machine.
pub struct Machine {
    pub rank: usize,
    pub ranks: usize,
    /// Cores that any of them may use.
    pub cores: usize,
}

/// No sums.
pub enum Sums {}

impl Sums {
    pub fn begin(&mut self, _fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        match *self {}
    }

    pub fn progress(&mut self) {
        match *self {}
    }
}

impl Job {
    pub fn start() -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn place(&self) -> (usize, usize) {
        match *self {}
    }

    pub fn machine(&self, _cores: Vec<usize>) -> Machine {
        match *self {}
    }

    pub fn most<const N: usize>(&self, _words: [u64; N]) -> [u64; N] {
        match *self {}
    }

    pub fn broadcast(&self, _values: &mut [f32]) {
        match *self {}
    }

    pub fn broadcast_bytes(&self, _from: usize, _bytes: &mut Vec<u8>) {
        match *self {}
    }

    pub fn gather(&self, _bytes: Vec<u8>) -> Vec<Vec<u8>> {
        match *self {}
    }

    pub fn sum_beside(
        &self,
        _pieces: &mut [Piece],
        _work: impl FnOnce(&mut Sums) -> Result<()>,
    ) -> Result<SumTimes> {
        match *self {}
    }

    pub fn abort(&self, _code: u8) -> ! {
        match *self {}
    }
}
