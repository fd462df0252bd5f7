//! A small taxonomy, gold and answers, for tests.

use super::answers::{Aligned, Answer, Answers, IssueAnswers};
use super::gold::GoldFile;
use super::report::Gold;
use crate::annotation::Annotation;
use crate::issue::IssueId;
pub(super) use crate::prediction::fixture::taxonomy;
use crate::taxonomy::NONE;

/// The issue of a number, of one repository for even numbers and of another for odd ones.
pub fn id(number: usize) -> IssueId {
    let repo = if number.is_multiple_of(2) {
        "ada/engine"
    } else {
        "bob/kernel"
    };
    IssueId {
        repo: repo.into(),
        number: number as u64,
    }
}

/// Labels from names: `bug memory unknown`, where `none` may be left out.
pub fn labels(names: &str) -> Vec<Option<usize>> {
    let mut names = names.split(' ');
    let heads = taxonomy().heads.into_iter();
    heads
        .map(|head| match names.next() {
            None | Some(NONE) => None,
            Some(name) => Some(head.label_index(name).expect(name)),
        })
        .collect()
}

/// Gold annotations of the issues 1, 2, ….
pub fn gold(issues: &[&str]) -> GoldFile {
    let annotations = issues.iter().zip(1..).map(|(names, number)| Annotation {
        id: id(number),
        labels: labels(names),
        unlabelled: Vec::new(),
        confidence: None,
        annotator: None,
        readings: Vec::new(),
        adjudicated: false,
        weight: None,
    });
    GoldFile {
        summary: Gold {
            file: "gold.jsonl".into(),
            sha256: "0123456789abcdef".into(),
            issues: issues.len(),
            note: None,
        },
        annotations: annotations.collect(),
    }
}

/// Answers of all heads to the issues 1, 2, …, each label with the probability given; an empty name
/// stands for an issue without answers.
pub fn answers(name: &str, issues: &[(&str, f32)]) -> Answers {
    let issues = issues
        .iter()
        .zip(1..)
        .filter(|((names, _), _)| !names.is_empty());
    let issues = issues.map(|(&(names, probability), number)| {
        let labels = labels(names);
        let taxonomy = taxonomy();
        let heads = (0..).zip(labels).map(|(head, label)| {
            let class = super::class(&taxonomy, head, label);
            let classes = super::classes(&taxonomy.heads[head]);
            let rest = (1.0 - probability) / (classes - 1) as f32;
            let mut distribution = vec![rest; classes];
            distribution[class] = probability;
            Some(Answer {
                class,
                distribution: Some(distribution),
                abstained: false,
            })
        });
        IssueAnswers {
            id: id(number),
            heads: heads.collect(),
        }
    });
    Answers {
        name: name.into(),
        model: Some(format!("{name}-1a2b3c4d")),
        heads: vec![0, 1, 2],
        issues: issues.collect(),
        unusable: Vec::new(),
    }
}

/// The answers without probabilities, to the first heads only.
pub fn labels_only(mut answers: Answers, heads: usize) -> Answers {
    answers.heads.truncate(heads);
    for issue in &mut answers.issues {
        for (head, answer) in issue.heads.iter_mut().enumerate() {
            *answer = answer.take().filter(|_| head < heads);
            if let Some(answer) = answer {
                answer.distribution = None;
            }
        }
    }
    answers
}

/// Answers beside as many gold issues.
pub fn aligned(answers: &Answers, issues: usize) -> Aligned<'_> {
    let places = answers.places().unwrap();
    let places = (1..=issues).map(|number| places.get(&id(number)).copied());
    Aligned {
        places: places.collect(),
        answers,
    }
}
