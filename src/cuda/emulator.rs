//! The software driver, for `--device emulated`: the one place that knows of it.

use crate::error::{Error, Result};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::NamedTempFile;

/// Where the library is, when it is not beside the program.
pub const LIBRARY: &str = "HEXCUDA_EMULATOR";

const FILE: &str = "libcuda_emulator.so";

/// What the software driver calls its cards.
pub const MARK: &str = "Emulated";

fn place() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(LIBRARY) {
        return Some(path.into());
    }
    // Where cargo builds libraries (what lies beside the program may be older), or beside the program; tests and
    // examples are a folder below it.
    let program = std::env::current_exe().ok()?;
    let mut folders =
        program.ancestors().skip(1).take(2).flat_map(|folder| [folder.join("deps"), folder.into()]);
    folders.find_map(|folder: PathBuf| Some(folder.join(FILE)).filter(|path| path.is_file()))
}

/// A copy of the library that answers to the name that is asked for first.
fn renamed(path: &Path) -> std::io::Result<NamedTempFile> {
    let mut bytes = std::fs::read(path)?;
    if let Some(at) = bytes.windows(SONAME.len()).position(|piece| piece == SONAME) {
        bytes[at..at + SONAME.len()].copy_from_slice(FIRST_ASKED);
    }
    let mut copy = NamedTempFile::new()?;
    copy.write_all(&bytes)?;
    Ok(copy)
}

fn open(path: &Path) -> std::io::Result<Library> {
    // SAFETY: the library's initialisers do nothing but set up its own state, and it is never unloaded; the loader has
    // it in memory, also when its file is gone.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(std::io::Error::other)
}

/// What the software driver is called, and what a program that links no driver asks the loader for first.
const SONAME: &[u8] = b"\0libcuda.so.1\0";
const FIRST_ASKED: &[u8] = b"\0libcuda.so\0\0\0";

/// Puts the software driver where the program looks for the card's. The loader takes what is loaded already for a
/// name that it bears, and only then searches folders. cudarc asks for `libcuda.so` first, which a machine with a card
/// often has, and only at the end for `libcuda.so.1`: so it is a copy of the library with the first of these names that
/// is loaded, and no other driver is found whatever the folders hold.
pub fn load() -> Result<()> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let failed = |why: String| {
        let remedy = format!("cargo build --release makes it; or name the library in {LIBRARY}");
        Error::new("--device emulated", why, remedy)
    };
    let loaded = LOADED.get_or_init(|| {
        let path = place().ok_or_else(|| format!("{FILE} is not beside the program"))?;
        // Where temporary files may not be executed, the library itself will do: the check below sees the rest.
        let library = renamed(&path).and_then(|copy| open(copy.path())).or_else(|_| open(&path));
        library.map(std::mem::forget).map_err(|error| format!("{}: {error}", path.display()))
    });
    loaded.clone().map_err(failed)?;
    match super::driver_state() {
        super::DriverState::Cards(cards) if cards.iter().all(|card| card.name.starts_with(MARK)) => Ok(()),
        super::DriverState::Cards(cards) => {
            Err(failed(format!("another driver answered: {}", super::DriverState::Cards(cards))))
        }
        state => Err(Error::new("--device emulated", state, "see what the software driver says above")),
    }
}
