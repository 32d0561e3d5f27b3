//! CUDA sources to PTX at run time, through NVRTC. The build script compiles with it too.

use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString};
use std::fmt;
use std::path::Path;

/// One virtual target for all cards from Ampere on; lines of the source for what reports on kernels.
pub const OPTIONS: [&str; 3] = ["--gpu-architecture=compute_80", "--std=c++17", "--generate-line-info"];

pub const REMEDY: &str = "install the CUDA toolkit, or `pip install nvidia-cuda-nvrtc-cu12==12.4.127` and put the \
     folder of its libnvrtc.so.12 on LD_LIBRARY_PATH";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The loader finds no NVRTC.
    Absent,
    /// What the compiler says of the source.
    Refused(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "no NVRTC: {REMEDY}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

fn present() -> Result<(), Problem> {
    // SAFETY: only looks whether the library can be loaded.
    if unsafe { sys::is_culib_present() } { Ok(()) } else { Err(Problem::Absent) }
}

/// PTX of `folder`/`stem`.cu with the headers of the folder.
pub fn compile(folder: &Path, stem: &str) -> Result<String, Problem> {
    present()?;
    let refused = |why: &dyn fmt::Display| Problem::Refused(format!("{stem}.cu: {why}"));
    let text = std::fs::read(folder.join(format!("{stem}.cu"))).map_err(|error| refused(&error))?;
    let text = CString::new(text).map_err(|error| refused(&error))?;
    let name = CString::new(format!("{stem}.cu")).map_err(|error| refused(&error))?;
    let include = format!("--include-path={}", folder.display());
    let options: Vec<&str> = OPTIONS.iter().copied().chain([include.as_str()]).collect();
    let program = result::create_program(&text, Some(&name)).map_err(|error| refused(&error))?;
    // SAFETY: `program` lives until it is destroyed below, and so do `text` and `name`; the log and the PTX end in
    // NUL.
    let compiled = unsafe {
        let text_of =
            |chars: Vec<std::ffi::c_char>| CStr::from_ptr(chars.as_ptr()).to_string_lossy().into_owned();
        let compiled = match result::compile_program(program, &options) {
            Ok(()) => result::get_ptx(program).map(text_of).map_err(|error| refused(&error)),
            Err(_) => Err(match result::get_program_log(program) {
                Ok(log) => refused(&text_of(log).trim()),
                Err(error) => refused(&error),
            }),
        };
        result::destroy_program(program).map_err(|error| refused(&error))?;
        compiled
    };
    compiled.map(|ptx| without_folders(&ptx))
}

/// The table of files without their folders, so that the text is the same on every machine.
fn without_folders(ptx: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in ptx.split('\n') {
        let bare = line.trim_start().strip_prefix(".file").and_then(|rest| {
            let (number, path) = rest.split_once('"')?;
            let name = path.trim_end_matches('"').rsplit(['/', '\\']).next()?;
            Some(format!("\t.file{number}\"{name}\""))
        });
        lines.push(bare.unwrap_or_else(|| line.to_string()));
    }
    lines.join("\n")
}

/// The compiler's release, as the manifest of the committed PTX names it.
#[allow(dead_code, reason = "the program itself does not write that manifest")]
pub fn version() -> Result<String, String> {
    present().map_err(|problem| problem.to_string())?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the two integers outlive the call.
    let done = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result();
    done.map(|()| format!("NVRTC-{major}.{minor}")).map_err(|error| format!("NVRTC: {error}"))
}
