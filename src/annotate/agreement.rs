//! How far two annotators agree, as their files are now.

use serde::Serialize;

use crate::annotation::Annotation;
use crate::eval::metrics::ConfusionMatrix;
use crate::eval::{class, classes};
use crate::taxonomy::Taxonomy;

/// Two annotators on the issues that both labelled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    pub first: String,
    pub second: String,
    pub issues: u64,
    pub heads: Vec<HeadAgreement>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadAgreement {
    pub head: String,
    /// The share of issues with the same label; "does not apply" is one. `None` without an issue.
    pub accuracy: Option<f64>,
    /// Cohen's kappa; `None` where both gave one and the same label throughout.
    pub kappa: Option<f64>,
}

impl Agreement {
    /// Of the annotators called `names`, from both labels of each issue that both labelled.
    pub fn of<'a>(
        taxonomy: &Taxonomy,
        names: [&str; 2],
        pairs: impl Iterator<Item = (&'a Annotation, &'a Annotation)>,
    ) -> Self {
        let pairs: Vec<_> = pairs.collect();
        let heads = taxonomy.heads.iter().enumerate().map(|(index, head)| {
            let classes_of = pairs.iter().map(|(a, b)| {
                let class =
                    |annotation: &Annotation| class(taxonomy, index, annotation.labels[index]);
                (class(a), class(b))
            });
            let matrix = ConfusionMatrix::from_pairs(classes_of, classes(head));
            HeadAgreement {
                head: head.name.clone(),
                accuracy: matrix.accuracy(),
                kappa: matrix.kappa(),
            }
        });
        Self {
            first: names[0].to_owned(),
            second: names[1].to_owned(),
            issues: pairs.len() as u64,
            heads: heads.collect(),
        }
    }
}
