//! What marching cubes asks of a volume, and the volume that lies in memory.

use crate::error::{Error, Result};

/// Samples on a regular grid: sample (x, y, z) lies at `origin + spacing * (x, y, z)`.
///
/// Values below the level are inside the surface, values equal to it or above are outside.
/// A sample has one value, whichever row it is asked with.
pub trait Volume: Sync {
    /// Samples along x, y and z; at least 2 each.
    fn dims(&self) -> [usize; 3];

    /// Position of sample (0, 0, 0).
    fn origin(&self) -> [f32; 3];

    /// Distance of neighbouring samples along x, y and z; positive.
    fn spacing(&self) -> [f32; 3];

    /// Samples `x0 .. x0 + out.len()` of row (y, z).
    fn row(&self, y: usize, z: usize, x0: usize, out: &mut [f32]);

    /// Bounds (smallest, largest) of the samples in the box of indices from `low` to `high`, both
    /// included. They may be wider than the samples, never narrower: a box whose bounds lie on one
    /// side of the level is not sampled. (-inf, inf) says nothing and is always right.
    fn range(&self, low: [usize; 3], high: [usize; 3]) -> (f32, f32);
}

/// A volume in memory, x fastest.
#[derive(Clone, Debug)]
pub struct DenseVolume {
    dims: [usize; 3],
    origin: [f32; 3],
    spacing: [f32; 3],
    values: Vec<f32>,
}

impl DenseVolume {
    /// `values[x + dims[0] * (y + dims[1] * z)]` is sample (x, y, z).
    ///
    /// # Errors
    /// When the number of values is not the product of the dims.
    pub fn new(dims: [usize; 3], origin: [f32; 3], spacing: [f32; 3], values: Vec<f32>) -> Result<Self> {
        let expected = dims.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if expected != Some(values.len()) {
            return Err(Error::new(
                "dense volume",
                format!("expected {} x {} x {} values, found {}", dims[0], dims[1], dims[2], values.len()),
                "give one value for each sample",
            ));
        }
        Ok(Self { dims, origin, spacing, values })
    }

    /// Samples `function` at every grid position.
    ///
    /// # Errors
    /// When the samples do not fit into memory.
    pub fn sampled(
        dims: [usize; 3],
        origin: [f32; 3],
        spacing: [f32; 3],
        function: impl Fn([f32; 3]) -> f32,
    ) -> Result<Self> {
        let too_large = || {
            Error::new(
                "dense volume",
                format!("{} x {} x {} samples do not fit into memory", dims[0], dims[1], dims[2]),
                "take a coarser grid",
            )
        };
        let count =
            dims.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).ok_or_else(too_large)?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| too_large())?;
        for z in 0..dims[2] {
            for y in 0..dims[1] {
                values.extend((0..dims[0]).map(|x| {
                    let index = [x, y, z];
                    function(std::array::from_fn(|axis| origin[axis] + spacing[axis] * index[axis] as f32))
                }));
            }
        }
        Self::new(dims, origin, spacing, values)
    }
}

impl Volume for DenseVolume {
    fn dims(&self) -> [usize; 3] {
        self.dims
    }

    fn origin(&self) -> [f32; 3] {
        self.origin
    }

    fn spacing(&self) -> [f32; 3] {
        self.spacing
    }

    fn row(&self, y: usize, z: usize, x0: usize, out: &mut [f32]) {
        let start = x0 + self.dims[0] * (y + self.dims[1] * z);
        out.copy_from_slice(&self.values[start..start + out.len()]);
    }

    /// Says nothing: a bound would read every sample once, and so does marching cubes.
    fn range(&self, _low: [usize; 3], _high: [usize; 3]) -> (f32, f32) {
        (f32::NEG_INFINITY, f32::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_stretch_of_x() {
        let volume = DenseVolume::sampled([4, 3, 2], [1.0, 10.0, 100.0], [1.0; 3], |p| p[0] + p[1] + p[2])
            .expect("24 samples");
        let mut row = [0.0; 2];
        volume.row(2, 1, 1, &mut row);
        assert_eq!(row, [2.0 + 12.0 + 101.0, 3.0 + 12.0 + 101.0]);
    }

    #[test]
    fn a_wrong_number_of_values_is_refused() {
        let error = DenseVolume::new([2, 3, 4], [0.0; 3], [1.0; 3], vec![0.0; 23]).expect_err("23 of 24");
        assert!(error.to_string().contains("expected 2 x 3 x 4 values, found 23"), "{error}");
        assert!(DenseVolume::sampled([usize::MAX, 2, 2], [0.0; 3], [1.0; 3], |_| 0.0).is_err());
    }
}
