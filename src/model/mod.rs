//! The classifier: condensed text, tokens, batches, encoder and heads, the lexical branch beside them,
//! predictions.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{D, Device, Tensor};
use candle_nn::VarBuilder;
use rayon::prelude::*;
use tokenizers::Tokenizer;

pub mod batch;
pub mod bundle;
pub mod encoder;
pub mod heads;
pub mod hub;
pub mod lexical;
mod ops;

use batch::{Batch, group_by_length};
use bundle::{Bundle, BundleError, Threshold};
use encoder::{Dropout, Encoder};
use heads::{BranchLogits, BranchWeights, Heads};
use lexical::Lexical;

use crate::issue::Issue;
use crate::issue::condense::condense;
use crate::prediction::{HeadPrediction, Prediction};
use crate::taxonomy::Taxonomy;

pub(crate) use ops::{layer_norm, linear, squared_norm};

/// Labels issues with a fine-tuned model.
pub struct Classifier {
    tokenizer: Tokenizer,
    max_tokens: usize,
    network: Network,
    taxonomy: Taxonomy,
    lexical: Lexical,
    /// By head, how much each branch counts.
    weights: Vec<BranchWeights>,
    thresholds: BTreeMap<String, Vec<Threshold>>,
    id: String,
}

/// What may be chosen for each call of [`Classifier::classify_with`].
#[derive(Debug, Clone)]
pub struct ClassifySettings {
    /// Tokens that go through the encoder at once: more need more memory, fewer use fewer cores.
    pub batch_tokens: usize,
    /// By head, the probability below which a label is abstained from, in `[0, 1]`; heads beyond its end
    /// never abstain.
    pub min_confidence: Vec<f32>,
}

impl Default for ClassifySettings {
    fn default() -> Self {
        Self {
            batch_tokens: 4096,
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
        let bundle = Bundle::load(folder, device)?;
        let max_tokens = bundle.manifest.text.max_tokens;
        let calibration = &bundle.manifest.calibration;
        let encoder = builder(bundle.base.tensors.clone(), device);
        let heads = builder(bundle.heads.clone(), device);
        Ok(Self {
            tokenizer: bundle.base.truncating_tokenizer(max_tokens)?,
            max_tokens,
            weights: bundle
                .taxonomy
                .heads
                .iter()
                .map(|head| calibration[&head.name])
                .collect(),
            lexical: bundle.lexical,
            network: Network::load(encoder, heads, &bundle.base.config, &bundle.taxonomy)?,
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
        let read = self.read(issues, settings.batch_tokens)?;
        let heads = read.iter().map(|(_, logits)| {
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
        let read = self.read(issues, ClassifySettings::default().batch_tokens)?;
        let embeddings = read.into_iter().map(|(pooled, logits)| Embedding {
            pooled,
            logits: logits.combine(&self.weights),
        });
        Ok(embeddings.collect())
    }

    /// Labels an issue that was embedded, as [`Classifier::classify`] labels it.
    pub fn decode(&self, embedding: &Embedding) -> Vec<HeadPrediction> {
        heads::decode(&embedding.logits, &self.taxonomy, &[])
    }

    /// The pooled text and the logits of both branches, before they are weighed.
    fn read(
        &self,
        issues: &[Issue],
        batch_tokens: usize,
    ) -> Result<Vec<(Vec<f32>, BranchLogits)>, ModelError> {
        let read: Vec<(Vec<u32>, Vec<Vec<f32>>)> = issues
            .par_iter()
            .map(|Issue { title, body, .. }| {
                let tokens = tokenize(&self.tokenizer, &condense(title, body, self.max_tokens))?;
                let words = condense(title, body, lexical::MAX_TOKENS);
                Ok((tokens, self.lexical.logits(&words)))
            })
            .collect::<Result<_, ModelError>>()?;
        let (sequences, lexical): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let encoder = self.network.read(&sequences, batch_tokens)?;
        let pairs = encoder.into_iter().zip(lexical);
        Ok(pairs
            .map(|((pooled, encoder), lexical)| (pooled, BranchLogits { encoder, lexical }))
            .collect())
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

/// A sequence's pooled hidden states (H), and its logits, a row per head.
type Pooled = (Vec<f32>, Vec<Vec<f32>>);

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
        let pooled = self.pool(batch, dropout)?; // (B, H)
        self.heads.forward(&dropout.apply(&pooled)?)
    }

    /// The mean of each sequence's last hidden states, (B, H) in f32.
    fn pool(&self, batch: &Batch, dropout: &mut Dropout) -> candle_core::Result<Tensor> {
        let hidden = self.encoder.forward(batch, dropout)?; // (N, H)
        let hidden = hidden.to_dtype(candle_core::DType::F32)?;
        self.encoder.mean_pool(&hidden, batch)
    }

    /// Logits of every sequence, a row per head, in the sequences' order.
    pub fn logits(
        &self,
        sequences: &[Vec<u32>],
        batch_tokens: usize,
    ) -> candle_core::Result<Vec<Vec<Vec<f32>>>> {
        let read = self.read(sequences, batch_tokens)?;
        Ok(read.into_iter().map(|(_, logits)| logits).collect())
    }

    /// What is made of every sequence, in their order.
    fn read(
        &self,
        sequences: &[Vec<u32>],
        batch_tokens: usize,
    ) -> candle_core::Result<Vec<Pooled>> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let mut read = vec![(Vec::new(), Vec::new()); sequences.len()];
        for group in group_by_length(&lengths, batch_tokens) {
            let batch = Batch::pack(group.iter().map(|&i| sequences[i].as_slice()));
            let pooled = self.pool(&batch, &mut Dropout::off())?;
            for head in self.heads.forward(&pooled)? {
                debug_assert_eq!(head.dim(D::Minus2)?, group.len());
                for (&i, row) in group.iter().zip(head.to_vec2::<f32>()?) {
                    read[i].1.push(row);
                }
            }
            for (&i, row) in group.iter().zip(pooled.to_vec2::<f32>()?) {
                read[i].0 = row;
            }
        }
        Ok(read)
    }
}
