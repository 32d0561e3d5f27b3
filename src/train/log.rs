//! `metrics.csv`: a row a step, kept up to date while training goes on.

use super::Losses;
use super::tensorboard::EventFile;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
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
const COLUMNS: [Column; 11] = [
    Column { name: "seconds", form: Form::Seconds, slot: |row| &mut row.seconds },
    Column { name: "loss", form: Form::Exact, slot: |row| &mut row.losses.total },
    Column { name: "reconstruction", form: Form::Exact, slot: |row| &mut row.losses.reconstruction },
    Column { name: "sdf", form: Form::Exact, slot: |row| &mut row.losses.sdf },
    Column { name: "kl", form: Form::Exact, slot: |row| &mut row.losses.kl },
    Column { name: "kl_weight", form: Form::Short, slot: |row| &mut row.losses.kl_weight },
    Column { name: "perplexity", form: Form::Short, slot: |row| &mut row.losses.perplexity },
    Column { name: "rate", form: Form::Exact, slot: |row| &mut row.losses.rate },
    Column { name: "rate_weight", form: Form::Short, slot: |row| &mut row.losses.rate_weight },
    Column { name: "gradient_norm", form: Form::Exact, slot: |row| &mut row.losses.gradient_norm },
    Column { name: "learning_rate", form: Form::Short, slot: |row| &mut row.losses.learning_rate },
];

fn header() -> String {
    columns().collect::<Vec<_>>().join(",")
}

/// The names of all columns, in order.
pub fn columns() -> impl Iterator<Item = &'static str> {
    std::iter::once("step").chain(COLUMNS.iter().map(|column| column.name))
}

/// The value of a row in each column behind the step, with its name.
pub fn values(row: &LogRow) -> impl Iterator<Item = (&'static str, f64)> {
    let mut row = *row;
    COLUMNS.iter().map(move |column| (column.name, *(column.slot)(&mut row)))
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
    events: Option<EventFile>,
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
        mark_as_growing(&file);
        Ok(Self { path: path.to_path_buf(), rows, file: BufWriter::new(file), events: None })
    }

    /// Also writes TensorBoard's event file beside it, with the rows so far and those to come.
    ///
    /// # Errors
    /// Those of the file.
    pub fn with_tensorboard(mut self) -> Result<Self> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        self.events = Some(EventFile::open(folder, &self.rows)?);
        Ok(self)
    }

    pub fn push(&mut self, row: LogRow) -> Result<()> {
        self.rows.push(row);
        let written = write_row(&mut self.file, &row);
        // A row every few steps reaches the disk at once, so that others can follow the run.
        let due = row.step.is_multiple_of(10);
        let flushed = if due { self.file.flush() } else { Ok(()) };
        written.and(flushed).map_err(|error| Error::io(&self.path, &error))?;
        let Some(events) = &mut self.events else { return Ok(()) };
        // As a resumed run finds them.
        events.push(&as_written(&row))?;
        if due { events.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, &error))?;
        self.events.as_mut().map_or(Ok(()), EventFile::flush)
    }
}

fn write_row(out: &mut impl Write, row: &LogRow) -> std::io::Result<()> {
    let mut row = *row;
    write!(out, "{}", row.step)?;
    for column in &COLUMNS {
        write!(out, ",{}", column.form.text(*(column.slot)(&mut row)))?;
    }
    writeln!(out)
}

impl Form {
    fn text(self, value: f64) -> String {
        match self {
            // What a run does not have.
            Self::Exact | Self::Short if value == 0.0 => "0".to_string(),
            Self::Seconds => format!("{value:.3}"),
            Self::Exact => format!("{value:.9e}"),
            Self::Short => format!("{value:.6e}"),
        }
    }
}

/// A row with the numbers that reading it from the file gives.
fn as_written(row: &LogRow) -> LogRow {
    let mut row = *row;
    for column in &COLUMNS {
        let value = (column.slot)(&mut row);
        *value = column.form.text(*value).parse().unwrap_or(*value);
    }
    row
}

/// The rows of a `metrics.csv`. A column that an older program did not write holds zeros.
pub fn read(path: &Path) -> Result<Vec<LogRow>> {
    let mut follower = MetricsFollower::new(path);
    follower.update()?;
    Ok(follower.rows)
}

/// The rows of a `metrics.csv` that grows, of which each look reads what is new.
pub struct MetricsFollower {
    path: PathBuf,
    /// Which file it was, and how many of its bytes are known.
    file: u64,
    offset: u64,
    names: Vec<String>,
    lines: usize,
    rows: Vec<LogRow>,
}

impl MetricsFollower {
    pub fn new(path: &Path) -> Self {
        let (names, rows) = (Vec::new(), Vec::new());
        Self { path: path.to_path_buf(), file: 0, offset: 0, names, lines: 0, rows }
    }

    /// All rows that are there.
    ///
    /// # Errors
    /// A file that cannot be read, and the first line that is not a row.
    pub fn update(&mut self) -> Result<&[LogRow]> {
        if let Err(error) = self.read_on() {
            // The next look begins anew: somebody may have mended the file.
            *self = Self::new(&self.path);
            return Err(error);
        }
        Ok(&self.rows)
    }

    fn read_on(&mut self) -> Result<()> {
        let path = self.path.clone();
        let failed = |error: std::io::Error| Error::io(&path, &error);
        let mut file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let identity = identity(&metadata);
        if identity != self.file || metadata.len() < self.offset {
            // A run that was resumed has a new file.
            *self = Self { file: identity, ..Self::new(&path) };
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // A row cut short is one that is being written, or the last one before a crash, whose step is run again.
        let complete = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        for line in complete.lines() {
            self.lines += 1;
            if self.lines == 1 {
                self.names = line.split(',').map(str::to_string).collect();
                continue;
            }
            let row = self.row(line).ok_or_else(|| {
                Error::new(
                    format!("{}: line {}", path.display(), self.lines),
                    format!("expected the {} numbers of {}", self.names.len(), self.names.join(",")),
                    "remove the line and resume again",
                )
            })?;
            self.rows.push(row);
        }
        self.offset += complete.len() as u64;
        Ok(())
    }

    fn row(&self, line: &str) -> Option<LogRow> {
        let numbers: Vec<f64> = line.split(',').map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let of = |name: &str| Some(numbers[self.names.iter().position(|found| found == name)?]);
        let losses = Losses::default();
        let mut row = LogRow {
            step: of("step").filter(|_| numbers.len() == self.names.len())? as u64,
            seconds: of("seconds")?,
            losses,
        };
        for column in &COLUMNS {
            *(column.slot)(&mut row) = of(column.name).unwrap_or_default();
        }
        Some(row)
    }
}

/// Tells a file from one that has taken its name.
fn identity(metadata: &std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    return metadata.created().map_or(0, |time| {
        time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    });
}

/// For as long as the file is open a lock says that its run goes on, whatever ends the process. Elsewhere than on Unix a
/// lock would keep readers away.
fn mark_as_growing(file: &File) {
    // Who asks holds the lock too, for a moment; a file system without locks has to do without.
    for _ in 0..100 {
        if !cfg!(unix) || !matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Whether a process goes on with this `metrics.csv`; elsewhere than on Unix, whether it has grown within a minute.
pub fn is_growing(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    if cfg!(unix) {
        return matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
    }
    let changed = file.metadata().and_then(|metadata| metadata.modified()).ok();
    changed.and_then(|time| time.elapsed().ok()).is_some_and(|age| age.as_secs() < 60)
}
