//! What a model says of issues, whichever way it comes.

use std::collections::HashMap;
use std::path::Path;

use super::{EvalError, class};
use crate::issue::IssueId;
use crate::prediction::Prediction;
use crate::prediction::labels::{GivenLabel, LabelFile, has_labels_only, read_labels};
use crate::prediction::read::read_prediction_file;
use crate::taxonomy::Taxonomy;

/// A file of labels more than this part of whose rows have an unknown one is of another taxonomy.
const MOST_UNKNOWN: f64 = 0.5;

/// The answers of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// What reports call the model.
    pub name: String,
    /// What the predictions say made them.
    pub model: Option<String>,
    /// The taxonomy's heads that it answers, ascending.
    pub heads: Vec<usize>,
    pub issues: Vec<IssueAnswers>,
    /// Issues whose answers cannot be used, and why.
    pub unusable: Vec<(IssueId, String)>,
}

/// The answers to one issue.
#[derive(Debug, Clone, PartialEq)]
pub struct IssueAnswers {
    pub id: IssueId,
    /// An entry a head of the taxonomy; `None` just for heads that are not among [`Answers::heads`].
    pub heads: Vec<Option<Answer>>,
}

/// One head's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The label's index; that after the last label is "does not apply".
    pub class: usize,
    /// The probability of each class; `None` for a model that gives labels only.
    pub distribution: Option<Vec<f32>>,
    /// The model would rather not have said.
    pub abstained: bool,
}

impl Answers {
    /// The answers in a file: predictions as this crate writes them, or JSONL or CSV of labels only
    /// ([`read_labels`]).
    ///
    /// # Errors
    /// The file cannot be read, or it is of another taxonomy: predictions with any other heads or
    /// labels, labels if more than half of the rows have an unknown one.
    pub fn read(path: &Path, name: String, taxonomy: &Taxonomy) -> Result<Self, EvalError> {
        if !has_labels_only(path)? {
            let file = read_prediction_file(path, taxonomy)?;
            return Ok(Self::from_predictions(
                name,
                file.model,
                file.predictions,
                taxonomy,
            ));
        }
        let file = read_labels(path, taxonomy)?;
        let unknown = |labels: &[GivenLabel]| {
            file.heads
                .iter()
                .zip(labels)
                .find_map(|(&head, label)| match label {
                    GivenLabel::Unknown(label) => Some((head, label.clone())),
                    _ => None,
                })
        };
        let unknown: Vec<_> = file
            .rows
            .iter()
            .filter_map(|row| unknown(&row.labels))
            .collect();
        match unknown.first() {
            Some((head, label)) if unknown.len() as f64 > MOST_UNKNOWN * file.rows.len() as f64 => {
                Err(EvalError::OtherTaxonomy {
                    path: path.to_owned(),
                    unknown: unknown.len(),
                    rows: file.rows.len(),
                    head: taxonomy.heads[*head].name.clone(),
                    label: label.clone(),
                })
            }
            _ => Ok(Self::from_labels(name, file, taxonomy)),
        }
    }

    /// Predictions of one model, which answers every head.
    pub fn from_predictions(
        name: String,
        model: Option<String>,
        predictions: Vec<Prediction>,
        taxonomy: &Taxonomy,
    ) -> Self {
        let issues = predictions.into_iter().map(|prediction| IssueAnswers {
            id: prediction.id,
            heads: (0..)
                .zip(prediction.heads)
                .map(|(head, answer)| {
                    Some(Answer {
                        class: class(taxonomy, head, answer.label),
                        distribution: Some(answer.distribution),
                        abstained: answer.abstained,
                    })
                })
                .collect(),
        });
        Self {
            name,
            model,
            heads: (0..taxonomy.heads.len()).collect(),
            issues: issues.collect(),
            unusable: Vec::new(),
        }
    }

    fn from_labels(name: String, file: LabelFile, taxonomy: &Taxonomy) -> Self {
        let (mut issues, mut unusable) = (Vec::new(), Vec::new());
        for row in file.rows {
            let mut heads = vec![None; taxonomy.heads.len()];
            let mut problem = None;
            for (&head, label) in file.heads.iter().zip(row.labels) {
                let name = &taxonomy.heads[head].name;
                match label {
                    GivenLabel::Label(label) => {
                        heads[head] = Some(Answer {
                            class: class(taxonomy, head, label),
                            distribution: None,
                            abstained: false,
                        });
                    }
                    GivenLabel::Missing => problem = Some(format!("predictions without {name}")),
                    GivenLabel::Unknown(label) => {
                        problem = Some(format!("predictions of {label:?}, no label of {name}"));
                    }
                }
            }
            match problem {
                None => issues.push(IssueAnswers { id: row.id, heads }),
                Some(problem) => unusable.push((row.id, problem)),
            }
        }
        Self {
            name,
            model: file.model,
            heads: file.heads,
            issues,
            unusable,
        }
    }

    /// The place of each issue among `issues`.
    pub(super) fn places(&self) -> Result<HashMap<&IssueId, usize>, EvalError> {
        let answered = self.issues.iter().map(|issue| &issue.id);
        let unusable = self.unusable.iter().map(|(id, _)| id);
        let mut places = HashMap::new();
        for (place, id) in answered.chain(unusable).enumerate() {
            if places.insert(id, place).is_some() {
                return Err(EvalError::Duplicate {
                    name: self.name.clone(),
                    issue: id.clone(),
                });
            }
        }
        places.retain(|_, place| *place < self.issues.len());
        Ok(places)
    }
}

/// A model's answers beside the gold issues.
pub(super) struct Aligned<'a> {
    pub answers: &'a Answers,
    /// Of each gold issue, the place among the answers.
    pub places: Vec<Option<usize>>,
}

impl Aligned<'_> {
    /// The answer to a head of the gold issue at index `issue`.
    pub fn answer(&self, issue: usize, head: usize) -> Option<&Answer> {
        self.answers.issues[self.places[issue]?].heads[head].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::fixture::taxonomy;
    use crate::prediction::fixture::{MODEL, predictions};
    use crate::prediction::write::{Mode, PredictionWriter};

    fn read(name: &str, text: &str) -> Result<Answers, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Answers::read(&path, "m".into(), &taxonomy())
    }

    #[test]
    fn a_file_of_predictions_gives_the_answers_of_the_predictions() {
        let (folder, taxonomy) = (tempfile::tempdir().unwrap(), taxonomy());
        for name in ["a.jsonl", "a.csv", "a.parquet"] {
            let path = folder.path().join(name);
            let mut writer =
                PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Create).unwrap();
            writer.append(&predictions()).unwrap();
            writer.finish().unwrap();
            let read = Answers::read(&path, "m".into(), &taxonomy).unwrap();
            let model = Some(MODEL.to_owned());
            let expected = Answers::from_predictions("m".into(), model, predictions(), &taxonomy);
            assert_eq!(read, expected, "{name}");
            assert_eq!(expected.issues[1].heads[2].as_ref().unwrap().class, 1);
            assert!(expected.issues[1].heads[2].as_ref().unwrap().abstained);
            assert_eq!(
                expected.issues[2].heads[1].as_ref().unwrap().class,
                2,
                "none is last"
            );
        }
    }

    #[test]
    fn rows_without_a_known_label_are_put_aside_with_the_reason() {
        let csv = "repo,number,kind\na/b,1,bug\na/b,2,Bug\na/b,3,\na/b,4,feature\n";
        let answers = read("a.csv", csv).unwrap();
        assert_eq!(
            (answers.heads.as_slice(), answers.issues.len()),
            ([0].as_slice(), 2)
        );
        let unusable: Vec<_> = answers
            .unusable
            .iter()
            .map(|(id, why)| (id.number, why.as_str()))
            .collect();
        assert_eq!(
            unusable,
            [
                (2, "predictions of \"Bug\", no label of kind"),
                (3, "predictions without kind")
            ]
        );
    }

    #[test]
    fn a_file_of_mostly_unknown_labels_is_of_another_taxonomy() {
        let csv = "repo,number,kind\na/b,1,defect\na/b,2,defect\na/b,3,feature\n";
        let error = read("a.csv", csv).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "a.csv: 2 of 3 rows have labels that the taxonomy has not, such as \"defect\" for kind; \
                 give the file's own taxonomy with --taxonomy, or rename the labels"
            ),
            "{error}"
        );
    }

    #[test]
    fn predictions_under_another_taxonomy_are_refused() {
        let line = r#"{"repo":"a/b","number":1,"sort":"bug","probability":{"sort":1},"distribution":{"sort":{"bug":1}},"abstained":[],"model":"m"}"#;
        let error = read("a.jsonl", line).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl:1: not a prediction under this taxonomy"),
            "{error}"
        );
    }
}
