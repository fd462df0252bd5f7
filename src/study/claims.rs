//! Statements as data: a study file's claims.
//!
//! ```toml
//! [[claims]]
//! id = "memory-first"
//! text = "Memory management is the first cause of failures."
//! first = "category.memory"
//!
//! [[claims]]
//! id = "gpu-llama-vllm"
//! text = "GPU failures are a larger share in llama.cpp than in vLLM."
//! greater = { label = "category.gpu", in = "ggml-org/llama.cpp", than = "vllm-project/vllm" }
//! ```
//!
//! A claim says one of `first`, `greater`, `at_least`, `at_most`, `rising`, `falling` and `undecidable`
//! (with the reason); `first` goes with `except`, labels that do not compete. Labels are `head.label`, of several labels of a head `head.one|another`; shares are
//! among the issues to which the head applies, or with `within` among those with that label; `in` names
//! one repository.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::question::{Condition, Question};
use crate::taxonomy::Taxonomy;

/// Why a study file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("{}: {source}; give the path of a study file such as eval/study.toml", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {message}; see eval/study.toml for the form", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{}: claim {id}: {problem}", path.display())]
    Claim {
        path: PathBuf,
        id: String,
        problem: String,
    },
}

/// A statement that labels may decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub id: String,
    pub text: String,
    pub form: Form,
    /// One repository; `None`: the whole corpus.
    pub repo: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// The label has the largest share of its head's, those left out excepted.
    First {
        head: usize,
        label: usize,
        except: Vec<usize>,
    },
    /// The share is larger in the claim's repository than in another.
    Greater {
        question: Question,
        than: String,
    },
    /// The first label's share is larger than the second's, of the same head.
    GreaterThanLabel {
        head: usize,
        label: usize,
        than: usize,
    },
    AtLeast {
        question: Question,
        value: f64,
    },
    AtMost {
        question: Question,
        value: f64,
    },
    Rising(Question),
    Falling(Question),
    Undecidable(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    #[serde(default)]
    claims: Vec<ClaimFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimFile {
    id: String,
    text: String,
    first: Option<String>,
    /// With `first`: labels that do not compete.
    except: Option<String>,
    greater: Option<Greater>,
    at_least: Option<Threshold>,
    at_most: Option<Threshold>,
    rising: Option<String>,
    falling: Option<String>,
    undecidable: Option<String>,
    within: Option<String>,
    r#in: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greater {
    label: String,
    r#in: Option<String>,
    /// A repository.
    than: Option<String>,
    than_label: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Threshold {
    label: String,
    share: f64,
}

/// Reads the claims in the study file at `path`.
///
/// # Errors
/// The file cannot be read, is no study file, or a claim is not one of the forms or names a label that the
/// taxonomy does not have.
pub fn read_claims(path: &Path, taxonomy: &Taxonomy) -> Result<Vec<Claim>, ClaimError> {
    let text = std::fs::read_to_string(path).map_err(|source| ClaimError::Read {
        path: path.into(),
        source,
    })?;
    let file: StudyFile = toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        ClaimError::Syntax {
            path: path.into(),
            message: format!("line {line}: {}", error.message().replace('\n', ", ")),
        }
    })?;
    let mut claims: Vec<Claim> = Vec::new();
    for claim in file.claims {
        let id = claim.id.clone();
        let failed = |problem: String| ClaimError::Claim {
            path: path.into(),
            id: id.clone(),
            problem,
        };
        if claims.iter().any(|known| known.id == id) {
            return Err(failed("its id is another claim's too; rename one".into()));
        }
        claims.push(claim.check(taxonomy).map_err(failed)?);
    }
    Ok(claims)
}

impl ClaimFile {
    fn check(self, taxonomy: &Taxonomy) -> Result<Claim, String> {
        let within = self
            .within
            .as_deref()
            .map(|text| condition(text, taxonomy))
            .transpose()?;
        let question = |text: &str| -> Result<Question, String> {
            let label = condition(text, taxonomy)?;
            let of_head = Question::of_label(taxonomy, label.head, label.labels[0]);
            Ok(Question {
                within: within.clone().map_or(of_head.within, |within| vec![within]),
                label,
            })
        };
        let single = |text: &str| -> Result<(usize, usize), String> {
            let found = condition(text, taxonomy)?;
            match (&within, found.labels[..].first(), found.labels.len()) {
                (Some(_), ..) => {
                    Err("`within` goes with at_least, at_most, rising and falling".into())
                }
                (_, Some(&label), 1) => Ok((found.head, label)),
                _ => Err(format!("{text:?} names several labels; name one")),
            }
        };
        let mut repo = self.r#in;
        let mut forms = Vec::new();
        if let Some(text) = &self.first {
            let (head, label) = single(text)?;
            let except = self.except.as_deref().map(|text| condition(text, taxonomy));
            let except = except.transpose()?;
            if except
                .as_ref()
                .is_some_and(|e| e.head != head || e.labels.contains(&label))
            {
                return Err("except names other labels of the same head as first".into());
            }
            let except = except.map_or_else(Vec::new, |except| except.labels);
            forms.push(Form::First {
                head,
                label,
                except,
            });
        }
        if let Some(greater) = &self.greater {
            repo = repo.or(greater.r#in.clone());
            forms.push(match (&greater.than, &greater.than_label) {
                (Some(than), None) if repo.is_some() => Form::Greater {
                    question: question(&greater.label)?,
                    than: than.clone(),
                },
                (None, Some(than)) => {
                    let ((head, label), (other, than)) = (single(&greater.label)?, single(than)?);
                    if head != other {
                        return Err("greater compares labels of one head".into());
                    }
                    Form::GreaterThanLabel { head, label, than }
                }
                _ => {
                    return Err(
                        "greater needs `label` with `in` and `than`, two repositories, or with \
                     `than_label`"
                            .into(),
                    );
                }
            });
        }
        for (threshold, is_least) in [(&self.at_least, true), (&self.at_most, false)] {
            let Some(threshold) = threshold else { continue };
            let (question, value) = (question(&threshold.label)?, threshold.share);
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("share is {value}; make it a number from 0 to 1"));
            }
            forms.push(match is_least {
                true => Form::AtLeast { question, value },
                false => Form::AtMost { question, value },
            });
        }
        forms.extend(
            self.rising
                .as_deref()
                .map(&question)
                .transpose()?
                .map(Form::Rising),
        );
        forms.extend(
            self.falling
                .as_deref()
                .map(&question)
                .transpose()?
                .map(Form::Falling),
        );
        forms.extend(self.undecidable.map(Form::Undecidable));
        match (forms.pop(), forms.is_empty()) {
            (Some(form), true) => Ok(Claim {
                id: self.id,
                text: self.text,
                form,
                repo,
            }),
            _ => Err("it must say exactly one of first, greater, at_least, at_most, rising, falling and \
                 undecidable".into()),
        }
    }
}

/// `head.label` or `head.one|another`.
fn condition(text: &str, taxonomy: &Taxonomy) -> Result<Condition, String> {
    let (head, labels) = text
        .split_once('.')
        .ok_or_else(|| format!("{text:?} is not head.label"))?;
    let place = taxonomy.head_index(head).ok_or_else(|| {
        let heads: Vec<&str> = taxonomy
            .heads
            .iter()
            .map(|head| head.name.as_str())
            .collect();
        format!("{head:?} is no head: name one of {}", heads.join(", "))
    })?;
    let of = &taxonomy.heads[place];
    let labels = labels.split('|').map(|label| {
        of.label_index(label.trim()).ok_or_else(|| {
            let names: Vec<&str> = of.labels.iter().map(|label| label.name.as_str()).collect();
            format!(
                "{label:?} is no label of {head}: name one of {}",
                names.join(", ")
            )
        })
    });
    Ok(Condition {
        head: place,
        labels: labels.collect::<Result<_, _>>()?,
    })
}
