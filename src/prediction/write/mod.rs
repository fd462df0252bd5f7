//! Predictions written as they are made, so that a run that is cut off can be continued.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::format::{Format, UnknownFormat};
use super::read::{LineReader, OneModel, ReadError};
use super::{csv, jsonl, parquet};
use crate::issue::IssueId;
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// What to do about predictions that a file already holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Refuse a file that holds anything.
    Create,
    /// Overwrite, but not before there is a prediction to write.
    Replace,
    /// Keep its whole lines and continue after them; a file that is missing or empty is begun.
    Resume,
}

/// Why predictions cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    #[error("{} already exists: --resume continues it, --force replaces it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
    Unwritable { path: PathBuf, source: io::Error },
    /// What the file holds cannot be continued.
    #[error("cannot resume: {0} (or replace the file with --force)")]
    Resume(#[from] ReadError),
    #[error(
        "writing {} failed: {source}; what is written so far can be continued with --resume",
        path.display()
    )]
    Failed { path: PathBuf, source: io::Error },
    /// CSV only.
    #[error("{}: the name {repo:?} holds a line break, which only .jsonl can take", path.display())]
    LineBreak { path: PathBuf, repo: String },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "create its folder first",
        ErrorKind::IsADirectory => "name a file in that folder",
        ErrorKind::PermissionDenied => "change its permissions or choose another place",
        _ => "choose another place",
    }
}

/// Writes predictions to a stream as JSONL, in one call, and flushes it.
///
/// # Errors
///
/// Those of the stream. [`ErrorKind::BrokenPipe`] says that whoever read it has had enough, which
/// is a program's cue to stop, not a failure.
pub fn write_jsonl(
    mut stream: impl Write,
    predictions: &[Prediction],
    taxonomy: &Taxonomy,
    model: &str,
) -> io::Result<()> {
    let mut lines = Vec::new();
    for prediction in predictions {
        jsonl::encode(prediction, taxonomy, model, &mut lines);
    }
    stream.write_all(&lines)?;
    stream.flush()
}

/// Appends predictions to a JSONL, CSV or Parquet file, whole lines at a time.
///
/// Whenever the process dies, the file (for Parquet, a JSONL journal beside it named
/// `….parquet.partial`, which [`finish`](Self::finish) turns into the file) holds every prediction
/// appended and at most one line cut short, and [`Mode::Resume`] continues it to the same bytes
/// as an uninterrupted run's. One writer a file: nothing locks it.
#[derive(Debug)]
pub struct PredictionWriter<'a> {
    path: PathBuf,
    format: Format,
    taxonomy: &'a Taxonomy,
    model: &'a str,
    done: HashSet<IssueId>,
    /// Where lines go: the file itself or Parquet's journal.
    lines_path: PathBuf,
    /// Opened by the first append.
    lines: Option<File>,
    /// Bytes of whole lines. What the file holds beyond them goes when it is opened.
    length: u64,
    /// `done` stands in a finished Parquet file, and there is no journal.
    finished: bool,
}

impl<'a> PredictionWriter<'a> {
    /// Gets ready to write to `path`, whose extension gives the format. The file is left as it is
    /// until the first [`append`](Self::append).
    ///
    /// # Errors
    ///
    /// Every reason known beforehand why writing would fail: an unknown extension, no such folder,
    /// no permission; under [`Mode::Create`] a file that holds something; under [`Mode::Resume`]
    /// one that holds anything but predictions by `model` under `taxonomy`, whose lines it names.
    pub fn create(
        path: &Path,
        taxonomy: &'a Taxonomy,
        model: &'a str,
        mode: Mode,
    ) -> Result<Self, WriteError> {
        let format = Format::of(path)?;
        let lines_path = match format {
            Format::Parquet => with_suffix(path, ".partial"),
            Format::Jsonl | Format::Csv => path.to_owned(),
        };
        for file in [path, &lines_path] {
            if mode == Mode::Create && holds_something(file) {
                return Err(WriteError::Exists { path: file.into() });
            }
            check_writable(file)?;
        }

        let mut writer = Self {
            path: path.to_owned(),
            format,
            taxonomy,
            model,
            done: HashSet::new(),
            lines_path,
            lines: None,
            length: 0,
            finished: false,
        };
        if mode == Mode::Resume {
            writer.resume()?;
        }
        Ok(writer)
    }

    fn resume(&mut self) -> Result<(), ReadError> {
        let mut model = OneModel(Some(self.model.to_owned()));
        // A journal is newer than the Parquet file beside it: finishing removes it last.
        if holds_something(&self.lines_path) {
            let mut lines = LineReader::open(&self.lines_path, self.format, self.taxonomy, model)?;
            for prediction in &mut lines {
                self.done.insert(prediction?.id);
            }
            self.length = lines.whole_bytes();
        } else if self.format == Format::Parquet && holds_something(&self.path) {
            for prediction in parquet::read(&self.path, self.taxonomy, &mut model)? {
                self.done.insert(prediction?.id);
            }
            self.finished = true;
        }
        Ok(())
    }

    /// The issues that the file already holds predictions of, which are not to be appended again.
    pub fn done(&self) -> &HashSet<IssueId> {
        &self.done
    }

    /// Adds predictions at the end of the file and hands them to the operating system.
    ///
    /// # Errors
    ///
    /// When the disk is full, say. The file then ends with the last whole batch.
    pub fn append(&mut self, predictions: &[Prediction]) -> Result<(), WriteError> {
        if predictions.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for prediction in predictions {
            self.encode(prediction, &mut lines)?;
        }
        self.write(lines)
    }

    fn encode(&self, prediction: &Prediction, out: &mut Vec<u8>) -> Result<(), WriteError> {
        match self.format {
            Format::Jsonl | Format::Parquet => {
                jsonl::encode(prediction, self.taxonomy, self.model, out);
            }
            Format::Csv => {
                let line = csv::encode(prediction, self.taxonomy, self.model);
                if line[..line.len() - 1].contains(&b'\n') {
                    let repo = prediction.id.repo.clone();
                    return Err(WriteError::LineBreak {
                        path: self.path.clone(),
                        repo,
                    });
                }
                out.extend(line);
            }
        }
        Ok(())
    }

    /// Writes whole lines, after CSV's header if the file has none yet.
    fn write(&mut self, mut lines: Vec<u8>) -> Result<(), WriteError> {
        if self.finished {
            self.restore_journal()?;
        }
        if self.format == Format::Csv && self.length == 0 {
            lines.splice(0..0, csv::header(self.taxonomy));
        }
        self.write_bytes(&lines)
            .map_err(|error| failed(&self.lines_path, error))
    }

    fn write_bytes(&mut self, lines: &[u8]) -> io::Result<()> {
        let file = match &mut self.lines {
            Some(file) => file,
            none => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&self.lines_path)?;
                if file.metadata()?.len() != self.length {
                    file.set_len(self.length)?;
                }
                none.insert(file)
            }
        };
        if let Err(error) = file.write_all(lines) {
            // Half a line may be on disk. If it cannot be taken back, resuming does.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Makes a finished Parquet file a journal again, to be continued.
    fn restore_journal(&mut self) -> Result<(), WriteError> {
        let mut model = OneModel(Some(self.model.to_owned()));
        let predictions = parquet::read(&self.path, self.taxonomy, &mut model)?;
        let mut length = 0;
        replace(&self.lines_path, |file| {
            let mut file = io::BufWriter::new(file);
            for prediction in predictions {
                let mut line = Vec::new();
                jsonl::encode(&prediction?, self.taxonomy, self.model, &mut line);
                length += line.len() as u64;
                file.write_all(&line)
                    .map_err(|error| failed(&self.lines_path, error))?;
            }
            file.flush()
                .map_err(|error| failed(&self.lines_path, error))
        })?;
        self.length = length;
        self.finished = false;
        Ok(())
    }

    /// Brings everything to disk and, for Parquet, makes the journal the file. A run without a
    /// prediction leaves a file without records.
    pub fn finish(mut self) -> Result<(), WriteError> {
        if self.finished {
            return Ok(());
        }
        self.write(Vec::new())?;
        if let Some(file) = &self.lines {
            file.sync_all()
                .map_err(|error| failed(&self.lines_path, error))?;
        }
        if self.format == Format::Parquet {
            let model = OneModel(Some(self.model.to_owned()));
            let lines = LineReader::open(&self.lines_path, self.format, self.taxonomy, model)?;
            replace(&self.path, |file| {
                let failed = |error| failed(&self.path, error);
                let mut rows =
                    parquet::Rows::new(file, self.taxonomy, self.model).map_err(failed)?;
                for prediction in lines {
                    rows.append(prediction?).map_err(failed)?;
                }
                rows.finish().map_err(failed)
            })?;
            fs::remove_file(&self.lines_path).map_err(|error| failed(&self.lines_path, error))?;
        }
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> WriteError {
    WriteError::Failed {
        path: path.into(),
        source,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn holds_something(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}

/// Opens the file for writing and leaves it as it was.
fn check_writable(path: &Path) -> Result<(), WriteError> {
    let unwritable = |source| WriteError::Unwritable {
        path: path.into(),
        source,
    };
    let existed = path.symlink_metadata().is_ok();
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(unwritable)?;
    if !existed {
        fs::remove_file(path).map_err(unwritable)?;
    }
    Ok(())
}

/// Writes a file beside `path` and puts it there once it is whole and on disk.
fn replace(
    path: &Path,
    write: impl FnOnce(&File) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    // The name is always the same, so that a run that was killed here leaves nothing for good.
    let new = with_suffix(path, ".new");
    let failed = |error| failed(path, error);
    let replaced = File::create(&new).map_err(failed).and_then(|file| {
        write(&file)?;
        file.sync_all()
            .and_then(|()| fs::rename(&new, path))
            .map_err(failed)
    });
    if replaced.is_err() {
        let _ = fs::remove_file(&new);
    }
    replaced
}

#[cfg(test)]
mod tests;
