//! One model's training: examples as the model reads them, epochs of steps, and its results on the
//! examples that are held out.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use base16ct::lower::encode_string;
use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::calibration::{Calibrated, Scored};
use super::checkpoint::{Checkpoints, Progress};
use super::optimizer::{AdamW, Parameter, parameters, schedule};
use super::sampling::epoch_batches;
use super::settings::Settings;
use super::start::Start;
use super::{EpochMetrics, Event, Example, Observe, TrainError};
use crate::annotation::Confidence;
use crate::issue::Issue;
use crate::issue::condense::Lines;
use crate::model::batch::Batch;
use crate::model::bundle::{Base, Bundle, Manifest, TextSettings};
use crate::model::encoder::Dropout;
use crate::model::heads::{BranchLogits, Objective};
use crate::model::lexical::{self, Lexical};
use crate::model::{ModelError, Network, builder, tokenize};
use crate::taxonomy::Taxonomy;

/// An example as the model reads it.
pub(super) struct Sample {
    tokens: Vec<u32>,
    /// What the lexical branch reads.
    words: String,
    /// As an annotation has them.
    pub labels: Vec<Option<usize>>,
    pub unlabelled: Vec<usize>,
    /// How much it counts.
    weight: f32,
}

/// All that trainings on parts of the same examples share.
pub(super) struct Materials {
    pub start: Start,
    pub taxonomy: Taxonomy,
    pub settings: Settings,
    pub device: Device,
    /// In the examples' order.
    pub samples: Vec<Sample>,
    /// Of everything above: two trainings with one fingerprint give the same model on one machine.
    pub fingerprint: String,
}

impl Materials {
    pub fn new(
        start: Start,
        taxonomy: Taxonomy,
        examples: &[Example],
        settings: Settings,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let base = start.base();
        let tokenizer = tokenizer(base, settings.max_tokens)?;
        let samples = examples
            .par_iter()
            .map(|Example { issue, annotation }| {
                let Issue { title, body, .. } = issue;
                let lines = Lines::read(title, body);
                Ok(Sample {
                    tokens: tokenize(&tokenizer, &lines.within(settings.max_tokens))?,
                    words: lines.within(lexical::MAX_TOKENS),
                    labels: annotation.labels.clone(),
                    unlabelled: annotation.unlabelled.clone(),
                    weight: match annotation.confidence {
                        Some(Confidence::Low) => settings.low_confidence_weight as f32,
                        Some(Confidence::High) | None => 1.0,
                    },
                })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        let mut materials = Self {
            start,
            taxonomy,
            settings,
            device: device.clone(),
            samples,
            fingerprint: String::new(),
        };
        materials.fingerprint = materials.hash()?;
        Ok(materials)
    }

    fn hash(&self) -> Result<String, TrainError> {
        let mut hash = Sha256::new();
        let settings = serde_json::to_vec(&self.settings).expect("numbers serialise");
        hash.update(settings);
        hash.update(self.taxonomy.to_toml());
        for sample in &self.samples {
            let labels = (&sample.tokens, &sample.words, &sample.labels);
            let rest = (&sample.unlabelled, sample.weight);
            hash.update(serde_json::to_vec(&(labels, rest)).expect("numbers and text serialise"));
        }
        let mut tensors: Vec<(&String, &Tensor)> = self.start.base().tensors.iter().collect();
        if let Start::Model(bundle) = &self.start {
            tensors.extend(&bundle.heads);
        }
        tensors.sort_by_key(|(name, _)| *name);
        for (name, tensor) in tensors {
            hash.update(name);
            let values = tensor
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            values
                .iter()
                .for_each(|value| hash.update(value.to_le_bytes()));
        }
        Ok(encode_string(&hash.finalize()))
    }

    /// The examples at `indices` with their logits, for calibration.
    pub fn scored<'a>(&'a self, indices: &[usize], logits: &'a [BranchLogits]) -> Vec<Scored<'a>> {
        let pairs = indices.iter().zip(logits);
        pairs
            .map(|(&i, logits)| Scored {
                labels: &self.samples[i].labels,
                unlabelled: &self.samples[i].unlabelled,
                logits,
            })
            .collect()
    }
}

/// A model in training, on some of the examples.
pub(super) struct Trainer<'a> {
    materials: &'a Materials,
    /// Names its checkpoints.
    name: &'a str,
    training: &'a [usize],
    held_out: &'a [usize],
    lexical: Lexical,
    network: Network,
    objective: Objective,
    optimizer: AdamW,
    pub progress: Progress,
}

impl<'a> Trainer<'a> {
    /// At the beginning, or where the checkpoint called `name` left it.
    pub fn new(
        materials: &'a Materials,
        name: &'a str,
        training: &'a [usize],
        held_out: &'a [usize],
        checkpoints: Option<&Checkpoints>,
    ) -> Result<Self, TrainError> {
        let Materials {
            start,
            taxonomy,
            settings,
            device,
            samples,
            ..
        } = materials;
        let of = |part: &[usize]| part.iter().map(|&i| &samples[i]).collect::<Vec<_>>();
        let samples = of(training);
        let labels: Vec<&[Option<usize>]> = samples.iter().map(|s| s.labels.as_slice()).collect();
        let counts: Vec<usize> = taxonomy.heads.iter().map(|h| h.labels.len()).collect();
        let examples: Vec<lexical::Example> = samples
            .iter()
            .map(|sample| lexical::Example {
                text: &sample.words,
                labels: &sample.labels,
                weight: sample.weight,
            })
            .collect();
        let lexical = Lexical::train(&examples, &counts, start.lexical(taxonomy), settings.seed);

        let base = start.base();
        let encoder = variables(used_by_encoder(base))?;
        let heads = variables(start.heads(taxonomy, settings.seed, device)?)?;
        let network = Network::load(
            builder(tensors(&encoder), device),
            builder(tensors(&heads), device),
            &base.config,
            taxonomy,
        )?
        .in_precision(settings.precision.dtype());
        let layers = base.config.num_hidden_layers;
        let heads = heads
            .into_iter()
            .map(|(name, var)| (format!("{HEAD_PREFIX}{name}"), var));
        let parameters = parameters(
            encoder.into_iter().chain(heads),
            settings.weight_decay,
            |name| learning_rate(name, layers, settings),
        );
        let mut trainer = Self {
            materials,
            name,
            training,
            held_out,
            lexical,
            network,
            objective: Objective::new(
                &labels,
                &counts,
                settings.label_smoothing,
                settings.logit_adjustment,
            ),
            optimizer: AdamW::new(parameters)?,
            progress: Progress::new(materials.fingerprint.clone(), settings.epochs),
        };
        if let Some(checkpoints) = checkpoints
            && let Some((progress, tensors)) = checkpoints.load(name, &materials.fingerprint)?
        {
            trainer.optimizer.restore(&tensors, progress.step)?;
            trainer.progress = progress;
        }
        Ok(trainer)
    }

    /// All the steps of a whole training.
    pub fn steps(&self) -> usize {
        let Settings {
            epochs, batch_size, ..
        } = self.materials.settings;
        epochs * self.training.len().div_ceil(batch_size)
    }

    /// Trains what is left of the epoch under way. Nothing is measured yet; less than all of the epoch is
    /// completed where `stop` ended it, after its checkpoint.
    pub fn epoch(
        &mut self,
        checkpoints: Option<&Checkpoints>,
        stop: &AtomicBool,
        observe: Observe<'_>,
    ) -> Result<EpochMetrics, TrainError> {
        let Settings {
            seed,
            batch_size,
            dropout,
            warmup,
            clip_norm,
            ..
        } = self.materials.settings;
        let total_steps = self.steps();
        let samples: Vec<&Sample> = self
            .training
            .iter()
            .map(|&i| &self.materials.samples[i])
            .collect();
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.tokens.len()).collect();
        let batches = match self.progress.epoch {
            0 => Vec::new(),
            epoch => epoch_batches(&lengths, batch_size, seed, epoch),
        };
        while let Some(indices) = batches.get(self.progress.batches) {
            if stop.load(Ordering::Relaxed) {
                self.save(checkpoints)?;
                break;
            }
            let batch = Batch::pack(indices.iter().map(|&i| samples[i].tokens.as_slice()));
            let labels: Vec<&[Option<usize>]> = indices
                .iter()
                .map(|&i| samples[i].labels.as_slice())
                .collect();
            let weights: Vec<f32> = indices.iter().map(|&i| samples[i].weight).collect();
            let step = self.progress.step;
            let dropout_seed = seed.wrapping_mul(1_000_003).wrapping_add(step as u64);
            let mut dropout = Dropout::new(dropout as f32, dropout_seed);
            let logits = self.network.forward(&batch, &mut dropout)?;
            let loss = self.objective.loss(&logits, &labels, &weights)?;
            let rate = schedule(step, total_steps, warmup);
            self.optimizer.step(&loss.backward()?, rate, clip_norm)?;
            let loss = loss.to_scalar::<f32>()?;
            self.progress.step += 1;
            self.progress.batches += 1;
            self.progress.loss_sum += f64::from(loss);
            observe(Event::Step {
                step: self.progress.step,
                loss,
            })?;
            if checkpoints.is_some_and(|c| self.progress.step.is_multiple_of(c.every)) {
                self.save(checkpoints)?;
            }
        }
        let done = self.progress.batches as f64;
        Ok(EpochMetrics {
            epoch: self.progress.epoch,
            completed: match batches.len() {
                0 => 1.0,
                all => done / all as f64,
            },
            loss: self.progress.loss_sum / done.max(1.0),
            mean_macro_f1: None,
            heads: BTreeMap::new(),
        })
    }

    /// Keeps the state, from which [`Trainer::new`] goes on.
    pub fn save(&self, checkpoints: Option<&Checkpoints>) -> Result<(), TrainError> {
        let Some(checkpoints) = checkpoints else {
            return Ok(());
        };
        let state = self.optimizer.state()?;
        Ok(checkpoints.save(self.name, &self.progress, state)?)
    }

    /// Logits of the examples that are held out, in their order.
    pub fn held_out_logits(&self) -> Result<Vec<BranchLogits>, TrainError> {
        let samples: Vec<&Sample> = self
            .held_out
            .iter()
            .map(|&i| &self.materials.samples[i])
            .collect();
        let tokens: Vec<Vec<u32>> = samples.iter().map(|s| s.tokens.clone()).collect();
        let encoded = self.network.encode(&tokens, EVALUATION_TOKENS)?;
        let encoder = encoded.into_iter().map(|encoded| encoded.logits);
        let lexical: Vec<Vec<Vec<f32>>> = samples
            .par_iter()
            .map(|sample| self.lexical.logits(&sample.words))
            .collect();
        let pairs = encoder.zip(lexical);
        Ok(pairs
            .map(|(encoder, lexical)| BranchLogits { encoder, lexical })
            .collect())
    }

    /// A copy of the model as it is now.
    pub fn bundle(&self, calibrated: &Calibrated) -> Result<Bundle, TrainError> {
        let (mut encoder, mut heads) = (HashMap::new(), HashMap::new());
        for Parameter { name, var, .. } in self.optimizer.parameters() {
            let tensor = var.as_tensor().copy()?;
            match name.strip_prefix(HEAD_PREFIX) {
                Some(name) => heads.insert(name.to_owned(), tensor),
                None => encoder.insert(name.clone(), tensor),
            };
        }
        let Materials {
            start,
            taxonomy,
            settings,
            ..
        } = self.materials;
        let base = start.base();
        let names = taxonomy.heads.iter().map(|head| head.name.clone());
        Ok(Bundle {
            base: Base {
                config: base.config.clone(),
                config_json: base.config_json.clone(),
                tokenizer: base.tokenizer.clone(),
                tensors: encoder,
            },
            heads,
            lexical: self.lexical.clone(),
            manifest: Manifest {
                text: TextSettings {
                    max_tokens: settings.max_tokens,
                },
                calibration: names.zip(calibrated.weights.iter().copied()).collect(),
                thresholds: calibrated.thresholds.clone(),
                provenance: serde_json::json!({ "settings": settings }),
                ..Manifest::default()
            },
            taxonomy: taxonomy.clone(),
        })
    }
}

/// Tokens that go through the encoder at once while a model is measured.
const EVALUATION_TOKENS: usize = 4096;

/// Tells the heads' parameters from the encoder's.
const HEAD_PREFIX: &str = "heads.";

/// A parameter's highest learning rate.
fn learning_rate(name: &str, layers: usize, settings: &Settings) -> f64 {
    if name.starts_with(HEAD_PREFIX) {
        return settings.head_learning_rate;
    }
    let layer = name
        .strip_prefix("encoder.layer.")
        .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    let below_last = layer.map_or(layers, |layer| layers - 1 - layer);
    settings.learning_rate * settings.layer_decay.powi(below_last as i32)
}

/// The tensors of a base model without those that the encoder does not use, such as a pooler's.
pub(super) fn used_by_encoder(base: &Base) -> impl Iterator<Item = (String, Tensor)> {
    let used = |name: &str| name.starts_with("embeddings.") || name.starts_with("encoder.layer.");
    let tensors = base.tensors.iter().filter(move |(name, _)| used(name));
    tensors.map(|(name, tensor)| (name.clone(), tensor.clone()))
}

/// The tokenizer of a base model, cutting texts at what is wanted of them.
pub(super) fn tokenizer(base: &Base, max_tokens: usize) -> Result<Tokenizer, TrainError> {
    let positions = base.config.max_position_embeddings;
    match max_tokens > positions {
        true => Err(TrainError::TooManyTokens(positions)),
        false => Ok(base.truncating_tokenizer(max_tokens)?),
    }
}

/// Variables, in f32, that begin as `tensors`.
pub(super) fn variables(
    tensors: impl IntoIterator<Item = (String, Tensor)>,
) -> candle_core::Result<HashMap<String, Var>> {
    tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor.to_dtype(DType::F32)?)?)))
        .collect()
}

/// The variables as what a network computes with.
pub(super) fn tensors(variables: &HashMap<String, Var>) -> HashMap<String, Tensor> {
    variables
        .iter()
        .map(|(name, variable)| (name.clone(), variable.as_tensor().clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_layers_learn_more_slowly() {
        let settings = Settings {
            learning_rate: 1.0,
            head_learning_rate: 7.0,
            layer_decay: 0.5,
            ..Settings::default()
        };
        let rate = |name| learning_rate(name, 3, &settings);
        assert_eq!(rate("encoder.layer.2.output.dense.bias"), 1.0);
        assert_eq!(rate("encoder.layer.0.output.dense.weight"), 0.25);
        assert_eq!(rate("embeddings.LayerNorm.weight"), 0.125);
        assert_eq!(rate("heads.kind.weight"), 7.0);
    }
}
