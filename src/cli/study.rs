//! `faultlens study`: findings over a labelled corpus.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::{NaiveDate, NaiveTime};
use clap::Args;
use faultlens::annotation::{Annotation, Coverage, read_annotations};
use faultlens::issue::{Issue, IssueId};
use faultlens::model::bundle::{MANIFEST, Manifest};
use faultlens::prediction::Prediction;
use faultlens::prediction::labels::{GivenLabel, has_labels_only, read_labels};
use faultlens::prediction::read::read_prediction_file;
use faultlens::prediction::{HeadPrediction, write::write_jsonl};
use faultlens::study::claims::read_claims;
use faultlens::study::findings::{Findings, Verdict};
use faultlens::study::sample::Record;
use faultlens::study::{CROSS_VALIDATION, Inputs, html, markdown, study};
use faultlens::taxonomy::Taxonomy;
use sha2::{Digest, Sha256};

use super::{
    DEFAULT_MODEL, LabellingArguments, ReadArguments, TRAINING_LABELS, print, progress, shipped,
    taxonomy, write,
};

/// Issues read at once where no model labels them.
const WINDOW: usize = 512;
/// The claims that ship with the source.
const DEFAULT_CLAIMS: &str = "eval/study.toml";

/// Find what a labelled corpus shows
///
/// Estimates how often each label is, in the whole, by repository and by quarter, with 95 % intervals that
/// hold although the labels are predicted: gold annotations of a random sample of the issues say how the
/// predictions err (prediction-powered inference). Ranks labels, compares repositories, follows trends,
/// times to close, and answers the claims of a study file.
#[derive(Args)]
pub struct Arguments {
    /// Files of the corpus's issues, or patterns
    #[arg(long, num_args = 1.., required = true)]
    issues: Vec<String>,
    /// Files of predictions (.jsonl, .csv, .parquet); of an issue in several the last counts
    #[arg(long, num_args = 1.., value_name = "FILE")]
    predictions: Vec<PathBuf>,
    /// Folder or hub id of a model that labels the issues that no --predictions has [default: the one that
    /// ships, if there are no --predictions]
    #[arg(long, short)]
    model: Option<String>,
    /// Keep the labels that --model gives (.jsonl)
    #[arg(long, value_name = "FILE")]
    keep_predictions: Option<PathBuf>,
    /// Annotations (JSONL) of a random sample of the issues, or each with its sampling `weight`
    #[arg(long)]
    gold: Option<PathBuf>,
    /// Annotations (JSONL) that the predicting models were trained on: those issues' predictions do not
    /// count, unless they are by cross-validation [default: those that ship, if the model that ships
    /// predicted]
    #[arg(long, num_args = 1.., value_name = "FILE")]
    trained_on: Vec<PathBuf>,
    /// Claims to answer [default: those that ship]
    #[arg(long, value_name = "STUDY.TOML")]
    claims: Option<PathBuf>,
    /// Heads and labels [default: the model's, or without one those that ship]
    #[arg(long)]
    taxonomy: Option<PathBuf>,
    /// The day up to which the issues were watched [default: the last date in them]
    #[arg(long, value_name = "YYYY-MM-DD")]
    as_of: Option<NaiveDate>,
    /// What the reader has to know of the corpus, such as how it was drawn
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Of the draws behind rankings
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the findings as JSON, by the schema in eval/study.schema.json
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the findings as one self-contained page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the findings as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    labelling: LabellingArguments,
    #[command(flatten)]
    read: ReadArguments,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let folder = self.model_folder()?;
        let taxonomy = taxonomy(self.taxonomy.as_deref(), folder.as_deref())?;
        let claims = match &self.claims {
            Some(path) => read_claims(path, &taxonomy)?,
            // The claims that ship are of the labels that ship.
            None => shipped(DEFAULT_CLAIMS, "--claims")
                .ok()
                .and_then(|path| read_claims(&path, &taxonomy).ok())
                .unwrap_or_default(),
        };
        let gold = self
            .gold
            .as_deref()
            .map(|path| read_annotations(path, &taxonomy, Coverage::AllHeads))
            .transpose()?
            .unwrap_or_default();
        let mut predicted = Predicted::default();
        for path in &self.predictions {
            predicted.read(path, &taxonomy)?;
        }
        let records = self.records(folder.as_deref(), &taxonomy, &mut predicted)?;
        let mut remarks = Vec::new();
        let trained_on = self.trained_on(&taxonomy, &predicted, &mut remarks)?;
        let gold_file = self
            .gold
            .as_deref()
            .and_then(Path::file_name)
            .unwrap_or_default();
        let findings = study(Inputs {
            taxonomy: &taxonomy,
            records: &records,
            predictions: &predicted.predictions,
            predicted_by: &predicted.by,
            gold: &gold,
            gold_file: &gold_file.to_string_lossy(),
            trained_on: &trained_on,
            claims: &claims,
            as_of: self.as_of.map(|day| day.and_time(NaiveTime::MIN).and_utc()),
            note: self.note.clone(),
            remarks,
            seed: self.seed,
        });
        if let Some(path) = &self.output {
            write(path, &(serde_json::to_string_pretty(&findings)? + "\n"))?;
        }
        if let Some(path) = &self.markdown {
            write(path, &markdown(&findings))?;
        }
        if let Some(path) = &self.html {
            write(path, &html(&findings))?;
        }
        print_claims(&findings)?;
        Ok(ExitCode::SUCCESS)
    }

    fn model_folder(&self) -> Result<Option<PathBuf>> {
        let wanted = self.model.is_some() || self.predictions.is_empty();
        wanted
            .then(|| self.labelling.model.model_folder(self.model.as_deref()))
            .transpose()
    }

    /// Reads the corpus, in windows, labelling what is not predicted yet if there is a model.
    fn records(
        &self,
        folder: Option<&Path>,
        taxonomy: &Taxonomy,
        predicted: &mut Predicted,
    ) -> Result<Vec<Record>> {
        let classifier = folder
            .map(|folder| self.labelling.load(folder))
            .transpose()?;
        if let Some(classifier) = &classifier
            && classifier.taxonomy() != taxonomy
        {
            bail!("the model's taxonomy is not that of --taxonomy; leave one of the two out");
        }
        let mut kept = self
            .keep_predictions
            .as_deref()
            .map(|path| {
                fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))
            })
            .transpose()?;
        let corpus = self.read.open(&self.issues)?;
        let bar = progress::bar(
            corpus.len() as u64,
            "{bar:30} {pos}/{len} issues, {per_sec}, {eta} left",
        );
        let mut records = Vec::with_capacity(corpus.len());
        let mut issues = corpus.issues_with_metadata();
        let size = classifier.as_ref().map_or(WINDOW, |model| model.window());
        loop {
            let window = issues.by_ref().take(size).collect::<Result<Vec<_>, _>>()?;
            if window.is_empty() {
                break;
            }
            if let Some(classifier) = &classifier {
                let new: Vec<Issue> = window
                    .iter()
                    .filter(|(issue, _)| !predicted.predictions.contains_key(&issue.id))
                    .map(|(issue, _)| issue.clone())
                    .collect();
                let predictions = classifier.classify(&new)?;
                if let Some(file) = &mut kept {
                    write_jsonl(file, &predictions, taxonomy, classifier.id())?;
                }
                for prediction in predictions {
                    predicted.add(prediction, Some(classifier.id()));
                }
            }
            bar.inc(window.len() as u64);
            records.extend(window.into_iter().map(|(issue, metadata)| {
                Record::new(issue.id, issue.created_at.as_deref(), metadata)
            }));
        }
        bar.finish_and_clear();
        Ok(records)
    }

    /// The issues that predicting models were trained on, as far as that is said or known.
    fn trained_on(
        &self,
        taxonomy: &Taxonomy,
        predicted: &Predicted,
        remarks: &mut Vec<String>,
    ) -> Result<HashSet<IssueId>> {
        let mut files = self.trained_on.clone();
        let others: HashSet<&String> = predicted
            .by
            .values()
            .filter(|name| !name.starts_with(CROSS_VALIDATION))
            .collect();
        let is_unnamed = predicted.by.len() < predicted.predictions.len();
        if files.is_empty() && (is_unnamed || !others.is_empty()) {
            match shipped_training_labels(&others).filter(|_| !is_unnamed) {
                Some(path) => files.push(path),
                None => remarks.push(
                    "Whether the model was trained on issues of this corpus is not known here: if it was, \
                     the estimates are wrong. --trained-on names the annotations it was trained on."
                        .to_owned(),
                ),
            }
        }
        let mut ids = HashSet::new();
        for path in &files {
            let annotations: Vec<Annotation> =
                read_annotations(path, taxonomy, Coverage::SomeHeads)?;
            ids.extend(annotations.into_iter().map(|annotation| annotation.id));
        }
        Ok(ids)
    }
}

/// The training annotations that ship, if all of the models are the one that ships and was trained on
/// that very file.
fn shipped_training_labels(models: &HashSet<&String>) -> Option<PathBuf> {
    let manifest = shipped(DEFAULT_MODEL, "--model").ok()?.join(MANIFEST);
    let manifest: Manifest = serde_json::from_slice(&fs::read(manifest).ok()?).ok()?;
    let path = shipped(TRAINING_LABELS, "--trained-on").ok()?;
    let digest = Sha256::digest(fs::read(&path).ok()?);
    let digest = base16ct::lower::encode_string(&digest);
    let labels = manifest.provenance["labels"].as_array()?;
    let is_it = labels.len() == 1 && labels[0]["sha256"] == digest.as_str();
    (is_it && models.iter().all(|model| **model == manifest.id)).then_some(path)
}

/// What is predicted of each issue, and by what.
#[derive(Default)]
struct Predicted {
    predictions: HashMap<IssueId, Prediction>,
    by: HashMap<IssueId, String>,
}

impl Predicted {
    fn add(&mut self, prediction: Prediction, by: Option<&str>) {
        match by {
            Some(name) => self.by.insert(prediction.id.clone(), name.to_owned()),
            None => self.by.remove(&prediction.id),
        };
        self.predictions.insert(prediction.id.clone(), prediction);
    }

    /// Labels without probabilities count as certain.
    fn read(&mut self, path: &Path, taxonomy: &Taxonomy) -> Result<()> {
        if !has_labels_only(path)? {
            let file = read_prediction_file(path, taxonomy)?;
            for prediction in file.predictions {
                self.add(prediction, file.model.as_deref());
            }
            return Ok(());
        }
        let file = read_labels(path, taxonomy)?;
        if file.heads.len() < taxonomy.heads.len() {
            bail!(
                "{}: a study needs labels of all heads, and it has {} of {}",
                path.display(),
                file.heads.len(),
                taxonomy.heads.len()
            );
        }
        for row in file.rows {
            let mut heads = Vec::new();
            for (head, label) in taxonomy.heads.iter().zip(&row.labels) {
                let GivenLabel::Label(label) = label else {
                    bail!(
                        "{}: {} has no known label of {}",
                        path.display(),
                        row.id,
                        head.name
                    );
                };
                let none = usize::from(head.applies_when.is_some());
                let mut distribution = vec![0.0; head.labels.len() + none];
                distribution[label.unwrap_or(head.labels.len())] = 1.0;
                heads.push(HeadPrediction {
                    label: *label,
                    probability: 1.0,
                    distribution,
                    abstained: false,
                });
            }
            let id = row.id;
            self.add(Prediction { id, heads }, file.model.as_deref());
        }
        Ok(())
    }
}

/// The claims' verdicts and what limits them.
fn print_claims(findings: &Findings) -> Result<()> {
    for remark in &findings.remarks {
        eprintln!("note: {remark}");
    }
    for answer in &findings.claims {
        let verdict = match answer.verdict {
            Verdict::Supported => "supported",
            Verdict::Refuted => "refuted",
            Verdict::Undecided => "undecided",
            Verdict::Undecidable => "undecidable",
        };
        let estimate = answer.estimate.map_or(String::new(), |estimate| {
            format!(
                "  {:.3} [{:.3}, {:.3}]",
                estimate.value, estimate.low, estimate.high
            )
        });
        print(&format!("{verdict:<12}{}{estimate}", answer.text))?;
    }
    Ok(())
}
