//! What is left when the work is done: one line an issue, and how the labels are spread.

use std::collections::HashSet;

use super::reading::Reading;
use crate::annotation::{Annotation, Confidence, Line};
use crate::taxonomy::Taxonomy;

/// Settled annotations.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub annotations: Vec<Annotation>,
    /// Issues that two readings label differently, and nobody decided.
    pub undecided: usize,
}

/// The annotator's labels that count, in their order. With two readings to decide between, their common
/// labels too: those agreed on with both readings beside, as gold has them.
pub fn settle(own: &[Annotation], readings: Option<[&Reading; 2]>) -> Settled {
    let mut annotations = own.to_vec();
    let mut undecided = 0;
    if let Some([first, second]) = readings {
        let decided: HashSet<_> = own.iter().map(|annotation| &annotation.id).collect();
        for one in &first.annotations {
            let Some(other) = second.get(&one.id) else {
                continue;
            };
            if decided.contains(&one.id) {
                continue;
            }
            if one.labels != other.labels {
                undecided += 1;
                continue;
            }
            let both = [one, other].map(|reading| reading.confidence);
            let confidence = match both {
                [Some(Confidence::High), Some(Confidence::High)] => Some(Confidence::High),
                [None, None] => None,
                _ => Some(Confidence::Low),
            };
            annotations.push(Annotation {
                id: one.id.clone(),
                labels: one.labels.clone(),
                confidence,
                readings: vec![one.labels.clone(), other.labels.clone()],
                suggested: one.suggested || other.suggested,
                ..Annotation::default()
            });
        }
    }
    Settled {
        annotations,
        undecided,
    }
}

/// The annotations as a file, a line each.
pub fn lines(annotations: &[Annotation], taxonomy: &Taxonomy) -> String {
    let lines = annotations.iter().map(|annotation| {
        let line = Line {
            annotation,
            taxonomy,
            revises: false,
        };
        serde_json::to_string(&line).expect("an annotation is JSON") + "\n"
    });
    lines.collect()
}

/// By head, how many annotations have each label, `none` last; labels that none has are left out.
pub fn counts(annotations: &[Annotation], taxonomy: &Taxonomy) -> Vec<Vec<(String, usize)>> {
    let heads = taxonomy.heads.iter().enumerate().map(|(index, head)| {
        let labels = (0..head.labels.len()).map(Some).chain([None]);
        let counts = labels.map(|label| {
            let count = annotations.iter().filter(|a| a.labels[index] == label);
            (taxonomy.label_name(index, label).to_owned(), count.count())
        });
        counts.filter(|(_, count)| *count > 0).collect()
    });
    heads.collect()
}
