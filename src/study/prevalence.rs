//! Every label's share: in the corpus, by repository, by quarter; ranks, trends, differences.

use chrono::{DateTime, Utc};

use super::describe;
use super::estimate::{Coefficient, Fit, Tuning};
use super::findings::{Difference, Head, Interval, Label, RankSet, Shares, Trend};
use super::interval::{adjusted_count, difference, normal_cdf};
use super::question::Question;
use super::ranking::Ranking;
use super::sample::{LEAST_GOLD, Part, Sample};
use crate::eval::comparison::holm;

/// Gold issues in the domain that a trend needs.
const LEAST_GOLD_OF_TRENDS: f64 = 30.0;

impl Fit {
    pub fn share(&self) -> Interval {
        let (low, high) = self.share_interval();
        Interval {
            value: self.value.clamp(0.0, 1.0),
            low,
            high,
        }
    }
}

/// The answers to a question by every way to estimate, and the fit behind the one to use.
pub fn shares(sample: &Sample<'_>, question: &Question, part: Part<'_>) -> (Shares, Option<Fit>) {
    let answer = |tuning| sample.answer(question, part, Coefficient::Share, tuning);
    let fit = answer(Tuning::Best);
    let counts = Counts::of(sample, question, part);
    let shares = Shares {
        counted: counts.counted as usize,
        classify_and_count: (counts.domain > 0.0).then(|| counts.counted / counts.domain),
        adjusted_count: fit.as_ref().and_then(|_| counts.adjusted()),
        gold_alone: answer(Tuning::Fixed(0.0)).map(|fit| fit.share()),
        estimate: fit.as_ref().map(Fit::share),
        lambda: fit.as_ref().map(|fit| fit.lambda),
        gold_issues: counts.gold_domain as usize,
        gold_with_label: counts.gold_label as usize,
    };
    (shares, fit)
}

/// Predicted labels, and how they err on gold.
#[derive(Default)]
struct Counts {
    issues: f64,
    domain: f64,
    counted: f64,
    gold_domain: f64,
    gold_label: f64,
    /// Gold by truth (in or out) and prediction, for the label and for the domain.
    label: [[f64; 2]; 2],
    in_domain: [[f64; 2]; 2],
}

impl Counts {
    fn of(sample: &Sample<'_>, question: &Question, part: Part<'_>) -> Self {
        let mut counts = Self::default();
        for item in sample.part(part) {
            let Some(prediction) = item.prediction else {
                continue;
            };
            let predicted = question.of_predicted_labels(prediction);
            counts.issues += 1.0;
            counts.domain += predicted.domain;
            counts.counted += predicted.label;
            if let Some(gold) = item.gold {
                let truth = question.of_annotation(gold);
                let weight = gold.weight.unwrap_or(1.0);
                counts.label[truth.label as usize][predicted.label as usize] += weight;
                counts.in_domain[truth.domain as usize][predicted.domain as usize] += weight;
            }
        }
        let gold = sample.part(part).filter_map(|item| item.gold);
        for truth in gold.map(|gold| question.of_annotation(gold)) {
            counts.gold_domain += truth.domain;
            counts.gold_label += truth.label;
        }
        counts
    }

    fn adjusted(&self) -> Option<f64> {
        let rate = |row: [f64; 2]| (row[0] + row[1] > 0.0).then(|| row[1] / (row[0] + row[1]));
        let adjusted = |counted: f64, [out, within]: [[f64; 2]; 2]| {
            adjusted_count(counted / self.issues, rate(within)?, rate(out)?)
        };
        let label = adjusted(self.counted, self.label)?;
        if self.domain == self.issues {
            return Some(label);
        }
        let domain = adjusted(self.domain, self.in_domain)?;
        (domain > 0.0).then(|| (label / domain).min(1.0))
    }
}

/// The labels of a head.
pub fn head(sample: &Sample<'_>, head: usize, as_of: Option<DateTime<Utc>>, seed: u64) -> Head {
    let taxonomy = sample.taxonomy;
    let of = &taxonomy.heads[head];
    let everywhere = Part::default();
    let repositories = sample.repositories();
    let quarters = sample.quarters();
    let (mut labels, mut fits) = (Vec::new(), Vec::new());
    for (place, label) in of.labels.iter().enumerate() {
        let question = Question::of_label(taxonomy, head, place);
        let (share, fit) = shares(sample, &question, everywhere);
        let among_all = of.applies_when.as_ref().and_then(|_| {
            let question = question.clone().among_all();
            shares(sample, &question, everywhere).0.estimate
        });
        let by_repo = repositories.keys().map(|&repo| {
            let part = Part {
                repo: Some(repo),
                quarter: None,
            };
            (repo.to_owned(), shares(sample, &question, part).0)
        });
        let by_quarter = quarters.iter().map(|&quarter| {
            let part = Part {
                repo: None,
                quarter: Some(quarter),
            };
            (quarter.to_string(), shares(sample, &question, part).0)
        });
        let items = sample
            .items
            .iter()
            .filter(|item| describe::has(item, head, place));
        labels.push(Label {
            label: label.name.clone(),
            title: label.title.clone(),
            share,
            among_all,
            rank: None,
            trend: trend(sample, &question, everywhere),
            repositories: by_repo.collect(),
            quarters: by_quarter.collect(),
            survival: describe::days_open(items, as_of),
            typical: describe::typical(sample, head, place),
        });
        fits.push(fit);
    }
    if let Some(fits) = fits.into_iter().collect::<Option<Vec<Fit>>>() {
        let ranking = Ranking::new(&fits, seed);
        for (place, label) in labels.iter_mut().enumerate() {
            let rank = ranking.rank(place);
            label.rank = Some(RankSet {
                best: rank.best,
                worst: rank.worst,
                first: rank.first,
            });
        }
    }
    correct_trends(&mut labels);
    let names: Vec<&str> = repositories
        .iter()
        .filter(|(_, (_, gold))| *gold >= LEAST_GOLD)
        .map(|(&name, _)| name)
        .collect();
    Head {
        head: of.name.clone(),
        title: of.title.clone(),
        applies_when: of.applies_when.as_ref().map(|parent| {
            let on = &taxonomy.heads[parent.head];
            let labels = parent
                .labels
                .iter()
                .map(|&label| on.labels[label].name.as_str());
            format!("{} is {}", on.name, labels.collect::<Vec<_>>().join(" or "))
        }),
        differences: differences(&labels, &names),
        labels,
    }
}

pub fn trend(sample: &Sample<'_>, question: &Question, part: Part<'_>) -> Option<Trend> {
    let fit = sample.answer(question, part, Coefficient::Slope, Tuning::Best)?;
    // A label that gold hardly shows has no error to speak of.
    if fit.gold_domain < LEAST_GOLD_OF_TRENDS || fit.gold_label < 5.0 {
        return None;
    }
    let (low, high) = fit.normal_interval();
    let p = 2.0 * (1.0 - normal_cdf((fit.value / fit.error).abs()));
    Some(Trend {
        per_year: Interval {
            value: fit.value,
            low,
            high,
        },
        p,
        p_holm: p,
    })
}

fn correct_trends(labels: &mut [Label]) {
    let mut trends: Vec<&mut Trend> = labels.iter_mut().filter_map(|l| l.trend.as_mut()).collect();
    let p: Vec<f64> = trends.iter().map(|trend| trend.p).collect();
    for (trend, p) in trends.iter_mut().zip(holm(&p)) {
        trend.p_holm = p;
    }
}

fn differences(labels: &[Label], repositories: &[&str]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for label in labels {
        for (place, &first) in repositories.iter().enumerate() {
            for &second in &repositories[place + 1..] {
                let of = |repo: &str| label.repositories.get(repo)?.estimate;
                let (Some(a), Some(b)) = (of(first), of(second)) else {
                    continue;
                };
                let (value, low, high, p) =
                    difference((a.value, a.low, a.high), (b.value, b.low, b.high));
                differences.push(Difference {
                    label: label.label.clone(),
                    first: first.to_owned(),
                    second: second.to_owned(),
                    difference: Interval { value, low, high },
                    p,
                    p_holm: p,
                });
            }
        }
    }
    let p: Vec<f64> = differences.iter().map(|difference| difference.p).collect();
    for (difference, p) in differences.iter_mut().zip(holm(&p)) {
        difference.p_holm = p;
    }
    differences.sort_by(|a, b| a.p.total_cmp(&b.p));
    differences
}
