//! What an evaluation found, as data: the form of `--json`, from which every other form is rendered.
//!
//! Nothing here holds the text of an issue: texts belong to their authors, so a renderer that shows
//! them takes them apart from the report, at the time of showing. The same inputs, settings and
//! version give the same report to the last byte.

use serde::{Deserialize, Serialize};

use crate::issue::IssueId;

mod blocks;
#[cfg(test)]
mod fixture;
mod html;
mod markdown;
mod terminal;

pub(crate) use html::hash;
pub use html::html;
pub(crate) use markdown::escaped;
pub use markdown::markdown;
pub use terminal::terminal;

/// A figure with its 95 % bootstrap interval.
///
/// `value` is `None` where the figure is undefined on the data (kappa of one label throughout).
/// The bounds are `None` where it is undefined in more than a twentieth of the resamples, is the same
/// in nearly all of them (accuracy of answers that are all right), so that an interval would mislead,
/// or if no resamples were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// The evaluation of one or more models on one gold file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `faultlens` and its version.
    pub created_with: String,
    pub gold: Gold,
    /// Bootstrap resamples behind every interval; 0: there are no intervals.
    pub resamples: usize,
    pub seed: u64,
    /// In the order in which the models were given.
    pub models: Vec<Evaluation>,
    /// `None`: the gold file has one reading of each issue and no other annotator's was given.
    pub annotators: Option<Annotators>,
    /// Every pair of models; empty for one model.
    pub comparisons: Vec<Comparison>,
}

/// The annotations that count as truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gold {
    /// The file's name, without its folder.
    pub file: String,
    /// Of the file's bytes, in hexadecimal.
    pub sha256: String,
    pub issues: usize,
    /// What the reader has to know of it, such as who annotated; shown under the headline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One model on the gold issues that it has predictions for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Unique within the report: the model folder's or predictions file's name.
    pub name: String,
    /// What the predictions say made them; `None` for files of labels only that name no model.
    pub model: Option<String>,
    /// Gold issues measured.
    pub issues: usize,
    /// What does not count, and why. Gold issues and predictions both.
    pub left_out: Vec<LeftOut>,
    /// In the taxonomy's order; without heads of which the predictions say nothing.
    pub heads: Vec<HeadEvaluation>,
    /// The share of issues on which all of `heads` are right.
    pub joint_accuracy: Estimate,
    /// By repository, then by month, then by confidence, each in the order of its names.
    pub groups: Vec<Group>,
    /// Wrong answers, the most probable first; without probabilities, in the order of heads and of
    /// gold. At most 100 of each head, and none that only follows from a wrong answer of the head it
    /// depends on.
    pub errors: Vec<Disagreement>,
}

/// Some issues or predictions that were not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Such as `gold issues without a prediction`.
    pub reason: String,
    pub count: usize,
    /// The first few, as `owner/name#1`.
    pub examples: Vec<String>,
}

/// One head of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadEvaluation {
    /// Its name in files, such as `root_cause`.
    pub head: String,
    pub title: String,
    /// Answers that the model abstained from, measured by its best guess nevertheless.
    pub abstained: usize,
    /// Over all issues; for a conditional head, `none` is a label like any other.
    pub all: Agreement,
    /// Over the issues to which gold says that the head applies. A prediction of `none` is a wrong
    /// answer there: a column of the confusion matrix and a category of kappa, but no label that
    /// averages run over. `None` for a head that always applies.
    pub applicable: Option<Agreement>,
    /// `None` for predictions without probabilities.
    pub calibration: Option<Calibration>,
    /// `None` for predictions without probabilities.
    pub selective: Option<Selective>,
    /// The pairs of different labels that occur, the most frequent first.
    pub confused: Vec<Confusion>,
}

/// How well labels agree with gold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    pub issues: usize,
    /// The rows and columns of `confusion`; `none` last where the head is conditional.
    pub labels: Vec<String>,
    pub accuracy: Estimate,
    pub balanced_accuracy: Estimate,
    pub macro_f1: Estimate,
    pub micro_f1: Estimate,
    pub weighted_f1: Estimate,
    pub kappa: Estimate,
    pub matthews: Estimate,
    /// The labels that averages run over, in their order; those that do not occur included.
    pub per_label: Vec<LabelAgreement>,
    /// Counts, `labels` x `labels`: rows are true labels, columns predicted ones.
    pub confusion: Vec<Vec<u64>>,
}

/// One label of an [`Agreement`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelAgreement {
    pub label: String,
    /// How often it is true.
    pub support: u64,
    /// How often it is predicted.
    pub predicted: u64,
    pub precision: Estimate,
    pub recall: Estimate,
    pub f1: Estimate,
}

/// How often one label was taken for another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    pub truth: String,
    pub predicted: String,
    pub count: u64,
}

/// Whether probabilities are what they say, over all issues. Probabilities count to four decimals,
/// as files have them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error over `bins`, in `[0, 1]`: how far the probability of the label
    /// given is from the share of right labels, on average. Biased upwards on few issues, which its
    /// interval takes off; the interval begins at 0 where probabilities may be as right as they say.
    pub ece: Estimate,
    /// The squared distance of the distribution from the truth, summed over the labels, `[0, 2]`.
    pub brier: Estimate,
    /// The reliability curve: bins of equal width over `[0, 1]`, empty ones included.
    pub bins: Vec<Bin>,
}

/// The answers whose probability is above `low` and at most `high` (the first bin includes 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
    pub count: u64,
    /// Their mean probability; `None` for an empty bin.
    pub confidence: Option<f64>,
    /// The share of them that is right.
    pub accuracy: Estimate,
}

/// What answering only where the probability reaches a threshold gives, over all issues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selective {
    /// From the most selective threshold to answering always; thinned to at most 200 points.
    pub curve: Vec<CurvePoint>,
    /// Area under the risk-coverage curve: the mean risk over all coverages, in `[0, 1]`.
    pub aurc: Estimate,
    /// At precisions 0.90, 0.95 and 0.99.
    pub coverage_at: Vec<CoverageAt>,
}

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The share of issues answered.
    pub coverage: f64,
    /// The share of those answers that is wrong.
    pub risk: f64,
    /// The least probability answered.
    pub threshold: f64,
}

/// The most issues that can be answered with a wanted share of right answers. The threshold is
/// chosen on gold itself, so the figure is somewhat optimistic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CoverageAt {
    pub precision: f64,
    /// 0 where no threshold reaches the precision.
    pub coverage: Estimate,
    /// The least probability to answer; `None` where no threshold reaches the precision.
    pub threshold: Option<f64>,
}

/// What some of the issues have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    Repository,
    /// Of the issue's creation, `YYYY-MM` in UTC.
    Month,
    /// The annotator's, `high` or `low`.
    Confidence,
}

/// The part of the issues that share a repository, month or confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub by: Grouping,
    pub name: String,
    pub issues: usize,
    /// As the evaluation's.
    pub heads: Vec<GroupHead>,
}

/// One head within a group, over all its issues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupHead {
    pub head: String,
    pub accuracy: Estimate,
    pub kappa: Estimate,
    pub macro_f1: Estimate,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    pub issue: IssueId,
    /// `None` for the row of a table.
    pub url: Option<String>,
    pub head: String,
    pub truth: String,
    pub predicted: String,
    /// Of the predicted label; `None` without probabilities, as below.
    pub probability: Option<f64>,
    /// Of the true label.
    pub truth_probability: Option<f64>,
}

/// How annotators agree with each other, and the models with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotators {
    /// `first reading` and `second reading` of the gold file, then other annotators.
    pub names: Vec<String>,
    pub heads: Vec<HeadAnnotators>,
}

/// One head, over all issues, `none` being a label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadAnnotators {
    pub head: String,
    pub title: String,
    /// Krippendorff's alpha (nominal) of all annotators, over the issues that two or more have read.
    pub alpha: Estimate,
    /// Issues that two or more have read.
    pub issues: usize,
    /// Every pair of annotators.
    pub pairs: Vec<Pair>,
    /// Every model that answers the head.
    pub models: Vec<ModelAsAnnotator>,
}

/// Two parties that labelled the same issues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    pub first: String,
    pub second: String,
    /// Issues that both have labelled.
    pub issues: usize,
    pub accuracy: Estimate,
    pub kappa: Estimate,
}

/// A model beside the annotators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelAsAnnotator {
    pub model: String,
    /// With each annotator: `first` is the model.
    pub pairs: Vec<Pair>,
    /// The mean kappa of the model with the annotators minus that of the annotators with each other,
    /// over the issues that the model has predictions for.
    pub difference: Estimate,
    /// What the interval of `difference` allows to say.
    pub verdict: String,
}

/// Two models on the issues that both have predictions for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub first: String,
    pub second: String,
    pub issues: usize,
    /// The heads that both answer.
    pub heads: Vec<HeadComparison>,
}

/// One head of a [`Comparison`], over all issues. Differences are the first model's figure minus the
/// second's, with a paired bootstrap interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadComparison {
    pub head: String,
    pub accuracy: Estimate,
    pub kappa: Estimate,
    pub macro_f1: Estimate,
    /// Issues that the first model alone has right.
    pub only_first: u64,
    /// Issues that the second model alone has right.
    pub only_second: u64,
    /// McNemar's exact test, two-sided.
    pub p: f64,
    /// `p` after Holm's correction for all tests of the report.
    pub p_holm: f64,
    /// What test and intervals allow to say.
    pub verdict: String,
}
