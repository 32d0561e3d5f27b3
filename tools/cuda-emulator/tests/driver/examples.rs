//! The programs under examples/ run unmodified with the emulator as their driver.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{command, library_directory};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Compiles a C++ program, links it with `-lcuda` and runs it with its PTX.
///
/// A machine without a C++ compiler cannot show anything here: the test says so and passes.
fn run_cpp(name: &str, settings: &[(&str, &str)]) {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("example {name} not tried: there is no C++ compiler ({compiler}); set CXX");
        return;
    }
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let built = Command::new(&compiler)
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(examples().join(name).join("main.cpp"))
        .arg("-L")
        .arg(library_directory())
        .arg("-lcuda")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ptx = examples().join(name).join(name).with_extension("ptx");
    let mut run = command(program, settings);
    check(name, run.arg(ptx));
}

/// The program says that all is right, and the emulator has nothing to say.
fn check(name: &str, run: &mut Command) {
    let output = run.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {said}{errors}");
    assert!(said.starts_with(&format!("{name}: ")) && said.contains("right"), "{said}");
    assert!(errors.is_empty(), "{errors}");
}

#[test]
fn saxpy_runs() {
    run_cpp("saxpy", &[]);
}

/// Its PTX is of version 9.2, from a compiler of CUDA 13.
#[test]
fn histogram_runs() {
    run_cpp("histogram", &[("CUDA_EMULATOR_DRIVER_VERSION", "13020")]);
}

#[test]
fn matmul_runs() {
    run_cpp("matmul", &[]);
}

/// The example of Rust; `cargo test` builds it, `cargo test --test driver` leaves that to this.
fn built_example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap().parent().unwrap();
    let program = folder.join("examples").join(name);
    if !program.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", name, "--manifest-path"]);
        cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        cargo.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "{} is built", program.display());
    }
    program
}

/// A program of Rust with plain cudarc.
#[test]
fn heat_runs() {
    check("heat", &mut command(built_example("heat"), &[]));
}
