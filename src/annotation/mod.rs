//! Labels given to issues by annotators, kept apart from the issues' texts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::issue::IssueId;
use crate::taxonomy::Taxonomy;

mod read;
mod write;

pub(crate) use read::parse;
pub use read::{AnnotationError, Coverage, Problem, read_annotations};
pub use write::{Line, Reading};

/// How sure the annotator was that a second careful reader would choose the same labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    High,
    Low,
}

/// One issue's labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Annotation {
    pub id: IssueId,
    /// An entry per head of the taxonomy, `None` where the head does not apply.
    pub labels: Vec<Option<usize>>,
    /// The heads of which nothing is said; their labels are `None`.
    pub unlabelled: Vec<usize>,
    pub confidence: Option<Confidence>,
    pub annotator: Option<String>,
    /// The labels of the first and the second independent reading, each like `labels`; empty if the
    /// issue was read once.
    pub readings: Vec<Vec<Option<usize>>>,
    /// Whether a further annotator decided between readings that differ.
    pub adjudicated: bool,
    /// What the annotator remarked.
    pub note: Option<String>,
    /// Whether the annotator had seen a model's labels of the issue.
    pub suggested: bool,
    /// How many issues this one stands for, where issues were not drawn with equal chances.
    pub weight: Option<f64>,
}

/// The annotations of several files as one, an annotation an issue.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// In the order in which the issues first came.
    pub annotations: Vec<Annotation>,
    /// The issue of each annotation that a later one replaced.
    pub replaced: Vec<IssueId>,
    /// Those of them that the later one contradicts.
    pub conflicts: Vec<Conflict>,
}

/// Two annotations of one issue that give a head different labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    pub earlier: Annotation,
    pub later: Annotation,
}

impl Conflict {
    fn between(earlier: &Annotation, later: &Annotation) -> Option<Self> {
        let conflict = Self {
            earlier: earlier.clone(),
            later: later.clone(),
        };
        let differs = conflict.heads().next().is_some();
        differs.then_some(conflict)
    }

    /// The heads of which both annotations speak, and differ.
    fn heads(&self) -> impl Iterator<Item = usize> {
        let Self { earlier, later } = self;
        (0..earlier.labels.len()).filter(|head| {
            !earlier.unlabelled.contains(head)
                && !later.unlabelled.contains(head)
                && earlier.labels[*head] != later.labels[*head]
        })
    }

    /// Such as `owner/name#1: category gpu, before memory`.
    pub fn describe(&self, taxonomy: &Taxonomy) -> String {
        let heads = self.heads().map(|head| {
            let name = |annotation: &Annotation| {
                taxonomy
                    .label_name(head, annotation.labels[head])
                    .to_owned()
            };
            let (earlier, later) = (name(&self.earlier), name(&self.later));
            format!("{} {later}, before {earlier}", taxonomy.heads[head].name)
        });
        format!(
            "{}: {}",
            self.later.id,
            heads.collect::<Vec<_>>().join("; ")
        )
    }
}

/// Merges the annotations of several files. Where two annotate one issue, the later one counts.
pub fn merge(files: Vec<Vec<Annotation>>) -> Merged {
    let mut annotations: Vec<Annotation> = Vec::new();
    let (mut replaced, mut conflicts) = (Vec::new(), Vec::new());
    let mut places = HashMap::new();
    for annotation in files.into_iter().flatten() {
        match places.entry(annotation.id.clone()) {
            Entry::Occupied(place) => {
                replaced.push(annotation.id.clone());
                let earlier = &mut annotations[*place.get()];
                conflicts.extend(Conflict::between(earlier, &annotation));
                *earlier = annotation;
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
        conflicts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(number: u64, label: usize) -> Annotation {
        Annotation {
            id: id(number),
            labels: vec![Some(label)],
            ..Annotation::default()
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
    fn a_conflict_is_a_head_that_both_label_and_label_differently() {
        let unlabelled = Annotation {
            labels: vec![None],
            unlabelled: vec![0],
            ..annotation(3, 0)
        };
        let merged = merge(vec![
            vec![annotation(1, 0), annotation(2, 0), annotation(3, 0)],
            vec![annotation(1, 0), annotation(2, 1), unlabelled],
        ]);
        assert_eq!(merged.replaced.len(), 3);
        let expected = Conflict {
            earlier: annotation(2, 0),
            later: annotation(2, 1),
        };
        assert_eq!(merged.conflicts, [expected]);
    }

    #[test]
    fn files_without_a_common_issue_replace_nothing() {
        let merged = merge(vec![vec![annotation(2, 0)], vec![annotation(1, 1)]]);
        assert_eq!(merged.annotations, [annotation(2, 0), annotation(1, 1)]);
        assert!(merged.replaced.is_empty());
    }
}
