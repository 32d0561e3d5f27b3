//! Parse, run, exit code: nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    match hexcuda::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            hexcuda::console::note(format_args!("hexcuda: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}
