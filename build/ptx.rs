//! PTX of the CUDA sources: what is committed where it is current, else compiled.

use super::nvrtc;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `stem hash compiler` a line, sorted.
pub const MANIFEST: &str = "manifest.txt";

/// SHA-256 of what a source is compiled from: itself, the headers it includes, the options.
pub fn source_hash(kernels: &Path, stem: &str) -> Result<String, String> {
    let mut names = vec![format!("{stem}.cu")];
    let mut hash = Sha256::new();
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        let path = kernels.join(&name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let included =
            text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.strip_suffix('"'));
        let new: Vec<&str> = included.filter(|found| !names.iter().any(|name| name == found)).collect();
        names.extend(new.into_iter().map(str::to_string));
        hash.update(format!("{name}\0{text}\0"));
        next += 1;
    }
    nvrtc::OPTIONS.iter().for_each(|option| hash.update(option));
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Files of `folder` with this ending, sorted.
pub fn listed(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    Ok(files)
}

/// The committed PTX of `stem` where it was made from the sources as they are.
pub fn committed(kernels: &Path, stem: &str) -> Result<Option<String>, String> {
    let folder = kernels.join("ptx");
    let manifest = fs::read_to_string(folder.join(MANIFEST)).unwrap_or_default();
    let hash = source_hash(kernels, stem)?;
    let current = manifest.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(stem) && words.next() == Some(&hash)
    });
    Ok(if current { fs::read_to_string(folder.join(format!("{stem}.ptx"))).ok() } else { None })
}

/// Compiles with nvcc, else with NVRTC.
pub fn compile(kernels: &Path, stem: &str, out: &Path) -> Result<String, String> {
    let source = kernels.join(format!("{stem}.cu"));
    let nvcc = std::env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    let target = out.join(format!("{stem}.ptx"));
    let mut command = Command::new(nvcc);
    command.args(nvrtc::OPTIONS).arg("--ptx").arg("-I").arg(kernels).arg(&source).arg("-o").arg(&target);
    match command.output() {
        Ok(done) if done.status.success() => {
            fs::read_to_string(&target).map_err(|error| format!("{}: {error}", target.display()))
        }
        Ok(done) => Err(format!("nvcc refuses {stem}.cu:\n{}", String::from_utf8_lossy(&done.stderr))),
        Err(_) => nvrtc::compile(kernels, stem).map_err(|problem| match problem {
            nvrtc::Problem::Absent => format!(
                "kernels/ptx/{stem}.ptx is older than its source, and there is neither nvcc nor NVRTC: {}",
                nvrtc::REMEDY
            ),
            nvrtc::Problem::Refused(why) => why,
        }),
    }
}

/// Compiles every source with NVRTC. `write`: into the committed folder, with its manifest; else an error names
/// what differs from it.
pub fn regenerate(kernels: &Path, write: bool) -> Result<(), String> {
    let version = nvrtc::version()?;
    let folder = kernels.join("ptx");
    let mut manifest = String::new();
    let mut expected: Vec<(PathBuf, String)> = Vec::new();
    for path in listed(kernels, "cu")? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = nvrtc::compile(kernels, &stem).map_err(|problem| problem.to_string())?;
        manifest.push_str(&format!("{stem} {} {version}\n", source_hash(kernels, &stem)?));
        expected.push((folder.join(format!("{stem}.ptx")), text));
    }
    expected.push((folder.join(MANIFEST), manifest));
    for (path, text) in expected {
        if write {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        } else if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            return Err(format!(
                "{} is not what {version} makes of its source: HEXCUDA_PTX=write cargo build",
                path.display()
            ));
        }
    }
    Ok(())
}
