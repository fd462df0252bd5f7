//! Labels given to issues by annotators, kept apart from the issues' texts.

use crate::issue::IssueId;

/// How sure the annotator was that a second careful reader would choose the same labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    High,
    Low,
}

/// One issue's labels: an entry per head of the taxonomy, `None` where the head does not apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    pub id: IssueId,
    pub labels: Vec<Option<usize>>,
    pub confidence: Option<Confidence>,
    pub annotator: Option<String>,
}
