//! An annotator's file: JSONL that is only ever appended to, and may be edited from outside meanwhile.
//!
//! What is on disk is what counts. Before every line the file is looked at, and read again if it is not
//! as this process left it; nothing is ever written over, so an edit cannot be lost to a label, nor a
//! label to an edit.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;

use crate::annotation::{Annotation, AnnotationError, Coverage, Line, parse};
use crate::issue::IssueId;
use crate::locked_file::LockedFile;
use crate::taxonomy::Taxonomy;

/// Why labels cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{} is being annotated by another faultlens: end that one, or give --labels another file",
        path.display()
    )]
    Locked { path: PathBuf },
    #[error("{}: {source}; the label was not saved, save it again once that is put right", path.display())]
    Failed { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Invalid(#[from] AnnotationError),
    #[error("{} has been removed: put it back, or restart to begin anew", path.display())]
    Gone { path: PathBuf },
}

/// The file, held by this process until it is dropped.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    taxonomy: Taxonomy,
    /// The lines that are not withdrawn, in the file's order.
    lines: Vec<Annotation>,
    /// By issue, its line that counts.
    current: HashMap<IssueId, usize>,
    /// How the file was left.
    stamp: Stamp,
    /// Bytes of an unfinished last line that opening cut off.
    repaired: usize,
    /// Beside the file, because an editor may put a new file in its place.
    _lock: LockedFile,
}

/// Tells a file that was changed from one that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: (u64, u64),
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Self {
        Self {
            identity: identity(file),
            length: file.len(),
            modified: file.modified().ok(),
        }
    }
}

/// The same for every name of a file, and another for a file that took its place.
#[cfg(unix)]
fn identity(file: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// What there is elsewhere: when it was made.
#[cfg(not(unix))]
fn identity(file: &fs::Metadata) -> (u64, u64) {
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    let made = file.created().ok().and_then(since).unwrap_or_default();
    (made.as_secs(), made.subsec_nanos().into())
}

impl Store {
    /// Opens the file at `path`, and makes it if there is none. A last line that a crash cut off in the
    /// middle, which no answer has acknowledged, is removed.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open; also if a line is wrong.
    pub fn open(path: &Path, taxonomy: &Taxonomy) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Failed {
            path: path.to_owned(),
            source,
        };
        if !path.exists() {
            create(path).map_err(failed)?;
        }
        // Two names of one file are one file.
        let path = path.canonicalize().map_err(failed)?;
        let lock = LockedFile::open(&lock_path(&path)).map_err(failed)?;
        let lock = lock.ok_or_else(|| StoreError::Locked { path: path.clone() })?;
        let repaired = cut_torn_line(&path).map_err(failed)?;
        let mut store = Self {
            stamp: Stamp::of(&fs::metadata(&path).map_err(failed)?),
            path,
            taxonomy: taxonomy.clone(),
            lines: Vec::new(),
            current: HashMap::new(),
            repaired,
            _lock: lock,
        };
        store.read()?;
        Ok(store)
    }

    /// Bytes of a last line without an end that were removed when the file was opened.
    pub fn repaired(&self) -> usize {
        self.repaired
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The label of an issue that counts.
    pub fn get(&self, id: &IssueId) -> Option<&Annotation> {
        self.current.get(id).map(|&line| &self.lines[line])
    }

    /// The label given last.
    pub fn last(&self) -> Option<&Annotation> {
        self.lines.last()
    }

    /// How many issues are labelled.
    pub fn len(&self) -> usize {
        self.current.len()
    }

    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// The labels that count, in the order in which they were given.
    pub fn annotations(&self) -> impl Iterator<Item = &Annotation> {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(line, annotation)| self.current.get(&annotation.id) == Some(line))
            .map(|(_, annotation)| annotation)
    }

    /// Reads the file again if it was changed from outside, and says whether it was.
    ///
    /// # Errors
    /// If it is gone, or a line is wrong.
    pub fn refresh(&mut self) -> Result<bool, StoreError> {
        let metadata = fs::metadata(&self.path).map_err(|source| self.failed(source))?;
        let changed = Stamp::of(&metadata) != self.stamp;
        if changed {
            self.read()?;
        }
        Ok(changed)
    }

    /// Adds a label. It is on disk when this returns.
    ///
    /// # Errors
    /// Nothing was added.
    pub fn add(&mut self, annotation: Annotation) -> Result<(), StoreError> {
        self.refresh()?;
        let line = Line {
            annotation: &annotation,
            taxonomy: &self.taxonomy,
            revises: self.current.contains_key(&annotation.id),
        };
        let line = serde_json::to_string(&line).expect("an annotation is JSON");
        if self.append(&line)? {
            self.lines.push(annotation);
            self.index();
        }
        Ok(())
    }

    /// Withdraws the label given last, so that what it replaced counts again, and gives it back.
    /// `None` if there is none.
    ///
    /// # Errors
    /// Nothing was withdrawn.
    pub fn undo(&mut self) -> Result<Option<Annotation>, StoreError> {
        self.refresh()?;
        let Some(last) = self.lines.last() else {
            return Ok(None);
        };
        let IssueId { repo, number } = &last.id;
        // By hand, to have the fields in their order.
        let line = format!(
            r#"{{"repo":{},"number":{number},"withdrawn":true}}"#,
            json!(repo)
        );
        let last = last.clone();
        if self.append(&line)? {
            self.lines.pop();
            self.index();
        }
        Ok(Some(last))
    }

    fn failed(&self, source: io::Error) -> StoreError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::NotFound => StoreError::Gone { path },
            _ => StoreError::Failed { path, source },
        }
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let metadata = fs::metadata(&self.path).map_err(|source| self.failed(source))?;
        let text = fs::read(&self.path).map_err(|source| self.failed(source))?;
        let lines = parse(&text, &self.taxonomy, Coverage::AllHeads);
        self.lines = lines.map_err(|problems| AnnotationError::Invalid {
            path: self.path.clone(),
            problems,
        })?;
        // If the file changed since, its stamp will differ.
        self.stamp = Stamp::of(&metadata);
        self.index();
        Ok(())
    }

    fn index(&mut self) {
        let lines = self.lines.iter().enumerate();
        self.current = lines.map(|(line, a)| (a.id.clone(), line)).collect();
    }

    /// Appends a line and waits for the disk. Says whether the file has nothing new beside it; if it
    /// has, it was read.
    fn append(&mut self, line: &str) -> Result<bool, StoreError> {
        loop {
            let (before, after) = self
                .try_append(line)
                .map_err(|source| self.failed(source))?;
            let now = fs::metadata(&self.path).map_err(|source| self.failed(source))?;
            // An editor that put another file there in the meantime has not seen the line.
            if identity(&now) != after.identity {
                continue;
            }
            let expected = before.length + line.len() as u64 + 1;
            if before == self.stamp && after.length == expected {
                self.stamp = after;
                return Ok(true);
            }
            self.read()?;
            return Ok(false);
        }
    }

    /// Gives the stamps before and after. What was written in part is taken back.
    fn try_append(&self, line: &str) -> io::Result<(Stamp, Stamp)> {
        let mut file = File::options().read(true).append(true).open(&self.path)?;
        let before = Stamp::of(&file.metadata()?);
        let mut text = format!("{line}\n");
        if before.length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(before.length - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                text.insert(0, '\n');
            }
        }
        let written = file.write_all(text.as_bytes());
        if let Err(error) = written.and_then(|()| file.sync_data()) {
            // Such as a full disk. Only what is the tail of this very write is cut.
            if file.metadata()?.len() <= before.length + text.len() as u64 {
                file.set_len(before.length)?;
            }
            return Err(error);
        }
        Ok((before, Stamp::of(&file.metadata()?)))
    }
}

/// Makes an empty file, whose name is on disk too.
fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    File::options()
        .append(true)
        .create(true)
        .open(path)?
        .sync_all()?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    // Not every system can be asked for that.
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn lock_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.lock"))
}

/// Removes a last line that has no end and is no JSON, and says how long it was.
fn cut_torn_line(path: &Path) -> io::Result<usize> {
    let text = fs::read(path)?;
    let start = text
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |end| end + 1);
    let last = &text[start..];
    if last.is_empty() || serde_json::from_slice::<serde_json::Value>(last).is_ok() {
        return Ok(0);
    }
    let file = File::options().write(true).open(path)?;
    file.set_len(start as u64)?;
    file.sync_all()?;
    Ok(last.len())
}

#[cfg(test)]
mod tests;
