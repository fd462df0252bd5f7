//! Subcommands: arguments to library call to output. Only this part of the program prints.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use faultlens::issue::read::{Corpus, ReadOptions, ReadSummary, TableColumns};
use faultlens::model::Classifier;
use faultlens::model::bundle::{BUNDLE_FILES, TAXONOMY};
use faultlens::model::hub::{self, HubOptions};
use faultlens::taxonomy::Taxonomy;

mod annotate;
mod bench;
mod classify;
mod collect;
mod device;
mod eval;
mod github;
mod hydrate;
mod pretrain;
mod progress;
mod study;
mod table;
mod taxonomy;
mod text;
mod train;

use device::{ArithmeticChoice, DeviceChoice};
use table::LabelledTable;

/// Labels the issues of LLM serving frameworks with their kind, failure category and root cause.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Annotate(Box<annotate::Arguments>),
    Bench(bench::Arguments),
    Classify(classify::Arguments),
    Collect(collect::Arguments),
    Eval(Box<eval::Arguments>),
    Hydrate(hydrate::Arguments),
    Pretrain(pretrain::Arguments),
    Study(Box<study::Arguments>),
    Taxonomy(taxonomy::Arguments),
    Text(text::Arguments),
    Train(Box<train::Arguments>),
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Annotate(arguments) => arguments.run(),
            Command::Bench(arguments) => arguments.run(),
            Command::Classify(arguments) => arguments.run(),
            Command::Collect(arguments) => arguments.run(),
            Command::Eval(arguments) => arguments.run(),
            Command::Hydrate(arguments) => arguments.run(),
            Command::Pretrain(arguments) => arguments.run(),
            Command::Study(arguments) => arguments.run(),
            Command::Taxonomy(arguments) => arguments.run(),
            Command::Text(arguments) => arguments.run(),
            Command::Train(arguments) => arguments.run(),
        }
    }
}

/// How every subcommand reads issues.
#[derive(Args)]
struct ReadArguments {
    /// Repository of records that name none
    #[arg(long, value_name = "OWNER/NAME", help_heading = "Reading issues")]
    repo: Option<String>,
    /// Stop at the first broken record instead of skipping it
    #[arg(long, help_heading = "Reading issues")]
    strict: bool,
}

impl ReadArguments {
    /// Opens the files and reports broken records on standard error.
    fn open(&self, files: &[String]) -> Result<Corpus> {
        self.open_table(files, None)
    }

    /// [`ReadArguments::open`], reading these columns of tables.
    fn open_table(&self, files: &[String], table: Option<TableColumns>) -> Result<Corpus> {
        let options = ReadOptions {
            repo: self.repo.clone(),
            strict: self.strict,
            table,
        };
        let corpus = Corpus::open(files, &options)?;
        report_broken(corpus.summary());
        Ok(corpus)
    }
}

/// Names the broken records on standard error.
fn report_broken(summary: &ReadSummary) {
    for record in summary.broken_records.iter().take(SHOWN_MESSAGES) {
        eprintln!("skipped: {record}");
    }
    if summary.broken > SHOWN_MESSAGES as u64 {
        eprintln!(
            "skipped: {} more broken records",
            summary.broken - SHOWN_MESSAGES as u64
        );
    }
}

/// Broken records that are shown one by one.
const SHOWN_MESSAGES: usize = 20;

/// How every subcommand runs a model, and finds it on the Hugging Face hub.
#[derive(Args)]
struct ModelArguments {
    /// auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Use only what the hub's cache holds
    #[arg(long, env = "HF_HUB_OFFLINE", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    offline: bool,
}

impl ModelArguments {
    /// The folder of the fine-tuned model that `source` names, or else of the one that ships.
    fn model_folder(&self, source: Option<&str>) -> Result<PathBuf> {
        match source {
            Some(source) => self.resolve(source, BUNDLE_FILES),
            None => shipped(DEFAULT_MODEL, "--model"),
        }
    }

    /// The folder of a model that is one, or is an id on the hub.
    fn resolve(&self, source: &str, files: &[&'static str]) -> Result<PathBuf> {
        let options = HubOptions {
            offline: self.offline,
            progress: Some(progress::download()),
        };
        Ok(hub::resolve(source, files, &options)?)
    }
}

/// How a subcommand labels issues.
#[derive(Args)]
struct LabellingArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Of the products of matrices, which are most of the work
    #[arg(long, value_enum, default_value_t = ArithmeticChoice::Auto)]
    precision: ArithmeticChoice,
}

impl LabellingArguments {
    /// The model of a folder or of an id on the hub.
    fn load(&self, folder: &Path) -> Result<Classifier> {
        let device = self.model.device.open()?;
        Ok(Classifier::load_with(
            folder,
            &device,
            self.precision.on(&device)?,
        )?)
    }
}

/// The model that ships with the source.
const DEFAULT_MODEL: &str = "models/default";
/// The taxonomy that ships with the source.
const DEFAULT_TAXONOMY: &str = "training-data/taxonomy.toml";
/// The annotations that the shipped model is trained on.
const TRAINING_LABELS: &str = "training-data/labels.jsonl";

/// The heads and labels that were given, or else those of the model, or else those that ship.
fn taxonomy(given: Option<&Path>, model: Option<&Path>) -> Result<Taxonomy> {
    let path = match (given, model) {
        (Some(path), _) => path.to_owned(),
        (None, Some(folder)) => folder.join(TAXONOMY),
        (None, None) => shipped(DEFAULT_TAXONOMY, "--taxonomy")?,
    };
    Ok(Taxonomy::from_path(&path)?)
}

/// Where something that ships with the source is, from any directory: beside the source the program
/// was built from, beside the executable, or in the current directory.
fn shipped(path: &str, option: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe().ok();
    let beside = executable.as_deref().and_then(Path::parent);
    let places = [
        Some(Path::new(env!("CARGO_MANIFEST_DIR"))),
        beside,
        Some(Path::new("")),
    ];
    places
        .into_iter()
        .flatten()
        .map(|folder| folder.join(path))
        .find(|path| path.exists())
        .ok_or_else(|| anyhow!("{path} is not where it was built any more; name one with {option}"))
}

/// A flag that Ctrl-C (or a request to terminate) raises; a second Ctrl-C ends the program at once.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(flag)
}

/// Prints a text and a line break; that nobody reads on is no error.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
