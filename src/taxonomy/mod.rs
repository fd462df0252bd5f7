//! The heads and labels of a classifier, as data: `training-data/taxonomy.toml` and the copy in
//! each model bundle.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

mod from_labels;

pub use from_labels::LabelNames;

/// Heads in the order they are decided: a head may depend only on one before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Taxonomy {
    pub heads: Vec<Head>,
}

/// One question asked of an issue, such as its `kind`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Head {
    pub name: String,
    pub title: String,
    pub definition: String,
    /// `None`: the head applies to every issue.
    pub applies_when: Option<Condition>,
    pub labels: Vec<Label>,
    /// Names that the head had in older annotations and models.
    pub was: Vec<String>,
    /// Labels of older annotations and models that are no more: an annotation with one of them says
    /// nothing of this head.
    pub removed: Vec<String>,
}

/// Where in another taxonomy a head comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The head's index there.
    pub head: usize,
    /// By label, the labels there that it continues: none for a new one, several for a merged one.
    pub labels: Vec<Vec<usize>>,
}

/// What a label's name in an annotation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The label at this index.
    Label(usize),
    /// A label that was removed or split: nothing that still counts.
    Gone,
}

/// A head applies where the head at index `head` has one of `labels` (indices into its labels).
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub head: usize,
    pub labels: Vec<usize>,
}

/// One answer to a head's question.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    pub name: String,
    pub title: String,
    pub definition: String,
    /// Rules of the codebook that decide between this label and its neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Labels of older annotations and models that this one stands for: one that was renamed, or
    /// several that were merged.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "names"
    )]
    pub was: Vec<String>,
}

/// One name or a list of them.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a name or a list of names is wanted")]
    enum Names {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Names::deserialize(from)? {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    })
}

/// What files write where a head does not apply.
pub const NONE: &str = "none";

/// Names that stand beside the heads in files of issues, annotations and predictions.
const FIELDS: [&str; 24] = [
    "repo",
    "number",
    "title",
    "body",
    "state",
    "labels",
    "created_at",
    "closed_at",
    "html_url",
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
    "abstained",
    "model",
    "probability",
    "distribution",
    "heads",
];

/// Why a taxonomy cannot be used. `origin` is the file the text came from.
#[derive(Debug, thiserror::Error)]
pub enum TaxonomyError {
    #[error("{}: {source}; give the path of a taxonomy such as training-data/taxonomy.toml", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{origin}:{line}: {message}; see training-data/taxonomy.toml for the form")]
    Syntax {
        origin: String,
        line: usize,
        message: String,
    },
    #[error("{origin}: {problem}")]
    Invalid { origin: String, problem: Problem },
}

/// What is wrong with a taxonomy that is well-formed TOML, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("there is no head; declare at least one [[heads]]")]
    NoHead,
    #[error("the name {name:?} of a {what} is not made of a-z, 0-9 and _; rename it")]
    Name { what: &'static str, name: String },
    #[error("head {head} has the name of a field that files hold beside the heads; rename it")]
    FieldName { head: String },
    #[error("head {head} is declared twice; rename or remove one")]
    DuplicateHead { head: String },
    #[error(
        "the labels {first:?} and {second:?} are both {name} in files; make them differ in more than case and punctuation"
    )]
    SameSlug {
        first: String,
        second: String,
        name: String,
    },
    #[error("head {head} has {labels} label(s); a head needs at least two [[heads.labels]]")]
    TooFewLabels { head: String, labels: usize },
    #[error(
        "head {head} has a label none, which files keep for a head that does not apply; rename it"
    )]
    NoneLabel { head: String },
    #[error("head {head} has the label {label} twice; rename or remove one")]
    DuplicateLabel { head: String, label: String },
    #[error(
        "head {head} has the label {label} among its labels and in removed; drop one of the two"
    )]
    NotRemoved { head: String, label: String },
    #[error("head {head} applies when {on:?}, which is no head; name one of the heads before it")]
    UnknownCondition { head: String, on: String },
    #[error("head {head} applies when {on}, which is not declared before it; move {on} up")]
    LaterCondition { head: String, on: String },
    #[error(
        "head {head} applies when {on} = {label:?}, which is no label of {on}: name one of {allowed}"
    )]
    UnknownConditionLabel {
        head: String,
        on: String,
        label: String,
        allowed: String,
    },
    #[error("head {head} applies for no label of {on}; name at least one in applies_when.labels")]
    EmptyCondition { head: String, on: String },
}

/// The taxonomy as its file has it, where heads and labels go by name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaxonomyFile {
    #[serde(default)]
    heads: Vec<HeadFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadFile {
    name: String,
    title: String,
    definition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    applies_when: Option<ConditionFile>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "names"
    )]
    was: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "names"
    )]
    removed: Vec<String>,
    #[serde(default)]
    labels: Vec<Label>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionFile {
    head: String,
    labels: Vec<String>,
}

impl Taxonomy {
    /// Reads and checks the taxonomy in the file at `path`.
    ///
    /// # Errors
    /// Fails if the file cannot be read, is not a taxonomy in TOML, or breaks a rule of [`Problem`].
    pub fn from_path(path: &Path) -> Result<Self, TaxonomyError> {
        let text = fs::read_to_string(path).map_err(|source| TaxonomyError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text, &path.display().to_string())
    }

    /// Parses and checks a taxonomy; errors name `origin` as the place of `text`.
    ///
    /// # Errors
    /// Fails if `text` is not a taxonomy in TOML or breaks a rule of [`Problem`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, TaxonomyError> {
        let file: TaxonomyFile = toml::from_str(text).map_err(|error| TaxonomyError::Syntax {
            origin: origin.to_owned(),
            line: 1 + error
                .span()
                .map_or(0, |span| text[..span.start].matches('\n').count()),
            message: error.message().replace('\n', ", "),
        })?;
        Self::check(file).map_err(|problem| TaxonomyError::Invalid {
            origin: origin.to_owned(),
            problem,
        })
    }

    fn check(file: TaxonomyFile) -> Result<Self, Problem> {
        if file.heads.is_empty() {
            return Err(Problem::NoHead);
        }
        let names: Vec<String> = file.heads.iter().map(|head| head.name.clone()).collect();
        let mut taxonomy = Taxonomy { heads: Vec::new() };
        for file in file.heads {
            let head = taxonomy.check_head(file, &names)?;
            taxonomy.heads.push(head);
        }
        Ok(taxonomy)
    }

    /// Checks a head against the heads before it, which are already in `self`.
    fn check_head(&self, file: HeadFile, names: &[String]) -> Result<Head, Problem> {
        check_name("head", &file.name)?;
        let head = file.name.clone();
        if FIELDS.contains(&head.as_str()) {
            return Err(Problem::FieldName { head });
        }
        if self.head_index(&head).is_some() {
            return Err(Problem::DuplicateHead { head });
        }
        let labels = file.labels.len();
        if labels < 2 {
            return Err(Problem::TooFewLabels { head, labels });
        }
        for (index, label) in file.labels.iter().enumerate() {
            check_name("label", &label.name)?;
            if label.name == NONE {
                return Err(Problem::NoneLabel { head });
            }
            if file.labels[..index].iter().any(|l| l.name == label.name) {
                let label = label.name.clone();
                return Err(Problem::DuplicateLabel { head, label });
            }
        }
        if let Some(label) = file
            .removed
            .iter()
            .find(|name| file.labels.iter().any(|l| l.name == **name))
        {
            let label = label.clone();
            return Err(Problem::NotRemoved { head, label });
        }
        let applies_when = file
            .applies_when
            .map(|condition| self.check_condition(&head, condition, names))
            .transpose()?;
        Ok(Head {
            name: file.name,
            title: file.title,
            definition: file.definition,
            applies_when,
            labels: file.labels,
            was: file.was,
            removed: file.removed,
        })
    }

    fn check_condition(
        &self,
        head: &str,
        condition: ConditionFile,
        names: &[String],
    ) -> Result<Condition, Problem> {
        let (head, on) = (head.to_owned(), condition.head);
        let Some(index) = self.head_index(&on) else {
            return Err(if names.contains(&on) {
                Problem::LaterCondition { head, on }
            } else {
                Problem::UnknownCondition { head, on }
            });
        };
        if condition.labels.is_empty() {
            return Err(Problem::EmptyCondition { head, on });
        }
        let labels = condition.labels.into_iter().map(|label| {
            self.heads[index]
                .label_index(&label)
                .ok_or_else(|| Problem::UnknownConditionLabel {
                    head: head.clone(),
                    on: on.clone(),
                    label,
                    allowed: self.heads[index].label_names(),
                })
        });
        Ok(Condition {
            head: index,
            labels: labels.collect::<Result<_, _>>()?,
        })
    }

    /// The taxonomy as TOML, which [`Taxonomy::from_toml`] reads back unchanged. Comments of the
    /// file it came from are lost.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(&self.file()).expect("tables of strings are always TOML")
    }

    fn file(&self) -> TaxonomyFile {
        let heads = self.heads.iter().map(|head| HeadFile {
            name: head.name.clone(),
            title: head.title.clone(),
            definition: head.definition.clone(),
            applies_when: head.applies_when.as_ref().map(|condition| {
                let on = &self.heads[condition.head];
                ConditionFile {
                    head: on.name.clone(),
                    labels: condition
                        .labels
                        .iter()
                        .map(|&label| on.labels[label].name.clone())
                        .collect(),
                }
            }),
            labels: head.labels.clone(),
            was: head.was.clone(),
            removed: head.removed.clone(),
        });
        TaxonomyFile {
            heads: heads.collect(),
        }
    }

    /// The index of the head called `name`.
    pub fn head_index(&self, name: &str) -> Option<usize> {
        self.heads.iter().position(|head| head.name == name)
    }

    /// Whether `head` applies to an issue whose earlier heads are labelled `labels`
    /// (one entry a head, `None` where a head does not apply).
    pub fn applies(&self, head: usize, labels: &[Option<usize>]) -> bool {
        match &self.heads[head].applies_when {
            None => true,
            Some(condition) => {
                labels[condition.head].is_some_and(|label| condition.labels.contains(&label))
            }
        }
    }

    /// The name of a head's label in files, [`NONE`] where the head does not apply.
    pub fn label_name(&self, head: usize, label: Option<usize>) -> &str {
        label.map_or(NONE, |label| &self.heads[head].labels[label].name)
    }
}

impl Head {
    /// The index of the label called `name`; [`NONE`] is no label.
    pub fn label_index(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label.name == name)
    }

    /// The names by which annotations and models may call the head, the present one first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name)
            .chain(&self.was)
            .map(String::as_str)
    }

    /// What an annotation means by `name`, which may be a name of old; `None` if it is no name.
    pub fn meaning(&self, name: &str) -> Option<Meaning> {
        if let Some(label) = self.label_index(name) {
            return Some(Meaning::Label(label));
        }
        let mut heirs = (0..self.labels.len())
            .filter(|&label| self.labels[label].was.iter().any(|was| was == name));
        match (heirs.next(), heirs.next()) {
            (Some(label), None) => Some(Meaning::Label(label)),
            (Some(_), Some(_)) => Some(Meaning::Gone),
            (None, _) => self
                .removed
                .iter()
                .any(|r| r == name)
                .then_some(Meaning::Gone),
        }
    }

    /// The names of the labels, joined by commas, for messages.
    pub(crate) fn label_names(&self) -> String {
        let names: Vec<&str> = self.labels.iter().map(|l| l.name.as_str()).collect();
        names.join(", ")
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.is_empty() && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Problem::Name {
        what,
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests;
