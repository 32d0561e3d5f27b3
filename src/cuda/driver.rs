//! What we ask of the CUDA driver, behind one safe face: the only FFI of the program but for memory and launches,
//! which [`super::memory`] and [`super::queue`] add. The driver is loaded at run time: without it nothing fails.

use crate::error::{Error, Result};
use cudarc::driver::{result, sys};
use std::fmt;
use std::sync::Arc;

/// The driver as this machine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverState {
    /// No driver library can be loaded.
    Absent,
    /// The library is there and does not work.
    Broken(String),
    /// It works; it may find no card.
    Cards(Vec<Card>),
}

/// What the driver says of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub name: String,
    /// Bytes.
    pub memory: usize,
    /// Compute capability.
    pub capability: (i32, i32),
    pub multiprocessors: usize,
    /// Most bytes of shared memory of a block that asks for more than the default.
    pub shared: usize,
}

/// The release of the CUDA driver API that our PTX (ISA 8.4 of CUDA 12.4) needs.
const DRIVER: i32 = 12_040;

/// The least compute capability that the PTX runs on.
const CAPABILITY: (i32, i32) = (8, 0);

pub(super) fn words(error: result::DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.map_or_else(|_| format!("{:?}", error.0), |text| format!("{text} ({:?})", error.0))
}

/// Looks for the driver and its cards.
pub fn driver_state() -> DriverState {
    // SAFETY: only looks whether the dynamic library can be loaded; cudarc asks for nothing else.
    if !unsafe { sys::is_culib_present() } {
        return DriverState::Absent;
    }
    match SYMBOLS.iter().find(|name| !has(&[name])) {
        Some(name) => DriverState::Broken(format!("its library has no {name}")),
        None => match cards() {
            Ok(cards) => DriverState::Cards(cards),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => DriverState::Cards(Vec::new()),
            Err(error) => DriverState::Broken(words(error)),
        },
    }
}

/// Whether the library, which must be there, has all of these functions.
pub(super) fn has(names: &[&str]) -> bool {
    // SAFETY: looking a name up calls nothing.
    let found = |name: &str| unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_ok();
    names.iter().all(|name| found(name))
}

/// What we call of the library: cudarc panics at a function that it does not find, so we look first.
const SYMBOLS: [&str; 35] = [
    "cuInit",
    "cuGetErrorString",
    "cuDriverGetVersion",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuMemsetD32Async",
    "cuStreamCreate",
    "cuStreamSynchronize",
    "cuStreamDestroy_v2",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuStreamWaitEvent",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
];

fn cards() -> std::result::Result<Vec<Card>, result::DriverError> {
    result::init()?;
    (0..result::device::get_count()?).map(|index| card(result::device::get(index)?)).collect()
}

fn card(device: sys::CUdevice) -> std::result::Result<Card, result::DriverError> {
    use sys::CUdevice_attribute as Attribute;
    // SAFETY: `device` came from the driver.
    let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    Ok(Card {
        name: result::device::get_name(device)?,
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device) }?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
    })
}

impl Card {
    /// Why this program cannot use the card.
    pub fn unfit(&self) -> Option<String> {
        let (major, minor) = self.capability;
        (self.capability < CAPABILITY).then(|| {
            let (wanted, _) = CAPABILITY;
            format!(
                "{} has compute capability {major}.{minor}, and the kernels need {wanted}.0 (Ampere)",
                self.name
            )
        })
    }
}

impl fmt::Display for DriverState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no CUDA driver is installed"),
            Self::Broken(why) => write!(f, "the CUDA driver does not start: {why}"),
            Self::Cards(cards) if cards.is_empty() => f.write_str("the CUDA driver finds no card"),
            Self::Cards(cards) => {
                let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
                write!(f, "the CUDA driver finds {}", names.join(", "))
            }
        }
    }
}

/// A card in use: its primary context, held until this is dropped.
pub struct Context {
    pub card: Card,
    pub index: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: a context handle may be used from any thread; every call binds it to the calling thread first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver serialises what needs it.
unsafe impl Sync for Context {}

impl Context {
    /// Takes card `index` into use.
    ///
    /// # Errors
    /// No driver, too old a driver, no such card, or one that the kernels do not run on.
    pub fn open(index: usize) -> Result<Arc<Self>> {
        let place = format!("--device cuda:{index}");
        let refuse = |why: String| Error::new(&place, why, "use --device cpu, or see `hexcuda devices`");
        let state = driver_state();
        let DriverState::Cards(cards) = &state else { return Err(refuse(state.to_string())) };
        let Some(card) = cards.get(index) else {
            return Err(refuse(format!("there is no card {index}: {state}")));
        };
        if let Some(why) = card.unfit() {
            return Err(refuse(why));
        }
        let mut version = 0;
        // SAFETY: the integer outlives the call.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }
            .result()
            .map_err(|error| refuse(words(error)))?;
        if version < DRIVER {
            let has = format!("{}.{}", version / 1000, version % 1000 / 10);
            let remedy = "update the NVIDIA driver to 550 or newer, or use --device cpu";
            return Err(Error::new(
                place,
                format!("the driver is of CUDA {has}, the kernels need 12.4"),
                remedy,
            ));
        }
        let device = result::device::get(index as i32).map_err(|error| refuse(words(error)))?;
        // SAFETY: `device` came from the driver; `drop` gives the context back.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(|error| refuse(words(error)))?;
        let context = Self { card: card.clone(), index, device, context };
        context.bind().map_err(|error| refuse(words(error)))?;
        Ok(Arc::new(context))
    }

    /// Makes this the calling thread's context.
    pub(super) fn bind(&self) -> std::result::Result<(), result::DriverError> {
        // SAFETY: the context is held until `self` is dropped.
        unsafe { result::ctx::set_current(self.context) }
    }

    /// Bytes of the card that nobody uses.
    pub fn free(&self) -> Result<usize> {
        let free = self
            .bind()
            .and_then(|()| result::mem_get_info())
            .map_err(|error| self.failed("memory", error))?;
        Ok(free.0)
    }

    /// The error of a call that should have worked.
    pub(super) fn failed(&self, what: &str, error: result::DriverError) -> Error {
        Error::new(
            format!("CUDA card {} ({})", self.index, self.card.name),
            format!("{what}: {}", words(error)),
            "what was saved before stands; run again, with --device cpu if it comes back",
        )
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained in `open`, and whoever uses it holds an `Arc` of `self`. An error at this point has
        // nobody to go to.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({})", self.index, self.card.name)
    }
}
