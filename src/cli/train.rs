//! `faultlens train`: fine-tunes a model on annotations.

use std::collections::HashMap;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use clap::Args;
use faultlens::annotation::{Annotation, merge, read_annotations};
use faultlens::issue::IssueId;
use faultlens::model::bundle::{BASE_FILES, Base, Manifest, WEIGHTS};
use faultlens::taxonomy::Taxonomy;
use faultlens::train::{EpochMetrics, Event, Example, Settings, train, unseen_labels};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::device::DeviceChoice;
use super::{
    DEFAULT_TAXONOMY, HubArguments, INTERRUPTED, ReadArguments, progress, shipped, stop_flag,
};

/// Fine-tune a model on annotated issues
///
/// Writes a model folder that `classify --model` and Python's transformers load. The best epoch on a
/// validation split is kept; Ctrl-C ends the training and leaves the best model so far.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Files with the issues' texts, or patterns, or - for standard input
    #[arg(long, required = true, num_args = 1..)]
    issues: Vec<String>,
    /// Annotations (JSONL); of several files the later wins
    #[arg(long, required = true, num_args = 1..)]
    labels: Vec<PathBuf>,
    /// Heads and labels [default: the training-data/taxonomy.toml that ships]
    #[arg(long)]
    taxonomy: Option<PathBuf>,
    /// Folder or hub id (owner/name[@revision]) of the model to start from
    #[arg(long, default_value = "sentence-transformers/all-MiniLM-L6-v2")]
    base: String,
    /// Folder to write the model to
    #[arg(long, short)]
    output: PathBuf,
    /// Replace the output folder if there is one
    #[arg(long)]
    force: bool,
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[command(flatten)]
    settings: SettingArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    read: ReadArguments,
}

/// The library's [`Settings`] with its defaults.
#[derive(Args)]
#[command(next_help_heading = "Training")]
struct SettingArguments {
    /// Passes over the training examples
    #[arg(long, default_value_t = Settings::default().epochs)]
    epochs: usize,
    /// Issues a step
    #[arg(long, default_value_t = Settings::default().batch_size)]
    batch_size: usize,
    /// Highest learning rate of the encoder
    #[arg(long, default_value_t = Settings::default().learning_rate)]
    learning_rate: f64,
    /// Highest learning rate of the heads
    #[arg(long, default_value_t = Settings::default().head_learning_rate)]
    head_learning_rate: f64,
    /// Decay of weight matrices
    #[arg(long, default_value_t = Settings::default().weight_decay)]
    weight_decay: f64,
    /// Fraction of the steps over which the learning rate rises
    #[arg(long, default_value_t = Settings::default().warmup)]
    warmup: f64,
    /// Largest norm of the gradient
    #[arg(long, default_value_t = Settings::default().clip_norm)]
    clip_norm: f64,
    /// Probability of dropping an activation
    #[arg(long, default_value_t = Settings::default().dropout)]
    dropout: f64,
    /// Part of the target spread over all labels
    #[arg(long, default_value_t = Settings::default().label_smoothing)]
    label_smoothing: f64,
    /// Tokens read of an issue
    #[arg(long, default_value_t = Settings::default().max_tokens)]
    max_tokens: usize,
    /// Fraction of the annotations that choose the epoch and calibrate, by a hash of the identity
    #[arg(long, default_value_t = Settings::default().validation)]
    validation: f64,
    /// Of the order of examples, of dropout and of the heads' first weights
    #[arg(long, default_value_t = Settings::default().seed)]
    seed: u64,
}

impl From<SettingArguments> for Settings {
    fn from(arguments: SettingArguments) -> Self {
        Self {
            epochs: arguments.epochs,
            batch_size: arguments.batch_size,
            learning_rate: arguments.learning_rate,
            head_learning_rate: arguments.head_learning_rate,
            weight_decay: arguments.weight_decay,
            warmup: arguments.warmup,
            clip_norm: arguments.clip_norm,
            dropout: arguments.dropout,
            label_smoothing: arguments.label_smoothing,
            max_tokens: arguments.max_tokens,
            validation: arguments.validation,
            seed: arguments.seed,
        }
    }
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if self.output.exists() && !self.force {
            bail!(
                "{} exists; --force replaces it, -o names another folder",
                self.output.display()
            );
        }
        let settings = Settings::from(self.settings).validate()?;
        let device = self.device.open()?;
        let taxonomy = match &self.taxonomy {
            Some(path) => Taxonomy::from_path(path)?,
            None => Taxonomy::from_path(&shipped(DEFAULT_TAXONOMY, "--taxonomy")?)?,
        };
        let annotations = annotations(&self.labels, &taxonomy)?;
        let folder = self.hub.resolve(&self.base, BASE_FILES)?;
        let base = Base::load(&folder, &device)?;
        let examples = join(annotations, &self.read, &self.issues)?;
        let unseen = unseen_labels(&taxonomy, &examples);
        if !unseen.is_empty() {
            eprintln!(
                "warning: no example of {}: the model cannot learn these",
                unseen.join(", ")
            );
        }

        let base_weights = hash_of(&folder.join(WEIGHTS))?;
        let labels: Vec<serde_json::Value> = self
            .labels
            .iter()
            .map(|path| hash_of(path))
            .collect::<Result<_>>()?;
        let heads: Vec<String> = taxonomy
            .heads
            .iter()
            .map(|head| head.name.clone())
            .collect();
        let stop = stop_flag()?;
        let mut console = Console::default();
        let mut last: Option<EpochMetrics> = None;
        let name = self
            .output
            .file_name()
            .map_or("model".into(), |name| name.to_string_lossy());
        let history = train(
            base,
            taxonomy,
            &examples,
            settings,
            &device,
            &stop,
            &mut |event| match event {
                Event::Improved(bundle) => {
                    bundle.manifest.provenance = serde_json::json!({
                        "faultlens": env!("CARGO_PKG_VERSION"),
                        "base": { "source": self.base, "weights": base_weights },
                        "labels": labels,
                        "examples": examples.len(),
                        "settings": bundle.manifest.provenance["settings"],
                        "validation": last,
                    });
                    bundle.save(&self.output, &name, |manifest| {
                        card(&name, manifest, &heads)
                    })
                }
                other => {
                    if let Event::Epoch(metrics) = &other {
                        last = Some((*metrics).clone());
                    }
                    console.show(other);
                    Ok(())
                }
            },
        )?;
        console.bar.finish_and_clear();
        let lines: String = history
            .iter()
            .map(|metrics| serde_json::to_string(metrics).map(|line| line + "\n"))
            .collect::<Result<_, _>>()?;
        let path = self.output.join("metrics.jsonl");
        fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
        let stopped = stop.load(Ordering::Relaxed);
        let how = if stopped {
            "interrupted; the best model so far is"
        } else {
            "the model is"
        };
        eprintln!("{how} in {}", self.output.display());
        Ok(if stopped {
            ExitCode::from(INTERRUPTED)
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn annotations(paths: &[PathBuf], taxonomy: &Taxonomy) -> Result<Vec<Annotation>> {
    let files = paths
        .iter()
        .map(|path| read_annotations(path, taxonomy))
        .collect::<Result<Vec<_>, _>>()?;
    let merged = merge(files);
    if !merged.replaced.is_empty() {
        eprintln!(
            "{} annotations were replaced by those of a later file",
            merged.replaced.len()
        );
    }
    Ok(merged.annotations)
}

/// Joins annotations with the issues they are about.
fn join(
    annotations: Vec<Annotation>,
    read: &ReadArguments,
    files: &[String],
) -> Result<Vec<Example>> {
    let corpus = read.open(files)?;
    let wanted = annotations.len();
    let mut labels: HashMap<IssueId, Vec<Option<usize>>> = annotations
        .into_iter()
        .map(|annotation| (annotation.id, annotation.labels))
        .collect();
    let mut examples = Vec::new();
    for issue in corpus.issues() {
        let issue = issue?;
        if let Some(labels) = labels.remove(&issue.id) {
            examples.push(Example { issue, labels });
        }
    }
    if !labels.is_empty() {
        let missing = labels
            .keys()
            .min()
            .map(ToString::to_string)
            .unwrap_or_default();
        eprintln!(
            "warning: {} of {wanted} annotated issues are not in the files (the first is {missing})",
            labels.len()
        );
    }
    Ok(examples)
}

/// The name and hash of a file that a model was made from.
fn hash_of(path: &Path) -> Result<serde_json::Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(serde_json::json!({ "file": name, "sha256": digest }))
}

/// The model card of a training.
fn card(name: &str, manifest: &Manifest, heads: &[String]) -> String {
    let provenance = &manifest.provenance;
    let settings = serde_json::to_string_pretty(&provenance["settings"]).unwrap_or_default();
    let mut card = format!(
        "# {name}\n\n\
         A text classifier of `faultlens` (id `{}`), fine-tuned from `{}` on {} annotated issues.\n\n\
         `faultlens classify --model <this folder> issues.json` labels issues with it; \
         `transformers.AutoModel.from_pretrained` loads its encoder.\n\n\
         ## Validation\n\n\
         Agreement with the annotations held out by a hash of their identity ({} % of them), `none` \
         included where a head does not apply, after epoch {}. The epoch was chosen and the \
         probabilities were calibrated on them, so they flatter the model a little.\n\n\
         | head | accuracy | kappa | macro-F1 |\n|---|---|---|---|\n",
        manifest.id,
        provenance["base"]["source"].as_str().unwrap_or_default(),
        provenance["examples"],
        provenance["settings"]["validation"]
            .as_f64()
            .unwrap_or_default()
            * 100.0,
        provenance["validation"]["epoch"],
    );
    for head in heads {
        let metrics = &provenance["validation"]["heads"][head];
        let figure = |key: &str| {
            metrics[key]
                .as_f64()
                .map_or("–".into(), |x| format!("{x:.3}"))
        };
        let (accuracy, kappa, f1) = (figure("accuracy"), figure("kappa"), figure("macro_f1"));
        card += &format!("| {head} | {accuracy} | {kappa} | {f1} |\n");
    }
    card + &format!("\n## Settings\n\n```json\n{settings}\n```\n")
}

/// Shows how the training goes: a bar on a terminal, JSON lines of the epochs' metrics on standard
/// output.
struct Console {
    bar: ProgressBar,
    interactive: bool,
    smoothed_loss: Option<f32>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            interactive: std::io::stderr().is_terminal(),
            smoothed_loss: None,
        }
    }
}

impl Console {
    fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Started {
                training,
                validation,
                steps,
            } => {
                eprintln!(
                    "training on {training} issues, validating on {validation}, {steps} steps"
                );
                let template = "{bar:30} step {pos}/{len}, loss {msg}, {eta} left";
                self.bar = progress::bar(steps as u64, template);
            }
            Event::Step { step, loss } => {
                let smoothed = self
                    .smoothed_loss
                    .map_or(loss, |old| 0.95 * old + 0.05 * loss);
                self.smoothed_loss = Some(smoothed);
                self.bar.set_message(format!("{smoothed:.3}"));
                self.bar.set_position(step as u64);
                if !self.interactive && step % 50 == 0 {
                    let total = self.bar.length().unwrap_or(0);
                    let left = self.bar.eta().as_secs();
                    eprintln!("step {step}/{total}, loss {smoothed:.3}, {left} s left");
                }
            }
            Event::Validating => self.bar.set_message("validating"),
            Event::Epoch(metrics) => self.bar.suspend(|| {
                let line = serde_json::to_string(metrics).unwrap_or_default();
                // A closed standard output is no reason to end a training.
                let _ = writeln!(std::io::stdout(), "{line}");
            }),
            Event::Improved(_) => {}
        }
    }
}
