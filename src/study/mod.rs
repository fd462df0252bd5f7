//! Findings over a labelled corpus: how often each label is and how surely, where, and when.
//!
//! Labels that a model predicted are wrong now and then, and counting them counts the errors too. A few
//! gold labels, drawn at random from the corpus, say how it errs: [`estimate`] puts the two together.
//! [`study`] makes [`findings::Findings`] of a corpus, from which [`html()`] and [`markdown()`] render.
//!
//! What makes an estimate valid is checked as far as data can show, and the findings' remarks say it:
//! gold must be a random sample of the corpus (or carry weights), and the predictions of the other issues
//! must err as those of gold do. A model errs less on issues it was trained on: such predictions are left
//! out, and predictions by cross-validation can take their place.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::annotation::Annotation;
use crate::issue::IssueId;
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

mod answer;
pub mod claims;
mod describe;
pub mod document;
pub mod estimate;
pub mod findings;
mod html;
pub mod interval;
mod markdown;
mod prevalence;
pub mod question;
pub mod ranking;
pub mod sample;
pub mod survival;

pub use html::html;
pub use markdown::markdown;

use claims::Claim;
use findings::{Findings, GoldSummary, Spread};
use sample::{LEAST_GOLD, Record, Sample};

/// The names that [`train --fold-predictions`](crate) gives the models of a cross-validation begin so:
/// each has predicted issues that it was not trained on.
pub const CROSS_VALIDATION: &str = "cross-validation";

/// What a study is made of.
pub struct Inputs<'a> {
    pub taxonomy: &'a Taxonomy,
    /// The corpus, each issue once.
    pub records: &'a [Record],
    /// By issue.
    pub predictions: &'a HashMap<IssueId, Prediction>,
    /// What predicted each issue, where that is known.
    pub predicted_by: &'a HashMap<IssueId, String>,
    /// Empty: there is no gold.
    pub gold: &'a [Annotation],
    /// Its file's name.
    pub gold_file: &'a str,
    /// Issues that the models which predicted were trained on; those by cross-validation excepted.
    pub trained_on: &'a HashSet<IssueId>,
    pub claims: &'a [Claim],
    /// `None`: the last date in the corpus.
    pub as_of: Option<DateTime<Utc>>,
    pub note: Option<String>,
    /// Remarks of whoever put the inputs together, which come first.
    pub remarks: Vec<String>,
    pub seed: u64,
}

/// Makes the findings.
pub fn study(inputs: Inputs<'_>) -> Findings {
    let memorised: HashSet<IssueId> = inputs
        .trained_on
        .iter()
        .filter(|id| {
            let by = inputs.predicted_by.get(id).map_or("", String::as_str);
            inputs.predictions.contains_key(id) && !by.starts_with(CROSS_VALIDATION)
        })
        .cloned()
        .collect();
    let taxonomy = inputs.taxonomy;
    let sample = Sample::new(
        taxonomy,
        inputs.records,
        inputs.predictions,
        inputs.gold,
        &memorised,
    );
    let as_of = inputs.as_of.or_else(|| describe::last_date(&sample));
    let gold = (!inputs.gold.is_empty()).then(|| summary(&inputs, &sample, &memorised));
    let names: Vec<&str> = sample.repositories().into_keys().collect();
    let repositories = std::iter::once(None).chain(names.iter().map(|&name| Some(name)));
    let mut models = BTreeMap::new();
    for record in inputs.records {
        if inputs.predictions.contains_key(&record.id) {
            let name = inputs
                .predicted_by
                .get(&record.id)
                .map_or("unnamed", String::as_str);
            *models.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    let conditional: Vec<usize> = (0..taxonomy.heads.len())
        .filter(|&head| taxonomy.heads[head].applies_when.is_some())
        .collect();
    let category = conditional.first().copied().unwrap_or(0);
    let mut all_remarks = inputs.remarks.clone();
    all_remarks.extend(remarks(&inputs, &sample, gold.as_ref(), &models));
    Findings {
        created_with: concat!("faultlens ", env!("CARGO_PKG_VERSION")).to_owned(),
        seed: inputs.seed,
        note: inputs.note.clone(),
        as_of: as_of.map(|day| day.format("%Y-%m-%d").to_string()),
        remarks: all_remarks,
        repositories: repositories
            .map(|repo| describe::repository(&sample, repo, as_of))
            .collect(),
        heads: (0..taxonomy.heads.len())
            .map(|head| prevalence::head(&sample, head, as_of, inputs.seed))
            .collect(),
        claims: inputs
            .claims
            .iter()
            .map(|claim| answer::answer(claim, &sample, inputs.seed))
            .collect(),
        github_labels: describe::github_labels(&sample),
        associations: describe::associations(&sample, category),
        causes: match conditional[..] {
            [first, second, ..] => describe::crossed(&sample, first, second),
            _ => Vec::new(),
        },
        notable: describe::notable(&sample, category, as_of),
        gold,
        models,
    }
}

fn summary(inputs: &Inputs<'_>, sample: &Sample<'_>, memorised: &HashSet<IssueId>) -> GoldSummary {
    let corpus: HashSet<&IssueId> = inputs.records.iter().map(|record| &record.id).collect();
    let inside = || inputs.gold.iter().filter(|gold| corpus.contains(&gold.id));
    let by_repo = sample
        .items
        .iter()
        .map(|item| (Some(item.record.id.repo.clone()), item.gold.is_some()));
    let by_quarter = sample.items.iter().map(|item| {
        (
            item.record.quarter().map(|quarter| quarter.to_string()),
            item.gold.is_some(),
        )
    });
    let spread = match sample.is_weighted {
        true => Vec::new(),
        false => [
            ("repository", spread(by_repo)),
            ("quarter", spread(by_quarter)),
        ]
        .into_iter()
        .filter_map(|(over, spread)| {
            let (chi_squared, degrees, p) = spread?;
            Some(Spread {
                over: over.to_owned(),
                chi_squared,
                degrees,
                p,
            })
        })
        .collect(),
    };
    GoldSummary {
        file: inputs.gold_file.to_owned(),
        issues: sample.gold().count(),
        outside: inputs.gold.len() - inside().count(),
        memorised: inside().filter(|gold| memorised.contains(&gold.id)).count(),
        is_weighted: sample.is_weighted,
        unlabelled: sample
            .items
            .iter()
            .filter(|item| item.gold.is_none() && item.counts && item.prediction.is_some())
            .count(),
        left_out: sample.items.iter().filter(|item| !item.counts).count(),
        spread,
    }
}

/// Pearson's test of whether gold and the other issues are spread alike over groups. Groups in which gold
/// would be expected fewer than five times are put together.
fn spread(issues: impl Iterator<Item = (Option<String>, bool)>) -> Option<(f64, usize, f64)> {
    let mut groups: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for (group, is_gold) in issues {
        if let Some(group) = group {
            groups.entry(group).or_default()[usize::from(is_gold)] += 1.0;
        }
    }
    let sum = |groups: &[[f64; 2]], of: usize| groups.iter().map(|group| group[of]).sum::<f64>();
    let groups: Vec<[f64; 2]> = groups.into_values().collect();
    let (others, gold) = (sum(&groups, 0), sum(&groups, 1));
    let share = gold / (gold + others);
    let (few, mut groups): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|[a, b]| (a + b) * share < 5.0 || (a + b) * (1.0 - share) < 5.0);
    if !few.is_empty() {
        groups.push([sum(&few, 0), sum(&few, 1)]);
    }
    if groups.len() < 2 || gold == 0.0 || others == 0.0 {
        return None;
    }
    let cell = |found: f64, expected: f64| (found - expected).powi(2) / expected;
    let chi_squared = groups
        .iter()
        .map(|[a, b]| cell(*a, (a + b) * (1.0 - share)) + cell(*b, (a + b) * share))
        .sum();
    let degrees = groups.len() - 1;
    let distribution = ChiSquared::new(degrees as f64).expect("there are degrees of freedom");
    Some((chi_squared, degrees, 1.0 - distribution.cdf(chi_squared)))
}

/// What limits the findings, in words.
fn remarks(
    inputs: &Inputs<'_>,
    sample: &Sample<'_>,
    gold: Option<&GoldSummary>,
    models: &BTreeMap<String, usize>,
) -> Vec<String> {
    let mut remarks = Vec::new();
    let issues = inputs.records.len();
    if issues == 0 {
        remarks.push("The corpus has no issue: there is nothing to find.".to_owned());
        return remarks;
    }
    match gold {
        None => remarks.push(
            "There is no gold: the shares are counts of predicted labels, with the model's errors in them, \
             and no interval would be valid. Claims stay undecided."
                .to_owned(),
        ),
        Some(gold) if gold.issues == 0 => remarks.push(format!(
            "None of the {} gold annotations counts: {} are of issues outside the corpus, {} of issues that \
             the model was trained on. The shares are counts of predicted labels only.",
            inputs.gold.len(),
            gold.outside,
            gold.memorised
        )),
        Some(gold) => remarks.extend(about_gold(gold, sample)),
    }
    let left_out = sample.items.iter().filter(|item| !item.counts).count();
    if left_out > 0 {
        remarks.push(format!(
            "The predictions of {left_out} of {issues} issues are left out of the estimates: they come from a \
             model that was trained on these issues, which errs less on them than on gold. Predictions by \
             cross-validation (faultlens train --folds 5 --fold-predictions FILE) can take their place."
        ));
    }
    if gold.is_some_and(|gold| gold.issues > 0 && gold.unlabelled == 0) {
        remarks.push(
            "No prediction is left to count: the estimates are those of gold alone.".to_owned(),
        );
    }
    let by = |wanted: bool| {
        let of = move |name: &&String| name.starts_with(CROSS_VALIDATION) == wanted;
        models.keys().filter(of).count()
    };
    if models.len() > 1 && (by(true) > 0 || by(false) > 1) {
        let names: Vec<String> = models
            .iter()
            .map(|(name, n)| format!("{name} ({n})"))
            .collect();
        remarks.push(format!(
            "Several models predicted: {}. Estimates take it that they err alike on average; where gold is \
             predicted by one and the rest by another, a difference between the two goes into the estimates \
             unseen.",
            names.join(", ")
        ));
    }
    let unpredicted = sample
        .items
        .iter()
        .filter(|item| item.prediction.is_none())
        .count();
    if unpredicted > 0 {
        remarks.push(format!(
            "{unpredicted} of {issues} issues have no prediction; predictions are taken to say that they \
             have no label."
        ));
    }
    let undated = sample
        .items
        .iter()
        .filter(|item| item.record.opened.is_none())
        .count();
    if undated > 0 {
        remarks.push(format!(
            "{undated} of {issues} issues have no date of opening: they count in no quarter, trend or time \
             to close."
        ));
    }
    if issues == 1 {
        remarks.push("The corpus is one issue: nothing can be said of others.".to_owned());
    }
    remarks
}

fn about_gold(gold: &GoldSummary, sample: &Sample<'_>) -> Vec<String> {
    let mut remarks = Vec::new();
    for spread in &gold.spread {
        if spread.p < 0.01 {
            remarks.push(format!(
                "Gold is not spread over the corpus as a random sample would be, by {} (chi-squared {:.1}, {} \
                 degrees of freedom, p {:.4}): the estimates may be of something else than this corpus, \
                 unless gold carries weights.",
                spread.over, spread.chi_squared, spread.degrees, spread.p
            ));
        }
    }
    for (repo, (issues, found)) in sample.repositories() {
        if found < LEAST_GOLD {
            remarks.push(format!(
                "{repo} has {issues} issues and {found} of gold, less than {LEAST_GOLD}: it has no estimates \
                 and is left out of those over all repositories."
            ));
        }
    }
    if gold.outside > 0 {
        remarks.push(format!(
            "{} gold annotations are of issues that are not in the corpus and do not count.",
            gold.outside
        ));
    }
    if gold.memorised > 0 {
        remarks.push(format!(
            "{} gold issues are among those that the model was trained on and do not count.",
            gold.memorised
        ));
    }
    remarks
}

#[cfg(test)]
mod tests;
