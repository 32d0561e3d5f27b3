//! The field on a card: the launches of `kernels/fuse.cu`.

use super::{Settings, check, check_grid};
use crate::cuda::kernels::fuse;
use crate::cuda::{Array, Launch, Queue, Write, int};
use crate::error::Result;
use crate::hexplane::{Planes, Representation};
use crate::mesh::marching_cubes::CardVolume;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a column that one thread of `fuse_columns` walks.
const SEGMENT: usize = 32;

/// [`super::Field`] in the memory of a card, with the same values to the last bit.
#[derive(Debug)]
pub struct CardField {
    queue: Arc<Queue>,
    tau: f32,
    size: i32,
    /// World depth and slope of every pixel, `[6, N, N, 2]`.
    taps: Array<f32>,
}

impl CardField {
    /// Prepares the votes of every pixel.
    ///
    /// # Errors
    /// As [`super::Field::new`], and where the card has no room.
    pub fn new(queue: &Arc<Queue>, planes: &Planes, settings: &Settings) -> Result<Self> {
        check(planes, settings)?;
        let (&Settings { tau }, n) = (settings, planes.size);
        let (size, pixels) = (int(n)?, 6 * n * n);
        let values = queue.array_from(&planes.values, "the planes")?;
        let taps = queue.array(2 * pixels, "the field")?;
        match planes.representation {
            Representation::Binary => {
                let launch = Launch::items(pixels, 256);
                fuse::taps_binary(queue, launch, values.read(), int(pixels)?, tau, taps.write())?;
            }
            Representation::Continuous => {
                let columns = queue.array(pixels, "the field")?;
                let launch = Launch::items(n, 128).over(n.div_ceil(SEGMENT), 6);
                fuse::columns(queue, launch, values.read(), size, tau, columns.write())?;
                let launch = Launch::blocks(n, 128).over(6, 1).with_shared(n * size_of::<f32>());
                fuse::taps(queue, launch, values.read(), columns.read(), size, tau, taps.write())?;
            }
        }
        Ok(Self { queue: queue.clone(), tau, size, taps })
    }

    /// f at points of the cube [-1,1]^3, in world units within [-tau, tau].
    pub fn values(&self, points: &[[f32; 3]]) -> Result<Vec<f32>> {
        let queue = &self.queue;
        let there = queue.array_from(bytemuck::cast_slice::<_, f32>(points), "the points")?;
        let found = queue.array(points.len(), "the field at the points")?;
        let (launch, count) = (Launch::items(points.len(), 128), int(points.len())?);
        fuse::points(
            queue,
            launch,
            self.taps.read(),
            self.size,
            self.tau,
            there.read(),
            count,
            found.write(),
        )?;
        let mut values = vec![0.0; points.len()];
        queue.download(found.read(), &mut values)?;
        Ok(values)
    }

    /// The field at n^3 points that span [-1,1]^3, borders included, for marching cubes.
    ///
    /// # Errors
    /// With fewer than 2 samples along an edge.
    pub fn on_grid(&self, n: usize) -> Result<CardGrid<'_>> {
        check_grid(n)?;
        Ok(CardGrid { field: self, n })
    }
}

/// [`super::GridField`] on a card, which computes the samples it is asked for.
#[derive(Debug)]
pub struct CardGrid<'a> {
    field: &'a CardField,
    /// Samples along an edge.
    n: usize,
}

impl CardVolume for CardGrid<'_> {
    fn dims(&self) -> [usize; 3] {
        [self.n; 3]
    }

    fn origin(&self) -> [f32; 3] {
        [-1.0; 3]
    }

    fn spacing(&self) -> [f32; 3] {
        [2.0 / (self.n - 1) as f32; 3]
    }

    fn sample(&self, queue: &Queue, z: Range<usize>, into: Write<f32>) -> Result<()> {
        let (field, n) = (self.field, self.n);
        let launch = Launch::items(n, 128).over(n, z.len());
        fuse::grid(queue, launch, field.taps.read(), field.size, field.tau, int(n)?, int(z.start)?, into)
    }
}
