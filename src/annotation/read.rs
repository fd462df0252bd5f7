//! Annotations from JSONL, checked against the taxonomy they are labelled under.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Annotation, Confidence};
use crate::issue::{IssueId, is_github_repo};
use crate::taxonomy::{Head, Meaning, NONE, Taxonomy};

/// The fields a line may hold beside the heads.
const FIELDS: [&str; 12] = [
    "repo",
    "number",
    "confidence",
    "annotator",
    "first",
    "second",
    "adjudicated",
    "note",
    "suggested",
    "revises",
    "withdrawn",
    "weight",
];

/// Problems shown by an error's message; the error holds all.
const SHOWN: usize = 20;

/// Why a file of annotations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationError {
    #[error("{}: {source}; give the path of a JSONL file of annotations", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Every problem of the file, in the order of its lines. The message has a line for each of the
    /// first 20.
    #[error("{}", listed(path, problems))]
    Invalid {
        path: PathBuf,
        problems: Vec<Problem>,
    },
}

/// What is wrong with a line, counted from 1, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    pub message: String,
}

fn listed(path: &Path, problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems
        .iter()
        .take(SHOWN)
        .map(|problem| format!("{}:{}: {}", path.display(), problem.line, problem.message))
        .collect();
    if problems.len() > SHOWN {
        lines.push(format!("… and {} more", problems.len() - SHOWN));
    }
    lines.join("\n")
}

/// Reads the annotations in the JSONL file at `path`, in its order. Empty lines are skipped.
///
/// A line is `{"repo": "owner/name", "number": 1, HEAD: LABEL, …}` with the heads of the taxonomy
/// (see [`Coverage`]), under their names or those that they had (`was`), [`NONE`] exactly where one does
/// not apply, and optionally `confidence` (`high` or `low`),
/// `annotator`, `first` and `second` (objects of head and label), `adjudicated`, `note`, `suggested`
/// and `weight` (above 0).
///
/// An issue has one line. A file that is only ever appended to changes its mind by later lines:
/// `"revises": true` beside labels lets them replace those before, and
/// `{"repo", "number", "withdrawn": true}` takes the issue's last line back, so that the line before
/// counts again, or none.
///
/// # Errors
/// Fails if the file cannot be read or any line is wrong, with every problem of every line.
pub fn read_annotations(
    path: &Path,
    taxonomy: &Taxonomy,
    coverage: Coverage,
) -> Result<Vec<Annotation>, AnnotationError> {
    let text = fs::read(path).map_err(|source| AnnotationError::Read {
        path: path.to_owned(),
        source,
    })?;
    let lines = parse(&text, taxonomy, coverage).map_err(|problems| AnnotationError::Invalid {
        path: path.to_owned(),
        problems,
    })?;
    Ok(super::merge(vec![lines]).annotations)
}

/// The lines of a file that are not withdrawn, in its order: of an issue the last counts.
///
/// # Errors
/// Every problem of every line.
pub(crate) fn parse(
    text: &[u8],
    taxonomy: &Taxonomy,
    coverage: Coverage,
) -> Result<Vec<Annotation>, Vec<Problem>> {
    let mut lines: Vec<Option<Annotation>> = Vec::new();
    let mut problems = Vec::new();
    // By issue, its lines that count: their numbers, and their places in `lines`.
    let mut seen: Seen = HashMap::new();
    for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let mut record = Record {
            taxonomy,
            coverage,
            line,
            problems: &mut problems,
        };
        match record.entry(text, &mut seen, lines.len()) {
            Some(Entry::Labels(annotation)) => lines.push(Some(annotation)),
            Some(Entry::Withdrawn(place)) => lines[place] = None,
            // There is a problem: nothing is returned. The place is kept for `seen`.
            None => lines.push(None),
        }
    }
    if problems.is_empty() {
        return Ok(lines.into_iter().flatten().collect());
    }
    Err(problems)
}

type Seen = HashMap<IssueId, Vec<(usize, usize)>>;

/// What a line says.
enum Entry {
    Labels(Annotation),
    /// The line at this place no longer counts.
    Withdrawn(usize),
}

/// Which heads an annotation has to speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All of the taxonomy's.
    AllHeads,
    /// Any: of a head that an annotation does not name, or for which it has a label that the taxonomy
    /// has removed, it says nothing.
    SomeHeads,
}

/// What an annotation says of the heads, as [`Annotation`] has it.
struct Labels {
    labels: Vec<Option<usize>>,
    unlabelled: Vec<usize>,
}

/// One line on its way to an annotation. Each part that is wrong adds a problem and is `None`.
struct Record<'a> {
    taxonomy: &'a Taxonomy,
    coverage: Coverage,
    line: usize,
    problems: &'a mut Vec<Problem>,
}

impl Record<'_> {
    fn problem(&mut self, message: impl fmt::Display) {
        self.problems.push(Problem {
            line: self.line,
            message: message.to_string(),
        });
    }

    /// What a line says, which is to stand at `place`. What is returned is of use only if no problem
    /// was added.
    fn entry(&mut self, text: &[u8], seen: &mut Seen, place: usize) -> Option<Entry> {
        let fields: Map<String, Value> = match serde_json::from_slice(text) {
            Ok(fields) => fields,
            Err(error) => {
                let reason = error.to_string();
                // serde_json counts lines too, but within this one.
                let reason = reason.split(" at line ").next().unwrap_or_default();
                let column = error.column();
                self.problem(format_args!(
                    "not a JSON object, column {column}: {reason}; write one annotation a line"
                ));
                return None;
            }
        };
        self.known_keys("", &fields, &FIELDS);
        let id = self.id(&fields);
        let revises = self.flag(&fields, "revises");
        if self.flag(&fields, "withdrawn") {
            let id = id?;
            let last = seen.get_mut(&id).and_then(Vec::pop);
            if last.is_none() {
                self.problem(format_args!(
                    "{id} has no line before that could be withdrawn; remove this one"
                ));
            }
            return last.map(|(_, place)| Entry::Withdrawn(place));
        }
        if let Some(id) = &id {
            let lines = seen.entry(id.clone()).or_default();
            if let Some((first, _)) = lines.last()
                && !revises
            {
                self.problem(format_args!(
                    "{id} is annotated on line {first} already; keep one of the two, or add \
                     \"revises\": true to this one"
                ));
            }
            lines.push((self.line, place));
        }
        let labels = self.labels("", &fields);
        let confidence = self.confidence(&fields);
        let annotator = self.text(&fields, "annotator");
        let readings = self.readings(&fields);
        let adjudicated = self.flag(&fields, "adjudicated");
        let note = self.text(&fields, "note");
        let suggested = self.flag(&fields, "suggested");
        let weight = self.weight(&fields);
        let Labels { labels, unlabelled } = labels?;
        Some(Entry::Labels(Annotation {
            id: id?,
            labels,
            unlabelled,
            confidence,
            annotator,
            readings,
            adjudicated,
            note,
            suggested,
            weight,
        }))
    }

    fn known_keys(&mut self, place: &str, fields: &Map<String, Value>, known: &[&str]) {
        let heads: Vec<&str> = self.taxonomy.heads.iter().flat_map(Head::names).collect();
        for key in fields.keys() {
            if !heads.contains(&key.as_str()) && !known.contains(&key.as_str()) {
                let expected = [&heads, known].concat().join(", ");
                self.problem(format_args!(
                    "{place}unknown key {key:?}; correct it to one of {expected}, or remove it"
                ));
            }
        }
    }

    fn id(&mut self, fields: &Map<String, Value>) -> Option<IssueId> {
        let repo = fields.get("repo").and_then(Value::as_str);
        let repo = repo.filter(|repo| is_github_repo(repo));
        if repo.is_none() {
            self.problem("repo must be a repository's \"owner/name\"; correct it");
        }
        let number = fields.get("number").and_then(Value::as_u64);
        let number = number.filter(|&number| number > 0);
        if number.is_none() {
            self.problem("number must be an issue's number, 1 or more without quotes; correct it");
        }
        Some(IssueId {
            repo: repo?.to_owned(),
            number: number?,
        })
    }

    /// The label of each head, `None` where the head does not apply, and the heads of which nothing
    /// is said. `place` begins the messages.
    fn labels(&mut self, place: &str, fields: &Map<String, Value>) -> Option<Labels> {
        let taxonomy = self.taxonomy;
        // The outer `None` is a label that could not be read, or that is not there.
        let mut labels: Vec<Option<Option<usize>>> = Vec::new();
        let mut unlabelled = Vec::new();
        let mut readable = true;
        for (index, head) in taxonomy.heads.iter().enumerate() {
            let (name, allowed) = (&head.name, head.label_names());
            let label = match head.names().find_map(|name| fields.get(name)) {
                Some(Value::String(label)) if label == NONE => Some(None),
                Some(Value::String(label)) => match head.meaning(label) {
                    Some(Meaning::Label(label)) => Some(Some(label)),
                    Some(Meaning::Gone) if self.coverage == Coverage::SomeHeads => {
                        unlabelled.push(index);
                        None
                    }
                    Some(Meaning::Gone) | None => {
                        readable = false;
                        self.problem(format_args!(
                            "{place}{label:?} is no label of {name}; use one of {allowed}"
                        ));
                        None
                    }
                },
                Some(_) => {
                    readable = false;
                    self.problem(format_args!(
                        "{place}{name} must be a string, one of {allowed}"
                    ));
                    None
                }
                None if self.coverage == Coverage::SomeHeads => {
                    unlabelled.push(index);
                    None
                }
                None => {
                    readable = false;
                    self.problem(format_args!(
                        "{place}{name} is missing; give one of {allowed}, or {NONE} where it does not apply"
                    ));
                    None
                }
            };
            if let Some(label) = label {
                self.applicable(place, &labels, label);
            }
            labels.push(label);
        }
        readable.then(|| Labels {
            labels: labels.into_iter().map(Option::flatten).collect(),
            unlabelled,
        })
    }

    /// Checks that the head after those of `earlier` has a label just where it applies, as far as
    /// the earlier labels tell.
    fn applicable(&mut self, place: &str, earlier: &[Option<Option<usize>>], label: Option<usize>) {
        let taxonomy = self.taxonomy;
        let head = &taxonomy.heads[earlier.len()];
        let (name, allowed) = (&head.name, head.label_names());
        let Some(condition) = &head.applies_when else {
            if label.is_none() {
                self.problem(format_args!(
                    "{place}{name} applies to every issue and cannot be {NONE}; use one of {allowed}"
                ));
            }
            return;
        };
        let Some(on) = earlier[condition.head] else {
            return;
        };
        let on_name = &taxonomy.heads[condition.head].name;
        let on_label = taxonomy.label_name(condition.head, on);
        let labels: Vec<Option<usize>> = earlier.iter().map(|label| label.flatten()).collect();
        let applies = taxonomy.applies(earlier.len(), &labels);
        if applies && label.is_none() {
            self.problem(format_args!(
                "{place}{name} is {NONE} though {on_name} is {on_label}; use one of {allowed}"
            ));
        } else if !applies && label.is_some() {
            let label = taxonomy.label_name(earlier.len(), label);
            self.problem(format_args!(
                "{place}{name} is {label} though {on_name} is {on_label}; make it {NONE} or correct {on_name}"
            ));
        }
    }

    fn weight(&mut self, fields: &Map<String, Value>) -> Option<f64> {
        let value = fields.get("weight")?;
        let weight = value.as_f64().filter(|weight| *weight > 0.0);
        if weight.is_none() {
            self.problem(format_args!(
                "weight is {value}; make it a number above 0, or leave it out"
            ));
        }
        weight
    }

    fn confidence(&mut self, fields: &Map<String, Value>) -> Option<Confidence> {
        let value = fields.get("confidence")?;
        let confidence = match value.as_str() {
            Some("high") => Some(Confidence::High),
            Some("low") => Some(Confidence::Low),
            _ => None,
        };
        if confidence.is_none() {
            self.problem(format_args!(
                "confidence is {value}; make it \"high\" or \"low\", or leave it out"
            ));
        }
        confidence
    }

    fn text(&mut self, fields: &Map<String, Value>, name: &str) -> Option<String> {
        let text = fields.get(name)?.as_str();
        if text.is_none() {
            self.problem(format_args!(
                "{name} must be a string; correct it or leave it out"
            ));
        }
        text.map(str::to_owned)
    }

    fn readings(&mut self, fields: &Map<String, Value>) -> Vec<Vec<Option<usize>>> {
        if fields.contains_key("first") != fields.contains_key("second") {
            self.problem("first and second go together; give both readings or neither");
        }
        let mut readings = Vec::new();
        for name in ["first", "second"] {
            match fields.get(name) {
                None => {}
                Some(Value::Object(reading)) => {
                    let place = format!("{name}: ");
                    self.known_keys(&place, reading, &[]);
                    readings.extend(self.labels(&place, reading).map(|reading| reading.labels));
                }
                Some(_) => self.problem(format_args!(
                    "{name} must be an object with a label for each head; correct it"
                )),
            }
        }
        readings
    }

    fn flag(&mut self, fields: &Map<String, Value>, name: &str) -> bool {
        let Some(value) = fields.get(name) else {
            return false;
        };
        let flag = value.as_bool();
        if flag.is_none() {
            self.problem(format_args!(
                "{name} must be true or false; correct it or leave it out"
            ));
        }
        flag.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests;
