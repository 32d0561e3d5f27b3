//! The rasteriser on a card: the launches of `kernels/rasterize.cu`, which meets the contract of the module.

use super::Normals;
use super::shade::normals_of;
use crate::cuda::kernels::rasterize;
use crate::cuda::{Array, Launch, Queue, int};
use crate::error::Result;
use crate::hexplane::Representation;
use crate::mesh::Mesh;

/// Triangles that are drawn at a time: their entries of the queue of tiles stay below 2^38 (`ENTRY_BITS` of the kernel).
pub const BATCH: usize = 1 << 23;

/// The values of the planes of a checked mesh, `[6, size, size, C]`; triangles are drawn in batches of `batch`.
pub fn planes(
    queue: &Queue,
    mesh: &Mesh,
    size: usize,
    representation: Representation,
    normals: Normals,
    batch: usize,
) -> Result<Vec<f32>> {
    let scene = Scene::new(queue, mesh, size)?;
    let keys = scene.visibility(batch)?;
    let mut values = vec![0.0; 6 * size * size * representation.channels()];
    let planes = queue.array::<f32>(values.len(), "the planes")?;
    match representation {
        Representation::Binary => {
            let launch = Launch::items(size * size, 256).over(6, 1);
            rasterize::resolve_binary(queue, launch, keys.read(), scene.size, planes.write())?;
        }
        Representation::Continuous => scene.resolve(mesh, normals, &keys, &planes)?,
    }
    queue.download(planes.read(), &mut values)?;
    Ok(values)
}

/// A mesh on the card.
struct Scene<'a> {
    queue: &'a Queue,
    positions: Array<f32>,
    triangles: Array<u32>,
    /// Vertices in subpixels.
    snapped: Array<i32>,
    triangle_count: usize,
    /// Pixels along an edge.
    size: i32,
}

impl<'a> Scene<'a> {
    fn new(queue: &'a Queue, mesh: &Mesh, size: usize) -> Result<Self> {
        // The kernels count triangles in int.
        int(mesh.triangles.len())?;
        let positions: &[f32] = bytemuck::cast_slice(&mesh.positions);
        let scene = Self {
            queue,
            positions: queue.array_from(positions, "the vertices")?,
            triangles: queue.array_from(bytemuck::cast_slice(&mesh.triangles), "the triangles")?,
            snapped: queue.array(positions.len(), "the vertices")?,
            triangle_count: mesh.triangles.len(),
            size: int(size)?,
        };
        let (launch, count) = (Launch::items(positions.len(), 256), int(positions.len())?);
        rasterize::snap(queue, launch, scene.positions.read(), count, scene.size, scene.snapped.write())?;
        Ok(scene)
    }

    /// Draws all triangles: keys `[3, 2, N, N]`, of the near and the far views.
    fn visibility(&self, batch: usize) -> Result<Array<u64>> {
        let (queue, all) = (self.queue, self.triangle_count);
        let batch = batch.min(all);
        let pixels = self.size as usize * self.size as usize;
        let keys = queue.array(6 * pixels, "the visibility keys")?;
        queue.fill_bytes(keys.write(), 0xFF)?;
        let tiles = queue.array(3 * batch, "the queue of tiles")?;
        let queued = queue.array(3 * batch, "the queue of tiles")?;
        let ends = queue.array(3, "the queue of tiles")?;
        for first in (0..all).step_by(batch) {
            let past = (first + batch).min(all);
            let (triangles, count) = (self.triangles.read().part(3 * first..3 * past), int(past - first)?);
            queue.fill_bytes(ends.write(), 0)?;
            rasterize::small(
                queue,
                Launch::items(past - first, 128).over(3, 1),
                self.positions.read(),
                self.snapped.read(),
                triangles,
                count,
                first as u32,
                self.size,
                keys.write(),
                tiles.write(),
                queued.write(),
                ends.write(),
            )?;
            rasterize::large(
                queue,
                // Two waves of three blocks a multiprocessor, over the three screens.
                Launch::blocks(6 * queue.context().card.multiprocessors, 128).over(3, 1),
                self.positions.read(),
                self.snapped.read(),
                triangles,
                count,
                first as u32,
                self.size,
                keys.write(),
                tiles.read(),
                queued.read(),
                ends.read(),
            )?;
        }
        Ok(keys)
    }

    /// Depths and normals of what the keys show.
    fn resolve(&self, mesh: &Mesh, normals: Normals, keys: &Array<u64>, planes: &Array<f32>) -> Result<()> {
        let (queue, count) = (self.queue, self.triangle_count);
        let faces = queue.array(3 * count, "the face normals")?;
        let (positions, triangles) = (self.positions.read(), self.triangles.read());
        rasterize::faces(queue, Launch::items(count, 256), positions, triangles, int(count)?, faces.write())?;
        let interpolated = normals == Normals::Interpolated;
        let vertices = if interpolated {
            queue.array_from(bytemuck::cast_slice(&normals_of(mesh)), "the normals")?
        } else {
            queue.array(0, "the normals")?
        };
        let counts = queue.array(2, "the counts of pixels")?;
        queue.fill_bytes(counts.write(), 0)?;
        let launch = Launch::blocks(3 * queue.context().card.multiprocessors, 256).over(6, 1);
        rasterize::count(queue, launch, keys.read(), faces.read(), self.size, counts.write())?;
        let pixels = self.size as usize * self.size as usize;
        rasterize::resolve(
            queue,
            Launch::items(pixels, 128).over(6, 1),
            self.snapped.read(),
            triangles,
            vertices.read(),
            i32::from(interpolated),
            faces.read(),
            counts.read(),
            keys.read(),
            self.size,
            planes.write(),
        )
    }
}
