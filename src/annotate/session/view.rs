//! What the page and the session tell each other.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::annotate::agreement::Agreement;
use crate::issue::IssueId;
use crate::train::suspects::Suspect;

/// An issue as the page shows it.
#[derive(Debug, Serialize)]
pub struct View {
    #[serde(flatten)]
    pub id: IssueId,
    pub title: String,
    /// Safe to show.
    pub html: String,
    /// On GitHub.
    pub url: Option<String>,
    pub created_at: Option<String>,
    /// The annotator's label, as a line of the file.
    pub label: Option<Value>,
    /// What the annotators say between whom this one decides.
    pub readings: Vec<NamedLabel>,
}

#[derive(Debug, Serialize)]
pub struct NamedLabel {
    pub name: String,
    pub label: Value,
}

/// How far the work is.
#[derive(Debug, Serialize)]
pub struct Status {
    pub done: usize,
    pub total: usize,
    /// Labels in the file.
    pub labels: usize,
    /// Labels given since the start.
    pub given: usize,
    pub skipped: usize,
    /// Between two labels, without rests.
    pub seconds_each: Option<f64>,
    pub agreement: Vec<Agreement>,
    pub learning: Learning,
}

/// A label as the page gives it.
#[derive(Debug, Deserialize)]
pub struct Submission {
    #[serde(flatten)]
    pub id: IssueId,
    /// By head, the name of its label; a head that does not apply may be absent.
    pub labels: HashMap<String, String>,
    pub confidence: Option<String>,
    #[serde(default)]
    pub note: String,
}

/// What a model says of an issue.
#[derive(Debug, Serialize)]
pub struct Suggestion {
    pub model: Option<String>,
    /// By head.
    pub labels: Map<String, Value>,
    pub probabilities: Map<String, Value>,
    /// Why it is reviewed.
    pub suspects: Vec<Suspect>,
}

/// An issue that was searched for.
#[derive(Debug, Serialize)]
pub struct Found {
    #[serde(flatten)]
    pub id: IssueId,
    pub title: String,
    pub labelled: bool,
}

/// How far the background is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Learning {
    /// Issues embedded so far, of how many.
    pub embedded: usize,
    pub pool: usize,
    /// Labels that the queue is ranked by; `None` before the first ranking.
    pub labels: Option<usize>,
}
