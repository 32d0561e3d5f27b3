//! Compiles what is not current of `kernels/*.cu` and generates a typed launch for every entry point, so that a
//! misspelt kernel or a wrong argument does not compile. It never asks this machine's card.
//!
//! `HEXCUDA_PTX=write` compiles everything with NVRTC into kernels/ptx, `HEXCUDA_PTX=check` fails where that differs.

#[path = "src/cuda/nvrtc.rs"]
mod nvrtc;
#[path = "build/ptx.rs"]
mod ptx;
#[path = "build/signatures.rs"]
mod signatures;

use signatures::Signature;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs, process};

fn main() {
    if let Err(problem) = generate() {
        println!("cargo::error={}", problem.replace('\n', " | "));
        process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let (root, out) = (variable("CARGO_MANIFEST_DIR")?, variable("OUT_DIR")?);
    let (kernels, out) = (Path::new(&root).join("kernels"), Path::new(&out));
    for watched in ["kernels", "build", "build.rs", "src/cuda/nvrtc.rs"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    println!("cargo::rerun-if-env-changed=NVCC");
    println!("cargo::rerun-if-env-changed=HEXCUDA_PTX");
    match env::var("HEXCUDA_PTX").as_deref() {
        Ok("write") => ptx::regenerate(&kernels, true)?,
        Ok("check") => ptx::regenerate(&kernels, false)?,
        _ => {}
    }
    let mut code = String::new();
    let mut files = Vec::new();
    for path in ptx::listed(&kernels, "cu")? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let source = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let entries =
            signatures::parse(&source).map_err(|problem| format!("kernels/{stem}.cu: {problem}"))?;
        let text = match ptx::committed(&kernels, &stem)? {
            Some(text) => text,
            None => ptx::compile(&kernels, &stem, out)?,
        };
        fs::write(out.join(format!("{stem}.ptx")), text).map_err(|error| format!("{stem}.ptx: {error}"))?;
        module(&mut code, &stem, &entries, files.len()).map_err(|error| error.to_string())?;
        files.push((stem, entries));
    }
    table(&mut code, &files).map_err(|error| error.to_string())?;
    fs::write(out.join("kernels.rs"), code).map_err(|error| format!("kernels.rs: {error}"))
}

/// `pub mod <stem>` with a function for each entry point.
fn module(code: &mut String, stem: &str, entries: &[Signature], file: usize) -> std::fmt::Result {
    writeln!(code, "/// Entry points of `kernels/{stem}.cu`.\npub mod {stem} {{\n    use super::*;")?;
    for (index, entry) in entries.iter().enumerate() {
        let short =
            entry.name.strip_prefix(stem).map_or(entry.name.as_str(), |rest| rest.trim_start_matches('_'));
        let short = if short.is_empty() { "run" } else { short };
        writeln!(code, "\n    /// `{}`, kernels/{stem}.cu:{}.\n    ///", entry.name, entry.line)?;
        entry.comment.lines().try_for_each(|line| writeln!(code, "    /// {}", plain(line)))?;
        writeln!(code, "    ///")?;
        for p in &entry.parameters {
            writeln!(code, "    /// - `{}`: {}", p.name, plain(&p.comment))?;
        }
        let lint =
            "clippy::too_many_arguments, clippy::many_single_char_names, reason = \"as the kernel has them\"";
        writeln!(code, "    #[allow({lint})]")?;
        write!(code, "    pub fn {short}(to: &Queue, shape: Launch")?;
        for p in &entry.parameters {
            let kind = p.kind.rust();
            let kind = match (p.pointer, p.constant) {
                (false, _) => kind.to_string(),
                (true, true) => format!("Read<{kind}>"),
                (true, false) => format!("Write<{kind}>"),
            };
            write!(code, ", {}: {kind}", p.name)?;
        }
        write!(code, ") -> Result<()> {{\n        let arguments = [")?;
        for p in &entry.parameters {
            write!(code, "Argument::from({}), ", p.name)?;
        }
        writeln!(code, "];\n        to.launch(({file}, {index}), shape, &arguments)\n    }}")?;
    }
    writeln!(code, "}}\n")
}

/// Text whose brackets are no links and no tags to rustdoc.
fn plain(text: &str) -> String {
    let mark = |c: char| if "[]<>*_`".contains(c) { format!("\\{c}") } else { c.to_string() };
    text.chars().map(mark).collect()
}

/// Every file with its PTX and its entry points.
fn table(code: &mut String, files: &[(String, Vec<Signature>)]) -> std::fmt::Result {
    writeln!(code, "/// Every CUDA source: its PTX and its entry points.\npub static FILES: &[File] = &[")?;
    for (stem, entries) in files {
        let ptx = format!("include_str!(concat!(env!(\"OUT_DIR\"), \"/{stem}.ptx\"))");
        writeln!(code, "    File {{ stem: {stem:?}, ptx: {ptx}, entries: &[")?;
        for entry in entries {
            writeln!(code, "        Entry {{ name: {:?}, threads: {} }},", entry.name, entry.threads)?;
        }
        writeln!(code, "    ] }},")?;
    }
    writeln!(code, "];")
}
