//! The buffers of a checked call: poisoned, between guard zones, in fp32 or in 2 bytes a value.

use crate::cpu::arena::{Arena, padded};
use crate::cuda::{Array, Precision, Queue};
use crate::error::Result;
use crate::ops::cuda::{Source, Target, words};
use half::{bf16, f16};
use std::ops::Range;

/// Floats in front of and behind every buffer that must stay untouched.
const GUARD: usize = 64;
/// A NaN with a payload of its own, so that an overwritten guard is seen; NaN as two bf16 or fp16 values too.
const POISON: f32 = f32::from_bits(0x7fff_7fff);

/// Values to nearest, ties to even, in the 2-byte format of `precision`.
pub fn narrow(values: &[f32], precision: Precision) -> Vec<u16> {
    let bits = |&x: &f32| match precision {
        Precision::Bf16 => bf16::from_f32(x).to_bits(),
        Precision::Tf32 | Precision::Fp16 | Precision::Fp32 => f16::from_f32(x).to_bits(),
    };
    values.iter().map(bits).collect()
}

/// What [`narrow`] keeps of values.
pub fn widen(values: &[u16], precision: Precision) -> Vec<f32> {
    let value = |&bits: &u16| match precision {
        Precision::Bf16 => bf16::from_bits(bits).to_f32(),
        Precision::Tf32 | Precision::Fp16 | Precision::Fp32 => f16::from_bits(bits).to_f32(),
    };
    values.iter().map(value).collect()
}

/// So many values in a buffer, and whether in 2 bytes each.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub len: usize,
    pub narrow: bool,
}

impl Piece {
    pub fn wide(len: usize) -> Self {
        Self { len, narrow: false }
    }
}

/// A copy of values on a card.
pub enum Uploaded {
    Wide(Array<f32>),
    Narrow(Array<u16>),
}

impl Uploaded {
    pub fn new(queue: &Queue, values: &[f32], in_2_bytes: bool) -> Result<Self> {
        let what = "an array of the check";
        if in_2_bytes {
            return Ok(Self::Narrow(queue.array_from(&narrow(values, queue.precision()), what)?));
        }
        Ok(Self::Wide(queue.array_from(values, what)?))
    }

    pub fn source(&self) -> Source {
        match self {
            Self::Wide(array) => Source::Wide(array.read()),
            Self::Narrow(array) => Source::Narrow(array.read()),
        }
    }
}

/// Poisoned buffers with guard zones between them.
pub struct Guarded {
    arena: Arena,
    pieces: Vec<(Range<usize>, Piece)>,
    /// Of the narrow ones.
    precision: Precision,
}

impl Guarded {
    pub fn new(sizes: &[Piece], precision: Precision) -> Self {
        let mut start = GUARD;
        let mut pieces = Vec::new();
        for &size in sizes {
            let floats = words(size.len, size.narrow);
            pieces.push((start..start + floats, size));
            start += padded(floats) + GUARD;
        }
        let mut arena = Arena::zeros(start);
        arena.as_mut_slice().fill(POISON);
        Self { arena, pieces, precision }
    }

    pub fn fill(&mut self, piece: usize, values: &[f32]) {
        let (range, size) = self.pieces[piece].clone();
        let place = &mut self.arena.as_mut_slice()[range];
        if size.narrow {
            let bits = narrow(values, self.precision);
            bytemuck::cast_slice_mut(place)[..size.len].copy_from_slice(&bits);
        } else {
            place.copy_from_slice(values);
        }
    }

    /// On the host, where all is fp32.
    pub fn with(&mut self, run: impl FnOnce(Vec<&mut [f32]>)) {
        let ranges: Vec<Range<usize>> = self.pieces.iter().map(|(range, _)| range.clone()).collect();
        run(self.arena.borrow(&[], &ranges).1);
    }

    /// On a copy of the buffers on the card.
    pub fn with_card(&mut self, queue: &Queue, run: impl FnOnce(&[Target]) -> Result<()>) -> Result<()> {
        let there = queue.array_from(self.arena.as_slice(), "the buffers of the check")?;
        let target = |(range, size): &(Range<usize>, Piece)| {
            Target::of(there.write().part(range.clone()), size.len, size.narrow)
        };
        run(&self.pieces.iter().map(target).collect::<Vec<_>>())?;
        queue.download(there.read(), self.arena.as_mut_slice())
    }

    pub fn values(&self, piece: usize) -> Vec<f32> {
        let (range, size) = &self.pieces[piece];
        let place = &self.arena.as_slice()[range.clone()];
        if size.narrow {
            widen(&bytemuck::cast_slice(place)[..size.len], self.precision)
        } else {
            place.to_vec()
        }
    }

    /// A write outside the buffers, in words: of a half of a float where narrow values end in the middle.
    pub fn trespass(&self) -> Option<String> {
        let halves: &[u16] = bytemuck::cast_slice(self.arena.as_slice());
        let inside = |i: usize| {
            self.pieces.iter().any(|(range, size)| {
                let len = if size.narrow { size.len } else { 2 * size.len };
                (2 * range.start..2 * range.start + len).contains(&i)
            })
        };
        let poison = (POISON.to_bits() & 0xffff) as u16;
        let at = (0..halves.len()).find(|&i| !inside(i) && halves[i] != poison)?;
        Some(format!("outside its buffers (float {} of {:?})", at / 2, self.pieces))
    }
}
