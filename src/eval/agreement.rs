//! How annotators agree with each other, and models with them.

use std::collections::BTreeMap;

use super::answers::Aligned;
use super::bootstrap::Bootstrap;
use super::gold::Annotator;
use super::metrics::ConfusionMatrix;
use super::report::{Annotators, Estimate, HeadAnnotators, ModelAsAnnotator, Pair};
use super::{class, classes, figure};
use crate::taxonomy::{Head, Taxonomy};

/// Krippendorff's alpha for nominal labels, `1 - D_o / D_e`, at most 1: agreement beyond chance of any
/// number of annotators (Krippendorff 2004, Content analysis, chapter 11).
///
/// A unit has an entry an annotator, `None` where that annotator gave no label, and comes as many times
/// as its count says; units with fewer than two labels do not count. `None` without such units, or if
/// they have one and the same label throughout.
pub fn krippendorff_alpha<'a>(
    units: impl Iterator<Item = (&'a [Option<usize>], u64)>,
    labels: usize,
) -> Option<f64> {
    let mut totals = vec![0.0; labels];
    let mut observed = 0.0;
    let mut counts = vec![0u32; labels];
    for (unit, times) in units {
        counts.fill(0);
        for &label in unit.iter().flatten() {
            counts[label] += 1;
        }
        let given = counts.iter().sum::<u32>();
        if given < 2 {
            continue;
        }
        let (given, times) = (f64::from(given), times as f64);
        for (total, &count) in totals.iter_mut().zip(&counts) {
            let count = f64::from(count);
            *total += times * count;
            observed += times * count * (given - count) / (given - 1.0);
        }
    }
    let n: f64 = totals.iter().sum();
    let expected: f64 = totals.iter().map(|&count| count * (n - count)).sum();
    (expected > 0.0).then(|| 1.0 - (n - 1.0) * observed / expected)
}

/// Annotators, and models beside them, on the gold issues. `None` for fewer than two annotators.
pub(super) fn agreement(
    taxonomy: &Taxonomy,
    annotators: &[Annotator],
    models: &[Aligned],
    bootstrap: &Bootstrap,
) -> Option<Annotators> {
    if annotators.len() < 2 {
        return None;
    }
    let heads = (0..taxonomy.heads.len())
        .map(|head| HeadUnits::new(taxonomy, head, annotators, models).evaluate(bootstrap));
    Some(Annotators {
        names: annotators.iter().map(|a| a.name.clone()).collect(),
        heads: heads.collect(),
    })
}

/// What annotators and models say of one head: the distinct combinations of their labels, and how
/// often each occurs. Annotators come first in a combination, then models.
struct HeadUnits<'a> {
    head: &'a Head,
    units: Vec<Vec<Option<usize>>>,
    counts: Vec<u64>,
    annotators: Vec<&'a str>,
    models: Vec<&'a str>,
}

impl<'a> HeadUnits<'a> {
    fn new(
        taxonomy: &'a Taxonomy,
        head: usize,
        annotators: &'a [Annotator],
        models: &'a [Aligned],
    ) -> Self {
        let models = models
            .iter()
            .filter(|model| model.answers.heads.contains(&head));
        let names = models.clone().map(|model| model.answers.name.as_str());
        let mut units: BTreeMap<Vec<Option<usize>>, u64> = BTreeMap::new();
        for issue in 0..annotators[0].labels.len() {
            let read = annotators.iter().map(|annotator| {
                let labels = annotator.labels[issue].as_ref()?;
                Some(class(taxonomy, head, labels[head]))
            });
            let answered = models
                .clone()
                .map(|model| Some(model.answer(issue, head)?.class));
            *units.entry(read.chain(answered).collect()).or_default() += 1;
        }
        let (units, counts) = units.into_iter().unzip();
        Self {
            head: &taxonomy.heads[head],
            units,
            counts,
            annotators: annotators.iter().map(|a| a.name.as_str()).collect(),
            models: names.collect(),
        }
    }

    fn evaluate(&self, bootstrap: &Bootstrap) -> HeadAnnotators {
        let estimates = bootstrap.estimate(&self.counts, |counts| self.figures(counts));
        let mut estimates = estimates.into_iter();
        let mut next = || estimates.next().unwrap_or_default();
        let alpha = next();
        let pair = |a: usize, b: usize, next: &mut dyn FnMut() -> Estimate| Pair {
            first: self.party(a).to_owned(),
            second: self.party(b).to_owned(),
            issues: self.matrix(&self.counts, a, b, None).total() as usize,
            accuracy: next(),
            kappa: next(),
        };
        let pairs = self.annotator_pairs();
        let pairs = pairs.map(|(a, b)| pair(a, b, &mut next)).collect();
        let models = (0..self.models.len()).map(|model| {
            let with = self.annotators.len() + model;
            let pairs =
                (0..self.annotators.len()).map(|annotator| pair(with, annotator, &mut next));
            let pairs = pairs.collect();
            let difference = next();
            ModelAsAnnotator {
                model: self.models[model].to_owned(),
                pairs,
                difference,
                verdict: verdict(&difference),
            }
        });
        let models = models.collect();
        let read_twice =
            |unit: &[Option<usize>]| unit[..self.annotators.len()].iter().flatten().count() >= 2;
        let issues = self.units.iter().zip(&self.counts);
        HeadAnnotators {
            head: self.head.name.clone(),
            title: self.head.title.clone(),
            alpha,
            issues: issues
                .filter(|(unit, _)| read_twice(unit))
                .map(|(_, &count)| count as usize)
                .sum(),
            pairs,
            models,
        }
    }

    /// The figures in the order in which `evaluate` takes them.
    fn figures(&self, counts: &[u64]) -> Vec<Option<f64>> {
        let annotators = self.annotators.len();
        let read = self.units.iter().map(|unit| &unit[..annotators]);
        let mut figures = vec![krippendorff_alpha(
            read.zip(counts.iter().copied()),
            classes(self.head),
        )];
        for (a, b) in self.annotator_pairs() {
            let matrix = self.matrix(counts, a, b, None);
            figures.extend([matrix.accuracy(), matrix.kappa()]);
        }
        for model in annotators..annotators + self.models.len() {
            let mut with_annotators = Vec::new();
            for annotator in 0..annotators {
                let matrix = self.matrix(counts, model, annotator, None);
                figures.extend([matrix.accuracy(), matrix.kappa()]);
                with_annotators.push(matrix.kappa());
            }
            let among_annotators = self
                .annotator_pairs()
                .map(|(a, b)| self.matrix(counts, a, b, Some(model)).kappa());
            let mean = |kappas: Vec<Option<f64>>| {
                let count = kappas.len() as f64;
                kappas
                    .into_iter()
                    .sum::<Option<f64>>()
                    .map(|sum| sum / count)
            };
            let difference = mean(with_annotators).zip(mean(among_annotators.collect()));
            figures.push(difference.map(|(model, annotators)| model - annotators));
        }
        figures
    }

    fn annotator_pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let annotators = self.annotators.len();
        (0..annotators).flat_map(move |a| (a + 1..annotators).map(move |b| (a, b)))
    }

    fn party(&self, party: usize) -> &str {
        match party.checked_sub(self.annotators.len()) {
            None => self.annotators[party],
            Some(model) => self.models[model],
        }
    }

    /// The labels of two parties on the issues that both, and `also`, labelled.
    fn matrix(&self, counts: &[u64], a: usize, b: usize, also: Option<usize>) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(classes(self.head));
        for (unit, &count) in self.units.iter().zip(counts) {
            if let (Some(a), Some(b)) = (unit[a], unit[b])
                && also.is_none_or(|party| unit[party].is_some())
            {
                matrix.add(a, b, count);
            }
        }
        matrix
    }
}

/// What the difference between a model's kappa with annotators and theirs among each other says.
fn verdict(difference: &Estimate) -> String {
    let Estimate {
        value: Some(value),
        low: Some(low),
        high: Some(high),
    } = *difference
    else {
        return "nothing can be said: the difference has no interval".into();
    };
    let by = format!(
        "kappa differs by {} [{}, {}]",
        figure(value),
        figure(low),
        figure(high)
    );
    if high < 0.0 {
        format!("agrees with the annotators less than they do with each other: {by}")
    } else if low > 0.0 {
        format!("agrees with the annotators more than they do with each other: {by}")
    } else {
        format!("no difference from a further annotator shown: {by}")
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::eval::fixture::{aligned, answers, labels, taxonomy};

    #[derive(Deserialize)]
    struct Case {
        name: String,
        labels: usize,
        units: Vec<Vec<Option<usize>>>,
        alpha: Option<f64>,
    }

    #[test]
    fn alpha_is_that_of_the_reference_implementation() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/fixtures/alpha.json")).unwrap();
        assert_eq!(cases.len(), 200);
        for case in cases {
            let units = case.units.iter().map(|unit| (unit.as_slice(), 1));
            let alpha = krippendorff_alpha(units, case.labels);
            let same = match (alpha, case.alpha) {
                (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-9,
                (ours, theirs) => ours == theirs,
            };
            assert!(same, "{}: {alpha:?}, not {:?}", case.name, case.alpha);
        }
    }

    #[test]
    fn a_unit_counts_as_often_as_its_count_says() {
        let units: [&[Option<usize>]; 3] = [
            &[Some(0), Some(0)],
            &[Some(1), Some(0)],
            &[Some(1), Some(1)],
        ];
        let counted = krippendorff_alpha(units.iter().copied().zip([3, 1, 2]), 2);
        let repeated = [0, 0, 0, 1, 2, 2].map(|unit| (units[unit], 1));
        assert_eq!(counted, krippendorff_alpha(repeated.into_iter(), 2));
    }

    /// Two annotators who differ on every tenth of 400 issues, and a model that says what `model` makes
    /// of an issue's number and the first one's label, on the issues that it has.
    fn beside(model: impl Fn(usize, usize) -> Option<usize>) -> HeadAnnotators {
        let label = |kind: usize| {
            if kind == 0 {
                "bug memory unknown"
            } else {
                "feature"
            }
        };
        let annotator = |name: &str, kind: fn(usize) -> usize| Annotator {
            name: name.into(),
            labels: (1..=400)
                .map(|issue| Some(labels(label(kind(issue)))))
                .collect(),
        };
        let annotators = [
            annotator("first reading", |issue| issue % 2),
            annotator("second reading", |issue| {
                (issue + usize::from(issue % 10 == 0)) % 2
            }),
        ];
        let says = |issue| (model(issue, issue % 2).map_or("", label), 0.9);
        let answers = answers("m", &(1..=400).map(says).collect::<Vec<_>>());
        let bootstrap = Bootstrap {
            resamples: 500,
            seed: 1,
        };
        let taxonomy = taxonomy();
        HeadUnits::new(&taxonomy, 0, &annotators, &[aligned(&answers, 400)]).evaluate(&bootstrap)
    }

    #[test]
    fn a_model_that_errs_often_agrees_less_than_annotators_do() {
        let often = beside(|issue, first| Some(if issue % 3 == 1 { 1 - first } else { first }));
        let model = &often.models[0];
        assert!(model.difference.high.unwrap() < 0.0);
        assert!(
            model.verdict.starts_with("agrees with the annotators less"),
            "{}",
            model.verdict
        );
        assert!((often.pairs[0].accuracy.value.unwrap() - 0.9).abs() < 1e-12);
        assert!((often.pairs[0].kappa.value.unwrap() - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_model_that_errs_as_an_annotator_does_shows_no_difference() {
        let alike = beside(|issue, first| Some(if issue % 20 == 3 { 1 - first } else { first }));
        let model = &alike.models[0];
        assert_eq!(
            (
                model.pairs[0].first.as_str(),
                model.pairs[0].second.as_str()
            ),
            ("m", "first reading")
        );
        assert!((model.pairs[0].accuracy.value.unwrap() - 0.95).abs() < 1e-12);
        assert!(
            model.verdict.starts_with("no difference"),
            "{}",
            model.verdict
        );
    }

    #[test]
    fn annotators_are_compared_on_the_issues_that_the_model_has() {
        // It has the issues on which the annotators agree, and errs on some of them.
        let some = beside(|issue, first| {
            let says = if issue % 7 == 1 { 1 - first } else { first };
            (issue % 10 != 0).then_some(says)
        });
        assert_eq!((some.issues, some.pairs[0].issues), (400, 400));
        let model = &some.models[0];
        assert_eq!(model.pairs[0].issues, 360);
        let with_annotators = model.pairs[0].kappa.value.unwrap();
        assert!((model.difference.value.unwrap() - (with_annotators - 1.0)).abs() < 1e-12);
    }
}
