//! Marching cubes on a card: the launches of `kernels/marching_cubes.cu`, a slab of the grid after the other.

use super::extract::{Placement, check_count};
use super::samples::not_a_number;
use crate::cuda::kernels::marching_cubes as kernels;
use crate::cuda::{Array, Launch, Queue, Read, Write, int};
use crate::error::{Error, Result};
use crate::mesh::Mesh;
use bytemuck::Pod;
use std::ops::Range;

/// Counts that one block sums.
const CHUNK: usize = 256;
/// Most triangles and most inner vertices of an open cell.
const OPEN_TRIANGLES: usize = 30;
const OPEN_VERTICES: usize = 9;
/// Planes of signs that a slab has of the one before.
const CARRIED: usize = 2;
/// Bytes of the arrays of a slab, at most: much work for a card, little of its memory, and far fewer values and bits
/// than the kernels count.
const SLAB_BYTES: usize = 1 << 30;
/// What vertices inside cells are numbered from until the mesh is whole: the number of vertices, at most.
const INNER: u32 = 1 << 31;

/// A volume that a card samples, as [`super::Volume`].
pub trait CardVolume {
    /// Samples along x, y and z; at least 2 each.
    fn dims(&self) -> [usize; 3];

    /// Position of sample (0, 0, 0).
    fn origin(&self) -> [f32; 3];

    /// Distance of neighbouring samples along x, y and z; positive.
    fn spacing(&self) -> [f32; 3];

    /// Writes the samples of some planes of constant z, x fastest.
    ///
    /// # Errors
    /// Those of the card.
    fn sample(&self, queue: &Queue, z: Range<usize>, into: Write<f32>) -> Result<()>;
}

/// A volume in the memory of a card, as [`super::DenseVolume`]: x fastest, sample (x, y, z) at
/// `origin + spacing * (x, y, z)`.
#[derive(Debug)]
pub struct DenseCardVolume {
    pub dims: [usize; 3],
    pub origin: [f32; 3],
    pub spacing: [f32; 3],
    pub values: Array<f32>,
}

impl CardVolume for DenseCardVolume {
    fn dims(&self) -> [usize; 3] {
        self.dims
    }

    fn origin(&self) -> [f32; 3] {
        self.origin
    }

    fn spacing(&self) -> [f32; 3] {
        self.spacing
    }

    fn sample(&self, queue: &Queue, z: Range<usize>, into: Write<f32>) -> Result<()> {
        let plane = self.dims[0] * self.dims[1];
        queue.copy(self.values.read().part(z.start * plane..z.end * plane), into)
    }
}

/// [`super::marching_cubes`] on a card: the same vertices to the last bit and the same triangles, in another order,
/// which is the same every time. A grid that is large for the card is taken in slabs.
///
/// # Errors
/// As on the CPU; every sample is looked at here. What the card has no room for.
pub fn marching_cubes_on_card<V: CardVolume>(queue: &Queue, volume: &V, level: f32) -> Result<Mesh> {
    let planes = planes_of_a_slab(queue, volume.dims())?;
    marching_cubes_in_slabs(queue, volume, level, planes)
}

/// [`marching_cubes_on_card`] in slabs of `planes` planes, but at least 2: the same mesh whatever their number.
///
/// # Errors
/// As [`marching_cubes_on_card`], and where a slab has more samples than the kernels count.
pub fn marching_cubes_in_slabs<V: CardVolume>(
    queue: &Queue,
    volume: &V,
    level: f32,
    planes: usize,
) -> Result<Mesh> {
    super::check(volume.dims(), level)?;
    let placement = Placement::new(volume.dims(), volume.origin(), volume.spacing())?;
    let placement = queue.array_from(&placement.table(), "the placement of the grid")?;
    let mut slabs = Slabs::new(queue, volume.dims(), level, planes.max(CARRIED), placement)?;
    // The last plane of signs lies beyond the samples.
    let end = volume.dims()[2] + 1;
    let mut parts = Parts::default();
    for start in (0..end).step_by(slabs.planes) {
        slabs.extract(volume, start..(start + slabs.planes).min(end), &mut parts)?;
    }
    parts.mesh()
}

/// The mesh as the slabs add to it.
#[derive(Default)]
struct Parts {
    positions: Vec<[f32; 3]>,
    triangles: Vec<[u32; 3]>,
    inner: Vec<[f32; 3]>,
    /// Of open cells; a vertex from [`INNER`] on is inside one.
    inner_triangles: Vec<[u32; 3]>,
}

impl Parts {
    fn vertices(&self) -> u64 {
        (self.positions.len() + self.inner.len()) as u64
    }

    /// Vertices inside cells behind those on edges, triangles of open cells behind the others.
    fn mesh(mut self) -> Result<Mesh> {
        check_count(self.vertices())?;
        let shift = INNER - self.positions.len() as u32;
        for vertex in self.inner_triangles.iter_mut().flatten().filter(|vertex| **vertex >= INNER) {
            *vertex -= shift;
        }
        self.positions.append(&mut self.inner);
        self.triangles.append(&mut self.inner_triangles);
        Ok(Mesh { positions: self.positions, normals: None, triangles: self.triangles })
    }
}

/// What all slabs of a grid use.
struct Slabs<'a> {
    queue: &'a Queue,
    dims: [usize; 3],
    level: f32,
    /// Planes that a slab owns.
    planes: usize,
    placement: Array<f64>,
    values: Array<f32>,
    signs: Array<u32>,
    counts: Array<u32>,
    invalid: Array<u64>,
    /// Vertices that the last plane of the slab before owns.
    carried: usize,
}

/// A slab with its counts: sums within chunks of words, sums of the chunks before, and totals of vertices on edges,
/// triangles of plain cells and open cells.
struct Slab {
    /// Past its last plane in the grid.
    end: usize,
    /// The grid as the kernels take it: nx, ny, nz from the first plane on, the first owned plane, planes of signs.
    grid: [i32; 5],
    /// Plane of the grid that is the first of the signs.
    z0: i32,
    /// Words of signs.
    words: usize,
    bases: Array<u64>,
    totals: Vec<u64>,
    /// Makes numbers of vertices of the slab numbers of the mesh; wraps where the plane before is numbered below 0.
    base: u32,
}

/// The cells whose values must decide, and what they hold.
struct OpenCells {
    cells: Array<u32>,
    count: usize,
    patches: Array<u32>,
    centres: Array<f32>,
    counts: Array<u32>,
    bases: Array<u64>,
    /// Triangles and inner vertices.
    totals: Vec<u64>,
}

impl<'a> Slabs<'a> {
    fn new(
        queue: &'a Queue,
        dims: [usize; 3],
        level: f32,
        planes: usize,
        placement: Array<f64>,
    ) -> Result<Self> {
        let [nx, ny, nz] = dims;
        let planes = planes.min(nz + 1);
        let signs = (planes + CARRIED).checked_mul(words_of_a_plane(dims));
        let values = nx.checked_mul(ny).and_then(|plane| plane.checked_mul((planes + 1).min(nz)));
        let counted = |n: Option<usize>, limit: usize| n.filter(|&n| n < limit).ok_or_else(|| too_fine(dims));
        let (signs, values) = (counted(signs, 1 << 27)?, counted(values, 1 << 31)?);
        int(nz)?;
        Ok(Self {
            queue,
            dims,
            level,
            planes,
            placement,
            values: queue.array(values, "the samples of the grid")?,
            signs: queue.array(signs, "the signs of the grid")?,
            counts: queue.array(3 * signs, "the counts of the grid")?,
            invalid: queue.array(1, "the signs of the grid")?,
            carried: 0,
        })
    }

    /// Adds what lies in the `owned` planes to the mesh.
    fn extract<V: CardVolume>(&mut self, volume: &V, owned: Range<usize>, parts: &mut Parts) -> Result<()> {
        let slab = self.count(volume, owned, parts)?;
        let open = self.open_cells(&slab)?;
        self.emit(&slab, open.as_ref(), parts)?;
        if slab.end <= self.dims[2] { self.carry(&slab) } else { Ok(()) }
    }

    /// Moves what the next slab needs of this one to the front.
    fn carry(&mut self, slab: &Slab) -> Result<()> {
        let (queue, plane) = (self.queue, words_of_a_plane(self.dims));
        self.carried = (slab.totals[0] - self.vertices_before(slab, slab.words - plane)?) as usize;
        // Through another array, as they may overlap with where they go.
        let moving = queue.array(CARRIED * plane, "the signs of the grid")?;
        let last = slab.words - CARRIED * plane..slab.words;
        queue.copy(self.signs.read().part(last), moving.write())?;
        queue.copy(moving.read(), self.signs.write().part(0..CARRIED * plane))
    }

    /// Samples a slab, takes its signs and counts what it holds.
    fn count<V: CardVolume>(&self, volume: &V, owned: Range<usize>, parts: &Parts) -> Result<Slab> {
        let (queue, [nx, ny, nz]) = (self.queue, self.dims);
        let first = if owned.start == 0 { 0 } else { CARRIED };
        let z0 = owned.start - first;
        let planes = owned.end - z0;
        let words = planes * words_of_a_plane(self.dims);
        let sampled = owned.start.saturating_sub(1)..owned.end.min(nz);
        volume.sample(queue, sampled.clone(), self.values.write().part(0..sampled.len() * nx * ny))?;
        let grid = [int(nx)?, int(ny)?, int(nz - z0)?, int(first)?, int(planes)?];
        let [x, y, z, from, all] = grid;
        queue.fill_bytes(self.invalid.write(), 0xFF)?;
        let (values, signs) = (self.values.read(), self.signs.write().part(0..words));
        let launch = Launch::blocks(words.div_ceil(8), 256);
        let invalid = self.invalid.write();
        kernels::signs(queue, launch, values, x, y, z, from, all, self.level, signs, invalid)?;
        let index = download(queue, self.invalid.read(), 0u64)?[0];
        if index != u64::MAX {
            let index = index as usize;
            return Err(not_a_number(index % nx, index / nx % ny, z0 + index / nx / ny));
        }
        let counts = self.counts.write().part(0..3 * words);
        kernels::count(queue, Launch::items(words, 256), signs.into(), x, y, z, from, all, counts)?;
        let (bases, totals) = scan(queue, counts, 3)?;
        check_count(parts.vertices() + totals[0] - self.carried as u64)?;
        let base = (parts.positions.len() as u32).wrapping_sub(self.carried as u32);
        Ok(Slab { end: owned.end, grid, z0: int(z0)?, words, bases, totals, base })
    }

    /// Vertices of the slab before a word of its signs.
    fn vertices_before(&self, slab: &Slab, word: usize) -> Result<u64> {
        let within = download(self.queue, self.counts.read().part(word..word + 1), 0u32)?[0];
        let chunk = word / CHUNK;
        Ok(download(self.queue, slab.bases.read().part(chunk..chunk + 1), 0u64)?[0] + u64::from(within))
    }

    /// Polygonises the open cells, where there are any.
    fn open_cells(&self, slab: &Slab) -> Result<Option<OpenCells>> {
        let (queue, count, [x, y, z, first, planes]) = (self.queue, slab.totals[2] as usize, slab.grid);
        if count == 0 {
            return Ok(None);
        }
        let of_a_cell = 4 * (1 + OPEN_TRIANGLES + 3 * OPEN_VERTICES + 2);
        require(queue, self.dims, of_a_cell * count)?;
        let chunks = slab.words.div_ceil(CHUNK) + 1;
        let cells = queue.array(count, "the open cells")?;
        kernels::list(
            queue,
            Launch::items(slab.words, 256),
            self.signs.read().part(0..slab.words),
            x,
            y,
            z,
            first,
            planes,
            self.counts.read().part(2 * slab.words..3 * slab.words),
            slab.bases.read().part(2 * chunks..3 * chunks),
            cells.write(),
        )?;
        let patches = queue.array(OPEN_TRIANGLES * count, "the open cells")?;
        let centres = queue.array(3 * OPEN_VERTICES * count, "the open cells")?;
        let counts = queue.array(2 * count, "the open cells")?;
        kernels::open(
            queue,
            Launch::items(count, 64),
            self.values.read(),
            x,
            y,
            z,
            first,
            planes,
            self.level,
            self.placement.read(),
            slab.z0,
            cells.read(),
            int(count)?,
            patches.write(),
            centres.write(),
            counts.write(),
        )?;
        let (bases, totals) = scan(queue, counts.write(), 2)?;
        Ok(Some(OpenCells { cells, count, patches, centres, counts, bases, totals }))
    }

    /// Vertices and triangles of a slab.
    fn emit(&self, slab: &Slab, open: Option<&OpenCells>, parts: &mut Parts) -> Result<()> {
        let (queue, [x, y, z, first, planes]) = (self.queue, slab.grid);
        let vertices = slab.totals[0] as usize - self.carried;
        let triangles = slab.totals[1] as usize;
        require(queue, self.dims, 12 * (vertices + triangles))?;
        let positions = queue.array(3 * vertices, "the vertices of the surface")?;
        let chunks = slab.words.div_ceil(CHUNK) + 1;
        let launch = Launch::items(slab.words, 128);
        let signs = self.signs.read().part(0..slab.words);
        let (counts, bases) = (self.counts.read().part(0..3 * slab.words), slab.bases.read());
        kernels::vertices(
            queue,
            launch,
            self.values.read(),
            signs,
            x,
            y,
            z,
            first,
            planes,
            self.level,
            self.placement.read(),
            slab.z0,
            self.carried as u32,
            counts.part(0..slab.words),
            bases.part(0..chunks),
            positions.write(),
        )?;
        let corners = queue.array(3 * triangles, "the triangles of the surface")?;
        kernels::triangles(
            queue,
            launch,
            signs,
            x,
            y,
            z,
            first,
            planes,
            counts,
            bases,
            slab.base,
            corners.write(),
        )?;
        parts.positions.extend(download(queue, positions.read(), [0.0; 3])?);
        parts.triangles.extend(download(queue, corners.read(), [0; 3])?);
        open.map_or(Ok(()), |open| self.merge(slab, open, parts))
    }

    /// Vertices and triangles of the open cells of a slab.
    fn merge(&self, slab: &Slab, open: &OpenCells, parts: &mut Parts) -> Result<()> {
        let (queue, [x, y, z, first, planes]) = (self.queue, slab.grid);
        let [triangles, vertices] = [open.totals[0] as usize, open.totals[1] as usize];
        check_count(parts.vertices() + vertices as u64)?;
        require(queue, self.dims, 12 * (vertices + triangles))?;
        let inner = queue.array(3 * vertices, "the vertices of the surface")?;
        let corners = queue.array(3 * triangles, "the triangles of the surface")?;
        kernels::merge(
            queue,
            Launch::items(open.count, 128),
            self.signs.read().part(0..slab.words),
            x,
            y,
            z,
            first,
            planes,
            self.counts.read().part(0..slab.words),
            slab.bases.read().part(0..slab.words.div_ceil(CHUNK) + 1),
            open.cells.read(),
            int(open.count)?,
            open.patches.read(),
            open.centres.read(),
            open.counts.read(),
            open.bases.read(),
            slab.base,
            parts.inner.len() as u32,
            inner.write(),
            corners.write(),
        )?;
        parts.inner.extend(download(queue, inner.read(), [0.0; 3])?);
        parts.inner_triangles.extend(download(queue, corners.read(), [0; 3])?);
        Ok(())
    }
}

fn words_of_a_plane([nx, ny, _]: [usize; 3]) -> usize {
    (nx / 32 + 1).saturating_mul(ny + 1)
}

/// Planes of a slab that leaves half of the card's free memory to the mesh.
///
/// # Errors
/// Where the card has no room for the smallest slab.
fn planes_of_a_slab(queue: &Queue, dims: [usize; 3]) -> Result<usize> {
    let [nx, ny, nz] = dims;
    // A value a sample; a word of signs and three of counts.
    let plane =
        nx.saturating_mul(ny).saturating_add(words_of_a_plane(dims).saturating_mul(4)).saturating_mul(4);
    let smallest = plane.saturating_mul(2 * CARRIED);
    let free = queue.context().free()?;
    if smallest > free / 2 {
        return Err(no_room(queue, dims, 2 * smallest, free));
    }
    let planes = SLAB_BYTES.min(free / 2) / plane.max(1);
    Ok(planes.saturating_sub(CARRIED).clamp(CARRIED, nz + 1))
}

/// Refuses what does not fit the card beside what it holds.
fn require(queue: &Queue, dims: [usize; 3], bytes: usize) -> Result<()> {
    let free = queue.context().free()?;
    if bytes > free { Err(no_room(queue, dims, bytes, free)) } else { Ok(()) }
}

fn no_room(queue: &Queue, [nx, ny, nz]: [usize; 3], bytes: usize, free: usize) -> Error {
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    let problem = format!(
        "the surface in a grid of {nx} x {ny} x {nz} samples takes {} MiB, {} MiB are free",
        mib(bytes),
        mib(free)
    );
    Error::new(format!("{queue:?}"), problem, "take a coarser grid, or --device cpu")
}

fn too_fine([nx, ny, nz]: [usize; 3]) -> Error {
    let problem = format!("a slab of {nx} x {ny} x {nz} samples has more than the kernels count");
    Error::new("volume", problem, "take a coarser grid, or --device cpu")
}

/// Turns `rows` rows of counts into the sums before them: those within a chunk in place, those of the chunks before it
/// in the first result, the totals of the rows in the second.
fn scan(queue: &Queue, counts: Write<u32>, rows: usize) -> Result<(Array<u64>, Vec<u64>)> {
    let length = counts.len / rows;
    let chunks = length.div_ceil(CHUNK);
    let bases = queue.array(rows * (chunks + 1), "sums of counts")?;
    let launch = Launch::items(length, CHUNK as u32).over(rows, 1);
    kernels::scan(queue, launch, counts, int(length)?, bases.write())?;
    let launch = Launch::blocks(1, CHUNK as u32).over(rows, 1);
    kernels::scan_bases(queue, launch, bases.write(), int(chunks)?)?;
    let mut totals = vec![0; rows];
    for (row, total) in totals.iter_mut().enumerate() {
        let last = (row + 1) * (chunks + 1) - 1;
        queue.download(bases.read().part(last..last + 1), std::slice::from_mut(total))?;
    }
    Ok((bases, totals))
}

/// A piece as records that `zero` shows the shape of.
fn download<T: Pod, R: Pod>(queue: &Queue, piece: Read<T>, zero: R) -> Result<Vec<R>> {
    let mut records = vec![zero; piece.len * size_of::<T>() / size_of::<R>()];
    queue.download(piece, bytemuck::cast_slice_mut(&mut records))?;
    Ok(records)
}
