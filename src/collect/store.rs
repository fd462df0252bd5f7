//! A folder of collected issues:
//!
//! ```text
//! owner__name.jsonl             the issues of a repository, each once, by number
//! .collect/owner__name.jsonl    its journal
//! .collect/lock                 held by the process that collects into the folder
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::journal::{Begin, Cursor, Journal, Numbered, Page, Span};
use crate::locked_file::LockedFile;

/// Why issues cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} is in use by another run: wait for it, or choose another place", path.display())]
    Locked { path: PathBuf },
    #[error("{}: {source}; nothing is lost, run the same command again once that is put right", path.display())]
    Failed { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {reason}; remove the file to collect anew", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        reason: String,
    },
    #[error(
        "{} has {found} bytes, but the last run left it with {expected}: put it back, or remove it to \
         collect anew",
        path.display()
    )]
    Changed {
        path: PathBuf,
        found: u64,
        expected: u64,
    },
}

/// A folder that only this process collects into, until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: LockedFile,
}

impl Folder {
    /// Opens the folder at `path`, and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let progress = path.join(PROGRESS);
        fs::create_dir_all(&progress).map_err(|error| failed(&progress, error))?;
        Ok(Self {
            path: path.into(),
            _lock: lock(&progress.join("lock"), path)?,
        })
    }

    /// The file of a repository, `owner/name`. No owner has `__` in their name, and GitHub tells no
    /// names apart that differ in upper and lower case only.
    pub fn file(&self, repo: &str) -> PathBuf {
        self.path.join(file_name(repo))
    }

    pub(super) fn store(&self, repo: &str) -> Result<Store, StoreError> {
        Store::open(
            self.file(repo),
            self.path.join(PROGRESS).join(file_name(repo)),
        )
    }
}

/// Where the journals are: reading the folder as issues does not look into folders.
const PROGRESS: &str = ".collect";

fn file_name(repo: &str) -> String {
    repo.to_lowercase().replacen('/', "__", 1) + ".jsonl"
}

/// Opens the file at `path`, which stands for `what`, for this process alone.
pub(super) fn lock(path: &Path, what: &Path) -> Result<LockedFile, StoreError> {
    let file = LockedFile::open(path).map_err(|error| failed(path, error))?;
    file.ok_or_else(|| StoreError::Locked { path: what.into() })
}

/// The issues of one repository: its file, and a journal of what is newer.
#[derive(Debug)]
pub(super) struct Store {
    data: PathBuf,
    journal_path: PathBuf,
    pub journal: Option<Journal>,
    /// By number, once [`load`](Self::load)ed.
    records: Option<Records>,
}

/// Where each record is.
#[derive(Debug)]
struct Records {
    data: Option<File>,
    places: BTreeMap<u64, Place>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Data(Span),
    Journal(Span),
}

impl Store {
    fn open(data: PathBuf, journal_path: PathBuf) -> Result<Self, StoreError> {
        let mut journal = Journal::open(&journal_path)?;
        let found = match fs::metadata(&data) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(&data, error)),
        };
        let lengths = journal.as_ref().map_or(&[0][..], |journal| &journal.merged);
        if !lengths.contains(&found) {
            if found > 0 {
                let expected = lengths.last().copied().unwrap_or_default();
                return Err(StoreError::Changed {
                    path: data,
                    found,
                    expected,
                });
            }
            // Whoever removes the file wants it collected anew.
            journal = None;
        }
        Ok(Self {
            data,
            journal_path,
            journal,
            records: None,
        })
    }

    pub fn begin(&mut self, begin: Begin, cursor: Cursor) -> Result<(), StoreError> {
        self.journal = Some(Journal::create(&self.journal_path, begin, cursor, 0)?);
        Ok(())
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal
            .as_mut()
            .expect("a store is begun before it is used")
    }

    /// Finds every record. What needs them does it by itself.
    fn load(&mut self) -> Result<&mut Records, StoreError> {
        if self.records.is_none() {
            let mut places = BTreeMap::new();
            let data = match File::open(&self.data) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(failed(&self.data, error)),
            };
            if let Some(file) = &data {
                for record in spans(&self.data, file) {
                    let (number, span) = record?;
                    places.insert(number, Place::Data(span));
                }
            }
            let issues = self.journal().issues.clone();
            let mut records = Records { data, places };
            for (number, span) in issues {
                records.set(number, span);
            }
            self.records = Some(records);
        }
        Ok(self.records.as_mut().expect("it was just loaded"))
    }

    /// The newest record of an issue.
    pub fn record(&mut self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let place = self.load()?.places.get(&number).copied();
        place.map(|place| self.read(place)).transpose()
    }

    fn read(&mut self, place: Place) -> Result<Vec<u8>, StoreError> {
        let records = self.records.as_mut().expect("places are of loaded records");
        let (path, read) = match (place, &mut records.data, &mut self.journal) {
            (Place::Data(span), Some(file), _) => (&self.data, span.read(file)),
            (Place::Journal(span), _, Some(journal)) => {
                (&self.journal_path, span.read(&mut journal.file))
            }
            _ => unreachable!("a place is in a file that is open"),
        };
        read.map_err(|error| failed(path, error))
    }

    /// How many issues there are.
    pub fn len(&mut self) -> Result<u64, StoreError> {
        Ok(self.load()?.places.len() as u64)
    }

    /// Whether the journal has issues that the repository's file lacks.
    pub fn is_behind(&self) -> bool {
        self.journal
            .as_ref()
            .is_some_and(|journal| !journal.issues.is_empty())
    }

    /// Adds a page to the journal, with the cursor behind it if the page is complete.
    pub fn add(&mut self, page: Page, cursor: Option<&Cursor>) -> Result<(), StoreError> {
        self.load()?;
        let changed: Vec<u64> = page.numbers().collect();
        self.journal().append(page, cursor)?;
        for number in changed {
            let span = self.journal().issues[&number];
            self.load()?.set(number, span);
        }
        Ok(())
    }

    /// Brings the repository's file up to date, in one step, and empties the journal.
    pub fn merge(&mut self) -> Result<(), StoreError> {
        let places: Vec<Place> = self.load()?.places.values().copied().collect();
        let mut bytes = fs::metadata(&self.data).map_or(0, |metadata| metadata.len());
        if !self.journal().issues.is_empty() {
            bytes = 0;
            let data = self.data.clone();
            // Beside the journal: nothing that reads the folder comes upon half a file.
            let new = self.journal_path.with_extension("new");
            write_new(&new, |file| {
                let mut file = BufWriter::new(file);
                for place in places {
                    let record = self.read(place).map_err(io::Error::other)?;
                    file.write_all(&record)?;
                    file.write_all(b"\n")?;
                    bytes += record.len() as u64 + 1;
                }
                file.flush()
            })?;
            self.journal().merging(bytes)?;
            if bytes > 0 {
                put_in_place(&new, &data)?;
            } else {
                // No issue, no file: whoever reads issues takes an empty one for a mishap.
                remove(&new)?;
                remove(&data)?;
            }
        }
        let journal = self.journal();
        let (begin, cursor) = (journal.begin.clone(), journal.cursor.clone());
        self.journal = Some(Journal::create(&self.journal_path, begin, cursor, bytes)?);
        self.records = None;
        Ok(())
    }
}

impl Records {
    fn set(&mut self, number: u64, span: Option<Span>) {
        match span {
            Some(span) => self.places.insert(number, Place::Journal(span)),
            None => self.places.remove(&number),
        };
    }
}

/// The records in a file of issues.
fn spans<'a>(
    path: &'a Path,
    file: &'a File,
) -> impl Iterator<Item = Result<(u64, Span), StoreError>> + 'a {
    let mut reader = BufReader::new(file);
    let (mut start, mut line, mut text) = (0, 0, Vec::new());
    std::iter::from_fn(move || {
        text.clear();
        match reader.read_until(b'\n', &mut text) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(failed(path, error))),
        }
        line += 1;
        let span = Span::new(start, text.trim_ascii_end().len());
        start += text.len() as u64;
        let record: Result<Numbered, _> = serde_json::from_slice(&text);
        Some(record.map(|record| (record.number, span)).map_err(|error| {
            let reason = error.to_string();
            StoreError::Line {
                path: path.into(),
                line,
                reason,
            }
        }))
    })
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Failed {
        path: path.into(),
        source,
    }
}

/// Writes a file beside `path` and puts it there once it is whole and on disk.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StoreError> {
    // The name is always the same, so that a run that was killed here leaves nothing for good.
    let new = path.with_extension("new");
    write_new(&new, write)?;
    put_in_place(&new, path)
}

fn write_new(
    new: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StoreError> {
    File::create(new)
        .and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()
        })
        .map_err(|error| failed(new, error))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        _ => Ok(()),
    }
}

fn put_in_place(new: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(new, path).map_err(|error| failed(path, error))?;
    // The name is on disk once its folder is; not every system can be asked for that.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}
