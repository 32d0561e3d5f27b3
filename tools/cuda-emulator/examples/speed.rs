//! Runs one kernel of a PTX file on buffers of small numbers, prints lane-instructions a second and the
//! table of counters.
//!
//! ```text
//! speed FILE.ptx KERNEL GRIDxGRIDxGRID BLOCKxBLOCKxBLOCK SHARED ARGUMENT...
//! ```
//! An argument is `buffer:BYTES` (filled with singles between -1 and 1), `zeros:BYTES`, `u32:N`, `u64:N` or
//! `f32:X`; `--fast` in front switches the observers off, `--threads=N` says how many host threads run.
//! Without KERNEL it only decodes the file.

use std::time::Instant;

use cuda_emulator::execute::{Launch, LoadedModule, Settings, launch};
use cuda_emulator::memory::DeviceMemory;
use cuda_emulator::observe;
use cuda_emulator::ptx::Module;

type Failure = Box<dyn std::error::Error>;

fn extent(text: &str) -> Result<[u32; 3], Failure> {
    let mut extent = [1; 3];
    for (axis, part) in extent.iter_mut().zip(text.split('x')) {
        *axis = part.parse()?;
    }
    Ok(extent)
}

fn argument(text: &str, memory: &DeviceMemory) -> Result<Vec<u8>, Failure> {
    let (kind, value) = text.split_once(':').ok_or("an argument is KIND:VALUE")?;
    Ok(match kind {
        "u32" => value.parse::<i64>()?.to_le_bytes()[..4].to_vec(),
        "u64" => value.parse::<u64>()?.to_le_bytes().to_vec(),
        "f32" => value.parse::<f32>()?.to_le_bytes().to_vec(),
        "buffer" | "zeros" => {
            let bytes: u64 = value.parse()?;
            let address = memory.allocate(bytes).ok_or("the device has not that much memory")?;
            // A fixed sequence of numbers: a multiplicative generator modulo 2^16 + 1.
            let mut state = 1u64;
            let data: Vec<u8> = (0..bytes / 4)
                .flat_map(|_| {
                    state = state * 75 % 65537;
                    let value = if kind == "zeros" { 0.0 } else { state as f32 / 32768.0 - 1.0 };
                    value.to_le_bytes()
                })
                .collect();
            memory.write(address, &data)?;
            address.to_le_bytes().to_vec()
        }
        _ => return Err(format!("`{kind}` is no kind of argument").into()),
    })
}

fn main() -> Result<(), Failure> {
    let mut settings = Settings::default();
    let mut words: Vec<String> = Vec::new();
    for word in std::env::args().skip(1) {
        if word == "--fast" {
            settings = Settings { uninitialised: false, races: false, count: false, ..settings };
        } else if let Some(threads) = word.strip_prefix("--threads=") {
            settings.threads = threads.parse()?;
        } else {
            words.push(word);
        }
    }
    let path = words.first().ok_or("usage: speed FILE KERNEL GRID BLOCK SHARED ARGUMENT...")?;
    let memory = DeviceMemory::new(12 << 30);
    let start = Instant::now();
    let module = Module::parse(&std::fs::read_to_string(path)?)?;
    let loaded = LoadedModule::load(&module, &memory)?;
    println!("{} kernels decoded in {:.1} ms", loaded.kernels().len(), start.elapsed().as_secs_f64() * 1e3);
    let [_, name, grid, block, shared, arguments @ ..] = words.as_slice() else { return Ok(()) };
    let kernel = loaded.kernel(name).ok_or_else(|| format!("no kernel `{name}` in {path}"))?;
    let mut parameters = Vec::new();
    for (text, place) in arguments.iter().zip(&kernel.parameters) {
        parameters.resize(place.offset as usize, 0);
        parameters.extend(argument(text, &memory)?);
    }
    let request = Launch {
        kernel,
        grid: extent(grid)?,
        block: extent(block)?,
        shared_bytes: shared.parse()?,
        parameters: &parameters,
    };
    let start = Instant::now();
    let counters = launch(&loaded, &request, &memory, &settings)?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = counters.total() as f64 / seconds / 1e6;
    let threads = settings.threads;
    println!("{:.3} s, {rate:.0} M lane-instructions/s on {threads} threads", seconds);
    print!("{}", observe::table([(name.as_str(), 1, &counters)]));
    Ok(())
}
