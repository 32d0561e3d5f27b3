//! Planes that stay on the card from step to step, and how they get there.

use crate::cuda::{Array, Launch, Queue, Read, THREADS, Write, int, kernels};
use crate::error::Result;
use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How planes lie in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Half the bytes, 11 significant bits: depths to 1/4096 of the cube.
    #[default]
    Fp16,
    Fp32,
}

impl Storage {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Fp16 => 2,
            Self::Fp32 => 4,
        }
    }

    /// Sends planes towards the card, ahead of what runs there.
    ///
    /// # Panics
    /// Where `into` has not as many bytes as the values take.
    pub fn send(self, queue: &Queue, planes: &[f32], into: Write<u8>) -> Result<()> {
        assert_eq!(into.len, planes.len() * self.bytes(), "the planes fill their place");
        queue.upload_ahead(into, |range, piece| {
            let values = &planes[range.start / self.bytes()..range.end / self.bytes()];
            match self {
                Self::Fp32 => piece.copy_from_slice(bytemuck::cast_slice(values)),
                Self::Fp16 => {
                    bytemuck::cast_slice_mut::<u8, f16>(piece).convert_from_f32_slice(values);
                }
            }
        })
    }

    /// Queues the way back to fp32, on the card.
    ///
    /// # Panics
    /// Where `from` has not as many bytes as the values take.
    pub fn unpack(self, queue: &Queue, from: Read<u8>, into: Write<f32>) -> Result<()> {
        assert_eq!(from.len, into.len * self.bytes(), "the planes fill their place");
        match self {
            Self::Fp32 => queue.copy(from.cast(), into),
            Self::Fp16 => {
                let launch = Launch::items(into.len, THREADS);
                kernels::cache::load(queue, launch, from.cast(), into, int(into.len)?)
            }
        }
    }
}

/// Room for the planes of some meshes on a card; the first ones that are asked for stay.
pub struct PlaneCache {
    storage: Storage,
    planes: Array<u8>,
    /// Bytes of a mesh's planes.
    bytes: usize,
    places: HashMap<usize, usize>,
    room: usize,
}

/// Where the planes of a mesh are.
pub enum Place {
    /// On the card.
    Resident(Read<u8>),
    /// They can stay on the card once they are sent here.
    New(Write<u8>),
    /// The cache is full.
    Elsewhere,
}

impl PlaneCache {
    /// Room for `room` meshes of `len` values each.
    pub fn new(queue: &Queue, storage: Storage, len: usize, room: usize) -> Result<Self> {
        let bytes = len * storage.bytes();
        let planes = queue.array(room * bytes, "the plane cache")?;
        Ok(Self { storage, planes, bytes, places: HashMap::new(), room })
    }

    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Meshes that have their place.
    pub fn resident(&self) -> usize {
        self.places.len()
    }

    /// The place of mesh `index`; a new one counts as resident from the next call on.
    pub fn place(&mut self, index: usize) -> Place {
        let at = |place: usize| self.planes.write().part(place * self.bytes..(place + 1) * self.bytes);
        if let Some(&place) = self.places.get(&index) {
            return Place::Resident(at(place).into());
        }
        let place = self.places.len();
        if place == self.room {
            return Place::Elsewhere;
        }
        self.places.insert(index, place);
        Place::New(at(place))
    }
}
