//! Planes on the disk: safetensors, `.npy`, and a picture for people.
//!
//! Both array formats hold `[6, 4, N, N]` (binary: `[6, N, N]`), fp32 or fp16, views in the order of
//! [`super::VIEWS`], channels (depth, nx, ny, nz). A safetensors file has them under the key `planes`, with
//! `representation`, `size` and `transform` (a [`Similarity`] as JSON) in its metadata; a `.npy` file cannot
//! keep the transform and reads back with the identity.

use super::rasterize::MAX_SIZE;
use super::{Planes, Representation, VIEWS, picture};
use crate::files::write_atomic;
use crate::mesh::Similarity;
use crate::{Error, Result};
use half::f16;
use npyz::WriterBuilder;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::Path;

/// Numbers in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    /// Half the size; depth keeps 11 bits.
    F16,
}

/// The tensor's name in a safetensors file.
const KEY: &str = "planes";

/// Longest header of a `.npy` file of planes, with room to spare; parsing time and stack grow with it.
const MAX_NPY_HEADER: usize = 512;

#[derive(Clone, Copy)]
enum Format {
    Safetensors,
    Npy,
    Png,
}

fn format(path: &Path) -> Result<Format> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "safetensors" => Ok(Format::Safetensors),
        "npy" => Ok(Format::Npy),
        "png" => Ok(Format::Png),
        _ => {
            let problem = format!("the ending .{ending} says no format of planes");
            Err(Error::new(path.display(), problem, "use .safetensors, .npy or (to look at) .png"))
        }
    }
}

/// Writes planes in the format that the ending of `path` names, whole or not at all. `.png` is the
/// [`picture::contact_sheet`] and has no precision.
///
/// Errors: another ending, a value that `precision` cannot hold, what the disk says.
pub fn write(path: &Path, planes: &Planes, precision: Precision) -> Result<()> {
    let format = format(path)?;
    if let Format::Png = format {
        return picture::write_png(path, &picture::contact_sheet(&[("", planes)]));
    }
    let largest = if precision == Precision::F16 { f32::from(f16::MAX) } else { f32::MAX };
    if let Some(index) = planes.values.iter().position(|v| !matches!(v.abs(), a if a <= largest)) {
        let [view, row, column, channel] = place_of(planes, index);
        let place = format!("{}: {} [{row}, {column}] channel {channel}", path.display(), VIEWS[view].name);
        let problem = format!("{} does not fit the file's numbers", planes.values[index]);
        return Err(Error::new(place, problem, "nothing was written: check what made these planes"));
    }
    write_atomic(path, |file| match format {
        Format::Npy => match precision {
            Precision::F32 => write_npy(file, planes, planar(planes)),
            Precision::F16 => write_npy(file, planes, planar(planes).map(f16::from_f32)),
        },
        _ => {
            file.write_all(&safetensors_header(planes, precision)?)?;
            match precision {
                Precision::F32 => write_numbers(file, planar(planes).map(f32::to_le_bytes)),
                Precision::F16 => write_numbers(file, planar(planes).map(|v| f16::from_f32(v).to_le_bytes())),
            }
        }
    })
}

fn place_of(planes: &Planes, index: usize) -> [usize; 4] {
    let (pixel, channel) = (index / planes.channels(), index % planes.channels());
    let area = planes.size * planes.size;
    [pixel / area, pixel % area / planes.size, pixel % planes.size, channel]
}

/// The shape in a file.
fn shape(representation: Representation, size: usize) -> Vec<usize> {
    match representation {
        Representation::Continuous => vec![6, 4, size, size],
        Representation::Binary => vec![6, size, size],
    }
}

/// The values in the order of a file: channels before pixels.
fn planar(planes: &Planes) -> impl Iterator<Item = f32> {
    let channels = planes.channels();
    (0..6).flat_map(move |view| {
        let pixels = planes.view(view);
        (0..channels).flat_map(move |channel| pixels[channel..].iter().step_by(channels).copied())
    })
}

/// Our own header, because the crate's metadata is a hash map whose order changes from run to run: the
/// same planes must give the same bytes.
fn safetensors_header(planes: &Planes, precision: Precision) -> io::Result<Vec<u8>> {
    let (dtype, bytes) = match precision {
        Precision::F32 => ("F32", 4),
        Precision::F16 => ("F16", 2),
    };
    let header = serde_json::json!({
        "__metadata__": {
            "representation": serde_json::to_value(planes.representation)?,
            "size": planes.size.to_string(),
            "transform": serde_json::to_string(&planes.transform)?,
        },
        KEY: {
            "dtype": dtype,
            "shape": shape(planes.representation, planes.size),
            "data_offsets": [0, planes.values.len() * bytes],
        },
    });
    let mut text = header.to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.into_bytes());
    Ok(out)
}

fn write_numbers<const N: usize>(
    out: &mut impl Write,
    numbers: impl Iterator<Item = [u8; N]>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1 << 16);
    for number in numbers {
        buffer.extend(number);
        if buffer.len() == buffer.capacity() {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)
}

fn write_npy<T: npyz::AutoSerialize>(
    out: &mut impl Write,
    planes: &Planes,
    numbers: impl Iterator<Item = T>,
) -> io::Result<()> {
    let shape: Vec<u64> = shape(planes.representation, planes.size).iter().map(|&n| n as u64).collect();
    let mut file = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
    file.extend(numbers)?;
    file.finish()
}

/// Reads `.safetensors` or `.npy` planes. Representation and size follow from the shape and must agree with
/// the metadata where there is any; without metadata the transform is the identity.
///
/// Errors: what is no such file, is cut short, has another shape or type, or values that are not finite.
pub fn read(path: &Path) -> Result<Planes> {
    let place = path.display().to_string();
    let read = match format(path)? {
        Format::Safetensors => read_safetensors,
        Format::Npy => read_npy,
        Format::Png => {
            let remedy = "give the .safetensors or .npy file that the picture was made from";
            return Err(Error::new(place, "a picture holds no planes to read", remedy));
        }
    };
    let length = std::fs::metadata(path).map_err(|error| Error::io(path, &error))?.len();
    let longest = (6 * 4 * 8 * MAX_SIZE * MAX_SIZE) as u64;
    if length > longest {
        let problem = format!("{length} bytes, more than planes of {MAX_SIZE} pixels have");
        return Err(Error::new(place, problem, "check that this is a file of planes"));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
    let planes = read(&place, &bytes)?;
    if let Some(index) = planes.values.iter().position(|v| !v.is_finite()) {
        let [view, row, column, channel] = place_of(&planes, index);
        let place = format!("{place}: {} [{row}, {column}] channel {channel}", VIEWS[view].name);
        let problem = format!("expected a finite number, found {}", planes.values[index]);
        return Err(Error::new(place, problem, "make the planes again"));
    }
    Ok(planes)
}

fn read_safetensors(place: &str, bytes: &[u8]) -> Result<Planes> {
    let whole = "get the file again, or check that it is a safetensors file";
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|error| Error::new(format!("{place}: header"), error, whole))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::new(place, error, whole))?;
    let tensor = file.tensor(KEY).map_err(|_| {
        let mut names = file.names();
        names.sort_unstable();
        names.truncate(4);
        let problem = format!("expected a tensor `{KEY}`, found {names:?}");
        Error::new(place, problem, "give a file that `hexcuda rasterize` or a run wrote")
    })?;
    let inside = format!("{place}: tensor `{KEY}`");
    let (representation, size) = recognise(&inside, tensor.shape())?;
    let numbers: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => tensor.data().as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        other => {
            let problem = format!("expected F32 or F16, found {other:?}");
            return Err(Error::new(inside, problem, "convert the tensor"));
        }
    };
    let none = Default::default();
    let metadata = header.metadata().as_ref().unwrap_or(&none);
    let stated = |key: &str, expected: String| match metadata.get(key) {
        Some(found) if *found != expected => {
            let problem = format!("the shape says {expected}, the metadata {found}");
            Err(Error::new(format!("{place}: {key}"), problem, "make the planes again"))
        }
        _ => Ok(()),
    };
    stated("size", size.to_string())?;
    let name = if representation == Representation::Binary { "binary" } else { "continuous" };
    stated("representation", name.to_string())?;
    let transform = metadata.get("transform").map(|text| parse_transform(place, text)).transpose()?;
    Ok(interleave(representation, size, &numbers, transform.unwrap_or_default()))
}

fn parse_transform(place: &str, text: &str) -> Result<Similarity> {
    let wrong = |problem: String| {
        let remedy = "make the planes again, or leave the transform out for the identity";
        Err(Error::new(format!("{place}: transform"), problem, remedy))
    };
    let transform: Similarity = match serde_json::from_str(text) {
        Ok(transform) => transform,
        Err(error) => return wrong(error.to_string()),
    };
    let Similarity { rotation: r, centre, scale } = transform;
    if !(scale > 0.0 && scale.is_finite() && centre.iter().all(|c| c.is_finite())) {
        return wrong("expected a positive scale and a finite centre".into());
    }
    let dot = |a: usize, b: usize| (0..3).map(|k| r[a][k] * r[b][k]).sum::<f64>();
    let orthonormal = (0..3).all(|a| (0..3).all(|b| (dot(a, b) - f64::from(u8::from(a == b))).abs() < 1e-6));
    let cross = [
        r[0][1] * r[1][2] - r[0][2] * r[1][1],
        r[0][2] * r[1][0] - r[0][0] * r[1][2],
        r[0][0] * r[1][1] - r[0][1] * r[1][0],
    ];
    let proper = (0..3).map(|k| cross[k] * r[2][k]).sum::<f64>() > 0.0;
    if !(orthonormal && proper) {
        return wrong("expected the rows of a proper rotation".into());
    }
    Ok(transform)
}

fn read_npy(place: &str, bytes: &[u8]) -> Result<Planes> {
    let whole = "get the file again, or check that it is a .npy file";
    // Magic, version, then the length of the header: 2 bytes in version 1, 4 after.
    let length = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => usize::from(u16::from_le_bytes([*a, *b])),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2..=u8::MAX, _, a, b, c, d, ..] => {
            u32::from_le_bytes([*a, *b, *c, *d]) as usize
        }
        _ => return Err(Error::new(format!("{place}: byte 0"), "expected the header of a .npy file", whole)),
    };
    if length > MAX_NPY_HEADER {
        let problem = format!("a header of {length} bytes, planes have one of at most {MAX_NPY_HEADER}");
        return Err(Error::new(format!("{place}: byte 8"), problem, whole));
    }
    // A product of numbers with 18 decimal digits together stays below 2^64; the parser does not check.
    let text = &bytes[..bytes.len().min(MAX_NPY_HEADER)];
    let text = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let hexadecimal = text.windows(2).any(|pair| pair.eq_ignore_ascii_case(b"0x"));
    if hexadecimal || text.iter().filter(|byte| byte.is_ascii_digit()).count() > 18 {
        let problem = format!("expected a shape of at most 6 x 4 x {MAX_SIZE} x {MAX_SIZE}");
        return Err(Error::new(format!("{place}: header"), problem, whole));
    }
    let file =
        npyz::NpyFile::new(bytes).map_err(|error| Error::new(format!("{place}: header"), error, whole))?;
    let shape: Vec<usize> = file.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    let (representation, size) = recognise(place, &shape)?;
    if file.order() != npyz::Order::C {
        let problem = "expected C order, found Fortran order";
        return Err(Error::new(place, problem, "save numpy.ascontiguousarray of it"));
    }
    let kind = file.dtype().descr();
    let cut = |error: io::Error| Error::new(format!("{place}: data"), error, whole);
    let numbers: Vec<f32> = match kind.trim_matches('\'').trim_start_matches(['<', '>', '=']) {
        "f4" => file.into_vec().map_err(cut)?,
        "f2" => file.into_vec::<f16>().map_err(cut)?.iter().map(|v| v.to_f32()).collect(),
        "f8" => file.into_vec::<f64>().map_err(cut)?.iter().map(|&v| v as f32).collect(),
        _ => {
            let problem = format!("expected float32, float16 or float64, found {kind}");
            return Err(Error::new(place, problem, "save it with .astype('float32')"));
        }
    };
    Ok(interleave(representation, size, &numbers, Similarity::default()))
}

fn recognise(place: &str, shape: &[usize]) -> Result<(Representation, usize)> {
    match *shape {
        [6, 4, n, m] if n == m && (1..=MAX_SIZE).contains(&n) => Ok((Representation::Continuous, n)),
        [6, n, m] if n == m && (1..=MAX_SIZE).contains(&n) => Ok((Representation::Binary, n)),
        _ => {
            let problem =
                format!("expected shape [6, 4, N, N] or [6, N, N], N at most {MAX_SIZE}, found {shape:?}");
            Err(Error::new(place, problem, "reshape it, or make the planes with `hexcuda rasterize`"))
        }
    }
}

/// From the order of a file to channels after pixels.
fn interleave(representation: Representation, size: usize, numbers: &[f32], transform: Similarity) -> Planes {
    let (area, channels) = (size * size, representation.channels());
    let mut values = vec![0.0; numbers.len()];
    for (view, planar) in values.chunks_mut(area * channels).zip(numbers.chunks(area * channels)) {
        for (channel, plane) in planar.chunks(area).enumerate() {
            view[channel..].iter_mut().step_by(channels).zip(plane).for_each(|(to, from)| *to = *from);
        }
    }
    Planes { representation, size, values, transform }
}
