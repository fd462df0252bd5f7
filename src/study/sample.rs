//! The corpus as estimates see it: issues with their predictions, and gold among them.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Datelike, Utc};

use super::estimate::{Coefficient, Fit, Gold, Stratum, Tuning, Unlabelled, fit};
use super::question::Question;
use crate::annotation::Annotation;
use crate::issue::{IssueId, Metadata};
use crate::prediction::Prediction;
use crate::taxonomy::Taxonomy;

/// Gold issues that a repository, or a quarter, needs to be estimated.
pub const LEAST_GOLD: usize = 10;

/// An issue without its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub id: IssueId,
    /// `None` where its file says no date, or none that can be read.
    pub opened: Option<DateTime<Utc>>,
    pub closed: Option<DateTime<Utc>>,
    pub metadata: Metadata,
}

impl Record {
    pub fn new(id: IssueId, created_at: Option<&str>, metadata: Metadata) -> Self {
        let date = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
        Self {
            id,
            opened: created_at.and_then(date),
            closed: metadata.closed_at.as_deref().and_then(date),
            metadata,
        }
    }

    pub fn quarter(&self) -> Option<Quarter> {
        self.opened.map(Quarter::of)
    }
}

/// A quarter of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quarter {
    year: i32,
    quarter: u32,
}

impl Quarter {
    pub fn of(time: DateTime<Utc>) -> Self {
        Self {
            year: time.year(),
            quarter: time.month0() / 3 + 1,
        }
    }
}

impl std::fmt::Display for Quarter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-Q{}", self.year, self.quarter)
    }
}

/// An issue of the corpus with what is said of it.
pub struct Item<'a> {
    pub record: &'a Record,
    pub prediction: Option<&'a Prediction>,
    /// Unless its prediction came from a model that was trained on it.
    pub gold: Option<&'a Annotation>,
    /// Whether its prediction may stand for those of issues that no model was trained on.
    pub counts: bool,
}

/// The corpus, in the order of its files.
pub struct Sample<'a> {
    pub taxonomy: &'a Taxonomy,
    pub items: Vec<Item<'a>>,
    /// Whether gold issues have weights of their own.
    pub is_weighted: bool,
}

/// Which issues of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Part<'a> {
    pub repo: Option<&'a str>,
    pub quarter: Option<Quarter>,
}

impl<'a> Sample<'a> {
    pub fn new(
        taxonomy: &'a Taxonomy,
        records: &'a [Record],
        predictions: &'a HashMap<IssueId, Prediction>,
        gold: &'a [Annotation],
        memorised: &HashSet<IssueId>,
    ) -> Self {
        let gold: HashMap<&IssueId, &Annotation> = gold.iter().map(|a| (&a.id, a)).collect();
        let items: Vec<Item> = records
            .iter()
            .map(|record| {
                let counts = !memorised.contains(&record.id);
                Item {
                    record,
                    prediction: predictions.get(&record.id),
                    gold: gold.get(&record.id).copied().filter(|_| counts),
                    counts,
                }
            })
            .collect();
        let weights = items.iter().filter_map(|item| item.gold?.weight);
        let is_weighted = weights.count() > 0;
        Self {
            taxonomy,
            items,
            is_weighted,
        }
    }

    pub fn part(&self, part: Part<'_>) -> impl Iterator<Item = &Item<'a>> {
        self.items.iter().filter(move |item| {
            part.repo.is_none_or(|repo| item.record.id.repo == repo)
                && part
                    .quarter
                    .is_none_or(|quarter| item.record.quarter() == Some(quarter))
        })
    }

    pub fn gold(&self) -> impl Iterator<Item = (&Item<'a>, &'a Annotation)> {
        self.items
            .iter()
            .filter_map(|item| Some((item, item.gold?)))
    }

    /// The repositories with their numbers of issues and gold issues, by name.
    pub fn repositories(&self) -> BTreeMap<&'a str, (usize, usize)> {
        let mut repositories = BTreeMap::new();
        for item in &self.items {
            let counts: &mut (usize, usize) = repositories
                .entry(item.record.id.repo.as_str())
                .or_default();
            counts.0 += 1;
            counts.1 += usize::from(item.gold.is_some());
        }
        repositories
    }

    /// The quarters in which issues were opened, in their order.
    pub fn quarters(&self) -> Vec<Quarter> {
        let mut quarters: Vec<_> = self
            .items
            .iter()
            .filter_map(|item| item.record.quarter())
            .collect();
        quarters.sort_unstable();
        quarters.dedup();
        quarters
    }

    /// The answer to a question of a part of the corpus. `None` where gold cannot give one.
    ///
    /// Repositories are strata. Those with fewer than [`LEAST_GOLD`] gold issues are left out; within a
    /// quarter, where most are, they are put together, each gold issue standing for as many issues of its
    /// repository as there are to one.
    pub fn answer(
        &self,
        question: &Question,
        part: Part<'_>,
        coefficient: Coefficient,
        tuning: Tuning,
    ) -> Option<Fit> {
        fit(
            &self.strata(question, part, coefficient),
            coefficient,
            tuning,
        )
    }

    fn strata(
        &self,
        question: &Question,
        part: Part<'_>,
        coefficient: Coefficient,
    ) -> Vec<Stratum> {
        let mut strata: BTreeMap<&str, (f64, Stratum)> = BTreeMap::new();
        for item in self.part(part) {
            let Some(time) = self.time(item, coefficient) else {
                continue;
            };
            let (issues, stratum) = strata.entry(item.record.id.repo.as_str()).or_default();
            *issues += 1.0;
            // An issue that was not predicted counts as outside, on either side alike.
            let predicted = item.prediction.map_or_else(Default::default, |prediction| {
                question.of_prediction(self.taxonomy, prediction)
            });
            if let Some(gold) = item.gold {
                stratum.gold.push(Gold {
                    truth: question.of_annotation(gold),
                    predicted,
                    weight: gold.weight.unwrap_or(1.0),
                    time,
                });
            }
            // Issues that were drawn with other chances leave no random sample behind.
            if item.counts && (item.gold.is_none() || self.is_weighted) {
                stratum.unlabelled.push(Unlabelled { predicted, time });
            }
        }
        if part.quarter.is_some() {
            return pooled(strata.into_values());
        }
        let mut strata: Vec<(f64, Stratum)> = strata
            .into_values()
            .filter(|(_, stratum)| stratum.gold.len() >= LEAST_GOLD)
            .collect();
        let total: f64 = strata.iter().map(|(issues, _)| issues).sum();
        for (issues, stratum) in &mut strata {
            stratum.share = *issues / total;
        }
        strata.into_iter().map(|(_, stratum)| stratum).collect()
    }

    /// Years since 2020; only a slope needs it.
    fn time(&self, item: &Item<'_>, coefficient: Coefficient) -> Option<f64> {
        match coefficient {
            Coefficient::Share => Some(0.0),
            Coefficient::Slope => {
                let seconds = item.record.opened?.timestamp() as f64;
                Some((seconds - 1_577_836_800.0) / (365.25 * 86_400.0))
            }
        }
    }
}

/// One stratum of all, without those that have no gold; none if there is little gold in all.
fn pooled(strata: impl Iterator<Item = (f64, Stratum)>) -> Vec<Stratum> {
    let mut all = Stratum {
        share: 1.0,
        ..Stratum::default()
    };
    for (issues, stratum) in strata.filter(|(_, stratum)| !stratum.gold.is_empty()) {
        let total: f64 = stratum.gold.iter().map(|gold| gold.weight).sum();
        let gold = stratum.gold.into_iter();
        all.gold.extend(gold.map(|gold| Gold {
            weight: gold.weight / total * issues,
            ..gold
        }));
        all.unlabelled.extend(stratum.unlabelled);
    }
    match all.gold.len() >= LEAST_GOLD {
        true => vec![all],
        false => Vec::new(),
    }
}
