//! Findings as one page for a browser: self-contained, with charts as inline SVG and without a script.

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use super::findings::{Findings, Head, Interval};
use super::markdown::verdict;
use super::survival::Survival;
use crate::eval::report::hash;

/// The evaluation's pages look the same.
const STYLE: &str = concat!(
    include_str!("../../eval/report/html/style.css"),
    include_str!("../../eval/report/html/figures.css"),
    include_str!("study.css")
);

/// The findings as a self-contained HTML page.
///
/// # Panics
/// If the template is broken: it is for no findings.
pub fn html(findings: &Findings) -> String {
    let mut environment = Environment::new();
    environment
        .add_template("study.html", include_str!("study.html"))
        .expect("the template is well-formed");
    environment.add_filter("share", |value: f64| format!("{:.1}", 100.0 * value));
    environment.add_filter("tenth", |value: f64| format!("{value:.1}"));
    environment.add_filter("figure", |value: f64| {
        format!("{value:.3}").replace("-0.000", "0.000")
    });

    let page = environment
        .get_template("study.html")
        .expect("it was added");
    page.render(Serde(Page::of(findings)))
        .expect("the template renders all findings")
}

#[derive(Serialize)]
struct Page<'a> {
    findings: &'a Findings,
    heads: Vec<HeadView<'a>>,
    survival: Option<SurvivalChart>,
    verdicts: Vec<&'static str>,
    style: &'a str,
    style_hash: String,
}

impl<'a> Page<'a> {
    fn of(findings: &'a Findings) -> Self {
        Self {
            findings,
            heads: findings.heads.iter().map(HeadView::of).collect(),
            survival: SurvivalChart::of(findings),
            verdicts: findings
                .claims
                .iter()
                .map(|answer| verdict(answer.verdict))
                .collect(),
            style: STYLE,
            style_hash: hash(STYLE),
        }
    }
}

/// A head with the scales of its charts.
#[derive(Serialize)]
struct HeadView<'a> {
    head: &'a Head,
    /// The share at the right end of bars, such as 0.4.
    scale: f64,
    trends: Vec<TrendChart<'a>>,
}

impl<'a> HeadView<'a> {
    fn of(head: &'a Head) -> Self {
        let estimates = head.labels.iter().flat_map(|label| {
            let of_repositories = label.repositories.values().map(|shares| shares.estimate);
            std::iter::once(label.share.estimate).chain(of_repositories)
        });
        let counted = head
            .labels
            .iter()
            .filter_map(|label| label.share.classify_and_count);
        let most = estimates
            .flatten()
            .map(|e| e.high)
            .chain(counted)
            .fold(0.1, f64::max);
        Self {
            head,
            scale: ((most * 10.0).ceil() / 10.0).min(1.0),
            trends: trends(head),
        }
    }
}

/// A label's share by quarter, in a plane of 240 x 100.
#[derive(Serialize)]
struct TrendChart<'a> {
    label: &'a str,
    /// The share at its top.
    top: f64,
    first: &'a str,
    last: &'a str,
    /// Quarters with an estimate: place across, then value, low and high from the top down; and words.
    points: Vec<(f64, f64, f64, f64, String)>,
    per_year: Option<Interval>,
    is_sure: bool,
}

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 100.0;

fn trends(head: &Head) -> Vec<TrendChart<'_>> {
    let of_label = |label: &&super::findings::Label| {
        label.quarters.len() > 1
            && label
                .quarters
                .values()
                .any(|shares| shares.estimate.is_some())
    };
    let charts = head.labels.iter().filter(of_label).map(|label| {
        let estimates = label.quarters.values().filter_map(|shares| shares.estimate);
        let most = estimates.map(|estimate| estimate.high).fold(0.1, f64::max);
        let top = ((most * 10.0).ceil() / 10.0).min(1.0);
        let last = (label.quarters.len() - 1) as f64;
        let points = label
            .quarters
            .iter()
            .enumerate()
            .filter_map(|(place, (quarter, shares))| {
                let Interval { value, low, high } = shares.estimate?;
                let up = |share: f64| round(HEIGHT * (1.0 - share / top));
                let words = format!(
                    "{quarter}: {value:.3} [{low:.3}, {high:.3}], {} gold issues",
                    shares.gold_issues
                );
                Some((
                    round(WIDTH * place as f64 / last),
                    up(value),
                    up(low),
                    up(high),
                    words,
                ))
            });
        TrendChart {
            label: &label.label,
            top,
            first: label.quarters.keys().next().map_or("", String::as_str),
            last: label.quarters.keys().next_back().map_or("", String::as_str),
            points: points.collect(),
            per_year: label.trend.map(|trend| trend.per_year),
            is_sure: label.trend.is_some_and(|trend| trend.p_holm < 0.05),
        }
    });
    charts.collect()
}

/// Curves of the repositories in a plane of 600 x 240, days on a logarithmic scale.
#[derive(Serialize)]
struct SurvivalChart {
    curves: Vec<(String, String)>,
    /// Places across and their days.
    ticks: Vec<(f64, String)>,
}

impl SurvivalChart {
    fn of(findings: &Findings) -> Option<Self> {
        let curves: Vec<(String, &Survival)> = findings.repositories[1..]
            .iter()
            .filter(|repo| !repo.survival.steps.is_empty())
            .filter_map(|repo| Some((repo.repo.clone()?, &repo.survival)))
            .take(6)
            .collect();
        let days = curves.iter().filter_map(|(_, curve)| curve.steps.last());
        let most = days.map(|step| step.days).fold(1.0, f64::max);
        let across = |days: f64| round(600.0 * (1.0 + days).ln() / (1.0 + most).ln());
        let path = |curve: &Survival| {
            let mut path = "M0 0".to_owned();
            for step in &curve.steps {
                path += &format!(
                    "H{}V{}",
                    across(step.days),
                    round(240.0 * (1.0 - step.open))
                );
            }
            path
        };
        let names = [
            (1.0, "1 day"),
            (7.0, "a week"),
            (30.0, "30"),
            (90.0, "90"),
            (365.0, "a year"),
        ];
        (!curves.is_empty()).then(|| Self {
            ticks: names
                .iter()
                .filter(|(days, _)| *days <= most)
                .map(|(days, name)| (across(*days), (*name).to_owned()))
                .collect(),
            curves: curves
                .iter()
                .map(|(name, curve)| (name.clone(), path(curve)))
                .collect(),
        })
    }
}

/// To a tenth, which no eye tells from more.
fn round(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}
