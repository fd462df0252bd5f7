//! The lexical branch: a linear classifier over words and character n-grams, beside the encoder.
//!
//! Error codes and library names decide many issues, and a sub-word encoder with few examples does not
//! learn them all. Features are words, pairs of neighbouring words and character 3- to 5-grams within
//! words, hashed into buckets (Weinberger et al. 2009), weighted by TF-IDF with sublinear term
//! frequency and scaled to length 1. Each head is a multinomial logistic regression with
//! class-balanced weights, trained where the head applies by AdaGrad (Duchi et al. 2011).

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::heads::softmax;
use crate::taxonomy::Origin;

/// Features are hashed into this many buckets.
const BUCKETS: usize = 1 << 16;
/// Tokens of the condensed text that the branch reads: more than the encoder has room for.
pub const MAX_TOKENS: usize = 512;
/// A character n-gram is looked for in no more than this many characters of a word.
const MAX_WORD: usize = 40;

const EPOCHS: usize = 20;
/// Where the weights are already good.
const WARM_EPOCHS: usize = 5;
const LEARNING_RATE: f32 = 0.1;

/// Inverse document frequencies and, for every head, weights.
#[derive(Clone)]
pub struct Lexical {
    /// (buckets)
    idf: Vec<f32>,
    heads: Vec<LinearHead>,
}

#[derive(Clone)]
struct LinearHead {
    /// (buckets, labels): a feature's weights lie side by side.
    weights: Vec<f32>,
    /// (labels)
    bias: Vec<f32>,
}

/// A text's non-zero features: bucket and value.
type Features = Vec<(u32, f32)>;

/// What the branch learns from.
pub struct Example<'a> {
    /// Condensed to [`MAX_TOKENS`].
    pub text: &'a str,
    /// An entry per head, `None` where it does not apply.
    pub labels: &'a [Option<usize>],
    /// How much it counts.
    pub weight: f32,
}

/// An [`Example`] to which a head applies.
#[derive(Clone, Copy)]
struct Labelled<'a> {
    features: &'a Features,
    label: usize,
    weight: f32,
}

impl Lexical {
    /// Trains heads with `label_counts` labels. With `start`, goes on from the weights of another branch
    /// with the same heads, and keeps its inverse document frequencies. Deterministic.
    pub fn train(
        examples: &[Example<'_>],
        label_counts: &[usize],
        start: Option<Self>,
        seed: u64,
    ) -> Self {
        let counts: Vec<HashMap<u32, f32>> = examples
            .par_iter()
            .map(|example| count(example.text))
            .collect();
        let epochs = if start.is_some() { WARM_EPOCHS } else { EPOCHS };
        let Self { idf, heads } = start.unwrap_or_else(|| Self {
            idf: inverse_document_frequencies(&counts),
            heads: label_counts.iter().map(|&n| LinearHead::zero(n)).collect(),
        });
        let features: Vec<Features> = counts.into_par_iter().map(|c| weigh(c, &idf)).collect();
        let heads = heads
            .into_par_iter()
            .enumerate()
            .map(|(head, start)| {
                let labelled: Vec<Labelled<'_>> = features
                    .iter()
                    .zip(examples)
                    .filter_map(|(features, example)| {
                        Some(Labelled {
                            features,
                            label: example.labels[head]?,
                            weight: example.weight,
                        })
                    })
                    .collect();
                start.train(&labelled, epochs, seed)
            })
            .collect();
        Self { idf, heads }
    }

    /// The branch for other heads and labels, which come from this one's; what comes from nothing starts
    /// at zero.
    pub fn relabelled(&self, origins: &[Option<Origin>], label_counts: &[usize]) -> Self {
        let heads = origins.iter().zip(label_counts).map(|(origin, &labels)| {
            let mut head = LinearHead::zero(labels);
            let Some(origin) = origin else {
                return head;
            };
            let old = &self.heads[origin.head];
            for (label, origins) in origin
                .labels
                .iter()
                .enumerate()
                .filter(|(_, o)| !o.is_empty())
            {
                let mean = |row: &[f32]| {
                    origins.iter().map(|&o| row[o]).sum::<f32>() / origins.len() as f32
                };
                head.bias[label] = mean(&old.bias);
                let rows = head.weights.chunks_mut(labels);
                for (row, old) in rows.zip(old.weights.chunks(old.bias.len())) {
                    row[label] = mean(old);
                }
            }
            head
        });
        Self {
            idf: self.idf.clone(),
            heads: heads.collect(),
        }
    }

    /// Logits of a condensed text, a row per head.
    pub fn logits(&self, text: &str) -> Vec<Vec<f32>> {
        let features = weigh(count(text), &self.idf);
        self.heads
            .iter()
            .map(|head| head.logits(&features))
            .collect()
    }

    /// The tensors of a bundle: `idf` (buckets), `<head>.weight` (buckets, labels), `<head>.bias`.
    pub fn tensors(&self, heads: &[String]) -> Result<HashMap<String, Tensor>> {
        let device = &Device::Cpu;
        let mut tensors = HashMap::new();
        tensors.insert(
            "idf".into(),
            Tensor::from_slice(&self.idf, BUCKETS, device)?,
        );
        for (name, head) in heads.iter().zip(&self.heads) {
            let labels = head.bias.len();
            let weight = Tensor::from_slice(&head.weights, (BUCKETS, labels), device)?;
            tensors.insert(format!("{name}.weight"), weight);
            tensors.insert(
                format!("{name}.bias"),
                Tensor::from_slice(&head.bias, labels, device)?,
            );
        }
        Ok(tensors)
    }

    /// The branch that [`Lexical::tensors`] gave, for heads of the given names and numbers of labels.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn from_tensors(
        tensors: &HashMap<String, Tensor>,
        heads: &[(String, usize)],
    ) -> Result<Self> {
        let get = |name: &str, shape: &[usize]| match tensors.get(name) {
            Some(tensor) if tensor.dims() == shape => tensor.flatten_all()?.to_vec1::<f32>(),
            Some(tensor) => {
                candle_core::bail!("{name} has shape {:?}, not {shape:?}", tensor.dims())
            }
            None => candle_core::bail!("{name} is missing"),
        };
        Ok(Self {
            idf: get("idf", &[BUCKETS])?,
            heads: heads
                .iter()
                .map(|(name, labels)| {
                    Ok(LinearHead {
                        weights: get(&format!("{name}.weight"), &[BUCKETS, *labels])?,
                        bias: get(&format!("{name}.bias"), &[*labels])?,
                    })
                })
                .collect::<Result<_>>()?,
        })
    }
}

impl LinearHead {
    fn zero(labels: usize) -> Self {
        Self {
            weights: vec![0.0; BUCKETS * labels],
            bias: vec![0.0; labels],
        }
    }

    /// Goes on training.
    fn train(self, examples: &[Labelled<'_>], epochs: usize, seed: u64) -> Self {
        let mut head = self;
        let labels = head.bias.len();
        // Weights that make every label count as much, 1 on average.
        let mut frequency = vec![0f32; labels];
        examples
            .iter()
            .for_each(|example| frequency[example.label] += 1.0);
        let present = frequency.iter().filter(|f| **f > 0.0).count() as f32;
        let balance: Vec<f32> = frequency
            .iter()
            .map(|f| examples.len() as f32 / (present * f.max(1.0)))
            .collect();

        let mut squares = vec![1e-6f32; head.weights.len()];
        let mut bias_squares = vec![1e-6f32; labels];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..examples.len()).collect();
        for _ in 0..epochs {
            order.shuffle(&mut rng);
            for &i in &order {
                let Labelled {
                    features,
                    label,
                    weight,
                } = examples[i];
                let mut error = softmax(&head.logits(features));
                error[label] -= 1.0;
                error.iter_mut().for_each(|e| *e *= balance[label] * weight);
                let step = |weight: &mut f32, square: &mut f32, gradient: f32| {
                    *square += gradient * gradient;
                    *weight -= LEARNING_RATE * gradient / square.sqrt();
                };
                for &(bucket, value) in features {
                    let row = bucket as usize * labels..(bucket as usize + 1) * labels;
                    let cells = head.weights[row.clone()].iter_mut().zip(&mut squares[row]);
                    for ((weight, square), error) in cells.zip(&error) {
                        step(weight, square, error * value);
                    }
                }
                for ((bias, square), error) in
                    head.bias.iter_mut().zip(&mut bias_squares).zip(&error)
                {
                    step(bias, square, *error);
                }
            }
        }
        head
    }

    fn logits(&self, features: &Features) -> Vec<f32> {
        let mut logits = self.bias.clone();
        let labels = logits.len();
        for &(bucket, value) in features {
            let row = &self.weights[bucket as usize * labels..][..labels];
            for (logit, weight) in logits.iter_mut().zip(row) {
                *logit += value * weight;
            }
        }
        logits
    }
}

/// By bucket, `ln((1 + documents) / (1 + documents that have it)) + 1`.
fn inverse_document_frequencies(counts: &[HashMap<u32, f32>]) -> Vec<f32> {
    let mut document_frequency = vec![0f32; BUCKETS];
    for bucket in counts.iter().flat_map(HashMap::keys) {
        document_frequency[*bucket as usize] += 1.0;
    }
    let documents = counts.len() as f32;
    document_frequency
        .iter()
        .map(|df| ((1.0 + documents) / (1.0 + df)).ln() + 1.0)
        .collect()
}

/// How often each bucket's features occur.
fn count(text: &str) -> HashMap<u32, f32> {
    let mut counts = HashMap::new();
    let text = text.to_lowercase();
    let mut previous = None;
    for word in text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
    {
        let hash = fnv(word.as_bytes(), 1);
        let mut add = |hash: u32| *counts.entry(hash % BUCKETS as u32).or_insert(0.0) += 1.0;
        add(hash);
        if let Some(previous) = previous {
            add(fnv(word.as_bytes(), previous));
        }
        previous = Some(hash);
        // The marks at both ends tell a beginning from a middle.
        let characters: Vec<char> = std::iter::once(' ')
            .chain(word.chars().take(MAX_WORD))
            .chain(std::iter::once(' '))
            .collect();
        for length in 3..=5 {
            for gram in characters.windows(length) {
                add(gram
                    .iter()
                    .fold(2, |hash, c| fnv(&u32::from(*c).to_le_bytes(), hash)));
            }
        }
    }
    counts
}

/// The 32-bit FNV-1a hash of bytes, continued from `state`, with a final mix for its low bits.
fn fnv(bytes: &[u8], state: u32) -> u32 {
    let hash = bytes.iter().fold(0x811c_9dc5 ^ state, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    hash ^ (hash >> 15)
}

/// TF-IDF with sublinear term frequency, scaled to length 1, by bucket.
fn weigh(counts: HashMap<u32, f32>, idf: &[f32]) -> Features {
    let mut features: Features = counts
        .into_iter()
        .map(|(bucket, count)| (bucket, (1.0 + count.ln()) * idf[bucket as usize]))
        .collect();
    // In order, so that sums are the same in every run.
    features.sort_unstable_by_key(|(bucket, _)| *bucket);
    let norm = features
        .iter()
        .map(|(_, value)| value * value)
        .sum::<f32>()
        .sqrt();
    if norm > 0.0 {
        features.iter_mut().for_each(|(_, value)| *value /= norm);
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained() -> Lexical {
        let texts: Vec<String> = (0..60)
            .map(|i| match i % 3 {
                0 => format!("nccl timeout on rank {i}"),
                1 => format!("cmake error {i} in the build"),
                _ => format!("how do I use option {i}"),
            })
            .collect();
        let labels: Vec<Vec<Option<usize>>> = (0..60)
            .map(|i| {
                vec![
                    Some(usize::from(i % 3 == 2)),
                    [Some(0), Some(1), None][i % 3],
                ]
            })
            .collect();
        let examples: Vec<Example> = texts
            .iter()
            .zip(&labels)
            .map(|(text, labels)| Example {
                text,
                labels,
                weight: 1.0,
            })
            .collect();
        Lexical::train(&examples, &[2, 2], None, 0)
    }

    #[test]
    fn words_decide_and_a_head_learns_only_where_it_applies() {
        let lexical = trained();
        let logits = lexical.logits("another nccl failure");
        assert!(logits[0][0] > logits[0][1] && logits[1][0] > logits[1][1]);
        let logits = lexical.logits("the cmake build fails");
        assert!(logits[0][0] > logits[0][1] && logits[1][1] > logits[1][0]);
        assert!(lexical.logits("how to use it")[0][1] > 0.0);
    }

    #[test]
    fn training_is_deterministic_and_tensors_carry_it_over() {
        let (first, second) = (trained(), trained());
        let names = ["kind".to_owned(), "category".to_owned()];
        let heads = [("kind".to_owned(), 2), ("category".to_owned(), 2)];
        let loaded = Lexical::from_tensors(&first.tensors(&names).unwrap(), &heads).unwrap();
        for text in ["nccl timeout", "", "cmake 三", &"x".repeat(1000)] {
            assert_eq!(first.logits(text), second.logits(text));
            assert_eq!(first.logits(text), loaded.logits(text));
        }
        let wrong = [("kind".to_owned(), 3), ("category".to_owned(), 2)];
        assert!(Lexical::from_tensors(&first.tensors(&names).unwrap(), &wrong).is_err());
    }

    #[test]
    fn an_unknown_language_or_an_empty_text_has_finite_logits() {
        for text in ["", "   ", "服务器崩溃", "\u{1f41b}"] {
            assert!(
                trained()
                    .logits(text)
                    .concat()
                    .iter()
                    .all(|x| x.is_finite())
            );
        }
    }
}
