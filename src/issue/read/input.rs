//! From what the user names to files, and from files to records: patterns, folders, standard
//! input, compression and the choice of format.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use tempfile::NamedTempFile;

use super::columns::Wanted;
use super::record::Entry;
use super::{Problem, ReadError, csv, json, parquet};

/// The endings of the files that a folder given as input is searched for.
pub(super) const EXTENSIONS: [&str; 5] = [".json", ".jsonl", ".ndjson", ".csv", ".parquet"];

/// This much of a file's beginning decides its format.
const HEAD_BYTES: u64 = 8 << 10;

/// A format's records. An error ends them.
pub(super) type Entries = Box<dyn Iterator<Item = Result<Entry, Problem>> + Send>;

/// One input file.
#[derive(Debug)]
pub(super) struct Source {
    /// How messages call it.
    pub name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Path(PathBuf),
    /// A copy of what can be read only once; removed when dropped.
    Copy(NamedTempFile),
}

/// The files that `inputs` stand for, in the order given, a pattern's matches sorted.
pub(super) fn expand(inputs: &[String], stdin: &mut dyn Read) -> Result<Vec<Source>, ReadError> {
    let mut sources = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if input == "-" {
            sources.push(Source::copied("standard input".into(), stdin)?);
        } else if path.exists() || !input.contains(['*', '?', '[']) {
            // The name itself comes first: a file may be called `issues[1].json`.
            add_path(path, &mut sources)?;
        } else {
            let paths = glob::glob(input).map_err(|error| ReadError::Pattern {
                pattern: input.clone(),
                reason: error.msg,
            })?;
            let mut paths: Vec<PathBuf> = paths.filter_map(Result::ok).collect();
            paths.retain(|path| !path.is_dir());
            if paths.is_empty() {
                return Err(ReadError::NoMatch(input.clone()));
            }
            paths.sort();
            for path in paths {
                add_path(&path, &mut sources)?;
            }
        }
    }
    Ok(sources)
}

fn add_path(path: &Path, sources: &mut Vec<Source>) -> Result<(), ReadError> {
    let name = path.display().to_string();
    let failed = |problem| ReadError::File {
        file: name.clone(),
        problem,
    };
    let kind = path
        .metadata()
        .map_err(|error| failed(error.into()))?
        .file_type();
    if kind.is_dir() {
        let files = issue_files(path).map_err(|error| failed(error.into()))?;
        if files.is_empty() {
            return Err(failed(Problem::EmptyFolder));
        }
        sources.extend(files.into_iter().map(|path| Source {
            name: path.display().to_string(),
            place: Place::Path(path),
        }));
    } else if kind.is_file() {
        sources.push(Source {
            place: Place::Path(path.to_owned()),
            name,
        });
    } else {
        // A pipe, such as the shell's `<(…)`, gives its content once.
        let mut pipe = File::open(path).map_err(|error| failed(error.into()))?;
        sources.push(Source::copied(name, &mut pipe)?);
    }
    Ok(())
}

fn issue_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if ends_with(&path.to_string_lossy(), &EXTENSIONS) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name has one of `extensions`, with or without that of a compression.
fn ends_with(name: &str, extensions: &[&str]) -> bool {
    let name = name.to_lowercase();
    let plain = name
        .strip_suffix(".gz")
        .or(name.strip_suffix(".zst"))
        .unwrap_or(&name);
    extensions
        .iter()
        .any(|extension| plain.ends_with(extension))
}

impl Source {
    fn copied(name: String, from: &mut dyn Read) -> Result<Self, ReadError> {
        let copy = NamedTempFile::new().and_then(|mut file| {
            io::copy(from, &mut file)?;
            Ok(file)
        });
        match copy {
            Ok(file) => Ok(Self {
                name,
                place: Place::Copy(file),
            }),
            Err(error) => Err(ReadError::File {
                file: name,
                problem: Problem::Io(error),
            }),
        }
    }

    /// What names the file within a table's identities: its name without folders and extensions.
    pub fn stem(&self) -> String {
        let name = self.name.rsplit(['/', '\\']).next().unwrap_or_default();
        let stem = name
            .trim_start_matches('.')
            .split('.')
            .next()
            .unwrap_or_default();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let stem: String = stem
            .chars()
            .map(|c| if allowed(c) { c } else { '-' })
            .collect();
        if stem.is_empty() {
            "table".into()
        } else {
            stem
        }
    }

    /// The records from the first one on. A table must have the columns `wanted`.
    pub fn entries(&self, wanted: Wanted<'_>) -> Result<Entries, Problem> {
        let path = match &self.place {
            Place::Path(path) => path,
            Place::Copy(file) => file.path(),
        };
        let file = File::open(path)?;
        let (mut content, compressed) = decompressed(file.try_clone()?)?;
        let mut head = Vec::new();
        (&mut content).take(HEAD_BYTES).read_to_end(&mut head)?;
        match Format::of(&head, &self.name)? {
            Format::Json if matches!(wanted, Wanted::Named(_)) => Err(Problem::NoTable),
            Format::Json => Ok(Box::new(json::entries(Cursor::new(head).chain(content)))),
            Format::Csv => csv::entries(Cursor::new(head).chain(content), wanted),
            Format::Parquet if !compressed => parquet::entries(file, wanted),
            Format::Parquet => {
                // Parquet is read from its end.
                let mut plain = tempfile::tempfile()?;
                io::copy(&mut Cursor::new(head).chain(content), &mut plain)?;
                plain.rewind()?;
                parquet::entries(plain, wanted)
            }
        }
    }
}

/// The content of `file`, and whether it was compressed.
fn decompressed(file: File) -> io::Result<(Box<dyn BufRead + Send>, bool)> {
    let mut raw = BufReader::with_capacity(1 << 16, file);
    let magic = raw.fill_buf()?;
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        (
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))),
            true,
        )
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::Decoder::with_buffer(raw)?;
        (Box::new(BufReader::with_capacity(1 << 16, decoder)), true)
    } else {
        (Box::new(raw), false)
    })
}

enum Format {
    Json,
    Csv,
    Parquet,
}

impl Format {
    fn of(head: &[u8], name: &str) -> Result<Self, Problem> {
        if head.starts_with(b"PAR1") {
            return Ok(Self::Parquet);
        }
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(Problem::Utf16);
        }
        let text = head
            .strip_prefix("\u{feff}".as_bytes())
            .unwrap_or(head)
            .trim_ascii_start();
        match text.first() {
            None if (head.len() as u64) < HEAD_BYTES => Err(Problem::Empty),
            Some(b'[' | b'{') => Ok(Self::Json),
            _ if text
                .iter()
                .take_while(|&&byte| byte != b'\n')
                .any(|&byte| byte == 0) =>
            {
                Err(Problem::Unrecognised)
            }
            // The name decides only here, where the first record of JSON Lines must be broken.
            _ if ends_with(name, &[".json", ".jsonl", ".ndjson"]) => Ok(Self::Json),
            _ => Ok(Self::Csv),
        }
    }
}
