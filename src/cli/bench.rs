//! `faultlens bench`: how fast this machine labels issues.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use faultlens::issue::Issue;
use faultlens::model::inference::Arithmetic;
use faultlens::model::inference::profile::{Part, PartFigures, Peak};
use faultlens::model::{Classifier, ClassifySettings};
use faultlens::prediction::Prediction;
use serde::Serialize;

use super::device::ArithmeticChoice;
use super::{ModelArguments, ReadArguments, print, progress, write};

/// Measure how fast this machine labels issues
///
/// Takes turns between the parts of the work and the precisions, and prints the median of the runs:
/// reading (condensing, tokenising and the words' branch), the encoder alone, and all together, from texts
/// in memory to labels; and how many labels each precision gives as f32 does. On a CPU it also says where
/// the encoder's time goes on one core, beside what the core can do at most.
#[derive(Args)]
pub struct Arguments {
    /// Files of issues, or patterns, or - for standard input
    #[arg(required = true)]
    files: Vec<String>,
    /// Folder or hub id (owner/name[@revision]) of a model [default: the one that ships]
    #[arg(long, short)]
    model: Option<String>,
    /// What to compare [default: what the device has]
    #[arg(long, value_enum, value_delimiter = ',')]
    precision: Vec<ArithmeticChoice>,
    /// Measurements of each part
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Tokens that go through the model at once, on a GPU
    #[arg(long, default_value_t = ClassifySettings::default().batch_tokens, value_name = "N")]
    batch_tokens: usize,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    runtime: ModelArguments,
    #[command(flatten)]
    read: ReadArguments,
}

/// What was measured; seconds are of all issues, in the order of the runs.
#[derive(Serialize)]
struct Figures {
    device: String,
    cores: usize,
    issues: usize,
    /// As the encoder reads them.
    tokens: usize,
    reading: Vec<f64>,
    /// Operations a second of one core. `None`: the device is no CPU.
    peak: Option<Peak>,
    precisions: Vec<PrecisionFigures>,
}

#[derive(Serialize)]
struct PrecisionFigures {
    precision: Arithmetic,
    encoder: Vec<f64>,
    all: Vec<f64>,
    /// The share of labels, of all heads, that are those of f32.
    same_labels: f64,
    /// Of each run, on one core.
    parts: Vec<Vec<PartFigures>>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if self.runs == 0 {
            bail!("--runs must be at least 1");
        }
        let folder = self.runtime.model_folder(self.model.as_deref())?;
        let device = self.runtime.device.open()?;
        let choices = match (self.precision.is_empty(), device.is_cpu()) {
            (false, _) => self.precision.clone(),
            (true, true) => vec![ArithmeticChoice::F32, ArithmeticChoice::Int8],
            (true, false) => vec![
                ArithmeticChoice::F32,
                ArithmeticChoice::F16,
                ArithmeticChoice::Bf16,
            ],
        };
        let load = |arithmetic| Classifier::load_with(&folder, &device, arithmetic);
        let models = choices.iter().map(|choice| {
            let arithmetic = choice.on(&device)?;
            Ok((arithmetic, load(arithmetic)?))
        });
        let models: Vec<(Arithmetic, Classifier)> = models.collect::<Result<_>>()?;
        let corpus = self.read.open(&self.files)?;
        let issues: Vec<Issue> = corpus.issues().collect::<Result<_, _>>()?;
        let settings = ClassifySettings {
            batch_tokens: self.batch_tokens,
            ..ClassifySettings::default()
        };

        let bar = progress::bar((self.runs * models.len()) as u64, "{bar:30} {eta} left");
        let reader = &models[0].1;
        let sequences: Vec<Vec<u32>> = reader
            .read(&issues)?
            .into_iter()
            .map(|r| r.tokens)
            .collect();
        let label = |model: &Classifier| model.classify_with(&issues, &settings);
        let labelled = models.iter().map(|(_, model)| label(model));
        let labelled: Vec<Vec<Prediction>> = labelled.collect::<Result<_, _>>()?;
        let in_f32 = models.iter().position(|(a, _)| *a == Arithmetic::F32);
        let reference = match in_f32 {
            Some(place) => labelled[place].clone(),
            None => label(&load(Arithmetic::F32)?)?,
        };
        let mut figures = Figures {
            device: format!("{device:?}"),
            cores: std::thread::available_parallelism()?.get(),
            issues: issues.len(),
            tokens: sequences.iter().map(Vec::len).sum(),
            reading: Vec::new(),
            peak: device.is_cpu().then(Peak::measure),
            precisions: models
                .iter()
                .zip(&labelled)
                .map(|((arithmetic, _), labelled)| PrecisionFigures {
                    precision: *arithmetic,
                    encoder: Vec::new(),
                    all: Vec::new(),
                    same_labels: same_labels(labelled, &reference),
                    parts: Vec::new(),
                })
                .collect(),
        };
        for _ in 0..self.runs {
            figures.reading.push(seconds(|| reader.read(&issues))?);
            for ((_, model), figures) in models.iter().zip(&mut figures.precisions) {
                let encode = || model.encode(&sequences, self.batch_tokens);
                figures.encoder.push(seconds(encode)?);
                let all = || model.classify_with(&issues, &settings);
                figures.all.push(seconds(all)?);
                figures.parts.extend(model.profile(&sequences));
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        figures.print()?;
        if let Some(path) = &self.json {
            write(path, &(serde_json::to_string_pretty(&figures)? + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Figures {
    fn print(&self) -> Result<()> {
        print(&format!(
            "{} issues, {} tokens, {} cores, {}: medians of {} runs\n",
            self.issues,
            self.tokens,
            self.cores,
            self.device,
            self.reading.len()
        ))?;
        let line = |name: &str, seconds: &[f64], rest: &str| {
            let seconds = median(seconds);
            print(&format!(
                "{name:<16} {seconds:>9.3} s {:>9.1} issues/s {:>10.0} tokens/s{rest}",
                self.issues as f64 / seconds,
                self.tokens as f64 / seconds,
            ))
        };
        line("reading", &self.reading, "")?;
        for figures in &self.precisions {
            let name = figures.precision.name();
            line(&format!("encoder, {name}"), &figures.encoder, "")?;
            let labels = format!("  {:.2} % of labels as f32", 100.0 * figures.same_labels);
            line(&format!("all, {name}"), &figures.all, &labels)?;
        }
        let Some(peak) = self.peak else { return Ok(()) };
        let known = |rate: Option<f64>| rate.map_or("not known".to_owned(), giga);
        print(&format!(
            "\nThe encoder on one core; the most that one does: f32 {}, bf16 {}, int8 {}",
            giga(peak.f32),
            known(peak.bf16),
            known(peak.int8)
        ))?;
        let mut profiled = self
            .precisions
            .iter()
            .filter(|figures| !figures.parts.is_empty());
        profiled.try_for_each(|figures| figures.print_parts(peak))
    }
}

impl PrecisionFigures {
    fn print_parts(&self, peak: Peak) -> Result<()> {
        let seconds = |i: usize| {
            let runs: Vec<f64> = self.parts.iter().map(|parts| parts[i].seconds).collect();
            median(&runs)
        };
        let all: f64 = (0..Part::ALL.len()).map(seconds).sum();
        for (i, figures) in self.parts[0].iter().enumerate() {
            let (part, seconds) = (figures.part, seconds(i));
            let share = 100.0 * seconds / all;
            let limit = match (self.precision, part) {
                (Arithmetic::Int8, Part::Products) => peak.int8,
                (Arithmetic::Int8, Part::Attention) => peak.bf16.or(Some(peak.f32)),
                _ => Some(peak.f32),
            };
            let rate = figures.operations.map(|operations| {
                let rate = operations / seconds;
                let limit = limit.map_or(String::new(), |limit| {
                    format!(", {:.0} % of the most", 100.0 * rate / limit)
                });
                format!("  {}{limit}", giga(rate))
            });
            let name = format!("{}, {}", part.name(), self.precision.name());
            print(&format!(
                "{name:<16} {seconds:>9.3} s {share:>5.1} %{}",
                rate.unwrap_or_default()
            ))?;
        }
        Ok(())
    }
}

/// Operations a second, for people: a multiplication and an addition are two.
fn giga(rate: f64) -> String {
    format!("{:.0} Gop/s", rate / 1e9)
}

fn seconds<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

fn same_labels(predictions: &[Prediction], reference: &[Prediction]) -> f64 {
    let labels = |predictions: &[Prediction]| -> Vec<Option<usize>> {
        let heads = predictions.iter().flat_map(|prediction| &prediction.heads);
        heads.map(|head| head.label).collect()
    };
    let (labels, reference) = (labels(predictions), labels(reference));
    let same = labels
        .iter()
        .zip(&reference)
        .filter(|(a, b)| a == b)
        .count();
    same as f64 / reference.len().max(1) as f64
}
