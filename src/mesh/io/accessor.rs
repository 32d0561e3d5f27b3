//! The buffers of a glTF file as numbers: buffer views, strides, sparse and quantised accessors.
//!
//! The `gltf` crate has iterators over accessors, but they trust the offsets and counts of the file.

use std::borrow::Cow;
use std::fmt::Display;

use base64::Engine;
use gltf::json::accessor::{Accessor, ComponentType, Type};
use gltf::json::validation::Checked;
use gltf::json::{Buffer, Index, Root, buffer};

use super::{MAX_BYTES, Source};
use crate::error::{Error, Result};

const DAMAGED: &str = "the file is damaged: export it again";

/// Accessors without bytes of their own (all zero but for sparse values) may not claim more elements.
const MAX_ZERO_ELEMENTS: usize = 1 << 20;

pub struct Buffers<'a> {
    pub source: &'a Source<'a>,
    pub root: &'a Root,
    buffers: Vec<Cow<'a, [u8]>>,
}

impl<'a> Buffers<'a> {
    /// Loads all buffers: the binary chunk, data URIs and files beside the document.
    pub fn load(source: &'a Source<'a>, root: &'a Root, chunk: Option<&'a [u8]>) -> Result<Self> {
        let mut buffers = Vec::new();
        for (index, buffer) in root.buffers.iter().enumerate() {
            let bytes = match (&buffer.uri, chunk) {
                (Some(uri), _) => load_uri(source, index, uri)?,
                (None, Some(chunk)) if index == 0 => Cow::Borrowed(chunk),
                _ => {
                    return Err(source.error(
                        format_args!("buffer {index}"),
                        "it has neither a uri nor a binary chunk",
                        DAMAGED,
                    ));
                }
            };
            check_length(source, index, buffer, bytes.len())?;
            buffers.push(bytes);
        }
        Ok(Self { source, root, buffers })
    }

    fn error(&self, index: Index<Accessor>, problem: impl Display) -> Error {
        self.source.error(format_args!("accessor {}", index.value()), problem, DAMAGED)
    }

    fn accessor(&self, index: Index<Accessor>, expected: Type) -> Result<&'a Accessor> {
        let accessor = self.root.get(index).ok_or_else(|| self.error(index, "there is none"))?;
        if accessor.type_ != Checked::Valid(expected) {
            return Err(self.error(index, format_args!("expected {expected:?}, found another type")));
        }
        Ok(accessor)
    }

    /// An accessor of three numbers an element, normalised integers turned into numbers up to 1.
    pub fn vectors(&self, index: Index<Accessor>) -> Result<Vec<[f32; 3]>> {
        let accessor = self.accessor(index, Type::Vec3)?;
        let component = self.component_type(index, accessor)?;
        let size = 3 * component.size();
        let decode = |bytes: &[u8]| {
            let mut numbers = bytes.chunks_exact(component.size());
            std::array::from_fn(|_| {
                numbers.next().map_or(0.0, |bytes| number(bytes, component, accessor.normalized))
            })
        };
        self.elements(index, accessor, size, [0.0; 3], decode)
    }

    /// An accessor of indices of 8, 16 or 32 bits.
    pub fn indices(&self, index: Index<Accessor>) -> Result<Vec<u32>> {
        let accessor = self.accessor(index, Type::Scalar)?;
        let component = self.component_type(index, accessor)?;
        if !matches!(component, ComponentType::U8 | ComponentType::U16 | ComponentType::U32) {
            return Err(
                self.error(index, format_args!("expected unsigned integers as indices, found {component:?}"))
            );
        }
        self.elements(index, accessor, component.size(), 0, unsigned)
    }

    fn component_type(&self, index: Index<Accessor>, accessor: &Accessor) -> Result<ComponentType> {
        match accessor.component_type {
            Checked::Valid(component) => Ok(component.0),
            Checked::Invalid => Err(self.error(index, "its component type is unknown")),
        }
    }

    fn elements<T: Copy>(
        &self,
        index: Index<Accessor>,
        accessor: &Accessor,
        size: usize,
        zero: T,
        decode: impl Fn(&[u8]) -> T,
    ) -> Result<Vec<T>> {
        let count = usize::try_from(accessor.count.0).unwrap_or(usize::MAX);
        let mut elements = match accessor.buffer_view {
            Some(view) => {
                let offset = accessor.byte_offset.map_or(0, |offset| offset.0);
                let slices = self.slices(index, view, offset, count, size)?;
                slices.map(&decode).collect()
            }
            None if count <= MAX_ZERO_ELEMENTS => vec![zero; count],
            None => return Err(self.error(index, format_args!("{count} elements without a buffer"))),
        };
        if let Some(sparse) = &accessor.sparse {
            let Checked::Valid(width) = sparse.indices.component_type else {
                return Err(self.error(index, "the type of its sparse indices is unknown"));
            };
            let count = usize::try_from(sparse.count.0).unwrap_or(usize::MAX);
            let (places, values) = (&sparse.indices, &sparse.values);
            let places =
                self.slices(index, places.buffer_view, places.byte_offset.0, count, width.0.size())?;
            let values = self.slices(index, values.buffer_view, values.byte_offset.0, count, size)?;
            for (place, value) in places.map(unsigned).zip(values) {
                let total = elements.len();
                let element = elements.get_mut(place as usize).ok_or_else(|| {
                    self.error(index, format_args!("sparse index {place} of {total} elements"))
                })?;
                *element = decode(value);
            }
        }
        Ok(elements)
    }

    /// The bytes of `count` elements of `size` bytes each.
    fn slices(
        &self,
        index: Index<Accessor>,
        view: Index<buffer::View>,
        offset: u64,
        count: usize,
        size: usize,
    ) -> Result<impl Iterator<Item = &[u8]>> {
        let found = self.root.get(view).ok_or_else(|| {
            self.error(index, format_args!("it refers to buffer view {}, there is none", view.value()))
        })?;
        let buffer = self.buffers.get(found.buffer.value()).ok_or_else(|| {
            self.error(index, format_args!("it refers to buffer {}, there is none", found.buffer.value()))
        })?;
        let start = found.byte_offset.map_or(0, |offset| offset.0);
        let range = (usize::try_from(start).ok())
            .zip(usize::try_from(start.saturating_add(found.byte_length.0)).ok())
            .and_then(|(start, end)| buffer.get(start..end))
            .and_then(|bytes| bytes.get(usize::try_from(offset).ok()?..));
        let stride = found.byte_stride.map_or(size, |stride| stride.0);
        let needed = count.checked_sub(1).map_or(Some(0), |last| last.checked_mul(stride)?.checked_add(size));
        match (range, needed) {
            _ if stride < size => {
                Err(self.error(index, format_args!("a stride of {stride} for {size} bytes")))
            }
            (Some(bytes), Some(needed)) if needed <= bytes.len() => {
                Ok((0..count).map(move |element| &bytes[element * stride..element * stride + size]))
            }
            (range, _) => Err(self.error(
                index,
                format_args!(
                    "{count} elements of {stride} bytes do not fit in the {} bytes of buffer view {}",
                    range.map_or(0, <[u8]>::len),
                    view.value()
                ),
            )),
        }
    }
}

fn check_length(source: &Source, index: usize, buffer: &Buffer, found: usize) -> Result<()> {
    if buffer.byte_length.0 <= found as u64 {
        return Ok(());
    }
    let problem = format!("expected {} bytes, found {found}", buffer.byte_length.0);
    Err(source.error(format_args!("buffer {index}"), problem, "the file is cut short: get it again"))
}

fn load_uri<'a>(source: &Source, index: usize, uri: &str) -> Result<Cow<'a, [u8]>> {
    let error = |problem: String, remedy: &str| source.error(format_args!("buffer {index}"), problem, remedy);
    if let Some(data) = uri.strip_prefix("data:") {
        let encoded = data.split_once(";base64,").map(|(_, encoded)| encoded);
        let decoded = encoded.map(|encoded| base64::engine::general_purpose::STANDARD.decode(encoded));
        return match decoded {
            Some(Ok(bytes)) => Ok(Cow::Owned(bytes)),
            Some(Err(fault)) => Err(error(format!("its base64 is damaged ({fault})"), DAMAGED)),
            None => Err(error("its data URI is not base64".to_string(), DAMAGED)),
        };
    }
    let name = percent_decoded(uri);
    let path = std::path::Path::new(&name);
    let is_below = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let Some(folder) = source.folder.filter(|_| is_below && !name.contains(':')) else {
        let problem = format!("it refers to {name:?}, which is not beside the file");
        return Err(error(problem, "put the buffer beside the file or export as .glb"));
    };
    let path = folder.join(path);
    let metadata = std::fs::metadata(&path).map_err(|fault| Error::io(&path, &fault))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let problem = format!("{} is no file of at most {MAX_BYTES} bytes", path.display());
        return Err(error(problem, "export as .glb"));
    }
    std::fs::read(&path).map(Cow::Owned).map_err(|fault| Error::io(&path, &fault))
}

fn percent_decoded(uri: &str) -> String {
    let mut bytes = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let decoded = code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| first == b'%');
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A little-endian unsigned integer of up to four bytes.
fn unsigned(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// A component; integers as they are, or normalised: c / max, signed not below -1 (glTF 2.0, 3.11).
fn number(bytes: &[u8], component: ComponentType, normalised: bool) -> f32 {
    let bits = unsigned(bytes);
    let (value, largest) = match component {
        ComponentType::I8 => (f32::from(bits as u8 as i8), 127.0),
        ComponentType::U8 => (f32::from(bits as u8), 255.0),
        ComponentType::I16 => (f32::from(bits as u16 as i16), 32_767.0),
        ComponentType::U16 => (f32::from(bits as u16), 65_535.0),
        ComponentType::U32 => (bits as f32, u32::MAX as f32),
        ComponentType::F32 => return f32::from_bits(bits),
    };
    if normalised { (value / largest).max(-1.0) } else { value }
}
