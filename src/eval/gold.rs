//! Who labelled the issues by hand: the gold file, and the annotators behind and beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base16ct::lower::encode_string;
use sha2::{Digest, Sha256};

use super::EvalError;
use super::report::Gold;
use crate::annotation::{Annotation, AnnotationError, Coverage, read_annotations};
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
        let annotations = read_annotations(path, taxonomy, Coverage::AllHeads)?;
        Self::of(&[path.to_owned()], annotations)
    }

    /// Annotations that were made of the files at `paths`, at least one.
    ///
    /// # Errors
    /// A file cannot be read, or there is no annotation.
    pub fn of(paths: &[PathBuf], annotations: Vec<Annotation>) -> Result<Self, EvalError> {
        if annotations.is_empty() {
            return Err(EvalError::NoGold(paths[0].clone()));
        }
        let mut digest = Sha256::new();
        for path in paths {
            let bytes = std::fs::read(path).map_err(|source| AnnotationError::Read {
                path: path.clone(),
                source,
            })?;
            digest.update(&bytes);
        }
        let names = paths
            .iter()
            .map(|path| path.file_name().unwrap_or_default().to_string_lossy());
        let summary = Gold {
            file: names.collect::<Vec<_>>().join(", "),
            sha256: encode_string(&digest.finalize()),
            issues: annotations.len(),
            note: None,
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
            for annotation in read_annotations(path, taxonomy, Coverage::AllHeads)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::fixture::taxonomy;

    const GOLD: &str = r#"{"repo":"a/b","number":1,"kind":"feature","category":"none","root_cause":"none"}
{"repo":"a/b","number":2,"kind":"bug","category":"gpu","root_cause":"unknown","first":{"kind":"bug","category":"gpu","root_cause":"unknown"},"second":{"kind":"feature","category":"none","root_cause":"none"}}
"#;

    fn files(texts: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |&(name, text): &(&str, &str)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = texts.iter().map(write).collect();
        (folder, paths)
    }

    #[test]
    fn the_file_is_named_by_its_hash_and_its_readings_are_annotators() {
        let (_folder, paths) = files(&[("gold.jsonl", GOLD)]);
        let gold = GoldFile::read(&paths[0], &taxonomy()).unwrap();
        assert_eq!(
            (gold.summary.file.as_str(), gold.summary.issues),
            ("gold.jsonl", 2)
        );
        assert_eq!(gold.summary.sha256.len(), 64);
        let readings = gold.readings();
        assert_eq!(readings[1].name, "second reading");
        assert_eq!(readings[1].labels, [None, Some(vec![Some(1), None, None])]);
    }

    #[test]
    fn a_file_without_annotations_is_refused() {
        let (_folder, paths) = files(&[("gold.jsonl", "\n")]);
        let error = GoldFile::read(&paths[0], &taxonomy())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with(
            "gold.jsonl: there is no annotation in it; give a file of gold annotations"
        ));
    }

    #[test]
    fn annotators_go_by_their_names_across_files_and_else_by_the_file() {
        let line = |number: u64, annotator: &str| {
            format!(
                r#"{{"repo":"a/b","number":{number},"kind":"feature","category":"none","root_cause":"none"{annotator}}}"#
            )
        };
        let ada = r#","annotator":"ada""#;
        let (_folder, paths) = files(&[
            ("gold.jsonl", GOLD),
            ("one.jsonl", &[line(1, ada), line(3, ada)].join("\n")),
            ("two.jsonl", &[line(2, ada), line(1, "")].join("\n")),
        ]);
        let gold = GoldFile::read(&paths[0], &taxonomy()).unwrap();
        let annotators = gold.annotators(&paths[1..], &taxonomy()).unwrap();
        let feature = Some(vec![Some(1), None, None]);
        let found: Vec<_> = annotators
            .iter()
            .map(|a| (a.name.as_str(), &a.labels[..]))
            .collect();
        assert_eq!(
            found,
            [
                ("ada", [feature.clone(), feature.clone()].as_slice()),
                ("two", [feature, None].as_slice())
            ]
        );
    }
}
