//! How far the collection of a repository is: a file of lines to which every page is added, so that a
//! process can end at any moment.
//!
//! ```text
//! {"begin":{…}}        what is collected
//! {"merged":{…}}       a length of the repository's file that this journal continues
//! {"issue":{…}}        an issue, newer than any earlier line or the repository's file has it
//! {"gone":17}          an issue that no longer passes the filter
//! {"cursor":{…}}       everything before it is above, or in the repository's file
//! ```
//!
//! A line that was cut off belongs to a page whose cursor is missing: it is dropped and asked for again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::Filter;
use super::repository::Comments;
use super::store::{StoreError, replace};

/// What is collected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Begin {
    /// The repository's name in records, as it was asked for.
    pub repo: String,
    /// The name the server knows it by, which differs if it was renamed.
    pub name: String,
    pub api_url: String,
    pub filter: Filter,
    pub comments: Option<Comments>,
    /// Issues that the server counted.
    pub total: Option<u64>,
    /// When, by the server's clock.
    pub at: DateTime<Utc>,
}

/// Where the walk through a repository's issues, in order of their last change, is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Every issue last changed before this time is collected. `None` is the beginning.
    pub since: Option<DateTime<Utc>>,
    /// Whether the server filters, which it does on the first walk only: later ones have to see the
    /// issues that no longer pass.
    pub filtered: bool,
    /// Whether the walk came to its end.
    pub complete: bool,
    /// Of the last page, which begins at `since`: while it is this, nothing has changed.
    pub etag: Option<String>,
}

/// Bytes of a file, without the line's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u64,
    length: usize,
}

impl Span {
    pub fn new(start: u64, length: usize) -> Self {
        Self { start, length }
    }

    pub fn read(self, file: &mut File) -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(self.start))?;
        let mut bytes = vec![0; self.length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The number in a record, the rest of which is skipped.
#[derive(Deserialize)]
pub(super) struct Numbered {
    pub number: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin(Begin),
    Merged { bytes: u64 },
    Issue(Numbered),
    Gone(u64),
    Cursor(Cursor),
}

/// The lines that are written; an issue's is put together from its record.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Mark<'a> {
    Begin(&'a Begin),
    Merged { bytes: u64 },
    Gone(u64),
    Cursor(&'a Cursor),
}

const ISSUE: (&str, &str) = ("{\"issue\":", "}");

/// Lines on their way to a journal.
#[derive(Default)]
pub(super) struct Page {
    lines: Vec<u8>,
    /// The issues with the place of their record among `lines`, `None` for those that are gone.
    issues: Vec<(u64, Option<Span>)>,
}

impl Page {
    pub fn issue(&mut self, number: u64, record: &str) {
        let (before, after) = ISSUE;
        self.lines.extend(before.as_bytes());
        let span = Span {
            start: self.lines.len() as u64,
            length: record.len(),
        };
        self.lines.extend(record.as_bytes());
        self.lines.extend(after.as_bytes());
        self.lines.push(b'\n');
        self.issues.push((number, Some(span)));
    }

    pub fn gone(&mut self, number: u64) {
        self.mark(&Mark::Gone(number));
        self.issues.push((number, None));
    }

    /// The numbers of the issues, those that are gone too.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.issues.iter().map(|&(number, _)| number)
    }

    pub fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    fn mark(&mut self, mark: &Mark) {
        let line = serde_json::to_string(mark).expect("marks are plain data");
        self.lines.extend(line.as_bytes());
        self.lines.push(b'\n');
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    pub file: File,
    length: u64,
    pub begin: Begin,
    pub cursor: Cursor,
    /// The lengths that the repository's file may have.
    pub merged: Vec<u64>,
    /// The issues in the journal, by number; `None` for those that are gone.
    pub issues: BTreeMap<u64, Option<Span>>,
}

impl Journal {
    /// The journal at `path`, `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let failed = |source| StoreError::Failed {
            path: path.into(),
            source,
        };
        let file = match OpenOptions::new().read(true).append(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut reader = BufReader::new(&file);
        let (mut begin, mut cursor, mut merged) = (None, None, Vec::new());
        let mut issues = BTreeMap::new();
        let (mut length, mut number, mut text) = (0, 0, Vec::new());
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(failed)?;
            if text.pop() != Some(b'\n') {
                break;
            }
            number += 1;
            let line = serde_json::from_slice(&text).map_err(|error| StoreError::Line {
                path: path.into(),
                line: number,
                reason: error.to_string(),
            })?;
            match line {
                Line::Begin(found) => begin = Some(found),
                Line::Cursor(found) => cursor = Some(found),
                Line::Merged { bytes } => merged.push(bytes),
                Line::Gone(number) => drop(issues.insert(number, None)),
                Line::Issue(Numbered { number }) => {
                    let (before, after) = ISSUE;
                    let start = length + before.len() as u64;
                    let length = text.len() - before.len() - after.len();
                    issues.insert(number, Some(Span { start, length }));
                }
            }
            length += read as u64;
        }
        // What stands behind the last whole line was never finished.
        file.set_len(length).map_err(failed)?;
        let (Some(begin), Some(cursor)) = (begin, cursor) else {
            return Ok(None);
        };
        Ok(Some(Self {
            path: path.into(),
            file,
            length,
            begin,
            cursor,
            merged,
            issues,
        }))
    }

    /// A journal without issues, which takes the place of the one at `path`. `bytes` is the length of
    /// the repository's file.
    pub fn create(
        path: &Path,
        begin: Begin,
        cursor: Cursor,
        bytes: u64,
    ) -> Result<Self, StoreError> {
        let mut page = Page::default();
        page.mark(&Mark::Begin(&begin));
        page.mark(&Mark::Merged { bytes });
        page.mark(&Mark::Cursor(&cursor));
        replace(path, |file| file.write_all(&page.lines))?;
        let file = OpenOptions::new().read(true).append(true).open(path);
        Ok(Self {
            file: file.map_err(|source| StoreError::Failed {
                path: path.into(),
                source,
            })?,
            path: path.into(),
            length: page.lines.len() as u64,
            begin,
            cursor,
            merged: vec![bytes],
            issues: BTreeMap::new(),
        })
    }

    /// Adds a page, with the cursor behind it if it is complete, and brings it to disk.
    pub fn append(&mut self, mut page: Page, cursor: Option<&Cursor>) -> Result<(), StoreError> {
        if let Some(cursor) = cursor {
            page.mark(&Mark::Cursor(cursor));
            self.cursor.clone_from(cursor);
        }
        let start = self.length;
        self.write(&page.lines)?;
        let moved = |span: Span| Span {
            start: start + span.start,
            ..span
        };
        let issues = page.issues.into_iter();
        self.issues
            .extend(issues.map(|(number, span)| (number, span.map(moved))));
        Ok(())
    }

    /// Says that the repository's file is about to have this length.
    pub fn merging(&mut self, bytes: u64) -> Result<(), StoreError> {
        let mut page = Page::default();
        page.mark(&Mark::Merged { bytes });
        self.write(&page.lines)?;
        self.merged.push(bytes);
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        let written = self
            .file
            .write_all(lines)
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Half a line may be on disk. If it cannot be taken back, opening does.
            let _ = self.file.set_len(self.length);
            return Err(StoreError::Failed {
                path: self.path.clone(),
                source,
            });
        }
        self.length += lines.len() as u64;
        Ok(())
    }
}
