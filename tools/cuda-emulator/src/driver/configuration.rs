//! Settings of the emulated driver, from environment variables read once by `cuInit`.

use std::env;
use std::path::PathBuf;

use super::status::Status;

/// Where the report of counters and findings goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// No counting.
    None,
    /// A table on standard error.
    Table,
    /// A JSON file, and the table too.
    File(PathBuf),
}

/// The devices, or why `cuInit` finds none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Devices {
    pub count: usize,
    /// What `cuInit` answers when the count is 0.
    pub absence: Status,
}

/// The settings a run starts with.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Bytes of device memory of each device.
    pub memory: u64,
    /// What `cuDriverGetVersion` answers: 1000 * major + 10 * minor.
    pub driver_version: i32,
    pub devices: Devices,
    /// Host threads a launch is spread over; 0 is one for each core.
    pub threads: usize,
    pub uninitialised: bool,
    pub races: bool,
    pub leaks: bool,
    pub report: Report,
    /// The report lists every launch by itself.
    pub launches: bool,
    /// Only so many blocks of each launch run, and what they count stands for the others.
    pub blocks: Option<u64>,
    /// The launch, counted from 1, that fails with `CUDA_ERROR_LAUNCH_FAILED`.
    pub fail_after: Option<u64>,
    /// Whether streams can be captured.
    pub graphs: bool,
}

const DEFAULT_MEMORY: u64 = 12 << 30;

impl Configuration {
    /// Reads the `CUDA_EMULATOR_*` variables. A value that cannot be read is named on standard error
    /// and its default holds, because a driver has no other way to speak and must not stop a program.
    pub fn from_environment() -> Self {
        let checks = env::var("CUDA_EMULATOR_CHECKS").unwrap_or_else(|_| "all".into());
        let checks = parse_checks(&checks).unwrap_or_else(|problem| {
            complain("CUDA_EMULATOR_CHECKS", &checks, &problem);
            [true; 3]
        });
        let blocks = variable("CUDA_EMULATOR_BLOCKS", parse_count);
        if let Some(blocks) = blocks {
            eprintln!(
                "cuda-emulator: CUDA_EMULATOR_BLOCKS: at most {blocks} blocks of each launch run; counters are scaled, and \
                 what this program computes means nothing"
            );
        }
        Self {
            memory: variable("CUDA_EMULATOR_MEMORY", parse_bytes).unwrap_or(DEFAULT_MEMORY),
            driver_version: variable("CUDA_EMULATOR_DRIVER_VERSION", parse_version).unwrap_or(12040),
            devices: variable("CUDA_EMULATOR_DEVICES", parse_devices)
                .unwrap_or(Devices { count: 1, absence: Status::NO_DEVICE }),
            threads: variable("CUDA_EMULATOR_THREADS", parse_number).unwrap_or(0),
            // Blocks that do not run leave bytes unwritten that others read.
            uninitialised: checks[0] && blocks.is_none(),
            races: checks[1],
            leaks: checks[2],
            report: match env::var_os("CUDA_EMULATOR_REPORT") {
                None => Report::None,
                Some(path) if path.is_empty() => Report::None,
                Some(path) if path == "-" => Report::Table,
                Some(path) => Report::File(path.into()),
            },
            launches: variable("CUDA_EMULATOR_LAUNCHES", parse_switch).unwrap_or(false),
            blocks,
            fail_after: variable("CUDA_EMULATOR_FAIL_AFTER", parse_number).map(|n| n as u64),
            graphs: variable("CUDA_EMULATOR_GRAPHS", parse_number) != Some(0),
        }
    }

    /// Highest PTX ISA version, 10 * major + minor, that a driver of this version compiles
    /// (PTX ISA manual, "Release History").
    pub fn ptx_version(&self) -> u32 {
        let (major, minor) = (self.driver_version as u32 / 1000, self.driver_version as u32 % 1000 / 10);
        match (major, minor) {
            (11, minor) => 70 + minor.min(8),
            (12, minor @ 0..=5) => 80 + minor,
            (12, 6) => 85,
            (12, minor) => 79 + minor.min(9),
            (0..=10, _) => 65,
            (major, minor) => 90 + 10 * (major - 13) + minor,
        }
    }
}

fn variable<T>(name: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
    let text = env::var(name).ok()?;
    match parse(text.trim()) {
        Ok(value) => Some(value),
        Err(problem) => {
            complain(name, &text, &problem);
            None
        }
    }
}

fn complain(name: &str, text: &str, problem: &str) {
    eprintln!("cuda-emulator: {name}={text}: {problem}; the default is used");
}

fn parse_number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a whole number".into())
}

fn parse_count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "expected a whole number from 1".into())
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("expected 0 or 1".into()),
    }
}

fn parse_devices(text: &str) -> Result<Devices, String> {
    if text == "stub" {
        return Ok(Devices { count: 0, absence: Status::STUB_LIBRARY });
    }
    match parse_number(text) {
        Ok(count @ 0..=16) => Ok(Devices { count, absence: Status::NO_DEVICE }),
        _ => Err("expected 0 to 16 devices, or stub".into()),
    }
}

fn parse_version(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(version @ 9000..=99990) => Ok(version),
        _ => Err("expected a version such as 12040 for CUDA 12.4".into()),
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, scale) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)) {
        Some(bytes) if (1 << 20..=1 << 40).contains(&bytes) => Ok(bytes),
        _ => Err("expected bytes between 1M and 1024G, with an optional K, M or G".into()),
    }
}

/// Uninitialised reads, races, leaks. Bounds, alignment and barriers are always checked.
fn parse_checks(text: &str) -> Result<[bool; 3], String> {
    let mut checks = [false; 3];
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "all" => checks = [true; 3],
            "none" => checks = [false; 3],
            "uninitialised" => checks[0] = true,
            "races" => checks[1] = true,
            "leaks" => checks[2] = true,
            _ => return Err(format!("\"{word}\" is none of all, none, uninitialised, races, leaks")),
        }
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_suffixes_and_refuse_nonsense() {
        assert_eq!(parse_bytes("2G"), Ok(2 << 30));
        assert_eq!(parse_bytes("512m"), Ok(512 << 20));
        assert_eq!(parse_bytes("12884901888"), Ok(12 << 30));
        for text in ["", "G", "-1G", "10", "99999999999G", "1.5G"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn checks_are_a_list() {
        assert_eq!(parse_checks("all"), Ok([true; 3]));
        assert_eq!(parse_checks("none"), Ok([false; 3]));
        assert_eq!(parse_checks("races, leaks"), Ok([false, true, true]));
        assert!(parse_checks("races,speed").is_err());
    }

    #[test]
    fn ptx_versions_follow_the_release_history() {
        let of = |driver_version| {
            Configuration { driver_version, ..Configuration::from_environment() }.ptx_version()
        };
        let table = [
            (11040, 74),
            (11080, 78),
            (12000, 80),
            (12040, 84),
            (12050, 85),
            (12060, 85),
            (12080, 87),
            (12090, 88),
            (13000, 90),
            (13020, 92),
        ];
        for (driver, ptx) in table {
            assert_eq!(of(driver), ptx, "driver {driver}");
        }
    }
}
