//! `faultlens train`: fine-tunes a model on annotations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base16ct::lower::encode_string;
use clap::Args;
use faultlens::model::bundle::{BASE_FILES, BUNDLE_FILES, Base, Bundle, WEIGHTS};
use faultlens::prediction::Prediction;
use faultlens::prediction::write::{Mode, PredictionWriter};
use faultlens::taxonomy::Taxonomy;
use faultlens::train::checkpoint::Checkpoints;
use faultlens::train::suspects::suspects;
use faultlens::train::{CrossValidation, Event, Example, Settings, Start, Training, train};
use sha2::{Digest, Sha256};

mod card;
mod console;
mod examples;
mod settings;

use card::card;
use console::Console;
use examples::{annotations, check_labels, join, of_table};
use settings::SettingArguments;

use super::{
    DEFAULT_TAXONOMY, INTERRUPTED, LabelledTable, ModelArguments, ReadArguments, shipped,
    stop_flag, write,
};

/// Fine-tune a model on annotated issues
///
/// Writes a model folder that `classify --model` and Python's transformers load. The best epoch on a
/// validation split is kept. Ctrl-C ends the training and leaves the best model so far; --resume goes on
/// where it ended, also after a crash.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Files with the issues' texts, or patterns, or - for standard input
    #[arg(long, required_unless_present = "csv", num_args = 1..)]
    issues: Vec<String>,
    /// Annotations (JSONL); of several files the later wins
    #[arg(long, required_unless_present = "csv", num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Heads and labels [default: those of --from, or the training-data/taxonomy.toml that ships]
    #[arg(long, conflicts_with = "csv")]
    taxonomy: Option<PathBuf>,
    /// Folder or hub id (owner/name[@revision]) of the encoder to start from
    #[arg(
        long,
        default_value = "sentence-transformers/all-MiniLM-L6-v2",
        conflicts_with = "from"
    )]
    base: String,
    /// Folder or hub id of a fine-tuned model to go on from: heads keep what they know of the labels that
    /// the taxonomy still has. Not with --folds: it has seen what it would be tested on
    #[arg(long, conflicts_with = "folds")]
    from: Option<String>,
    /// Folder to write the model to
    #[arg(long, short, required_unless_present_any = ["suspects", "fold_predictions"])]
    output: Option<PathBuf>,
    /// Replace what an earlier training wrote, finished or not
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Go on with a training that was cut off, given the same arguments; without one, begin
    #[arg(long)]
    resume: bool,
    /// Steps between two checkpoints, from which --resume goes on
    #[arg(long, default_value_t = 200, value_name = "N")]
    checkpoint_steps: usize,
    /// Store thresholds with which classify gives labels of this precision, in (0, 1); several times for
    /// several [default: 0.9, 0.95 and 0.99]
    #[arg(long, value_name = "P")]
    target_precision: Vec<f64>,
    /// With --folds: write what models say of issues that they were not trained on (.jsonl, .csv or
    /// .parquet, as classify)
    #[arg(long, requires = "folds", value_name = "FILE")]
    fold_predictions: Option<PathBuf>,
    /// With --folds: write the annotations that are likely wrong, the surest first (JSONL)
    #[arg(long, requires = "folds", value_name = "FILE")]
    suspects: Option<PathBuf>,
    #[command(flatten)]
    runtime: ModelArguments,
    #[command(flatten)]
    read: ReadArguments,
    // Last, because their headings would be those of what follows.
    #[command(flatten)]
    table: LabelledTable,
    #[command(flatten)]
    settings: SettingArguments,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let state = self.state_folder()?;
        let precisions = self.precisions()?;
        let device = self.runtime.device.open()?;
        let (source, files) = match &self.from {
            Some(source) => (source, BUNDLE_FILES),
            None => (&self.base, BASE_FILES),
        };
        let mut settings = match self.from {
            Some(_) => Settings::warm(),
            None => Settings::default(),
        };
        // What can be wrong without a model is said before one is fetched.
        self.settings.over(settings.clone(), &device).validate()?;
        let folder = self.runtime.resolve(source, files)?;
        let start = match &self.from {
            Some(_) => Start::Model(Box::new(Bundle::load(&folder, &device)?)),
            None => Start::Base(Box::new(Base::load(&folder, &device)?)),
        };
        if let Start::Model(bundle) = &start {
            settings.max_tokens = bundle.manifest.text.max_tokens;
        }
        let settings = self.settings.over(settings, &device).validate()?;
        let (taxonomy, examples) = match self.table.is_given() {
            true => of_table(&self.table, &start)?,
            false => {
                let taxonomy = self.taxonomy(&start)?;
                let annotations = annotations(&self.labels, &taxonomy)?;
                let examples = join(annotations, &self.read, &self.issues)?;
                (taxonomy, examples)
            }
        };
        check_labels(&taxonomy, &examples, &start)?;

        let checkpoints = Checkpoints {
            folder: state,
            every: self.checkpoint_steps,
        };
        if self.force {
            checkpoints.remove()?;
        }
        let labels = self.labels.iter().map(PathBuf::as_path);
        let tables = self.table.files().map(Path::new);
        let labels = labels.chain(tables).map(hash_of);
        let mut provenance = serde_json::json!({
            "faultlens": env!("CARGO_PKG_VERSION"),
            "base": { "source": source, "weights": hash_of(&folder.join(WEIGHTS))? },
            "labels": labels.collect::<Result<Vec<_>>>()?,
            "examples": examples.len(),
        });
        if let Start::Model(bundle) = &start {
            provenance["earlier"] = bundle.manifest.provenance.clone();
        }
        let stop = stop_flag()?;
        let mut console = Console::default();
        let mut measured = serde_json::Value::Null;
        let training = Training {
            start,
            taxonomy: taxonomy.clone(),
            settings,
            precisions,
            device,
            checkpoints: Some(checkpoints.clone()),
            model: self.output.is_some(),
        };
        let outcome = train(training, &examples, &stop, &mut |event| {
            console.show(&event);
            match event {
                Event::Epoch(metrics) if !metrics.heads.is_empty() => {
                    measured = serde_json::json!(metrics);
                }
                Event::CrossValidated(validated) => measured = cross_validated(validated),
                Event::Improved(bundle) => {
                    if let Some(output) = &self.output {
                        save(bundle, output, &provenance, &measured)?;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        console.end();
        if let Some(cross_validation) = &outcome.cross_validation {
            self.write_folds(&taxonomy, &examples, cross_validation)?;
        }
        if outcome.stopped {
            let model = match self.output.as_ref().filter(|output| output.exists()) {
                Some(output) => format!("; the best model so far is in {}", output.display()),
                None => String::new(),
            };
            eprintln!("interrupted{model}; --resume with the same arguments goes on");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        if let Some(output) = &self.output {
            let lines = outcome.history.iter().map(serde_json::to_string);
            write_lines(&output.join("metrics.jsonl"), lines)?;
            eprintln!("the model is in {}", output.display());
        }
        checkpoints.remove()?;
        Ok(ExitCode::SUCCESS)
    }

    fn taxonomy(&self, start: &Start) -> Result<Taxonomy> {
        Ok(match (&self.taxonomy, start) {
            (Some(path), _) => Taxonomy::from_path(path)?,
            (None, Start::Model(bundle)) => bundle.taxonomy.clone(),
            (None, Start::Base(_)) => {
                Taxonomy::from_path(&shipped(DEFAULT_TAXONOMY, "--taxonomy")?)?
            }
        })
    }

    /// Where the state of the training goes, once it is clear that nothing is overwritten unasked.
    fn state_folder(&self) -> Result<PathBuf> {
        let files = [&self.output, &self.fold_predictions, &self.suspects];
        let files: Vec<&PathBuf> = files.into_iter().flatten().collect();
        let mut state = files[0].clone().into_os_string();
        state.push(".training");
        let state = PathBuf::from(state);
        if self.checkpoint_steps == 0 {
            bail!("--checkpoint-steps must be at least 1");
        }
        if self.force || self.resume {
            return Ok(state);
        }
        if state.exists() {
            bail!(
                "{} is a training that was cut off; --resume goes on with it, --force begins again",
                state.display()
            );
        }
        if let Some(existing) = files.iter().find(|file| file.exists()) {
            bail!(
                "{} exists; --force replaces it, another name keeps it",
                existing.display()
            );
        }
        Ok(state)
    }

    /// The precisions for which there are to be thresholds.
    fn precisions(&self) -> Result<Vec<f64>> {
        if self.target_precision.is_empty() {
            return Ok(faultlens::eval::selective::PRECISIONS.to_vec());
        }
        match self
            .target_precision
            .iter()
            .find(|p| !(0.0..1.0).contains(*p) || **p == 0.0)
        {
            Some(wrong) => {
                bail!("--target-precision is a share between 0 and 1, such as 0.95, not {wrong}")
            }
            None => Ok(self.target_precision.clone()),
        }
    }

    /// Writes what was asked for of a cross-validation.
    fn write_folds(
        &self,
        taxonomy: &Taxonomy,
        examples: &[Example],
        cross_validation: &CrossValidation,
    ) -> Result<()> {
        if let Some(path) = &self.fold_predictions {
            let model = format!("cross-validation-{}", cross_validation.folds);
            let mut writer = PredictionWriter::create(path, taxonomy, &model, Mode::Replace)?;
            let predictions = examples
                .iter()
                .zip(&cross_validation.calibrated.predictions);
            let predictions: Vec<Prediction> = predictions
                .map(|(example, heads)| Prediction {
                    id: example.issue.id.clone(),
                    heads: heads.clone(),
                })
                .collect();
            writer.append(&predictions)?;
            writer.finish()?;
            eprintln!("the predictions are in {}", path.display());
        }
        if let Some(path) = &self.suspects {
            let suspects = suspects(taxonomy, examples, &cross_validation.calibrated.predictions);
            write_lines(path, suspects.iter().map(serde_json::to_string))?;
            eprintln!(
                "{} annotations that may be wrong are in {}",
                suspects.len(),
                path.display()
            );
        }
        Ok(())
    }
}

fn save(
    bundle: &mut Bundle,
    folder: &Path,
    provenance: &serde_json::Value,
    measured: &serde_json::Value,
) -> Result<(), faultlens::model::bundle::BundleError> {
    let name = folder
        .file_name()
        .map_or("model".into(), |name| name.to_string_lossy());
    let settings = bundle.manifest.provenance["settings"].take();
    bundle.manifest.provenance = provenance.clone();
    bundle.manifest.provenance["settings"] = settings;
    bundle.manifest.provenance["validation"] = measured.clone();
    let taxonomy = bundle.taxonomy.clone();
    bundle.save(folder, &name, |manifest| card(&name, manifest, &taxonomy))
}

/// What a cross-validation says of the way a model is trained.
pub fn cross_validated(cross_validation: &CrossValidation) -> serde_json::Value {
    serde_json::json!({
        "folds": cross_validation.folds,
        "mean_macro_f1": cross_validation.calibrated.mean_macro_f1(),
        "heads": cross_validation.calibrated.heads,
    })
}

/// Replaces a file by lines of JSON.
fn write_lines(path: &Path, lines: impl Iterator<Item = serde_json::Result<String>>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text += &line?;
        text += "\n";
    }
    write(path, &text)
}

/// The name and hash of a file that a model was made from.
fn hash_of(path: &Path) -> Result<serde_json::Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let digest = encode_string(&Sha256::digest(&bytes));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(serde_json::json!({ "file": name, "sha256": digest }))
}
