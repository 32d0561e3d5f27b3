//! STL, text and binary. The facets share no vertices in the file: corners at the same place are made
//! one vertex. Facet normals are passed over, because the winding says the same, and more reliably.
//!
//! Both readers are our own: the one crate for it reports no lines and trusts the first word `solid`,
//! with which many binary files start too.

use std::collections::HashMap;
use std::io::{self, Write};

use super::{Parts, Source, finite_vertex};
use crate::error::{Error, Result};
use crate::mesh::Mesh;

const HEADER: usize = 80;
const PREAMBLE: usize = HEADER + 4;
const FACET: usize = 50;

pub fn read(source: &Source) -> Result<Mesh> {
    let bytes = source.bytes;
    let claimed = bytes[HEADER.min(bytes.len())..].first_chunk::<4>().map(|&count| u32::from_le_bytes(count));
    let expected = claimed.map(|count| PREAMBLE as u64 + u64::from(count) * FACET as u64);
    if expected == Some(bytes.len() as u64) {
        return read_binary(source);
    }
    if bytes.trim_ascii_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"solid")) {
        return read_text(source);
    }
    let problem = match (claimed, expected) {
        (Some(count), Some(expected)) => {
            format!("{count} facets need {expected} bytes, the file has {}", bytes.len())
        }
        _ => format!("{} bytes are neither text that starts with \"solid\" nor a header", bytes.len()),
    };
    Err(source.error(
        format_args!("byte {HEADER}"),
        problem,
        "the file is cut short, damaged or no STL: get it again",
    ))
}

/// Gives each distinct place one index; a negative zero is the same place as zero.
#[derive(Default)]
struct Welder {
    parts: Parts,
    vertex_at: HashMap<[u32; 3], u32>,
}

impl Welder {
    fn vertex(&mut self, position: [f32; 3]) -> u32 {
        let position = position.map(|c| c + 0.0);
        *self.vertex_at.entry(position.map(f32::to_bits)).or_insert_with(|| {
            self.parts.positions.push(position);
            self.parts.positions.len() as u32 - 1
        })
    }
}

fn read_binary(source: &Source) -> Result<Mesh> {
    let mut welder = Welder::default();
    for (facet, record) in source.bytes[PREAMBLE..].as_chunks::<FACET>().0.iter().enumerate() {
        let mut triangle = [0; 3];
        for (corner, vertex) in triangle.iter_mut().enumerate() {
            let at = 12 + 12 * corner;
            let number = |axis: usize| {
                let at = at + 4 * axis;
                f32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
            };
            let position = [number(0), number(1), number(2)];
            let place = PREAMBLE + FACET * facet + at;
            let index = 3 * facet + corner;
            *vertex = welder.vertex(finite_vertex(
                source,
                format_args!("byte {place}"),
                index,
                position.map(f64::from),
            )?);
        }
        welder.parts.triangles.push(triangle);
    }
    welder.parts.finish(source)
}

fn read_text(source: &Source) -> Result<Mesh> {
    let mut welder = Welder::default();
    let mut corners: Vec<u32> = Vec::new();
    let mut read = 0;
    let mut open = false;
    for (index, line) in source.bytes.split(|&byte| byte == b'\n').enumerate() {
        let error = |problem: String| text_error(source, index + 1, problem);
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(keyword) = words.next().map(<[u8]>::to_ascii_lowercase) else { continue };
        match keyword.as_slice() {
            b"solid" => open = true,
            b"endsolid" => open = false,
            b"facet" => corners.clear(),
            b"outer" | b"endloop" => {}
            b"vertex" => {
                let numbers = three_numbers(words).ok_or_else(|| {
                    error(format!("expected vertex and 3 numbers, found {:?}", String::from_utf8_lossy(line)))
                })?;
                let position = finite_vertex(source, format_args!("line {}", index + 1), read, numbers)?;
                corners.push(welder.vertex(position));
                read += 1;
            }
            b"endfacet" => {
                let &[a, b, c] = corners.as_slice() else {
                    return Err(error(format!("expected a facet of 3 vertices, found {}", corners.len())));
                };
                welder.parts.triangles.push([a, b, c]);
                corners.clear();
            }
            other => {
                let found = String::from_utf8_lossy(&other[..other.len().min(40)]).into_owned();
                return Err(error(format!("expected facet, vertex or endsolid, found {found:?}")));
            }
        }
    }
    if open || !corners.is_empty() {
        let lines = source.bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
        return Err(text_error(source, lines, "the file ends before endsolid".to_string()));
    }
    welder.parts.finish(source)
}

fn text_error(source: &Source, line: usize, problem: String) -> Error {
    source.error(format_args!("line {line}"), problem, "the file is cut short or damaged: get it again")
}

fn three_numbers<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<[f64; 3]> {
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<f32>().ok().map(f64::from);
    Some([number()?, number()?, number()?])
}

/// Binary; the facet normals are those of the winding.
pub fn write(writer: &mut impl Write, mesh: &Mesh) -> io::Result<()> {
    // Not "solid": readers would take it for text.
    let mut preamble = [b' '; HEADER];
    preamble[..14].copy_from_slice(b"hexcuda binary");
    writer.write_all(&preamble)?;
    writer.write_all(&(mesh.triangles.len() as u32).to_le_bytes())?;
    for index in 0..mesh.triangles.len() {
        let corners = mesh.corners(index);
        let [a, b, c] = corners.map(|p| glam::DVec3::from_array(p.map(f64::from)));
        let normal = (b - a).cross(c - a).normalize_or_zero().as_vec3().to_array();
        for number in normal.iter().chain(corners.iter().flatten()) {
            writer.write_all(&number.to_le_bytes())?;
        }
        writer.write_all(&[0; 2])?;
    }
    Ok(())
}
