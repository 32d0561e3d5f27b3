//! Which device computes and why not the others, and memory on it.

use crate::cpu::arena::Arena;
use crate::cpu::bf16;
use crate::cpu::products::Products;
use crate::cpu::simd;
use crate::cuda::{self, Array, Context, DriverState, Precision, Queue};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// What a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest that works.
    #[default]
    Auto,
    Cpu,
    /// The first card; of several ranks on a machine each takes the next one.
    AnyCuda,
    /// A card by its number.
    Cuda(usize),
    /// As `Auto`, the cards from this one on, and then those before.
    AutoFrom(usize),
    /// The CUDA path on a software driver.
    Emulated,
}

/// A device in use.
#[derive(Clone, Debug)]
pub enum Device {
    Cpu,
    /// The CPU, with the products of a training step's convolutions in bf16.
    CpuBf16,
    Cuda(Arc<Queue>),
}

/// The two code paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cpu(Products),
    Cuda { multiprocessors: usize, precision: Precision },
}

impl Kind {
    /// Whether activations and their gradients lie in 2 bytes a value, bf16 or fp16.
    pub fn narrow(self) -> bool {
        matches!(self, Self::Cuda { precision: Precision::Bf16 | Precision::Fp16, .. })
    }
}

impl DeviceChoice {
    /// The device that will compute. `auto` is the first card where there is one that the kernels run on, else
    /// the CPU; never the software driver.
    ///
    /// # Errors
    /// When the choice names a device that is not there or does not work.
    pub fn select(self, precision: Precision) -> Result<Device> {
        self.select_with_reasons(precision).map(|(device, _)| device)
    }

    /// What rank `local` of those on this machine takes: where no card is named the ranks have one each, in turn.
    pub fn for_rank(self, local: usize) -> Self {
        let cards = || match cuda::driver_state() {
            DriverState::Cards(cards) if !cards.is_empty() => cards.len(),
            _ => 1,
        };
        match self {
            Self::AnyCuda => Self::Cuda(local % cards()),
            Self::Auto => Self::AutoFrom(local % cards()),
            named => named,
        }
    }

    /// As [`DeviceChoice::select`], with what keeps `auto` from the cards that it passes over: nothing where the
    /// machine has no driver or no card.
    ///
    /// # Errors
    /// As [`DeviceChoice::select`].
    pub fn select_with_reasons(self, precision: Precision) -> Result<(Device, Vec<Error>)> {
        let named = |device: Device| (device, Vec::new());
        match self {
            Self::Cpu => Device::cpu(precision).map(named),
            Self::AnyCuda => Device::cuda(0, precision).map(named),
            Self::Cuda(index) => Device::cuda(index, precision).map(named),
            Self::Emulated => {
                cuda::emulator::load()?;
                Device::cuda(0, precision).map(named)
            }
            Self::Auto => first_that_works(0, precision),
            Self::AutoFrom(card) => first_that_works(card, precision),
        }
    }
}

/// The first card that works from number `from` on, else the CPU; and why not the cards before.
fn first_that_works(from: usize, precision: Precision) -> Result<(Device, Vec<Error>)> {
    let cards = match cuda::driver_state() {
        DriverState::Cards(cards) => cards.len(),
        DriverState::Absent => 0,
        state @ DriverState::Broken(_) => {
            let remedy = "repair or update the NVIDIA driver, or say --device cpu";
            return Ok((Device::cpu(precision)?, vec![Error::new("--device auto", state, remedy)]));
        }
    };
    let mut refusals = Vec::new();
    for index in (0..cards).map(|k| (from + k) % cards) {
        match Device::cuda(index, precision) {
            Ok(device) => return Ok((device, refusals)),
            Err(why) => refusals.push(why),
        }
    }
    Ok((Device::cpu(precision)?, refusals))
}

impl Device {
    /// The CPU with products in bf16 where the precision says so; other precisions are those of cards.
    fn cpu(precision: Precision) -> Result<Self> {
        if precision != Precision::Bf16 {
            return Ok(Self::Cpu);
        }
        bf16::available().map(|()| Self::CpuBf16)
    }

    fn cuda(index: usize, precision: Precision) -> Result<Self> {
        Ok(Self::Cuda(Queue::new(&Context::open(index)?, precision)?))
    }

    /// What convolutions multiply where the CPU computes them.
    pub fn products(&self) -> Products {
        if matches!(self, Self::CpuBf16) { Products::Bf16 } else { Products::Fp32 }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Cpu => Kind::Cpu(Products::Fp32),
            Self::CpuBf16 => Kind::Cpu(Products::Bf16),
            Self::Cuda(queue) => Kind::Cuda {
                multiprocessors: queue.context().card.multiprocessors,
                precision: queue.precision(),
            },
        }
    }
}

/// Floats on a device.
pub enum Buffer {
    Cpu(Arena),
    Cuda(Arc<Queue>, Array<f32>),
}

impl Buffer {
    /// `len` zeros; `what` names them where the device has no room.
    pub fn zeros(device: &Device, len: usize, what: &str) -> Result<Self> {
        match device {
            Device::Cpu | Device::CpuBf16 => Ok(Self::Cpu(Arena::zeros(len))),
            Device::Cuda(queue) => {
                let array = queue.array(len, what)?;
                queue.fill_bytes(array.write(), 0)?;
                Ok(Self::Cuda(queue.clone(), array))
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Cpu(arena) => arena.len(),
            Self::Cuda(_, array) => array.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn device(&self) -> Device {
        match self {
            Self::Cpu(_) => Device::Cpu,
            Self::Cuda(queue, _) => Device::Cuda(queue.clone()),
        }
    }

    /// All values, after all that was queued.
    pub fn values(&self) -> Result<Cow<'_, [f32]>> {
        match self {
            Self::Cpu(arena) => Ok(Cow::Borrowed(arena.as_slice())),
            Self::Cuda(_, array) => self.part(0..array.len()).map(Cow::Owned),
        }
    }

    /// Some of the values, after all that was queued.
    pub fn part(&self, range: Range<usize>) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(arena) => Ok(arena.as_slice()[range].to_vec()),
            Self::Cuda(queue, array) => {
                let mut values = vec![0.0; range.len()];
                queue.download(array.read().part(range), &mut values)?;
                Ok(values)
            }
        }
    }

    /// The same into `values`, which are as many.
    pub fn read(&self, range: Range<usize>, values: &mut [f32]) -> Result<()> {
        match self {
            Self::Cpu(arena) => {
                values.copy_from_slice(&arena.as_slice()[range]);
                Ok(())
            }
            Self::Cuda(queue, array) => queue.download(array.read().part(range), values),
        }
    }

    /// Waits until all that was queued on the device is done.
    pub fn synchronise(&self) -> Result<()> {
        match self {
            Self::Cpu(_) => Ok(()),
            Self::Cuda(queue, _) => queue.synchronise(),
        }
    }

    /// Overwrites the values from `start` on.
    pub fn load(&mut self, start: usize, values: &[f32]) -> Result<()> {
        match self {
            Self::Cpu(arena) => {
                arena.as_mut_slice()[start..start + values.len()].copy_from_slice(values);
                Ok(())
            }
            Self::Cuda(queue, array) => queue.upload(values, array.write().part(start..start + values.len())),
        }
    }

    /// The same values on `device`.
    pub fn into_device(self, device: &Device, what: &str) -> Result<Self> {
        if matches!((&self, device), (Self::Cpu(_), Device::Cpu | Device::CpuBf16)) {
            return Ok(self);
        }
        let mut there = Self::zeros(device, self.len(), what)?;
        there.load(0, &self.values()?)?;
        Ok(there)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto | Self::AutoFrom(_) => f.write_str("auto"),
            Self::AnyCuda => f.write_str("cuda"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu ({} threads, {:?})", rayon::current_num_threads(), simd::level()),
            Self::CpuBf16 => {
                let (threads, level) = (rayon::current_num_threads(), simd::level());
                write!(f, "cpu ({threads} threads, {level:?}, products in bf16 by {})", bf16::means())
            }
            Self::Cuda(queue) => write!(f, "{queue:?}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::AnyCuda),
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
    fn the_cpu_multiplies_in_bf16_where_it_can() {
        match DeviceChoice::Cpu.select(Precision::Bf16) {
            Ok(device) => assert_eq!(device.kind(), Kind::Cpu(Products::Bf16)),
            Err(error) => assert!(error.to_string().starts_with("--precision bf16: "), "{error}"),
        }
        for precision in [Precision::Tf32, Precision::Fp16, Precision::Fp32] {
            let device = DeviceChoice::Cpu.select(precision).unwrap();
            assert_eq!(device.kind(), Kind::Cpu(Products::Fp32));
        }
    }

    #[test]
    fn auto_always_finds_a_device_and_a_card_that_is_not_there_is_refused() {
        assert!(DeviceChoice::Auto.select(Precision::default()).is_ok());
        let error = DeviceChoice::Cuda(99).select(Precision::default()).unwrap_err().to_string();
        assert!(error.starts_with("--device cuda:99: "), "{error}");
    }
}
