//! Estimates against the reference packages (scripts/make-study-fixtures.py), and what they promise.

use std::slice;

use serde_json::Value;

use super::estimate::*;
use super::interval::*;
use super::ranking::Ranking;
use super::survival::survival;
use crate::eval::comparison::holm;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/study.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

fn of(label: f64) -> Membership {
    Membership { label, domain: 1.0 }
}

/// A stratum of a label among all issues.
fn stratum(truth: &[f64], predicted: &[f64], unlabelled: &[f64]) -> Stratum {
    let gold = truth
        .iter()
        .zip(predicted)
        .map(|(&truth, &predicted)| Gold {
            truth: of(truth),
            predicted: of(predicted),
            weight: 1.0,
            time: 0.0,
        });
    let unlabelled = unlabelled.iter().map(|&predicted| Unlabelled {
        predicted: of(predicted),
        time: 0.0,
    });
    Stratum {
        share: 1.0,
        gold: gold.collect(),
        unlabelled: unlabelled.collect(),
    }
}

fn cases() -> Vec<(Value, Stratum)> {
    let means = fixture()["means"].as_array().unwrap().clone();
    let stratum = |case: &Value| {
        let [truth, predicted, unlabelled] =
            ["truth", "predicted", "unlabelled"].map(|name| numbers(&case[name]));
        stratum(&truth, &predicted, &unlabelled)
    };
    means
        .into_iter()
        .map(|case| (case.clone(), stratum(&case)))
        .collect()
}

#[test]
fn shares_lambdas_and_normal_intervals_are_those_of_ppi_py() {
    for (case, stratum) in cases() {
        let fit = fit(slice::from_ref(&stratum), Coefficient::Share, Tuning::Best).unwrap();
        close(fit.lambda, case["lambda"].as_f64().unwrap());
        close(fit.value, case["value"].as_f64().unwrap());
        close(
            fit.value - Z * fit.normal_error,
            case["low"].as_f64().unwrap(),
        );
        close(
            fit.value + Z * fit.normal_error,
            case["high"].as_f64().unwrap(),
        );
        let alone =
            super::estimate::fit(&[stratum], Coefficient::Share, Tuning::Fixed(0.0)).unwrap();
        let classical = numbers(&case["classical"]);
        close(alone.value - Z * alone.normal_error, classical[0]);
        close(alone.value + Z * alone.normal_error, classical[1]);
    }
}

#[test]
fn a_stratum_cut_in_two_alike_halves_is_the_whole_but_for_lost_degrees_of_freedom() {
    let (_, whole) = cases().remove(0);
    let halves: Vec<Stratum> = (0..2)
        .map(|_| Stratum {
            share: 0.5,
            ..whole.clone()
        })
        .collect();
    let one = fit(&[whole], Coefficient::Share, Tuning::Best).unwrap();
    let two = fit(&halves, Coefficient::Share, Tuning::Best).unwrap();
    close(two.value, one.value);
    close(two.lambda, one.lambda);
    close(two.normal_error, one.normal_error / 2f64.sqrt());
}

#[test]
fn the_influences_make_up_the_error() {
    for (_, stratum) in cases() {
        let fit = fit(&[stratum], Coefficient::Share, Tuning::Best).unwrap();
        let squares: f64 = fit.influence.iter().map(|x| x * x).sum();
        close(squares.sqrt(), fit.error);
        assert!(
            fit.error > fit.normal_error,
            "{} {}",
            fit.error,
            fit.normal_error
        );
    }
}

#[test]
fn a_share_within_a_domain_is_the_share_among_all_over_that_of_the_domain_when_predictions_say_nothing()
 {
    let gold = |label: f64, domain: f64| Gold {
        truth: Membership { label, domain },
        predicted: Membership {
            label: 0.2,
            domain: 0.5,
        },
        weight: 1.0,
        time: 0.0,
    };
    let mut issues = vec![gold(1.0, 1.0); 6];
    issues.extend(vec![gold(0.0, 1.0); 14]);
    issues.extend(vec![gold(0.0, 0.0); 20]);
    let unlabelled = Unlabelled {
        predicted: Membership {
            label: 0.2,
            domain: 0.5,
        },
        time: 0.0,
    };
    let stratum = Stratum {
        share: 1.0,
        gold: issues,
        unlabelled: vec![unlabelled; 100],
    };
    let fit = fit(&[stratum], Coefficient::Share, Tuning::Best).unwrap();
    close(fit.value, 0.3);
    assert_eq!(fit.lambda, 0.0);
    // As if the 20 issues of the domain were all there were.
    close(fit.normal_error, (0.3f64 * 0.7 / 20.0).sqrt());
}

#[test]
fn a_slope_by_gold_alone_is_that_of_least_squares() {
    let times = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5];
    let labels = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0];
    let gold = times.iter().zip(labels).map(|(&time, label)| Gold {
        truth: of(label),
        predicted: of(0.5),
        weight: 1.0,
        time,
    });
    let stratum = Stratum {
        share: 1.0,
        gold: gold.collect(),
        unlabelled: Vec::new(),
    };
    let fit = fit(&[stratum], Coefficient::Slope, Tuning::Best).unwrap();
    // The sum of (t - mean) y over that of (t - mean)².
    close(fit.value, 2.5 / 10.5);
}

#[test]
fn a_label_that_gold_never_shows_has_the_interval_of_its_count() {
    let stratum = stratum(&[0.0; 50], &[0.01; 50], &[0.02; 500]);
    let fit = fit(&[stratum], Coefficient::Share, Tuning::Best).unwrap();
    let (low, high) = fit.share_interval();
    assert_eq!(low, 0.0);
    close(high, wilson(0.0, 50.0).1);
    assert!(fit.cautious_error() > 0.01);
}

#[test]
fn too_little_gives_no_estimate() {
    let none = |strata: &[Stratum]| fit(strata, Coefficient::Share, Tuning::Best).is_none();
    assert!(none(&[]));
    assert!(none(&[stratum(&[1.0], &[1.0], &[0.5; 10])]));
    let same_time = stratum(&[1.0, 0.0], &[1.0, 0.0], &[]);
    assert!(fit(&[same_time], Coefficient::Slope, Tuning::Best).is_none());
}

#[test]
fn wilson_and_holm_are_those_of_statsmodels() {
    for case in fixture()["wilson"].as_array().unwrap() {
        let [share, issues, low, high] = numbers(case)[..] else {
            panic!("{case}")
        };
        let found = wilson(share, issues);
        close(found.0, low);
        close(found.1, high);
    }
    let corrected = holm(&numbers(&fixture()["holm"]["p"]));
    for (found, expected) in corrected
        .iter()
        .zip(numbers(&fixture()["holm"]["corrected"]))
    {
        close(*found, expected);
    }
}

#[test]
fn survival_is_that_of_statsmodels() {
    for case in fixture()["survival"].as_array().unwrap() {
        let closed = case["closed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.as_bool().unwrap());
        let times = numbers(&case["days"]).into_iter().zip(closed).collect();
        let found = survival(times);
        close(found.median.unwrap(), case["median"].as_f64().unwrap());
        for step in &found.steps {
            let times = numbers(&case["times"]);
            let place = times.iter().position(|&time| time == step.days).unwrap();
            close(step.open, case["open"][place].as_f64().unwrap());
            let Some(error) = case["errors"][place].as_f64() else {
                continue;
            };
            if step.open > 0.0 {
                // The error of log(-log(open)) by the delta method.
                let half = Z * error / (step.open * step.open.ln().abs());
                close(step.low, step.open.powf(half.exp()));
                close(step.high, step.open.powf((-half).exp()));
            }
        }
        assert_eq!(found.steps.len(), case["times"].as_array().unwrap().len());
    }
}

#[test]
fn nobody_is_closed_where_all_are_open_and_no_issue_has_no_curve() {
    let open = survival(vec![(1.0, false), (2.0, false)]);
    assert_eq!((open.median, open.steps.len(), open.issues), (None, 0, 2));
    assert_eq!(survival(Vec::new()).issues, 0);
}

#[test]
fn a_label_far_ahead_is_first_and_two_alike_may_be_either() {
    // 60 %, 20 % and 20 % of 200 gold issues.
    let label = |of: std::ops::Range<usize>| {
        let truth: Vec<f64> = (0..200).map(|i| f64::from(of.contains(&i))).collect();
        let stratum = stratum(&truth, &[0.3; 200], &[0.3; 20]);
        fit(&[stratum], Coefficient::Share, Tuning::Best).unwrap()
    };
    let ranking = Ranking::new(&[label(0..120), label(120..160), label(160..200)], 0);
    let ranks: Vec<(usize, usize)> = (0..3)
        .map(|l| (ranking.rank(l).best, ranking.rank(l).worst))
        .collect();
    assert_eq!(ranks, [(1, 1), (2, 3), (2, 3)]);
    assert!(ranking.rank(0).first > 0.999 && ranking.rank(1).first < 0.001);
}

#[test]
fn a_difference_has_newcombes_interval() {
    // Newcombe 1998, table II (a): 56/70 against 48/80 by method 10 is 0.2 [0.0524, 0.3339].
    let of = |count: f64, issues: f64| {
        let (low, high) = wilson(count / issues, issues);
        (count / issues, low, high)
    };
    let (value, low, high, p) = difference(of(56.0, 70.0), of(48.0, 80.0));
    assert!((value - 0.2).abs() < 1e-9);
    assert!(
        (low - 0.0524).abs() < 1e-4 && (high - 0.3339).abs() < 1e-4,
        "{low} {high}"
    );
    assert!(p < 0.05 && p > 0.001);
}
