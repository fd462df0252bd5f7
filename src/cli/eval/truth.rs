//! What models are measured on: gold annotations and the texts of their issues, or a labelled table.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use faultlens::annotation::Annotation;
use faultlens::eval::gold::GoldFile;
use faultlens::issue::{Issue, IssueId};
use faultlens::model::bundle::TAXONOMY;
use faultlens::taxonomy::Taxonomy;

use super::Arguments;
use crate::cli::{shipped, taxonomy};

/// The gold annotations that ship with the source.
const DEFAULT_GOLD: &str = "eval/gold.jsonl";

pub struct Truth {
    pub taxonomy: Taxonomy,
    pub gold: GoldFile,
    /// Those of the gold issues whose texts are at hand.
    pub issues: Vec<Issue>,
}

impl Truth {
    /// For models of which the first, if there is any, lies in `model`.
    pub fn read(arguments: &Arguments, model: Option<&Path>) -> Result<Self> {
        let mut truth = match arguments.table.is_given() {
            true => Self::of_table(arguments, model)?,
            false => Self::of_annotations(arguments, model)?,
        };
        truth.gold.summary.note = arguments.note.clone();
        Ok(truth)
    }

    fn of_annotations(arguments: &Arguments, model: Option<&Path>) -> Result<Self> {
        let taxonomy = taxonomy(arguments.taxonomy.as_deref(), model)?;
        let path = match &arguments.gold {
            Some(path) => path.clone(),
            None => shipped(DEFAULT_GOLD, "--gold")?,
        };
        let gold = GoldFile::read(&path, &taxonomy)?;
        let issues = gold_issues(arguments, &gold)?;
        Ok(Self {
            taxonomy,
            gold,
            issues,
        })
    }

    fn of_table(arguments: &Arguments, model: Option<&Path>) -> Result<Self> {
        let table = &arguments.table;
        let known = model
            .map(|folder| Taxonomy::from_path(&folder.join(TAXONOMY)))
            .transpose()?;
        let (taxonomy, rows) = table.taxonomy(table.rows()?, known.as_ref())?;
        if let Some(known) = &known {
            check_labels(&taxonomy, known)?;
        }
        let annotation = |(issue, label): &(Issue, usize)| Annotation {
            id: issue.id.clone(),
            labels: vec![Some(*label)],
            ..Annotation::default()
        };
        let paths: Vec<PathBuf> = table.files().map(PathBuf::from).collect();
        let gold = GoldFile::of(&paths, rows.iter().map(annotation).collect())?;
        Ok(Self {
            taxonomy: known.unwrap_or(taxonomy),
            gold,
            issues: rows.into_iter().map(|(issue, _)| issue).collect(),
        })
    }
}

/// Refuses a table whose labels a model cannot give.
fn check_labels(table: &Taxonomy, model: &Taxonomy) -> Result<()> {
    let column = &table.heads[0];
    let [head] = model.heads.as_slice() else {
        bail!(
            "the model has {} heads, a table is for a model of one; give annotations with --gold",
            model.heads.len()
        );
    };
    if head.name != column.name {
        bail!(
            "the column {} labels a head {}, the model's is {}: name the column as the one that it was \
             trained on",
            column.title,
            column.name,
            head.name
        );
    }
    let unknown: Vec<&str> = column.labels[head.labels.len()..]
        .iter()
        .map(|label| label.title.as_str())
        .collect();
    if !unknown.is_empty() {
        bail!(
            "the model does not know the labels {}; train one on examples of them, or leave their rows out",
            unknown.join(", ")
        );
    }
    Ok(())
}

/// Those of the issues that are in gold.
fn gold_issues(arguments: &Arguments, gold: &GoldFile) -> Result<Vec<Issue>> {
    if arguments.issues.is_empty() {
        return Ok(Vec::new());
    }
    let ids: HashSet<&IssueId> = gold.annotations.iter().map(|a| &a.id).collect();
    let corpus = arguments.read.open(&arguments.issues)?;
    let issues = corpus.issues().filter(|issue| match issue {
        Ok(issue) => ids.contains(&issue.id),
        Err(_) => true,
    });
    let issues: Vec<Issue> = issues.collect::<Result<_, _>>()?;
    if issues.is_empty() {
        bail!(
            "none of the {} issues is in {}, which has issues such as {}",
            corpus.len(),
            gold.summary.file,
            gold.annotations[0].id
        );
    }
    Ok(issues)
}
