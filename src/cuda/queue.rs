//! Launches in order on one card, checked against the table of kernels before the driver sees them.

use super::driver::{self, Context};
use super::events::Event;
use super::kernels::FILES;
use super::memory::{Array, Read, Write};
use super::nvrtc;
use super::staging::Staging;
use crate::error::{Error, Result};
use bytemuck::Pod;
use cudarc::driver::{result, sys};
use serde::{Deserialize, Serialize};
use std::ffi::{CString, c_void};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// A CUDA source that the program carries as PTX.
pub struct File {
    pub stem: &'static str,
    pub ptx: &'static str,
    pub entries: &'static [Entry],
}

/// An entry point.
pub struct Entry {
    pub name: &'static str,
    /// Most threads of a block.
    pub threads: u32,
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

impl Launch {
    /// One thread an item, in blocks of `threads`.
    pub fn items(items: usize, threads: u32) -> Self {
        Self { grid: [items.div_ceil(threads as usize) as u32, 1, 1], block: [threads, 1, 1], shared: 0 }
    }

    /// `blocks` blocks of `threads` threads.
    pub fn blocks(blocks: usize, threads: u32) -> Self {
        Self { grid: [blocks as u32, 1, 1], block: [threads, 1, 1], shared: 0 }
    }

    /// The same blocks for each of `y` x `z`.
    #[must_use]
    pub fn over(self, y: usize, z: usize) -> Self {
        let [x, ..] = self.grid;
        // What does not fit is beyond what a grid may have, and refused as that.
        let most = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { grid: [x, most(y), most(z)], ..self }
    }

    /// With `bytes` of dynamic shared memory.
    #[must_use]
    pub fn with_shared(self, bytes: usize) -> Self {
        Self { shared: u32::try_from(bytes).unwrap_or(u32::MAX), ..self }
    }
}

/// A length as kernels take it.
///
/// # Errors
/// Where an array has 2^31 values or more.
pub fn int(len: usize) -> Result<i32> {
    i32::try_from(len).map_err(|_| {
        let problem = format!("an array of {len} values; the kernels count below 2^31");
        Error::new("--device cuda", problem, "take a smaller --preset or --batch")
    })
}

/// Threads of a block in element-wise kernels.
pub const THREADS: u32 = 256;

/// A value or an address as a kernel takes it.
#[derive(Clone, Copy, Debug)]
pub struct Argument([u8; 8]);

macro_rules! scalars {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Argument {
            fn from(value: $kind) -> Self {
                let mut bytes = [0; 8];
                bytes[..size_of::<$kind>()].copy_from_slice(&value.to_ne_bytes());
                Self(bytes)
            }
        }
    )*};
}
scalars!(f32, f64, i32, u32, i64, u64);

impl<T> From<Read<T>> for Argument {
    fn from(piece: Read<T>) -> Self {
        Self::from(piece.address)
    }
}

impl<T> From<Write<T>> for Argument {
    fn from(piece: Write<T>) -> Self {
        Self::from(piece.address)
    }
}

/// Blocks beyond this in y and z do not exist (CUDA C++ Programming Guide, technical specifications).
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// Shared memory that a block may have without asking.
const SHARED: u32 = 48 << 10;

/// A folder with CUDA sources to take in place of the built-in ones: edit, run, no rebuild.
pub const KERNEL_DIR: &str = "HEXCUDA_KERNEL_DIR";

/// A loaded file with the functions of its entries.
struct Module {
    module: sys::CUmodule,
    functions: Vec<sys::CUfunction>,
}

/// How the kernels of convolutions multiply, and how activations and their gradients lie. Sums, losses, parameters with
/// their gradients and moments, and what the network reads and decodes are in fp32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// On the tensor cores, both factors rounded to 11 significant bits.
    #[default]
    Tf32,
    /// On the tensor cores, both factors rounded to bf16, 8 significant bits, and stored so.
    Bf16,
    /// On the tensor cores, both factors rounded to fp16 and stored so: 11 significant bits and a narrow range, so that
    /// gradients are scaled up on the way.
    Fp16,
    /// Exact products of fp32 values.
    Fp32,
}

/// Work for one card, in order.
pub struct Queue {
    precision: Precision,
    context: Arc<Context>,
    /// Kernels, and copies that they wait for.
    stream: sys::CUstream,
    /// Uploads ahead of their use.
    copies: sys::CUstream,
    staging: Staging,
    modules: Vec<OnceLock<Module>>,
}

// SAFETY: streams, modules and functions may be used from any thread in whose context they are; every method
// binds the context first.
unsafe impl Send for Queue {}
// SAFETY: as above; the driver serialises calls on one stream.
unsafe impl Sync for Queue {}

impl Queue {
    pub fn new(context: &Arc<Context>, precision: Precision) -> Result<Arc<Self>> {
        let stream = || {
            context
                .bind()
                .and_then(|()| result::stream::create(result::stream::StreamKind::NonBlocking))
                .map_err(|error| context.failed("a stream", error))
        };
        let (stream, copies) = (stream()?, stream()?);
        let staging = Staging::new(context)?;
        let modules = FILES.iter().map(|_| OnceLock::new()).collect();
        Ok(Arc::new(Self { precision, context: context.clone(), stream, copies, staging, modules }))
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    pub(super) fn copies(&self) -> sys::CUstream {
        self.copies
    }

    fn bind(&self) -> Result<()> {
        self.context.bind().map_err(|error| self.context.failed("its context", error))
    }

    /// Queues one launch. An error of the kernel itself may come up at a later call.
    pub(super) fn launch(
        &self,
        (file, index): (usize, usize),
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<()> {
        let entry = &FILES[file].entries[index];
        let refuse = |why: String| {
            Error::new(format!("kernel {}", entry.name), why, "this is a defect: please report it")
        };
        if launch.grid.contains(&0) {
            // Nothing to do; the driver would call it an error.
            return Ok(());
        }
        let threads: u32 = launch.block.iter().product();
        if threads == 0 || threads > entry.threads {
            return Err(refuse(format!("{threads} threads a block, 1 to {} expected", entry.threads)));
        }
        if launch.grid.iter().zip(MOST_BLOCKS).any(|(&blocks, most)| blocks > most) {
            return Err(refuse(format!(
                "a grid of {:?} blocks, at most {MOST_BLOCKS:?} expected",
                launch.grid
            )));
        }
        if launch.shared as usize > self.context.card.shared {
            let most = self.context.card.shared;
            return Err(refuse(format!(
                "{} bytes of shared memory, at most {most} on this card",
                launch.shared
            )));
        }
        self.bind()?;
        let function = self.module(file)?.functions[index];
        let failed = |error| self.context.failed(&format!("kernel {}", entry.name), error);
        if launch.shared > SHARED {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function belongs to a module that lives as long as `self`.
            unsafe { result::function::set_function_attribute(function, attribute, launch.shared as i32) }
                .map_err(failed)?;
        }
        let mut values = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| value.0.as_mut_ptr().cast()).collect();
        let [x, y, z] = launch.grid;
        let [bx, by, bz] = launch.block;
        // SAFETY: the generated caller passes one value for each parameter, of its type; the driver copies them
        // before it returns.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (bx, by, bz),
                launch.shared,
                self.stream,
                &mut pointers,
            )
        }
        .map_err(failed)
    }

    fn module(&self, file: usize) -> Result<&Module> {
        if let Some(module) = self.modules[file].get() {
            return Ok(module);
        }
        let loaded = self.load(&FILES[file])?;
        if let Err(twice) = self.modules[file].set(loaded) {
            // Another thread was faster.
            // SAFETY: nobody has seen this module.
            let _ = unsafe { result::module::unload(twice.module) };
        }
        Ok(self.modules[file].get().expect("set above"))
    }

    fn load(&self, file: &File) -> Result<Module> {
        let place = format!("kernels/{}.cu", file.stem);
        let text = match std::env::var_os(KERNEL_DIR).map(PathBuf::from) {
            None => file.ptx.to_string(),
            Some(folder) => nvrtc::compile(&folder, file.stem).map_err(|problem| {
                Error::new(
                    folder.display().to_string(),
                    problem.to_string(),
                    format!("repair it, or unset {KERNEL_DIR}"),
                )
            })?,
        };
        let remedy = "update the NVIDIA driver to 550 or newer, or use --device cpu";
        let refused =
            |error| Error::new(&place, format!("the driver refuses it: {}", driver::words(error)), remedy);
        let text = CString::new(text)
            .map_err(|error| Error::new(&place, error.to_string(), "rebuild the program"))?;
        // SAFETY: the text ends in NUL; the module is unloaded when `self` is dropped.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.map_err(refused)?;
        let function = |entry: &Entry| {
            let name = CString::new(entry.name).expect("names of C functions have no NUL");
            // SAFETY: the module was loaded above.
            unsafe { result::module::get_function(module, name) }.map_err(refused)
        };
        Ok(Module { module, functions: file.entries.iter().map(function).collect::<Result<_>>()? })
    }

    /// An array of undefined contents; `what` names it in errors.
    pub fn array<T: Pod>(&self, len: usize, what: &str) -> Result<Array<T>> {
        Array::allocate(&self.context, len, what)
    }

    /// An array with a copy of `values`.
    pub fn array_from<T: Pod>(&self, values: &[T], what: &str) -> Result<Array<T>> {
        let array = self.array(values.len(), what)?;
        self.upload(values, array.write())?;
        Ok(array)
    }

    /// Copies to the card. The values are read before this returns.
    pub fn upload<T: Pod>(&self, from: &[T], into: Write<T>) -> Result<()> {
        assert_eq!(from.len(), into.len, "an upload fills its piece");
        if from.is_empty() {
            return Ok(());
        }
        self.send(size_of_val(from), into.address, self.stream, |range, piece| {
            piece.copy_from_slice(&bytemuck::cast_slice::<T, u8>(from)[range]);
        })
    }

    /// Copies to the card beside what runs there: `fill` writes a range of the bytes into pinned memory. Work that
    /// needs them waits for them by [`super::Inbox::filled`].
    pub fn upload_ahead(&self, into: Write<u8>, fill: impl Fn(Range<usize>, &mut [u8])) -> Result<()> {
        self.send(into.len, into.address, self.copies, fill)
    }

    fn send(
        &self,
        bytes: usize,
        address: u64,
        stream: sys::CUstream,
        fill: impl Fn(Range<usize>, &mut [u8]),
    ) -> Result<()> {
        self.bind()?;
        // SAFETY: the context is bound, the stream is the queue's, and both callers see to the room.
        unsafe { self.staging.upload(bytes, address, stream, fill) }
    }

    /// Queues a copy from the card to pinned memory.
    ///
    /// # Safety
    /// `into` has room for the bytes, is pinned, and is not touched before the queue has passed this point.
    pub(super) unsafe fn download_later(&self, from: Read<u8>, into: *mut u8) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise.
        let into = unsafe { std::slice::from_raw_parts_mut(into, from.len) };
        // SAFETY: both sides have that many bytes.
        unsafe { result::memcpy_dtoh_async(into, from.address, self.stream) }
            .map_err(|error| self.context.failed("a copy from the card", error))
    }

    /// A mark behind all that was queued so far, for times.
    pub fn mark(&self) -> Result<Event> {
        let event = Event::new(&self.context, true)?;
        // SAFETY: the stream is of the event's context.
        unsafe { event.record(self.stream) }?;
        Ok(event)
    }

    /// Copies from the card, after all that was queued before.
    pub fn download<T: Pod>(&self, from: impl Into<Read<T>>, into: &mut [T]) -> Result<()> {
        let from = from.into();
        assert_eq!(from.len, into.len(), "a download fills its target");
        if into.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: both sides have `len` values, and `into` is borrowed until the wait has ended.
        unsafe { result::memcpy_dtoh_async(into, from.address, self.stream) }
            .and_then(|()| self.wait())
            .map_err(|error| self.context.failed("a copy from the card", error))
    }

    /// Copies within the card, in the order of the queue.
    pub fn copy<T: Pod>(&self, from: impl Into<Read<T>>, into: Write<T>) -> Result<()> {
        let from = from.into();
        assert_eq!(from.len, into.len, "a copy fills its target");
        if from.len == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: both sides have `len` values.
        unsafe {
            result::memcpy_dtod_async(into.address, from.address, from.len * size_of::<T>(), self.stream)
        }
        .map_err(|error| self.context.failed("a copy on the card", error))
    }

    /// Sets all values, in the order of the queue.
    pub fn fill(&self, piece: Write<f32>, value: f32) -> Result<()> {
        if piece.len == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the piece has that many values of four bytes.
        unsafe { sys::cuMemsetD32Async(piece.address, value.to_bits(), piece.len, self.stream) }
            .result()
            .map_err(|error| self.context.failed("filling memory", error))
    }

    /// Sets all bytes to `byte`, in the order of the queue.
    pub fn fill_bytes<T: Pod>(&self, piece: Write<T>, byte: u8) -> Result<()> {
        if piece.len == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the piece has that many bytes.
        unsafe { result::memset_d8_async(piece.address, byte, piece.len * size_of::<T>(), self.stream) }
            .map_err(|error| self.context.failed("filling memory", error))
    }

    /// Waits until all that was queued is done; errors of kernels show here.
    pub fn synchronise(&self) -> Result<()> {
        self.bind()?;
        self.wait().map_err(|error| self.context.failed("the queued work", error))
    }

    fn wait(&self) -> std::result::Result<(), result::DriverError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        let _ = self.wait();
        // SAFETY: the stream lives until below.
        let _ = unsafe { result::stream::synchronize(self.copies) };
        for module in self.modules.iter_mut().filter_map(OnceLock::take) {
            // SAFETY: nothing is queued any more, and the functions die with `self`.
            let _ = unsafe { result::module::unload(module.module) };
        }
        // SAFETY: created in `new`, destroyed once.
        let _ = unsafe { result::stream::destroy(self.stream).and(result::stream::destroy(self.copies)) };
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.context)
    }
}
