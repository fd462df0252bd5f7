//! Predictions read back from a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::format::{Format, UnknownFormat};
use super::{csv, jsonl, parquet};
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// Why a predictions file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A record, or the columns, are not what this taxonomy's predictions look like. Lines count
    /// from 1 (in Parquet: rows).
    #[error(
        "{}:{line}: not a prediction under this taxonomy: {reason}; correct or remove the line",
        path.display()
    )]
    Record {
        path: PathBuf,
        line: u64,
        reason: String,
    },
    #[error(
        "{}:{line}: predicted by {found}, not by {expected}; keep each model's predictions in a \
         file of their own",
        path.display()
    )]
    OtherModel {
        path: PathBuf,
        line: u64,
        found: String,
        expected: String,
    },
    /// The last line does not end.
    #[error("{}:{line}: the file is cut off here; --resume completes it", path.display())]
    CutOff { path: PathBuf, line: u64 },
}

/// What a predictions file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionFile {
    /// What predicted; `None` if there are no predictions.
    pub model: Option<String>,
    /// In the file's order.
    pub predictions: Vec<Prediction>,
}

/// Reads a whole predictions file: JSONL, CSV or Parquet by its extension, of one model, in the
/// file's order.
///
/// A head that abstained has no label in a file. It gets the one its distribution suggests: does
/// not apply, if the labels of the heads it depends on say so, else the most probable.
///
/// # Errors
///
/// Whatever is not a prediction under `taxonomy` is an error that names its line; nothing is
/// skipped.
pub fn read_predictions(path: &Path, taxonomy: &Taxonomy) -> Result<Vec<Prediction>, ReadError> {
    Ok(read_prediction_file(path, taxonomy)?.predictions)
}

/// As [`read_predictions`], with the model's name.
///
/// # Errors
///
/// As [`read_predictions`].
pub fn read_prediction_file(path: &Path, taxonomy: &Taxonomy) -> Result<PredictionFile, ReadError> {
    let format = Format::of(path)?;
    if format == Format::Parquet {
        let mut model = OneModel(None);
        let predictions = parquet::read(path, taxonomy, &mut model)?.collect::<Result<_, _>>()?;
        return Ok(PredictionFile {
            model: model.0,
            predictions,
        });
    }
    let mut lines = LineReader::open(path, format, taxonomy, OneModel(None))?;
    let predictions = lines.by_ref().collect::<Result<_, _>>()?;
    match lines.cut_off() {
        Some(line) => Err(ReadError::CutOff {
            path: path.into(),
            line,
        }),
        None => Ok(PredictionFile {
            model: lines.model.0,
            predictions,
        }),
    }
}

/// A record as it stands in a file.
pub(super) struct Decoded {
    pub prediction: Prediction,
    pub model: String,
}

/// Why a line is not a record.
pub(super) struct Undecodable {
    pub reason: String,
    /// It may be the beginning of one.
    pub cut_off: bool,
}

impl From<String> for Undecodable {
    fn from(reason: String) -> Self {
        Self {
            reason,
            cut_off: false,
        }
    }
}

/// Makes sure that a file is by one model: the given one, or else that of the first record.
pub(super) struct OneModel(pub Option<String>);

impl OneModel {
    pub fn check(
        &mut self,
        record: Decoded,
        path: &Path,
        line: u64,
    ) -> Result<Prediction, ReadError> {
        let expected = self.0.get_or_insert_with(|| record.model.clone());
        if *expected == record.model {
            return Ok(record.prediction);
        }
        Err(ReadError::OtherModel {
            path: path.into(),
            line,
            found: record.model,
            expected: expected.clone(),
        })
    }
}

/// The predictions on the whole lines of a JSONL or CSV file, or of a Parquet file's journal.
pub(super) struct LineReader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    format: Format,
    taxonomy: &'a Taxonomy,
    model: OneModel,
    buffer: Vec<u8>,
    line: u64,
    whole_bytes: u64,
    cut_off: Option<u64>,
}

impl<'a> LineReader<'a> {
    pub fn open(
        path: &'a Path,
        format: Format,
        taxonomy: &'a Taxonomy,
        model: OneModel,
    ) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path,
            file: BufReader::new(file),
            format,
            taxonomy,
            model,
            buffer: Vec::new(),
            line: 0,
            whole_bytes: 0,
            cut_off: None,
        })
    }

    /// How many bytes the whole lines read so far take, CSV's header included.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// The number of the last line, once it was met and found to have no end.
    pub fn cut_off(&self) -> Option<u64> {
        self.cut_off
    }

    fn read(&mut self) -> Result<Option<Prediction>, ReadError> {
        loop {
            self.buffer.clear();
            let length = self
                .file
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| ReadError::Io {
                    path: self.path.into(),
                    source,
                })?;
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            let line = &self.buffer;
            let whole = line.ends_with(b"\n");
            let record = match self.format {
                Format::Csv if self.line == 1 => {
                    csv::decode_header(line, self.taxonomy).map(|()| None)
                }
                Format::Csv => csv::decode(line, self.taxonomy).map(Some),
                Format::Jsonl | Format::Parquet => jsonl::decode(line, self.taxonomy).map(Some),
            };
            let prediction = match record {
                Ok(Some(record)) => Some(self.model.check(record, self.path, self.line)?),
                Ok(None) => None,
                Err(Undecodable { cut_off: true, .. }) if !whole => None,
                Err(Undecodable { reason, .. }) => {
                    return Err(ReadError::Record {
                        path: self.path.into(),
                        line: self.line,
                        reason,
                    });
                }
            };
            if !whole {
                self.cut_off = Some(self.line);
                return Ok(None);
            }
            self.whole_bytes += length as u64;
            if prediction.is_some() {
                return Ok(prediction);
            }
        }
    }
}

impl Iterator for LineReader<'_> {
    type Item = Result<Prediction, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::fixture::{MODEL, predictions, taxonomy};

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<Prediction>, ReadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read_predictions(&path, &taxonomy())
    }

    #[test]
    fn a_file_that_is_cut_off_is_not_taken_for_a_whole_one() {
        let mut lines = Vec::new();
        crate::prediction::write::write_jsonl(&mut lines, &predictions(), &taxonomy(), MODEL)
            .unwrap();
        let error = read("a.jsonl", &lines[..lines.len() - 30])
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("a.jsonl:4: the file is cut off here; --resume completes it"),
            "{error}"
        );
    }

    #[test]
    fn files_of_two_models_are_refused() {
        let mut lines = Vec::new();
        for model in ["first", "second"] {
            crate::prediction::write::write_jsonl(&mut lines, &predictions(), &taxonomy(), model)
                .unwrap();
        }
        let error = read("a.jsonl", &lines).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl:5: predicted by second, not by first"),
            "{error}"
        );
    }

    #[test]
    fn the_models_name_comes_with_the_predictions() {
        let (folder, taxonomy) = (tempfile::tempdir().unwrap(), taxonomy());
        for name in ["a.jsonl", "a.csv", "a.parquet"] {
            let path = folder.path().join(name);
            let mut writer = crate::prediction::write::PredictionWriter::create(
                &path,
                &taxonomy,
                MODEL,
                crate::prediction::write::Mode::Create,
            )
            .unwrap();
            writer.append(&predictions()).unwrap();
            writer.finish().unwrap();
            let file = read_prediction_file(&path, &taxonomy).unwrap();
            assert_eq!(file.model.as_deref(), Some(MODEL), "{name}");
            assert_eq!(file.predictions, predictions(), "{name}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_predictions(Path::new("nowhere/a.csv"), &taxonomy()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read nowhere/a.csv: "));
    }
}
