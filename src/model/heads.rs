//! The classification heads on top of the encoder, their loss, and decoding their logits.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::{Encoded, ops};
use crate::prediction::HeadPrediction;
use crate::taxonomy::Taxonomy;

/// One linear layer a head, from the pooled text (B, H) to logits (B, labels).
pub struct Heads {
    layers: Vec<(Tensor, Tensor)>, // weight (labels, H), bias (labels)
}

impl Heads {
    /// Loads `<head>.weight` and `<head>.bias` for every head of the taxonomy.
    pub fn load(vb: VarBuilder, taxonomy: &Taxonomy, hidden: usize) -> Result<Self> {
        let layers = taxonomy
            .heads
            .iter()
            .map(|head| {
                let (vb, labels) = (vb.pp(&head.name), head.labels.len());
                Ok((vb.get((labels, hidden), "weight")?, vb.get(labels, "bias")?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    /// Logits of every head, each (B, labels).
    pub fn forward(&self, pooled: &Tensor) -> Result<Vec<Tensor>> {
        self.layers
            .iter()
            .map(|(weight, bias)| ops::linear(pooled, weight, bias))
            .collect()
    }

    /// Logits of B pooled texts.
    pub fn of_rows(&self, pooled: Vec<Vec<f32>>) -> Result<Vec<Encoded>> {
        let (Some(hidden), Some((weight, _))) = (pooled.first().map(Vec::len), self.layers.first())
        else {
            return Ok(Vec::new());
        };
        let rows = Tensor::from_vec(pooled.concat(), (pooled.len(), hidden), weight.device())?;
        let encoded = pooled.into_iter().map(|pooled| Encoded {
            pooled,
            logits: Vec::new(),
        });
        let mut encoded: Vec<Encoded> = encoded.collect();
        for head in self.forward(&rows)? {
            for (encoded, row) in encoded.iter_mut().zip(head.to_vec2()?) {
                encoded.logits.push(row);
            }
        }
        Ok(encoded)
    }
}

/// What training minimises.
pub struct Objective {
    label_smoothing: f64,
    /// By head and label, what is added to the logits before the loss; empty where nothing is.
    offsets: Vec<Vec<f32>>,
}

impl Objective {
    /// With label smoothing `s` the target is `1 - s` on the label and `s` spread evenly (Szegedy et
    /// al. 2016). With logit adjustment `τ` the loss sees the logits plus `τ log π`, where `π` are the
    /// shares of the labels among `labels` (Menon et al. 2021, Long-tail learning via logit adjustment),
    /// each counted once more than it is there: the logits themselves then favour rare labels.
    /// `counts` is the number of labels of each head.
    pub fn new(
        labels: &[&[Option<usize>]],
        counts: &[usize],
        label_smoothing: f64,
        logit_adjustment: f64,
    ) -> Self {
        let offsets = counts.iter().enumerate().map(|(head, &count)| {
            if logit_adjustment == 0.0 {
                return Vec::new();
            }
            let mut seen = vec![1.0; count];
            for label in labels.iter().filter_map(|labels| labels[head]) {
                seen[label] += 1.0;
            }
            let all: f64 = seen.iter().sum();
            seen.iter()
                .map(|seen| (logit_adjustment * (seen / all).ln()) as f32)
                .collect()
        });
        Self {
            label_smoothing,
            offsets: offsets.collect(),
        }
    }

    /// Negative log-likelihood of the issues' labels, a scalar: the weighted mean over the batch of the
    /// sum over heads. `weights` (B) say how much each issue counts. A head that does not apply to an
    /// issue, or of which nothing is known, (`None`) adds nothing for it, so that a conditional head
    /// learns `P(label | head applies)`.
    pub fn loss(
        &self,
        logits: &[Tensor],
        labels: &[&[Option<usize>]],
        weights: &[f32],
    ) -> Result<Tensor> {
        let count = labels.len();
        let device = logits[0].device();
        let mut total = Tensor::zeros((), DType::F32, device)?;
        for (head, logits) in logits.iter().enumerate() {
            // An issue to which the head does not apply counts with weight 0, so that the head is part
            // of the graph in a batch where it applies to none.
            let (targets, weights): (Vec<u32>, Vec<f32>) = labels
                .iter()
                .zip(weights)
                .map(|(labels, &weight)| {
                    labels[head].map_or((0, 0.0), |label| (label as u32, weight))
                })
                .unzip();
            let targets = Tensor::from_vec(targets, (count, 1), device)?;
            let weights = Tensor::from_vec(weights, (count, 1), device)?;
            let mut logits = logits.clone(); // (B, labels)
            if !self.offsets[head].is_empty() {
                logits =
                    logits.broadcast_add(&Tensor::new(self.offsets[head].as_slice(), device)?)?;
            }
            let log_probabilities = candle_nn::ops::log_softmax(&logits, D::Minus1)?; // (B, labels)
            let of_label = log_probabilities.gather(&targets, 1)?; // (B, 1)
            let spread = log_probabilities.mean_keepdim(D::Minus1)?; // (B, 1)
            let smoothing = self.label_smoothing;
            let likelihood = ((of_label * (1.0 - smoothing))? + (spread * smoothing)?)?;
            total = (total - (likelihood * weights)?.sum_all()?)?;
        }
        let all: f32 = weights.iter().sum();
        total / f64::from(all)
    }
}

/// One issue's logits from both branches, a row per head each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BranchLogits {
    pub encoder: Vec<Vec<f32>>,
    pub lexical: Vec<Vec<f32>>,
}

impl BranchLogits {
    /// The branches weighed and added up, a row per head.
    pub fn combine(&self, weights: &[BranchWeights]) -> Vec<Vec<f32>> {
        let branches = self.encoder.iter().zip(&self.lexical);
        weights
            .iter()
            .zip(branches)
            .map(|(weights, (encoder, lexical))| weights.combine(encoder, lexical))
            .collect()
    }
}

/// How much the logits of each branch count for a head: what calibration fits. With `lexical` 0,
/// `1/encoder` is the temperature of Guo et al. 2017.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BranchWeights {
    pub encoder: f32,
    pub lexical: f32,
}

impl BranchWeights {
    /// The head's logits, from those of both branches.
    pub fn combine(self, encoder: &[f32], lexical: &[f32]) -> Vec<f32> {
        encoder
            .iter()
            .zip(lexical)
            .map(|(e, l)| self.encoder * e + self.lexical * l)
            .collect()
    }
}

/// Turns one issue's logits, a row per head, into labels that are consistent with the taxonomy.
///
/// Heads are decided in order. A head that applies takes its most probable label; one that does not
/// apply, given the labels already decided, takes none. The distribution is the marginal one: a
/// conditional head's probabilities are multiplied by the probability that it applies, so that each
/// is the probability of that label being right. A label less probable than the head's entry of
/// `min_confidence` is abstained from; heads beyond its end never abstain.
pub fn decode(
    logits: &[Vec<f32>],
    taxonomy: &Taxonomy,
    min_confidence: &[f32],
) -> Vec<HeadPrediction> {
    let mut labels: Vec<Option<usize>> = Vec::with_capacity(logits.len());
    let mut heads: Vec<HeadPrediction> = Vec::with_capacity(logits.len());
    for (head, logits) in logits.iter().enumerate() {
        let condition = taxonomy.heads[head].applies_when.as_ref();
        let applies: f32 = condition.map_or(1.0, |condition| {
            condition
                .labels
                .iter()
                .map(|&label| heads[condition.head].distribution[label])
                .sum()
        });
        let mut distribution = softmax(logits);
        distribution.iter_mut().for_each(|p| *p *= applies);
        let label = taxonomy
            .applies(head, &labels)
            .then(|| argmax(&distribution));
        if condition.is_some() {
            distribution.push((1.0 - applies).max(0.0));
        }
        // Where the head does not apply, that is the distribution's last entry.
        let probability = distribution[label.unwrap_or(distribution.len() - 1)];
        labels.push(label);
        heads.push(HeadPrediction {
            label,
            probability,
            distribution,
            abstained: min_confidence
                .get(head)
                .is_some_and(|&least| probability < least),
        });
    }
    heads
}

/// Exponentials of the logits, scaled to sum to 1.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut values: Vec<f32> = logits.iter().map(|x| (x - max).exp()).collect();
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|x| *x /= sum);
    values
}

/// The first of the largest values.
fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::taxonomy::{Condition, Head, Label};

    fn taxonomy() -> Taxonomy {
        let label = |name: &&str| Label {
            name: (*name).into(),
            ..Label::default()
        };
        let head = |name: &str, labels: &[&str], applies_when| Head {
            name: name.into(),
            applies_when,
            labels: labels.iter().map(label).collect(),
            ..Head::default()
        };
        Taxonomy {
            heads: vec![
                head("kind", &["bug", "feature", "question"], None),
                head(
                    "category",
                    &["memory", "gpu"],
                    Some(Condition {
                        head: 0,
                        labels: vec![0],
                    }),
                ),
            ],
        }
    }

    #[test]
    fn a_prediction_is_never_inconsistent() {
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
            (seed >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        for _ in 0..1000 {
            let logits = vec![
                (0..3).map(|_| random()).collect(),
                (0..2).map(|_| random()).collect(),
            ];
            let heads = decode(&logits, &taxonomy(), &[]);
            assert_eq!(heads[1].label.is_some(), heads[0].label == Some(0));
            for head in heads {
                assert!((head.distribution.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                let at = head.label.unwrap_or(head.distribution.len() - 1);
                assert_eq!(head.probability, head.distribution[at]);
            }
        }
    }

    #[test]
    fn a_conditional_label_is_as_probable_as_the_head_applying_and_the_label() {
        // P(bug) = 1/2, P(memory | bug) = 3/4
        let logits = vec![vec![2f32.ln(), 0.0, 0.0], vec![3f32.ln(), 0.0]];
        let heads = decode(&logits, &taxonomy(), &[0.4, 0.4]);
        assert!((heads[1].probability - 0.375).abs() < 1e-6);
        assert!((heads[1].distribution[2] - 0.5).abs() < 1e-6);
        assert!(!heads[0].abstained && heads[1].abstained);
    }

    #[test]
    fn a_head_that_does_not_apply_gets_no_gradient() {
        let logits = [
            Var::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
            Var::zeros((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
        ];
        let labels: [&[Option<usize>]; 2] = [&[Some(0), Some(1)], &[Some(1), None]];
        let tensors: Vec<Tensor> = logits.iter().map(|v| v.as_tensor().clone()).collect();
        let objective = Objective::new(&labels, &[3, 2], 0.0, 0.0);
        let loss = objective.loss(&tensors, &labels, &[1.0, 1.0]).unwrap();
        let grads = loss.backward().unwrap();
        let grad: Vec<Vec<f32>> = grads.get(&logits[1]).unwrap().to_vec2().unwrap();
        assert_eq!(grad, [[0.25, -0.25], [0.0, 0.0]]);
    }

    #[test]
    fn smoothing_spreads_a_part_of_the_target_over_all_labels() {
        let logits = Tensor::new(&[[1f32, 0.0, -1.0]], &Device::Cpu).unwrap();
        let log_sum = (1f64.exp() + 1.0 + (-1f64).exp()).ln();
        let expected = -(0.9 * (1.0 - log_sum) + 0.1 * (0.0 - log_sum));
        let labels: [&[Option<usize>]; 1] = [&[Some(0)]];
        let objective = Objective::new(&labels, &[3], 0.1, 0.0);
        let loss = scalar(objective.loss(&[logits], &labels, &[1.0]).unwrap());
        assert!((loss - expected).abs() < 1e-6);
    }

    fn scalar(loss: Tensor) -> f64 {
        f64::from(loss.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn an_issue_that_counts_twice_is_as_good_as_two() {
        let rows = [[1f32, 0.0, -1.0], [0.0, 0.5, 0.0]];
        let labels: [&[Option<usize>]; 3] = [&[Some(0)], &[Some(2)], &[Some(2)]];
        let objective = Objective::new(&labels, &[3], 0.1, 0.0);
        let twice = Tensor::new(&[rows[0], rows[1], rows[1]], &Device::Cpu).unwrap();
        let once = Tensor::new(&rows, &Device::Cpu).unwrap();
        let expected = scalar(objective.loss(&[twice], &labels, &[1.0; 3]).unwrap());
        let weighted = scalar(objective.loss(&[once], &labels[..2], &[1.0, 2.0]).unwrap());
        assert!((expected - weighted).abs() < 1e-6);
    }

    #[test]
    fn adjusted_logits_are_those_whose_likelihood_is_highest_under_equal_shares() {
        // 7 of 8 issues have label 0; with the count of one more each, its share is 8/10. Logits that
        // say nothing are best where the adjustment alone gives the shares.
        let labels: Vec<&[Option<usize>]> = (0..8)
            .map(|i| -> &[Option<usize>] {
                if i == 0 { &[Some(1)] } else { &[Some(0)] }
            })
            .collect();
        let objective = Objective::new(&labels, &[2], 0.0, 1.0);
        let loss = |logits: [f32; 2]| {
            let logits = Tensor::new(&[logits; 8], &Device::Cpu).unwrap();
            scalar(objective.loss(&[logits], &labels, &[1.0; 8]).unwrap())
        };
        let expected = -(7.0 * 0.8f64.ln() + 0.2f64.ln()) / 8.0;
        assert!((loss([0.0, 0.0]) - expected).abs() < 1e-6);
        assert!(loss([1.0, 0.0]) < loss([2.0, 0.0]) && loss([-0.5, 0.0]) > loss([0.0, 0.0]));
    }
}
