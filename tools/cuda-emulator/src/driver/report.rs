//! What is told at the end: counters of kernels, findings, leaks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use super::abi::Handle;
use super::configuration::{Configuration, Report};
use super::memory::Owner;
use super::operation::KernelLaunch;
use super::state::{Context, Driver, driver, lock};
use crate::execute::Parameter;
use crate::observe::{Class, Counters, table};

/// Counters and findings of the process so far.
#[derive(Default)]
pub struct Reporter {
    /// Launches and their counters, by kernel.
    kernels: Mutex<BTreeMap<String, (u64, Counters)>>,
    /// Each launch as JSON, in order, where the report lists them.
    launches: Mutex<Vec<String>>,
    /// Kind and line of each finding.
    findings: Mutex<Vec<(String, String)>>,
}

impl Reporter {
    pub fn count(&self, configuration: &Configuration, launch: &KernelLaunch, counters: &Counters) {
        if configuration.report == Report::None {
            return;
        }
        let kernel = &launch.function.kernel().name;
        let mut kernels = lock(&self.kernels);
        let entry = kernels.entry(kernel.clone()).or_default();
        entry.0 += 1;
        entry.1.add(counters);
        if configuration.launches {
            lock(&self.launches).push(launch_json(launch, counters));
        }
    }

    pub fn find(&self, kind: &str, line: String) {
        lock(&self.findings).push((kind.to_owned(), line));
    }
}

/// Says what a context still holds; a reset or the exit of the process loses it.
pub fn leaks_of(driver: &Driver, context: &Context) {
    // After a fault nothing can be freed any more: what is left then is no leak.
    if context.healthy().is_ok() {
        leaks(driver, |owner| owner == context.handle);
    }
    write(driver);
}

fn leaks(driver: &Driver, of: impl Fn(Handle) -> bool) {
    if !driver.configuration.leaks {
        return;
    }
    for device in &driver.devices {
        let mut held: Vec<_> = lock(&device.allocations).clone().into_iter().collect();
        held.retain(|(_, allocation)| of(allocation.context) && allocation.owner == Owner::Program);
        held.sort_by_key(|(_, allocation)| allocation.serial);
        for (address, allocation) in held {
            let line = format!(
                "leak: {} bytes at {address:#x} of device {}, allocation {} ({}), never freed",
                allocation.bytes, device.ordinal, allocation.serial, allocation.origin
            );
            eprintln!("cuda-emulator: {line}");
            driver.reporter.find("leak", line);
        }
    }
}

fn host_leaks(driver: &Driver) {
    if !driver.configuration.leaks {
        return;
    }
    for (address, range) in lock(&driver.host).iter() {
        let verb = if range.registered { "unregistered" } else { "freed" };
        let line = format!(
            "leak: {} bytes of host memory at {address:#x} ({}), never {verb}",
            range.bytes, range.origin
        );
        eprintln!("cuda-emulator: {line}");
        driver.reporter.find("leak", line);
    }
}

/// Registers the report for the process's exit.
pub fn report_at_exit() {
    extern "C" fn at_exit() {
        // A panic must not cross into the C library's exit.
        let _ = std::panic::catch_unwind(|| {
            if let Ok(driver) = driver() {
                leaks(driver, |owner| {
                    driver.contexts.get(owner).is_ok_and(|context| context.healthy().is_ok())
                });
                host_leaks(driver);
                write(driver);
                if driver.configuration.report != Report::None {
                    eprint!("{}", kernel_table(&driver.reporter));
                }
            }
        });
    }
    // SAFETY: `at_exit` takes nothing, never unwinds, and lives as long as this library. When it cannot be
    // registered there is no report, which is all it is for.
    unsafe { libc::atexit(at_exit) };
}

fn kernel_table(reporter: &Reporter) -> String {
    let kernels = lock(&reporter.kernels);
    table(kernels.iter().map(|(name, (launches, counters))| (name.as_str(), *launches, counters)))
}

/// Writes the JSON file, whole or not at all.
fn write(driver: &Driver) {
    if let Report::File(path) = &driver.configuration.report
        && let Err(error) = replace(path, &json(driver))
    {
        eprintln!("cuda-emulator: CUDA_EMULATOR_REPORT={}: not written: {error}", path.display());
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    std::fs::write(&part, text)?;
    std::fs::rename(&part, path).inspect_err(|_| {
        // The rename's error is the one to report.
        let _ = std::fs::remove_file(&part);
    })
}

fn json(driver: &Driver) -> String {
    let reporter = &driver.reporter;
    let blocks = driver.configuration.blocks.map_or("null".into(), |blocks| blocks.to_string());
    let kernels = lock(&reporter.kernels);
    let mut text = format!("{{\n  \"sampled_blocks\": {blocks},\n");
    list(
        &mut text,
        "kernels",
        kernels.iter().map(|(name, (launches, counters))| {
            format!("{{\"kernel\": {}, \"launches\": {launches}, {}}}", quoted(name), counters_json(counters))
        }),
    );
    if driver.configuration.launches {
        list(&mut text, "launches", lock(&reporter.launches).iter().cloned());
    }
    list(
        &mut text,
        "findings",
        lock(&reporter.findings)
            .iter()
            .map(|(kind, line)| format!("{{\"kind\": {}, \"message\": {}}}", quoted(kind), quoted(line))),
    );
    // The last list has no comma behind it.
    text.truncate(text.len() - 2);
    text.push_str("\n}\n");
    text
}

/// A member of the report: its items, one a line.
fn list(text: &mut String, name: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("\n    {item}")).collect();
    // Writing to a string cannot fail.
    let _ = write!(text, "  \"{name}\": [{}\n  ],\n", items.join(","));
}

/// A launch with its parameters, each as the bytes that lie in memory.
fn launch_json(launch: &KernelLaunch, counters: &Counters) -> String {
    let kernel = launch.function.kernel();
    let parameter = |parameter: &Parameter| {
        let bytes = &launch.parameters[parameter.offset as usize..][..parameter.size as usize];
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        quoted(&digits)
    };
    let parameters: Vec<String> = kernel.parameters.iter().map(parameter).collect();
    format!(
        "{{\"kernel\": {}, \"grid\": {:?}, \"block\": {:?}, \"dynamic_shared\": {}, \"parameters\": [{}], {}}}",
        quoted(&kernel.name),
        launch.grid,
        launch.block,
        launch.shared_bytes,
        parameters.join(", "),
        counters_json(counters)
    )
}

/// The members of an object that hold counters.
fn counters_json(counters: &Counters) -> String {
    let of_class =
        |(class, name): (Class, &str)| format!("\"{name}\": {}", counters.lane_instructions[class as usize]);
    let classes = Class::ALL.map(of_class).join(", ");
    let figures = counters.figures().map(|(figure, value)| format!("\"{figure}\": {value}")).join(", ");
    format!("\"lane_instructions\": {{{classes}}}, {figures}")
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", letter as u32);
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quoted("a \"b\"\\\n"), "\"a \\\"b\\\"\\\\\\u000a\"");
    }
}
