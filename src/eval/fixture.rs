//! A small taxonomy, gold and answers, for tests.

use super::answers::{Aligned, Answer, Answers, IssueAnswers};
use crate::issue::IssueId;
pub(super) use crate::prediction::fixture::taxonomy;

pub fn id(number: usize) -> IssueId {
    IssueId {
        repo: "ada/engine".into(),
        number: number as u64,
    }
}

/// Answers to the head `kind` of the issues 0, 1, …; `None` for an issue without.
pub fn answers(name: &str, classes: impl Iterator<Item = Option<usize>>) -> Answers {
    let issues = classes.enumerate().filter_map(|(number, class)| {
        let answer = Answer {
            class: class?,
            distribution: None,
            abstained: false,
        };
        Some(IssueAnswers {
            id: id(number),
            heads: vec![Some(answer), None, None],
        })
    });
    Answers {
        name: name.into(),
        model: None,
        heads: vec![0],
        issues: issues.collect(),
        unusable: Vec::new(),
    }
}

/// Beside as many gold issues as the last one's number tells.
pub fn aligned(answers: &Answers) -> Aligned<'_> {
    let places = answers.places().unwrap();
    let issues = answers
        .issues
        .last()
        .map_or(0, |issue| issue.id.number as usize + 1);
    Aligned {
        places: (0..issues)
            .map(|issue| places.get(&id(issue)).copied())
            .collect(),
        answers,
    }
}
