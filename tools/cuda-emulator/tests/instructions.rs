//! Runs every `.ptx` file under `tests/instructions` and `tests/findings`: each names its input, and the
//! output or the finding that is expected.
//!
//! A file's comments say what to do: `// threads 32` (threads of the one block), `// blocks 2`,
//! `// in TYPE values...` and `// out TYPE values...` (appended to the input and the expected output, whose
//! addresses are the kernel's two parameters), `// ulp 2` (allowed distance of `f32` outputs in units in the
//! last place), `// shared BYTES` (dynamic shared memory), `// untouched BYTES` (the output's size where
//! nothing is expected in it), `// cooperative` (a launch whose blocks may wait for each other), `// prints TEXT`, and `// fault KIND at LINE MARK` (the finding, on the line
//! that carries the comment `// MARK`).

use std::path::{Path, PathBuf};

use cuda_emulator::error::Fault;
use cuda_emulator::execute::{Launch, LoadedModule, Settings, launch_cooperative, launch_into};
use cuda_emulator::memory::DeviceMemory;
use cuda_emulator::ptx::Module;

#[derive(Default)]
struct Case {
    threads: u32,
    blocks: u32,
    shared: u32,
    ulp: u32,
    cooperative: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    untouched: usize,
    prints: Option<String>,
    fault: Option<String>,
}

fn push(bytes: &mut Vec<u8>, ty: &str, value: &str) {
    let integer = || {
        let (sign, digits) = value.strip_prefix('-').map_or((1, value), |rest| (-1, rest));
        let digits = digits.replace('_', "");
        let magnitude = match digits.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        sign * magnitude.unwrap_or_else(|_| panic!("`{value}` is not an integer"))
    };
    let float = || value.parse::<f64>().unwrap_or_else(|_| panic!("`{value}` is not a number"));
    match ty {
        "u8" => bytes.push(integer() as u8),
        "u16" => bytes.extend((integer() as u16).to_le_bytes()),
        "u32" | "s32" | "b32" => bytes.extend((integer() as u32).to_le_bytes()),
        "u64" | "s64" | "b64" => bytes.extend((integer() as u64).to_le_bytes()),
        "f32" => bytes.extend((float() as f32).to_le_bytes()),
        "f64" => bytes.extend(float().to_le_bytes()),
        _ => panic!("`{ty}` is not a type of the tests"),
    }
}

fn read(text: &str) -> Case {
    let mut case = Case { threads: 32, blocks: 1, ..Case::default() };
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("// ") else { continue };
        let (word, rest) = comment.split_once(' ').unwrap_or((comment, ""));
        let number = || rest.trim().parse().unwrap_or_else(|_| panic!("`{rest}` is not a number"));
        let list = |bytes: &mut Vec<u8>| {
            let (ty, values) = rest.split_once(' ').expect("a type and values");
            values.split_whitespace().for_each(|value| push(bytes, ty, value));
        };
        match word {
            "threads" => case.threads = number(),
            "blocks" => case.blocks = number(),
            "cooperative" => case.cooperative = true,
            "shared" => case.shared = number(),
            "ulp" => case.ulp = number(),
            "untouched" => case.untouched = number() as usize,
            "in" => list(&mut case.input),
            "out" => list(&mut case.output),
            "prints" => case.prints = Some(rest.replace("\\n", "\n")),
            "fault" => case.fault = Some(rest.to_string()),
            _ => {}
        }
    }
    case
}

fn run(text: &str, case: &Case) -> Result<(Vec<u8>, String), Fault> {
    let module = Module::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let memory = DeviceMemory::new(1 << 30);
    let loaded = LoadedModule::load(&module, &memory)?;
    let kernel = &loaded.kernels()[0];
    let length = case.output.len().max(case.untouched).max(1);
    let input = memory.allocate(case.input.len().max(1) as u64).expect("room");
    let output = memory.allocate(length as u64).expect("room");
    memory.write(input, &case.input).expect("the input fits");
    let parameters = [input.to_le_bytes(), output.to_le_bytes()].concat();
    let launch = Launch {
        kernel,
        grid: [case.blocks, 1, 1],
        block: [case.threads, 1, 1],
        shared_bytes: case.shared,
        parameters: &parameters[..kernel.parameter_bytes as usize],
    };
    let mut printed = Vec::new();
    let settings = Settings { threads: 2, ..Settings::default() };
    if case.cooperative {
        launch_cooperative(&loaded, &launch, &memory, &settings)?;
    } else {
        launch_into(&loaded, &launch, &memory, &settings, &mut printed)?;
    }
    let mut bytes = vec![0; length];
    memory.read(output, &mut bytes).expect("the output is there");
    Ok((bytes, String::from_utf8_lossy(&printed).into_owned()))
}

/// Distance of two singles in units in the last place; equal bits are at distance 0.
fn distance(a: u32, b: u32) -> u32 {
    let key = |v: u32| if v >> 31 == 1 { -((v & 0x7fff_ffff) as i64) } else { i64::from(v) };
    (key(a) - key(b)).unsigned_abs().min(u32::MAX.into()) as u32
}

fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let case = read(&text);
    match (run(&text, &case), &case.fault) {
        (Ok((bytes, printed)), None) => {
            let word = |bytes: &[u8], n: usize| {
                u32::from_le_bytes(std::array::from_fn(|k| bytes.get(4 * n + k).copied().unwrap_or(0)))
            };
            for n in 0..case.output.len().div_ceil(4) {
                let (got, wanted) = (word(&bytes, n), word(&case.output, n));
                if distance(got, wanted) > case.ulp && got != wanted {
                    return Err(format!("word {n} of the output is {got:#010x}, expected {wanted:#010x}"));
                }
            }
            match &case.prints {
                Some(wanted) if *wanted != printed => {
                    Err(format!("printed {printed:?}, expected {wanted:?}"))
                }
                _ => Ok(()),
            }
        }
        (Err(fault), Some(wanted)) => {
            let (kind, mark) = wanted.split_once(" at ").expect("a kind and a mark");
            let line = text.lines().position(|line| line.ends_with(&format!("// {mark}")));
            let line = line.expect("the mark is in the file") as u32 + 1;
            if format!("{:?}", fault.kind) == kind && fault.ptx_line == line {
                return Ok(());
            }
            Err(format!("found `{fault}`, expected {kind} at line {line}"))
        }
        (Ok(_), Some(wanted)) => Err(format!("nothing was found, expected {wanted}")),
        (Err(fault), None) => Err(fault.to_string()),
    }
}

fn check_folder(name: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of test files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ptx"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no test", folder.display());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| check(path).err().map(|error| format!("{}: {error}", path.display())))
        .collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), files.len(), failures.join("\n"));
}

#[test]
fn instructions_compute_what_the_isa_says() {
    check_folder("instructions");
}

#[test]
fn findings_name_the_broken_rule_and_its_line() {
    check_folder("findings");
}

#[test]
fn programs_of_the_compiler_run() {
    check_folder("programs");
}
