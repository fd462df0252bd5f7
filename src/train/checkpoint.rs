//! The state of an unfinished training on disk, from which it goes on as if it had never stopped.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::EpochMetrics;

/// Where the state is kept, and how often.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// A folder that holds nothing else.
    pub folder: PathBuf,
    /// Steps between two checkpoints, at least 1.
    pub every: usize,
}

/// Why a checkpoint cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(
        "{0}: cannot keep the state of the training: {1}; make room, then continue with --resume"
    )]
    Unwritable(PathBuf, io::Error),
    #[error("{0}: the state of the training is unreadable: {1}; start again with --force")]
    Unreadable(PathBuf, String),
    #[error(
        "{0} is the state of another training: settings, taxonomy, annotations, texts or the model to \
         start from differ; give the same as before, or start again with --force"
    )]
    OtherTraining(PathBuf),
}

/// How far one model's training has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Of everything that decides the result.
    pub fingerprint: String,
    /// The epoch that comes next or is under way: from 1, or 0 where there are to be none.
    pub epoch: usize,
    /// Batches of that epoch that are done.
    pub batches: usize,
    /// The sum of their losses.
    pub loss_sum: f64,
    /// Steps done in all epochs.
    pub step: usize,
    /// The highest score of an epoch that is over.
    pub best: Option<f64>,
    pub history: Vec<EpochMetrics>,
}

impl Progress {
    /// Of a training of so many epochs.
    pub fn new(fingerprint: String, epochs: usize) -> Self {
        Self {
            fingerprint,
            epoch: epochs.min(1),
            batches: 0,
            loss_sum: 0.0,
            step: 0,
            best: None,
            history: Vec::new(),
        }
    }

    /// Turns to the next epoch. `score` says how good the model is after this one.
    pub fn end_epoch(&mut self, metrics: EpochMetrics, score: f64) {
        self.best = Some(self.best.map_or(score, |best| best.max(score)));
        self.history.push(metrics);
        (self.epoch, self.batches, self.loss_sum) = (self.epoch + 1, 0, 0.0);
    }
}

/// How far a training has come, and the tensors of that moment.
pub(super) type State = (Progress, HashMap<String, Tensor>);

/// The key of [`Progress`] in a checkpoint's metadata.
const PROGRESS: &str = "progress";

impl Checkpoints {
    /// Keeps progress and tensors of the training called `name`, replacing what there was.
    pub(super) fn save(
        &self,
        name: &str,
        progress: &Progress,
        tensors: Vec<(String, Tensor)>,
    ) -> Result<(), CheckpointError> {
        let path = self.tensors_path(name);
        let json = serde_json::to_string(progress).expect("numbers and strings serialise");
        let metadata = HashMap::from([(PROGRESS.to_owned(), json)]);
        let bytes = safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| CheckpointError::Unwritable(path.clone(), io::Error::other(error)))?;
        self.write(&path, &bytes)
    }

    /// What [`Checkpoints::save`] kept under `name`; `None` if nothing was.
    ///
    /// # Errors
    /// The checkpoint is broken, or is not of the training with this fingerprint.
    pub(super) fn load(
        &self,
        name: &str,
        fingerprint: &str,
    ) -> Result<Option<State>, CheckpointError> {
        let path = self.tensors_path(name);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let unreadable = |error: &dyn std::fmt::Display| {
            CheckpointError::Unreadable(path.clone(), error.to_string())
        };
        let (_, header) =
            safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| unreadable(&error))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(PROGRESS));
        let progress: Progress =
            serde_json::from_str(json.map_or("", String::as_str)).map_err(|e| unreadable(&e))?;
        if progress.fingerprint != fingerprint {
            return Err(CheckpointError::OtherTraining(path));
        }
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|error| unreadable(&error))?;
        Ok(Some((progress, tensors)))
    }

    /// Keeps the result of the training called `name`, whose checkpoint it replaces.
    pub(super) fn finish(
        &self,
        name: &str,
        fingerprint: &str,
        result: &impl Serialize,
    ) -> Result<(), CheckpointError> {
        let bytes = serde_json::to_vec(&(fingerprint, result)).expect("numbers serialise");
        self.write(&self.result_path(name), &bytes)?;
        match fs::remove_file(self.tensors_path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::Unwritable(self.tensors_path(name), error))
            }
            _ => Ok(()),
        }
    }

    /// What [`Checkpoints::finish`] kept under `name`; `None` if nothing was.
    pub(super) fn result<T: DeserializeOwned>(
        &self,
        name: &str,
        fingerprint: &str,
    ) -> Result<Option<T>, CheckpointError> {
        let path = self.result_path(name);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let (found, result): (String, T) = serde_json::from_slice(&bytes)
            .map_err(|error| CheckpointError::Unreadable(path.clone(), error.to_string()))?;
        if found != fingerprint {
            return Err(CheckpointError::OtherTraining(path));
        }
        Ok(Some(result))
    }

    /// Removes the folder: the training is over.
    pub fn remove(&self) -> Result<(), CheckpointError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::Unwritable(self.folder.clone(), error))
            }
            _ => Ok(()),
        }
    }

    fn tensors_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.safetensors"))
    }

    fn result_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Replaces a file at once: at any moment the old or the new one is there, whole.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
        let replace = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        replace().map_err(|error| CheckpointError::Unwritable(path.to_owned(), error))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CheckpointError::Unreadable(
            path.to_owned(),
            error.to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(fingerprint: &str) -> Progress {
        Progress {
            fingerprint: fingerprint.into(),
            epoch: 3,
            batches: 17,
            loss_sum: 0.1 + 0.2,
            step: 417,
            best: Some(1.0 / 3.0),
            history: Vec::new(),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_last_bit_and_only_to_its_own_training() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints {
            folder: folder.path().join("state"),
            every: 1,
        };
        assert!(checkpoints.load("fold-1", "a").unwrap().is_none());
        let values = [f32::MIN_POSITIVE, -0.1, 1e-42, 3.0];
        let tensor = Tensor::new(&values, &Device::Cpu).unwrap();
        let tensors = vec![("w".to_owned(), tensor)];
        checkpoints.save("fold-1", &progress("a"), tensors).unwrap();
        let (found, tensors) = checkpoints.load("fold-1", "a").unwrap().unwrap();
        assert_eq!(found, progress("a"));
        assert_eq!(tensors["w"].to_vec1::<f32>().unwrap(), values);
        let other = checkpoints.load("fold-1", "b").unwrap_err().to_string();
        assert!(other.contains("another training") && other.contains("--force"));
        assert!(checkpoints.load("fold-2", "a").unwrap().is_none());

        checkpoints.finish("fold-1", "a", &vec![0.1f32]).unwrap();
        assert!(checkpoints.load("fold-1", "a").unwrap().is_none());
        let result: Vec<f32> = checkpoints.result("fold-1", "a").unwrap().unwrap();
        assert_eq!(result, [0.1]);
        assert!(checkpoints.result::<Vec<f32>>("fold-1", "b").is_err());
        checkpoints.remove().unwrap();
        assert!(!folder.path().join("state").exists());
    }

    #[test]
    fn a_cut_off_checkpoint_says_how_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("whole.safetensors"), b"abc").unwrap();
        let checkpoints = Checkpoints {
            folder: folder.path().into(),
            every: 1,
        };
        let error = checkpoints.load("whole", "a").unwrap_err().to_string();
        assert!(
            error.contains("unreadable") && error.contains("--force"),
            "{error}"
        );
    }
}
