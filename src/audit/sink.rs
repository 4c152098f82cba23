//! A place that lines are written to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use super::Destination;
use super::collector::Collector;
use crate::store::trail::Row;
use crate::telemetry::otlp::{InvalidExport, NotTaken};

/// Where rows are passed on to.
#[derive(Debug)]
pub(super) enum Sink {
    /// `None` while it is written to.
    Local(Option<Local>),
    Collector(Box<Collector>),
}

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    #[error("{0}")]
    Local(#[from] io::Error),
    #[error("{0}")]
    NotTaken(#[from] NotTaken),
    #[error("{0}")]
    Settings(#[from] InvalidExport),
    #[error("the write was cut")]
    Cut,
}

impl NotWritten {
    /// These rows cannot be written there together, ever.
    pub(super) const fn is_for_good(&self) -> bool {
        matches!(self, Self::NotTaken(NotTaken { for_good: true, .. }))
    }
}

impl Sink {
    pub(super) fn new(to: Destination) -> Self {
        match to {
            Destination::Stderr => Self::Local(Some(Local::Stderr)),
            Destination::File(path) => Self::Local(Some(Local::File { path, open: None })),
            Destination::Collector(settings) => Self::Collector(Box::new(Collector::new(settings))),
        }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Local(local) => local.as_ref().map(Local::name).unwrap_or_default(),
            Self::Collector(collector) => collector.name(),
        }
    }

    /// Writes these rows. After an error they may be there or not; in a file none of them is.
    pub(super) async fn write(&mut self, rows: Vec<Row>) -> Result<(), NotWritten> {
        match self {
            Self::Local(place) => {
                let mut local = place.take().ok_or(NotWritten::Cut)?;
                // A disk that hangs keeps a thread of its own waiting.
                let writing = tokio::task::spawn_blocking(move || {
                    let written = local.write(&rows);
                    (local, written)
                });
                let (local, written) = writing.await.map_err(|_| NotWritten::Cut)?;
                *place = Some(local);
                Ok(written?)
            }
            Self::Collector(collector) => collector.write(&rows).await,
        }
    }
}

/// Stderr, or a file.
#[derive(Debug)]
pub(super) enum Local {
    Stderr,
    File { path: PathBuf, open: Option<File> },
}

impl Local {
    /// For people.
    fn name(&self) -> String {
        match self {
            Self::Stderr => "stderr".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// Writes these rows, or none of them.
    fn write(&mut self, rows: &[Row]) -> io::Result<()> {
        match self {
            Self::Stderr => {
                let lines: String = rows.iter().map(|row| format!("{}\n", row.line)).collect();
                io::stderr().lock().write_all(lines.as_bytes())
            }
            Self::File { path, open } => {
                let file = match open.take().filter(|file| is_at(file, path)) {
                    Some(file) => file,
                    // Moved away or removed, as logrotate does, or the first time.
                    None => {
                        OpenOptions::new().append(true).create(true).mode(0o600).open(&*path)?
                    }
                };
                let lines: String =
                    rows.iter().map(|row| format!("{}\n", row.with_hashes())).collect();
                let before = file.metadata()?.len();
                let written = (&file).write_all(lines.as_bytes());
                if written.is_err() {
                    // A full disk takes a part of it; what is there is written again later.
                    file.set_len(before)?;
                }
                *open = Some(file);
                written
            }
        }
    }
}

/// Whether that is still the file of this name.
fn is_at(file: &File, path: &PathBuf) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn row(n: u64) -> Row {
        let (prev, hash) = ("0".repeat(64), "1".repeat(64));
        Row { chain: "c".to_owned(), n, line: format!("{{\"n\":{n},\"chain\":\"c\"}}"), prev, hash }
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut sink = Local::File { path: path.clone(), open: None };
        sink.write(&[row(1), row(2)]).unwrap();
        sink.write(&[row(3)]).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::fs::rename(&path, directory.path().join("audit.jsonl.1")).unwrap();
        sink.write(&[row(4)]).unwrap();
        let read = |name: &str| {
            let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
            text.lines().map(|line| Row::with_hashes_read(line).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(read("audit.jsonl.1"), [row(1), row(2), row(3)]);
        assert_eq!(read("audit.jsonl"), [row(4)]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut sink = Local::File { path: directory.path().to_owned(), open: None };
        assert!(sink.write(&[row(1)]).is_err());
    }
}
