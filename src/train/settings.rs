//! How to fine-tune.

use candle_core::DType;
use serde::Serialize;

use super::TrainError;

/// How to fine-tune. [`Settings::validate`] checks it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Passes over the training examples. With 0 the encoder and its heads stay those of the model to
    /// start from; the lexical branch is trained and the probabilities are calibrated all the same.
    pub epochs: usize,
    /// Issues a step.
    pub batch_size: usize,
    /// Highest learning rate of the encoder's last layer.
    pub learning_rate: f64,
    /// Highest learning rate of the heads.
    pub head_learning_rate: f64,
    /// Factor on the learning rate from each layer of the encoder to the one below it, and from the
    /// lowest to the embeddings (Howard & Ruder 2018): 1 trains all alike.
    pub layer_decay: f64,
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
    /// Strength τ of the logit adjustment (Menon et al. 2021), which makes mistakes on rare labels
    /// cost more: 0 counts every issue alike, 1 every label.
    pub logit_adjustment: f64,
    /// How much an annotation of low confidence counts, one of high confidence counting 1.
    pub low_confidence_weight: f64,
    /// Tokens of an issue at most.
    pub max_tokens: usize,
    /// Fraction of the examples, by a hash of their identity, that choose the epoch and calibrate;
    /// without effect where there are folds.
    pub validation: f64,
    /// Parts of a cross-validation, whose predictions calibrate a model that is then trained on all
    /// examples; 0: there is none.
    pub folds: usize,
    pub precision: Precision,
    pub seed: u64,
}

/// In which numbers activations are computed; weights and their updates are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    Bf16,
}

impl Precision {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl Default for Settings {
    /// From a base model.
    fn default() -> Self {
        Self {
            epochs: 6,
            batch_size: 16,
            learning_rate: 8e-5,
            head_learning_rate: 1.6e-3,
            layer_decay: 1.0,
            weight_decay: 0.01,
            warmup: 0.1,
            clip_norm: 1.0,
            dropout: 0.1,
            label_smoothing: 0.05,
            logit_adjustment: 0.0,
            low_confidence_weight: 1.0,
            max_tokens: 256,
            validation: 0.1,
            folds: 0,
            precision: Precision::F32,
            seed: 0,
        }
    }
}

impl Settings {
    /// From a model that was fine-tuned before: fewer and smaller steps.
    pub fn warm() -> Self {
        Self {
            epochs: 2,
            learning_rate: 3e-5,
            head_learning_rate: 3e-4,
            ..Self::default()
        }
    }

    /// # Errors
    /// The first setting out of its range, with the range.
    pub fn validate(self) -> Result<ValidSettings, TrainError> {
        let fraction = |value: f64| (0.0..1.0).contains(&value);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let at_most_one = |value: f64| value > 0.0 && value <= 1.0;
        let checks = [
            ("batch-size", self.batch_size >= 1, "at least 1"),
            ("learning-rate", positive(self.learning_rate), "above 0"),
            (
                "head-learning-rate",
                positive(self.head_learning_rate),
                "above 0",
            ),
            ("layer-decay", at_most_one(self.layer_decay), "in (0, 1]"),
            (
                "weight-decay",
                (0.0..f64::INFINITY).contains(&self.weight_decay),
                "0 or above",
            ),
            ("warmup", fraction(self.warmup), "in [0, 1)"),
            ("clip-norm", positive(self.clip_norm), "above 0"),
            ("dropout", fraction(self.dropout), "in [0, 1)"),
            (
                "label-smoothing",
                fraction(self.label_smoothing),
                "in [0, 1)",
            ),
            (
                "logit-adjustment",
                (0.0..=1.0).contains(&self.logit_adjustment),
                "in [0, 1]",
            ),
            (
                "low-confidence-weight",
                at_most_one(self.low_confidence_weight),
                "in (0, 1]",
            ),
            ("max-tokens", self.max_tokens >= 8, "at least 8"),
            ("validation", fraction(self.validation), "in [0, 1)"),
            ("folds", self.folds != 1, "0 or at least 2"),
        ];
        match checks.into_iter().find(|(_, ok, _)| !ok) {
            None => Ok(ValidSettings(self)),
            Some((name, _, range)) => Err(TrainError::Setting { name, range }),
        }
    }
}

/// [`Settings`] known to make sense.
#[derive(Clone)]
pub struct ValidSettings(pub(super) Settings);
