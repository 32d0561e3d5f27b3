//! The cells of a contact sheet: one view of planes as a lit surface, a depth map, a normal map or a mask.

use super::{Image, cell_size};
use crate::hexplane::{Planes, Representation, VIEWS, View};

/// Linear light, red, green, blue.
type Light = [f32; 3];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Lit,
    Depth,
    Normals,
    Silhouette,
}

impl Layer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lit => "surface",
            Self::Depth => "depth",
            Self::Normals => "normals",
            Self::Silhouette => "mask",
        }
    }
}

/// What shows where no surface is, sRGB: panels of the page of runs in the dark (src/page/assets/style.css).
const GROUND: [f32; 3] = [0.094, 0.110, 0.125];

/// The view as a square of [`cell_size`] pixels.
pub fn draw(planes: &Planes, view: usize, layer: Layer) -> Image {
    let light = shade(planes, view, layer);
    let (size, cell) = (planes.size, cell_size(planes.size));
    let mut rgb = Vec::with_capacity(3 * cell * cell);
    let block = size.div_ceil(cell);
    for y in 0..cell {
        for x in 0..cell {
            let (rows, columns) = if cell >= size {
                let (row, column) = (y * size / cell, x * size / cell);
                (row..row + 1, column..column + 1)
            } else {
                (y * block..((y + 1) * block).min(size), x * block..((x + 1) * block).min(size))
            };
            let count = rows.len() * columns.len();
            let mut sum = [0.0; 3];
            for row in rows {
                for pixel in &light[row * size + columns.start..row * size + columns.end] {
                    (0..3).for_each(|channel| sum[channel] += pixel[channel]);
                }
            }
            rgb.extend(sum.map(|c| (encode(c / count as f32) * 255.0 + 0.5) as u8));
        }
    }
    Image { width: cell, height: cell, rgb }
}

fn shade(planes: &Planes, index: usize, layer: Layer) -> Vec<Light> {
    let ground = GROUND.map(decode);
    let view = &VIEWS[index];
    let values = planes.view(index);
    if planes.representation == Representation::Binary {
        return values.iter().map(|&cover| mask(cover, ground)).collect();
    }
    let surface: Vec<Option<Surface>> =
        values.as_chunks::<4>().0.iter().map(|pixel| Surface::seen(pixel, view)).collect();
    let hidden = if layer == Layer::Lit { occlusion(&surface, planes.size) } else { Vec::new() };
    let shade = |(pixel, surface): (usize, &Option<Surface>)| match (surface, layer) {
        (_, Layer::Silhouette) => mask(f32::from(surface.is_some()), ground),
        (None, _) => ground,
        (Some(surface), Layer::Lit) => clay(surface, hidden[pixel], ground),
        (Some(surface), Layer::Depth) => cividis(1.25 * surface.depth - 0.05).map(decode),
        (Some(surface), Layer::Normals) => surface.normal.map(|c| decode(0.5 + 0.5 * c)),
    };
    surface.iter().enumerate().map(shade).collect()
}

fn mask(cover: f32, ground: Light) -> Light {
    mix(ground, [0.914, 0.906, 0.890].map(decode), cover.clamp(0.0, 1.0))
}

/// A foreground pixel: |N| >= 0.5, as the field takes it.
struct Surface {
    depth: f32,
    /// Unit; x right, y up, z towards the camera.
    normal: [f32; 3],
}

impl Surface {
    /// Whether the camera looks through an opening at the inside. Above 0 because of the limb.
    fn inside(&self) -> bool {
        self.normal[2] < -0.2
    }
}

impl Surface {
    fn seen(pixel: &[f32; 4], view: &View) -> Option<Self> {
        let [depth, n @ ..] = *pixel;
        let length = dot(n, n).sqrt();
        let normal = [dot(n, view.right), dot(n, view.up), -dot(n, view.forward)].map(|c| c / length);
        (length >= 0.5).then(|| Self { depth: depth.clamp(0.0, 1.0), normal })
    }
}

/// Clay under a warm key light, a cool fill and a sky, with a rim against the ground. Insides are slate.
fn clay(surface: &Surface, hidden: f32, ground: Light) -> Light {
    const CLAY: Light = [0.60, 0.49, 0.41];
    const SLATE: Light = [0.17, 0.22, 0.30];
    const KEY: [f32; 3] = [-0.46, 0.62, 0.635];
    const FILL: [f32; 3] = [0.86, 0.05, 0.508];
    // Halfway between the key light and the camera.
    const HALF: [f32; 3] = [-0.254, 0.343, 0.904];
    let (albedo, n) =
        if surface.inside() { (SLATE, surface.normal.map(|c| -c)) } else { (CLAY, surface.normal) };
    let open = (-hidden.max(0.0)).exp();
    // Wrapped, so that the terminator is soft, as it is on skin and clay.
    let key = ((dot(n, KEY) + 0.2) / 1.2).max(0.0).powf(1.3);
    let fill = dot(n, FILL).max(0.0);
    let sky = 0.5 + 0.5 * n[1];
    let grazing = (1.0 - n[2].clamp(0.0, 1.0)).powi(3);
    let gloss = 0.10 * dot(n, HALF).max(0.0).powi(36) * open;
    // What lies deeper in the cube sinks into the ground colour.
    let fog = 0.45 * surface.depth * surface.depth;
    let lit: Light = std::array::from_fn(|c| {
        let sky_light = [0.17, 0.155, 0.15][c] + sky * ([0.33, 0.37, 0.43][c] - [0.17, 0.155, 0.15][c]);
        let diffuse = [2.15, 2.0, 1.82][c] * key * (0.4 + 0.6 * open)
            + [0.28, 0.34, 0.44][c] * fill * open
            + sky_light * open * open;
        let light = albedo[c] * diffuse + gloss + [0.10, 0.12, 0.15][c] * grazing * sky * open;
        // Crests a little brighter than flat ground, highlights rolled off.
        1.0 - (-0.80 * light * (1.0 + 0.25 * (-hidden).clamp(0.0, 0.6))).exp()
    });
    mix(lit, ground, fog)
}

/// How deep each pixel lies below its neighbourhood, scaled for [`clay`]: unsharp masking of the depth
/// buffer (Luft, Colditz and Deussen, 2006), over two radii; the mean is of foreground alone.
fn occlusion(surface: &[Option<Surface>], size: usize) -> Vec<f32> {
    let mut hidden = vec![0.0; surface.len()];
    // Summed-area table of (depth, count), with an empty first row and column.
    let width = size + 1;
    let mut table = vec![[0.0f64; 2]; width * width];
    for row in 0..size {
        let mut sum = [0.0; 2];
        for column in 0..size {
            if let Some(surface) = &surface[row * size + column] {
                sum = [sum[0] + f64::from(surface.depth), sum[1] + 1.0];
            }
            let above = table[row * width + column + 1];
            table[(row + 1) * width + column + 1] = [above[0] + sum[0], above[1] + sum[1]];
        }
    }
    for (share, strength) in [(40, 22.0), (12, 7.0)] {
        let radius = (size / share).max(1);
        for (pixel, hidden) in hidden.iter_mut().enumerate() {
            let Some(surface) = &surface[pixel] else { continue };
            let (row, column) = (pixel / size, pixel % size);
            let (top, bottom) = (row.saturating_sub(radius), (row + radius + 1).min(size));
            let (left, right) = (column.saturating_sub(radius), (column + radius + 1).min(size));
            let [a, b, c, d] = [(top, left), (top, right), (bottom, left), (bottom, right)]
                .map(|(r, c)| table[r * width + c]);
            let [depth, count] = [0, 1].map(|k| d[k] - b[k] - c[k] + a[k]);
            *hidden += strength * (surface.depth - (depth / count) as f32);
        }
    }
    hidden
}

/// From near (light) to far (dark), as on the page: stops of "cividis" (Nuñez, Anderton and Renslow, 2018), which people who
/// do not tell red from green read too; sRGB, linearly between them.
fn cividis(x: f32) -> [f32; 3] {
    const STOPS: [[u8; 3]; 6] =
        [[254, 232, 96], [201, 181, 106], [148, 143, 120], [102, 105, 112], [51, 68, 107], [0, 34, 78]];
    let at = x.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let low = (at as usize).min(STOPS.len() - 2);
    let [a, b] = [STOPS[low], STOPS[low + 1]].map(|stop| stop.map(|c| f32::from(c) / 255.0));
    mix(a, b, at - low as f32)
}

fn mix(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// sRGB to linear light (IEC 61966-2-1).
fn decode(c: f32) -> f32 {
    if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
}

/// Linear light to sRGB.
fn encode(c: f32) -> f32 {
    if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 }
}
