//! The library's training settings as arguments.

use candle_core::Device;
use clap::Args;
use faultlens::train::Settings;

use crate::cli::device::PrecisionChoice;

/// [`Settings`]: what is not given is the library's default for the kind of start.
#[derive(Args)]
#[command(next_help_heading = "Training")]
pub struct SettingArguments {
    /// Passes over the training examples; with --from 0 keeps the encoder and its heads, trains the words'
    /// branch and calibrates [default: 6; 2 with --from]
    #[arg(long)]
    epochs: Option<usize>,
    /// Issues a step [default: 16]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Highest learning rate of the encoder [default: 8e-5; 3e-5 with --from]
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Highest learning rate of the heads [default: 1.6e-3; 3e-4 with --from]
    #[arg(long)]
    head_learning_rate: Option<f64>,
    /// Factor on the learning rate from each layer to the one below it [default: 1]
    #[arg(long)]
    layer_decay: Option<f64>,
    /// Decay of weight matrices [default: 0.01]
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Fraction of the steps over which the learning rate rises [default: 0.1]
    #[arg(long)]
    warmup: Option<f64>,
    /// Largest norm of the gradient [default: 1]
    #[arg(long)]
    clip_norm: Option<f64>,
    /// Probability of dropping an activation [default: 0.1]
    #[arg(long)]
    dropout: Option<f64>,
    /// Part of the target spread over all labels [default: 0.05]
    #[arg(long)]
    label_smoothing: Option<f64>,
    /// How much more a rare label counts, from 0 (as often as it occurs) to 1 (as much as any other)
    /// [default: 0]
    #[arg(long)]
    logit_adjustment: Option<f64>,
    /// How much an annotation of low confidence counts, above 0 and at most 1 [default: 1]
    #[arg(long)]
    low_confidence_weight: Option<f64>,
    /// Tokens read of an issue [default: 256, or as the model of --from]
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Fraction of the annotations that choose the epoch and calibrate, by a hash of the identity
    /// [default: 0.1]
    #[arg(long, conflicts_with = "folds")]
    validation: Option<f64>,
    /// Calibrate by a cross-validation of this many parts, then train on all annotations: takes that many
    /// times as long [default: 0, none]
    #[arg(long)]
    folds: Option<usize>,
    /// f32, or bf16 with f32 weights [default: bf16 on CUDA, f32 elsewhere]
    #[arg(long)]
    precision: Option<PrecisionChoice>,
    /// Of the order of examples, of dropout, of the folds and of the heads' first weights [default: 0]
    #[arg(long)]
    seed: Option<u64>,
}

impl SettingArguments {
    /// `defaults` with what was given.
    pub fn over(&self, defaults: Settings, device: &Device) -> Settings {
        Settings {
            epochs: self.epochs.unwrap_or(defaults.epochs),
            batch_size: self.batch_size.unwrap_or(defaults.batch_size),
            learning_rate: self.learning_rate.unwrap_or(defaults.learning_rate),
            head_learning_rate: self
                .head_learning_rate
                .unwrap_or(defaults.head_learning_rate),
            layer_decay: self.layer_decay.unwrap_or(defaults.layer_decay),
            weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
            warmup: self.warmup.unwrap_or(defaults.warmup),
            clip_norm: self.clip_norm.unwrap_or(defaults.clip_norm),
            dropout: self.dropout.unwrap_or(defaults.dropout),
            label_smoothing: self.label_smoothing.unwrap_or(defaults.label_smoothing),
            logit_adjustment: self.logit_adjustment.unwrap_or(defaults.logit_adjustment),
            low_confidence_weight: self
                .low_confidence_weight
                .unwrap_or(defaults.low_confidence_weight),
            max_tokens: self.max_tokens.unwrap_or(defaults.max_tokens),
            validation: self.validation.unwrap_or(defaults.validation),
            folds: self.folds.unwrap_or(defaults.folds),
            precision: PrecisionChoice::or_default(self.precision, device),
            seed: self.seed.unwrap_or(defaults.seed),
        }
    }
}
