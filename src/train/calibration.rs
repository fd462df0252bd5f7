//! Making probabilities honest: how much each branch's logits count, head by head.

use crate::model::heads::{BranchWeights, softmax};

/// Fewer labels than this say nothing reliable about probabilities.
const MIN_LABELS: usize = 30;

/// One issue's logits from both branches, and its label.
pub struct Labelled<'a> {
    pub encoder: &'a [f32],
    pub lexical: &'a [f32],
    pub label: usize,
}

/// The weights of both branches' logits that minimise the negative log-likelihood of the labels.
///
/// With the lexical branch left out this is temperature scaling (Guo et al. 2017): the encoder's
/// weight is the reciprocal of the temperature. The loss is convex in both weights, which golden-section
/// searches along each in turn minimise. With fewer than 30 labels the encoder counts alone.
pub fn fit_weights(examples: &[Labelled<'_>]) -> BranchWeights {
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
