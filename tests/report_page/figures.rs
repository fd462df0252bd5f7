//! Every figure on the page is the report's.

use faultlens::eval::report::{Agreement, Estimate, Report};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::browser::Browser;
use crate::{NOTE, full, is_quiet};

fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| {
        format!("{value:.3}").replace("-0.000", "0.000")
    })
}

/// `0.912 [0.880, 0.938]`
fn shown(estimate: &Estimate) -> String {
    let value = number(estimate.value);
    match (estimate.value, estimate.low, estimate.high) {
        (Some(_), Some(low), Some(high)) => {
            format!("{value} [{}, {}]", number(Some(low)), number(Some(high)))
        }
        _ => value,
    }
}

#[test]
fn every_figure_is_that_of_the_json() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (page, report) = full(&folder);
    browser.goto(&page);

    let found = browser.run(
        r#"const text = (element) => element.textContent.trim().replace(/\s+/g, " ");
        const rows = (table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map(text));
        return {
            json: document.getElementById("report").textContent,
            top: text(document.querySelector("header")),
            headline: [...document.querySelectorAll(".headline tbody tr")].map((row) => [
                row.dataset.model ?? "", row.dataset.head ?? "", row.dataset.scope ?? "",
                Object.fromEntries([...row.querySelectorAll("[data-figure]")].map((cell) => [cell.dataset.figure, text(cell)])),
            ]),
            scopes: [...document.querySelectorAll(".scope")].map((scope) => [
                scope.parentElement.dataset.model, scope.parentElement.dataset.head, scope.dataset.scope,
                rows(scope.querySelector(".labels")), rows(scope.querySelector(".confusion")),
            ]),
            words: text(document.querySelector("main")),
        };"#,
    );
    let embedded: Report = serde_json::from_str(found["json"].as_str().unwrap()).unwrap();
    assert_eq!(embedded, report);
    let top = found["top"].as_str().unwrap();
    assert!(
        top.contains(NOTE) && top.contains("gold.jsonl, 73 issues"),
        "{top}"
    );

    let (mut headline, mut scopes) = (Vec::new(), Vec::new());
    for model in &report.models {
        for head in &model.heads {
            for (scope, agreement) in [
                ("all", Some(&head.all)),
                ("applicable", head.applicable.as_ref()),
            ] {
                let Some(agreement) = agreement else { continue };
                let mut figures = json!({
                    "accuracy": shown(&agreement.accuracy),
                    "kappa": shown(&agreement.kappa),
                    "macro_f1": shown(&agreement.macro_f1),
                    "ece": "", "coverage": "",
                });
                if let ("all", Some(calibration), Some(selective)) =
                    (scope, &head.calibration, &head.selective)
                {
                    figures["ece"] = shown(&calibration.ece).into();
                    let at = selective.coverage_at.iter().find(|at| at.precision == 0.95);
                    figures["coverage"] = shown(&at.unwrap().coverage).into();
                }
                headline.push(json!([model.name, head.head, scope, figures]));
                let (labels, confusion) = tables(agreement);
                scopes.push(json!([model.name, head.head, scope, labels, confusion]));
            }
        }
        let joint = json!({ "accuracy": shown(&model.joint_accuracy) });
        headline.push(json!([model.name, "", "", joint]));
    }
    assert_eq!(scopes.len(), 15);
    let annotators = report.annotators.as_ref().unwrap();
    for head in &annotators.heads {
        let alpha = json!({ "alpha": shown(&head.alpha) });
        headline.push(json!(["", head.head, "annotators", alpha]));
    }
    let sorted = |rows: &mut Vec<Value>| rows.sort_by_key(|row| row.to_string());
    let mut found_headline = found["headline"].as_array().unwrap().clone();
    sorted(&mut found_headline);
    sorted(&mut headline);
    assert_eq!(found_headline, headline);
    assert_eq!(found["scopes"].as_array().unwrap(), &scopes);

    let words = found["words"].as_str().unwrap();
    for comparison in &report.comparisons {
        for head in &comparison.heads {
            assert!(words.contains(&head.verdict), "{}", head.verdict);
        }
    }
    for verdict in annotators.heads.iter().flat_map(|head| &head.models) {
        assert!(words.contains(&verdict.verdict), "{}", verdict.verdict);
    }
    assert!(
        words.contains("left out: 1 gold issues without a prediction (vllm-project/vllm#900001)")
    );
    is_quiet(&browser);
}

/// The rows of the tables of labels and of confusions.
fn tables(agreement: &Agreement) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let labels = agreement.per_label.iter().map(|label| {
        vec![
            label.label.clone(),
            label.support.to_string(),
            label.predicted.to_string(),
            shown(&label.precision),
            shown(&label.recall),
            shown(&label.f1),
            String::new(),
        ]
    });
    let confusion = agreement
        .labels
        .iter()
        .zip(&agreement.confusion)
        .map(|(label, row)| {
            let counts = row.iter().map(|&count| match count {
                0 => "·".to_owned(),
                count => count.to_string(),
            });
            std::iter::once(label.clone()).chain(counts).collect()
        });
    (labels.collect(), confusion.collect())
}

#[test]
fn curves_and_bars_are_drawn_where_the_figures_say() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (page, report) = full(&folder);
    browser.goto(&page);
    let found = browser.run(
        r##"const numbers = (text) => text.match(/[\d.]+/g).map(Number);
        const charts = [...document.querySelectorAll("#probabilities .charts")];
        return {
            reliability: charts.map((row) => [...row.querySelectorAll("svg[aria-label^=Reliability]")].map((svg) =>
                [...svg.querySelectorAll("circle.point")].map((c) => [+c.getAttribute("cx"), +c.getAttribute("cy")]))),
            curves: charts.map((row) => [...row.querySelectorAll("svg[aria-label^=Risk] path.curve")].map((path) => numbers(path.getAttribute("d")))),
            fives: charts.map((row) => numbers(row.querySelector("svg[aria-label^=Risk] path.ideal").getAttribute("d"))[1]),
            bars: [...document.querySelectorAll(".head[data-model=alpha][data-head=category] .scope[data-scope=all] .labels .fill")].map((bar) => +bar.getAttribute("width")),
        };"##,
    );
    let near = |found: &Value, expected: f64| {
        let found = found.as_f64().unwrap();
        assert!((found - expected).abs() < 0.06, "{found}, not {expected}");
    };
    for (place, head) in ["kind", "category", "root_cause"].into_iter().enumerate() {
        // The third model has no probabilities.
        assert_eq!(found["reliability"][place].as_array().unwrap().len(), 2);
        assert_eq!(found["curves"][place].as_array().unwrap().len(), 2);
        for (index, model) in report.models[..2].iter().enumerate() {
            let head = model.heads.iter().find(|h| h.head == head).unwrap();
            let bins = head.calibration.as_ref().unwrap().bins.iter();
            let bins: Vec<_> = bins.filter(|bin| bin.count > 0).collect();
            let points = found["reliability"][place][index].as_array().unwrap();
            assert_eq!(points.len(), bins.len());
            for (point, bin) in points.iter().zip(bins) {
                near(&point[0], 44.0 + 240.0 * bin.confidence.unwrap());
                near(&point[1], 250.0 - 240.0 * bin.accuracy.value.unwrap());
            }
            let curve = &head.selective.as_ref().unwrap().curve;
            let coordinates = found["curves"][place][index].as_array().unwrap();
            assert_eq!(coordinates.len(), 2 * curve.len());
            near(&coordinates[coordinates.len() - 2], 284.0);
            for (point, at) in curve.iter().zip(coordinates.chunks(2)) {
                near(&at[0], 44.0 + 240.0 * point.coverage);
                // The dashed line is where 5 % are wrong.
                let five = 250.0 - found["fives"][place].as_f64().unwrap();
                let height = 250.0 - at[1].as_f64().unwrap();
                assert!((height - point.risk / 0.05 * five).abs() < 1.0, "{height}");
            }
        }
    }
    let per_label = &report.models[0].heads[1].all.per_label;
    let bars = found["bars"].as_array().unwrap();
    assert_eq!(bars.len(), per_label.len());
    for (bar, label) in bars.iter().zip(per_label) {
        near(bar, 100.0 * label.f1.value.unwrap());
    }
}
