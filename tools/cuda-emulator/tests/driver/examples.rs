//! The programs under examples/ run unmodified with the emulator as their driver.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{command, library_directory};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// Compiles a C++ program and links it with `-lcuda`; the file's name ends in `variant`, so that tests that
/// run at the same time do not share it.
///
/// A machine without a C++ compiler cannot show anything here: a line says so.
fn build_cpp(name: &str, variant: &str) -> Option<PathBuf> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("example {name} not tried: there is no C++ compiler ({compiler}); set CXX");
        return None;
    }
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{variant}"));
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
    Some(program)
}

/// Runs such a program with its own PTX.
fn run_cpp(name: &str, settings: &[(&str, &str)]) {
    let Some(program) = build_cpp(name, "own") else { return };
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

/// nvcc as `NVCC` or the path names it, or a line that says what is not tried.
///
/// Compilers of CUDA 12 and 13 are both meant: the emulator says it is a driver that takes what either emits.
fn nvcc(what: &str) -> Option<Command> {
    let compiler = std::env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("{what} not tried: there is no nvcc ({compiler}); set NVCC");
        return None;
    }
    Some(Command::new(compiler))
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The newest driver of CUDA 13 that there can be.
const NEWEST: (&str, &str) = ("CUDA_EMULATOR_DRIVER_VERSION", "13090");

/// The other examples with PTX of the nvcc that is installed.
#[test]
fn ptx_of_nvcc_runs() {
    for name in ["saxpy", "histogram", "matmul"] {
        let Some(mut compiler) = nvcc("PTX of nvcc") else { return };
        let ptx = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.nvcc.ptx"));
        succeed(
            compiler
                .args(["-ptx", "-arch=compute_86", "-lineinfo", "-std=c++17", "-o"])
                .arg(&ptx)
                .arg(examples().join(name).join(name).with_extension("cu")),
        );
        let Some(program) = build_cpp(name, "nvcc") else { return };
        check(name, command(program, &[NEWEST]).arg(ptx));
    }
}

/// A program of the runtime API, as nvcc builds it: the PTX is in the program, compressed as nvcc likes.
#[test]
fn reduce_runs() {
    let Some(mut compiler) = nvcc("the runtime API") else { return };
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reduce");
    succeed(
        compiler
            .args(["-cudart", "none", "-gencode", "arch=compute_86,code=compute_86", "-std=c++17", "-o"])
            .arg(&program)
            .arg(examples().join("reduce/reduce.cu"))
            .arg("-L")
            .arg(library_directory())
            .arg("-lcudart"),
    );
    check("reduce", &mut command(program, &[NEWEST]));
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
