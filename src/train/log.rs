//! `metrics.csv`: a row a step, kept up to date while training goes on.

use super::Losses;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// `kl` is 0 for a deterministic latent.
const HEADER: &str = "step,seconds,loss,reconstruction,sdf,kl,gradient_norm,learning_rate";

/// One step as `metrics.csv` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRow {
    pub step: u64,
    /// Since the first step, without the time between a stop and a resume.
    pub seconds: f64,
    pub losses: Losses,
}

/// The rows of a run, in memory and on disk.
pub struct MetricsLog {
    path: PathBuf,
    pub rows: Vec<LogRow>,
    file: BufWriter<File>,
}

impl MetricsLog {
    /// Starts the file, or goes on with its rows up to `step`.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let rows = if step > 0 {
            read(path)?.into_iter().filter(|row| row.step <= step).collect()
        } else {
            Vec::new()
        };
        write_atomic(path, |file| {
            writeln!(file, "{HEADER}")?;
            rows.iter().try_for_each(|row| write_row(file, row))
        })?;
        let file = OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, &error))?;
        Ok(Self { path: path.to_path_buf(), rows, file: BufWriter::new(file) })
    }

    pub fn push(&mut self, row: LogRow) -> Result<()> {
        self.rows.push(row);
        let written = write_row(&mut self.file, &row);
        // A row every few steps reaches the disk at once, so that others can follow the run.
        let flushed = if row.step.is_multiple_of(10) { self.file.flush() } else { Ok(()) };
        written.and(flushed).map_err(|error| Error::io(&self.path, &error))
    }

    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, &error))
    }
}

fn write_row(out: &mut impl Write, row: &LogRow) -> std::io::Result<()> {
    let l = &row.losses;
    writeln!(
        out,
        "{},{:.3},{:.9e},{:.9e},{:.9e},0,{:.9e},{:.6e}",
        row.step, row.seconds, l.total, l.reconstruction, l.sdf, l.gradient_norm, l.learning_rate
    )
}

/// The rows of a `metrics.csv`.
pub fn read(path: &Path) -> Result<Vec<LogRow>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
    let parse = |(index, line): (usize, &str)| {
        let numbers: Option<Vec<f64>> = line.split(',').map(|word| word.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[step, seconds, total, reconstruction, sdf, _kl, gradient_norm, learning_rate]) => {
                Ok(LogRow {
                    step: step as u64,
                    seconds,
                    losses: Losses { total, reconstruction, sdf, gradient_norm, learning_rate },
                })
            }
            _ => Err(Error::new(
                format!("{}: line {}", path.display(), index + 1),
                format!("expected the 8 numbers of {HEADER}"),
                "remove the line and resume again",
            )),
        }
    };
    // A row cut short by a crash is the last one: the checkpoint is older, its step is run again.
    let complete = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    complete.lines().enumerate().skip(1).map(parse).collect()
}
