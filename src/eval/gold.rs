//! Who labelled the issues by hand: the gold file, and the annotators behind and beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::EvalError;
use super::report::Gold;
use crate::annotation::{Annotation, AnnotationError, read_annotations};
use crate::issue::IssueId;
use crate::taxonomy::Taxonomy;

/// The annotations that count as truth.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldFile {
    pub summary: Gold,
    pub annotations: Vec<Annotation>,
}

impl GoldFile {
    /// Reads the gold annotations in the JSONL file at `path`.
    ///
    /// # Errors
    /// As [`read_annotations`]; also if there is no annotation.
    pub fn read(path: &Path, taxonomy: &Taxonomy) -> Result<Self, EvalError> {
        let bytes = std::fs::read(path).map_err(|source| AnnotationError::Read {
            path: path.to_owned(),
            source,
        })?;
        let annotations = read_annotations(path, taxonomy)?;
        if annotations.is_empty() {
            return Err(EvalError::NoGold(path.to_owned()));
        }
        let digest = Sha256::digest(&bytes);
        let summary = Gold {
            file: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            issues: annotations.len(),
        };
        Ok(Self {
            summary,
            annotations,
        })
    }

    /// The annotators whose labels the file holds beside those that count: its first and second
    /// readings, if it has any.
    pub fn readings(&self) -> Vec<Annotator> {
        let names = ["first reading", "second reading"];
        let annotators = (0..).zip(names).map(|(reading, name)| Annotator {
            name: name.to_owned(),
            labels: self
                .annotations
                .iter()
                .map(|annotation| annotation.readings.get(reading).cloned())
                .collect(),
        });
        annotators
            .filter(|annotator| annotator.labels.iter().any(Option::is_some))
            .collect()
    }

    /// The annotators of other files of annotations, on the gold issues: those that the annotations
    /// name, else each file by its own name. One whose name is in several files has read all of them.
    ///
    /// # Errors
    /// As [`read_annotations`].
    pub fn annotators(
        &self,
        paths: &[PathBuf],
        taxonomy: &Taxonomy,
    ) -> Result<Vec<Annotator>, EvalError> {
        let ids = self.annotations.iter().map(|annotation| &annotation.id);
        let places: HashMap<&IssueId, usize> = ids.zip(0..).collect();
        let mut annotators: Vec<Annotator> = Vec::new();
        for path in paths {
            let file = path.file_stem().unwrap_or_default().to_string_lossy();
            for annotation in read_annotations(path, taxonomy)? {
                let Some(&place) = places.get(&annotation.id) else {
                    continue;
                };
                let name = annotation.annotator.as_deref().unwrap_or(&file);
                let known = annotators.iter().position(|a| a.name == name);
                let annotator = known.unwrap_or_else(|| {
                    annotators.push(Annotator {
                        name: name.to_owned(),
                        labels: vec![None; self.annotations.len()],
                    });
                    annotators.len() - 1
                });
                annotators[annotator].labels[place] = Some(annotation.labels);
            }
        }
        Ok(annotators)
    }
}

/// One annotator's labels of the gold issues.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotator {
    pub name: String,
    /// An entry a gold issue, in gold's order, each as [`Annotation::labels`]; `None` for an issue
    /// that the annotator did not read.
    pub labels: Vec<Option<Vec<Option<usize>>>>,
}
