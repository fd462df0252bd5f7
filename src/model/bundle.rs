//! A model on disk: a Hugging Face style folder.
//!
//! | file | what |
//! |---|---|
//! | `config.json`, `tokenizer.json`, `model.safetensors` | the encoder, as `transformers.AutoModel` loads it |
//! | `heads.safetensors` | the encoder's heads: `<head>.weight`, `<head>.bias` |
//! | `lexical.safetensors` | the lexical branch: `idf`, `<head>.weight`, `<head>.bias` |
//! | `taxonomy.toml` | the heads' labels |
//! | `faultlens.json` | [`Manifest`]: text settings, calibration, where the model comes from |
//! | `README.md` | model card |
//!
//! A base model is such a folder with only the first three files.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use base16ct::lower::encode_string;
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokenizers::{Tokenizer, TruncationParams};

use super::encoder::Config;
use super::heads::BranchWeights;
use super::lexical::Lexical;
use crate::taxonomy::{Taxonomy, TaxonomyError};

pub const CONFIG: &str = "config.json";
pub const TOKENIZER: &str = "tokenizer.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const HEADS: &str = "heads.safetensors";
pub const LEXICAL: &str = "lexical.safetensors";
pub const TAXONOMY: &str = "taxonomy.toml";
pub const MANIFEST: &str = "faultlens.json";
pub const CARD: &str = "README.md";

/// The files of a base model, and those that a fine-tuned one has besides.
pub const BASE_FILES: &[&str] = &[CONFIG, TOKENIZER, WEIGHTS];
pub const BUNDLE_FILES: &[&str] = &[
    CONFIG, TOKENIZER, WEIGHTS, HEADS, LEXICAL, TAXONOMY, MANIFEST,
];

/// The manifest's format this version reads and writes.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{0}: {1} is missing; a model folder holds {2} (is this the right folder?)")]
    Missing(PathBuf, &'static str, String),
    #[error("{0}: {1}; fetch or copy the model again")]
    Unreadable(PathBuf, String),
    #[error("{0}: written in format {1}, this version reads {FORMAT}; use a newer faultlens")]
    Format(PathBuf, u32),
    #[error(
        "{folder}: taxonomy.toml does not fit heads.safetensors: {problem}; a changed taxonomy needs \
         `faultlens train`"
    )]
    TaxonomyMismatch { folder: PathBuf, problem: String },
    #[error("{0}: not a BERT-type encoder ({1}); faultlens runs models of model_type bert")]
    Encoder(PathBuf, String),
    #[error(transparent)]
    Taxonomy(Box<TaxonomyError>),
    #[error("{0}: cannot write the model: {1}; choose another folder with -o")]
    Unwritable(PathBuf, std::io::Error),
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<TaxonomyError> for BundleError {
    fn from(error: TaxonomyError) -> Self {
        Self::Taxonomy(Box::new(error))
    }
}

/// `faultlens.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Names the weights in predictions: the model's name and the first digits of their hash.
    pub id: String,
    pub text: TextSettings,
    /// By head, how much the logits of each branch count.
    pub calibration: BTreeMap<String, BranchWeights>,
    /// By head, for some wanted precisions the least probability to answer with.
    #[serde(default)]
    pub thresholds: BTreeMap<String, Vec<Threshold>>,
    pub provenance: serde_json::Value,
}

/// From which probability on a share `precision` of a head's labels was right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    pub precision: f64,
    /// `None`: no threshold gave that precision.
    pub probability: Option<f32>,
    /// The share of issues whose label reached it.
    pub coverage: f64,
}

/// How an issue becomes tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TextSettings {
    /// Tokens of an issue at most, `[CLS]` and `[SEP]` included.
    pub max_tokens: usize,
}

/// A base model's parts in memory.
pub struct Base {
    pub config: Config,
    /// `config.json` as it was, to be written again unchanged.
    pub config_json: serde_json::Value,
    pub tokenizer: Tokenizer,
    /// The encoder's tensors under their standard names, in the precision of the file: whoever computes
    /// with them says in which.
    pub tensors: HashMap<String, Tensor>,
}

impl Base {
    /// Loads the encoder and tokenizer of a folder, be it a base model or a bundle.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, BundleError> {
        require(folder, BASE_FILES)?;
        let path = folder.join(CONFIG);
        let config_json: serde_json::Value = parse(&path)?;
        let model_type = config_json["model_type"].as_str().unwrap_or("none");
        if model_type != "bert" {
            return Err(BundleError::Encoder(
                path,
                format!("its model_type is {model_type}"),
            ));
        }
        let config: Config = serde_json::from_value(config_json.clone())
            .map_err(|error| BundleError::Encoder(path, error.to_string()))?;
        let path = folder.join(TOKENIZER);
        let mut tokenizer = Tokenizer::from_file(&path)
            .map_err(|error| BundleError::Unreadable(path, error.to_string()))?;
        // A tokenizer may come with its own padding and truncation: batches are packed here, and the
        // text settings say how much is read.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| tokenizer_error(folder, &*e))?;
        let tensors = load_tensors(&folder.join(WEIGHTS), device)?
            .into_iter()
            .map(|(name, tensor)| (standard_name(&name), tensor))
            .collect();
        Ok(Self {
            config,
            config_json,
            tokenizer,
            tensors,
        })
    }

    /// Writes the base model's folder, weights in f16, replacing one that is there only once all is
    /// written.
    pub fn save(&self, folder: &Path) -> Result<(), BundleError> {
        write_folder(folder, &self.files()?)
    }

    /// The files of [`BASE_FILES`].
    fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, BundleError> {
        let mut config = self.config_json.clone();
        config["torch_dtype"] = "float16".into();
        config["architectures"] = serde_json::json!(["BertModel"]);
        let tokenizer = self
            .tokenizer
            .to_string(false)
            .map_err(|e| tokenizer_error(Path::new(TOKENIZER), &*e))?;
        Ok(vec![
            (WEIGHTS, serialize_f16(&self.tensors)?),
            (CONFIG, pretty(&config)),
            (TOKENIZER, tokenizer.into_bytes()),
        ])
    }

    /// The tokenizer, cutting texts at `max_tokens`.
    pub fn truncating_tokenizer(&self, max_tokens: usize) -> Result<Tokenizer, BundleError> {
        let mut tokenizer = self.tokenizer.clone();
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: max_tokens,
                ..Default::default()
            }))
            .map_err(|e| tokenizer_error(Path::new(TOKENIZER), &*e))?;
        Ok(tokenizer)
    }
}

/// A fine-tuned model's parts in memory.
pub struct Bundle {
    pub base: Base,
    pub taxonomy: Taxonomy,
    /// The heads' tensors in f32, `<head>.weight` and `<head>.bias`.
    pub heads: HashMap<String, Tensor>,
    pub lexical: Lexical,
    pub manifest: Manifest,
}

impl Bundle {
    /// Loads a fine-tuned model's folder.
    ///
    /// # Errors
    /// A file is missing or unreadable, or taxonomy and heads do not fit.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, BundleError> {
        require(folder, BUNDLE_FILES)?;
        let path = folder.join(MANIFEST);
        let manifest: Manifest = parse(&path)?;
        if manifest.format > FORMAT {
            return Err(BundleError::Format(path, manifest.format));
        }
        let taxonomy = Taxonomy::from_path(&folder.join(TAXONOMY))?;
        let heads = in_f32(load_tensors(&folder.join(HEADS), device)?)?;
        check(folder, &taxonomy, &heads, &manifest)?;
        let sizes: Vec<(String, usize)> = taxonomy
            .heads
            .iter()
            .map(|head| (head.name.clone(), head.labels.len()))
            .collect();
        let path = folder.join(LEXICAL);
        let lexical = in_f32(load_tensors(&path, &Device::Cpu)?)?;
        let lexical = Lexical::from_tensors(&lexical, &sizes)
            .map_err(|error| BundleError::Unreadable(path, error.to_string()))?;
        Ok(Self {
            base: Base::load(folder, device)?,
            taxonomy,
            heads,
            lexical,
            manifest,
        })
    }

    /// Writes the folder, weights in f16, replacing one that is there only once all is written.
    /// `name` begins the model's id; `card` makes the model card from the finished manifest.
    pub fn save(
        &mut self,
        folder: &Path,
        name: &str,
        card: impl Fn(&Manifest) -> String,
    ) -> Result<(), BundleError> {
        let mut files = self.base.files()?;
        let heads = serialize_f16(&self.heads)?;
        let names: Vec<String> = self
            .taxonomy
            .heads
            .iter()
            .map(|head| head.name.clone())
            .collect();
        let lexical = serialize_f16(&self.lexical.tensors(&names)?)?;
        let weights = files.iter().find(|(file, _)| *file == WEIGHTS);
        let digest = Sha256::new()
            .chain_update(weights.map_or([].as_slice(), |(_, bytes)| bytes))
            .chain_update(&heads)
            .chain_update(&lexical)
            .finalize();
        let digest = encode_string(&digest[..4]);
        self.manifest.format = FORMAT;
        self.manifest.id = format!("{name}-{digest}");
        files.extend([
            (HEADS, heads),
            (LEXICAL, lexical),
            (TAXONOMY, self.taxonomy.to_toml().into_bytes()),
            (MANIFEST, pretty(&self.manifest)),
            (CARD, card(&self.manifest).into_bytes()),
        ]);
        write_folder(folder, &files)
    }
}

/// Writes a folder of files, replacing one that is there only once all is written.
fn write_folder(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), BundleError> {
    let unwritable = |error| BundleError::Unwritable(folder.to_owned(), error);
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(unwritable)?;
    let staging = tempfile::Builder::new()
        .prefix(".faultlens-model-")
        .tempdir_in(parent)
        .map_err(unwritable)?;
    for (file, bytes) in files {
        fs::write(staging.path().join(file), bytes).map_err(unwritable)?;
    }
    let staged = staging.keep();
    if folder.exists() {
        let old = staged.with_extension("old");
        fs::rename(folder, &old).map_err(unwritable)?;
        fs::rename(&staged, folder).map_err(unwritable)?;
        fs::remove_dir_all(old).map_err(unwritable)
    } else {
        fs::rename(&staged, folder).map_err(unwritable)
    }
}

/// Whether taxonomy, heads and calibration are of one model.
fn check(
    folder: &Path,
    taxonomy: &Taxonomy,
    heads: &HashMap<String, Tensor>,
    manifest: &Manifest,
) -> Result<(), BundleError> {
    let mismatch = |problem| BundleError::TaxonomyMismatch {
        folder: folder.to_owned(),
        problem,
    };

    for head in &taxonomy.heads {
        let weight = heads.get(&format!("{}.weight", head.name));
        let rows = weight.map(|weight| weight.dims()[0]);
        if rows != Some(head.labels.len()) {
            return Err(mismatch(match rows {
                None => format!("there are no weights for head {}", head.name),
                Some(rows) => format!(
                    "head {} has {} labels, its weights {rows} rows",
                    head.name,
                    head.labels.len()
                ),
            }));
        }
        if !manifest.calibration.contains_key(&head.name) {
            return Err(mismatch(format!(
                "{MANIFEST} has no calibration of {}",
                head.name
            )));
        }
    }
    match heads.len() == 2 * taxonomy.heads.len() {
        true => Ok(()),
        false => Err(mismatch(
            "there are weights of heads that the taxonomy lacks".into(),
        )),
    }
}

fn require(folder: &Path, files: &[&'static str]) -> Result<(), BundleError> {
    match files.iter().find(|file| !folder.join(file).is_file()) {
        None => Ok(()),
        Some(file) => Err(BundleError::Missing(
            folder.to_owned(),
            file,
            files.join(", "),
        )),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let unreadable = |error: String| BundleError::Unreadable(path.to_owned(), error);
    let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("maps with string keys serialise");
    bytes.push(b'\n');
    bytes
}

/// The floating-point tensors of a file.
fn load_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>, BundleError> {
    let unreadable =
        |error: candle_core::Error| BundleError::Unreadable(path.to_owned(), error.to_string());
    let mut tensors = HashMap::new();
    for (name, tensor) in candle_core::safetensors::load(path, device).map_err(unreadable)? {
        // Old checkpoints keep position ids, which are no weights, as a tensor of integers.
        if tensor.dtype().is_float() {
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

fn in_f32(tensors: HashMap<String, Tensor>) -> candle_core::Result<HashMap<String, Tensor>> {
    let tensors = tensors.into_iter();
    tensors
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F32)?)))
        .collect()
}

/// The name a tensor has in a `BertModel` checkpoint: a model with a head on top has a prefix, and
/// old checkpoints call a layer norm's parameters gamma and beta.
fn standard_name(name: &str) -> String {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    name.replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias")
}

fn serialize_f16(tensors: &HashMap<String, Tensor>) -> Result<Vec<u8>, BundleError> {
    // In order of name: the same weights are the same bytes, and the same id.
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| {
            Ok((
                name.as_str(),
                tensor.to_dtype(DType::F16)?.to_device(&Device::Cpu)?,
            ))
        })
        .collect::<candle_core::Result<BTreeMap<_, _>>>()?;
    Ok(safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?)
}

fn tokenizer_error(path: &Path, error: &(dyn std::error::Error + Send + Sync)) -> BundleError {
    BundleError::Unreadable(path.to_owned(), error.to_string())
}
