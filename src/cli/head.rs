//! `hexcuda head`: the built-in sample heads.

use super::inputs::HEAD_TRIANGLES;
use crate::error::{Error, Result};
use crate::mesh::io;
use crate::mesh::sample_head::head;
use rayon::prelude::*;
use std::path::PathBuf;

/// Write a built-in sample head, or a family of them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A mesh file; with --count a folder
    #[arg(short, long)]
    out: PathBuf,
    /// Of the head
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Heads of the seeds from --seed on, as head_000.ply and so on
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
    /// About how many triangles a head has
    #[arg(long, default_value_t = HEAD_TRIANGLES as u32, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    triangles: u32,
}

pub fn run(args: Args) -> Result<()> {
    let triangles = args.triangles as usize;
    let Some(count) = args.count else {
        io::Format::from_path(&args.out)?;
        return io::write(&args.out, &head(args.seed, triangles));
    };
    std::fs::create_dir_all(&args.out).map_err(|error| Error::io(&args.out, &error))?;
    (0..u64::from(count)).into_par_iter().try_for_each(|index| {
        io::write(
            &args.out.join(format!("head_{index:03}.ply")),
            &head(args.seed.wrapping_add(index), triangles),
        )
    })
}
