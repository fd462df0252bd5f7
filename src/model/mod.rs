//! The classifier: condensed text, tokens, batches, encoder and heads, the lexical branch beside them,
//! predictions.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use rayon::prelude::*;
use tokenizers::Tokenizer;

pub mod batch;
pub mod bundle;
pub mod encoder;
pub mod heads;
pub mod hub;
pub mod inference;
mod kernels;
pub mod lexical;
mod ops;

use batch::Batch;
use bundle::{Bundle, BundleError, Threshold};
use encoder::{Dropout, Encoder};
use heads::{BranchLogits, BranchWeights, Heads};
use inference::profile::PartFigures;
use inference::{Arithmetic, CpuEncoder, Workers};
use lexical::Lexical;

use crate::issue::Issue;
use crate::issue::condense::{Lines, condense};
use crate::prediction::{HeadPrediction, Prediction};
use crate::taxonomy::Taxonomy;

pub(crate) use ops::{layer_norm, linear, squared_norm};

/// Labels issues with a fine-tuned model.
pub struct Classifier {
    tokenizer: Tokenizer,
    max_tokens: usize,
    engine: Engine,
    heads: Heads,
    taxonomy: Taxonomy,
    lexical: Lexical,
    /// By head, how much each branch counts.
    weights: Vec<BranchWeights>,
    thresholds: BTreeMap<String, Vec<Threshold>>,
    id: String,
}

/// What computes the encoder's part.
enum Engine {
    /// An issue a core.
    Cpu(CpuEncoder, Workers),
    /// Batches of issues.
    Batched(Encoder),
}

/// An issue as the encoder reads it, and what the words say of it.
pub struct Read {
    pub tokens: Vec<u32>,
    /// The lexical branch's logits, a row per head.
    pub lexical: Vec<Vec<f32>>,
}

/// What the encoder and its heads make of a sequence of tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encoded {
    /// The mean of the last hidden states, (H).
    pub pooled: Vec<f32>,
    /// A row per head.
    pub logits: Vec<Vec<f32>>,
}

/// What may be chosen for each call of [`Classifier::classify_with`].
#[derive(Debug, Clone)]
pub struct ClassifySettings {
    /// Tokens that go through the encoder at once on a GPU: more need more memory, fewer use it less well.
    /// Without effect on a CPU, where every core takes an issue.
    pub batch_tokens: usize,
    /// By head, the probability below which a label is abstained from, in `[0, 1]`; heads beyond its end
    /// never abstain.
    pub min_confidence: Vec<f32>,
}

impl Default for ClassifySettings {
    fn default() -> Self {
        Self {
            batch_tokens: 8192,
            min_confidence: Vec::new(),
        }
    }
}

impl Classifier {
    /// Loads a model folder ([`hub::resolve`] gives the folder of a hub id).
    ///
    /// # Errors
    /// A file is missing or unreadable, or the parts do not fit each other.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, BundleError> {
        Self::load_with(folder, device, Arithmetic::F32)
    }

    /// [`Classifier::load`], which computes in f32, in another arithmetic where the device has it.
    ///
    /// # Errors
    /// As [`Classifier::load`].
    pub fn load_with(
        folder: &Path,
        device: &Device,
        arithmetic: Arithmetic,
    ) -> Result<Self, BundleError> {
        let bundle = Bundle::load(folder, device)?;
        let max_tokens = bundle.manifest.text.max_tokens;
        let calibration = &bundle.manifest.calibration;
        let tensors = bundle.base.tensors.clone();
        let heads = builder(bundle.heads.clone(), &Device::Cpu);
        let (config, taxonomy) = (&bundle.base.config, &bundle.taxonomy);
        let precision = match arithmetic {
            Arithmetic::F16 => DType::F16,
            Arithmetic::Bf16 => DType::BF16,
            Arithmetic::F32 | Arithmetic::Int8 => DType::F32,
        };
        let engine = if device.is_cpu() && precision == DType::F32 {
            let encoder = CpuEncoder::load(builder(tensors, device), config, arithmetic)?;
            Engine::Cpu(encoder, Workers::default())
        } else {
            let weights = VarBuilder::from_tensors(tensors, precision, device);
            Engine::Batched(Encoder::load(weights, config)?.in_precision(precision))
        };
        Ok(Self {
            engine,
            heads: Heads::load(heads, taxonomy, config.hidden_size)?,
            tokenizer: bundle.base.truncating_tokenizer(max_tokens)?,
            max_tokens,
            weights: bundle
                .taxonomy
                .heads
                .iter()
                .map(|head| calibration[&head.name])
                .collect(),
            lexical: bundle.lexical,
            taxonomy: bundle.taxonomy,
            thresholds: bundle.manifest.thresholds,
            id: bundle.manifest.id,
        })
    }

    /// Names the model in predictions.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn taxonomy(&self) -> &Taxonomy {
        &self.taxonomy
    }

    /// What the model reads of an issue, before it is cut into tokens.
    pub fn text(&self, issue: &Issue) -> String {
        condense(&issue.title, &issue.body, self.max_tokens)
    }

    /// Labels issues, in their order.
    pub fn classify(&self, issues: &[Issue]) -> Result<Vec<Prediction>, ModelError> {
        self.classify_with(issues, &ClassifySettings::default())
    }

    /// Labels issues, in their order. A call is the unit of batching: the same issues in one call
    /// give the same predictions to the last bit, and to about 1e-6 in any other company.
    pub fn classify_with(
        &self,
        issues: &[Issue],
        settings: &ClassifySettings,
    ) -> Result<Vec<Prediction>, ModelError> {
        let both = self.both_branches(issues, settings.batch_tokens)?;
        let heads = both.iter().map(|(_, logits)| {
            heads::decode(
                &logits.combine(&self.weights),
                &self.taxonomy,
                &settings.min_confidence,
            )
        });
        let ids = issues.iter().map(|issue| issue.id.clone());
        Ok(ids
            .zip(heads)
            .map(|(id, heads)| Prediction { id, heads })
            .collect())
    }

    /// What the encoder makes of issues, in their order.
    pub fn embed(&self, issues: &[Issue]) -> Result<Vec<Embedding>, ModelError> {
        let both = self.both_branches(issues, ClassifySettings::default().batch_tokens)?;
        let embeddings = both.into_iter().map(|(pooled, logits)| Embedding {
            pooled,
            logits: logits.combine(&self.weights),
        });
        Ok(embeddings.collect())
    }

    /// Labels an issue that was embedded, as [`Classifier::classify`] labels it.
    pub fn decode(&self, embedding: &Embedding) -> Vec<HeadPrediction> {
        heads::decode(&embedding.logits, &self.taxonomy, &[])
    }

    /// The pooled texts, and the logits of both branches, before they are weighed.
    fn both_branches(
        &self,
        issues: &[Issue],
        batch_tokens: usize,
    ) -> Result<Vec<(Vec<f32>, BranchLogits)>, ModelError> {
        let done: Vec<(Vec<f32>, Vec<Vec<f32>>)> = match &self.engine {
            Engine::Cpu(encoder, workers) => {
                let done = workers.map(issues, |issue, scratch| {
                    let Read { tokens, lexical } = self.read_issue(issue)?;
                    Ok((encoder.mean_pooled(&tokens, scratch), lexical))
                });
                done.into_iter().collect::<Result<_, ModelError>>()?
            }
            Engine::Batched(encoder) => self.read_ahead(issues, |read| {
                let (tokens, lexical): (Vec<_>, Vec<_>) = read
                    .into_iter()
                    .map(|Read { tokens, lexical }| (tokens, lexical))
                    .unzip();
                let pooled = encoder.mean_pooled(&tokens, batch_tokens)?;
                Ok(pooled.into_iter().zip(lexical).collect())
            })?,
        };
        let (pooled, lexical): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let pairs = self.heads.of_rows(pooled)?.into_iter().zip(lexical);
        Ok(pairs
            .map(|(Encoded { pooled, logits }, lexical)| {
                let encoder = logits;
                (pooled, BranchLogits { encoder, lexical })
            })
            .collect())
    }

    /// All that is done with issues but the encoder's part, on all cores.
    pub fn read(&self, issues: &[Issue]) -> Result<Vec<Read>, ModelError> {
        issues
            .par_iter()
            .map(|issue| self.read_issue(issue))
            .collect()
    }

    /// `encode` of issues, part by part, while the next part is read.
    fn read_ahead<R>(
        &self,
        issues: &[Issue],
        encode: impl Fn(Vec<Read>) -> Result<Vec<R>, ModelError>,
    ) -> Result<Vec<R>, ModelError> {
        let (sender, parts) = std::sync::mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let parts = issues.chunks(READ_AHEAD);
                // The receiver goes where a part fails; nothing is to be read any more then.
                parts
                    .map(|part| self.read(part))
                    .all(|part| sender.send(part).is_ok())
            });
            let parts = parts.into_iter().map(|part| encode(part?));
            Ok(parts
                .collect::<Result<Vec<Vec<R>>, ModelError>>()?
                .into_iter()
                .flatten()
                .collect())
        })
    }

    fn read_issue(&self, Issue { title, body, .. }: &Issue) -> Result<Read, ModelError> {
        let lines = Lines::read(title, body);
        Ok(Read {
            tokens: tokenize(&self.tokenizer, &lines.within(self.max_tokens))?,
            lexical: self.lexical.logits(&lines.within(lexical::MAX_TOKENS)),
        })
    }

    /// The encoder's part alone, for sequences of tokens.
    pub fn encode(
        &self,
        sequences: &[Vec<u32>],
        batch_tokens: usize,
    ) -> Result<Vec<Encoded>, ModelError> {
        let pooled = match &self.engine {
            Engine::Cpu(encoder, workers) => workers.map(sequences, |tokens, scratch| {
                encoder.mean_pooled(tokens, scratch)
            }),
            Engine::Batched(encoder) => encoder.mean_pooled(sequences, batch_tokens)?,
        };
        Ok(self.heads.of_rows(pooled)?)
    }

    /// Where the encoder's time goes of `sequences` on one core; `None` on a GPU.
    pub fn profile(&self, sequences: &[Vec<u32>]) -> Option<Vec<PartFigures>> {
        match &self.engine {
            Engine::Cpu(encoder, workers) => Some(workers.alone(|| encoder.profile(sequences))),
            Engine::Batched(_) => None,
        }
    }

    /// How many issues one call of [`Classifier::classify`] is best given: enough for all cores, or for a
    /// GPU to compute while more are read; few enough to stream.
    pub fn window(&self) -> usize {
        match self.engine {
            Engine::Cpu(..) => 512,
            Engine::Batched(_) => 8 * READ_AHEAD,
        }
    }

    /// By head, the probability below which to abstain so that a share `precision` of the labels given
    /// is right, as far as the issues that the model was calibrated on tell; 1.1, which no label reaches,
    /// where no threshold gave that. `None` if the model has no thresholds for the precision.
    pub fn thresholds(&self, precision: f64) -> Option<Vec<f32>> {
        let threshold = |head: &crate::taxonomy::Head| {
            let thresholds = self.thresholds.get(&head.name)?;
            let found = thresholds.iter().find(|t| t.precision == precision)?;
            Some(found.probability.unwrap_or(NEVER))
        };
        self.taxonomy.heads.iter().map(threshold).collect()
    }

    /// The precisions that [`Classifier::thresholds`] knows.
    pub fn precisions(&self) -> Vec<f64> {
        let first = self.thresholds.values().next();
        first.map_or(Vec::new(), |thresholds| {
            thresholds.iter().map(|t| t.precision).collect()
        })
    }
}

/// What the encoder makes of an issue, and the logits of each head.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The mean of the last hidden states, (H).
    pub pooled: Vec<f32>,
    /// A row per head: both branches, weighed by calibration.
    pub logits: Vec<Vec<f32>>,
}

/// Issues that are read while as many are encoded in batches.
const READ_AHEAD: usize = 1024;

/// A probability that no label has.
const NEVER: f32 = 1.1;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the tokenizer failed on an issue's text: {0}")]
    Tokenizer(String),
    #[error("the model failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Token ids of a condensed text, special tokens included.
pub(crate) fn tokenize(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ModelError> {
    let encoding = tokenizer.encode_fast(text, true);
    Ok(encoding
        .map_err(|error| ModelError::Tokenizer(error.to_string()))?
        .get_ids()
        .to_vec())
}

/// Looks tensors up by name; those that are variables stay the same variables.
pub(crate) fn builder(
    tensors: std::collections::HashMap<String, candle_core::Tensor>,
    device: &Device,
) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors, candle_core::DType::F32, device)
}

/// Encoder and heads together: what training changes.
pub(crate) struct Network {
    encoder: Encoder,
    heads: Heads,
}

impl Network {
    pub fn load(
        encoder: VarBuilder,
        heads: VarBuilder,
        config: &encoder::Config,
        taxonomy: &Taxonomy,
    ) -> candle_core::Result<Self> {
        Ok(Self {
            encoder: Encoder::load(encoder, config)?,
            heads: Heads::load(heads, taxonomy, config.hidden_size)?,
        })
    }

    /// See [`Encoder::in_precision`].
    pub fn in_precision(self, precision: candle_core::DType) -> Self {
        Self {
            encoder: self.encoder.in_precision(precision),
            ..self
        }
    }

    /// Logits of every head, each (B, labels), in f32.
    pub fn forward(
        &self,
        batch: &Batch,
        dropout: &mut Dropout,
    ) -> candle_core::Result<Vec<candle_core::Tensor>> {
        let pooled = self.encoder.pool(batch, dropout)?; // (B, H)
        self.heads.forward(&dropout.apply(&pooled)?)
    }

    /// Pooled hidden states and logits of every sequence, in the sequences' order.
    pub fn encode(
        &self,
        sequences: &[Vec<u32>],
        batch_tokens: usize,
    ) -> candle_core::Result<Vec<Encoded>> {
        self.heads
            .of_rows(self.encoder.mean_pooled(sequences, batch_tokens)?)
    }
}
