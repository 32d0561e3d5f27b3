//! `hexcuda report`: the page of runs, or of a diagnosis, as one file.

use crate::console;
use crate::device::Device;
use crate::diagnose;
use crate::error::Result;
use crate::serve::{Contents, LIMIT, export};
use std::path::{Path, PathBuf};

/// Make one self-contained page of a run, of a folder of runs, or of a diagnosis
///
/// The page of runs is that of hexcuda serve without what needs a server: it opens from a disk and asks nothing of a
/// network. The last state of the first mesh is always there; snapshots and further meshes as long as they have room.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run folder, a folder of runs (a pair of a binary and a continuous run has the toggle), or a diagnosis
    run: PathBuf,
    /// The page
    #[arg(short, long, default_value = "report.html")]
    out: PathBuf,
    /// Megabytes that a page of runs may have
    #[arg(long, value_name = "MB", default_value_t = (LIMIT / MB) as u64, value_parser = clap::value_parser!(u64).range(1..=2000))]
    limit: u64,
}

const MB: usize = 1_000_000;

pub fn run(args: Args) -> Result<()> {
    if diagnose::is_diagnosis(&args.run) {
        return diagnose::report(&args.run, &args.out);
    }
    let contents = export(&args.run, &args.out, Device::Cpu, args.limit as usize * MB)?;
    note(&contents);
    Ok(())
}

/// Says what a page had no room for.
fn note(contents: &Contents) {
    let parts = [(contents.runs_left_out, "run(s)"), (contents.parts_left_out, "snapshot(s) and meshes")];
    let left: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !left.is_empty() {
        console::note(format_args!(
            "left out for the size of the page: {}; --limit lets more in",
            left.join(", ")
        ));
    }
}

/// Writes the page of a run that has just been trained into its folder, and says where.
pub fn of_trained(run: &Path, quiet: bool) -> Result<()> {
    let page = run.join("report.html");
    export(run, &page, Device::Cpu, LIMIT)?;
    if quiet { Ok(()) } else { console::result(format_args!("{}", page.display())) }
}
