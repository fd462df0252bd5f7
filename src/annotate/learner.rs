//! What the labels given so far teach: heads on frozen features, fitted in a moment.
//!
//! Each head is a multinomial logistic regression on an issue's features, on top of logits that are
//! known before (a model's calibrated ones, or zero): with few labels it says what the model says, with
//! more it departs from it. It is fitted where the head applies, by accelerated gradient steps
//! (Nesterov 1983, with the restarts of O'Donoghue and Candès 2015).

use ndarray::{Array1, Array2, ArrayView1, Axis, s};

use crate::model::heads::softmax;
use crate::taxonomy::Taxonomy;

/// Steps of a fit, at most: those after them change no rank.
const STEPS: usize = 100;
/// A fit ends with a step that moves no weight as far as this.
const TOLERANCE: f32 = 2e-3;
/// The feature that stands for the bias: as strong as the strongest direction of the others, or its
/// curvature would keep every step small.
const BIAS: f32 = 0.3;

/// The issues to choose from, as numbers.
#[derive(Debug, Clone)]
pub struct Pool {
    /// (N, D)
    pub features: Array2<f32>,
    /// By head, the logits known before (N, labels).
    pub offsets: Vec<Array2<f32>>,
}

impl Pool {
    /// Features of embeddings (N, H): centred, and scaled to length 1, so that a fit does not depend on
    /// the encoder's scale.
    pub fn normalised(mut embeddings: Array2<f32>) -> Array2<f32> {
        if let Some(mean) = embeddings.mean_axis(Axis(0)) {
            embeddings -= &mean;
        }
        for mut row in embeddings.rows_mut() {
            let norm = row.dot(&row).sqrt();
            if norm > 0.0 {
                row /= norm;
            }
        }
        embeddings
    }

    pub fn len(&self) -> usize {
        self.features.nrows()
    }

    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }
}

/// An issue's place in the pool and its labels, an entry per head.
pub type Labelled<'a> = (usize, &'a [Option<usize>]);

/// The heads as the labels so far have them.
#[derive(Debug, Clone)]
pub struct Learner {
    /// How strongly the heads are held to the logits known before: the variance that a weight has by
    /// itself (`C` of scikit-learn's `LogisticRegression`).
    variance: f32,
    /// By head (D + 1, labels), the bias last.
    weights: Vec<Array2<f32>>,
}

impl Learner {
    pub fn new(taxonomy: &Taxonomy, features: usize, variance: f32) -> Self {
        let weights = taxonomy
            .heads
            .iter()
            .map(|head| Array2::zeros((features + 1, head.labels.len())));
        Self {
            variance,
            weights: weights.collect(),
        }
    }

    /// Fits every head to the labels of issues of the pool, from where it stands.
    pub fn fit(&mut self, pool: &Pool, labelled: &[Labelled<'_>]) {
        let variance = self.variance;
        for (head, weights) in self.weights.iter_mut().enumerate() {
            let examples: Vec<(usize, usize)> = labelled
                .iter()
                .filter_map(|(place, labels)| Some((*place, labels[head]?)))
                .collect();
            if examples.is_empty() {
                continue;
            }
            let places: Vec<usize> = examples.iter().map(|(place, _)| *place).collect();
            let features = with_bias(pool.features.select(Axis(0), &places)); // (n, D + 1)
            let offsets = pool.offsets[head].select(Axis(0), &places); // (n, labels)
            let mut targets = Array2::<f32>::zeros(offsets.dim());
            for (row, (_, label)) in examples.iter().enumerate() {
                targets[[row, *label]] = 1.0;
            }
            descend(weights, &features, &offsets, &targets, variance);
        }
    }

    /// By head (N, labels), the probability of each label where the head applies.
    pub fn probabilities(&self, pool: &Pool) -> Vec<Array2<f32>> {
        let features = with_bias(pool.features.clone());
        let heads = self.weights.iter().zip(&pool.offsets);
        heads
            .map(|(weights, offsets)| softmax_rows(features.dot(weights) + offsets))
            .collect()
    }
}

/// Minimises the summed cross-entropy and half the weights' square over `variance`; the bias is free.
fn descend(
    weights: &mut Array2<f32>,
    features: &Array2<f32>,
    offsets: &Array2<f32>,
    targets: &Array2<f32>,
    variance: f32,
) {
    let penalty = 1.0 / variance;
    let bias = weights.nrows() - 1;
    // The curvature is at most half the largest eigenvalue of XᵀX (Böhning 1992), and the penalty.
    let step = 1.0 / (0.5 * largest_eigenvalue(features) + penalty);
    let mut ahead = weights.clone();
    let mut momentum = 1.0f32;
    for _ in 0..STEPS {
        let errors = softmax_rows(features.dot(&ahead) + offsets) - targets; // (n, labels)
        let mut gradient = features.t().dot(&errors); // (D + 1, labels)
        gradient
            .slice_mut(s![..bias, ..])
            .scaled_add(penalty, &ahead.slice(s![..bias, ..]));
        let next = &ahead - &(&gradient * step);
        let moved = &next - &*weights;
        let moved_most = moved.fold(0f32, |most, by| most.max(by.abs()));
        // Momentum that points uphill is dropped.
        if (&gradient * &moved).sum() > 0.0 {
            momentum = 1.0;
        }
        let next_momentum = 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt());
        ahead = &next + &(moved * ((momentum - 1.0) / next_momentum));
        momentum = next_momentum;
        *weights = next;
        if moved_most < TOLERANCE {
            break;
        }
    }
}

/// The largest eigenvalue of `XᵀX`, a little above it, by power iteration.
fn largest_eigenvalue(features: &Array2<f32>) -> f32 {
    let mut vector = Array1::from_elem(features.ncols(), 1.0 / (features.ncols() as f32).sqrt());
    let mut value = 1.0;
    for _ in 0..12 {
        let next = features.t().dot(&features.dot(&vector));
        value = next.dot(&next).sqrt();
        if value == 0.0 {
            return 1.0;
        }
        vector = next / value;
    }
    1.1 * value
}

fn with_bias(features: Array2<f32>) -> Array2<f32> {
    let ones = Array2::from_elem((features.nrows(), 1), BIAS);
    ndarray::concatenate![Axis(1), features, ones]
}

fn softmax_rows(mut logits: Array2<f32>) -> Array2<f32> {
    for mut row in logits.rows_mut() {
        let probabilities = softmax(&row.to_vec());
        row.assign(&ArrayView1::from(&probabilities));
    }
    logits
}

/// By issue and head, the probability that the head applies.
pub fn applies(taxonomy: &Taxonomy, probabilities: &[Array2<f32>]) -> Vec<Array1<f32>> {
    let mut applies: Vec<Array1<f32>> = Vec::new();
    for head in &taxonomy.heads {
        let of_head = match &head.applies_when {
            None => Array1::ones(probabilities[0].nrows()),
            Some(condition) => {
                let sum = probabilities[condition.head]
                    .select(Axis(1), &condition.labels)
                    .sum_axis(Axis(1));
                sum * &applies[condition.head]
            }
        };
        applies.push(of_head);
    }
    applies
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAXONOMY: &str = r#"
[[heads]]
name = "kind"
title = "Kind"
definition = ""
labels = [
    { name = "bug", title = "Bug", definition = "" },
    { name = "feature", title = "Feature", definition = "" },
]

[[heads]]
name = "area"
title = "Area"
definition = ""
applies_when = { head = "kind", labels = ["bug"] }
labels = [
    { name = "gpu", title = "GPU", definition = "" },
    { name = "api", title = "API", definition = "" },
]
"#;

    /// Issues on a ring: the upper half are bugs, of which the right are of the GPU.
    fn ring(offsets: f32) -> (Taxonomy, Pool, Vec<Vec<Option<usize>>>) {
        let angles: Vec<f32> = (0..40).map(|i| (i as f32 + 0.5) * 0.1571).collect();
        let features = Array2::from_shape_fn((40, 2), |(i, side)| match side {
            0 => angles[i].cos(),
            _ => angles[i].sin(),
        });
        let labels = angles.iter().map(|angle| match angle.sin() > 0.0 {
            true => vec![Some(0), Some(usize::from(angle.cos() < 0.0))],
            false => vec![Some(1), None],
        });
        let labels = labels.collect();
        let offset = Array2::from_shape_fn((40, 2), |(_, label)| offsets * label as f32);
        let pool = Pool {
            features,
            offsets: vec![offset.clone(), offset],
        };
        (
            Taxonomy::from_toml(TAXONOMY, "taxonomy").unwrap(),
            pool,
            labels,
        )
    }

    fn fitted(
        variance: f32,
        offsets: f32,
        every: usize,
    ) -> (Vec<Array2<f32>>, Vec<Vec<Option<usize>>>) {
        let (taxonomy, pool, labels) = ring(offsets);
        let known: Vec<Labelled> = (0..40)
            .step_by(every)
            .map(|place| (place, labels[place].as_slice()))
            .collect();
        let mut learner = Learner::new(&taxonomy, 2, variance);
        learner.fit(&pool, &known);
        (learner.probabilities(&pool), labels)
    }

    #[test]
    fn a_few_labels_teach_the_rest_and_a_head_only_where_it_applies() {
        let (probabilities, labels) = fitted(100.0, 0.0, 4);
        for (head, probabilities) in probabilities.iter().enumerate() {
            let right = (0..40).filter(|&place| {
                labels[place][head].is_none_or(|label| probabilities[[place, label]] > 0.5)
            });
            assert!(right.count() >= 36, "{head}");
        }
    }

    #[test]
    fn without_labels_the_logits_known_before_decide() {
        let (taxonomy, pool, _) = ring(3.0);
        let mut learner = Learner::new(&taxonomy, 2, 1.0);
        learner.fit(&pool, &[]);
        let expected = 1.0 / (1.0 + 3f32.exp());
        for p in learner.probabilities(&pool)[0].column(0) {
            assert!((p - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn without_freedom_the_features_say_nothing() {
        let (probabilities, _) = fitted(1e-6, 3.0, 4);
        assert!(probabilities[0].column(0).std(0.0) < 1e-3);
        let (probabilities, _) = fitted(100.0, 3.0, 4);
        assert!(probabilities[0].column(0).std(0.0) > 0.1);
    }

    #[test]
    fn the_fit_is_a_minimum() {
        // Moving any weight of the fit makes the objective worse.
        let (taxonomy, pool, labels) = ring(0.0);
        let known: Vec<Labelled> = (0..40).map(|p| (p, labels[p].as_slice())).collect();
        let mut learner = Learner::new(&taxonomy, 2, 1.0);
        (0..5).for_each(|_| learner.fit(&pool, &known));
        let objective = |learner: &Learner| {
            let probabilities = &learner.probabilities(&pool)[0];
            let loss: f32 = (0..40)
                .map(|place| -probabilities[[place, labels[place][0].unwrap()]].ln())
                .sum();
            let weights = learner.weights[0].slice(s![..2, ..]).to_owned();
            loss + 0.5 * (&weights * &weights).sum()
        };
        let least = objective(&learner);
        for index in 0..6 {
            for step in [-0.05, 0.05] {
                let mut moved = learner.clone();
                moved.weights[0][[index / 2, index % 2]] += step;
                assert!(objective(&moved) > least, "{index} {step}");
            }
        }
    }

    #[test]
    fn a_conditional_head_applies_as_probably_as_its_condition() {
        let taxonomy = ring(0.0).0;
        let probabilities = [
            Array2::from_shape_vec((2, 2), vec![0.75, 0.25, 0.5, 0.5]).unwrap(),
            Array2::from_elem((2, 2), 0.5),
        ];
        let applies = applies(&taxonomy, &probabilities);
        assert_eq!(applies[0].to_vec(), [1.0, 1.0]);
        assert_eq!(applies[1].to_vec(), [0.75, 0.5]);
    }
}
