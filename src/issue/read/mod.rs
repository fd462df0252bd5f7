//! Issues read from JSON, JSON Lines, CSV and Parquet, with memory that does not grow with a file.
//!
//! [`Corpus::open`] reads everything once, keeping identities only, to count the issues and to
//! find those given twice; [`Corpus::issues`] then reads them again, one at a time.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::{fmt, slice};

use roaring::RoaringTreemap;

use super::{Issue, IssueId, Metadata, TABLE};
use columns::Wanted;
use input::Source;
pub use record::Fault;
use record::{Entry, Extra, Outcome, Repository};

mod columns;
mod csv;
mod input;
mod json;
mod parquet;
mod record;
mod shape;
#[cfg(test)]
mod tests;

/// A single record may have this many bytes: a longer one is reported and not kept in memory.
/// (GitHub ends a body at 65,536 characters.)
const MAX_RECORD_BYTES: usize = 64 << 20;

/// The summary keeps this many broken records; it counts all of them.
const MAX_BROKEN_KEPT: usize = 1000;

/// How to read issues.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The repository, `owner/name`, of records that name none.
    pub repo: Option<String>,
    /// Whether the first broken record ends the reading with an error, instead of being skipped
    /// and listed in the [`ReadSummary`].
    pub strict: bool,
    /// `None`: tables have GitHub's names for their columns.
    pub table: Option<TableColumns>,
}

/// The columns of any table, CSV or Parquet, whose rows are texts. A row's identity is the file's name
/// and the row's number, from 1: `table/NAME#ROW`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumns {
    /// Of several the first is the title.
    pub text: Vec<String>,
    /// See [`Corpus::labelled_issues`].
    pub label: Option<String>,
}

/// What the inputs hold: `records = issues + duplicates + pull_requests + broken`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadSummary {
    pub files: u64,
    pub records: u64,
    /// Issues that differ in repository or number.
    pub issues: u64,
    /// Records that a later record of the same issue replaces.
    pub duplicates: u64,
    pub pull_requests: u64,
    pub broken: u64,
    /// The first thousand of the broken records.
    pub broken_records: Vec<BrokenRecord>,
}

/// A record that is no issue: where it stands and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokenRecord {
    pub file: String,
    /// The record's number within the file, from 1.
    pub record: u64,
    /// The line it begins on, from 1; Parquet has none.
    pub line: Option<u64>,
    /// JSON only: the bytes before it, after decompression.
    pub byte: Option<u64>,
    pub fault: Fault,
}

impl fmt::Display for BrokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: record {}", self.file, self.record)?;
        match (self.line, self.byte) {
            (Some(line), Some(byte)) => write!(f, " (line {line}, byte {byte})")?,
            (Some(line), None) => write!(f, " (line {line})")?,
            (None, _) => {}
        }
        write!(f, ": {}", self.fault)
    }
}

/// Why issues cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("`{0}` matches no file: check the pattern, and quote it so that the shell keeps it")]
    NoMatch(String),
    #[error("`{pattern}` is not a valid pattern: {reason}")]
    Pattern {
        pattern: String,
        reason: &'static str,
    },
    #[error("`{0}` is not a repository: write it as owner/name, for example vllm-project/vllm")]
    Repo(String),
    #[error("{file}: {problem}")]
    File { file: String, problem: Problem },
    #[error("{0}")]
    Broken(BrokenRecord),
    #[error("two tables are called {0}, and their rows could not be told apart: rename one")]
    SameName(String),
    #[error("the input changed while it was read: start again when nothing writes to it")]
    Changed,
}

/// What is wrong with a file as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("no such file")]
    Missing,
    #[error("it is empty")]
    Empty,
    #[error("the folder holds no {} file, plain or with .gz or .zst", input::EXTENSIONS.join(", "))]
    EmptyFolder,
    #[error(
        "it is neither JSON, JSON Lines, CSV nor Parquet (plain or compressed with gzip or zstd)"
    )]
    Unrecognised,
    #[error("its text is UTF-16: save it as UTF-8")]
    Utf16,
    #[error(
        "a table needs the columns number (whole numbers), title, body and, unless --repo owner/name \
         is passed, repo, html_url or url (text); it has {found}"
    )]
    Columns { found: String },
    #[error("it has no column {wanted}, only {found}: name one of these")]
    NoColumn { wanted: String, found: String },
    #[error("columns can be named of tables only, CSV or Parquet")]
    NoTable,
    #[error("its compressed data is cut off or damaged ({0}): fetch it again")]
    Archive(io::Error),
    #[error("it cannot be read as Parquet: {0}")]
    Parquet(String),
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
        match error.kind() {
            NotFound => Self::Missing,
            // Only the decompressors give these.
            InvalidData | InvalidInput | UnexpectedEof => Self::Archive(error),
            _ => Self::Io(error),
        }
    }
}

/// A set of input files, read through once, whose issues can be streamed.
#[derive(Debug)]
pub struct Corpus {
    sources: Vec<Source>,
    options: ReadOptions,
    summary: ReadSummary,
    /// How many records of an issue a later one replaces; of the issues where any is.
    replaced: HashMap<IssueId, u64>,
}

impl Corpus {
    /// Reads `inputs` once: paths of files, of folders (their issue files, without subfolders),
    /// patterns such as `data/*.json`, or `-` for standard input. Formats and compression are told
    /// by content.
    ///
    /// # Errors
    ///
    /// If an input names no file, a file is in no known format, lacks a needed column or cannot be
    /// read to its end; with `strict` also if a record is broken.
    pub fn open(inputs: &[String], options: &ReadOptions) -> Result<Self, ReadError> {
        Self::open_with(inputs, options, &mut io::stdin())
    }

    fn open_with(
        inputs: &[String],
        options: &ReadOptions,
        stdin: &mut dyn Read,
    ) -> Result<Self, ReadError> {
        if let Some(repo) = &options.repo
            && !record::is_repo_name(repo)
        {
            return Err(ReadError::Repo(repo.clone()));
        }
        let mut corpus = Self {
            sources: input::expand(inputs, stdin)?,
            options: options.clone(),
            summary: ReadSummary::default(),
            replaced: HashMap::new(),
        };
        corpus.check_table_names()?;
        corpus.index()?;
        Ok(corpus)
    }

    /// A table's name is part of its rows' identities.
    fn check_table_names(&self) -> Result<(), ReadError> {
        if self.options.table.is_none() {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let stems = self.sources.iter().map(Source::stem);
        match stems
            .map(|stem| (seen.insert(stem.clone()), stem))
            .find(|(new, _)| !new)
        {
            Some((_, stem)) => Err(ReadError::SameName(stem)),
            None => Ok(()),
        }
    }

    fn index(&mut self) -> Result<(), ReadError> {
        let summary = &mut self.summary;
        // Issues are numbered without many gaps: a bit or two each is enough to know a million.
        let mut seen: HashMap<String, RoaringTreemap> = HashMap::new();
        for source in &self.sources {
            summary.files += 1;
            for outcome in outcomes(source, &self.options)? {
                summary.records += 1;
                match outcome? {
                    Ok(Outcome::PullRequest) => summary.pull_requests += 1,
                    Ok(Outcome::Issue(Issue { id, .. }, _)) => {
                        let numbers = match seen.get_mut(&id.repo) {
                            Some(numbers) => numbers,
                            None => seen.entry(id.repo.clone()).or_default(),
                        };
                        if numbers.insert(id.number) {
                            summary.issues += 1;
                        } else {
                            *self.replaced.entry(id).or_default() += 1;
                            summary.duplicates += 1;
                        }
                    }
                    Err(broken) if self.options.strict => return Err(ReadError::Broken(broken)),
                    Err(broken) => {
                        summary.broken += 1;
                        if summary.broken_records.len() < MAX_BROKEN_KEPT {
                            summary.broken_records.push(broken);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub fn summary(&self) -> &ReadSummary {
        &self.summary
    }

    /// The number of different issues, which is how many [`Corpus::issues`] yields.
    pub fn len(&self) -> usize {
        self.summary.issues as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The issues in the order of the input. Of an issue given several times, only the last.
    /// After an error there is nothing more.
    pub fn issues(&self) -> impl Iterator<Item = Result<Issue, ReadError>> + Send + '_ {
        self.labelled_issues()
            .map(|issue| issue.map(|(issue, _)| issue))
    }

    /// As [`Corpus::issues`], with the labels of a table that was read for them; `None` where a row's
    /// cell is empty.
    pub fn labelled_issues(
        &self,
    ) -> impl Iterator<Item = Result<(Issue, Option<String>), ReadError>> + Send + '_ {
        self.read()
            .map(|issue| issue.map(|(issue, extra)| (issue, extra.label)))
    }

    /// As [`Corpus::issues`], with what GitHub knows of them beside their texts.
    pub fn issues_with_metadata(
        &self,
    ) -> impl Iterator<Item = Result<(Issue, Metadata), ReadError>> + Send + '_ {
        self.read()
            .map(|issue| issue.map(|(issue, extra)| (issue, extra.metadata)))
    }

    fn read(&self) -> Issues<'_> {
        Issues {
            corpus: self,
            sources: self.sources.iter(),
            current: None,
            replaced: self.replaced.clone(),
            count: 0,
            ended: false,
        }
    }
}

/// What a source's records are. The outer error ends the source, the inner one a record.
type Outcomes<'a> =
    Box<dyn Iterator<Item = Result<Result<Outcome, BrokenRecord>, ReadError>> + Send + 'a>;

fn outcomes<'a>(source: &'a Source, options: &'a ReadOptions) -> Result<Outcomes<'a>, ReadError> {
    let failed = |problem| ReadError::File {
        file: source.name.clone(),
        problem,
    };
    let repo = options.repo.as_deref();
    let wanted = match &options.table {
        Some(columns) => Wanted::Named(columns),
        None => Wanted::Issue {
            needs_repo: repo.is_none(),
        },
    };
    let entries = source.entries(wanted).map_err(failed)?;
    let table = options
        .table
        .as_ref()
        .map(|_| format!("{TABLE}/{}", source.stem()));
    Ok(Box::new((1..).zip(entries).map(move |(record, entry)| {
        let Entry {
            line,
            byte,
            record: fields,
        } = entry.map_err(failed)?;
        let fields = fields.map(|mut fields| {
            if let Some(name) = &table {
                fields.repo = Some(Repository::Name(name.clone()));
                fields.number = Some(record);
            }
            fields
        });
        Ok(fields
            .and_then(|fields| fields.resolve(repo))
            .map_err(|fault| BrokenRecord {
                file: source.name.clone(),
                record,
                line,
                byte,
                fault,
            }))
    })))
}

struct Issues<'a> {
    corpus: &'a Corpus,
    sources: slice::Iter<'a, Source>,
    current: Option<Outcomes<'a>>,
    /// As the corpus has it, of what is still to come.
    replaced: HashMap<IssueId, u64>,
    /// Records so far that are issues.
    count: u64,
    ended: bool,
}

impl Issues<'_> {
    fn advance(&mut self) -> Result<Option<(Issue, Extra)>, ReadError> {
        loop {
            let Some(outcomes) = &mut self.current else {
                match self.sources.next() {
                    Some(source) => {
                        self.current = Some(outcomes(source, &self.corpus.options)?);
                        continue;
                    }
                    None => break,
                }
            };
            match outcomes.next().transpose()? {
                Some(Ok(Outcome::Issue(issue, extra))) => {
                    self.count += 1;
                    match self.replaced.get_mut(&issue.id) {
                        Some(left) if *left > 0 => *left -= 1,
                        _ => return Ok(Some((issue, *extra))),
                    }
                }
                Some(_) => {}
                None => self.current = None,
            }
        }
        let summary = &self.corpus.summary;
        if self.count == summary.issues + summary.duplicates {
            Ok(None)
        } else {
            Err(ReadError::Changed)
        }
    }
}

impl Iterator for Issues<'_> {
    type Item = Result<(Issue, Extra), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
