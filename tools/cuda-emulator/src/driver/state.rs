//! The process-wide driver: devices, tables of handles, and the context current to a thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::abi::Handle;
use super::capture::Capture;
use super::configuration::{Configuration, Report};
use super::event::Event;
use super::graph::{Executable, Graph, Node};
use super::link::Link;
use super::memory::{Allocation, HostRange};
use super::mirror::Mirror;
use super::module::{Function, Image};
use super::pool::Pool;
use super::report::Reporter;
use super::status::{Outcome, Status};
use super::stream::Stream;
use crate::execute::Settings;
use crate::memory::DeviceMemory;

/// A lock whose holder panicked is still good: every update under these locks is one insertion,
/// removal or assignment.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static NEXT_HANDLE: AtomicUsize = AtomicUsize::new(0x5EED_0000);

/// A number no other object of the process bears; multiples of 16 look like the pointers that
/// programs expect and never meet the special streams 0, 1 and 2.
pub fn new_handle() -> Handle {
    NEXT_HANDLE.fetch_add(16, Ordering::Relaxed)
}

/// Objects of one kind by handle.
pub struct Table<T>(Mutex<HashMap<Handle, Arc<T>>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<T> Table<T> {
    pub fn insert(&self, handle: Handle, object: T) -> Arc<T> {
        let object = Arc::new(object);
        lock(&self.0).insert(handle, object.clone());
        object
    }

    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` for a handle never given or already destroyed.
    pub fn get(&self, handle: Handle) -> Outcome<Arc<T>> {
        lock(&self.0).get(&handle).cloned().ok_or(Status::INVALID_HANDLE)
    }

    pub fn remove(&self, handle: Handle) -> Outcome<Arc<T>> {
        lock(&self.0).remove(&handle).ok_or(Status::INVALID_HANDLE)
    }

    /// The handle of the object that `matches`.
    ///
    /// # Errors
    /// `CUDA_ERROR_NOT_FOUND` when none does.
    pub fn find(&self, matches: impl Fn(&T) -> bool) -> Outcome<Handle> {
        let objects = lock(&self.0);
        objects.iter().find(|entry| matches(entry.1)).map(|entry| *entry.0).ok_or(Status::NOT_FOUND)
    }

    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        lock(&self.0).retain(|_, object| keep(object));
    }
}

/// One emulated card.
pub struct Device {
    pub ordinal: usize,
    pub memory: DeviceMemory,
    /// What programs have allocated, by address (variables of modules are not in it).
    pub allocations: Mutex<BTreeMap<u64, Allocation>>,
    pub primary: Mutex<Primary>,
    pub default_pool: OnceLock<Handle>,
    pub pool: Mutex<Option<Handle>>,
}

/// The primary context of a device keeps one handle for the life of the process.
#[derive(Default)]
pub struct Primary {
    pub handle: Option<Handle>,
    pub references: u32,
    pub flags: u32,
}

/// A context: what a fault makes unusable, and what owns modules, streams and events.
pub struct Context {
    pub handle: Handle,
    pub device: Arc<Device>,
    pub primary: bool,
    pub flags: AtomicU32,
    pub alive: AtomicBool,
    pub cache_configuration: AtomicI32,
    pub limits: Mutex<HashMap<c_int, usize>>,
    pub legacy: Arc<Stream>,
    pub per_thread: Arc<Stream>,
    sticky: AtomicI32,
}

impl Context {
    pub fn new(device: Arc<Device>, primary: bool, flags: u32) -> Self {
        let handle = new_handle();
        Self {
            handle,
            device,
            primary,
            flags: flags.into(),
            alive: true.into(),
            cache_configuration: 0.into(),
            limits: Mutex::default(),
            legacy: Arc::new(Stream::default_of(handle, true)),
            per_thread: Arc::new(Stream::default_of(handle, false)),
            sticky: 0.into(),
        }
    }

    /// Makes every later call in this context return `status`, as a fault on a card does.
    pub fn fail(&self, status: Status) {
        let _ = self.sticky.compare_exchange(0, status.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// # Errors
    /// The fault that made the context unusable.
    pub fn healthy(&self) -> Outcome {
        match self.sticky.load(Ordering::Relaxed) {
            0 => Ok(()),
            code => Err(Status(code)),
        }
    }

    /// Forgets the fault: the primary context starts anew after a reset.
    pub fn heal(&self) {
        self.sticky.store(0, Ordering::Relaxed);
    }
}

/// Everything `cuInit` makes.
pub struct Driver {
    pub configuration: Configuration,
    /// What launches observe.
    pub settings: Settings,
    pub devices: Vec<Arc<Device>>,
    pub contexts: Table<Context>,
    pub modules: Table<Image>,
    pub functions: Table<Function>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub graphs: Table<Graph>,
    pub nodes: Table<Node>,
    pub executables: Table<Executable>,
    pub pools: Table<Pool>,
    pub links: Table<Link>,
    pub captures: Mutex<Vec<Arc<Capture>>>,
    pub host: Mutex<BTreeMap<u64, HostRange>>,
    pub mirrors: Mutex<Vec<Mirror>>,
    /// Held while an operation touches device memory, so that operations happen one after another.
    pub execution: Mutex<()>,
    pub launches: AtomicU64,
    pub allocations_made: AtomicU64,
    pub reporter: Reporter,
}

static DRIVER: OnceLock<Driver> = OnceLock::new();

/// Starts the driver the first time; later calls change nothing.
///
/// # Errors
/// `CUDA_ERROR_NO_DEVICE` or `CUDA_ERROR_STUB_LIBRARY` when the settings ask for it; `CUDA_ERROR_OUT_OF_MEMORY` where
/// the host has no room for the devices' memory.
pub fn initialise() -> Outcome {
    let driver = DRIVER.get_or_init(|| {
        let configuration = Configuration::from_environment();
        let devices = (0..configuration.devices.count)
            .map(|ordinal| {
                Some(Arc::new(Device {
                    ordinal,
                    memory: DeviceMemory::try_new(configuration.memory)?,
                    allocations: Mutex::default(),
                    primary: Mutex::default(),
                    default_pool: OnceLock::new(),
                    pool: Mutex::new(None),
                }))
            })
            .collect::<Option<Vec<_>>>()
            .unwrap_or_else(|| {
                let bytes = configuration.memory;
                eprintln!("cuda-emulator: the host has no {bytes} bytes of address space for a device; lower CUDA_EMULATOR_MEMORY");
                Vec::new()
            });
        super::report::report_at_exit();
        let defaults = Settings::default();
        let settings = Settings {
            threads: if configuration.threads == 0 { defaults.threads } else { configuration.threads },
            uninitialised: configuration.uninitialised,
            races: configuration.races,
            count: configuration.report != Report::None,
            blocks: configuration.blocks,
        };
        Driver {
            configuration,
            settings,
            devices,
            contexts: Table::default(),
            modules: Table::default(),
            functions: Table::default(),
            streams: Table::default(),
            events: Table::default(),
            graphs: Table::default(),
            nodes: Table::default(),
            executables: Table::default(),
            pools: Table::default(),
            links: Table::default(),
            captures: Mutex::default(),
            host: Mutex::default(),
            mirrors: Mutex::default(),
            execution: Mutex::default(),
            launches: 0.into(),
            allocations_made: 0.into(),
            reporter: Reporter::default(),
        }
    });
    if !driver.devices.is_empty() {
        Ok(())
    } else if driver.configuration.devices.count > 0 {
        Err(Status::OUT_OF_MEMORY)
    } else {
        Err(driver.configuration.devices.absence)
    }
}

/// Keeps operations off the device while memory is taken away, as a free waits for a card.
pub fn exclusive() -> Option<MutexGuard<'static, ()>> {
    DRIVER.get().map(|driver| lock(&driver.execution))
}

/// The driver after a successful `cuInit`.
///
/// # Errors
/// `CUDA_ERROR_NOT_INITIALIZED` before it.
pub fn driver() -> Outcome<&'static Driver> {
    DRIVER.get().filter(|driver| !driver.devices.is_empty()).ok_or(Status::NOT_INITIALIZED)
}

/// # Errors
/// `CUDA_ERROR_INVALID_DEVICE` for an ordinal no device has.
pub fn device(ordinal: c_int) -> Outcome<&'static Arc<Device>> {
    let index = usize::try_from(ordinal).map_err(|_| Status::INVALID_DEVICE)?;
    driver()?.devices.get(index).ok_or(Status::INVALID_DEVICE)
}

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// Pushes a context on the thread's stack.
pub fn push_context(handle: Handle) {
    STACK.with_borrow_mut(|stack| stack.push(handle));
}

/// Takes the top of the thread's stack.
///
/// # Errors
/// `CUDA_ERROR_INVALID_CONTEXT` when the stack is empty.
pub fn pop_context() -> Outcome<Handle> {
    STACK.with_borrow_mut(Vec::pop).ok_or(Status::INVALID_CONTEXT)
}

/// Replaces the top of the thread's stack; 0 removes it.
pub fn set_context(handle: Handle) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
}

/// The handle on top of the thread's stack, 0 where there is none.
pub fn current_handle() -> Handle {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// The driver and the context current to this thread.
pub struct Current {
    pub driver: &'static Driver,
    pub context: Arc<Context>,
}

impl Current {
    pub fn device(&self) -> &Arc<Device> {
        &self.context.device
    }
}

/// The current context, whatever its health.
///
/// # Errors
/// `CUDA_ERROR_NOT_INITIALIZED`, `CUDA_ERROR_INVALID_CONTEXT` without one, and
/// `CUDA_ERROR_CONTEXT_IS_DESTROYED` for one that is gone.
pub fn current_even_failed() -> Outcome<Current> {
    let driver = driver()?;
    let handle = current_handle();
    if handle == 0 {
        return Err(Status::INVALID_CONTEXT);
    }
    let context = driver.contexts.get(handle).map_err(|_| Status::CONTEXT_IS_DESTROYED)?;
    if !context.alive.load(Ordering::Relaxed) {
        return Err(Status::CONTEXT_IS_DESTROYED);
    }
    Ok(Current { driver, context })
}

/// The current context, which no fault has made unusable.
///
/// # Errors
/// As [`current_even_failed`], and the sticky fault.
pub fn current() -> Outcome<Current> {
    let current = current_even_failed()?;
    current.context.healthy()?;
    Ok(current)
}
