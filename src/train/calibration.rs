//! Making probabilities honest: how much each branch's logits count, head by head.

use std::collections::BTreeMap;

use super::HeadMetrics;
use crate::eval::calibration::{Level, ten_thousandths};
use crate::eval::metrics::ConfusionMatrix;
use crate::eval::selective::most_at;
use crate::model::bundle::Threshold;
use crate::model::heads::{BranchLogits, BranchWeights, decode, softmax};
use crate::prediction::HeadPrediction;
use crate::taxonomy::Taxonomy;

/// Fewer labels than this say nothing reliable about probabilities.
const MIN_LABELS: usize = 30;

/// An annotated issue and what an untrained-on model says of it.
pub struct Scored<'a> {
    /// As an annotation has them.
    pub labels: &'a [Option<usize>],
    pub unlabelled: &'a [usize],
    pub logits: &'a BranchLogits,
}

/// How a model's logits become probabilities, and what those are worth.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// By head of the taxonomy, how much each branch counts.
    pub weights: Vec<BranchWeights>,
    /// By the name of the head, how well the labels agree; without heads of which no annotation speaks.
    pub heads: BTreeMap<String, HeadMetrics>,
    /// By the name of the head, for each wanted precision the least probability to answer with.
    pub thresholds: BTreeMap<String, Vec<Threshold>>,
    /// In the issues' order.
    pub predictions: Vec<Vec<HeadPrediction>>,
}

impl Calibrated {
    /// The mean over heads; `None` if nothing was measured.
    pub fn mean_macro_f1(&self) -> Option<f64> {
        let sum: f64 = self.heads.values().map(|head| head.macro_f1).sum();
        (!self.heads.is_empty()).then(|| sum / self.heads.len() as f64)
    }
}

/// Fits the branches' weights on issues that the model was not trained on, decodes with them, and
/// measures the labels, [`NONE`](crate::taxonomy::NONE) included where a head does not apply. An issue
/// counts for the heads of which its annotation speaks.
pub fn calibrate(taxonomy: &Taxonomy, issues: &[Scored<'_>], precisions: &[f64]) -> Calibrated {
    let weights: Vec<BranchWeights> = (0..taxonomy.heads.len())
        .map(|head| {
            let examples: Vec<Labelled<'_>> = issues
                .iter()
                .filter_map(|issue| {
                    Some(Labelled {
                        encoder: &issue.logits.encoder[head],
                        lexical: &issue.logits.lexical[head],
                        label: issue.labels[head]?,
                    })
                })
                .collect();
            fit_weights(&examples)
        })
        .collect();
    let predictions: Vec<Vec<HeadPrediction>> = issues
        .iter()
        .map(|issue| decode(&issue.logits.combine(&weights), taxonomy, &[]))
        .collect();
    let (mut heads, mut thresholds) = (BTreeMap::new(), BTreeMap::new());
    for (head, definition) in taxonomy.heads.iter().enumerate() {
        let none = definition.labels.len();
        let answers: Vec<(usize, &HeadPrediction)> = issues
            .iter()
            .zip(&predictions)
            .filter(|(issue, _)| !issue.unlabelled.contains(&head))
            .map(|(issue, predicted)| (issue.labels[head].unwrap_or(none), &predicted[head]))
            .collect();
        if answers.is_empty() {
            continue;
        }
        let pairs = answers
            .iter()
            .map(|(truth, predicted)| (*truth, predicted.label.unwrap_or(none)));
        let matrix = ConfusionMatrix::from_pairs(pairs, none + 1);
        let metrics = HeadMetrics {
            accuracy: matrix.accuracy(),
            kappa: matrix.kappa(),
            macro_f1: matrix.macro_f1(),
        };
        heads.insert(definition.name.clone(), metrics);

        thresholds.insert(
            definition.name.clone(),
            head_thresholds(&answers, none, precisions),
        );
    }
    Calibrated {
        weights,
        heads,
        thresholds,
        predictions,
    }
}

/// For each precision, the least probability from which on that share of `answers` (the true class and
/// what is predicted) is right.
fn head_thresholds(
    answers: &[(usize, &HeadPrediction)],
    none: usize,
    precisions: &[f64],
) -> Vec<Threshold> {
    let mut levels: BTreeMap<u32, Level> = BTreeMap::new();
    for (truth, predicted) in answers {
        let probability = ten_thousandths(predicted.probability);
        let level = levels.entry(probability).or_insert(Level {
            probability,
            right: 0,
            wrong: 0,
        });
        match predicted.label.unwrap_or(none) == *truth {
            true => level.right += 1,
            false => level.wrong += 1,
        }
    }
    let falling: Vec<Level> = levels.into_values().rev().collect();
    let threshold = |&precision: &f64| {
        let most = most_at(&falling, precision);
        Threshold {
            precision,
            probability: most.map(|(_, probability)| probability as f32 / 1e4),
            coverage: most.map_or(0.0, |(count, _)| count as f64 / answers.len() as f64),
        }
    };
    precisions.iter().map(threshold).collect()
}

/// One issue's logits of a head from both branches, and its label.
struct Labelled<'a> {
    encoder: &'a [f32],
    lexical: &'a [f32],
    label: usize,
}

/// The weights of both branches' logits that minimise the negative log-likelihood of the labels.
///
/// With the lexical branch left out this is temperature scaling (Guo et al. 2017): the encoder's
/// weight is the reciprocal of the temperature. The loss is convex in both weights, which golden-section
/// searches along each in turn minimise. With fewer than 30 labels the encoder counts alone.
fn fit_weights(examples: &[Labelled<'_>]) -> BranchWeights {
    let mut weights = BranchWeights {
        encoder: 1.0,
        lexical: 0.0,
    };
    if examples.len() < MIN_LABELS {
        return weights;
    }
    let loss = |weights: BranchWeights| -> f64 {
        examples
            .iter()
            .map(|example| {
                let logits = weights.combine(example.encoder, example.lexical);
                -f64::from(softmax(&logits)[example.label].max(1e-30)).ln()
            })
            .sum()
    };
    for _ in 0..8 {
        weights.encoder = golden_section(0.05, 4.0, |encoder| {
            loss(BranchWeights { encoder, ..weights })
        });
        weights.lexical = golden_section(0.0, 2.0, |lexical| {
            loss(BranchWeights { lexical, ..weights })
        });
    }
    weights
}

/// The minimum of a convex function between `low` and `high`, to about 1e-4 of the interval.
fn golden_section(mut low: f32, mut high: f32, f: impl Fn(f32) -> f64) -> f32 {
    let ratio = (5f32.sqrt() - 1.0) / 2.0;
    for _ in 0..20 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if f(a) < f(b) { high = b } else { low = a }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `P(label 0) = 3/4` for all of 400 issues.
    fn labels() -> impl Iterator<Item = usize> {
        (0..400).map(|i| usize::from(i % 4 == 0))
    }

    #[test]
    fn overconfident_logits_are_cooled_to_the_frequency_of_being_right() {
        let shown = [2.0 * 3f32.ln(), 0.0];
        let examples: Vec<Labelled> = labels()
            .map(|label| Labelled {
                encoder: &shown,
                lexical: &[0.0, 0.0],
                label,
            })
            .collect();
        assert!((fit_weights(&examples).encoder - 0.5).abs() < 2e-3);
    }

    #[test]
    fn a_branch_that_knows_nothing_counts_for_nothing() {
        let noise = [[1.0, -1.0], [-1.0, 1.0]];
        let examples: Vec<Labelled> = labels()
            .enumerate()
            .map(|(i, label)| Labelled {
                encoder: &[1.0, 0.0],
                lexical: &noise[i / 4 % 2],
                label,
            })
            .collect();
        let weights = fit_weights(&examples);
        assert!(weights.lexical < 1e-3, "{weights:?}");
        assert!((weights.encoder - 3f32.ln()).abs() < 2e-3);
    }

    #[test]
    fn few_labels_leave_the_encoder_alone() {
        let example = || Labelled {
            encoder: &[5.0, 0.0],
            lexical: &[0.0, 1.0],
            label: 1,
        };
        let examples: Vec<Labelled> = (0..10).map(|_| example()).collect();
        assert_eq!(
            fit_weights(&examples),
            BranchWeights {
                encoder: 1.0,
                lexical: 0.0
            }
        );
    }
}
