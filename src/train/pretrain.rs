//! Continued pre-training: masked language modelling on issues' texts, which need no labels, adapts an
//! encoder to how issues are written (Gururangan et al. 2020, Don't stop pretraining).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{D, DType, Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::TrainError;
use super::optimizer::{AdamW, Parameter, schedule};
use super::sampling::epoch_batches;
use super::settings::Precision;
use super::trainer::{is_decayed, used_by_encoder, variables};
use crate::issue::Issue;
use crate::issue::condense::condense;
use crate::model::batch::Batch;
use crate::model::bundle::Base;
use crate::model::encoder::{Config, Dropout, Encoder};
use crate::model::{ModelError, builder, linear, tokenize};

/// How to pre-train.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PretrainSettings {
    pub epochs: usize,
    /// Issues a step.
    pub batch_size: usize,
    /// The highest.
    pub learning_rate: f64,
    pub weight_decay: f64,
    /// Fraction of the steps over which the learning rate rises.
    pub warmup: f64,
    pub clip_norm: f64,
    pub dropout: f64,
    /// Share of the tokens that are to be guessed, in `(0, 1)`.
    pub masked: f64,
    /// Tokens of an issue at most.
    pub max_tokens: usize,
    pub precision: Precision,
    pub seed: u64,
}

impl Default for PretrainSettings {
    fn default() -> Self {
        Self {
            epochs: 4,
            batch_size: 16,
            learning_rate: 2e-4,
            weight_decay: 0.01,
            warmup: 0.1,
            clip_norm: 1.0,
            dropout: 0.0,
            masked: 0.25,
            max_tokens: 256,
            precision: Precision::F32,
            seed: 0,
        }
    }
}

/// What a pre-training tells while it runs.
pub enum PretrainEvent {
    Started {
        issues: usize,
        steps: usize,
    },
    /// The loss is the mean negative log-likelihood of the masked tokens, in nats.
    Step {
        step: usize,
        loss: f32,
    },
}

/// Trains all of the encoder to guess tokens that are hidden from it. Raising `stop` ends it after the
/// running step.
///
/// # Errors
/// The tokenizer has no `[MASK]`, there are no issues, or the encoder takes fewer tokens.
pub fn pretrain(
    base: Base,
    issues: &[Issue],
    settings: &PretrainSettings,
    device: &Device,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(PretrainEvent),
) -> Result<Base, TrainError> {
    if settings.max_tokens > base.config.max_position_embeddings {
        return Err(TrainError::TooManyTokens(
            base.config.max_position_embeddings,
        ));
    }
    let tokenizer = base.truncating_tokenizer(settings.max_tokens)?;
    let id = |token: &str| tokenizer.token_to_id(token).ok_or(TrainError::NoMask);
    let masking = Masking {
        mask: id("[MASK]")?,
        special: [id("[CLS]")?, id("[SEP]")?],
        vocabulary: base.config.vocab_size as u32,
        share: settings.masked,
    };
    let sequences = issues
        .par_iter()
        .map(|Issue { title, body, .. }| {
            tokenize(&tokenizer, &condense(title, body, settings.max_tokens))
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    if lengths.is_empty() {
        return Err(TrainError::NoExamples(0));
    }

    let encoder = variables(used_by_encoder(&base))?;
    let head = variables(GuessingHead::fresh(&base.config, settings.seed, device)?)?;
    let tensors = encoder
        .iter()
        .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    let network = Encoder::load(builder(tensors.collect(), device), &base.config)?;
    let network = network.in_precision(settings.precision.dtype());
    let words = encoder["embeddings.word_embeddings.weight"]
        .as_tensor()
        .clone();
    let guess = GuessingHead::new(&head, words, base.config.layer_norm_eps);
    let mut parameters: Vec<Parameter> = encoder
        .into_iter()
        .chain(head)
        .map(|(name, var)| Parameter {
            weight_decay: if is_decayed(&name) {
                settings.weight_decay
            } else {
                0.0
            },
            learning_rate: settings.learning_rate,
            name,
            var,
        })
        .collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    let mut optimizer = AdamW::new(parameters)?;

    let steps = settings.epochs * lengths.len().div_ceil(settings.batch_size);
    observe(PretrainEvent::Started {
        issues: issues.len(),
        steps,
    });
    let mut step = 0;
    'training: for epoch in 1..=settings.epochs {
        for indices in epoch_batches(&lengths, settings.batch_size, settings.seed, epoch) {
            if stop.load(Ordering::Relaxed) {
                break 'training;
            }
            let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
            rng.set_stream(step as u64);
            let hidden: Vec<Hidden> = indices
                .iter()
                .map(|&i| masking.hide(&sequences[i], &mut rng))
                .collect();
            let batch = Batch::pack(hidden.iter().map(|hidden| hidden.tokens.as_slice()));
            let (mut places, mut truth) = (Vec::new(), Vec::<u32>::new());
            for (hidden, offset) in hidden.iter().zip(batch.offsets().iter()) {
                places.extend(hidden.places.iter().map(|place| (offset + place) as u32));
                truth.extend(&hidden.truth);
            }
            step += 1;
            if places.is_empty() {
                continue;
            }
            let count = places.len();
            let seed = settings
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add(step as u64);
            let mut dropout = Dropout::new(settings.dropout as f32, seed);
            let states = network.forward(&batch, &mut dropout)?; // (N, H)
            let states = states
                .to_dtype(DType::F32)?
                .index_select(&Tensor::from_vec(places, count, device)?, 0)?; // (M, H)
            let logits = guess.forward(&states)?; // (M, vocabulary)
            let truth = Tensor::from_vec(truth, (count, 1), device)?;
            let likelihood = candle_nn::ops::log_softmax(&logits, D::Minus1)?.gather(&truth, 1)?;
            let loss = likelihood.mean_all()?.neg()?;
            let rate = schedule(step - 1, steps, settings.warmup);
            optimizer.step(&loss.backward()?, rate, settings.clip_norm)?;
            observe(PretrainEvent::Step {
                step,
                loss: loss.to_scalar()?,
            });
        }
    }
    let mut tensors = HashMap::new();
    for Parameter { name, var, .. } in optimizer.parameters() {
        if !name.starts_with(GUESS) {
            tensors.insert(name.clone(), var.as_tensor().copy()?);
        }
    }
    Ok(Base { tensors, ..base })
}

/// Begins the names of the head's parameters.
const GUESS: &str = "guess.";

/// BERT's head for masked language modelling, whose output embeddings are the words'.
struct GuessingHead {
    dense: (Tensor, Tensor), // (H, H), (H)
    norm: (Tensor, Tensor),  // (H), (H)
    eps: f64,
    words: Tensor, // (vocabulary, H)
    bias: Tensor,  // (vocabulary)
}

impl GuessingHead {
    fn fresh(
        config: &Config,
        seed: u64,
        device: &Device,
    ) -> candle_core::Result<Vec<(String, Tensor)>> {
        let hidden = config.hidden_size;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Near the identity, so that the encoder's states are guesses from the beginning.
        let dense: Vec<f32> = (0..hidden * hidden)
            .map(|i| f32::from(u8::from(i % (hidden + 1) == 0)) + rng.random_range(-0.02..0.02))
            .collect();
        let named = |name: &str| format!("{GUESS}{name}");
        Ok(vec![
            (
                named("dense.weight"),
                Tensor::from_vec(dense, (hidden, hidden), device)?,
            ),
            (
                named("dense.bias"),
                Tensor::zeros(hidden, DType::F32, device)?,
            ),
            (
                named("LayerNorm.weight"),
                Tensor::ones(hidden, DType::F32, device)?,
            ),
            (
                named("LayerNorm.bias"),
                Tensor::zeros(hidden, DType::F32, device)?,
            ),
            (
                named("bias"),
                Tensor::zeros(config.vocab_size, DType::F32, device)?,
            ),
        ])
    }

    fn new(vars: &HashMap<String, Var>, words: Tensor, eps: f64) -> Self {
        let get = |name: &str| vars[&format!("{GUESS}{name}")].as_tensor().clone();
        Self {
            dense: (get("dense.weight"), get("dense.bias")),
            norm: (get("LayerNorm.weight"), get("LayerNorm.bias")),
            eps,
            words,
            bias: get("bias"),
        }
    }

    /// Logits (M, vocabulary) of M hidden states (M, H).
    fn forward(&self, states: &Tensor) -> candle_core::Result<Tensor> {
        let x = linear(states, &self.dense.0, &self.dense.1)?;
        let x = crate::model::layer_norm(&x, &self.norm.0, &self.norm.1, self.eps)?;
        linear(&x, &self.words, &self.bias)
    }
}

/// Which tokens are hidden, and how.
struct Masking {
    mask: u32,
    special: [u32; 2],
    vocabulary: u32,
    share: f64,
}

/// A sequence with some tokens hidden.
struct Hidden {
    tokens: Vec<u32>,
    places: Vec<usize>,
    /// The tokens that were in those places.
    truth: Vec<u32>,
}

impl Masking {
    /// Of the tokens to guess, 8 of 10 are masked, 1 is a random token and 1 itself (Devlin et al. 2019).
    fn hide(&self, tokens: &[u32], rng: &mut ChaCha8Rng) -> Hidden {
        let mut hidden = Hidden {
            tokens: tokens.to_vec(),
            places: Vec::new(),
            truth: Vec::new(),
        };
        for (place, token) in hidden.tokens.iter_mut().enumerate() {
            if self.special.contains(token) || !rng.random_bool(self.share) {
                continue;
            }
            hidden.places.push(place);
            hidden.truth.push(*token);
            match rng.random_range(0..10) {
                0 => {}
                1 => *token = rng.random_range(0..self.vocabulary),
                _ => *token = self.mask,
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_known_and_special_tokens_are_not() {
        let masking = Masking {
            mask: 103,
            special: [101, 102],
            vocabulary: 1000,
            share: 0.25,
        };
        let tokens: Vec<u32> = std::iter::once(101).chain(200..900).chain([102]).collect();
        let hidden = masking.hide(&tokens, &mut ChaCha8Rng::seed_from_u64(1));
        let count = hidden.places.len();
        assert!((130..220).contains(&count), "{count}");
        for (&place, &truth) in hidden.places.iter().zip(&hidden.truth) {
            assert_eq!(tokens[place], truth);
        }
        let masked = hidden.tokens.iter().filter(|&&t| t == 103).count();
        assert!(
            masked > count * 7 / 10 && masked < count * 9 / 10,
            "{masked} of {count}"
        );
        assert_eq!((hidden.tokens[0], hidden.tokens[701]), (101, 102));
        let changed = (0..tokens.len()).filter(|&i| hidden.tokens[i] != tokens[i]);
        assert!(changed.into_iter().all(|i| hidden.places.contains(&i)));
    }
}
