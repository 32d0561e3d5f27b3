//! The software driver, for `--device emulated`: the one place that knows of it.

use crate::error::{Error, Result};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::path::PathBuf;
use std::sync::OnceLock;

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

/// Puts the software driver where the program looks for the card's: it bears the same soname, so that a library
/// of that name counts as loaded from here on.
pub fn load() -> Result<()> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let failed = |why: String| {
        let remedy = format!("cargo build --release makes it; or name the library in {LIBRARY}");
        Error::new("--device emulated", why, remedy)
    };
    let loaded = LOADED.get_or_init(|| {
        let path = place().ok_or_else(|| format!("{FILE} is not beside the program"))?;
        // SAFETY: the library's initialisers do nothing but set up its own state; it is never unloaded.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
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
