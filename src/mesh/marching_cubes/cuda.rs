//! Marching cubes on a card: the launches of `kernels/marching_cubes.cu`.

use super::extract::{Placement, check_count};
use super::samples::not_a_number;
use crate::cuda::kernels::marching_cubes as kernels;
use crate::cuda::{Array, Launch, Queue, Read, int};
use crate::error::{Error, Result};
use crate::mesh::Mesh;
use bytemuck::Pod;

/// Counts that one block sums.
const CHUNK: usize = 256;
/// Most triangles and most inner vertices of an open cell.
const OPEN_TRIANGLES: usize = 30;
const OPEN_VERTICES: usize = 9;

/// A volume in the memory of a card, as [`super::DenseVolume`]: x fastest, sample (x, y, z) at
/// `origin + spacing * (x, y, z)`.
#[derive(Debug)]
pub struct CardVolume {
    pub dims: [usize; 3],
    pub origin: [f32; 3],
    pub spacing: [f32; 3],
    pub values: Array<f32>,
}

/// [`super::marching_cubes`] on the card that holds the volume: the same vertices to the last bit and the same
/// triangles, in another order, which is the same every time.
///
/// # Errors
/// As on the CPU; every sample is looked at here. A grid of 2^31 samples or more, and what the card has no room for.
pub fn marching_cubes_on_card(queue: &Queue, volume: &CardVolume, level: f32) -> Result<Mesh> {
    super::check(volume.dims, level)?;
    let placement = Placement::new(volume.dims, volume.origin, volume.spacing)?;
    let surface = Surface::new(queue, volume, level, &placement)?;
    let open = surface.open_cells()?;
    surface.mesh(open.as_ref())
}

/// The counts of a volume: what lies before each word of signs.
struct Surface<'a> {
    queue: &'a Queue,
    values: Read<f32>,
    /// Samples along x, y and z.
    n: [i32; 3],
    level: f32,
    placement: Array<f64>,
    /// Words of signs.
    words: usize,
    signs: Array<u32>,
    counts: Array<u32>,
    bases: Array<u64>,
    /// Vertices on edges, triangles of plain cells, open cells.
    totals: Vec<u64>,
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

impl<'a> Surface<'a> {
    fn new(queue: &'a Queue, volume: &CardVolume, level: f32, placement: &Placement) -> Result<Self> {
        let [nx, ny, nz] = volume.dims;
        assert_eq!(Some(volume.values.len()), samples(volume.dims), "a volume has a value for each sample");
        let words = (nx / 32 + 1) * (ny + 1) * (nz + 1);
        if i32::try_from(volume.values.len()).is_err() || u32::try_from(32 * words).is_err() {
            return Err(too_fine(volume.dims));
        }
        let n = [int(nx)?, int(ny)?, int(nz)?];
        let signs = queue.array(words, "the signs of the grid")?;
        let invalid = queue.array(1, "the signs of the grid")?;
        queue.fill_bytes(invalid.write(), 0xFF)?;
        let [x, y, z] = n;
        let values = volume.values.read();
        kernels::signs(
            queue,
            Launch::blocks(words.div_ceil(8), 256),
            values,
            x,
            y,
            z,
            level,
            signs.write(),
            invalid.write(),
        )?;
        let first = download(queue, invalid.read(), 0u64)?[0];
        if first != u64::MAX {
            let index = first as usize;
            return Err(not_a_number(index % nx, index / nx % ny, index / nx / ny));
        }
        let counts = queue.array(3 * words, "the counts of the grid")?;
        kernels::count(queue, Launch::items(words, 256), signs.read(), x, y, z, counts.write())?;
        let (bases, totals) = scan(queue, &counts, 3)?;
        check_count(totals[0])?;
        let placement = queue.array_from(&placement.table(), "the placement of the grid")?;
        Ok(Self { queue, values, n, level, placement, words, signs, counts, bases, totals })
    }

    /// Polygonises the open cells, where there are any.
    fn open_cells(&self) -> Result<Option<OpenCells>> {
        let (queue, count, [x, y, z]) = (self.queue, self.totals[2] as usize, self.n);
        if count == 0 {
            return Ok(None);
        }
        let chunks = self.words.div_ceil(CHUNK) + 1;
        let cells = queue.array(count, "the open cells")?;
        kernels::list(
            queue,
            Launch::items(self.words, 256),
            self.signs.read(),
            x,
            y,
            z,
            self.counts.read().part(2 * self.words..3 * self.words),
            self.bases.read().part(2 * chunks..3 * chunks),
            cells.write(),
        )?;
        let patches = queue.array(OPEN_TRIANGLES * count, "the open cells")?;
        let centres = queue.array(3 * OPEN_VERTICES * count, "the open cells")?;
        let counts = queue.array(2 * count, "the open cells")?;
        kernels::open(
            queue,
            Launch::items(count, 64),
            self.values,
            x,
            y,
            z,
            self.level,
            self.placement.read(),
            cells.read(),
            int(count)?,
            patches.write(),
            centres.write(),
            counts.write(),
        )?;
        let (bases, totals) = scan(queue, &counts, 2)?;
        Ok(Some(OpenCells { cells, count, patches, centres, counts, bases, totals }))
    }

    fn mesh(&self, open: Option<&OpenCells>) -> Result<Mesh> {
        let (queue, [x, y, z]) = (self.queue, self.n);
        let [inner_triangles, inner_vertices] = open.map_or([0, 0], |open| [open.totals[0], open.totals[1]]);
        check_count(self.totals[0] + inner_vertices)?;
        let vertex_count = (self.totals[0] + inner_vertices) as usize;
        let triangle_count = (self.totals[1] + inner_triangles) as usize;
        let positions = queue.array(3 * vertex_count, "the vertices of the surface")?;
        let triangles = queue.array(3 * triangle_count, "the triangles of the surface")?;
        let chunks = self.words.div_ceil(CHUNK) + 1;
        kernels::vertices(
            queue,
            Launch::items(self.words, 128),
            self.values,
            self.signs.read(),
            x,
            y,
            z,
            self.level,
            self.placement.read(),
            self.counts.read().part(0..self.words),
            self.bases.read().part(0..chunks),
            positions.write(),
        )?;
        let (counts, bases) = (self.counts.read(), self.bases.read());
        let launch = Launch::items(self.words, 128);
        kernels::triangles(queue, launch, self.signs.read(), x, y, z, counts, bases, triangles.write())?;
        if let Some(open) = open {
            kernels::merge(
                queue,
                Launch::items(open.count, 128),
                self.signs.read(),
                x,
                y,
                z,
                counts,
                bases,
                open.cells.read(),
                int(open.count)?,
                open.patches.read(),
                open.centres.read(),
                open.counts.read(),
                open.bases.read(),
                positions.write(),
                triangles.write(),
            )?;
        }
        Ok(Mesh {
            positions: download(queue, positions.read(), [0.0; 3])?,
            normals: None,
            triangles: download(queue, triangles.read(), [0; 3])?,
        })
    }
}

/// Samples of a grid, where they can be counted.
fn samples(dims: [usize; 3]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, &n| product.checked_mul(n))
}

/// Samples of a grid that a card can take.
///
/// # Errors
/// With 2^31 or more, which the kernels cannot count.
pub fn card_samples(dims: [usize; 3]) -> Result<usize> {
    samples(dims).filter(|&count| i32::try_from(count).is_ok()).ok_or_else(|| too_fine(dims))
}

fn too_fine([nx, ny, nz]: [usize; 3]) -> Error {
    let problem = format!("{nx} x {ny} x {nz} samples; the kernels count below 2^31");
    Error::new("volume", problem, "take a coarser grid, or --device cpu")
}

/// Turns `rows` rows of counts into the sums before them: those within a chunk in place, those of the chunks before it
/// in the first result, the totals of the rows in the second.
fn scan(queue: &Queue, counts: &Array<u32>, rows: usize) -> Result<(Array<u64>, Vec<u64>)> {
    let length = counts.len() / rows;
    let chunks = length.div_ceil(CHUNK);
    let bases = queue.array(rows * (chunks + 1), "sums of counts")?;
    let launch = Launch::items(length, CHUNK as u32).over(rows, 1);
    kernels::scan(queue, launch, counts.write(), int(length)?, bases.write())?;
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
