//! Copies and fills: host, device and peer; one, two and three dimensions; now and stream-ordered.

use std::ffi::{c_uint, c_ushort};
use std::sync::Arc;

use super::abi::{DevicePointer, Handle, In, Memcpy2D, Memcpy3D};
use super::capture::forbid_while_capturing;
use super::context;
use super::exports;
use super::memory::{device_of, refused};
use super::operation::Operation;
use super::state::{Current, Device, current};
use super::status::{Outcome, Status};
use super::stream::{Stream, resolve, submit};

/// Where one side of a copy lies.
#[derive(Clone)]
pub enum Side {
    Host(u64),
    Device(Arc<Device>, u64),
}

/// Rows of bytes in memory: the distance between rows, and between planes of rows.
#[derive(Clone)]
pub struct Block {
    pub side: Side,
    pub pitch: usize,
    pub slice: usize,
}

impl Block {
    fn line(side: Side) -> Self {
        Self { side, pitch: 0, slice: 0 }
    }
}

/// A copy of `depth` planes of `height` rows of `width` bytes.
#[derive(Clone)]
pub struct Copy {
    pub source: Block,
    pub target: Block,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// A fill of `height` rows of `width` elements.
#[derive(Clone)]
pub struct Fill {
    pub device: Arc<Device>,
    pub address: u64,
    pub pitch: usize,
    pub value: u32,
    /// Bytes of an element: 1, 2 or 4.
    pub element: usize,
    pub width: usize,
    pub height: usize,
}

impl Copy {
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for rows that overlap, a null pointer, or bytes outside an allocation.
    pub fn validate(&self) -> Outcome {
        if self.width == 0 || self.height == 0 || self.depth == 0 {
            return Ok(());
        }
        for block in [&self.source, &self.target] {
            let rows_overlap = self.height > 1 && block.pitch < self.width;
            if rows_overlap || (self.depth > 1 && block.slice < block.pitch) {
                return Err(Status::INVALID_VALUE);
            }
            let span = || {
                let planes = block.slice.checked_mul(self.depth - 1)?;
                planes.checked_add(block.pitch.checked_mul(self.height - 1)?)?.checked_add(self.width)
            };
            let span = span().ok_or(Status::INVALID_VALUE)?;
            match &block.side {
                Side::Host(address) if *address == 0 => return Err(Status::INVALID_VALUE),
                Side::Host(_) => {}
                Side::Device(device, address) => inside(device, *address, span as u64)?,
            }
        }
        Ok(())
    }

    /// Whether it writes to a device, rather than to the host.
    pub fn changes_device(&self) -> bool {
        matches!(self.target.side, Side::Device(..))
    }

    /// Moves the bytes.
    ///
    /// # Errors
    /// As [`Copy::validate`]: an allocation may have gone since.
    pub fn run(&self) -> Outcome {
        self.validate()?;
        if self.width == 0 {
            return Ok(());
        }
        for plane in 0..self.depth {
            for row in 0..self.height {
                let at = |block: &Block| (plane * block.slice + row * block.pitch) as u64;
                copy_row(
                    &self.source.side,
                    at(&self.source),
                    &self.target.side,
                    at(&self.target),
                    self.width,
                )?;
            }
        }
        Ok(())
    }
}

fn copy_row(source: &Side, source_at: u64, target: &Side, target_at: u64, bytes: usize) -> Outcome {
    match (source, target) {
        (Side::Host(source), Side::Host(target)) => {
            let (source, target) = ((source + source_at) as *const u8, (target + target_at) as *mut u8);
            // SAFETY: the caller of the copy says that both host ranges are its own and large enough.
            unsafe { std::ptr::copy(source, target, bytes) };
            Ok(())
        }
        (Side::Host(source), Side::Device(device, target)) => {
            // SAFETY: the caller of the copy says that the host range is readable and at rest.
            let data = unsafe { std::slice::from_raw_parts((source + source_at) as *const u8, bytes) };
            device.memory.write(target + target_at, data).map_err(|error| refused(&error))
        }
        (Side::Device(device, source), Side::Host(target)) => {
            // SAFETY: the caller of the copy says that the host range is writable and its own.
            let data = unsafe { std::slice::from_raw_parts_mut((target + target_at) as *mut u8, bytes) };
            device.memory.read(source + source_at, data).map_err(|error| refused(&error))
        }
        (Side::Device(from, source), Side::Device(to, target)) if Arc::ptr_eq(from, to) => from
            .memory
            .copy(target + target_at, source + source_at, bytes as u64)
            .map_err(|error| refused(&error)),
        (Side::Device(from, source), Side::Device(to, target)) => {
            let mut data = vec![0; bytes];
            from.memory.read(source + source_at, &mut data).map_err(|error| refused(&error))?;
            to.memory.write(target + target_at, &data).map_err(|error| refused(&error))
        }
    }
}

impl Fill {
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` for a misaligned address or pitch, or bytes outside an allocation.
    pub fn validate(&self) -> Outcome {
        if !matches!(self.element, 1 | 2 | 4) || !self.address.is_multiple_of(self.element as u64) {
            return Err(Status::INVALID_VALUE);
        }
        if self.width == 0 || self.height == 0 {
            return Ok(());
        }
        let row = self.width.checked_mul(self.element).ok_or(Status::INVALID_VALUE)?;
        if self.height > 1 && (self.pitch < row || !self.pitch.is_multiple_of(self.element)) {
            return Err(Status::INVALID_VALUE);
        }
        let span = self.pitch.checked_mul(self.height - 1).and_then(|rows| rows.checked_add(row));
        inside(&self.device, self.address, span.ok_or(Status::INVALID_VALUE)? as u64)
    }

    /// Writes the elements.
    ///
    /// # Errors
    /// As [`Fill::validate`].
    pub fn run(&self) -> Outcome {
        self.validate()?;
        let pattern = &self.value.to_le_bytes()[..self.element];
        for row in 0..self.height {
            let address = self.address + (row * self.pitch) as u64;
            self.device.memory.fill(address, pattern, self.width as u64).map_err(|error| refused(&error))?;
        }
        Ok(())
    }
}

/// Whether a range lies in one live allocation of the device.
fn inside(device: &Device, address: u64, bytes: u64) -> Outcome {
    device.memory.check(address, bytes).map_err(|error| refused(&error))
}

/// One submission: to a stream, or to the legacy stream with the caller waiting.
enum When {
    Now,
    In(Handle),
}

fn stream_for(current: &Current, when: &When) -> Outcome<Arc<Stream>> {
    match when {
        When::Now => {
            forbid_while_capturing(current)?;
            resolve(current, 0)
        }
        When::In(handle) => resolve(current, *handle),
    }
}

fn copy(current: &Current, copy: Copy, when: When) -> Outcome {
    copy.validate()?;
    submit(&*stream_for(current, &when)?, Operation::Copy(copy))
}

fn copy_line(current: &Current, target: Side, source: Side, bytes: usize, when: When) -> Outcome {
    copy(
        current,
        Copy { source: Block::line(source), target: Block::line(target), width: bytes, height: 1, depth: 1 },
        when,
    )
}

fn on_device(current: &Current, address: u64) -> Side {
    Side::Device(current.device().clone(), address)
}

/// An address of the unified address space: the device's or the host's.
fn anywhere(current: &Current, address: u64) -> Side {
    device_of(current, address).map_or(Side::Host(address), |device| Side::Device(device, address))
}

fn to_device(target: DevicePointer, source: u64, bytes: usize, when: When) -> Outcome {
    let current = current()?;
    copy_line(&current, on_device(&current, target), Side::Host(source), bytes, when)
}

fn to_host(target: u64, source: DevicePointer, bytes: usize, when: When) -> Outcome {
    let current = current()?;
    copy_line(&current, Side::Host(target), on_device(&current, source), bytes, when)
}

fn between(target: DevicePointer, source: DevicePointer, bytes: usize, when: When) -> Outcome {
    let current = current()?;
    copy_line(&current, on_device(&current, target), on_device(&current, source), bytes, when)
}

fn generic(target: u64, source: u64, bytes: usize, when: When) -> Outcome {
    let current = current()?;
    copy_line(&current, anywhere(&current, target), anywhere(&current, source), bytes, when)
}

fn peer(target: (u64, Handle), source: (u64, Handle), bytes: usize, when: When) -> Outcome {
    let current = current()?;
    let side = |(address, handle)| Ok(Side::Device(context::find(handle)?.device.clone(), address));
    copy_line(&current, side(target)?, side(source)?, bytes, when)
}

/// `CUmemorytype`: host, device, array, unified.
fn side_of(current: &Current, kind: c_uint, host: u64, device: DevicePointer) -> Outcome<Side> {
    match kind {
        1 => Ok(Side::Host(host)),
        2 => Ok(on_device(current, device)),
        3 => Err(Status::NOT_SUPPORTED),
        4 => Ok(anywhere(current, device)),
        _ => Err(Status::INVALID_VALUE),
    }
}

/// Moves a side to the first byte of a box inside it.
fn offset(side: Side, bytes: Option<usize>) -> Outcome<Side> {
    let bytes = bytes.ok_or(Status::INVALID_VALUE)? as u64;
    let moved = |address: u64| if address == 0 { Some(0) } else { address.checked_add(bytes) };
    match side {
        Side::Host(address) => Ok(Side::Host(moved(address).ok_or(Status::INVALID_VALUE)?)),
        Side::Device(device, address) => {
            Ok(Side::Device(device, moved(address).ok_or(Status::INVALID_VALUE)?))
        }
    }
}

/// A 3-D copy, as `cuMemcpy3D` takes it, made ready to run.
pub fn copy_of_3d(current: &Current, it: &Memcpy3D) -> Outcome<Copy> {
    let block = |kind, host, device, [x, y, z]: [usize; 3], pitch: usize, rows: usize| {
        let slice = pitch.checked_mul(rows).ok_or(Status::INVALID_VALUE)?;
        let at = z.checked_mul(slice).and_then(|at| at.checked_add(y.checked_mul(pitch)?)?.checked_add(x));
        Ok(Block { side: offset(side_of(current, kind, host, device)?, at)?, pitch, slice })
    };
    let pitch = |given: usize| if given == 0 { it.width } else { given };
    let rows = |given: usize| if given == 0 { it.height } else { given };
    Ok(Copy {
        source: block(
            it.source_kind,
            it.source_host,
            it.source_device,
            [it.source_x, it.source_y, it.source_z],
            pitch(it.source_pitch),
            rows(it.source_height),
        )?,
        target: block(
            it.target_kind,
            it.target_host,
            it.target_device,
            [it.target_x, it.target_y, it.target_z],
            pitch(it.target_pitch),
            rows(it.target_height),
        )?,
        width: it.width,
        height: it.height,
        depth: it.depth,
    })
}

fn copy_2d(it: In<Memcpy2D>, when: When) -> Outcome {
    let current = current()?;
    let it = it.ok_or(Status::INVALID_VALUE)?;
    let whole = Memcpy3D {
        source_x: it.source_x,
        source_y: it.source_y,
        source_z: 0,
        source_level: 0,
        source_kind: it.source_kind,
        source_host: it.source_host,
        source_device: it.source_device,
        source_array: it.source_array,
        reserved0: 0,
        source_pitch: it.source_pitch,
        source_height: 0,
        target_x: it.target_x,
        target_y: it.target_y,
        target_z: 0,
        target_level: 0,
        target_kind: it.target_kind,
        target_host: it.target_host,
        target_device: it.target_device,
        target_array: it.target_array,
        reserved1: 0,
        target_pitch: it.target_pitch,
        target_height: 0,
        width: it.width,
        height: it.height,
        depth: 1,
    };
    copy(&current, copy_of_3d(&current, &whole)?, when)
}

fn copy_3d(it: In<Memcpy3D>, when: When) -> Outcome {
    let current = current()?;
    copy(&current, copy_of_3d(&current, it.ok_or(Status::INVALID_VALUE)?)?, when)
}

fn fill(
    address: DevicePointer,
    pitch: usize,
    value: u32,
    element: usize,
    [width, height]: [usize; 2],
    when: When,
) -> Outcome {
    let current = current()?;
    let fill = Fill { device: current.device().clone(), address, pitch, value, element, width, height };
    fill.validate()?;
    submit(&*stream_for(&current, &when)?, Operation::Fill(fill))
}

exports! {
    fn cuMemcpy(target: u64, source: u64, bytes: usize) { generic(target, source, bytes, When::Now) }
    fn cuMemcpyAsync(target: u64, source: u64, bytes: usize, stream: Handle) {
        generic(target, source, bytes, When::In(stream))
    }
    fn cuMemcpyHtoD_v2(target: DevicePointer, source: u64, bytes: usize) {
        to_device(target, source, bytes, When::Now)
    }
    fn cuMemcpyHtoDAsync_v2(target: DevicePointer, source: u64, bytes: usize, stream: Handle) {
        to_device(target, source, bytes, When::In(stream))
    }
    fn cuMemcpyDtoH_v2(target: u64, source: DevicePointer, bytes: usize) {
        to_host(target, source, bytes, When::Now)
    }
    fn cuMemcpyDtoHAsync_v2(target: u64, source: DevicePointer, bytes: usize, stream: Handle) {
        to_host(target, source, bytes, When::In(stream))
    }
    fn cuMemcpyDtoD_v2(target: DevicePointer, source: DevicePointer, bytes: usize) {
        between(target, source, bytes, When::Now)
    }
    fn cuMemcpyDtoDAsync_v2(target: DevicePointer, source: DevicePointer, bytes: usize, stream: Handle) {
        between(target, source, bytes, When::In(stream))
    }
    fn cuMemcpyPeer(
        target: DevicePointer,
        target_context: Handle,
        source: DevicePointer,
        source_context: Handle,
        bytes: usize,
    ) {
        peer((target, target_context), (source, source_context), bytes, When::Now)
    }
    fn cuMemcpyPeerAsync(
        target: DevicePointer,
        target_context: Handle,
        source: DevicePointer,
        source_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        peer((target, target_context), (source, source_context), bytes, When::In(stream))
    }
    fn cuMemcpy2D_v2(it: In<Memcpy2D>) { copy_2d(it, When::Now) }
    fn cuMemcpy2DUnaligned_v2(it: In<Memcpy2D>) { copy_2d(it, When::Now) }
    fn cuMemcpy2DAsync_v2(it: In<Memcpy2D>, stream: Handle) { copy_2d(it, When::In(stream)) }
    fn cuMemcpy3D_v2(it: In<Memcpy3D>) { copy_3d(it, When::Now) }
    fn cuMemcpy3DAsync_v2(it: In<Memcpy3D>, stream: Handle) { copy_3d(it, When::In(stream)) }

    fn cuMemsetD8_v2(target: DevicePointer, value: u8, count: usize) {
        fill(target, 0, value.into(), 1, [count, 1], When::Now)
    }
    fn cuMemsetD16_v2(target: DevicePointer, value: c_ushort, count: usize) {
        fill(target, 0, value.into(), 2, [count, 1], When::Now)
    }
    fn cuMemsetD32_v2(target: DevicePointer, value: c_uint, count: usize) {
        fill(target, 0, value, 4, [count, 1], When::Now)
    }
    fn cuMemsetD8Async(target: DevicePointer, value: u8, count: usize, stream: Handle) {
        fill(target, 0, value.into(), 1, [count, 1], When::In(stream))
    }
    fn cuMemsetD16Async(target: DevicePointer, value: c_ushort, count: usize, stream: Handle) {
        fill(target, 0, value.into(), 2, [count, 1], When::In(stream))
    }
    fn cuMemsetD32Async(target: DevicePointer, value: c_uint, count: usize, stream: Handle) {
        fill(target, 0, value, 4, [count, 1], When::In(stream))
    }
    fn cuMemsetD2D8_v2(target: DevicePointer, pitch: usize, value: u8, width: usize, height: usize) {
        fill(target, pitch, value.into(), 1, [width, height], When::Now)
    }
    fn cuMemsetD2D16_v2(target: DevicePointer, pitch: usize, value: c_ushort, width: usize, height: usize) {
        fill(target, pitch, value.into(), 2, [width, height], When::Now)
    }
    fn cuMemsetD2D32_v2(target: DevicePointer, pitch: usize, value: c_uint, width: usize, height: usize) {
        fill(target, pitch, value, 4, [width, height], When::Now)
    }
    fn cuMemsetD2D8Async(
        target: DevicePointer,
        pitch: usize,
        value: u8,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(target, pitch, value.into(), 1, [width, height], When::In(stream))
    }
    fn cuMemsetD2D16Async(
        target: DevicePointer,
        pitch: usize,
        value: c_ushort,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(target, pitch, value.into(), 2, [width, height], When::In(stream))
    }
    fn cuMemsetD2D32Async(
        target: DevicePointer,
        pitch: usize,
        value: c_uint,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(target, pitch, value, 4, [width, height], When::In(stream))
    }
}
