//! Cross-validation: every example labelled by a model that was not trained on it.

use super::calibration::Calibrated;
use super::sampling::fold_of;
use super::settings::Settings;
use super::{Event, Observe, Run, TrainError};
use crate::issue::IssueId;
use crate::model::heads::BranchLogits;

/// What models say of the examples that each was not trained on.
#[derive(Debug, Clone)]
pub struct CrossValidation {
    pub folds: usize,
    /// Fitted on all predictions together.
    pub calibrated: Calibrated,
}

impl Run<'_> {
    /// Trains a model for each fold on the other folds, with all epochs. `None`: stopped before the end.
    pub(super) fn cross_validate(
        &self,
        ids: &[&IssueId],
        observe: Observe<'_>,
    ) -> Result<Option<CrossValidation>, TrainError> {
        let Settings { folds, seed, .. } = self.materials.settings;
        let fold: Vec<usize> = ids.iter().map(|id| fold_of(id, folds, seed)).collect();
        let mut logits: Vec<Option<BranchLogits>> = vec![None; ids.len()];
        for number in 0..folds {
            let (held_out, training): (Vec<usize>, Vec<usize>) =
                (0..ids.len()).partition(|&i| fold[i] == number);
            if training.is_empty() || held_out.is_empty() {
                return Err(TrainError::EmptyFold(number + 1));
            }
            let Some(results) = self.fold(number, &training, &held_out, observe)? else {
                return Ok(None);
            };
            for (&i, result) in held_out.iter().zip(results) {
                logits[i] = Some(result);
            }
        }
        let logits: Vec<BranchLogits> = logits.into_iter().flatten().collect();
        let all: Vec<usize> = (0..ids.len()).collect();
        let cross_validation = CrossValidation {
            folds,
            calibrated: self.calibrate(&all, &logits),
        };
        observe(Event::CrossValidated(&cross_validation))?;
        Ok(Some(cross_validation))
    }

    /// The logits of one fold's examples, by a model trained on the others; `None`: stopped.
    fn fold(
        &self,
        number: usize,
        training: &[usize],
        held_out: &[usize],
        observe: Observe<'_>,
    ) -> Result<Option<Vec<BranchLogits>>, TrainError> {
        let Settings { folds, epochs, .. } = self.materials.settings;
        let name = format!("fold-{}", number + 1);
        let fingerprint = &self.materials.fingerprint;
        if let Some(checkpoints) = self.checkpoints
            && let Some(done) = checkpoints.result(&name, fingerprint)?
        {
            return Ok(Some(done));
        }
        let fold = Some((number + 1, folds));
        let mut trainer = self.trainer(&name, fold, training, held_out, observe)?;
        while trainer.progress.epoch <= epochs {
            let metrics = trainer.epoch(self.checkpoints, self.stop, observe)?;
            if metrics.completed < 1.0 {
                return Ok(None);
            }
            trainer.progress.end_epoch(metrics, 0.0);
        }
        observe(Event::Validating)?;
        let logits = trainer.held_out_logits()?;
        if let Some(checkpoints) = self.checkpoints {
            checkpoints.finish(&name, fingerprint, &logits)?;
        }
        Ok(Some(logits))
    }
}
