//! The codec of discrete latents: the index of every slot under the probabilities that it had in the meshes that the codec was fitted to.
//! A slot is a channel of a finite scalar quantisation or a group of classes, at a site.

use super::coder::{Reader, Writer};
use super::tables::{Model, model};

pub struct IndexCodec {
    /// `[6, s, s, slots]`.
    pub shape: [usize; 4],
    /// Slots of a site that are coded at the end of each layer.
    pub ends: Vec<usize>,
    /// Probabilities of each entry's indices, `[entries]`.
    pub laws: Vec<Vec<u32>>,
    models: Vec<Model>,
    /// Of each entry, its likeliest index.
    modes: Vec<u16>,
}

impl IndexCodec {
    /// # Errors
    /// Where the parts do not fit together.
    pub fn new(shape: [usize; 4], ends: Vec<usize>, laws: Vec<Vec<u32>>) -> Result<Self, String> {
        let rising = ends.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || ends.first().is_none_or(|&end| end == 0) || ends.last() != Some(&shape[3]) {
            return Err("its layers do not hold every slot once".to_string());
        }
        if laws.len() != shape.iter().product::<usize>() {
            return Err(format!("{} laws for the shape {shape:?}", laws.len()));
        }
        let models = laws.iter().map(|law| model(law)).collect::<Result<Vec<_>, _>>()?;
        let mode = |p: &Vec<u32>| (0..p.len()).rev().max_by_key(|&at| p[at]).unwrap_or_default() as u16;
        let modes = laws.iter().map(mode).collect();
        Ok(Self { shape, ends, laws, models, modes })
    }

    fn len(&self) -> usize {
        self.models.len()
    }

    /// Entries of a layer in the order of the file.
    fn entries(&self, layer: usize) -> impl Iterator<Item = usize> {
        let slots = self.shape[3];
        let range = if layer == 0 { 0..self.ends[0] } else { self.ends[layer - 1]..self.ends[layer] };
        let sites = self.len() / slots;
        (0..sites).flat_map(move |site| range.clone().map(move |slot| site * slots + slot))
    }

    /// Every layer of the indices.
    pub fn encode(&self, indices: &[u16]) -> Vec<Vec<u8>> {
        let layer = |layer: usize| {
            let mut writer = Writer::default();
            self.entries(layer).for_each(|at| writer.symbol(usize::from(indices[at]), &self.models[at]));
            writer.into_bytes()
        };
        (0..self.ends.len()).map(layer).collect()
    }

    /// The indices of the first layers of a file; those of the others are the likeliest.
    ///
    /// # Errors
    /// Where a layer is not what an encoder writes.
    pub fn decode(&self, layers: &[&[u8]]) -> Result<Vec<u16>, String> {
        if layers.is_empty() {
            return Err("no layer is whole".to_string());
        }
        let mut indices = self.modes.clone();
        for (layer, bytes) in layers.iter().enumerate() {
            let mut reader = Reader::new(bytes)?;
            for at in self.entries(layer) {
                indices[at] = reader.symbol(&self.models[at])? as u16;
            }
            reader.finish()?;
        }
        Ok(indices)
    }
}
