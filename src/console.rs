//! The two streams: results to standard output, everything else to standard error. Unlike the
//! macros of the standard library, a full disk or a reader that went away is no panic here.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on nothing is printed but by [`insist`]: of several processes that do the same one speaks.
pub fn silence() {
    SILENT.store(true, Ordering::SeqCst);
}

/// A line of results. A reader that has closed the pipe (`| head -1`) wants no more: no fault.
///
/// # Errors
/// What the system says, for example that the disk is full.
pub fn result(line: impl Display) -> Result<()> {
    if SILENT.load(Ordering::SeqCst) {
        return Ok(());
    }
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", &error)),
        _ => Ok(()),
    }
}

/// A line for people; where it cannot be written there is nobody to tell.
pub fn note(line: impl Display) {
    if !SILENT.load(Ordering::SeqCst) {
        insist(line);
    }
}

/// A line for people that is written also by who is silent. In one piece, so that lines of several processes do not mix.
pub fn insist(line: impl Display) {
    let _ = stderr().lock().write_all(format!("{line}\n").as_bytes());
}
