//! Fine-tuning: a base model and annotated issues become a [`Bundle`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

mod calibration;
mod optimizer;
mod sampling;

use calibration::{Labelled, fit_weights};
use optimizer::{AdamW, Parameter, schedule};
use sampling::{epoch_batches, validates};

use crate::eval::metrics::ConfusionMatrix;
use crate::issue::Issue;
use crate::issue::condense::condense;
use crate::model::batch::Batch;
use crate::model::bundle::{Base, Bundle, BundleError, Manifest, TextSettings};
use crate::model::encoder::Dropout;
use crate::model::heads::BranchWeights;
use crate::model::lexical::{self, Lexical};
use crate::model::{ModelError, Network, builder, combine, heads, tokenize};
use crate::taxonomy::Taxonomy;

/// How to fine-tune. [`Settings::validate`] checks it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Passes over the training examples.
    pub epochs: usize,
    /// Issues a step.
    pub batch_size: usize,
    /// Highest learning rate of the encoder.
    pub learning_rate: f64,
    /// Highest learning rate of the heads, which start from nothing.
    pub head_learning_rate: f64,
    /// Of weight matrices; biases and norms are not decayed.
    pub weight_decay: f64,
    /// Fraction of the steps over which the learning rate rises.
    pub warmup: f64,
    /// Largest norm of the gradient of all parameters.
    pub clip_norm: f64,
    /// Probability of dropping an activation.
    pub dropout: f64,
    /// Part of the target spread over all labels.
    pub label_smoothing: f64,
    /// Tokens of an issue at most.
    pub max_tokens: usize,
    /// Fraction of the examples, by a hash of their identity, that choose the epoch and calibrate.
    pub validation: f64,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 6,
            batch_size: 16,
            learning_rate: 8e-5,
            head_learning_rate: 1.6e-3,
            weight_decay: 0.01,
            warmup: 0.1,
            clip_norm: 1.0,
            dropout: 0.1,
            label_smoothing: 0.05,
            max_tokens: 256,
            validation: 0.1,
            seed: 0,
        }
    }
}

/// [`Settings`] known to make sense.
pub struct ValidSettings(Settings);

impl Settings {
    /// # Errors
    /// The first setting out of its range, with the range.
    pub fn validate(self) -> Result<ValidSettings, TrainError> {
        let fraction = |value: f64| (0.0..1.0).contains(&value);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let checks = [
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch-size", self.batch_size >= 1, "at least 1"),
            ("learning-rate", positive(self.learning_rate), "above 0"),
            (
                "head-learning-rate",
                positive(self.head_learning_rate),
                "above 0",
            ),
            ("weight-decay", self.weight_decay >= 0.0, "0 or above"),
            ("warmup", fraction(self.warmup), "in [0, 1)"),
            ("clip-norm", positive(self.clip_norm), "above 0"),
            ("dropout", fraction(self.dropout), "in [0, 1)"),
            (
                "label-smoothing",
                fraction(self.label_smoothing),
                "in [0, 1)",
            ),
            ("max-tokens", self.max_tokens >= 8, "at least 8"),
            ("validation", fraction(self.validation), "in [0, 1)"),
        ];
        match checks.into_iter().find(|(_, ok, _)| !ok) {
            None => Ok(ValidSettings(self)),
            Some((name, _, range)) => Err(TrainError::Setting { name, range }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("--{name} must be {range}")]
    Setting {
        name: &'static str,
        range: &'static str,
    },
    #[error(
        "there is nothing to train on: {0} of the annotations have a text; give the --issues that the \
         --labels are about"
    )]
    NoExamples(usize),
    #[error("the base model reads at most {0} tokens; use --max-tokens {0} or fewer")]
    TooManyTokens(usize),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Model(error.into())
    }
}

/// An issue and its labels, an entry per head, `None` where the head does not apply.
pub struct Example {
    pub issue: Issue,
    pub labels: Vec<Option<usize>>,
}

/// What a training tells while it runs.
pub enum Event<'a> {
    Started {
        training: usize,
        validation: usize,
        steps: usize,
    },
    Step {
        step: usize,
        loss: f32,
    },
    Validating,
    Epoch(&'a EpochMetrics),
    /// The model is the best so far, or the last where there is no validation: a chance to save it.
    Improved(&'a mut Bundle),
}

/// Losses and validation metrics of one epoch.
#[derive(Debug, Clone, Serialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: usize,
    /// The part of the epoch that was trained, less than 1 where it was interrupted.
    pub completed: f64,
    /// Mean training loss.
    pub loss: f64,
    /// Mean macro-F1 over heads on the validation split, which chooses the epoch; absent without one.
    pub mean_macro_f1: Option<f64>,
    pub heads: BTreeMap<String, HeadMetrics>,
}

/// Agreement with the annotations of the validation split, `none` included where a head does not
/// apply.
#[derive(Debug, Clone, Serialize)]
pub struct HeadMetrics {
    pub accuracy: Option<f64>,
    pub kappa: Option<f64>,
    pub macro_f1: f64,
}

/// Labels of the taxonomy that no example has, as `head.label`: a model cannot learn them.
pub fn unseen_labels(taxonomy: &Taxonomy, examples: &[Example]) -> Vec<String> {
    let mut unseen = Vec::new();
    for (head, definition) in taxonomy.heads.iter().enumerate() {
        for (label, name) in definition.labels.iter().enumerate() {
            if !examples
                .iter()
                .any(|example| example.labels[head] == Some(label))
            {
                unseen.push(format!("{}.{}", definition.name, name.name));
            }
        }
    }
    unseen
}

/// Fine-tunes all of `base` with new heads for `taxonomy`, trains the lexical branch beside it, and tells `observe` how it goes. Raising
/// `stop` ends it after the running step, with a last validation. Returns the metrics of every epoch;
/// the models come as [`Event::Improved`].
///
/// The same examples in the same order, settings and machine give the same model.
pub fn train(
    base: Base,
    taxonomy: Taxonomy,
    examples: &[Example],
    settings: ValidSettings,
    device: &Device,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>) -> Result<(), BundleError>,
) -> Result<Vec<EpochMetrics>, TrainError> {
    let settings = settings.0;
    let mut trainer = Trainer::new(base, taxonomy, examples, settings, device)?;
    let epochs = trainer.settings.epochs;
    let steps = epochs * trainer.training.len().div_ceil(trainer.settings.batch_size);
    observe(Event::Started {
        training: trainer.training.len(),
        validation: trainer.validation.len(),
        steps,
    })?;
    let mut history: Vec<EpochMetrics> = Vec::new();
    let mut best = f64::NEG_INFINITY;
    for epoch in 1..=epochs {
        let (loss, completed) = trainer.epoch(epoch, steps, stop, observe)?;
        observe(Event::Validating)?;
        let logits = trainer.validation_logits()?;
        let weights = trainer.fit_weights(&logits);
        let metrics = trainer.metrics(epoch, completed, loss, &logits, &weights);
        observe(Event::Epoch(&metrics))?;
        // Without a validation split the last epoch counts as the best.
        let score = metrics.mean_macro_f1.unwrap_or(epoch as f64);
        history.push(metrics);
        if score > best {
            best = score;
            observe(Event::Improved(&mut trainer.bundle(&weights)?))?;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(history)
}

/// A tokenised example.
struct Sequence {
    tokens: Vec<u32>,
    labels: Vec<Option<usize>>,
}

struct Trainer {
    base: Base,
    taxonomy: Taxonomy,
    settings: Settings,
    training: Vec<Sequence>,
    validation: Vec<Sequence>,
    lexical: Lexical,
    /// The lexical branch's logits of the validation split, a row per head for each issue.
    validation_lexical: Vec<Vec<Vec<f32>>>,
    network: Network,
    optimizer: AdamW,
    step: usize,
}

impl Trainer {
    fn new(
        mut base: Base,
        taxonomy: Taxonomy,
        examples: &[Example],
        settings: Settings,
        device: &Device,
    ) -> Result<Self, TrainError> {
        if settings.max_tokens > base.config.max_position_embeddings {
            return Err(TrainError::TooManyTokens(
                base.config.max_position_embeddings,
            ));
        }
        let tokenizer = base.truncating_tokenizer(settings.max_tokens)?;
        let sequences: Vec<(Sequence, String)> = examples
            .par_iter()
            .map(|example| {
                let Issue { title, body, .. } = &example.issue;
                let tokens = tokenize(&tokenizer, &condense(title, body, settings.max_tokens))?;
                let labels = example.labels.clone();
                let words = condense(title, body, lexical::MAX_TOKENS);
                Ok((Sequence { tokens, labels }, words))
            })
            .collect::<Result<_, ModelError>>()?;
        let is_validation = |example: &Example| validates(&example.issue.id, settings.validation);
        let (validation, training): (Vec<_>, Vec<_>) = examples
            .iter()
            .zip(sequences)
            .partition(|(example, _)| is_validation(example));
        if training.is_empty() {
            return Err(TrainError::NoExamples(examples.len()));
        }
        let unzip = |part: Vec<(&Example, (Sequence, String))>| -> (Vec<Sequence>, Vec<String>) {
            part.into_iter().map(|(_, read)| read).unzip()
        };
        let (training, words) = unzip(training);
        let labels: Vec<&[Option<usize>]> = training.iter().map(|s| s.labels.as_slice()).collect();
        let label_counts: Vec<usize> = taxonomy.heads.iter().map(|h| h.labels.len()).collect();
        let lexical = Lexical::train(&words, &labels, &label_counts, settings.seed);
        let (validation, words) = unzip(validation);
        let validation_lexical = words
            .par_iter()
            .map(|words| lexical.logits(words))
            .collect();

        // Tensors that the encoder does not use, such as a pooler, are left behind.
        base.tensors.retain(|name, _| {
            name.starts_with("embeddings.") || name.starts_with("encoder.layer.")
        });
        let encoder = variables(base.tensors.drain())?;
        let hidden = base.config.hidden_size;
        let heads = variables(initial_heads(&taxonomy, hidden, settings.seed, device)?)?;
        let tensors = |vars: &HashMap<String, Var>| {
            vars.iter()
                .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
                .collect()
        };
        let network = Network::load(
            builder(tensors(&encoder), device),
            builder(tensors(&heads), device),
            &base.config,
            &taxonomy,
        )?;
        let parameter = |(name, var): (String, Var), learning_rate| Parameter {
            weight_decay: if is_decayed(&name) {
                settings.weight_decay
            } else {
                0.0
            },
            name,
            var,
            learning_rate,
        };
        let mut parameters: Vec<Parameter> = encoder
            .into_iter()
            .map(|named| parameter(named, settings.learning_rate))
            .chain(
                heads
                    .into_iter()
                    .map(|(name, var)| (format!("{HEAD_PREFIX}{name}"), var))
                    .map(|named| parameter(named, settings.head_learning_rate)),
            )
            .collect();
        // Sums over parameters are to be the same in every run.
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            base,
            taxonomy,
            settings,
            training,
            validation,
            lexical,
            validation_lexical,
            network,
            optimizer: AdamW::new(parameters)?,
            step: 0,
        })
    }

    /// Trains one epoch. Returns the mean loss and the part of the epoch that was done.
    fn epoch(
        &mut self,
        epoch: usize,
        total_steps: usize,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>) -> Result<(), BundleError>,
    ) -> Result<(f64, f64), TrainError> {
        let Settings {
            seed,
            batch_size,
            dropout,
            label_smoothing,
            ..
        } = self.settings;
        let lengths: Vec<usize> = self.training.iter().map(|s| s.tokens.len()).collect();
        let batches = epoch_batches(&lengths, batch_size, seed, epoch);
        let (mut sum, mut done) = (0.0, 0);
        for indices in &batches {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let batch = Batch::pack(indices.iter().map(|&i| self.training[i].tokens.as_slice()));
            let labels: Vec<&[Option<usize>]> = indices
                .iter()
                .map(|&i| self.training[i].labels.as_slice())
                .collect();
            let dropout_seed = seed.wrapping_mul(1_000_003).wrapping_add(self.step as u64);
            let mut dropout = Dropout::new(dropout as f32, dropout_seed);
            let logits = self.network.forward(&batch, &mut dropout)?;
            let loss = heads::loss(&logits, &labels, label_smoothing)?;
            let rate = schedule(self.step, total_steps, self.settings.warmup);
            self.optimizer
                .step(&loss.backward()?, rate, self.settings.clip_norm)?;
            self.step += 1;
            let loss = loss.to_scalar::<f32>()?;
            sum += f64::from(loss);
            done += 1;
            observe(Event::Step {
                step: self.step,
                loss,
            })?;
        }
        Ok((
            sum / f64::from(done.max(1)),
            f64::from(done) / batches.len() as f64,
        ))
    }

    /// Logits of the validation split, a row per head for each issue.
    fn validation_logits(&self) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
        let tokens: Vec<Vec<u32>> = self.validation.iter().map(|s| s.tokens.clone()).collect();
        Ok(self.network.logits(&tokens, 4096)?)
    }

    fn metrics(
        &self,
        epoch: usize,
        completed: f64,
        loss: f64,
        logits: &[Vec<Vec<f32>>],
        weights: &[BranchWeights],
    ) -> EpochMetrics {
        let mut heads = BTreeMap::new();
        if !self.validation.is_empty() {
            let predicted: Vec<_> = logits
                .iter()
                .zip(&self.validation_lexical)
                .map(|(encoder, lexical)| {
                    heads::decode(&combine(weights, encoder, lexical), &self.taxonomy, 0.0)
                })
                .collect();
            for (head, definition) in self.taxonomy.heads.iter().enumerate() {
                let none = definition.labels.len();
                let pairs = self
                    .validation
                    .iter()
                    .zip(&predicted)
                    .map(|(sequence, predicted)| {
                        (
                            sequence.labels[head].unwrap_or(none),
                            predicted[head].label.unwrap_or(none),
                        )
                    });
                let matrix = ConfusionMatrix::from_pairs(pairs, none + 1);
                let metrics = HeadMetrics {
                    accuracy: matrix.accuracy(),
                    kappa: matrix.kappa(),
                    macro_f1: matrix.macro_f1(),
                };
                heads.insert(definition.name.clone(), metrics);
            }
        }
        let mean = heads
            .values()
            .map(|m: &HeadMetrics| m.macro_f1)
            .sum::<f64>()
            / heads.len() as f64;
        EpochMetrics {
            epoch,
            completed,
            loss,
            mean_macro_f1: (!heads.is_empty()).then_some(mean),
            heads,
        }
    }

    /// How much each branch counts for each head, given the encoder's validation logits.
    fn fit_weights(&self, logits: &[Vec<Vec<f32>>]) -> Vec<BranchWeights> {
        (0..self.taxonomy.heads.len())
            .map(|head| {
                let issues = self
                    .validation
                    .iter()
                    .zip(logits)
                    .zip(&self.validation_lexical);
                let examples: Vec<Labelled<'_>> = issues
                    .filter_map(|((sequence, encoder), lexical)| {
                        Some(Labelled {
                            encoder: &encoder[head],
                            lexical: &lexical[head],
                            label: sequence.labels[head]?,
                        })
                    })
                    .collect();
                fit_weights(&examples)
            })
            .collect()
    }

    /// A copy of the model as it is now.
    fn bundle(&self, weights: &[BranchWeights]) -> Result<Bundle, TrainError> {
        let (mut encoder, mut heads) = (HashMap::new(), HashMap::new());
        for Parameter { name, var, .. } in self.optimizer.parameters() {
            let tensor = var.as_tensor().copy()?;
            match name.strip_prefix(HEAD_PREFIX) {
                Some(name) => heads.insert(name.to_owned(), tensor),
                None => encoder.insert(name.clone(), tensor),
            };
        }
        let names = self.taxonomy.heads.iter().map(|head| head.name.clone());
        Ok(Bundle {
            base: Base {
                config: self.base.config.clone(),
                config_json: self.base.config_json.clone(),
                tokenizer: self.base.tokenizer.clone(),
                tensors: encoder,
            },
            heads,
            lexical: self.lexical.clone(),
            manifest: Manifest {
                format: 0,         // set when saved
                id: String::new(), // set when saved
                text: TextSettings {
                    max_tokens: self.settings.max_tokens,
                },
                calibration: names.zip(weights.iter().copied()).collect(),
                provenance: serde_json::json!({ "settings": self.settings }),
            },
            taxonomy: self.taxonomy.clone(),
        })
    }
}

/// Tells the heads' parameters from the encoder's.
const HEAD_PREFIX: &str = "heads.";

/// Biases and the parameters of layer norms are not decayed.
fn is_decayed(name: &str) -> bool {
    name.ends_with("weight") && !name.contains("LayerNorm")
}

fn variables(
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> candle_core::Result<HashMap<String, Var>> {
    tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)))
        .collect()
}

/// Heads as a fresh linear layer has them: weights and biases uniform within `1/√H`.
fn initial_heads(
    taxonomy: &Taxonomy,
    hidden: usize,
    seed: u64,
    device: &Device,
) -> candle_core::Result<Vec<(String, Tensor)>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let bound = 1.0 / (hidden as f32).sqrt();
    let mut heads = Vec::new();
    for head in &taxonomy.heads {
        let labels = head.labels.len();
        let mut uniform = |count: usize| {
            (0..count)
                .map(|_| rng.random_range(-bound..bound))
                .collect()
        };
        let weight: Vec<f32> = uniform(labels * hidden);
        let bias: Vec<f32> = uniform(labels);
        heads.push((
            format!("{}.weight", head.name),
            Tensor::from_vec(weight, (labels, hidden), device)?,
        ));
        heads.push((
            format!("{}.bias", head.name),
            Tensor::from_vec(bias, labels, device)?,
        ));
    }
    Ok(heads)
}
