//! What share of which issues has which labels, asked of annotations and of predictions alike.

use super::estimate::Membership;
use crate::annotation::Annotation;
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// A head has one of some labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub head: usize,
    pub labels: Vec<usize>,
}

/// The share with `label` among the issues for which all of `within` hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub label: Condition,
    pub within: Vec<Condition>,
}

impl Question {
    /// The share of a head's label among the issues to which the head applies.
    pub fn of_label(taxonomy: &Taxonomy, head: usize, label: usize) -> Self {
        let parent = taxonomy.heads[head].applies_when.as_ref();
        Self {
            label: Condition {
                head,
                labels: vec![label],
            },
            within: parent
                .map(|parent| Condition {
                    head: parent.head,
                    labels: parent.labels.clone(),
                })
                .into_iter()
                .collect(),
        }
    }

    /// The same among all issues.
    pub fn among_all(self) -> Self {
        Self {
            within: Vec::new(),
            ..self
        }
    }

    pub fn of_annotation(&self, annotation: &Annotation) -> Membership {
        self.of_labels(&annotation.labels)
    }

    /// By an issue's labels, an entry a head.
    pub fn of_labels(&self, labels: &[Option<usize>]) -> Membership {
        let holds = |condition: &Condition| {
            labels[condition.head].is_some_and(|label| condition.labels.contains(&label))
        };
        let domain = self.within.iter().all(holds);
        Membership {
            domain: f64::from(domain),
            label: f64::from(domain && holds(&self.label)),
        }
    }

    /// By the distributions. They say nothing of how heads depend on each other beyond which applies
    /// when; heads that apply under the same condition count as independent under it. That costs
    /// precision where it is wrong, and no more: predictions may be anything.
    pub fn of_prediction(&self, taxonomy: &Taxonomy, prediction: &Prediction) -> Membership {
        let within: Vec<&Condition> = self.within.iter().collect();
        let mut both = within.clone();
        both.push(&self.label);
        Membership {
            domain: probability(taxonomy, prediction, &within),
            label: probability(taxonomy, prediction, &both),
        }
    }

    /// By the labels that were given.
    pub fn of_predicted_labels(&self, prediction: &Prediction) -> Membership {
        let labels: Vec<Option<usize>> = prediction.heads.iter().map(|head| head.label).collect();
        self.of_labels(&labels)
    }
}

/// The probability that all conditions hold.
fn probability(taxonomy: &Taxonomy, prediction: &Prediction, conditions: &[&Condition]) -> f64 {
    let of = |condition: &Condition| -> f64 {
        let distribution = &prediction.heads[condition.head].distribution;
        let shares = condition
            .labels
            .iter()
            .map(|&label| f64::from(distribution[label]));
        shares.sum::<f64>().min(1.0)
    };
    // A condition on a head says all of the head that it depends on.
    let implied = |condition: &Condition| {
        conditions.iter().any(|other| {
            taxonomy.heads[other.head]
                .applies_when
                .as_ref()
                .is_some_and(|parent| {
                    parent.head == condition.head
                        && parent
                            .labels
                            .iter()
                            .all(|label| condition.labels.contains(label))
                })
        })
    };
    let mut product = 1.0;
    let mut parents = Vec::new();
    for condition in conditions.iter().filter(|condition| !implied(condition)) {
        product *= of(condition);
        if let Some(parent) = &taxonomy.heads[condition.head].applies_when {
            let applies = of(&Condition {
                head: parent.head,
                labels: parent.labels.clone(),
            });
            match parents.contains(&parent.head) {
                true => product /= applies.max(1e-6),
                false => parents.push(parent.head),
            }
        }
    }
    product.clamp(0.0, 1.0)
}
