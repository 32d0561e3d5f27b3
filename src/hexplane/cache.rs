//! Planes that stay on the card from step to step.

use crate::cuda::{Array, Launch, Queue, THREADS, Write, int, kernels};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

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
}

/// Room for the planes of some meshes on a card; the first ones that are asked for stay.
pub struct PlaneCache {
    queue: Arc<Queue>,
    storage: Storage,
    /// Values of a mesh's planes.
    len: usize,
    halves: Array<u16>,
    floats: Array<f32>,
    places: HashMap<usize, usize>,
    room: usize,
}

impl PlaneCache {
    /// Room for `room` meshes of `len` values each.
    pub fn new(queue: &Arc<Queue>, storage: Storage, len: usize, room: usize) -> Result<Self> {
        let (halves, floats) = match storage {
            Storage::Fp16 => (room * len, 0),
            Storage::Fp32 => (0, room * len),
        };
        Ok(Self {
            queue: queue.clone(),
            storage,
            len,
            halves: queue.array(halves, "the plane cache")?,
            floats: queue.array(floats, "the plane cache")?,
            places: HashMap::new(),
            room,
        })
    }

    /// Meshes that have their place.
    pub fn resident(&self) -> usize {
        self.places.len()
    }

    /// Writes the planes of mesh `index` to `target`: from the cache, else from `planes`, which then go into the
    /// cache while there is room. What has gone through the cache once is the same bits every time.
    pub fn load(&mut self, index: usize, planes: &[f32], target: Write<f32>) -> Result<()> {
        assert_eq!(
            (planes.len(), target.len),
            (self.len, self.len),
            "the cache is made for planes of this size"
        );
        if let Some(&place) = self.places.get(&index) {
            return self.read(place, target);
        }
        self.queue.upload(planes, target)?;
        if self.places.len() == self.room {
            return Ok(());
        }
        let place = self.places.len();
        self.write(place, target)?;
        self.places.insert(index, place);
        self.read(place, target)
    }

    fn write(&self, place: usize, from: Write<f32>) -> Result<()> {
        let range = place * self.len..(place + 1) * self.len;
        match self.storage {
            Storage::Fp32 => self.queue.copy(from, self.floats.write().part(range)),
            Storage::Fp16 => {
                let (launch, n) = (Launch::items(self.len, THREADS), int(self.len)?);
                kernels::cache::store(&self.queue, launch, from.into(), self.halves.write().part(range), n)
            }
        }
    }

    fn read(&self, place: usize, into: Write<f32>) -> Result<()> {
        let range = place * self.len..(place + 1) * self.len;
        match self.storage {
            Storage::Fp32 => self.queue.copy(self.floats.read().part(range), into),
            Storage::Fp16 => {
                let (launch, n) = (Launch::items(self.len, THREADS), int(self.len)?);
                kernels::cache::load(&self.queue, launch, self.halves.read().part(range), into, n)
            }
        }
    }
}
