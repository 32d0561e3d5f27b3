//! Wavefront OBJ: polygons over positions and normals, in text.
//!
//! The reader is our own because the crates for it report no line numbers and split polygons as
//! fans, which turns concave ones inside out. It reads `v`, `vn` and `f` of all groups and objects into
//! one mesh; texture coordinates, materials, lines and points are passed over. Weights and colours
//! after the three coordinates of a vertex are passed over too.

use std::collections::HashMap;
use std::io::{self, Write};

use super::polygon::Polygons;
use super::{Parts, Source, finite_vertex};
use crate::error::{Error, Result};
use crate::mesh::Mesh;

const NO_NORMAL: u32 = u32::MAX;

pub fn read(source: &Source) -> Result<Mesh> {
    let mut reader = Reader::new(source);
    for_each_line(source.bytes, |number, line| reader.line(number, line))?;
    reader.finish()
}

/// Calls `each` with the number and the content of every line, continued lines (`\` at the end) joined.
fn for_each_line(bytes: &[u8], mut each: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
    let separator = if bytes.contains(&b'\n') { b'\n' } else { b'\r' };
    let mut joined: Vec<u8> = Vec::new();
    let mut start = 0;
    for (index, line) in bytes.split(|&byte| byte == separator).enumerate() {
        let code = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let uncommented = code.len() == line.len();
        if let Some(part) = line.trim_ascii_end().strip_suffix(b"\\").filter(|_| uncommented) {
            if joined.is_empty() {
                start = index;
            }
            joined.extend_from_slice(part);
            joined.push(b' ');
        } else if joined.is_empty() {
            each(index + 1, code)?;
        } else {
            joined.extend_from_slice(code);
            each(start + 1, &joined)?;
            joined.clear();
        }
    }
    if joined.is_empty() { Ok(()) } else { each(start + 1, &joined) }
}

struct Reader<'a> {
    source: &'a Source<'a>,
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    polygons: Polygons,
    /// Beside every corner of `polygons`.
    corner_normals: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            positions: Vec::new(),
            normals: Vec::new(),
            polygons: Polygons::default(),
            corner_normals: Vec::new(),
        }
    }

    fn line(&mut self, number: usize, line: &[u8]) -> Result<()> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match words.next() {
            Some(b"v") => {
                let numbers = self.numbers(number, "v", words)?;
                let place = format!("line {number}");
                let index = self.positions.len() + 1;
                self.positions.push(finite_vertex(self.source, place, index, numbers)?);
            }
            Some(b"vn") => {
                let normal = self.numbers(number, "vn", words)?;
                self.normals.push(normal.map(|c| c as f32));
            }
            Some(b"f" | b"fo") => {
                for word in words {
                    self.corner(number, word)?;
                }
                self.polygons.end_face(number);
            }
            _ => {}
        }
        Ok(())
    }

    fn error(&self, line: usize, problem: impl std::fmt::Display) -> Error {
        self.source.error(format_args!("line {line}"), problem, "mend the line or export the mesh again")
    }

    fn numbers<'w>(
        &self,
        line: usize,
        keyword: &str,
        mut words: impl Iterator<Item = &'w [u8]>,
    ) -> Result<[f64; 3]> {
        let mut numbers = [0.0; 3];
        for (found, number) in numbers.iter_mut().enumerate() {
            let word = words.next().ok_or_else(|| {
                self.error(line, format!("expected 3 numbers after {keyword}, found {found}"))
            })?;
            // As the file's text is meant: rounded once, to single precision.
            let parsed = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f32>().ok());
            *number = f64::from(parsed.ok_or_else(|| {
                self.error(line, format!("expected a number, found {:?}", String::from_utf8_lossy(word)))
            })?);
        }
        Ok(numbers)
    }

    fn corner(&mut self, line: usize, word: &[u8]) -> Result<()> {
        let mut parts = word.split(|&byte| byte == b'/');
        let vertex = parts.next().unwrap_or_default();
        let vertex = self.index(line, vertex, "vertex", self.positions.len())?;
        let normal = match parts.nth(1) {
            Some(normal) if !normal.is_empty() => self.index(line, normal, "normal", self.normals.len())?,
            _ => NO_NORMAL,
        };
        self.polygons.push_corner(vertex);
        self.corner_normals.push(normal);
        Ok(())
    }

    /// An index counted from 0; the file counts from 1, or backwards from the last of `count` so far.
    fn index(&self, line: usize, word: &[u8], what: &str, count: usize) -> Result<u32> {
        let number: Option<i64> = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        let index = match number {
            Some(number) if number > 0 => Some(number - 1),
            Some(number) if number < 0 => (count as i64).checked_add(number),
            _ => None,
        };
        index.and_then(|index| u32::try_from(index).ok()).filter(|&index| index != NO_NORMAL).ok_or_else(
            || {
                let word = String::from_utf8_lossy(word);
                self.error(
                    line,
                    format!(
                        "expected a {what} index counted from 1 or back from -1, found {word:?} after {count}"
                    ),
                )
            },
        )
    }

    fn finish(mut self) -> Result<Mesh> {
        let line = |line: usize| format!("line {line}");
        let triangulate =
            |polygons: &Polygons, positions: &[[f32; 3]]| polygons.triangulate(self.source, positions, line);
        let normals_given = self.corner_normals.iter().any(|&normal| normal != NO_NORMAL);
        if !normals_given {
            let triangles = triangulate(&self.polygons, &self.positions)?;
            return Parts { positions: self.positions, normals: Vec::new(), triangles }.finish(self.source);
        }
        let count = self.normals.len();
        let beyond = |&normal: &u32| normal != NO_NORMAL && normal as usize >= count;
        if let Some(index) = self.corner_normals.iter().position(beyond) {
            let number = u64::from(self.corner_normals[index]) + 1;
            let line = self.polygons.place_of_corner(index);
            return Err(self.error(line, format!("a face refers to normal {number}, there are {count}")));
        }
        // Checks the corners, before they are renumbered.
        triangulate(&self.polygons, &self.positions)?;
        let vertices = split_by_normal(&mut self.polygons, &self.corner_normals);
        let positions: Vec<_> = vertices.iter().map(|&(p, _)| self.positions[p as usize]).collect();
        let normal = |n: u32| if n == NO_NORMAL { [0.0; 3] } else { self.normals[n as usize] };
        let normals = vertices.iter().map(|&(_, n)| normal(n)).collect();
        let triangles = triangulate(&self.polygons, &positions)?;
        Parts { positions, normals, triangles }.finish(self.source)
    }
}

/// Renumbers the corners so that a vertex is a pair of a position and a normal; returns the pairs.
fn split_by_normal(polygons: &mut Polygons, corner_normals: &[u32]) -> Vec<(u32, u32)> {
    let mut vertices = Vec::new();
    let mut vertex_of_pair = HashMap::new();
    for (corner, &normal) in polygons.corners_mut().iter_mut().zip(corner_normals) {
        let pair = (*corner, normal);
        *corner = *vertex_of_pair.entry(pair).or_insert_with(|| {
            vertices.push(pair);
            vertices.len() as u32 - 1
        });
    }
    vertices
}

pub fn write(writer: &mut impl Write, mesh: &Mesh) -> io::Result<()> {
    for [x, y, z] in &mesh.positions {
        writeln!(writer, "v {x} {y} {z}")?;
    }
    for [x, y, z] in mesh.normals.iter().flatten() {
        writeln!(writer, "vn {x} {y} {z}")?;
    }
    for triangle in &mesh.triangles {
        let [a, b, c] = triangle.map(|vertex| u64::from(vertex) + 1);
        if mesh.normals.is_some() {
            writeln!(writer, "f {a}//{a} {b}//{b} {c}//{c}")?;
        } else {
            writeln!(writer, "f {a} {b} {c}")?;
        }
    }
    Ok(())
}
