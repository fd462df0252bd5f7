//! Fine-tuning: a model to start from and annotated issues become a [`Bundle`].
//!
//! ```text
//! examples ┐                          ┌> validation: epoch, calibration, thresholds
//! start    ├> epochs of steps -> model┤                                            ├> Bundle
//! taxonomy ┘   (checkpoints)          └> or folds: the same, on all examples       ┘
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use serde::{Deserialize, Serialize};

mod calibration;
pub mod checkpoint;
mod folds;
mod optimizer;
pub mod pretrain;
mod sampling;
mod settings;
mod start;
pub mod suspects;
mod trainer;

pub use folds::CrossValidation;
pub use settings::{Precision, Settings, ValidSettings};
pub use start::{Start, origins};

use calibration::{Calibrated, calibrate};
use checkpoint::{CheckpointError, Checkpoints};
use sampling::validates;
use trainer::{Materials, Trainer};

use crate::annotation::Annotation;
use crate::issue::{Issue, IssueId};
use crate::model::ModelError;
use crate::model::bundle::{Bundle, BundleError};
use crate::model::heads::BranchLogits;
use crate::taxonomy::Taxonomy;

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
    #[error(
        "with --epochs 0 the heads stay as they are, and the model to start from knows nothing of {0}; train \
         for 1 epoch or more"
    )]
    UnknownLabel(String),
    #[error("the base model reads at most {0} tokens; use --max-tokens {0} or fewer")]
    TooManyTokens(usize),
    #[error(
        "the base model's tokenizer has no [MASK], [CLS] and [SEP]: it cannot be pre-trained here"
    )]
    NoMask,
    #[error("fold {0} of the cross-validation has no example; use fewer --folds")]
    EmptyFold(usize),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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

/// An issue and its labels.
pub struct Example {
    pub issue: Issue,
    pub annotation: Annotation,
}

/// What a training is given, beside the examples.
pub struct Training {
    pub start: Start,
    pub taxonomy: Taxonomy,
    pub settings: ValidSettings,
    /// Wanted precisions for which the model gets thresholds of abstention, each in `(0, 1)`.
    pub precisions: Vec<f64>,
    pub device: Device,
    /// `None`: a training that is cut off begins again.
    pub checkpoints: Option<Checkpoints>,
    /// Whether a model is wanted, and not only the predictions of a cross-validation.
    pub model: bool,
}

/// What a training tells while it runs.
pub enum Event<'a> {
    Started {
        /// The fold of a cross-validation, from 1, and their number; `None`: the model that is kept.
        fold: Option<(usize, usize)>,
        training: usize,
        held_out: usize,
        /// Of the whole training, and those done before it was cut off.
        steps: usize,
        done: usize,
    },
    Step {
        step: usize,
        loss: f32,
    },
    Validating,
    Epoch(&'a EpochMetrics),
    CrossValidated(&'a CrossValidation),
    /// The model is the best so far, or the last where nothing tells: a chance to save it.
    Improved(&'a mut Bundle),
}

/// Is told of every event; an error of saving a model ends the training.
pub type Observe<'a> = &'a mut dyn FnMut(Event<'_>) -> Result<(), BundleError>;

/// Losses and validation metrics of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1; 0 where there are to be none.
    pub epoch: usize,
    /// The part of the epoch that was trained, less than 1 where it was interrupted.
    pub completed: f64,
    /// Mean training loss; 0 without a step.
    pub loss: f64,
    /// Mean macro-F1 over heads on the validation split, which chooses the epoch; absent without one.
    pub mean_macro_f1: Option<f64>,
    /// On the validation split; empty without one.
    pub heads: BTreeMap<String, HeadMetrics>,
}

/// Agreement with the annotations of the validation split, `none` included where a head does not
/// apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadMetrics {
    pub accuracy: Option<f64>,
    pub kappa: Option<f64>,
    pub macro_f1: f64,
}

/// Labels of a taxonomy that no example has, each as head and label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnseenLabels {
    /// A model cannot learn these.
    pub unknown: Vec<(String, String)>,
    /// The model to start from knows these, and may forget them.
    pub known: Vec<(String, String)>,
}

/// Which labels no example has.
pub fn unseen_labels(taxonomy: &Taxonomy, examples: &[Example], start: &Start) -> UnseenLabels {
    let known = match start {
        Start::Base(_) => vec![None; taxonomy.heads.len()],
        Start::Model(bundle) => origins(taxonomy, &bundle.taxonomy),
    };
    let mut unseen = UnseenLabels::default();
    for (head, (definition, known)) in taxonomy.heads.iter().zip(known).enumerate() {
        for (label, name) in definition.labels.iter().enumerate() {
            let has = |example: &Example| example.annotation.labels[head] == Some(label);
            if examples.iter().any(has) {
                continue;
            }
            let is_known = known
                .as_ref()
                .is_some_and(|origin| !origin.labels[label].is_empty());
            let list = match is_known {
                true => &mut unseen.known,
                false => &mut unseen.unknown,
            };
            list.push((definition.name.clone(), name.name.clone()));
        }
    }
    unseen
}

/// What came of a training.
#[derive(Default)]
pub struct Outcome {
    /// Of every epoch of the model that is kept.
    pub history: Vec<EpochMetrics>,
    pub cross_validation: Option<CrossValidation>,
    /// It was stopped before its end; the checkpoints are there to go on from.
    pub stopped: bool,
}

/// Fine-tunes the encoder with the taxonomy's heads, trains the lexical branch beside it, and tells
/// `observe` how it goes; models come as [`Event::Improved`]. Raising `stop` ends it after the running
/// step, with a checkpoint and, if no epoch is over yet, a model.
///
/// Without folds, a validation split chooses the epoch, weighs the branches, calibrates and gives the
/// thresholds. With folds, the cross-validated predictions of all examples do, and the model is trained
/// on all examples for all epochs.
///
/// The same examples in the same order, settings and machine give the same model, also when it is cut
/// off and goes on from its checkpoints.
pub fn train(
    training: Training,
    examples: &[Example],
    stop: &AtomicBool,
    observe: Observe<'_>,
) -> Result<Outcome, TrainError> {
    let Training {
        start,
        taxonomy,
        settings: ValidSettings(settings),
        precisions,
        device,
        checkpoints,
        model,
    } = training;
    if settings.epochs == 0
        && let Some(label) = start.unknown_label(&taxonomy)
    {
        return Err(TrainError::UnknownLabel(label));
    }
    let materials = Materials::new(start, taxonomy, examples, settings, &device)?;
    let run = Run {
        materials: &materials,
        precisions: &precisions,
        checkpoints: checkpoints.as_ref(),
        stop,
    };
    let ids: Vec<&IssueId> = examples.iter().map(|example| &example.issue.id).collect();
    if materials.settings.folds == 0 {
        let fraction = materials.settings.validation;
        let (held_out, kept): (Vec<usize>, Vec<usize>) =
            (0..ids.len()).partition(|&i| validates(ids[i], fraction));
        return run.model(&kept, &held_out, None, observe);
    }
    let Some(cross_validation) = run.cross_validate(&ids, observe)? else {
        return Ok(Outcome {
            stopped: true,
            ..Outcome::default()
        });
    };
    let mut outcome = Outcome::default();
    if model {
        let all: Vec<usize> = (0..ids.len()).collect();
        outcome = run.model(&all, &[], Some(&cross_validation.calibrated), observe)?;
    }
    outcome.cross_validation = Some(cross_validation);
    Ok(outcome)
}

/// What the trainings of one call have in common.
struct Run<'a> {
    materials: &'a Materials,
    precisions: &'a [f64],
    checkpoints: Option<&'a Checkpoints>,
    stop: &'a AtomicBool,
}

impl Run<'_> {
    /// Trains the model that is kept, on the examples at `indices`. It is calibrated as `by_folds` says,
    /// by a cross-validation whose models were trained as long as this one will be, or else after every
    /// epoch on the examples that are held out.
    fn model(
        &self,
        indices: &[usize],
        held_out: &[usize],
        by_folds: Option<&Calibrated>,
        observe: Observe<'_>,
    ) -> Result<Outcome, TrainError> {
        if indices.is_empty() {
            return Err(TrainError::NoExamples(self.materials.samples.len()));
        }
        let epochs = self.materials.settings.epochs;
        let mut trainer = self.trainer("model", None, indices, held_out, observe)?;
        let mut stopped = false;
        while trainer.progress.epoch <= epochs && !stopped {
            let mut metrics = trainer.epoch(self.checkpoints, self.stop, observe)?;
            stopped = metrics.completed < 1.0;
            // A model of a part of the first epoch is better than none.
            if stopped && (by_folds.is_some() || !trainer.progress.history.is_empty()) {
                break;
            }
            let on_held_out;
            let calibrated = match by_folds {
                Some(calibrated) => calibrated,
                None => {
                    observe(Event::Validating)?;
                    on_held_out = self.calibrate(held_out, &trainer.held_out_logits()?);
                    metrics.heads.clone_from(&on_held_out.heads);
                    metrics.mean_macro_f1 = on_held_out.mean_macro_f1();
                    &on_held_out
                }
            };
            observe(Event::Epoch(&metrics))?;
            // Where nothing is measured the last epoch counts as the best.
            let score = metrics.mean_macro_f1.unwrap_or(metrics.epoch as f64);
            let is_best = trainer.progress.best.is_none_or(|best| score > best);
            if is_best && (by_folds.is_none() || metrics.epoch == epochs) {
                observe(Event::Improved(&mut trainer.bundle(calibrated)?))?;
            }
            if !stopped {
                trainer.progress.end_epoch(metrics, score);
                trainer.save(self.checkpoints)?;
            }
        }
        Ok(Outcome {
            history: trainer.progress.history,
            cross_validation: None,
            stopped,
        })
    }

    /// A trainer at its beginning or at its checkpoint, announced.
    fn trainer<'a>(
        &'a self,
        name: &'a str,
        fold: Option<(usize, usize)>,
        training: &'a [usize],
        held_out: &'a [usize],
        observe: Observe<'_>,
    ) -> Result<Trainer<'a>, TrainError> {
        let trainer = Trainer::new(self.materials, name, training, held_out, self.checkpoints)?;
        observe(Event::Started {
            fold,
            training: training.len(),
            held_out: held_out.len(),
            steps: trainer.steps(),
            done: trainer.progress.step,
        })?;
        Ok(trainer)
    }

    /// Fits the branches' weights on the examples at `indices` and measures what comes of them.
    fn calibrate(&self, indices: &[usize], logits: &[BranchLogits]) -> Calibrated {
        let scored = self.materials.scored(indices, logits);
        calibrate(&self.materials.taxonomy, &scored, self.precisions)
    }
}
