//! `hexcuda report`: the page of a run.

use crate::error::Result;
use crate::train::page;
use std::path::PathBuf;

/// Make the self-contained page of a run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run folder
    run: PathBuf,
    /// The page
    #[arg(short, long, default_value = "report.html")]
    out: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    page::write(&args.run, &args.out)
}
