//! `faultlens classify`: labels issues in one batch.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use faultlens::issue::Issue;
use faultlens::issue::read::{ReadSummary, TableColumns};
use faultlens::model::{Classifier, ClassifySettings};
use faultlens::prediction::Prediction;
use faultlens::prediction::table::table;
use faultlens::prediction::write::{Mode, PredictionWriter, write_jsonl};
use faultlens::taxonomy::{NONE, Taxonomy};
use terminal_size::{Width, terminal_size};

use super::{INTERRUPTED, LabellingArguments, ReadArguments, progress, stop_flag};

/// Label issues
///
/// Reads issues as GitHub's REST API, `gh issue list --json` or a JSONL, CSV or Parquet file give them
/// and writes a line of labels for each, in their order. Pull requests and broken records are skipped
/// and counted; of two records of an issue the later counts.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Files of issues (.json, .jsonl, .csv, .parquet, also .gz and .zst), patterns, or - for standard
    /// input
    #[arg(required = true)]
    files: Vec<String>,
    /// The files are any tables (CSV or Parquet) with their text in these columns, of several the first a
    /// title; the output names a row `table/NAME` and its number
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    text: Vec<String>,
    /// File to write: .jsonl, .csv or .parquet [default: standard output, as a table on a terminal
    /// and as JSONL in a pipe]
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Continue an output file that was cut off
    #[arg(long, requires = "output")]
    resume: bool,
    /// Replace an output file that exists
    #[arg(long, requires = "output", conflicts_with = "resume")]
    force: bool,
    /// Folder or hub id (owner/name[@revision]) of a model [default: the one that ships]
    #[arg(long, short)]
    model: Option<String>,
    /// Tokens that go through the model at once on a GPU; a CPU's cores take an issue each
    #[arg(long, default_value_t = ClassifySettings::default().batch_tokens, value_name = "N")]
    batch_tokens: usize,
    /// Give no label that is less probable than this, between 0 and 1
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "P",
        conflicts_with = "target_precision"
    )]
    min_confidence: f32,
    /// Give no label that is less probable than the model needs to be right this often, such as 0.95; the
    /// model card has the precisions it knows, and how many labels are left
    #[arg(long, value_name = "P")]
    target_precision: Option<f64>,
    /// No summary at the end
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    labelling: LabellingArguments,
    #[command(flatten)]
    read: ReadArguments,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if !(0.0..=1.0).contains(&self.min_confidence) {
            bail!(
                "--min-confidence is a probability between 0 and 1, not {}",
                self.min_confidence
            );
        }
        if self.batch_tokens == 0 {
            bail!("--batch-tokens must be at least 1");
        }
        let begun = Instant::now();
        let folder = self.labelling.model.model_folder(self.model.as_deref())?;
        let classifier = self.labelling.load(&folder)?;
        let mut output = self.open_output(&classifier)?;
        let table = (!self.text.is_empty()).then(|| TableColumns {
            text: self.text.clone(),
            label: None,
        });
        let corpus = self.read.open_table(&self.files, table)?;
        let settings = ClassifySettings {
            batch_tokens: self.batch_tokens,
            min_confidence: self.thresholds(&classifier)?,
        };

        let stop = stop_flag()?;
        let bar = progress::bar(
            corpus.len() as u64,
            "{bar:30} {pos}/{len} issues, {per_sec}, {eta} left",
        );
        let mut tally = Tally::new(classifier.taxonomy());
        let mut issues = corpus.issues();
        // Windows begin at fixed places of the input, so that a resumed run forms the batches of an
        // uninterrupted one.
        let size = classifier.window();
        let mut closed = false;
        while !closed && !stop.load(Ordering::Relaxed) {
            let window: Vec<Issue> = issues.by_ref().take(size).collect::<Result<_, _>>()?;
            if window.is_empty() {
                break;
            }
            if window.iter().all(|issue| output.has(issue)) {
                tally.resumed += window.len() as u64;
            } else {
                let predictions = classifier.classify_with(&window, &settings)?;
                let new: Vec<(Prediction, &Issue)> = predictions
                    .into_iter()
                    .zip(&window)
                    .filter(|(_, issue)| !output.has(issue))
                    .collect();
                tally.resumed += (window.len() - new.len()) as u64;
                tally.add(new.iter().map(|(prediction, _)| prediction));
                closed = bar.suspend(|| output.write(new, &classifier))?;
            }
            bar.inc(window.len() as u64);
        }
        bar.finish_and_clear();
        let stopped = stop.load(Ordering::Relaxed);
        let path = self.output.as_deref();
        if stopped {
            let done = tally.labelled + tally.resumed;
            eprintln!(
                "interrupted after {done} of {} issues{}",
                corpus.len(),
                continuation(path)
            );
            return Ok(ExitCode::from(INTERRUPTED));
        }
        output.finish()?;
        if !self.quiet {
            let seconds = begun.elapsed().as_secs_f64();
            eprint!(
                "{}",
                tally.report(classifier.taxonomy(), corpus.summary(), seconds, path)
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    /// By head, the probability below which to abstain.
    fn thresholds(&self, classifier: &Classifier) -> Result<Vec<f32>> {
        let heads = classifier.taxonomy().heads.len();
        let Some(precision) = self.target_precision else {
            return Ok(vec![self.min_confidence; heads]);
        };
        classifier.thresholds(precision).with_context(|| {
            let known: Vec<String> =
                classifier.precisions().iter().map(f64::to_string).collect();
            match known.is_empty() {
                true => "the model has no thresholds; train it anew, or use --min-confidence".to_owned(),
                false => format!(
                    "the model has no threshold for a precision of {precision}, only for {}; train one \
                     with --target-precision {precision}",
                    known.join(", ")
                ),
            }
        })
    }

    fn open_output<'a>(&self, classifier: &'a Classifier) -> Result<Output<'a>> {
        let mode = match (self.resume, self.force) {
            (true, _) => Mode::Resume,
            (_, true) => Mode::Replace,
            _ => Mode::Create,
        };
        Ok(match &self.output {
            Some(path) => Output::File(PredictionWriter::create(
                path,
                classifier.taxonomy(),
                classifier.id(),
                mode,
            )?),
            None if std::io::stdout().is_terminal() => Output::Table,
            None => Output::Pipe,
        })
    }
}

fn continuation(path: Option<&Path>) -> String {
    path.map_or(String::new(), |path| {
        format!("; --resume continues {}", path.display())
    })
}

/// Where predictions go.
enum Output<'a> {
    File(PredictionWriter<'a>),
    Pipe,
    Table,
}

impl Output<'_> {
    /// Whether the output already holds the issue.
    fn has(&self, issue: &Issue) -> bool {
        matches!(self, Self::File(writer) if writer.done().contains(&issue.id))
    }

    /// Writes predictions. Returns whether the reader of standard output has gone.
    fn write(
        &mut self,
        predictions: Vec<(Prediction, &Issue)>,
        classifier: &Classifier,
    ) -> Result<bool> {
        let taxonomy = classifier.taxonomy();
        let mut stdout = std::io::stdout().lock();
        let written = match self {
            Self::Table => {
                let rows: Vec<(&Prediction, &str)> = predictions
                    .iter()
                    .map(|(prediction, issue)| (prediction, issue.title.as_str()))
                    .collect();
                let width = terminal_size().map_or(80, |(Width(columns), _)| columns);
                writeln!(stdout, "{}", table(&rows, taxonomy, width))
            }
            Self::File(writer) => {
                writer.append(&without_issues(predictions))?;
                Ok(())
            }
            Self::Pipe => write_jsonl(
                stdout,
                &without_issues(predictions),
                taxonomy,
                classifier.id(),
            ),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
            other => Ok(other.map(|()| false)?),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::File(writer) => Ok(writer.finish()?),
            Self::Pipe | Self::Table => Ok(()),
        }
    }
}

fn without_issues(predictions: Vec<(Prediction, &Issue)>) -> Vec<Prediction> {
    predictions
        .into_iter()
        .map(|(prediction, _)| prediction)
        .collect()
}

/// Counts for the closing summary.
struct Tally {
    /// By head, by label; last, "does not apply".
    counts: Vec<Vec<u64>>,
    abstained: Vec<u64>,
    labelled: u64,
    /// Issues that the output file held before.
    resumed: u64,
}

impl Tally {
    fn new(taxonomy: &Taxonomy) -> Self {
        Self {
            counts: taxonomy
                .heads
                .iter()
                .map(|head| vec![0; head.labels.len() + 1])
                .collect(),
            abstained: vec![0; taxonomy.heads.len()],
            labelled: 0,
            resumed: 0,
        }
    }

    fn add<'a>(&mut self, predictions: impl Iterator<Item = &'a Prediction>) {
        for prediction in predictions {
            self.labelled += 1;
            for (i, head) in prediction.heads.iter().enumerate() {
                if head.abstained {
                    self.abstained[i] += 1;
                } else {
                    let none = self.counts[i].len() - 1;
                    self.counts[i][head.label.unwrap_or(none)] += 1;
                }
            }
        }
    }

    fn report(
        &self,
        taxonomy: &Taxonomy,
        read: &ReadSummary,
        seconds: f64,
        path: Option<&Path>,
    ) -> String {
        let rate = self.labelled as f64 / seconds;
        let target = path.map_or(String::new(), |path| format!(" in {}", path.display()));
        let mut text = format!(
            "\n{} issues labelled{target} in {seconds:.1} s ({rate:.0}/s)",
            self.labelled
        );
        let others = [
            (self.resumed, "already there"),
            (read.pull_requests, "pull requests skipped"),
            (read.duplicates, "earlier versions of an issue replaced"),
            (read.broken, "broken records skipped"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            text += &format!(", {count} {what}");
        }
        text.push('\n');
        for (i, head) in taxonomy.heads.iter().enumerate() {
            let names = head
                .labels
                .iter()
                .map(|label| label.name.as_str())
                .chain([NONE]);
            let mut counts: Vec<(u64, &str)> = self.counts[i]
                .iter()
                .copied()
                .zip(names)
                .filter(|(count, _)| *count > 0)
                .collect();
            // Stable: labels that are as frequent stay in the taxonomy's order.
            counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
            let counts: Vec<String> = counts
                .iter()
                .map(|(n, name)| format!("{name} {n}"))
                .collect();
            let abstained = match self.abstained[i] {
                0 => String::new(),
                n => format!("; abstained {n}"),
            };
            text += &format!("  {}: {}{abstained}\n", head.name, counts.join(", "));
        }
        text
    }
}
