//! Pictures of planes for people: a contact sheet with a column a view, rows for the lit surface, the depth
//! and the normals, and a block of rows for each set of planes (the input above what was decoded).

mod layers;

use super::{Planes, Representation, VIEWS};
use crate::files::write_atomic;
use crate::{Error, Result};
use layers::Layer;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use rayon::prelude::*;
use std::path::Path;

/// An 8-bit sRGB picture, rows from the top, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

/// Colours of the page of runs in the dark (src/page/assets/style.css).
const PAGE: [u8; 3] = [0x12, 0x15, 0x18];
const INK: [u8; 3] = [0xe9, 0xe7, 0xe3];
const FAINT: [u8; 3] = [0x9e, 0xa7, 0xb0];

/// Largest edge of a cell; larger planes are box-filtered, planes below half of `SMALL_CELL` enlarged.
const LARGE_CELL: usize = 256;
const SMALL_CELL: usize = 192;

const FONT: RasterHeight = RasterHeight::Size16;
const LINE: usize = 16;
const MARGIN: usize = 28;
const GUTTER: usize = 8;
/// Room for the names of the rows.
const STUB: usize = 92;

/// The picture of one or more sets of planes with their names (`""` for none), in the order given.
/// Continuous planes get the lit surface, depth (near is bright) and normals as the camera sees them (red
/// right, green up, blue towards it); binary planes their silhouettes.
pub fn contact_sheet(blocks: &[(&str, &Planes)]) -> Image {
    let layers = |planes: &Planes| match planes.representation {
        Representation::Continuous => &[Layer::Lit, Layer::Depth, Layer::Normals][..],
        Representation::Binary => &[Layer::Silhouette][..],
    };
    sheet(blocks, layers)
}

/// The same with the lit surface alone, or silhouettes: a row for each of many sets of planes.
pub fn surface_sheet(blocks: &[(&str, &Planes)]) -> Image {
    let layers = |planes: &Planes| match planes.representation {
        Representation::Continuous => &[Layer::Lit][..],
        Representation::Binary => &[Layer::Silhouette][..],
    };
    sheet(blocks, layers)
}

/// The same with nothing but silhouettes, of either representation.
pub fn silhouette_sheet(blocks: &[(&str, &Planes)]) -> Image {
    sheet(blocks, |_| &[Layer::Silhouette])
}

/// The picture as a PNG file in memory.
pub fn png_bytes(image: &Image) -> Result<Vec<u8>> {
    let failed = |error: png::EncodingError| Error::new("picture", error, "make a smaller picture");
    let side = |pixels: usize| {
        u32::try_from(pixels)
            .map_err(|_| Error::new("picture", "more than 2^32 pixels along", "make less of it"))
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(image.width)?, side(image.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&image.rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Writes a PNG file, whole or not at all.
pub fn write_png(path: &Path, image: &Image) -> Result<()> {
    let bytes = png_bytes(image)?;
    write_atomic(path, |file| std::io::Write::write_all(file, &bytes))
}

fn sheet<'a>(blocks: &[(&str, &Planes)], layers: impl Fn(&Planes) -> &'a [Layer]) -> Image {
    let cell = blocks.iter().map(|(_, planes)| cell_size(planes.size)).max().unwrap_or(SMALL_CELL);
    let pitch = cell + GUTTER;
    let title = |name: &str| if name.is_empty() { 0 } else { LINE + GUTTER };
    let block_height = |(name, planes): &(&str, &Planes)| title(name) + layers(planes).len() * pitch + LINE;
    let header = MARGIN + LINE + GUTTER;
    let width = 2 * MARGIN + STUB + VIEWS.len() * pitch - GUTTER;
    let height = header + blocks.iter().map(block_height).sum::<usize>() + MARGIN - GUTTER - LINE.min(MARGIN);
    let mut image = Image { width, height, rgb: PAGE.repeat(width * height) };

    let left = MARGIN + STUB;
    for (k, view) in VIEWS.iter().enumerate() {
        image.text(left + k * pitch + (cell - text_width(view.name)) / 2, MARGIN, view.name, FAINT);
    }
    let mut top = header;
    for (name, planes) in blocks {
        image.text(left, top, name, INK);
        top += title(name);
        for layer in layers(planes) {
            image.text(MARGIN, top + (cell - LINE) / 2, layer.name(), FAINT);
            let cells: Vec<Image> =
                (0..VIEWS.len()).into_par_iter().map(|view| layers::draw(planes, view, *layer)).collect();
            for (k, picture) in cells.iter().enumerate() {
                let inset = (cell - picture.width) / 2;
                image.paste(left + k * pitch + inset, top + inset, picture);
            }
            top += pitch;
        }
        top += LINE;
    }
    image
}

/// Edge of the picture of planes of `size` pixels.
fn cell_size(size: usize) -> usize {
    if size > LARGE_CELL {
        size.div_ceil(size.div_ceil(LARGE_CELL))
    } else {
        size * (SMALL_CELL / size).max(1)
    }
}

fn text_width(text: &str) -> usize {
    text.chars().count() * get_raster_width(FontWeight::Regular, FONT)
}

impl Image {
    /// Text with its top left corner at (x, y), cut at the edges; unknown characters become `?`.
    fn text(&mut self, mut x: usize, y: usize, text: &str, ink: [u8; 3]) {
        for c in text.chars() {
            let glyph = get_raster(c, FontWeight::Regular, FONT)
                .or_else(|| get_raster('?', FontWeight::Regular, FONT));
            let Some(glyph) = glyph else { continue };
            for (dy, row) in glyph.rows().enumerate().take(self.height.saturating_sub(y)) {
                for (dx, &cover) in row.iter().enumerate().take(self.width.saturating_sub(x)) {
                    let at = 3 * ((y + dy) * self.width + x + dx);
                    for (below, ink) in self.rgb[at..at + 3].iter_mut().zip(ink) {
                        let (a, b, cover) = (u32::from(*below), u32::from(ink), u32::from(cover));
                        *below = ((a * (255 - cover) + b * cover + 127) / 255) as u8;
                    }
                }
            }
            x += glyph.width();
        }
    }

    fn paste(&mut self, x: usize, y: usize, picture: &Image) {
        for (row, line) in picture.rgb.chunks(3 * picture.width).enumerate() {
            let at = 3 * ((y + row) * self.width + x);
            self.rgb[at..at + line.len()].copy_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Similarity;

    fn planes(representation: Representation, size: usize) -> Planes {
        let mut planes = Planes::background(representation, size, Similarity::default());
        let channels = planes.channels();
        for (k, view) in VIEWS.iter().enumerate() {
            for pixel in 0..size * size / 2 {
                let at = (k * size * size + pixel) * channels;
                match representation {
                    Representation::Binary => planes.values[at] = 1.0,
                    Representation::Continuous => {
                        planes.values[at] = 0.25;
                        (0..3).for_each(|axis| planes.values[at + 1 + axis] = -view.forward[axis]);
                    }
                }
            }
        }
        planes
    }

    fn at(image: &Image, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * image.width + x);
        image.rgb[at..at + 3].try_into().unwrap()
    }

    #[test]
    fn cells_stay_within_their_bounds() {
        for size in 1..=2100 {
            let cell = cell_size(size);
            assert!((97..=LARGE_CELL).contains(&cell), "{size} {cell}");
        }
        assert_eq!([cell_size(512), cell_size(256), cell_size(64)], [256, 256, 192]);
    }

    #[test]
    fn a_sheet_shows_what_is_there() {
        let (continuous, binary) =
            (planes(Representation::Continuous, 300), planes(Representation::Binary, 64));
        let image = contact_sheet(&[("input", &continuous), ("decoded", &binary)]);
        assert_eq!(image.rgb.len(), 3 * image.width * image.height);
        let (left, top) = (MARGIN + STUB, MARGIN + 2 * (LINE + GUTTER));
        let pitch = 192 + GUTTER;
        for view in 0..6 {
            let x = left + view * pitch + 75;
            // The third row: a normal that faces the camera is (0.5, 0.5, 1), whatever the view.
            let normal = at(&image, x, top + 2 * pitch + 40);
            assert!(
                (127..=128).contains(&normal[0]) && normal[0] == normal[1] && normal[2] == 255,
                "{normal:?}"
            );
            // Above is surface, below is background, in every row.
            for row in 0..3 {
                let (hit, miss) =
                    (at(&image, x, top + row * pitch + 40), at(&image, x, top + row * pitch + 130));
                let light = |c: [u8; 3]| c.iter().map(|&c| u32::from(c)).sum::<u32>();
                assert!(light(hit) > light(miss) + 100, "{view} {row}: {hit:?} {miss:?}");
            }
        }
    }

    #[test]
    fn a_png_decodes_to_the_same_pixels() {
        let planes = planes(Representation::Binary, 7);
        let image = silhouette_sheet(&[("a name that is not ASCII: é", &planes)]);
        let bytes = png_bytes(&image).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width as usize, info.height as usize), (image.width, image.height));
        assert!(rgb == image.rgb);
    }
}
