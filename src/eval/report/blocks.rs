//! A report as headings, paragraphs and tables: what terminal and Markdown show alike, and the words and
//! plain tables of the page.

use std::collections::HashMap;

use super::{
    Agreement, Annotators, Comparison, Estimate, Evaluation, Grouping, HeadAnnotators,
    HeadEvaluation, Report,
};
use crate::eval::{figure, p_value};
use crate::issue::IssueId;

/// Wrong answers shown of each model.
const ERRORS: usize = 10;

/// Pairs of confused labels shown of each head.
const CONFUSED: usize = 5;

/// A piece of a report.
pub(super) enum Block {
    /// The level counts from 1.
    Heading(usize, String),
    Paragraph(String),
    List(Vec<String>),
    Table(Table),
    /// The text of an issue, under the line that names it.
    Text(String, String),
}

/// Cells under a header.
pub(super) struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Whether a column has numbers only, to be aligned at their ends.
    pub fn is_numeric(&self, column: usize) -> bool {
        let is_number = |cell: &str| {
            let number = cell.strip_suffix(" %").unwrap_or(cell);
            matches!(number, "–" | "·") || number.parse::<f64>().is_ok()
        };
        self.rows.iter().all(|row| is_number(&row[column]))
    }
}

/// The whole report. Wrong answers to issues of which `texts` has the text come with it.
pub(super) fn blocks(report: &Report, texts: &HashMap<IssueId, String>) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(1, "Evaluation".into())];
    blocks.extend(report.gold.note.clone().map(Block::Paragraph));
    blocks.push(Block::Paragraph(introduction(report)));
    if report.models.len() > 1 {
        blocks.push(Block::Heading(2, "Models".into()));
        blocks.push(overview(&report.models));
    }
    for comparison in &report.comparisons {
        compare(comparison, &mut blocks);
    }
    for model in &report.models {
        evaluate(model, texts, &mut blocks);
    }
    if let Some(annotators) = &report.annotators {
        agree(annotators, &mut blocks);
    }
    blocks
}

pub(super) fn introduction(report: &Report) -> String {
    let gold = &report.gold;
    let intervals = match report.resamples {
        0 => "There are no intervals: no resamples were asked for".to_owned(),
        n => format!(
            "In brackets: 95 % intervals from {n} bootstrap resamples of the issues (seed {})",
            report.seed
        ),
    };
    format!(
        "Gold: {}, {} issues (sha256 {:.12}). {intervals}; – stands for undefined. Where a head does \
         not apply its label is none. Made with {}.",
        gold.file, gold.issues, gold.sha256, report.created_with
    )
}

/// `0.912 [0.880, 0.938]`, as far as there is a value and an interval.
pub(super) fn estimate(estimate: &Estimate) -> String {
    match (estimate.value, estimate.low, estimate.high) {
        (Some(value), Some(low), Some(high)) => {
            format!("{} [{}, {}]", figure(value), figure(low), figure(high))
        }
        (value, ..) => number(value),
    }
}

pub(super) fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), figure)
}

fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Block {
    Block::Table(Table {
        header: header.map(str::to_owned).into(),
        rows: rows.into_iter().map(Vec::from).collect(),
    })
}

/// The scopes that a head is measured over, named.
fn scopes(head: &HeadEvaluation) -> impl Iterator<Item = (String, &Agreement)> {
    let all = (head.head.clone(), &head.all);
    let applicable = head
        .applicable
        .as_ref()
        .map(|agreement| (format!("{}, where it applies", head.head), agreement));
    std::iter::once(all).chain(applicable)
}

fn overview(models: &[Evaluation]) -> Block {
    let rows = models.iter().flat_map(|model| {
        let heads = model.heads.iter().map(|head| {
            let all = &head.all;
            [
                model.name.clone(),
                head.head.clone(),
                all.issues.to_string(),
                estimate(&all.accuracy),
                estimate(&all.kappa),
                estimate(&all.macro_f1),
            ]
        });
        heads.collect::<Vec<_>>()
    });
    let header = ["model", "head", "issues", "accuracy", "kappa", "macro-F1"];
    table(header, rows)
}

pub(super) fn compare(comparison: &Comparison, blocks: &mut Vec<Block>) {
    let Comparison {
        first,
        second,
        issues,
        heads,
    } = comparison;
    blocks.push(Block::Heading(2, format!("{first} against {second}")));
    blocks.push(Block::Paragraph(format!(
        "On the {issues} issues that both have predictions for. Differences are {first} minus {second}, \
         with paired intervals; p is McNemar's exact test of who is right more often, and then \
         Holm's correction of it for all tests of this report."
    )));
    let rows = heads.iter().map(|head| {
        [
            head.head.clone(),
            estimate(&head.accuracy),
            estimate(&head.kappa),
            estimate(&head.macro_f1),
            format!("{} / {}", head.only_first, head.only_second),
            p_value(head.p),
            p_value(head.p_holm),
        ]
    });
    let header = [
        "head",
        "accuracy",
        "kappa",
        "macro-F1",
        "right alone",
        "p",
        "corrected",
    ];
    blocks.push(table(header, rows));
    blocks.push(Block::List(
        heads.iter().map(|head| head.verdict.clone()).collect(),
    ));
}

pub(super) fn agree(annotators: &Annotators, blocks: &mut Vec<Block>) {
    blocks.push(Block::Heading(2, "Annotators".into()));
    blocks.push(Block::Paragraph(
        "How annotators agree with each other, and the models with them. Alpha is Krippendorff's, for \
         nominal labels, over all annotators."
            .into(),
    ));
    let alpha = annotators.heads.iter().map(|head| {
        [
            head.head.clone(),
            head.issues.to_string(),
            estimate(&head.alpha),
        ]
    });
    blocks.push(table(["head", "issues read twice", "alpha"], alpha));
    let pairs = |head: &HeadAnnotators| {
        let models = head.models.iter().flat_map(|model| &model.pairs);
        let rows = head.pairs.iter().chain(models).map(|pair| {
            [
                head.head.clone(),
                format!("{} – {}", pair.first, pair.second),
                pair.issues.to_string(),
                estimate(&pair.accuracy),
                estimate(&pair.kappa),
            ]
        });
        rows.collect::<Vec<_>>()
    };
    let header = ["head", "pair", "issues", "agreement", "kappa"];
    blocks.push(table(header, annotators.heads.iter().flat_map(pairs)));
    let verdicts = annotators.heads.iter().flat_map(|head| {
        let verdict = |model: &super::ModelAsAnnotator| {
            format!("{} on {}: {}", model.model, head.head, model.verdict)
        };
        head.models.iter().map(verdict)
    });
    blocks.push(Block::List(verdicts.collect()));
}

fn evaluate(model: &Evaluation, texts: &HashMap<IssueId, String>, blocks: &mut Vec<Block>) {
    let id = model
        .model
        .as_ref()
        .map_or(String::new(), |id| format!(" ({id})"));
    blocks.push(Block::Heading(2, format!("{}{id}", model.name)));
    blocks.push(Block::Paragraph(format!(
        "{} gold issues are measured.",
        model.issues
    )));
    blocks.push(Block::List(remarks(model)));
    summary(model, blocks);
    for head in &model.heads {
        labels(head, blocks);
    }
    blocks.push(Block::Heading(3, "Probabilities".into()));
    probabilities(model, blocks);
    groups(model, blocks);
    errors(model, texts, blocks);
}

/// What does not count, or not as it is.
pub(super) fn remarks(model: &Evaluation) -> Vec<String> {
    let left_out = model.left_out.iter().map(|left_out| {
        let more = if left_out.count > left_out.examples.len() {
            ", …"
        } else {
            ""
        };
        format!(
            "left out: {} {} ({}{more})",
            left_out.count,
            left_out.reason,
            left_out.examples.join(", ")
        )
    });
    let abstained = model
        .heads
        .iter()
        .filter(|head| head.abstained > 0)
        .map(|head| {
            format!(
                "{} answers to {} were abstained from: their best guess is measured",
                head.abstained, head.head
            )
        });
    left_out.chain(abstained).collect()
}

pub(super) fn summary(model: &Evaluation, blocks: &mut Vec<Block>) {
    let scopes = || model.heads.iter().flat_map(scopes);
    let mut rows: Vec<_> = scopes()
        .map(|(name, scope)| {
            [
                name,
                scope.issues.to_string(),
                estimate(&scope.accuracy),
                estimate(&scope.kappa),
                estimate(&scope.macro_f1),
            ]
        })
        .collect();
    rows.push([
        "all heads right".into(),
        model.issues.to_string(),
        estimate(&model.joint_accuracy),
        String::new(),
        String::new(),
    ]);
    let header = ["head", "issues", "accuracy", "kappa", "macro-F1"];
    blocks.push(table(header, rows));
    let rows = scopes().map(|(name, scope)| {
        [
            name,
            estimate(&scope.balanced_accuracy),
            estimate(&scope.micro_f1),
            estimate(&scope.weighted_f1),
            estimate(&scope.matthews),
        ]
    });
    let header = [
        "head",
        "balanced accuracy",
        "micro-F1",
        "weighted F1",
        "Matthews",
    ];
    blocks.push(table(header, rows));
}

fn labels(head: &HeadEvaluation, blocks: &mut Vec<Block>) {
    for (name, scope) in scopes(head) {
        blocks.push(Block::Heading(3, format!("Labels of {name}")));
        let rows = scope.per_label.iter().map(|label| {
            [
                label.label.clone(),
                label.support.to_string(),
                label.predicted.to_string(),
                estimate(&label.precision),
                estimate(&label.recall),
                estimate(&label.f1),
            ]
        });
        let header = ["label", "gold", "predicted", "precision", "recall", "F1"];
        blocks.push(table(header, rows));
    }
    blocks.push(Block::Heading(3, format!("Confusion of {}", head.head)));
    blocks.push(confusion(&head.all));
    let confused = head.confused.iter().take(CONFUSED).map(|pair| {
        format!(
            "{} taken for {}: {}",
            pair.truth, pair.predicted, pair.count
        )
    });
    blocks.push(Block::List(confused.collect()));
}

/// Rows are gold labels; a letter stands for each column.
fn confusion(agreement: &Agreement) -> Block {
    let letters: Vec<String> = (0..agreement.labels.len()).map(letters).collect();
    let rows = agreement
        .labels
        .iter()
        .zip(&letters)
        .zip(&agreement.confusion);
    let rows = rows.map(|((label, letter), counts)| {
        let count = |&count: &u64| match count {
            0 => "·".to_owned(),
            count => count.to_string(),
        };
        let name = format!("{letter} {label}");
        std::iter::once(name)
            .chain(counts.iter().map(count))
            .collect()
    });
    let header = std::iter::once("gold / predicted".to_owned());
    Block::Table(Table {
        rows: rows.collect(),
        header: header.chain(letters.iter().cloned()).collect(),
    })
}

/// `a` to `z`, then `aa`, `ab`, …
fn letters(index: usize) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    match index / 26 {
        0 => letter.to_string(),
        earlier => letters(earlier - 1) + &letter.to_string(),
    }
}

pub(super) fn probabilities(model: &Evaluation, blocks: &mut Vec<Block>) {
    let with = || {
        let heads = model.heads.iter();
        heads.filter_map(|head| Some((head, head.calibration.as_ref()?, head.selective.as_ref()?)))
    };
    if with().next().is_none() {
        blocks.push(Block::Paragraph(
            "The predictions have no probabilities: nothing is said of calibration and selective \
             prediction."
                .into(),
        ));
        return;
    }
    let rows = with().map(|(head, calibration, selective)| {
        [
            head.head.clone(),
            estimate(&calibration.ece),
            estimate(&calibration.brier),
            estimate(&selective.aurc),
        ]
    });
    let header = [
        "head",
        "calibration error",
        "Brier score",
        "area under risk-coverage",
    ];
    blocks.push(table(header, rows));
    let rows = with().flat_map(|(head, _, selective)| {
        let rows = selective.coverage_at.iter().map(|at| {
            [
                head.head.clone(),
                format!("{:.0} %", at.precision * 100.0),
                estimate(&at.coverage),
                at.threshold
                    .map_or("–".into(), |threshold| format!("{threshold:.4}")),
            ]
        });
        rows.collect::<Vec<_>>()
    });
    let header = ["head", "precision", "coverage", "least probability"];
    blocks.push(table(header, rows));
    let rows = with().flat_map(|(head, calibration, _)| {
        let bins = calibration.bins.iter().filter(|bin| bin.count > 0);
        let rows = bins.map(|bin| {
            [
                head.head.clone(),
                format!("{:.1}–{:.1}", bin.low, bin.high),
                bin.count.to_string(),
                number(bin.confidence),
                estimate(&bin.accuracy),
            ]
        });
        rows.collect::<Vec<_>>()
    });
    let header = ["head", "probability", "answers", "on average", "right"];
    blocks.push(table(header, rows));
}

fn groups(model: &Evaluation, blocks: &mut Vec<Block>) {
    for (by, title) in [
        (Grouping::Repository, "repository"),
        (Grouping::Month, "month"),
        (Grouping::Confidence, "the annotators' confidence"),
    ] {
        let groups = model.groups.iter().filter(|group| group.by == by);
        let rows: Vec<_> = groups
            .flat_map(|group| {
                let rows = group.heads.iter().map(|head| {
                    [
                        group.name.clone(),
                        head.head.clone(),
                        group.issues.to_string(),
                        estimate(&head.accuracy),
                        estimate(&head.kappa),
                        estimate(&head.macro_f1),
                    ]
                });
                rows.collect::<Vec<_>>()
            })
            .collect();
        if !rows.is_empty() {
            blocks.push(Block::Heading(3, format!("By {title}")));
            let header = ["", "head", "issues", "accuracy", "kappa", "macro-F1"];
            blocks.push(table(header, rows));
        }
    }
}

fn errors(model: &Evaluation, texts: &HashMap<IssueId, String>, blocks: &mut Vec<Block>) {
    let shown = || model.errors.iter().take(ERRORS);
    if model.errors.is_empty() {
        return;
    }
    blocks.push(Block::Heading(3, "Most confident disagreements".into()));
    let rows = shown().map(|error| {
        [
            error.url.clone().unwrap_or_else(|| error.issue.to_string()),
            error.head.clone(),
            error.truth.clone(),
            number(error.truth_probability),
            error.predicted.clone(),
            number(error.probability),
        ]
    });
    let header = [
        "issue",
        "head",
        "gold",
        "probability",
        "predicted",
        "probability",
    ];
    blocks.push(table(header, rows));
    for error in shown() {
        if let Some(text) = texts.get(&error.issue) {
            let line = format!(
                "{}, {}: gold {}, predicted {}",
                error.issue, error.head, error.truth, error.predicted
            );
            blocks.push(Block::Text(line, text.clone()));
        }
    }
}
