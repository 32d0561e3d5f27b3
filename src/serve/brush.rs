//! Brush strokes on planes.
//!
//! A stroke weighs each pixel by its distance to the stroke's line: (1 - (distance / radius)²)², 0 beyond the radius.
//! Where it passes twice counts once.
//!
//! **Continuous planes.** Raising and lowering move depth by [`REACH`] times amount and weight; smoothing mixes in a
//! Gaussian mean of the pixels at about the same depth. Background stays what it is. With (a, b) the slopes of the
//! surface that a pixel's normal tells, its new normal is that of the slopes (a, b) plus those of the change of depth, so
//! that detail which the normals have and the depth does not is kept, and an edge in depth stays one.
//!
//! *Consistency.* A point is outside as soon as one view sees past it (docs/method.md, "Field"). What is carved out of one
//! view is gone, whatever the others show. What is raised is seen from the side too: the side views get the raised surface
//! wherever it lies in front of what they show, at the depth where it crosses each of their rays, to a fraction of a
//! pixel. Without that a bump beside the nose would be cut off by the profile. The opposite view sees the other side.
//!
//! **Binary planes.** Painting and erasing move the occupancy of a pixel to 1 and to 0, and of the pixel of the opposite
//! view that sees the same line. The hull is what all six allow: erasing always carves, painting adds where the views
//! from the side show something.

use crate::hexplane::{Planes, Representation, VIEWS, View};
use serde::Deserialize;

/// What an amount of 1 moves depth by; the cube is 1 deep.
pub const REACH: f32 = 0.05;
/// Most strokes of an edit, points of a stroke, and points of all of them.
const MOST_STROKES: usize = 256;
const MOST_POINTS: usize = 8192;
/// Least sum of squares of a normal that is a surface.
const SURFACE: f32 = 0.25;
/// Least cosine between the normal and the way to the camera that slopes are taken of.
const LEAST_FACING: f32 = 0.02;
/// Pixels further apart in depth than this are another surface when smoothing, and when a raised one is seen from the side.
const JUMP: f32 = 0.03;

/// What a stroke does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Towards the camera.
    Raise,
    /// Away from it.
    Lower,
    Smooth,
    Paint,
    Erase,
}

/// One pass of the brush.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stroke {
    /// Index of the view.
    pub view: usize,
    pub mode: Mode,
    /// Pixels.
    pub radius: f32,
    /// 0 to 1.
    pub amount: f32,
    /// (x, y) in pixels from the upper left corner: the middle of the pixel in row i and column j is (j + 0.5, i + 0.5).
    pub points: Vec<[f32; 2]>,
}

/// What is wrong with strokes on such planes, in words.
pub fn fault(strokes: &[Stroke], representation: Representation, size: usize) -> Option<String> {
    let points: usize = strokes.iter().map(|stroke| stroke.points.len()).sum();
    if strokes.len() > MOST_STROKES || points > MOST_POINTS {
        return Some(format!("at most {MOST_STROKES} strokes with {MOST_POINTS} points"));
    }
    let of = |(index, stroke): (usize, &Stroke)| {
        let edge = size as f32;
        let inside = |c: f32| (-edge..=2.0 * edge).contains(&c);
        let binary = matches!(stroke.mode, Mode::Paint | Mode::Erase);
        let problem = if stroke.view >= VIEWS.len() {
            format!("view is {}, expected 0 to 5", stroke.view)
        } else if !(0.5..=edge).contains(&stroke.radius) {
            format!("radius is {}, expected 0.5 to {size} pixels", stroke.radius)
        } else if !(0.0..=1.0).contains(&stroke.amount) {
            format!("amount is {}, expected 0 to 1", stroke.amount)
        } else if stroke.points.is_empty() || !stroke.points.iter().flatten().all(|&c| inside(c)) {
            "expected points on or near the plane".to_string()
        } else if binary != (representation == Representation::Binary) {
            match representation {
                Representation::Binary => "binary planes take paint and erase".to_string(),
                Representation::Continuous => "continuous planes take raise, lower and smooth".to_string(),
            }
        } else {
            return None;
        };
        Some(format!("stroke {index}: {problem}"))
    };
    strokes.iter().enumerate().find_map(of)
}

/// Which pixels of `[6, size, size]` a stroke changed.
pub type Changed = Vec<bool>;

/// Applies a stroke without [`fault`] and marks the pixels that it changes.
pub fn apply(planes: &mut Planes, stroke: &Stroke, changed: &mut Changed) {
    let weights = weights(stroke, planes.size);
    match planes.representation {
        Representation::Binary => paint(planes, stroke, &weights, changed),
        Representation::Continuous => reshape(planes, stroke, &weights, changed),
    }
}

/// Of each pixel of the view, `[size, size]`.
fn weights(stroke: &Stroke, size: usize) -> Vec<f32> {
    let mut weights = vec![0.0f32; size * size];
    let radius = stroke.radius;
    let last = stroke.points.len() - 1;
    for at in 0..stroke.points.len().max(2) - 1 {
        let [a, b] = [stroke.points[at], stroke.points[(at + 1).min(last)]];
        let pixels = |axis: usize| {
            let low = (a[axis].min(b[axis]) - radius).floor().max(0.0) as usize;
            let high = (a[axis].max(b[axis]) + radius).ceil().max(0.0) as usize;
            low..high.min(size)
        };
        for row in pixels(1) {
            for column in pixels(0) {
                let squared = squared_distance([column as f32 + 0.5, row as f32 + 0.5], a, b);
                let rest = (1.0 - squared / (radius * radius)).max(0.0);
                let weight = &mut weights[row * size + column];
                *weight = weight.max(rest * rest);
            }
        }
    }
    weights
}

/// From a point to a segment.
fn squared_distance(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let [ab, ap] = [[b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]];
    let length = ab[0] * ab[0] + ab[1] * ab[1];
    let t = if length > 0.0 { ((ab[0] * ap[0] + ab[1] * ap[1]) / length).clamp(0.0, 1.0) } else { 0.0 };
    let d = [ap[0] - t * ab[0], ap[1] - t * ab[1]];
    d[0] * d[0] + d[1] * d[1]
}

fn paint(planes: &mut Planes, stroke: &Stroke, weights: &[f32], changed: &mut Changed) {
    let size = planes.size;
    let goal = if stroke.mode == Mode::Paint { 1.0 } else { 0.0 };
    // Views come in pairs that look at each other.
    let (view, opposite) = (&VIEWS[stroke.view], stroke.view ^ 1);
    for (pixel, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        let p = view.unproject([along(pixel % size, size), -along(pixel / size, size), 0.0]);
        let there = pixel_of(&VIEWS[opposite], p, size);
        for place in [stroke.view * size * size + pixel, opposite * size * size + there] {
            let value = &mut planes.values[place];
            *value += stroke.amount * weight * (goal - *value);
            changed[place] = true;
        }
    }
}

/// The middle of pixel `index` on the axis from -1 to 1.
fn along(index: usize, size: usize) -> f32 {
    (2 * index + 1) as f32 / size as f32 - 1.0
}

/// The pixel of `[size, size]` that shows a point of the cube.
fn pixel_of(view: &View, p: [f32; 3], size: usize) -> usize {
    let [u, v, _] = view.project(p);
    let place = |c: f32| (((c + 1.0) * 0.5 * size as f32) as usize).min(size - 1);
    place(-v) * size + place(u)
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(v: [f32; 3]) -> [f32; 3] {
    let length = dot(v, v).sqrt().max(1e-12);
    v.map(|c| c / length)
}

pub(super) fn is_surface(pixel: &[f32; 4]) -> bool {
    let normal = [pixel[1], pixel[2], pixel[3]];
    dot(normal, normal) >= SURFACE
}

fn reshape(planes: &mut Planes, stroke: &Stroke, weights: &[f32], changed: &mut Changed) {
    let (size, view) = (planes.size, &VIEWS[stroke.view]);
    let area = size * size;
    let start = stroke.view * area;
    let pixels: &mut [[f32; 4]] = bytemuck::cast_slice_mut(&mut planes.values);
    let change = changes(&pixels[start..start + area], stroke, weights, size);
    for pixel in 0..area {
        let here = &mut pixels[start + pixel];
        let slopes = slopes(&change, pixel, size);
        if !is_surface(here) || (change[pixel] == 0.0 && slopes == [0.0; 2]) {
            continue;
        }
        here[0] += change[pixel];
        tilt(here, view, slopes);
        changed[start + pixel] = true;
    }
    for (side, camera) in VIEWS.iter().enumerate().filter(|(_, side)| dot(side.forward, view.forward) == 0.0)
    {
        let raised = |pixel: &usize| change[*pixel] < 0.0;
        for pixel in (0..area).filter(raised) {
            splat(pixels, (stroke.view, pixel, change[pixel]), (side, camera), size, changed);
        }
    }
}

/// What is added to the depth of each pixel of a view.
fn changes(pixels: &[[f32; 4]], stroke: &Stroke, weights: &[f32], size: usize) -> Vec<f32> {
    let mut change = vec![0.0; pixels.len()];
    for (pixel, here) in pixels.iter().enumerate() {
        let weight = stroke.amount * weights[pixel];
        if weight == 0.0 || !is_surface(here) {
            continue;
        }
        let moved = match stroke.mode {
            Mode::Raise => -REACH * weight,
            Mode::Lower => REACH * weight,
            _ => weight * (mean_about(pixels, pixel, stroke.radius, size) - here[0]),
        };
        change[pixel] = (here[0] + moved).clamp(0.0, 1.0) - here[0];
    }
    change
}

/// The Gaussian mean of depth over the pixels of the same surface; its deviation is a quarter of the radius.
fn mean_about(pixels: &[[f32; 4]], pixel: usize, radius: f32, size: usize) -> f32 {
    let deviation = (0.25 * radius).clamp(0.7, 4.0);
    let reach = (2.0 * deviation).ceil() as usize;
    let (row, column, depth) = (pixel / size, pixel % size, pixels[pixel][0]);
    let around = |c: usize| c.saturating_sub(reach)..(c + reach + 1).min(size);
    let (mut sum, mut all) = (0.0, 0.0);
    for y in around(row) {
        for x in around(column) {
            let there = &pixels[y * size + x];
            if !is_surface(there) || (there[0] - depth).abs() > JUMP {
                continue;
            }
            let squared = (y.abs_diff(row).pow(2) + x.abs_diff(column).pow(2)) as f32;
            let weight = (-0.5 * squared / (deviation * deviation)).exp();
            sum += weight * there[0];
            all += weight;
        }
    }
    if all > 0.0 { sum / all } else { depth }
}

/// Of the change of depth, in world units along right and along up.
fn slopes(change: &[f32], pixel: usize, size: usize) -> [f32; 2] {
    let (row, column) = (pixel / size, pixel % size);
    let at = |row: usize, column: usize| change[row * size + column];
    let x = at(row, (column + 1).min(size - 1)) - at(row, column.saturating_sub(1));
    let y = at(row.saturating_sub(1), column) - at((row + 1).min(size - 1), column);
    // Depth counts half a world unit, two pixels are 4 / size.
    [x, y].map(|difference| 0.5 * difference * size as f32)
}

/// Adds to the slopes that the normal of a pixel tells; what faces away stays.
fn tilt(pixel: &mut [f32; 4], view: &View, [along, up]: [f32; 2]) {
    let normal = unit([pixel[1], pixel[2], pixel[3]]);
    let facing = -dot(normal, view.forward);
    if facing < -LEAST_FACING {
        return;
    }
    let facing = facing.max(LEAST_FACING);
    let a = dot(normal, view.right) / facing + along;
    let b = dot(normal, view.up) / facing + up;
    let tilted = std::array::from_fn(|axis| a * view.right[axis] + b * view.up[axis] - view.forward[axis]);
    pixel[1..].copy_from_slice(&unit(tilted));
}

/// Shows a raised pixel of one view, `(view, pixel, change)`, to a view from the side.
fn splat(
    pixels: &mut [[f32; 4]],
    (view, pixel, change): (usize, usize, f32),
    (side, camera): (usize, &View),
    size: usize,
    changed: &mut Changed,
) {
    let (from, area, edge) = (&VIEWS[view], size * size, size as f32);
    let here = pixels[view * area + pixel];
    let beside = towards(camera, from, pixel, size).map(|pixel| pixels[view * area + pixel]);
    let beside = beside.filter(is_surface);
    // Middles of pixels along the line of sight, between the new surface and the old one.
    let first = (here[0] * edge - 0.5).ceil().max(0.0) as usize;
    let last = ((here[0] - change) * edge - 0.5).floor().min(edge - 1.0);
    for layer in first..(last + 1.0).max(0.0) as usize {
        let depth = (layer as f32 + 0.5) / edge;
        // How far the surface goes on towards the camera, in pixels.
        let further = match &beside {
            // The one beside is raised as far, and shows itself.
            Some(beside) if beside[0] <= depth => continue,
            Some(beside) if beside[0] - here[0] < JUMP => (depth - here[0]) / (beside[0] - here[0]),
            _ => 0.5,
        };
        let p = from.unproject([along(pixel % size, size), -along(pixel / size, size), depth]);
        let place = side * area + pixel_of(camera, p, size);
        let seen = camera.project(p)[2] - further / edge;
        let there = &mut pixels[place];
        if is_surface(there) && there[0] <= seen {
            continue;
        }
        let mut normal = [here[1], here[2], here[3]];
        let facing = -dot(normal, camera.forward);
        if facing < 0.1 {
            normal = std::array::from_fn(|axis| normal[axis] - (0.1 - facing) * camera.forward[axis]);
        }
        let [x, y, z] = unit(normal);
        *there = [seen.clamp(0.0, 1.0), x, y, z];
        changed[place] = true;
    }
}

/// The pixel of `view` beside `pixel` on the way to `camera`, which looks across.
fn towards(camera: &View, view: &View, pixel: usize, size: usize) -> Option<usize> {
    let (row, column) = (pixel / size, pixel % size);
    let (right, up) = (-dot(camera.forward, view.right), -dot(camera.forward, view.up));
    let column = column.checked_add_signed(right as isize)?;
    let row = row.checked_add_signed(-up as isize)?;
    (row < size && column < size).then_some(row * size + column)
}

#[cfg(test)]
mod tests;
