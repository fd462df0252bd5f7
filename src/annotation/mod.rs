//! Labels given to issues by annotators, kept apart from the issues' texts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::issue::IssueId;

mod read;

pub use read::{AnnotationError, Problem, read_annotations};

/// How sure the annotator was that a second careful reader would choose the same labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    High,
    Low,
}

/// One issue's labels: an entry per head of the taxonomy, `None` where the head does not apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    pub id: IssueId,
    pub labels: Vec<Option<usize>>,
    pub confidence: Option<Confidence>,
    pub annotator: Option<String>,
    /// The labels of the first and the second independent reading, each like `labels`; empty if the
    /// issue was read once.
    pub readings: Vec<Vec<Option<usize>>>,
    /// Whether a further annotator decided between readings that differ.
    pub adjudicated: bool,
}

/// The annotations of several files as one, an annotation an issue.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// In the order in which the issues first came.
    pub annotations: Vec<Annotation>,
    /// The issue of each annotation that a later one replaced.
    pub replaced: Vec<IssueId>,
}

/// Merges the annotations of several files. Where two annotate one issue, the later one counts.
pub fn merge(files: Vec<Vec<Annotation>>) -> Merged {
    let mut annotations: Vec<Annotation> = Vec::new();
    let mut replaced = Vec::new();
    let mut places = HashMap::new();
    for annotation in files.into_iter().flatten() {
        match places.entry(annotation.id.clone()) {
            Entry::Occupied(place) => {
                replaced.push(annotation.id.clone());
                annotations[*place.get()] = annotation;
            }
            Entry::Vacant(place) => {
                place.insert(annotations.len());
                annotations.push(annotation);
            }
        }
    }
    Merged {
        annotations,
        replaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(number: u64, label: usize) -> Annotation {
        Annotation {
            id: id(number),
            labels: vec![Some(label)],
            confidence: None,
            annotator: None,
            readings: Vec::new(),
            adjudicated: false,
        }
    }

    fn id(number: u64) -> IssueId {
        IssueId {
            repo: "o/n".into(),
            number,
        }
    }

    #[test]
    fn the_later_annotation_of_an_issue_replaces_the_earlier_in_its_place() {
        let merged = merge(vec![
            vec![annotation(1, 0), annotation(2, 0)],
            vec![annotation(3, 1), annotation(1, 1)],
            vec![annotation(1, 2)],
        ]);
        assert_eq!(
            merged.annotations,
            [annotation(1, 2), annotation(2, 0), annotation(3, 1)]
        );
        assert_eq!(merged.replaced, [id(1), id(1)]);
    }

    #[test]
    fn files_without_a_common_issue_replace_nothing() {
        let merged = merge(vec![vec![annotation(2, 0)], vec![annotation(1, 1)]]);
        assert_eq!(merged.annotations, [annotation(2, 0), annotation(1, 1)]);
        assert!(merged.replaced.is_empty());
    }
}
