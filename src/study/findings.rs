//! What a study found, as data: the form of `analysis_results.json`, from which pages are rendered.
//!
//! Its JSON Schema is in `eval/study.schema.json`. No issue's text is in it: issues are named by links.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::survival::Survival;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// The findings over one corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Findings {
    /// `faultlens` and its version.
    pub created_with: String,
    pub seed: u64,
    /// What the reader has to know of the corpus, such as how it was drawn.
    pub note: Option<String>,
    /// The day up to which issues were watched, `YYYY-MM-DD`: the last date in the corpus unless it was
    /// given. `None` if no issue has a date.
    pub as_of: Option<String>,
    /// What limits the findings, the gravest first.
    pub remarks: Vec<String>,
    pub gold: Option<GoldSummary>,
    /// The models that predicted, and how many issues each.
    pub models: BTreeMap<String, usize>,
    /// All issues, then each repository.
    pub repositories: Vec<Repository>,
    /// A head each, in the taxonomy's order.
    pub heads: Vec<Head>,
    pub claims: Vec<Answer>,
    /// GitHub's own labels by how many issues have them, at most 30.
    pub github_labels: Vec<Counted>,
    /// By author's association, issues by predicted label of the first conditional head.
    pub associations: Vec<Cross>,
    /// By category, issues by predicted root cause: the second conditional head within the first's labels.
    pub causes: Vec<Cross>,
    /// For each label of the first conditional head: issues that stand out.
    pub notable: Vec<Notable>,
}

/// Gold, and whether it may stand for the corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoldSummary {
    pub file: String,
    /// Gold issues that are in the corpus and count.
    pub issues: usize,
    /// Those that are not in the corpus.
    pub outside: usize,
    /// Those that a model which predicted them was trained on: they do not count.
    pub memorised: usize,
    /// Whether they have weights.
    pub is_weighted: bool,
    /// Issues without annotation whose predictions count.
    pub unlabelled: usize,
    /// Issues whose predictions do not, a model having been trained on them.
    pub left_out: usize,
    /// Whether gold is spread over the corpus as a random sample would be.
    pub spread: Vec<Spread>,
}

/// A chi-squared test of gold against the corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// `repository` or `quarter`.
    pub over: String,
    pub chi_squared: f64,
    pub degrees: usize,
    pub p: f64,
}

/// Some issues of the corpus as they come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Repository {
    /// `None`: all of them.
    pub repo: Option<String>,
    pub issues: usize,
    pub open: usize,
    pub closed: usize,
    /// Opened in the last 30 days before `as_of`.
    pub last_30_days: usize,
    pub undated: usize,
    pub first_opened: Option<String>,
    pub last_opened: Option<String>,
    /// Mean numbers, of the issues whose file says them.
    pub comments: Option<f64>,
    pub reactions: Option<f64>,
    pub gold: usize,
    /// Days from opening to closing.
    pub survival: Survival,
}

/// One head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    pub head: String,
    pub title: String,
    /// Such as `kind is bug`; `None` if it applies to all issues. Shares are of the issues it applies to.
    pub applies_when: Option<String>,
    pub labels: Vec<Label>,
    /// Differences between repositories.
    pub differences: Vec<Difference>,
}

/// One label of a head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Label {
    pub label: String,
    pub title: String,
    /// In the whole corpus.
    pub share: Shares,
    /// Among all issues, for a head that does not always apply.
    pub among_all: Option<Interval>,
    pub rank: Option<RankSet>,
    /// Change of the share in a year.
    pub trend: Option<Trend>,
    /// By repository.
    pub repositories: BTreeMap<String, Shares>,
    /// By quarter, `YYYY-Qn`.
    pub quarters: BTreeMap<String, Shares>,
    /// Days open of the issues with this predicted label.
    pub survival: Survival,
    /// Links to issues that have the label most probably; those of gold have it by annotation too.
    pub typical: Vec<String>,
}

/// A label's share by several ways to estimate it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Shares {
    /// Issues with the predicted label.
    pub counted: usize,
    /// Classify-and-count: the share of predicted labels, with the classifier's errors in it.
    pub classify_and_count: Option<f64>,
    /// Adjusted classify-and-count.
    pub adjusted_count: Option<f64>,
    /// By gold issues alone.
    pub gold_alone: Option<Interval>,
    /// By gold and predictions: prediction-powered inference. The figure to use.
    pub estimate: Option<Interval>,
    /// How much predictions counted, in `[0, 1]`.
    pub lambda: Option<f64>,
    /// Gold issues to which the head applies, and those with the label.
    pub gold_issues: usize,
    pub gold_with_label: usize,
}

/// The 95 % confidence set of a label's rank by share, from 1, and how probably it is first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankSet {
    pub best: usize,
    pub worst: usize,
    pub first: f64,
}

/// A change of a share in a year.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trend {
    pub per_year: Interval,
    /// Two-sided; then after Holm's correction for the head's labels.
    pub p: f64,
    pub p_holm: f64,
}

/// A label's share in one repository minus that in another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub label: String,
    pub first: String,
    pub second: String,
    pub difference: Interval,
    pub p: f64,
    /// After Holm's correction for all differences of the head.
    pub p_holm: f64,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Supported,
    Refuted,
    /// The issues at hand do not say.
    Undecided,
    /// Labels cannot say.
    Undecidable,
}

/// A claim of the study file and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    pub id: String,
    pub text: String,
    /// The claim as it was checked, in words.
    pub checked: Option<String>,
    pub verdict: Verdict,
    /// What `estimate` is, such as `share of memory`.
    pub quantity: Option<String>,
    pub estimate: Option<Interval>,
    /// Gold issues behind the estimate, and all issues.
    pub gold_issues: usize,
    pub issues: usize,
    /// Why it was decided so.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    pub name: String,
    pub issues: usize,
}

/// Issues of one sort by predicted label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cross {
    pub name: String,
    pub issues: usize,
    pub labels: BTreeMap<String, usize>,
}

/// Issues that stand out among those with a predicted label, by link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notable {
    pub label: String,
    /// With the most comments.
    pub discussed: Vec<NotableIssue>,
    /// Open for the longest time.
    pub open_longest: Vec<NotableIssue>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NotableIssue {
    pub url: String,
    pub issue: String,
    /// Comments, or days open.
    pub number: u64,
}

/// The schema of [`Findings`] as JSON, ending in a line break.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Findings);
    serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n"
}
