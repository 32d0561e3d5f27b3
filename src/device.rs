//! Which device computes, and why not the others.

use crate::cuda;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest that works.
    #[default]
    Auto,
    Cpu,
    /// A card by its number.
    Cuda(usize),
    /// The CUDA path on a software driver.
    Emulated,
}

/// A device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
}

impl DeviceChoice {
    /// The device that will compute.
    ///
    /// # Errors
    /// When the choice names a device that is not there or that this version has no engine for.
    pub fn select(self) -> Result<Device> {
        match self {
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) | Self::Emulated => Err(Error::new(
                format!("--device {self}"),
                format!("this version computes on the CPU only ({})", cuda::driver_state()),
                "leave the option out or use --device cpu",
            )),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu ({} threads, {:?})", rayon::current_num_threads(), crate::cpu::simd::level())
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "emulated" => Ok(Self::Emulated),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected auto, cpu, cuda, cuda:N or emulated".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert!("cuda:x".parse::<DeviceChoice>().is_err() && "gpu".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn auto_always_finds_a_device() {
        assert_eq!(DeviceChoice::Auto.select().unwrap(), Device::Cpu);
        assert!(DeviceChoice::Cuda(0).select().is_err());
    }
}
