//! What the labels given so far teach: heads on frozen features, fitted in a moment.
//!
//! Each head is a multinomial logistic regression on an issue's features, on top of logits that are
//! known before (a model's calibrated ones, or zero): with few labels it says what the model says, with
//! more it departs from it. It is fitted where the head applies, by accelerated gradient steps
//! (Nesterov 1983, with the restarts of O'Donoghue and Candès 2015).

use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::heads::softmax;
use crate::taxonomy::Taxonomy;

/// Steps of a fit: those after them change no rank.
const STEPS: usize = 100;
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
        // Momentum that points uphill is dropped.
        if (&gradient * &moved).sum() > 0.0 {
            momentum = 1.0;
        }
        let next_momentum = 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt());
        ahead = &next + &(moved * ((momentum - 1.0) / next_momentum));
        momentum = next_momentum;
        *weights = next;
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

/// A text's words in `dimensions` numbers of length 1: a sign and a place drawn for every word from its
/// hash (Weinberger et al. 2009). Beside an encoder that was not fine-tuned, which reads error codes
/// badly.
pub fn word_features(text: &str, dimensions: usize) -> Vec<f32> {
    let mut features = vec![0f32; dimensions];
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut counts = std::collections::BTreeMap::<&str, f32>::new();
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1.0;
    }
    for (word, count) in counts {
        let seed = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let sign = if random.random::<bool>() { 1.0 } else { -1.0 };
        features[random.random_range(0..dimensions)] += sign * (1.0 + count.ln());
    }
    let norm = features.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        features.iter_mut().for_each(|x| *x /= norm);
    }
    features
}
