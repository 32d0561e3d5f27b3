//! Six planes of one mesh in memory.

use crate::mesh::Similarity;
use serde::{Deserialize, Serialize};

/// What a pixel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Representation {
    /// Depth and outward unit normal: 4 channels; background (1, 0, 0, 0).
    Continuous,
    /// 1 where the ray hits, else 0: 1 channel.
    Binary,
}

impl Representation {
    pub fn channels(self) -> usize {
        match self {
            Self::Continuous => 4,
            Self::Binary => 1,
        }
    }
}

/// Planes of one mesh, `[6, size, size, channels]`, views in the order of [`super::VIEWS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    pub representation: Representation,
    /// Pixels along an edge.
    pub size: usize,
    pub values: Vec<f32>,
    /// From the mesh's own frame to the normalised one of the planes.
    pub transform: Similarity,
}

impl Planes {
    /// Nothing but background.
    pub fn background(representation: Representation, size: usize, transform: Similarity) -> Self {
        let mut values = vec![0.0; 6 * size * size * representation.channels()];
        if representation == Representation::Continuous {
            values.iter_mut().step_by(4).for_each(|depth| *depth = 1.0);
        }
        Self { representation, size, values, transform }
    }

    pub fn channels(&self) -> usize {
        self.representation.channels()
    }

    /// Whether no pixel shows anything.
    pub fn is_background(&self) -> bool {
        match self.representation {
            Representation::Continuous => {
                self.values.chunks_exact(4).all(|pixel| pixel[1..].iter().all(|&n| n == 0.0))
            }
            Representation::Binary => self.values.iter().all(|&hit| hit == 0.0),
        }
    }

    /// The values of one view, `[size, size, channels]`.
    pub fn view(&self, view: usize) -> &[f32] {
        let len = self.size * self.size * self.channels();
        &self.values[view * len..][..len]
    }
}
