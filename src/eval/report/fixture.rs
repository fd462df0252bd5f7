//! A report, for tests of how it is shown.

use super::*;

const SOME: Estimate = Estimate {
    value: Some(1.0 / 3.0),
    low: Some(0.1),
    high: Some(0.6),
};

/// Without interval.
const VALUE: Estimate = Estimate {
    value: Some(1.0 / 3.0),
    low: None,
    high: None,
};

const UNDEFINED: Estimate = Estimate {
    value: None,
    low: None,
    high: None,
};

fn agreement(labels: &[&str], averaged: usize, confusion: &[&[u64]]) -> Agreement {
    let per_label = (0..averaged).map(|label| LabelAgreement {
        label: labels[label].into(),
        support: confusion[label].iter().sum(),
        predicted: confusion.iter().map(|row| row[label]).sum(),
        precision: SOME,
        recall: VALUE,
        f1: UNDEFINED,
    });
    Agreement {
        issues: confusion.iter().flat_map(|row| row.iter()).sum::<u64>() as usize,
        labels: labels.iter().map(|&label| label.into()).collect(),
        accuracy: SOME,
        balanced_accuracy: SOME,
        macro_f1: SOME,
        micro_f1: SOME,
        weighted_f1: SOME,
        kappa: SOME,
        matthews: SOME,
        per_label: per_label.collect(),
        confusion: confusion.iter().map(|row| row.to_vec()).collect(),
    }
}

/// One model of two heads without probabilities, on four issues.
pub fn report() -> Report {
    let kind = HeadEvaluation {
        head: "kind".into(),
        title: "Kind".into(),
        abstained: 0,
        all: agreement(&["bug", "feature"], 2, &[&[2, 1], &[0, 1]]),
        applicable: None,
        calibration: None,
        selective: None,
        confused: Vec::new(),
    };
    let labels = ["memory", "gpu", "none"];
    let category = HeadEvaluation {
        head: "category".into(),
        title: "Category".into(),
        abstained: 2,
        all: agreement(&labels, 3, &[&[1, 0, 1], &[0, 1, 0], &[0, 0, 1]]),
        applicable: Some(agreement(&labels, 2, &[&[1, 0, 1], &[0, 1, 0], &[0, 0, 0]])),
        calibration: None,
        selective: None,
        confused: vec![Confusion {
            truth: "memory".into(),
            predicted: "none".into(),
            count: 1,
        }],
    };
    let model = Evaluation {
        name: "m".into(),
        model: Some("m-1a2b3c4d".into()),
        issues: 4,
        left_out: vec![LeftOut {
            reason: "gold issues without a prediction".into(),
            count: 7,
            examples: vec!["a/b#5".into()],
        }],
        heads: vec![kind, category],
        joint_accuracy: SOME,
        groups: vec![Group {
            by: Grouping::Repository,
            name: "a/b".into(),
            issues: 4,
            heads: vec![GroupHead {
                head: "kind".into(),
                accuracy: SOME,
                kappa: UNDEFINED,
                macro_f1: VALUE,
            }],
        }],
        errors: vec![Disagreement {
            issue: IssueId {
                repo: "a/b".into(),
                number: 2,
            },
            url: Some("https://github.com/a/b/issues/2".into()),
            head: "kind".into(),
            truth: "bug".into(),
            predicted: "feature".into(),
            probability: Some(0.9),
            truth_probability: Some(0.1),
        }],
    };
    Report {
        created_with: "faultlens 0.0.0".into(),
        gold: Gold {
            file: "gold.jsonl".into(),
            sha256: "0123456789abcdef".into(),
            issues: 11,
            note: None,
        },
        resamples: 1000,
        seed: 0,
        models: vec![model],
        annotators: None,
        comparisons: Vec::new(),
    }
}
