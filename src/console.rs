//! The two streams: results to standard output, everything else to standard error. Unlike the
//! macros of the standard library, a full disk or a reader that went away is no panic here.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};

/// A line of results. A reader that has closed the pipe (`| head -1`) wants no more: no fault.
///
/// # Errors
/// What the system says, for example that the disk is full.
pub fn result(line: impl Display) -> Result<()> {
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", &error)),
        _ => Ok(()),
    }
}

/// A line for people; where it cannot be written there is nobody to tell.
pub fn note(line: impl Display) {
    let _ = writeln!(stderr().lock(), "{line}");
}
