use super::*;
use crate::eval::check::{CheckError, check};
use crate::eval::fixture::{answers, gold, id, labels, labels_only, taxonomy};

const GOLD: [&str; 6] = [
    "bug memory naïveté",
    "bug memory unknown",
    "bug gpu unknown",
    "bug gpu unknown",
    "feature",
    "feature",
];

/// Right, wrong cause, wrong category, taken for a feature, right, taken for a bug.
const ANSWERS: [(&str, f32); 6] = [
    ("bug memory naïveté", 0.9),
    ("bug memory naïveté", 0.8),
    ("bug memory unknown", 0.95),
    ("feature", 0.7),
    ("feature", 0.6),
    ("bug gpu unknown", 0.65),
];

fn bootstrap() -> Bootstrap {
    Bootstrap {
        resamples: 200,
        seed: 3,
    }
}

fn report_with(
    gold: &GoldFile,
    answers: &[Answers],
    dates: &[(usize, &str)],
) -> Result<Report, EvalError> {
    let created_at = dates
        .iter()
        .map(|&(number, date)| (id(number), date.to_owned()));
    let inputs = Inputs {
        taxonomy: &taxonomy(),
        gold,
        answers,
        annotators: &gold.readings(),
        created_at: &created_at.collect(),
    };
    evaluate(inputs, &bootstrap())
}

fn report(model: Answers) -> Report {
    report_with(&gold(&GOLD), &[model], &[]).unwrap()
}

fn evaluation(model: Answers) -> Evaluation {
    report(model).models.remove(0)
}

fn close(estimate: Estimate, expected: f64) {
    let value = estimate.value.unwrap();
    assert!((value - expected).abs() < 1e-12, "{value}, not {expected}");
    if let (Some(low), Some(high)) = (estimate.low, estimate.high) {
        assert!(low <= value && value <= high, "{estimate:?}");
    }
}

#[test]
fn over_all_issues_none_is_a_label_like_any_other() {
    let model = evaluation(answers("m", &ANSWERS));
    let category = &model.heads[1].all;
    assert_eq!(category.labels, ["memory", "gpu", "none"]);
    assert_eq!(category.confusion, [[2, 0, 0], [1, 0, 1], [0, 1, 1]]);
    assert_eq!(category.issues, 6);
    close(category.accuracy, 0.5);
    close(category.macro_f1, (2.0 * 2.0 / 5.0 + 0.0 + 0.5) / 3.0);
    let names: Vec<&str> = category
        .per_label
        .iter()
        .map(|label| label.label.as_str())
        .collect();
    assert_eq!(names, ["memory", "gpu", "none"]);
    assert_eq!(
        (
            category.per_label[0].support,
            category.per_label[0].predicted
        ),
        (2, 3)
    );
}

#[test]
fn where_a_head_applies_none_is_a_wrong_answer_and_no_label_of_averages() {
    let model = evaluation(answers("m", &ANSWERS));
    assert_eq!(model.heads[0].applicable, None);
    let category = model.heads[1].applicable.as_ref().unwrap();
    assert_eq!(category.issues, 4);
    assert_eq!(category.confusion, [[2, 0, 0], [1, 0, 1], [0, 0, 0]]);
    close(category.accuracy, 0.5);
    close(category.balanced_accuracy, 0.5);
    close(category.macro_f1, (0.8 + 0.0) / 2.0);
    // Four true and three predicted labels, two of them right.
    close(category.micro_f1, 4.0 / 7.0);
    close(category.weighted_f1, 0.4);
    let names: Vec<&str> = category
        .per_label
        .iter()
        .map(|label| label.label.as_str())
        .collect();
    assert_eq!(names, ["memory", "gpu"]);
}

#[test]
fn an_issue_counts_as_right_only_if_every_head_is() {
    let model = evaluation(answers("m", &ANSWERS));
    close(model.joint_accuracy, 2.0 / 6.0);
    let kind_only = evaluation(labels_only(answers("m", &ANSWERS), 1));
    close(kind_only.joint_accuracy, 4.0 / 6.0);
}

#[test]
fn every_figure_that_varies_has_an_interval_around_it() {
    let model = evaluation(answers("m", &ANSWERS));
    let all = &model.heads[2].all;
    for estimate in [
        all.accuracy,
        all.kappa,
        all.macro_f1,
        all.weighted_f1,
        all.matthews,
    ] {
        let (low, high) = (estimate.low.unwrap(), estimate.high.unwrap());
        assert!(low < high && (low..=high).contains(&estimate.value.unwrap()));
    }
}

#[test]
fn what_is_left_out_is_counted_with_its_reason() {
    let mut model = answers(
        "m",
        &[
            ANSWERS[0],
            ("", 0.0),
            ANSWERS[2],
            ANSWERS[3],
            ("", 0.0),
            ("", 0.0),
            ANSWERS[4],
        ],
    );
    let reason = "predictions of \"oom\", no label of category";
    model.unusable = vec![(id(5), reason.into()), (id(99), reason.into())];
    let model = evaluation(model);
    assert_eq!(model.issues, 3);
    assert_eq!(model.heads[0].all.issues, 3);
    let told: Vec<_> = model
        .left_out
        .iter()
        .map(|out| (out.reason.as_str(), out.count, out.examples.join(" ")))
        .collect();
    assert_eq!(
        told,
        [
            (
                "gold issues without a prediction",
                2,
                "ada/engine#2 ada/engine#6".to_owned()
            ),
            (
                "predictions of issues that are not in gold",
                1,
                "bob/kernel#7".into()
            ),
            (reason, 1, "bob/kernel#5".into()),
        ]
    );
}

#[test]
fn answers_that_would_mislead_are_refused() {
    let error = |models: &[Answers]| {
        report_with(&gold(&GOLD), models, &[])
            .unwrap_err()
            .to_string()
    };
    let mut elsewhere = answers("m", &ANSWERS);
    for issue in &mut elsewhere.issues {
        issue.id.number += 100;
    }
    assert_eq!(
        error(&[elsewhere]),
        "m: none of its 6 predictions that can be used is of a gold issue; gold.jsonl has issues such \
         as bob/kernel#1"
    );
    let mut twice = answers("m", &ANSWERS);
    twice.issues.push(twice.issues[2].clone());
    assert_eq!(
        error(&[twice]),
        "m: bob/kernel#3 is predicted twice; keep one of the two"
    );
    let mut unusable_too = answers("m", &ANSWERS);
    unusable_too
        .unusable
        .push((id(4), "predictions without kind".into()));
    assert_eq!(
        error(&[unusable_too]),
        "m: ada/engine#4 is predicted twice; keep one of the two"
    );
    let model = answers("m", &ANSWERS);
    assert!(error(&[model.clone(), model]).starts_with("two models are called m"));
}

#[test]
fn errors_come_the_most_probable_first_and_without_those_that_follow_from_another() {
    let model = evaluation(answers("m", &ANSWERS));
    let errors: Vec<_> = model
        .errors
        .iter()
        .map(|e| {
            (
                e.issue.number,
                e.head.as_str(),
                e.truth.as_str(),
                e.predicted.as_str(),
            )
        })
        .collect();
    // Of the two issues of the wrong kind, category and cause are not listed again.
    assert_eq!(
        errors,
        [
            (3, "category", "gpu", "memory"),
            (2, "root_cause", "unknown", "naïveté"),
            (4, "kind", "bug", "feature"),
            (6, "kind", "feature", "bug"),
        ]
    );
    let first = &model.errors[0];
    assert_eq!(
        first.url.as_deref(),
        Some("https://github.com/bob/kernel/issues/3")
    );
    assert_eq!(
        (first.probability, first.truth_probability),
        (Some(0.95), Some(0.025))
    );
}

#[test]
fn confused_pairs_come_the_most_frequent_first() {
    let model = evaluation(answers("m", &ANSWERS));
    let confused: Vec<_> = model.heads[2]
        .confused
        .iter()
        .map(|pair| (pair.truth.as_str(), pair.predicted.as_str(), pair.count))
        .collect();
    assert_eq!(
        confused,
        [
            ("unknown", "naïveté", 1),
            ("unknown", "none", 1),
            ("none", "unknown", 1)
        ]
    );
}

#[test]
fn groups_are_by_repository_month_and_confidence_as_far_as_these_are_known() {
    let mut gold = gold(&GOLD);
    gold.annotations[0].confidence = Some(Confidence::High);
    gold.annotations[1].confidence = Some(Confidence::Low);
    gold.annotations[2].confidence = Some(Confidence::Low);
    let dates = [
        (1, "2024-05-17T09:30:00Z"),
        (2, "2023-11-01"),
        (3, "2024-05-01T00:00:00Z"),
        (4, "17 May 2024"),
        (5, "5"),
    ];
    let report = report_with(&gold, &[answers("m", &ANSWERS)], &dates).unwrap();
    let groups: Vec<_> = report.models[0]
        .groups
        .iter()
        .map(|group| (group.by, group.name.as_str(), group.issues))
        .collect();
    assert_eq!(
        groups,
        [
            (Grouping::Repository, "ada/engine", 3),
            (Grouping::Repository, "bob/kernel", 3),
            (Grouping::Month, "2023-11", 1),
            (Grouping::Month, "2024-05", 2),
            (Grouping::Confidence, "high", 1),
            (Grouping::Confidence, "low", 2),
        ]
    );
    let month = &report.models[0].groups[3];
    assert_eq!(month.heads[1].head, "category");
    close(month.heads[1].accuracy, 0.5);
}

#[test]
fn probabilities_give_calibration_and_selective_prediction() {
    let model = evaluation(answers("m", &ANSWERS));
    let (calibration, selective) = (
        model.heads[0].calibration.as_ref().unwrap(),
        model.heads[0].selective.as_ref().unwrap(),
    );
    // Bins: 0.6 right; 0.65 and 0.7 wrong; 0.8, 0.9 and 0.95 right.
    close(
        calibration.ece,
        (0.4 + (0.65 + 0.7) + 0.2 + 0.1 + 0.05) / 6.0,
    );
    let brier: f64 = [0.1, 0.2, 0.05, 0.7, 0.4, 0.65]
        .iter()
        .map(|off: &f64| 2.0 * off * off)
        .sum();
    close(calibration.brier, brier / 6.0);
    let counts: Vec<u64> = calibration.bins.iter().map(|bin| bin.count).collect();
    assert_eq!(counts, [0, 0, 0, 0, 0, 1, 2, 1, 1, 1]);
    assert_eq!(calibration.bins[0].accuracy.value, None);
    assert_eq!(calibration.bins[6].accuracy.value, Some(0.0));
    // Right, right, right, wrong, wrong, right.
    close(selective.aurc, (0.25 + 0.4 + 2.0 / 6.0) / 6.0);
    let at_90 = selective.coverage_at[0];
    assert_eq!((at_90.precision, at_90.threshold), (0.9, Some(0.8)));
    close(at_90.coverage, 0.5);
}

#[test]
fn labels_alone_are_measured_and_nothing_is_made_up_for_them() {
    let with = evaluation(answers("m", &ANSWERS));
    let without = evaluation(labels_only(answers("m", &ANSWERS), 2));
    assert_eq!(without.heads.len(), 2);
    for (with, without) in with.heads.iter().zip(&without.heads) {
        assert_eq!(with.all, without.all);
        assert_eq!((&without.calibration, &without.selective), (&None, &None));
    }
    assert!(
        without
            .errors
            .iter()
            .all(|error| error.probability.is_none())
    );
}

#[test]
fn abstained_answers_are_measured_and_counted() {
    let mut model = answers("m", &ANSWERS);
    for issue in &mut model.issues[..2] {
        issue.heads[1].as_mut().unwrap().abstained = true;
    }
    let measured = evaluation(model);
    assert_eq!(
        (measured.heads[0].abstained, measured.heads[1].abstained),
        (0, 2)
    );
    assert_eq!(
        measured.heads[1].all,
        evaluation(answers("m", &ANSWERS)).heads[1].all
    );
}

#[test]
fn two_readings_make_annotators_and_one_makes_none() {
    assert_eq!(report(answers("m", &ANSWERS)).annotators, None);
    let mut gold = gold(&GOLD);
    for (annotation, second) in gold.annotations.iter_mut().zip(GOLD) {
        let second = if annotation.id.number == 3 {
            "bug memory unknown"
        } else {
            second
        };
        annotation.readings = vec![annotation.labels.clone(), labels(second)];
    }
    let report = report_with(&gold, &[answers("m", &ANSWERS)], &[]).unwrap();
    let annotators = report.annotators.unwrap();
    assert_eq!(annotators.names, ["first reading", "second reading"]);
    let category = &annotators.heads[1];
    assert_eq!((category.head.as_str(), category.issues), ("category", 6));
    close(category.pairs[0].accuracy, 5.0 / 6.0);
    let with: Vec<_> = category.models[0]
        .pairs
        .iter()
        .map(|pair| pair.accuracy.value.unwrap())
        .collect();
    assert_eq!(with, [3.0 / 6.0, 4.0 / 6.0]);
}

#[test]
fn a_pair_of_models_is_compared_on_the_issues_that_both_have() {
    let mut perfect = GOLD.map(|names| (names, 0.9));
    perfect[0] = ("", 0.0);
    let models = [answers("a", &ANSWERS), answers("b", &perfect)];
    let report = report_with(&gold(&GOLD), &models, &[]).unwrap();
    let [comparison] = &report.comparisons[..] else {
        panic!("{:?}", report.comparisons);
    };
    assert_eq!((comparison.first.as_str(), comparison.issues), ("a", 5));
    let category = &comparison.heads[1];
    assert_eq!((category.only_first, category.only_second), (0, 3));
    close(category.accuracy, 2.0 / 5.0 - 1.0);
    assert!((category.p - 0.25).abs() < 1e-12);
    // Of the three tests the root cause's has p = 0.25 too and the kind's 0.5.
    assert!((category.p_holm - 0.75).abs() < 1e-12);
    assert!(
        category
            .verdict
            .starts_with("no difference shown on category"),
        "{}",
        category.verdict
    );
}

#[test]
fn the_report_is_the_same_after_json() {
    let report = report(answers("m", &ANSWERS));
    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    // Reading may change a number's last bit.
    assert_eq!(format!("{read:.9?}"), format!("{report:.9?}"));
}

#[test]
fn a_check_names_each_figure_that_is_worse_than_its_interval_allows() {
    // So many of 120 issues are right.
    let with_right = |right: usize| {
        let issues = GOLD.repeat(20);
        let given = issues.iter().enumerate().map(|(i, &names)| {
            let wrong = if names == "feature" {
                "bug gpu unknown"
            } else {
                "feature"
            };
            (if i * 7 % 120 < right { names } else { wrong }, 0.9)
        });
        let given: Vec<(&str, f32)> = given.collect();
        report_with(&gold(&issues), &[answers("m", &given)], &[]).unwrap()
    };
    let (good, a_little_worse, worse) = (with_right(100), with_right(99), with_right(40));
    assert_eq!(check(&good, &a_little_worse), Ok(vec![]));
    assert_eq!(check(&worse, &good), Ok(vec![]), "better is no regression");
    let regressions = check(&good, &worse).unwrap();
    let names: Vec<&str> = regressions.iter().map(|r| r.figure.as_str()).collect();
    for figure in [
        "m: joint accuracy",
        "m: kind: kappa",
        "m: category: memory F1",
        "m: category where it applies: accuracy",
        "m: kind: calibration error",
        "m: kind: Brier score",
        "m: ada/engine: kind: accuracy",
    ] {
        assert!(names.contains(&figure), "{figure} is not among {names:?}");
    }
    let line = regressions
        .iter()
        .find(|r| r.figure == "m: kind: accuracy")
        .unwrap()
        .to_string();
    assert!(
        line.starts_with("m: kind: accuracy: 0.333, stored 0.833 ["),
        "{line}"
    );
}

#[test]
fn a_figure_without_interval_may_not_fall_at_all() {
    let perfect = report(answers("m", &GOLD.map(|names| (names, 0.9))));
    assert_eq!(perfect.models[0].joint_accuracy.low, None);
    let regressions = check(&perfect, &report(answers("m", &ANSWERS))).unwrap();
    assert!(regressions.iter().any(|r| r.figure == "m: joint accuracy"));
    let line = regressions[0].to_string();
    assert_eq!(line, "m: joint accuracy: 0.333, stored 1.000");
}

#[test]
fn reports_that_have_nothing_in_common_are_not_checked() {
    let stored = report(answers("m", &ANSWERS));
    let other = report(answers("other", &ANSWERS));
    let error = check(&stored, &other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the stored figures are of m and not of other; evaluate m too"
    );
    let mut elsewhere = stored.clone();
    elsewhere.gold.sha256 = "fedcba98765432100".into();
    assert!(matches!(
        check(&stored, &elsewhere),
        Err(CheckError::OtherGold { .. })
    ));
}
