//! Whether the machine can hold what is asked for: said before a large allocation, because a
//! process that runs out of memory cannot say anything any more.

use crate::error::{Error, Result};
use std::fmt::Display;

/// Refuses to go on where `bytes` are more than what is free. Where the system does not tell, all
/// is let through.
///
/// # Errors
/// One line with both amounts; `remedy` says what to make smaller.
pub fn require(place: impl Display, bytes: usize, remedy: &str) -> Result<()> {
    match available() {
        Some(free) if bytes > free => {
            let mib = |bytes: usize| bytes >> 20;
            let problem = format!("{} MiB of memory are needed, {} MiB are free", mib(bytes), mib(free));
            Err(Error::new(place, problem, remedy))
        }
        _ => Ok(()),
    }
}

/// Bytes that can be allocated without swapping (Linux: `MemAvailable`).
fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The most memory that the process ever held, in bytes (Linux: `VmHWM`), where the system tells.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_counts_after_it_is_gone() {
        let bytes = 64 << 20;
        // Every page is written to.
        drop(std::hint::black_box(vec![1u8; bytes]));
        assert!(peak().unwrap() > bytes as u64);
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        require("a", 1 << 10, "b").unwrap();
        let line = require("the network", usize::MAX, "take less").unwrap_err().to_string();
        assert!(
            line.starts_with("the network: 17592186044415 MiB") && line.ends_with("; take less"),
            "{line}"
        );
    }
}
