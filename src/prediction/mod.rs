//! What the model says of an issue.

use crate::issue::IssueId;

mod csv;
#[cfg(test)]
pub(crate) mod fixture;
pub mod format;
mod jsonl;
pub mod labels;
mod parquet;
pub mod read;
pub mod table;
pub mod write;

/// One issue's predicted labels, an entry per head of the taxonomy.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    pub id: IssueId,
    pub heads: Vec<HeadPrediction>,
}

/// A head's answer. The distribution is over the head's labels and, last, "does not apply"
/// (for a head that applies to every issue that last entry is absent); it sums to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadPrediction {
    /// `None`: the head does not apply.
    pub label: Option<usize>,
    /// Calibrated probability that `label` is right, in `[0, 1]`.
    pub probability: f32,
    pub distribution: Vec<f32>,
    /// The probability is below the wanted minimum: files give no label.
    pub abstained: bool,
}
