//! Whether one model agrees with gold more often than another.

use std::collections::BTreeMap;

use super::answers::Aligned;
use super::bootstrap::Bootstrap;
use super::metrics::ConfusionMatrix;
use super::report::{Comparison, Estimate, HeadComparison};
use super::{class, classes, figure, p_value};
use crate::annotation::Annotation;
use crate::taxonomy::Taxonomy;

/// A test below this is a difference shown.
const SIGNIFICANT: f64 = 0.05;

/// McNemar's exact test, two-sided: the probability that of `only_first + only_second` fair coins the
/// heads differ from the tails at least as much as the two counts do (McNemar 1947; the exact form is
/// the sign test). 1 without such issues.
pub fn mcnemar_exact(only_first: u64, only_second: u64) -> f64 {
    let n = (only_first + only_second) as f64;
    let least = only_first.min(only_second);
    // From the largest term of the tail down, each from the one before; the first in logarithms, since
    // 2^-n underflows.
    let k = least as f64;
    let binomial = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    let mut term = (binomial - n * std::f64::consts::LN_2).exp();
    let mut tail = 0.0;
    for k in (0..=least).rev() {
        tail += term;
        term *= k as f64 / (n - k as f64 + 1.0);
    }
    (2.0 * tail).min(1.0)
}

/// Adjusts p-values for that there are several, in their order (Holm 1979, A simple sequentially
/// rejective multiple test procedure).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        let p = (p_values.len() - rank) as f64 * p_values[index];
        largest = largest.max(p.min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

/// Compares every two models on the gold issues that both have predictions for.
pub(super) fn comparisons(
    taxonomy: &Taxonomy,
    gold: &[Annotation],
    models: &[Aligned],
    bootstrap: &Bootstrap,
) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for (i, first) in models.iter().enumerate() {
        for second in &models[i + 1..] {
            let both = first.places.iter().zip(&second.places);
            let heads = first.answers.heads.iter().copied();
            let heads = heads.filter(|head| second.answers.heads.contains(head));
            comparisons.push(Comparison {
                first: first.answers.name.clone(),
                second: second.answers.name.clone(),
                issues: both.filter(|(a, b)| a.is_some() && b.is_some()).count(),
                heads: heads
                    .map(|head| compare(taxonomy, head, gold, [first, second], bootstrap))
                    .collect(),
            });
        }
    }
    correct(&mut comparisons);
    comparisons
}

fn compare(
    taxonomy: &Taxonomy,
    head: usize,
    gold: &[Annotation],
    [first, second]: [&Aligned; 2],
    bootstrap: &Bootstrap,
) -> HeadComparison {
    let mut sorts: BTreeMap<[usize; 3], u64> = BTreeMap::new();
    for (issue, annotation) in gold.iter().enumerate() {
        let truth = class(taxonomy, head, annotation.labels[head]);
        if let (Some(a), Some(b)) = (first.answer(issue, head), second.answer(issue, head)) {
            *sorts.entry([truth, a.class, b.class]).or_default() += 1;
        }
    }
    let counts: Vec<u64> = sorts.values().copied().collect();
    let differences = |counts: &[u64]| {
        let mut first = ConfusionMatrix::new(classes(&taxonomy.heads[head]));
        let mut second = first.clone();
        for (&[truth, a, b], &count) in sorts.keys().zip(counts) {
            first.add(truth, a, count);
            second.add(truth, b, count);
        }
        let difference = |of: fn(&ConfusionMatrix) -> Option<f64>| Some(of(&first)? - of(&second)?);
        vec![
            difference(ConfusionMatrix::accuracy),
            difference(ConfusionMatrix::kappa),
            difference(|matrix| matrix.accuracy().map(|_| matrix.macro_f1())),
        ]
    };
    let estimates = bootstrap.estimate(&counts, differences);
    let right_alone = |party: usize, other: usize| {
        let alone = sorts
            .iter()
            .filter(|(sort, _)| sort[party] == sort[0] && sort[other] != sort[0]);
        alone.map(|(_, count)| count).sum::<u64>()
    };
    let (only_first, only_second) = (right_alone(1, 2), right_alone(2, 1));
    let p = mcnemar_exact(only_first, only_second);
    HeadComparison {
        head: taxonomy.heads[head].name.clone(),
        accuracy: estimates[0],
        kappa: estimates[1],
        macro_f1: estimates[2],
        only_first,
        only_second,
        p,
        p_holm: p,
        verdict: String::new(),
    }
}

/// Corrects all p-values together and draws the verdicts.
fn correct(comparisons: &mut [Comparison]) {
    let tests = comparisons.iter().flat_map(|comparison| &comparison.heads);
    let adjusted = holm(&tests.map(|head| head.p).collect::<Vec<_>>());
    let tests = adjusted.len();
    let mut adjusted = adjusted.into_iter();
    for Comparison {
        first,
        second,
        heads,
        ..
    } in comparisons
    {
        for head in heads {
            head.p_holm = adjusted.next().unwrap_or(1.0);
            head.verdict = verdict(first, second, head, tests);
        }
    }
}

fn verdict(first: &str, second: &str, head: &HeadComparison, tests: usize) -> String {
    let name = &head.head;
    let corrected = match tests {
        1 => String::new(),
        n => format!(", corrected for {n} tests"),
    };
    if head.p_holm < SIGNIFICANT {
        let (better, worse) = if head.only_first > head.only_second {
            (first, second)
        } else {
            (second, first)
        };
        let p = p_value(head.p_holm);
        return format!(
            "{better} agrees with gold more often than {worse} on {name} ({p}{corrected})"
        );
    }
    if head.only_first + head.only_second == 0 {
        return format!("no difference on {name}: both are right on the same issues");
    }
    let p = p_value(head.p_holm);
    match head.accuracy {
        Estimate {
            low: Some(low),
            high: Some(high),
            ..
        } => {
            let uncorrected = match low > 0.0 || high < 0.0 {
                true => ", which is for this difference alone,",
                false => "",
            };
            format!(
                "no difference shown on {name} ({p}{corrected}): the interval of the difference in \
                 accuracy{uncorrected} is [{}, {}]",
                figure(low),
                figure(high)
            )
        }
        _ => format!("no difference shown on {name} ({p}{corrected})"),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Fixture {
        mcnemar: Vec<(u64, u64, f64)>,
        holm: Vec<(Vec<f64>, Vec<f64>)>,
    }

    #[test]
    fn tests_and_their_correction_are_those_of_statsmodels() {
        let fixture: Fixture =
            serde_json::from_str(include_str!("../../tests/fixtures/comparison.json")).unwrap();
        assert!(fixture.mcnemar.len() >= 200 && fixture.holm.len() >= 200);
        for (first, second, expected) in fixture.mcnemar {
            let p = mcnemar_exact(first, second);
            assert!(
                (p - expected).abs() < 1e-9,
                "{first}, {second}: {p}, not {expected}"
            );
        }
        for (p_values, expected) in fixture.holm {
            for (ours, theirs) in holm(&p_values).iter().zip(&expected) {
                assert!(
                    (ours - theirs).abs() < 1e-9,
                    "{p_values:?}: {ours}, not {theirs}"
                );
            }
        }
    }

    fn head(only_first: u64, only_second: u64, tests: usize) -> String {
        let p = mcnemar_exact(only_first, only_second);
        let difference = (only_first as f64 - only_second as f64) / 400.0;
        let comparison = HeadComparison {
            head: "category".into(),
            accuracy: Estimate {
                value: Some(difference),
                low: Some(difference - 0.02),
                high: Some(difference + 0.02),
            },
            kappa: Estimate::default(),
            macro_f1: Estimate::default(),
            only_first,
            only_second,
            p,
            p_holm: (p * tests as f64).min(1.0),
            verdict: String::new(),
        };
        verdict("new", "old", &comparison, tests)
    }

    #[test]
    fn a_verdict_says_no_more_than_the_test() {
        assert_eq!(
            head(30, 8, 1),
            "new agrees with gold more often than old on category (p < 0.001)"
        );
        assert_eq!(
            head(9, 21, 1),
            "old agrees with gold more often than new on category (p = 0.043)"
        );
        assert_eq!(
            head(9, 21, 3),
            "no difference shown on category (p = 0.13, corrected for 3 tests): the interval of the \
             difference in accuracy, which is for this difference alone, is [-0.050, -0.010]"
        );
        assert_eq!(
            head(10, 12, 1),
            "no difference shown on category (p = 0.83): the interval of the difference in accuracy is \
             [-0.025, 0.015]"
        );
        assert_eq!(
            head(0, 0, 1),
            "no difference on category: both are right on the same issues"
        );
    }
}
