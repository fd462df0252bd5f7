//! `faultlens eval`: measures models on gold annotations.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use faultlens::eval::answers::Answers;
use faultlens::eval::bootstrap::Bootstrap;
use faultlens::eval::check::check;
use faultlens::eval::report::{Report, html, markdown, terminal};
use faultlens::eval::{Inputs, evaluate};
use faultlens::issue::Issue;
use faultlens::issue::condense::condense;
use faultlens::model::Classifier;
use faultlens::model::bundle::BUNDLE_FILES;
use faultlens::prediction::Prediction;
use faultlens::train::Settings;
use terminal_size::{Width, terminal_size};

use super::{
    DEFAULT_MODEL, LabelledTable, LabellingArguments, ReadArguments, print, progress, shipped,
    write,
};

mod truth;

use truth::Truth;

/// Measure models on gold annotations
///
/// Prints, for each model and head, accuracy, kappa, F1 and more, each with a 95 % interval, by label,
/// repository, month and confidence; calibration and what abstaining gives; how annotators agree with
/// each other and with the model; and, of several models, whether one is better. Models run on the
/// texts of the gold issues; predictions come from files of `classify` or, as JSONL or CSV with repo,
/// number and labels, of any other tool. With --csv a labelled table is gold, and the texts besides.
#[derive(Args)]
pub struct Arguments {
    /// Files with the issues' texts, or patterns, or - for standard input: for models to read, for
    /// months and for --texts
    #[arg(long, num_args = 1.., conflicts_with = "csv")]
    issues: Vec<String>,
    /// Annotations that count as truth (JSONL) [default: those that ship]
    #[arg(long, conflicts_with = "csv")]
    gold: Option<PathBuf>,
    /// Folder or hub id (owner/name[@revision]) of a model [default: the one that ships, unless there
    /// are --predictions]
    #[arg(long, short, num_args = 1..)]
    model: Vec<String>,
    /// Files of predictions (.jsonl, .csv, .parquet), a model each
    #[arg(long, num_args = 1.., value_name = "FILE")]
    predictions: Vec<PathBuf>,
    /// Further annotators' labels of the gold issues (JSONL)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    annotators: Vec<PathBuf>,
    /// Heads and labels [default: the model's, or without one those that ship]
    #[arg(long, conflicts_with = "csv")]
    taxonomy: Option<PathBuf>,
    /// Write the figures as JSON, which --check reads
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the report as one self-contained page with charts, the list of wrong answers and, with
    /// --texts, what the model reads of those issues
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Stands under the headline of every form of the report, e.g. who annotated
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Instead of printing the report, fail if a figure is worse than its interval in this earlier
    /// --json allows
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Show what the model reads of the issues that it gets wrong, also in --html; never written to --json
    /// or --markdown
    #[arg(long)]
    texts: bool,
    /// Bootstrap resamples behind each interval; 0: no intervals
    #[arg(long, default_value_t = Bootstrap::default().resamples, value_name = "N")]
    resamples: usize,
    /// Of the resamples
    #[arg(long, default_value_t = Bootstrap::default().seed)]
    seed: u64,
    #[command(flatten)]
    labelling: LabellingArguments,
    #[command(flatten)]
    read: ReadArguments,
    // Last, because its heading would be that of what follows.
    #[command(flatten)]
    table: LabelledTable,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let stored = self.check.as_deref().map(read_report).transpose()?;
        let folders = self.model_folders()?;
        if self.issues.is_empty() && !self.table.is_given() {
            if !folders.is_empty() {
                bail!("a model needs the texts of the gold issues: give them with --issues");
            }
            if self.texts {
                bail!("--texts needs the texts of the gold issues: give them with --issues");
            }
        }
        let Truth {
            taxonomy,
            gold,
            issues,
        } = Truth::read(&self, folders.first().map(|(_, folder)| folder.as_path()))?;
        let names = names(
            folders
                .iter()
                .map(|(name, _)| name.as_ref())
                .chain(self.predictions.iter().map(PathBuf::as_path)),
        );
        let mut names = names.into_iter();
        let mut answers = Vec::new();
        let mut texts = HashMap::new();
        for ((_, folder), name) in folders.iter().zip(&mut names) {
            let classifier = self.labelling.load(folder)?;
            if *classifier.taxonomy() != taxonomy {
                bail!(
                    "{}: its taxonomy is not that of {}; evaluate models of different taxonomies one by \
                     one",
                    folder.display(),
                    self.taxonomy.as_deref().unwrap_or(&folders[0].1).display()
                );
            }
            let predictions = classify(&classifier, &issues)?;
            let model = Some(classifier.id().to_owned());
            answers.push(Answers::from_predictions(
                name,
                model,
                predictions,
                &taxonomy,
            ));
            if self.texts && texts.is_empty() {
                texts = issues
                    .iter()
                    .map(|issue| (issue.id.clone(), classifier.text(issue)))
                    .collect();
            }
        }
        for (path, name) in self.predictions.iter().zip(names) {
            answers.push(Answers::read(path, name, &taxonomy)?);
        }
        if self.texts && texts.is_empty() {
            let text =
                |issue: &Issue| condense(&issue.title, &issue.body, Settings::default().max_tokens);
            texts = issues
                .iter()
                .map(|issue| (issue.id.clone(), text(issue)))
                .collect();
        }
        let mut annotators = gold.readings();
        annotators.extend(gold.annotators(&self.annotators, &taxonomy)?);
        let dates = issues
            .into_iter()
            .filter_map(|issue| Some((issue.id, issue.created_at?)));
        let inputs = Inputs {
            taxonomy: &taxonomy,
            gold: &gold,
            answers: &answers,
            annotators: &annotators,
            created_at: &dates.collect(),
        };
        let bootstrap = Bootstrap {
            resamples: self.resamples,
            seed: self.seed,
        };
        let report = evaluate(inputs, &bootstrap)?;
        let code = match &stored {
            Some(stored) => print_check(stored, &report)?,
            None => {
                // In a pipe nothing is wrapped.
                let width = terminal_size().map_or(u16::MAX, |(Width(columns), _)| columns);
                print(&terminal(&report, &texts, width))?;
                ExitCode::SUCCESS
            }
        };
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
        }
        if let Some(path) = &self.markdown {
            write(path, &markdown(&report))?;
        }
        if let Some(path) = &self.html {
            write(path, &html(&report, &texts))?;
        }
        Ok(code)
    }

    /// Models as they were named, and their folders.
    fn model_folders(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        if self.model.is_empty() && self.predictions.is_empty() {
            let folder = shipped(DEFAULT_MODEL, "--model")?;
            return Ok(vec![(folder.clone(), folder)]);
        }
        let folders = self.model.iter().map(|source| {
            let folder = self.labelling.model.resolve(source, BUNDLE_FILES)?;
            Ok((PathBuf::from(source), folder))
        });
        folders.collect()
    }
}

fn classify(classifier: &Classifier, issues: &[Issue]) -> Result<Vec<Prediction>> {
    let bar = progress::bar(
        issues.len() as u64,
        "{bar:30} {pos}/{len} issues, {eta} left",
    );
    let mut predictions = Vec::new();
    for window in issues.chunks(classifier.window()) {
        predictions.extend(classifier.classify(window)?);
        bar.inc(window.len() as u64);
    }
    bar.finish_and_clear();
    Ok(predictions)
}

/// What reports call the models: the last part of their paths or ids, without extension or revision,
/// or all of it where two end alike.
fn names<'a>(sources: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let sources: Vec<&Path> = sources.collect();
    let short = |source: &Path| {
        let name = match source.is_dir() {
            true => source.file_name(),
            false => source.file_stem(),
        };
        name.map(|name| {
            name.to_string_lossy()
                .split('@')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
    };
    let shorts: Vec<Option<String>> = sources.iter().map(|source| short(source)).collect();
    let is_unique = |short: &&Option<String>| shorts.iter().filter(|s| s == short).count() == 1;
    let names = sources.iter().zip(&shorts).map(|(source, short)| {
        let unique = Some(short).filter(is_unique).cloned().flatten();
        unique.unwrap_or_else(|| source.display().to_string())
    });
    names.collect()
}

fn read_report(path: &Path) -> Result<Report> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{} is no report; write one with faultlens eval --json",
            path.display()
        )
    })
}

/// Prints a line for each figure that is worse than the stored report allows.
fn print_check(stored: &Report, report: &Report) -> Result<ExitCode> {
    let regressions = check(stored, report)?;
    if regressions.is_empty() {
        print("no figure is worse than the stored intervals allow")?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines: Vec<String> = regressions.iter().map(|r| format!("worse: {r}")).collect();
    print(&lines.join("\n"))?;
    Ok(ExitCode::FAILURE)
}
