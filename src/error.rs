//! The one error type: a line that says where, what was expected and what to do.

use std::fmt::{self, Display};

pub type Result<T> = std::result::Result<T, Error>;

/// What the process does with an error: its exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The work failed: exit code 1.
    Failed,
    /// The command line or the settings make no sense: exit code 2.
    Usage,
    /// Training left the finite numbers: exit code 1, and a result where several trainings are compared.
    Diverged,
    /// Ctrl-C: exit code 130, after a checkpoint.
    Interrupted,
}

/// `place: problem; remedy`, always on one line.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    place: String,
    problem: String,
    remedy: String,
}

impl Error {
    /// `place` is a file with the line or byte in it, `problem` what was expected and found,
    /// `remedy` what the person can do about it.
    pub fn new(place: impl Display, problem: impl Display, remedy: impl Display) -> Self {
        Self::of_kind(Kind::Failed, place, problem, remedy)
    }

    pub fn usage(place: impl Display, problem: impl Display, remedy: impl Display) -> Self {
        Self::of_kind(Kind::Usage, place, problem, remedy)
    }

    pub fn diverged(place: impl Display, problem: impl Display, remedy: impl Display) -> Self {
        Self::of_kind(Kind::Diverged, place, problem, remedy)
    }

    pub fn interrupted(place: impl Display, problem: impl Display, remedy: impl Display) -> Self {
        Self::of_kind(Kind::Interrupted, place, problem, remedy)
    }

    fn of_kind(kind: Kind, place: impl Display, problem: impl Display, remedy: impl Display) -> Self {
        Self { kind, place: one_line(place), problem: one_line(problem), remedy: one_line(remedy) }
    }

    /// An error of the operating system on `path`.
    pub fn io(path: impl AsRef<std::path::Path>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        let remedy = match error.kind() {
            NotFound => "check the path",
            PermissionDenied => "check the permissions of the file and its folder",
            StorageFull | QuotaExceeded => "free some space or write to another disk",
            IsADirectory => "name a file, not a folder",
            NotADirectory => "a part of the path is a file: check the path",
            UnexpectedEof => "the file is cut short: get it again",
            _ => "check the file and the disk it is on",
        };
        Self::new(path.as_ref().display(), error, remedy)
    }

    /// The same with a place around it, such as the file that a mesh was read from.
    pub fn within(self, place: impl Display) -> Self {
        let place = one_line(format_args!("{place}: {}", self.place));
        Self { place, ..self }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// For another process.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let parts = [&self.place, &self.problem, &self.remedy].map(String::as_str);
        [&[self.kind as u8], parts.join("\n").as_bytes()].concat()
    }

    /// What another process has made of one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let kinds = [Kind::Failed, Kind::Usage, Kind::Diverged, Kind::Interrupted];
        let (kind, text) = bytes.split_first().unwrap_or((&0, &[]));
        let kind = kinds.into_iter().find(|known| *known as u8 == *kind).unwrap_or(Kind::Failed);
        let text = String::from_utf8_lossy(text);
        let mut parts = text.splitn(3, '\n').map(str::to_string);
        let mut next = || parts.next().unwrap_or_default();
        Self { kind, place: next(), problem: next(), remedy: next() }
    }

    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed | Kind::Diverged => 1,
            Kind::Usage => 2,
            Kind::Interrupted => 130,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.problem, self.remedy)
    }
}

impl std::error::Error for Error {}

fn one_line(text: impl Display) -> String {
    let text = text.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reaches_another_process_whole() {
        for error in
            [Error::usage("a", "b", "c"), Error::interrupted("é", "", "x; y"), Error::new("", "", "")]
        {
            let there = Error::from_bytes(&error.to_bytes());
            assert_eq!((there.to_string(), there.kind()), (error.to_string(), error.kind()));
        }
        assert_eq!(Error::from_bytes(&[]).kind(), Kind::Failed);
    }

    #[test]
    fn an_error_is_one_line() {
        let error = Error::new("a.ply: line 3", "expected 3 numbers,\nfound 2", "fix the line");
        assert_eq!(error.to_string(), "a.ply: line 3: expected 3 numbers, found 2; fix the line");
        assert_eq!(error.exit_code(), 1);
    }
}
