//! Annotations that are likely wrong, by cross-validated predictions.

use serde::{Deserialize, Serialize};

use super::Example;
use crate::prediction::HeadPrediction;
use crate::taxonomy::Taxonomy;

/// An annotation worth a second look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    pub repo: String,
    pub number: u64,
    pub head: String,
    /// What the annotation says, and the probability that a model that has not seen it gives that.
    pub annotated: String,
    pub annotated_probability: f32,
    /// What that model says.
    pub predicted: String,
    pub predicted_probability: f32,
}

/// The annotations that confident learning takes for errors (Northcutt et al. 2021, Confident learning:
/// estimating uncertainty in dataset labels), the surest first.
///
/// Of each head, the threshold of a label is the mean probability that the label has where it is
/// annotated. An annotation is suspect where another label reaches its threshold, and the most probable
/// such label is more probable than the one annotated; the list falls in the difference of the two.
/// `none` counts as a label. `predictions` are of the examples, in their order, each by a model that was
/// not trained on the example.
pub fn suspects(
    taxonomy: &Taxonomy,
    examples: &[Example],
    predictions: &[Vec<HeadPrediction>],
) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for (head, definition) in taxonomy.heads.iter().enumerate() {
        let none = definition.labels.len();
        let read: Vec<(&Example, usize, &[f32])> = examples
            .iter()
            .zip(predictions)
            .filter(|(example, _)| !example.annotation.unlabelled.contains(&head))
            .map(|(example, prediction)| {
                let label = example.annotation.labels[head].unwrap_or(none);
                let distribution = &prediction[head].distribution;
                (example, label, distribution.as_slice())
            })
            .collect();
        let classes = none + usize::from(definition.applies_when.is_some());
        let thresholds: Vec<f32> = (0..classes)
            .map(|class| {
                let own = read.iter().filter(|(_, label, _)| *label == class);
                let probabilities: Vec<f32> = own.map(|(_, _, p)| p[class]).collect();
                // A label that nothing has can be no annotation's true label.
                match probabilities.len() {
                    0 => f32::INFINITY,
                    count => probabilities.iter().sum::<f32>() / count as f32,
                }
            })
            .collect();
        for (example, label, probabilities) in read {
            let confident = (0..classes).filter(|&class| probabilities[class] >= thresholds[class]);
            let likely = confident.max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
            if let Some(likely) = likely
                && likely != label
                && probabilities[likely] > probabilities[label]
            {
                let name = |class: usize| {
                    let label = (class < none).then_some(class);
                    taxonomy.label_name(head, label).to_owned()
                };
                suspects.push(Suspect {
                    repo: example.issue.id.repo.clone(),
                    number: example.issue.id.number,
                    head: definition.name.clone(),
                    annotated: name(label),
                    annotated_probability: probabilities[label],
                    predicted: name(likely),
                    predicted_probability: probabilities[likely],
                });
            }
        }
    }
    let margin = |suspect: &Suspect| suspect.predicted_probability - suspect.annotated_probability;
    suspects.sort_by(|a, b| margin(b).total_cmp(&margin(a)));
    suspects
}
