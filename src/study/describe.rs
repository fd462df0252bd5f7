//! The corpus as it comes: counts, times, what stands out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Duration, Utc};

use super::findings::{Counted, Cross, Notable, NotableIssue, Repository};
use super::sample::{Item, Part, Sample};
use super::survival::{Survival, survival};

const SECONDS_A_DAY: f64 = 86_400.0;
/// Rows of lists.
const SHOWN: usize = 5;
const SHOWN_LABELS: usize = 30;

/// The last date that any issue has.
pub fn last_date(sample: &Sample<'_>) -> Option<DateTime<Utc>> {
    let dates = sample
        .items
        .iter()
        .flat_map(|item| [item.record.opened, item.record.closed]);
    dates.flatten().max()
}

pub fn repository(
    sample: &Sample<'_>,
    repo: Option<&str>,
    as_of: Option<DateTime<Utc>>,
) -> Repository {
    let part = Part {
        repo,
        quarter: None,
    };
    let items: Vec<&Item> = sample.part(part).collect();
    let count = |of: &dyn Fn(&Item) -> bool| items.iter().filter(|item| of(item)).count();
    let opened = || items.iter().filter_map(|item| item.record.opened);
    let day = |time: DateTime<Utc>| time.format("%Y-%m-%d").to_string();
    let since = as_of.map(|as_of| as_of - Duration::days(30));
    Repository {
        repo: repo.map(str::to_owned),
        issues: items.len(),
        open: count(&|item| item.record.metadata.is_open == Some(true)),
        closed: count(&|item| item.record.metadata.is_open == Some(false)),
        last_30_days: count(&|item| {
            item.record
                .opened
                .is_some_and(|o| since.is_some_and(|s| o > s))
        }),
        undated: count(&|item| item.record.opened.is_none()),
        first_opened: opened().min().map(day),
        last_opened: opened().max().map(day),
        comments: mean(
            items
                .iter()
                .filter_map(|item| item.record.metadata.comments),
        ),
        reactions: mean(
            items
                .iter()
                .filter_map(|item| item.record.metadata.reactions),
        ),
        gold: count(&|item| item.gold.is_some()),
        survival: days_open(items.into_iter(), as_of),
    }
}

fn mean(values: impl Iterator<Item = u64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum as f64 / f64::from(count))
}

/// The survival of issues, those still open watched until `as_of`. An issue that is closed at an unknown
/// time, or of which it is unknown whether it is, is left out.
pub fn days_open<'a, 's: 'a>(
    items: impl Iterator<Item = &'a Item<'s>>,
    as_of: Option<DateTime<Utc>>,
) -> Survival {
    let times = items.filter_map(|item| {
        let opened = item.record.opened?;
        let (end, closed) = match (item.record.closed, item.record.metadata.is_open) {
            (Some(closed), Some(false)) => (closed, true),
            (_, Some(true)) => (as_of?, false),
            _ => return None,
        };
        let days = (end - opened).num_seconds() as f64 / SECONDS_A_DAY;
        (days >= 0.0).then_some((days, closed))
    });
    survival(times.collect())
}

/// Whether the predicted label of a head is `label`.
pub fn has(item: &Item<'_>, head: usize, label: usize) -> bool {
    item.prediction
        .is_some_and(|prediction| prediction.heads[head].label == Some(label))
}

pub fn github_labels(sample: &Sample<'_>) -> Vec<Counted> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for label in sample
        .items
        .iter()
        .flat_map(|item| &item.record.metadata.labels)
    {
        *counts.entry(label).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(name, count)| (Reverse(count), name));
    counts.truncate(SHOWN_LABELS);
    let counted = |(name, issues): (&str, usize)| Counted {
        name: name.to_owned(),
        issues,
    };
    counts.into_iter().map(counted).collect()
}

/// Issues by author's association and predicted label of `head`.
pub fn associations(sample: &Sample<'_>, head: usize) -> Vec<Cross> {
    crosses(sample, head, |item| {
        item.record.metadata.author_association.clone()
    })
}

/// Issues by predicted label of `first` and of `second`.
pub fn crossed(sample: &Sample<'_>, first: usize, second: usize) -> Vec<Cross> {
    crosses(sample, second, |item| {
        let label = item.prediction?.heads[first].label?;
        Some(sample.taxonomy.label_name(first, Some(label)).to_owned())
    })
}

fn crosses(
    sample: &Sample<'_>,
    head: usize,
    name: impl Fn(&Item<'_>) -> Option<String>,
) -> Vec<Cross> {
    let mut crosses: BTreeMap<String, Cross> = BTreeMap::new();
    for item in &sample.items {
        let Some(name) = name(item) else { continue };
        let cross = crosses.entry(name.clone()).or_insert_with(|| Cross {
            name,
            issues: 0,
            labels: BTreeMap::new(),
        });
        cross.issues += 1;
        if let Some(label) = item
            .prediction
            .and_then(|prediction| prediction.heads[head].label)
        {
            let label = sample.taxonomy.label_name(head, Some(label)).to_owned();
            *cross.labels.entry(label).or_default() += 1;
        }
    }
    let mut crosses: Vec<Cross> = crosses.into_values().collect();
    crosses.sort_by_key(|cross| Reverse(cross.issues));
    crosses
}

/// Issues that stand out, by predicted label of `head`.
pub fn notable(sample: &Sample<'_>, head: usize, as_of: Option<DateTime<Utc>>) -> Vec<Notable> {
    let labels = sample.taxonomy.heads[head].labels.iter().enumerate();
    let notable = labels.map(|(place, label)| {
        let of_label = || sample.items.iter().filter(|item| has(item, head, place));
        let discussed = of_label().filter_map(|item| Some((item.record.metadata.comments?, item)));
        let open = of_label().filter(|item| item.record.metadata.is_open == Some(true));
        let open = open.filter_map(|item| {
            let days = (as_of? - item.record.opened?).num_days();
            Some((u64::try_from(days).ok()?, item))
        });
        Notable {
            label: label.name.clone(),
            discussed: most(discussed),
            open_longest: most(open),
        }
    });
    notable.collect()
}

fn most<'a, 's: 'a>(items: impl Iterator<Item = (u64, &'a Item<'s>)>) -> Vec<NotableIssue> {
    let mut items: Vec<_> = items.collect();
    items.sort_by_key(|(number, item)| (Reverse(*number), &item.record.id));
    let row = |(number, item): (u64, &Item<'_>)| {
        Some(NotableIssue {
            url: item.record.id.url()?,
            issue: item.record.id.to_string(),
            number,
        })
    };
    items.into_iter().filter_map(row).take(SHOWN).collect()
}

/// Links to issues that have a label most probably, without those that gold labels otherwise; what gold
/// confirms comes first.
pub fn typical(sample: &Sample<'_>, head: usize, label: usize) -> Vec<String> {
    let mut items: Vec<(bool, f32, &Item)> = sample
        .items
        .iter()
        .filter(|item| has(item, head, label))
        .filter(|item| {
            item.gold
                .is_none_or(|gold| gold.labels[head] == Some(label))
        })
        .filter_map(|item| {
            Some((
                item.gold.is_some(),
                item.prediction?.heads[head].probability,
                item,
            ))
        })
        .filter(|(_, probability, _)| *probability >= 0.8)
        .collect();
    items.sort_by(|a, b| {
        let by_id = || a.2.record.id.cmp(&b.2.record.id);
        b.0.cmp(&a.0)
            .then_with(|| b.1.total_cmp(&a.1))
            .then_with(by_id)
    });
    items
        .into_iter()
        .filter_map(|(_, _, item)| item.record.id.url())
        .take(SHOWN)
        .collect()
}
