//! How well labels agree with gold annotations, with an interval for every figure.
//!
//! ```text
//! gold annotations ┐
//! answers          ├> evaluate -> Report -> JSON, terminal, Markdown, HTML, check against an earlier one
//! annotators       ┘
//! ```
//!
//! It knows labels and probabilities only, of this crate's models or of any other tool: what is true
//! here is what gold says.

use std::path::PathBuf;

use crate::annotation::AnnotationError;
use crate::issue::IssueId;
use crate::prediction::read::ReadError;
use crate::taxonomy::{Head, Taxonomy};

pub mod agreement;
pub mod answers;
pub mod bootstrap;
pub mod calibration;
pub mod check;
pub mod comparison;
mod evaluate;
#[cfg(test)]
mod fixture;
pub mod gold;
pub mod metrics;
pub mod report;
pub mod selective;

pub use evaluate::{Inputs, evaluate};

/// Why there is no evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    #[error(transparent)]
    Gold(#[from] AnnotationError),
    #[error("{}: there is no annotation in it; give a file of gold annotations", .0.display())]
    NoGold(PathBuf),
    #[error(transparent)]
    Predictions(#[from] ReadError),
    #[error(
        "{}: {unknown} of {rows} rows have labels that the taxonomy has not, such as {label:?} for \
         {head}; give the file's own taxonomy with --taxonomy, or rename the labels",
        path.display()
    )]
    OtherTaxonomy {
        path: PathBuf,
        unknown: usize,
        rows: usize,
        head: String,
        label: String,
    },
    #[error("{name}: {issue} is predicted twice; keep one of the two")]
    Duplicate { name: String, issue: IssueId },
    #[error(
        "{name}: none of its {predictions} predictions that can be used is of a gold issue; {gold} has \
         issues such as {example}"
    )]
    NoOverlap {
        name: String,
        predictions: usize,
        gold: String,
        example: IssueId,
    },
    #[error("two models are called {0}; rename one of the files or folders")]
    SameName(String),
}

/// How many outcomes a head has: its labels and, where it may not apply, "does not apply".
pub(crate) fn classes(head: &Head) -> usize {
    head.labels.len() + usize::from(head.applies_when.is_some())
}

/// A label's index among the outcomes of its head; "does not apply" is the last.
pub(crate) fn class(taxonomy: &Taxonomy, head: usize, label: Option<usize>) -> usize {
    label.unwrap_or(taxonomy.heads[head].labels.len())
}

/// The name in files of an outcome.
fn class_name(taxonomy: &Taxonomy, head: usize, class: usize) -> &str {
    let is_label = class < taxonomy.heads[head].labels.len();
    taxonomy.label_name(head, is_label.then_some(class))
}

/// A figure for a person: three decimals.
pub(crate) fn figure(value: f64) -> String {
    let text = format!("{value:.3}");
    if text == "-0.000" {
        "0.000".into()
    } else {
        text
    }
}

/// A p-value for a person.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 {
        "p < 0.001".into()
    } else if p < 0.1 {
        format!("p = {p:.3}")
    } else {
        format!("p = {p:.2}")
    }
}
