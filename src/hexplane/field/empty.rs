//! What there is to say where no point is inside.

use super::{Field, Settings};
use crate::error::Result;
use crate::hexplane::Planes;
use crate::mesh::marching_cubes::Volume;
use rayon::prelude::*;

/// The highest occupancy that planes imply on a grid of `grid`^3 samples, the one that is meshed.
///
/// # Errors
/// Those of [`Field::new`] and [`Field::on_grid`].
pub fn highest_occupancy(planes: &Planes, settings: &Settings, grid: usize) -> Result<f32> {
    let field = Field::new(planes, settings)?;
    let volume = field.on_grid(grid)?;
    let lowest = |z: usize| {
        let mut row = vec![0.0; grid];
        let mut least = f32::INFINITY;
        for y in 0..grid {
            volume.row(y, z, 0, &mut row);
            least = row.iter().copied().fold(least, f32::min);
        }
        least
    };
    let least = (0..grid).into_par_iter().map(lowest).reduce(|| f32::INFINITY, f32::min);
    Ok(0.5 - least / (2.0 * settings.tau))
}

/// The words for planes without a surface; the occupancy is cut to three decimals, so that it does not round to `iso`.
pub fn no_surface(iso: f32, highest: f32) -> String {
    format!("no surface at {iso}: highest occupancy {}", (highest * 1e3).floor() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hexplane::Representation;
    use crate::mesh::Similarity;

    #[test]
    fn the_highest_occupancy_is_that_of_the_hull() {
        // A stripe of 0.34 in four views crosses the same in the other two; 0.9 beside it in one view is cut away.
        let (size, grid) = (8, 16);
        let mut planes = Planes::background(Representation::Binary, size, Similarity::default());
        let high = 0.34;
        for (index, value) in planes.values.iter_mut().enumerate() {
            *value = if index % size < 2 { 0.2 } else { high };
        }
        planes.values[size - 1] = 0.9;
        let found = highest_occupancy(&planes, &Settings::default(), grid).unwrap();
        assert!((found - high).abs() < 1e-6, "{found}");
        assert_eq!(no_surface(0.5, found + 1e-5), "no surface at 0.5: highest occupancy 0.34");
        assert_eq!(no_surface(0.5, 0.49999), "no surface at 0.5: highest occupancy 0.499");
    }
}
