//! What a training learns from: annotations joined with the issues' texts, or the rows of a table.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use faultlens::annotation::{Annotation, Coverage, merge, read_annotations};
use faultlens::issue::IssueId;
use faultlens::taxonomy::Taxonomy;
use faultlens::train::{Example, Start, unseen_labels};

use crate::cli::{LabelledTable, ReadArguments};

/// The annotations of all files, with an account of those that a later file replaced.
pub fn annotations(paths: &[PathBuf], taxonomy: &Taxonomy) -> Result<Vec<Annotation>> {
    let files = paths
        .iter()
        .map(|path| read_annotations(path, taxonomy, Coverage::SomeHeads))
        .collect::<Result<Vec<_>, _>>()?;
    let merged = merge(files);
    if !merged.replaced.is_empty() {
        eprintln!(
            "{} annotations were replaced by those of a later file, {} of them by other labels:",
            merged.replaced.len(),
            merged.conflicts.len()
        );
        for conflict in merged.conflicts.iter().take(SHOWN_CONFLICTS) {
            eprintln!("  {}", conflict.describe(taxonomy));
        }
        let more = merged.conflicts.len().saturating_sub(SHOWN_CONFLICTS);
        if more > 0 {
            eprintln!("  … and {more} more");
        }
    }
    Ok(merged.annotations)
}

/// Conflicts between files of annotations that are shown one by one.
const SHOWN_CONFLICTS: usize = 20;

/// Joins annotations with the issues they are about.
pub fn join(
    annotations: Vec<Annotation>,
    read: &ReadArguments,
    files: &[String],
) -> Result<Vec<Example>> {
    let corpus = read.open(files)?;
    let wanted = annotations.len();
    let mut annotations: HashMap<IssueId, Annotation> = annotations
        .into_iter()
        .map(|annotation| (annotation.id.clone(), annotation))
        .collect();
    let mut examples = Vec::new();
    for issue in corpus.issues() {
        let issue = issue?;
        if let Some(annotation) = annotations.remove(&issue.id) {
            examples.push(Example { issue, annotation });
        }
    }
    if !annotations.is_empty() {
        let missing = annotations
            .keys()
            .min()
            .map(ToString::to_string)
            .unwrap_or_default();
        eprintln!(
            "warning: {} of {wanted} annotated issues are not in the files (the first is {missing})",
            annotations.len()
        );
    }
    Ok(examples)
}

/// Warns of labels that no example has, and refuses a head that would learn nothing at all.
pub fn check_labels(taxonomy: &Taxonomy, examples: &[Example], start: &Start) -> Result<()> {
    let unseen = unseen_labels(taxonomy, examples, start);
    for head in &taxonomy.heads {
        let names = unseen.unknown.iter().filter(|(name, _)| *name == head.name);
        if !examples.is_empty() && names.count() + 1 >= head.labels.len() {
            bail!(
                "the annotations tell no two labels of {} apart; annotate issues with them, or take the \
                 head out of the taxonomy",
                head.name
            );
        }
    }
    let list = |labels: &[(String, String)]| {
        let names: Vec<String> = labels
            .iter()
            .map(|(head, label)| format!("{head}.{label}"))
            .collect();
        names.join(", ")
    };
    if !unseen.unknown.is_empty() {
        eprintln!(
            "warning: no example of {}: the model cannot learn these",
            list(&unseen.unknown)
        );
    }
    if !unseen.known.is_empty() {
        eprintln!(
            "warning: no example of {}: the model may forget what it knows of these; give the \
             annotations that it was trained on as well",
            list(&unseen.known)
        );
    }
    Ok(())
}

/// The labelled rows of a table, and the taxonomy of their labels.
pub fn of_table(table: &LabelledTable, start: &Start) -> Result<(Taxonomy, Vec<Example>)> {
    let rows = table.rows()?;
    let known = match start {
        Start::Base(_) => None,
        Start::Model(bundle) => Some(&bundle.taxonomy),
    };
    let (taxonomy, rows) = table.taxonomy(rows, known)?;
    let examples = rows.into_iter().map(|(issue, label)| {
        let annotation = Annotation {
            id: issue.id.clone(),
            labels: vec![Some(label)],
            ..Annotation::default()
        };
        Example { issue, annotation }
    });
    Ok((taxonomy, examples.collect()))
}
