//! Mesh to planes: a watertight orthographic rasteriser on all cores.
//!
//! The contract, which the kernels of a card (`kernels/rasterize.cu`, launched by [`rasterize_on`]) meet to the last
//! bit. `N` is the edge of a plane in pixels.
//!
//! 1. *Snapping.* A coordinate `c` of a vertex becomes the integer `trunc((c + 1) * 128 N + 0.5)`, computed in
//!    f64: 1/256 of a pixel. A screen axis that runs against the coordinate uses `256 N` minus that integer.
//! 2. *Pairs.* Top, front and left are rasterised; bottom, back and right are their mirror images with the
//!    farthest surface in place of the nearest. Opposite views thus cover exactly mirrored pixels.
//! 3. *Coverage.* Corners are ordered so that the snapped area on the screen (x right, y down) is positive. A
//!    pixel centre is inside where all three edge functions, exact in i64, are positive, or zero on a top or
//!    left edge. Every pixel inside a closed polygon of triangles is covered once: no gaps, no double hits.
//! 4. *Depth.* In pixel units x_k, y_k (f64, not snapped) and depths z_k = 0.5 (1 + forward . p_k) of the corners
//!    in the mesh's own order, with dx_k = x_k - x_0 and so on:
//!    `det = dx_1 dy_2 - dx_2 dy_1`, `a = (dz_1 dy_2 - dz_2 dy_1) / det`, `b = (dx_1 dz_2 - dx_2 dz_1) / det`
//!    (a = b = 0 where det = 0), and at the pixel centre
//!    `t = f32(clamp((a (j + 0.5 - x_0) + b (i + 0.5 - y_0)) + z_0, min z_k, max z_k))`: each operation rounded
//!    once, in the order written, nothing fused. A `t` outside \[0,1\] is clipped. The opposite view has `1 - t`
//!    in f32. The plane of the true triangle is more exact than snapped barycentrics on steep surfaces; the
//!    clamp bounds it where snapping moved an edge across a pixel.
//! 5. *Visibility.* The smallest key `bits(t) << 32 | triangle` wins (t >= +0, so its bits are ordered like its
//!    value): the nearest surface, and the lower triangle among equals, in whatever order they come.
//!
//! *Normals.* The geometric normal is on the outside that the winding says, also where the camera sees the
//! inside: through an opening, into a mouth. The field must know, or it takes the air before such a surface
//! for outside and hollows the head. Over all six views, the share of hit pixels that show an inside says what
//! the winding is worth:
//!
//! - up to 2/5: it stands. Closed meshes have none, an open neck a few per cent, a face mask a quarter; a sheet
//!   approaches a half;
//! - from 3/5 on: the mesh is inside out, and all normals are flipped;
//! - between: wound at random (or flat). No side can be had from it, and each normal faces its camera, as it
//!   would on a closed mesh.
//!
//! Single triangles wound against their neighbours are not looked for: they read as small openings, which the
//! other views close. An interpolated normal (snapped barycentrics; computed from the triangles around a
//! vertex where the mesh brings none) keeps its line and takes the side of the geometric one; where the two
//! lines are more than 60 degrees apart, or the interpolated one vanishes, the geometric one stands.

mod cuda;
mod fill;
mod screen;
mod shade;

use super::{Planes, Representation};
use crate::cpu::simd::{self, Vectorised};
use crate::cpu::unwritten::{Part, Unwritten};
use crate::cuda::Queue;
use crate::device::Device;
use crate::mesh::{Mesh, Similarity};
use crate::{Error, Result};
use fill::{Bins, Fragments};
use rayon::prelude::*;
use screen::{PAIRS, Screen};
use serde::{Deserialize, Serialize};
use shade::{Count, Scratch, Shader, Side};
use std::ops::Range;

/// Which normals the planes store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Normals {
    /// Interpolated between the vertices, where the mesh has or can be given good ones.
    #[default]
    Interpolated,
    /// One a triangle.
    Face,
}

/// Largest edge of a plane: planes of 1.6 GB.
pub const MAX_SIZE: usize = 4096;

/// Coordinates beyond this are refused; those between 1 and this are clipped to the cube. It keeps the
/// edge functions below 2^53, which [`fill`] relies on.
const GUARD: f32 = 4.0;

/// Triangles or vertices that a task checks.
const CHECKED: usize = 8192;

/// Rows of pixels that one task owns: its two visibility buffers stay in a core's own cache.
const BAND: usize = 32;

/// The six planes of a normalised mesh (in [-1,1]^3; what sticks out is clipped), `[6, size, size, C]`.
/// `transform` is kept with them. The same bits for any number of threads and any order of the vertices.
///
/// Errors: a size outside 1..=[`MAX_SIZE`], no triangles, an index out of range, a coordinate that is not
/// a number or far outside the cube, normals that do not match the vertices.
pub fn rasterize(
    mesh: &Mesh,
    transform: &Similarity,
    size: usize,
    representation: Representation,
    normals: Normals,
) -> Result<Planes> {
    // From inside the pool, whose threads then hand work to each other and wake nobody for each step.
    let values = rayon::scope(|_| planes(mesh, size, representation, normals))?;
    Ok(Planes { representation, size, values, transform: *transform })
}

/// The values of [`rasterize`].
fn planes(mesh: &Mesh, size: usize, representation: Representation, normals: Normals) -> Result<Vec<f32>> {
    check(mesh, size)?;
    let screen = |&pair: &(usize, usize)| {
        let screen = Screen::new(pair, mesh, size);
        let bins = Bins::new(&screen);
        (screen, bins)
    };
    let (mut shader, screens): (_, Vec<_>) =
        rayon::join(|| Shader::new(mesh, representation, normals), || PAIRS.par_iter().map(screen).collect());
    let len = 6 * size * size * representation.channels();
    let mut values = Unwritten::new(len);
    let side = draw(&shader, &screens, &mut values, len).side();
    if side != Side::Winding {
        shader.side = side;
        draw(&shader, &screens, &mut values, len);
    }
    Ok(values.finish())
}

/// [`rasterize`] on a device: the same bits, and the same errors beside the device's own.
pub fn rasterize_on(
    device: &Device,
    mesh: &Mesh,
    transform: &Similarity,
    size: usize,
    representation: Representation,
    normals: Normals,
) -> Result<Planes> {
    let Device::Cuda(queue) = device else {
        return rasterize(mesh, transform, size, representation, normals);
    };
    let planes = rasterize_in_batches(queue, mesh, size, representation, normals, cuda::BATCH)?;
    Ok(Planes { transform: *transform, ..planes })
}

/// [`rasterize_on`] a card, in the frame of the mesh, with the triangles in batches of `batch`, at most 2^23: the same
/// bits whatever their number.
pub fn rasterize_in_batches(
    queue: &Queue,
    mesh: &Mesh,
    size: usize,
    representation: Representation,
    normals: Normals,
    batch: usize,
) -> Result<Planes> {
    check(mesh, size)?;
    let batch = batch.clamp(1, cuda::BATCH);
    let values = cuda::planes(queue, mesh, size, representation, normals, batch)?;
    Ok(Planes { representation, size, values, transform: Similarity::default() })
}

/// Fills all planes of `len` values together, a task a band of a pair of views.
fn draw(shader: &Shader, screens: &[(Screen, Bins)], values: &mut Unwritten, len: usize) -> Count {
    let size = screens[0].0.size;
    let (row_len, bands, last) = (len / (6 * size), size.div_ceil(BAND), (size - 1) / BAND);
    // The view that mirrors the rows has its bands from the last one up.
    let mirrored = screens.iter().find(|(screen, _)| screen.mirror_rows).map(|(screen, _)| screen.far);
    let band_at = |view: usize, place: usize| if mirrored == Some(view) { last - place } else { place };
    let places = || (0..6).flat_map(|view| (0..bands).map(move |place| (view, place)));
    let lens = places().map(|(view, place)| row_len * rows_of(band_at(view, place), size).len());
    let mut parts: Vec<Option<Part>> = values.parts(lens).map(Some).collect();
    let mut take = |view: usize, band: usize| {
        // `band_at` is its own inverse.
        parts[view * bands + band_at(view, band)].take().expect("each view is in one pair")
    };
    let mut tasks = Vec::new();
    for (screen, bins) in screens {
        let pair = |band: usize| (screen, bins, band, take(screen.near, band), take(screen.far, band));
        tasks.extend((0..bands).map(pair));
    }
    let memory = || (Fragments::new(size), Scratch::new(size));
    let band = |(fragments, scratch): &mut (Fragments, Scratch),
                (screen, bins, band, near, far): (_, _, usize, _, _)| {
        let rows = rows_of(band, size);
        simd::dispatch(BandTask { shader, screen, bins, band, rows, near, far, fragments, scratch })
    };
    tasks.into_par_iter().map_init(memory, band).reduce(Count::default, Count::add)
}

fn rows_of(band: usize, size: usize) -> Range<usize> {
    band * BAND..((band + 1) * BAND).min(size)
}

/// A band of rows of a screen, and where its two views go.
struct BandTask<'a> {
    shader: &'a Shader<'a>,
    screen: &'a Screen<'a>,
    bins: &'a Bins,
    band: usize,
    rows: Range<usize>,
    near: Part<'a>,
    far: Part<'a>,
    fragments: &'a mut Fragments,
    scratch: &'a mut Scratch,
}

impl Vectorised for BandTask<'_> {
    type Output = Count;

    #[inline(always)]
    fn run(self) -> Count {
        let Self { shader, screen, fragments, scratch, .. } = self;
        fragments.fill(screen, self.bins.band(self.band), self.rows.clone());
        let near = shader.resolve(screen, fragments, self.rows.clone(), false, scratch, self.near);
        near.add(shader.resolve(screen, fragments, self.rows, true, scratch, self.far))
    }
}

fn check(mesh: &Mesh, size: usize) -> Result<()> {
    if !(1..=MAX_SIZE).contains(&size) {
        let problem = format!("expected 1 to {MAX_SIZE} pixels along an edge, found {size}");
        return Err(Error::usage("size of the planes", problem, "choose 512, or less to be quick"));
    }
    if mesh.triangles.is_empty() {
        return Err(Error::new("mesh", "it has no triangles to rasterise", "check the file it came from"));
    }
    if let Some(normals) = mesh.normals.as_ref().filter(|n| n.len() != mesh.positions.len()) {
        let problem = format!("{} normals for {} vertices", normals.len(), mesh.positions.len());
        return Err(Error::new("mesh", problem, "give one normal a vertex, or none"));
    }
    let vertices = mesh.positions.len();
    let outside = |corners: &[u32; 3]| corners.iter().any(|&v| v as usize >= vertices);
    // Chunks are tested without a search, which would look at what the other threads found a triangle.
    if mesh.triangles.par_chunks(CHECKED).any(|triangles| triangles.iter().any(outside))
        && let Some(triangle) = mesh.triangles.iter().position(outside)
    {
        let problem = format!("corners {:?} of {vertices} vertices", mesh.triangles[triangle]);
        return Err(Error::new(format!("mesh: triangle {triangle}"), problem, "repair the indices"));
    }
    // A comparison with NaN is false, so NaN is unusable too. Vertices that no triangle uses may be anything.
    let usable = |p: &[f32; 3]| p.iter().all(|c| c.abs() <= GUARD);
    let unusable = |&triangle: &usize| !mesh.corners(triangle).iter().all(usable);
    if !mesh.positions.par_chunks(CHECKED).all(|positions| positions.iter().all(usable))
        && let Some(triangle) = (0..mesh.triangles.len()).find(unusable)
    {
        let place = format!("mesh: triangle {triangle}");
        let problem = format!("expected corners in [-1,1]^3, found {:?}", mesh.corners(triangle));
        return Err(Error::new(place, problem, "normalise the mesh, or repair its coordinates"));
    }
    Ok(())
}
