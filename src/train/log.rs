//! `metrics.csv`: a row a step, kept up to date while training goes on.

use super::Losses;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A column of the file: its name, how its numbers are written, and where they come from.
struct Column {
    name: &'static str,
    form: Form,
    slot: fn(&mut LogRow) -> &mut f64,
}

#[derive(Clone, Copy)]
enum Form {
    Seconds,
    Exact,
    Short,
}

/// All columns behind the step.
const COLUMNS: [Column; 9] = [
    Column { name: "seconds", form: Form::Seconds, slot: |row| &mut row.seconds },
    Column { name: "loss", form: Form::Exact, slot: |row| &mut row.losses.total },
    Column { name: "reconstruction", form: Form::Exact, slot: |row| &mut row.losses.reconstruction },
    Column { name: "sdf", form: Form::Exact, slot: |row| &mut row.losses.sdf },
    Column { name: "kl", form: Form::Exact, slot: |row| &mut row.losses.kl },
    Column { name: "kl_weight", form: Form::Short, slot: |row| &mut row.losses.kl_weight },
    Column { name: "perplexity", form: Form::Short, slot: |row| &mut row.losses.perplexity },
    Column { name: "gradient_norm", form: Form::Exact, slot: |row| &mut row.losses.gradient_norm },
    Column { name: "learning_rate", form: Form::Short, slot: |row| &mut row.losses.learning_rate },
];

fn header() -> String {
    COLUMNS.iter().fold("step".to_string(), |header, column| format!("{header},{}", column.name))
}

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
            writeln!(file, "{}", header())?;
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
    let mut row = *row;
    write!(out, "{}", row.step)?;
    for column in &COLUMNS {
        match (*(column.slot)(&mut row), column.form) {
            // What a run does not have.
            (0.0, Form::Exact | Form::Short) => write!(out, ",0")?,
            (value, Form::Seconds) => write!(out, ",{value:.3}")?,
            (value, Form::Exact) => write!(out, ",{value:.9e}")?,
            (value, Form::Short) => write!(out, ",{value:.6e}")?,
        }
    }
    writeln!(out)
}

/// The rows of a `metrics.csv`. A column that an older program did not write holds zeros.
pub fn read(path: &Path) -> Result<Vec<LogRow>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
    let names: Vec<&str> = text.lines().next().unwrap_or_default().split(',').collect();
    let row = |line: &str| -> Option<LogRow> {
        let numbers: Vec<f64> = line.split(',').map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let of = |name: &str| Some(numbers[names.iter().position(|&found| found == name)?]);
        let losses = Losses::default();
        let mut row = LogRow {
            step: of("step").filter(|_| numbers.len() == names.len())? as u64,
            seconds: of("seconds")?,
            losses,
        };
        for column in &COLUMNS {
            *(column.slot)(&mut row) = of(column.name).unwrap_or_default();
        }
        Some(row)
    };
    let parse = |(index, line): (usize, &str)| {
        row(line).ok_or_else(|| {
            Error::new(
                format!("{}: line {}", path.display(), index + 1),
                format!("expected the {} numbers of {}", names.len(), names.join(",")),
                "remove the line and resume again",
            )
        })
    };
    // A row cut short by a crash is the last one: the checkpoint is older, its step is run again.
    let complete = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    complete.lines().enumerate().skip(1).map(parse).collect()
}
