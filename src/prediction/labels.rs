//! Labels of issues as any tool may give them: JSONL or CSV without probabilities.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::format::{Format, UnknownFormat};
use super::read::ReadError;
use crate::issue::IssueId;
use crate::taxonomy::{Head, NONE, Taxonomy};

/// What a file of labels holds.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelFile {
    /// What its `model` field or column names; `None` without one.
    pub model: Option<String>,
    /// The taxonomy's heads that the file answers, ascending.
    pub heads: Vec<usize>,
    /// In the file's order.
    pub rows: Vec<LabelRow>,
}

/// One issue's labels.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRow {
    pub id: IssueId,
    /// An entry a head of [`LabelFile::heads`].
    pub labels: Vec<GivenLabel>,
}

/// What a file says of a head.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenLabel {
    /// A label's index; `None`: the head does not apply.
    Label(Option<usize>),
    /// There is no field, or it is empty or null.
    Missing,
    /// It is no label of the head.
    Unknown(String),
}

/// Whether the file's first record has labels only, and no probabilities as predictions of this
/// crate do. Parquet files always have them.
///
/// # Errors
/// The file cannot be read, or its name ends in none of `.jsonl`, `.csv` and `.parquet`.
pub fn has_labels_only(path: &Path) -> Result<bool, ReadError> {
    let format = Format::of(path)?;
    let mut line = Vec::new();
    let mut file = BufReader::new(File::open(path).map_err(|source| io(path, source))?);
    Ok(match format {
        Format::Parquet => false,
        Format::Jsonl => {
            file.read_until(b'\n', &mut line)
                .map_err(|source| io(path, source))?;
            let fields: Result<Map<String, Value>, _> = serde_json::from_slice(&line);
            fields.is_ok_and(|fields| !fields.contains_key("distribution"))
        }
        Format::Csv => {
            let header = csv::Reader::from_reader(file).headers().cloned();
            header.is_ok_and(|header| !header.iter().any(|name| name.ends_with("_probability")))
        }
    })
}

/// Reads a file of labels: JSONL or CSV, with the fields or columns `repo`, `number` and at least one
/// head of the taxonomy. Others are ignored.
///
/// # Errors
/// The file cannot be read, has none of the heads, or a record does not name its issue; labels that
/// the taxonomy does not have are no error but [`GivenLabel::Unknown`].
pub fn read_labels(path: &Path, taxonomy: &Taxonomy) -> Result<LabelFile, ReadError> {
    let records = match Format::of(path)? {
        Format::Jsonl => jsonl_records(path)?,
        Format::Csv => csv_records(path)?,
        Format::Parquet => return Err(UnknownFormat { path: path.into() }.into()),
    };
    let named: BTreeSet<usize> = records
        .iter()
        .flat_map(|(_, fields)| fields.keys())
        .filter_map(|name| taxonomy.head_index(name))
        .collect();
    let heads: Vec<usize> = named.into_iter().collect();
    if heads.is_empty() && !records.is_empty() {
        let names: Vec<_> = taxonomy.heads.iter().map(|h| h.name.as_str()).collect();
        let reason = format!("it has none of the heads {}", names.join(", "));
        return Err(record(path, 1, reason));
    }
    let mut model: Option<String> = None;
    let mut rows = Vec::new();
    for (line, fields) in records {
        if let Some(found) = fields.get("model").filter(|name| !name.is_empty()) {
            let expected = model.get_or_insert_with(|| found.clone());
            if expected != found {
                return Err(ReadError::OtherModel {
                    path: path.into(),
                    line,
                    found: found.clone(),
                    expected: expected.clone(),
                });
            }
        }
        let id = id(&fields).map_err(|reason| record(path, line, reason))?;
        let labels = heads.iter().map(|&head| {
            let head = &taxonomy.heads[head];
            given(head, fields.get(&head.name).map(String::as_str))
        });
        rows.push(LabelRow {
            id,
            labels: labels.collect(),
        });
    }
    Ok(LabelFile { model, heads, rows })
}

/// The text of a record's fields by name, and its line. Fields that are null are left out.
type Fields = (u64, HashMap<String, String>);

fn jsonl_records(path: &Path) -> Result<Vec<Fields>, ReadError> {
    let file = BufReader::new(File::open(path).map_err(|source| io(path, source))?);
    let mut records = Vec::new();
    for (line, text) in (1..).zip(file.split(b'\n')) {
        let text = text.map_err(|source| io(path, source))?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let fields: Map<String, Value> = serde_json::from_slice(&text)
            .map_err(|error| record(path, line, format!("it is not a JSON object: {error}")))?;
        let fields = fields.into_iter().filter_map(|(name, value)| match value {
            Value::Null => None,
            Value::String(text) => Some((name, text)),
            other => Some((name, other.to_string())),
        });
        records.push((line, fields.collect()));
    }
    Ok(records)
}

fn csv_records(path: &Path) -> Result<Vec<Fields>, ReadError> {
    let failed = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        record(path, line, error.to_string())
    };
    let file = File::open(path).map_err(|source| io(path, source))?;
    let mut reader = csv::Reader::from_reader(file);
    let header = reader.headers().map_err(failed)?.clone();
    let records = reader.records().map(|row| {
        let row = row.map_err(failed)?;
        let line = row.position().map_or(0, csv::Position::line);
        let fields = header.iter().zip(&row);
        Ok((
            line,
            fields
                .map(|(name, text)| (name.trim().to_owned(), text.to_owned()))
                .collect(),
        ))
    });
    records.collect()
}

fn id(fields: &HashMap<String, String>) -> Result<IssueId, String> {
    let field = |name: &str| fields.get(name).map(|text| text.trim());
    let repo = field("repo").filter(|repo| repo.contains('/'));
    let number = field("number").and_then(|number| number.parse().ok());
    match (repo, number) {
        (Some(repo), Some(number)) => Ok(IssueId {
            repo: repo.to_owned(),
            number,
        }),
        (None, _) => Err("`repo` must be the repository's owner/name".into()),
        (_, None) => Err("`number` must be the issue's number".into()),
    }
}

fn given(head: &Head, label: Option<&str>) -> GivenLabel {
    match label.map(str::trim).filter(|label| !label.is_empty()) {
        None => GivenLabel::Missing,
        Some(NONE) if head.applies_when.is_some() => GivenLabel::Label(None),
        Some(name) => match head.label_index(name) {
            Some(index) => GivenLabel::Label(Some(index)),
            None => GivenLabel::Unknown(name.to_owned()),
        },
    }
}

fn io(path: &Path, source: std::io::Error) -> ReadError {
    ReadError::Io {
        path: path.into(),
        source,
    }
}

fn record(path: &Path, line: u64, reason: String) -> ReadError {
    ReadError::Record {
        path: path.into(),
        line,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::fixture::{MODEL, predictions, taxonomy};
    use crate::prediction::write::{Mode, PredictionWriter};
    use GivenLabel::{Label, Missing, Unknown};

    fn read(name: &str, text: &str) -> Result<LabelFile, ReadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert!(has_labels_only(&path).unwrap());
        read_labels(&path, &taxonomy())
    }

    fn row(number: u64, labels: Vec<GivenLabel>) -> LabelRow {
        let repo = "a/b".into();
        LabelRow {
            id: IssueId { repo, number },
            labels,
        }
    }

    #[test]
    fn jsonl_and_csv_of_some_heads_are_read() {
        let expected = LabelFile {
            model: Some("rules".into()),
            heads: vec![0, 1],
            rows: vec![
                row(1, vec![Label(Some(0)), Label(Some(1))]),
                row(2, vec![Label(Some(1)), Label(None)]),
                row(3, vec![Label(Some(0)), Missing]),
                row(4, vec![Unknown("none".into()), Unknown("Gpu".into())]),
            ],
        };
        let jsonl = r#"{"repo":"a/b","number":1,"kind":"bug","category":"gpu","model":"rules"}
{"repo":"a/b","number":2,"kind":"feature","category":"none","confidence":0.5}

{"repo":"a/b","number":3,"kind":"bug","category":null,"model":"rules"}
{"repo":"a/b","number":4,"kind":"none","category":"Gpu"}"#;
        assert_eq!(read("a.jsonl", jsonl).unwrap(), expected);
        let csv = "number,category,repo,kind,model,note\n1,gpu,a/b,bug,rules,\n2,none,a/b,feature,,x\n\
                   3,,a/b,bug,rules,\n4, Gpu,a/b,none,,\n";
        assert_eq!(read("a.csv", csv).unwrap(), expected);
    }

    #[test]
    fn files_with_probabilities_are_told_from_those_without() {
        let (folder, taxonomy) = (tempfile::tempdir().unwrap(), taxonomy());
        for name in ["a.jsonl", "a.csv", "a.parquet"] {
            let path = folder.path().join(name);
            let mut writer =
                PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Create).unwrap();
            writer.append(&predictions()).unwrap();
            writer.finish().unwrap();
            assert!(!has_labels_only(&path).unwrap(), "{name}");
        }
    }

    #[test]
    fn a_record_that_names_no_issue_is_named_with_its_line() {
        for (name, text, expected) in [
            (
                "a.jsonl",
                "{\"repo\":\"a/b\",\"number\":1,\"kind\":\"bug\"}\n{\"number\":2,\"kind\":\"bug\"}\n",
                "a.jsonl:2: not a prediction under this taxonomy: `repo` must be",
            ),
            (
                "a.csv",
                "repo,number,kind\na/b,one,bug\n",
                "a.csv:2: not a prediction under this taxonomy: `number` must be",
            ),
            (
                "b.jsonl",
                "{\"repo\":\"a/b\",\"number\":1}\n",
                "it has none of the heads kind, category, root_cause",
            ),
            ("c.csv", "repo,number,kind\na/b,1\n", "c.csv:2: "),
        ] {
            let error = read(name, text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn labels_of_two_models_in_one_file_are_refused() {
        let csv = "repo,number,kind,model\na/b,1,bug,x\na/b,2,bug,y\n";
        let error = read("a.csv", csv).unwrap_err().to_string();
        assert!(
            error.contains("a.csv:3: predicted by y, not by x"),
            "{error}"
        );
    }
}
