//! Processes with the emulator as their driver, and a few calls in short form.

use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUcontext, CUdeviceptr, CUfunction, CUmodule, CUresult, CUstream};

/// Kernels in PTX: `add` (c = a + b), `set` (one word), `trap_now`, `dynamic` (fills dynamic shared memory
/// and copies it out), and a variable of each kind.
pub const KERNELS: &str = include_str!("kernels.ptx");

/// A directory in which the loader finds the emulator under the driver's names.
pub fn library_directory() -> PathBuf {
    let built = std::env::current_exe().unwrap().with_file_name("libcuda_emulator.so");
    assert!(built.exists(), "{} is built with the tests", built.display());
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("driver");
    std::fs::create_dir_all(&directory).unwrap();
    for name in ["libcuda.so", "libcuda.so.1", "libcudart.so", "libcudart.so.12", "libcudart.so.13"] {
        // A rename replaces the link at once, for tests that run at the same time.
        let fresh =
            directory.join(format!("{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
        std::os::unix::fs::symlink(&built, &fresh).unwrap();
        std::fs::rename(&fresh, directory.join(name)).unwrap();
    }
    directory
}

/// A command that finds the emulator as its driver, with no setting of the caller's environment.
pub fn command(program: impl AsRef<std::ffi::OsStr>, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CUDA_EMULATOR_") {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", library_directory()).envs(settings.iter().copied());
    command
}

const CHILD: &str = "EMULATED_TEST";

/// Runs a test's body in a process of its own: this one when it is the child, which returns nothing; the
/// parent gets the child's output.
pub fn in_child(path: &str, settings: &[(&str, &str)], body: fn()) -> Option<Output> {
    if std::env::var(CHILD).as_deref() == Ok(path) {
        body();
        return None;
    }
    let name = path.split_once("::").unwrap().1;
    let mut child = command(std::env::current_exe().unwrap(), settings);
    let output = child.args([name, "--exact", "--nocapture"]).env(CHILD, path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{path} failed:\n{}{text}", String::from_utf8_lossy(&output.stdout));
    Some(output)
}

/// A test in a process of its own: settings of the emulator, what the process does, and what is expected
/// on its standard error.
macro_rules! emulated {
    ($(#[$note:meta])* fn $name:ident[$($key:literal = $value:expr),*] $body:block $(errors($text:ident) $check:block)?) => {
        $(#[$note])*
        #[test]
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            let output = $crate::support::in_child(path, &[$(($key, $value)),*], || $body);
            $(
                if let Some(output) = &output {
                    let $text = String::from_utf8_lossy(&output.stderr);
                    $check
                }
            )?
            drop(output);
        }
    };
}

/// Asserts success.
#[track_caller]
pub fn ok(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// Initialises the driver and makes a fresh context current.
pub fn start() -> CUcontext {
    let mut context = null_mut();
    unsafe {
        ok(sys::cuInit(0));
        ok(sys::cuDevicePrimaryCtxRetain(&mut context, 0));
        ok(sys::cuCtxSetCurrent(context));
    }
    context
}

pub fn load(ptx: &str) -> Result<CUmodule, CUresult> {
    let text = CString::new(ptx).unwrap();
    let mut module = null_mut();
    match unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast()) } {
        CUresult::CUDA_SUCCESS => Ok(module),
        error => Err(error),
    }
}

pub fn function(module: CUmodule, name: &str) -> CUfunction {
    let (name, mut function) = (CString::new(name).unwrap(), null_mut());
    ok(unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) });
    function
}

/// A kernel of [`KERNELS`].
pub fn kernel(name: &str) -> CUfunction {
    function(load(KERNELS).unwrap(), name)
}

pub fn allocate(bytes: usize) -> CUdeviceptr {
    let mut pointer = 0;
    ok(unsafe { sys::cuMemAlloc_v2(&mut pointer, bytes) });
    pointer
}

/// Allocates and fills.
pub fn upload(words: &[u32]) -> CUdeviceptr {
    let pointer = allocate(4 * words.len());
    ok(unsafe { sys::cuMemcpyHtoD_v2(pointer, words.as_ptr().cast(), 4 * words.len()) });
    pointer
}

pub fn download(pointer: CUdeviceptr, count: usize) -> Vec<u32> {
    let mut words = vec![0; count];
    ok(unsafe { sys::cuMemcpyDtoH_v2(words.as_mut_ptr().cast(), pointer, 4 * count) });
    words
}

pub fn stream() -> CUstream {
    let mut stream = null_mut();
    ok(unsafe { sys::cuStreamCreate(&mut stream, 1) });
    stream
}

/// Launches one-dimensionally.
pub fn launch(
    function: CUfunction,
    grid: u32,
    block: u32,
    shared: u32,
    stream: CUstream,
    arguments: &mut [*mut c_void],
) -> CUresult {
    unsafe {
        sys::cuLaunchKernel(
            function,
            grid,
            1,
            1,
            block,
            1,
            1,
            shared,
            stream,
            arguments.as_mut_ptr(),
            null_mut(),
        )
    }
}

/// `set`: one thread writes `value` at `address`.
pub fn set(function: CUfunction, stream: CUstream, mut address: CUdeviceptr, mut value: u32) -> CUresult {
    launch(function, 1, 1, 0, stream, &mut [(&raw mut address).cast(), (&raw mut value).cast()])
}

/// A copy from device to device of nothing, to be filled in.
pub fn box_2d() -> sys::CUDA_MEMCPY2D {
    sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: 0,
        srcArray: null_mut(),
        srcPitch: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: null_mut(),
        dstDevice: 0,
        dstArray: null_mut(),
        dstPitch: 0,
        WidthInBytes: 0,
        Height: 0,
    }
}

/// As [`box_2d`], with planes.
pub fn box_3d() -> sys::CUDA_MEMCPY3D {
    sys::CUDA_MEMCPY3D {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: 0,
        srcArray: null_mut(),
        reserved0: null_mut(),
        srcPitch: 0,
        srcHeight: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: null_mut(),
        dstDevice: 0,
        dstArray: null_mut(),
        reserved1: null_mut(),
        dstPitch: 0,
        dstHeight: 0,
        WidthInBytes: 0,
        Height: 0,
        Depth: 0,
    }
}
