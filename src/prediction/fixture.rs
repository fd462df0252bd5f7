//! A small taxonomy and predictions under it, for tests.

use super::{HeadPrediction, Prediction};
use crate::issue::IssueId;
use crate::taxonomy::{Condition, Head, Label, Taxonomy};

pub const MODEL: &str = "tiny-1a2b3c4d";

/// `kind`, and for bugs `category` and `root_cause`. One label is not ASCII, which a cut can split.
pub fn taxonomy() -> Taxonomy {
    let head = |name: &str, applies_when, labels: &[&str]| Head {
        name: name.into(),
        applies_when,
        labels: labels.iter().map(|name| label(name)).collect(),
        ..Head::default()
    };
    let bugs = || {
        Some(Condition {
            head: 0,
            labels: vec![0],
        })
    };
    Taxonomy {
        heads: vec![
            head("kind", None, &["bug", "feature"]),
            head("category", bugs(), &["memory", "gpu"]),
            head("root_cause", bugs(), &["naïveté", "unknown"]),
        ],
    }
}

fn label(name: &str) -> Label {
    Label {
        name: name.into(),
        ..Label::default()
    }
}

/// A bug that is sure of everything, one that abstains from its root cause, a feature, and an
/// issue that abstains from all, of a repository that CSV has to quote.
pub fn predictions() -> Vec<Prediction> {
    let bug = answer(Some(0), 0.93, &[0.93, 0.07]);
    let memory = answer(Some(0), 0.81, &[0.81, 0.12, 0.07]);
    let feature = answer(Some(1), 1.0, &[0.0, 1.0]);
    let none = answer(None, 0.9999, &[0.0001, 0.0, 0.9999]);
    vec![
        prediction(
            "ada/engine",
            1,
            [
                bug.clone(),
                memory.clone(),
                answer(Some(0), 0.6, &[0.6, 0.33, 0.07]),
            ],
        ),
        prediction(
            "ada/engine",
            20,
            [bug, memory, abstained(Some(1), 0.4, &[0.2, 0.4, 0.4])],
        ),
        prediction("ada/engine", 3, [feature, none.clone(), none]),
        prediction(
            "a \"b\", c/d",
            u64::MAX,
            [
                abstained(Some(1), 0.51, &[0.49, 0.51]),
                abstained(None, 0.5, &[0.3, 0.2, 0.5]),
                abstained(None, 0.5, &[0.3, 0.2, 0.5]),
            ],
        ),
    ]
}

fn prediction(repo: &str, number: u64, heads: [HeadPrediction; 3]) -> Prediction {
    Prediction {
        id: IssueId {
            repo: repo.into(),
            number,
        },
        heads: heads.into(),
    }
}

fn answer(label: Option<usize>, probability: f32, distribution: &[f32]) -> HeadPrediction {
    HeadPrediction {
        label,
        probability,
        distribution: distribution.into(),
        abstained: false,
    }
}

fn abstained(label: Option<usize>, probability: f32, distribution: &[f32]) -> HeadPrediction {
    HeadPrediction {
        abstained: true,
        ..answer(label, probability, distribution)
    }
}
