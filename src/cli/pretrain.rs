//! `faultlens pretrain`: adapts an encoder to issues' texts, without labels.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use clap::Args;
use faultlens::collect::read_identities;
use faultlens::issue::Issue;
use faultlens::model::bundle::{BASE_FILES, Base};
use faultlens::train::pretrain::{PretrainEvent, PretrainSettings, pretrain};

use super::device::PrecisionChoice;
use super::progress::Steps;
use super::{INTERRUPTED, ModelArguments, ReadArguments, stop_flag};

/// Adapt an encoder to issues' texts, without labels
///
/// Continues the encoder's masked language modelling on the texts and writes a base model for `train
/// --base`.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Files with the issues' texts, or patterns, or - for standard input
    #[arg(long, required = true, num_args = 1..)]
    issues: Vec<String>,
    /// Annotations (JSONL) whose issues are left out, such as those that the model will be measured on
    #[arg(long, num_args = 1.., value_name = "FILE")]
    exclude: Vec<PathBuf>,
    /// Folder or hub id (owner/name[@revision]) of the encoder
    #[arg(long, default_value = "sentence-transformers/all-MiniLM-L6-v2")]
    base: String,
    /// Folder to write the base model to
    #[arg(long, short)]
    output: PathBuf,
    /// Replace the output folder if there is one
    #[arg(long)]
    force: bool,
    /// Passes over the issues
    #[arg(long, default_value_t = PretrainSettings::default().epochs)]
    epochs: usize,
    /// Issues a step
    #[arg(long, default_value_t = PretrainSettings::default().batch_size)]
    batch_size: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = PretrainSettings::default().learning_rate)]
    learning_rate: f64,
    /// Share of the tokens that are to be guessed
    #[arg(long, default_value_t = PretrainSettings::default().masked)]
    masked: f64,
    /// Tokens read of an issue
    #[arg(long, default_value_t = PretrainSettings::default().max_tokens)]
    max_tokens: usize,
    /// f32, or bf16 with f32 weights [default: bf16 on CUDA, f32 elsewhere]
    #[arg(long)]
    precision: Option<PrecisionChoice>,
    /// Of the order of issues and of what is masked
    #[arg(long, default_value_t = PretrainSettings::default().seed)]
    seed: u64,
    #[command(flatten)]
    runtime: ModelArguments,
    #[command(flatten)]
    read: ReadArguments,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if self.output.exists() && !self.force {
            bail!(
                "{} exists; --force replaces it, -o names another folder",
                self.output.display()
            );
        }
        if self.epochs == 0 || self.batch_size == 0 {
            bail!("--epochs and --batch-size must be at least 1");
        }
        if !(self.masked > 0.0 && self.masked < 1.0) {
            bail!("--masked is a share between 0 and 1, not {}", self.masked);
        }
        let device = self.runtime.device.open()?;
        let mut excluded = HashSet::new();
        for path in &self.exclude {
            excluded.extend(read_identities(path)?);
        }
        let corpus = self.read.open(&self.issues)?;
        let issues: Vec<Issue> = corpus
            .issues()
            .filter(|issue| {
                issue
                    .as_ref()
                    .map_or(true, |issue| !excluded.contains(&issue.id))
            })
            .collect::<Result<_, _>>()?;
        let base = Base::load(&self.runtime.resolve(&self.base, BASE_FILES)?, &device)?;
        let settings = PretrainSettings {
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            masked: self.masked,
            max_tokens: self.max_tokens,
            precision: PrecisionChoice::or_default(self.precision, &device),
            seed: self.seed,
            ..PretrainSettings::default()
        };
        let stop = stop_flag()?;
        let mut progress = Steps::hidden();
        let base = pretrain(
            base,
            &issues,
            &settings,
            &device,
            &stop,
            &mut |event| match event {
                PretrainEvent::Started { issues, steps } => {
                    eprintln!("pre-training on {issues} issues, {steps} steps");
                    progress = Steps::new(steps, 0);
                }
                PretrainEvent::Step { step, loss } => progress.advance(step, loss),
            },
        )?;
        progress.bar.finish_and_clear();
        base.save(&self.output)?;
        let stopped = stop.load(Ordering::Relaxed);
        let how = if stopped {
            "interrupted; what was learned so far"
        } else {
            "the base model"
        };
        eprintln!("{how} is in {}", self.output.display());
        Ok(if stopped {
            ExitCode::from(INTERRUPTED)
        } else {
            ExitCode::SUCCESS
        })
    }
}
