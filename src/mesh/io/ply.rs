//! Stanford PLY: text, little and big endian.
//!
//! `ply_rs_bw` parses the header. The payload is read here, straight into vertices and faces, because
//! the crate makes a map of boxed values per element and trusts the counts that the header claims.

use std::io::{self, Write};

use ply_rs_bw::parser::{Parser, Reader};
use ply_rs_bw::ply::{DefaultElement, ElementDef, Encoding, Header, PropertyType, ScalarType};

use super::polygon::Polygons;
use super::{Parts, Source, finite_vertex};
use crate::error::Result;
use crate::mesh::Mesh;

/// A header is text by hand or by a program: one that does not end here never does.
const MAX_HEADER_BYTES: usize = 1 << 20;
const DAMAGED: &str = "the file is cut short or its header is wrong: get it again";

pub fn read(source: &Source) -> Result<Mesh> {
    let (header, payload_start) = read_header(source)?;
    match header.encoding {
        Encoding::Ascii => {
            let line = 1 + source.bytes[..payload_start].iter().filter(|&&byte| byte == b'\n').count();
            read_payload(source, &header, Text { rest: &source.bytes[payload_start..], line })
        }
        encoding => {
            let big_endian = encoding == Encoding::BinaryBigEndian;
            read_payload(source, &header, Binary { bytes: source.bytes, at: payload_start, big_endian })
        }
    }
}

fn read_payload<N: Numbers>(source: &Source, header: &Header, mut numbers: N) -> Result<Mesh> {
    let mut contents = Contents::default();
    contents.read(source, header, &mut numbers)?;
    let Contents { positions, normals, faces } = contents;
    let triangles = faces.triangulate(source, &positions, |place| format!("{} {place}", N::UNIT))?;
    Parts { positions, normals, triangles }.finish(source)
}

/// The header and the byte where the payload starts.
fn read_header(source: &Source) -> Result<(Header, usize)> {
    let at_header = |problem: String| source.error("header", problem, DAMAGED);
    if !source.bytes.starts_with(b"ply") {
        return Err(at_header("expected \"ply\" in the first line".to_string()));
    }
    let head = &source.bytes[..source.bytes.len().min(MAX_HEADER_BYTES)];
    let mut end = 0;
    loop {
        let Some(length) = head[end..].iter().position(|&byte| byte == b'\n') else {
            return Err(at_header("expected a line \"end_header\", found none".to_string()));
        };
        let line = &head[end..end + length];
        end += length + 1;
        if line.trim_ascii() == b"end_header" {
            break;
        }
    }
    // Comments may be in any encoding; only their text suffers here.
    let text = String::from_utf8_lossy(&head[..end]);
    let parsed = Parser::<DefaultElement>::new().read_header(&mut Reader::new(text.as_bytes()));
    let header = parsed.map_err(|error| at_header(error.to_string()))?;
    let lines_of = |keyword: &str| text.lines().filter(|line| line.trim_start().starts_with(keyword)).count();
    let properties: usize = header.elements.iter().map(|(_, element)| element.properties.len()).sum();
    if header.elements.len() != lines_of("element ") || properties != lines_of("property ") {
        return Err(at_header("it names an element or a property twice".to_string()));
    }
    Ok((header, end))
}

/// The payload as a stream of numbers.
trait Numbers {
    fn next(&mut self, source: &Source, scalar: &ScalarType) -> Result<f64>;
    /// What `place` counts.
    const UNIT: &'static str;
    /// The line or the byte that is read next.
    fn place(&self) -> usize;
    fn place_name(&self) -> String {
        format!("{} {}", Self::UNIT, self.place())
    }
    fn remaining(&self) -> usize;
    fn smallest_size(scalar: &ScalarType) -> usize;
}

struct Binary<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl Binary<'_> {
    fn take<const N: usize>(&mut self, source: &Source) -> Result<[u8; N]> {
        let Some(&(mut bytes)) = self.bytes[self.at..].first_chunk::<N>() else {
            return Err(source.error(
                self.place_name(),
                "the file ends in the middle of its payload",
                DAMAGED,
            ));
        };
        self.at += N;
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }
}

impl Numbers for Binary<'_> {
    const UNIT: &'static str = "byte";

    fn next(&mut self, source: &Source, scalar: &ScalarType) -> Result<f64> {
        Ok(match scalar {
            ScalarType::Char => i8::from_le_bytes(self.take(source)?).into(),
            ScalarType::UChar => u8::from_le_bytes(self.take(source)?).into(),
            ScalarType::Short => i16::from_le_bytes(self.take(source)?).into(),
            ScalarType::UShort => u16::from_le_bytes(self.take(source)?).into(),
            ScalarType::Int => i32::from_le_bytes(self.take(source)?).into(),
            ScalarType::UInt => u32::from_le_bytes(self.take(source)?).into(),
            ScalarType::Float => f32::from_le_bytes(self.take(source)?).into(),
            ScalarType::Double => f64::from_le_bytes(self.take(source)?),
        })
    }

    fn place(&self) -> usize {
        self.at
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn smallest_size(scalar: &ScalarType) -> usize {
        match scalar {
            ScalarType::Char | ScalarType::UChar => 1,
            ScalarType::Short | ScalarType::UShort => 2,
            ScalarType::Int | ScalarType::UInt | ScalarType::Float => 4,
            ScalarType::Double => 8,
        }
    }
}

struct Text<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Numbers for Text<'_> {
    const UNIT: &'static str = "line";

    fn next(&mut self, source: &Source, _: &ScalarType) -> Result<f64> {
        while let Some((first, rest)) = self.rest.split_first().filter(|(byte, _)| byte.is_ascii_whitespace())
        {
            self.line += usize::from(*first == b'\n');
            self.rest = rest;
        }
        let length = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        if word.is_empty() {
            return Err(source.error(
                self.place_name(),
                "the file ends in the middle of its payload",
                DAMAGED,
            ));
        }
        let parsed = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        let number = parsed.ok_or_else(|| {
            let problem = format!("expected a number, found {:?}", String::from_utf8_lossy(word));
            source.error(self.place_name(), problem, "mend the line or export the mesh again")
        })?;
        self.rest = rest;
        Ok(number)
    }

    fn place(&self) -> usize {
        self.line
    }

    fn remaining(&self) -> usize {
        // The last number needs no separator after it.
        self.rest.len() + 1
    }

    /// A digit and a separator.
    fn smallest_size(_: &ScalarType) -> usize {
        2
    }
}

#[derive(Default)]
struct Contents {
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    faces: Polygons,
}

impl Contents {
    fn read<N: Numbers>(&mut self, source: &Source, header: &Header, numbers: &mut N) -> Result<()> {
        for (name, element) in &header.elements {
            let smallest: usize =
                element.properties.iter().map(|(_, p)| smallest_size::<N>(&p.data_type)).sum();
            let needed = element.count.saturating_mul(smallest);
            if needed > numbers.remaining() {
                let problem = format!(
                    "{} of element {name} need {needed} bytes at least, {} are left",
                    element.count,
                    numbers.remaining()
                );
                return Err(source.error(numbers.place_name(), problem, DAMAGED));
            }
            match name.as_str() {
                _ if smallest == 0 => {}
                "vertex" => self.read_vertices(source, element, numbers)?,
                "face" => self.read_faces(source, element, numbers)?,
                _ => skip(source, element, numbers)?,
            }
        }
        Ok(())
    }

    fn read_vertices<N: Numbers>(
        &mut self,
        source: &Source,
        element: &ElementDef,
        numbers: &mut N,
    ) -> Result<()> {
        const NAMES: [&str; 6] = ["x", "y", "z", "nx", "ny", "nz"];
        let slots: Vec<_> =
            element.properties.iter().map(|(name, _)| NAMES.iter().position(|slot| slot == name)).collect();
        let has = |slot: usize| slots.contains(&Some(slot));
        if let Some(missing) = (0..3).find(|&slot| !has(slot)) {
            let problem = format!("element vertex has no property {}", NAMES[missing]);
            return Err(source.error("header", problem, "export the mesh again"));
        }
        let with_normals = (3..6).all(has);
        self.positions.reserve(element.count);
        for index in 0..element.count {
            let mut values = [0.0; 6];
            let place = numbers.place();
            for ((_, property), slot) in element.properties.iter().zip(&slots) {
                match (&property.data_type, slot) {
                    (PropertyType::Scalar(scalar), Some(slot)) => {
                        values[*slot] = numbers.next(source, scalar)?
                    }
                    (data_type, _) => skip_property(source, data_type, numbers)?,
                }
            }
            let [x, y, z, nx, ny, nz] = values;
            self.positions.push(finite_vertex(
                source,
                format_args!("{} {place}", N::UNIT),
                index,
                [x, y, z],
            )?);
            if with_normals {
                self.normals.push([nx, ny, nz].map(|c| c as f32));
            }
        }
        Ok(())
    }

    fn read_faces<N: Numbers>(
        &mut self,
        source: &Source,
        element: &ElementDef,
        numbers: &mut N,
    ) -> Result<()> {
        let is_corners = |name: &str| name == "vertex_indices" || name == "vertex_index";
        if !element.properties.iter().any(|(name, _)| is_corners(name)) {
            let problem = "element face has no property vertex_indices";
            return Err(source.error("header", problem, "export the mesh as polygons, not as strips"));
        }
        for _ in 0..element.count {
            let place = numbers.place();
            for (name, property) in &element.properties {
                match &property.data_type {
                    PropertyType::List(count, item) if is_corners(name) => {
                        for _ in 0..whole(source, numbers, count, "a count")? {
                            self.faces.push_corner(whole(source, numbers, item, "a vertex index")?);
                        }
                    }
                    data_type => skip_property(source, data_type, numbers)?,
                }
            }
            self.faces.end_face(place);
        }
        Ok(())
    }
}

fn smallest_size<N: Numbers>(data_type: &PropertyType) -> usize {
    match data_type {
        PropertyType::Scalar(scalar) | PropertyType::List(scalar, _) => N::smallest_size(scalar),
    }
}

fn whole<N: Numbers>(source: &Source, numbers: &mut N, scalar: &ScalarType, what: &str) -> Result<u32> {
    let number = numbers.next(source, scalar)?;
    if number >= 0.0 && number < f64::from(u32::MAX) && number.fract() == 0.0 {
        return Ok(number as u32);
    }
    Err(source.error(numbers.place_name(), format_args!("expected {what}, found {number}"), DAMAGED))
}

fn skip<N: Numbers>(source: &Source, element: &ElementDef, numbers: &mut N) -> Result<()> {
    for _ in 0..element.count {
        for (_, property) in &element.properties {
            skip_property(source, &property.data_type, numbers)?;
        }
    }
    Ok(())
}

fn skip_property<N: Numbers>(source: &Source, data_type: &PropertyType, numbers: &mut N) -> Result<()> {
    match data_type {
        PropertyType::Scalar(scalar) => numbers.next(source, scalar).map(drop),
        PropertyType::List(count, item) => {
            for _ in 0..whole(source, numbers, count, "a count")? {
                numbers.next(source, item)?;
            }
            Ok(())
        }
    }
}

/// Binary, little endian, with the normals that the mesh has.
pub fn write(writer: &mut impl Write, mesh: &Mesh) -> io::Result<()> {
    writeln!(writer, "ply\nformat binary_little_endian 1.0\nelement vertex {}", mesh.positions.len())?;
    writeln!(writer, "property float x\nproperty float y\nproperty float z")?;
    if mesh.normals.is_some() {
        writeln!(writer, "property float nx\nproperty float ny\nproperty float nz")?;
    }
    writeln!(writer, "element face {}", mesh.triangles.len())?;
    writeln!(writer, "property list uchar int vertex_indices\nend_header")?;
    for (index, position) in mesh.positions.iter().enumerate() {
        let normal = mesh.normals.as_ref().map(|normals| normals[index]);
        for number in position.iter().chain(normal.iter().flatten()) {
            writer.write_all(&number.to_le_bytes())?;
        }
    }
    for triangle in &mesh.triangles {
        writer.write_all(&[3])?;
        for vertex in triangle {
            writer.write_all(&vertex.to_le_bytes())?;
        }
    }
    Ok(())
}
