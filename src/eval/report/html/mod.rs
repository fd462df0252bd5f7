//! A report as one page for a browser: charts, tables, and the list of wrong answers with filters.
//!
//! `page.html` is the whole, `model.html` one model's part, `figures.html` tables and their bars,
//! `charts.html` the curves, as inline SVG. The page asks for nothing over the network, which its
//! content security policy forbids besides: it allows the one script and the one style sheet in it, by
//! their hashes. What a report or a text holds is shown as text, whatever it is.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::blocks::{self, Block};
use super::{Disagreement, Evaluation, Report};
use crate::issue::IssueId;

#[cfg(test)]
mod tests;

/// Steps of colour that a heat map has, beside none.
const STEPS: u64 = 10;

const STYLE: &str = concat!(include_str!("style.css"), include_str!("figures.css"));
const SCRIPT: &str = include_str!("script.js");
const TEMPLATES: [(&str, &str); 4] = [
    ("page.html", include_str!("page.html")),
    ("model.html", include_str!("model.html")),
    ("figures.html", include_str!("figures.html")),
    ("charts.html", include_str!("charts.html")),
];

/// The report as a self-contained HTML page. Wrong answers to issues that `texts` has come with the
/// text; the figures that the page carries as JSON are without texts.
///
/// # Panics
/// If a template is broken: none is for any report.
pub fn html(report: &Report, texts: &HashMap<IssueId, String>) -> String {
    let mut environment = Environment::new();
    for (name, source) in TEMPLATES {
        let added = environment.add_template(name, source);
        added.expect("the templates are well-formed");
    }
    environment.add_filter("figure", blocks::number);
    environment.add_filter("step", step);
    environment.add_filter("tick", tick);
    let page = environment.get_template("page.html");
    page.and_then(|page| page.render(Serde(Page::of(report, texts))))
        .expect("the templates render every report")
}

/// What the templates see.
#[derive(Serialize)]
struct Page<'a> {
    report: &'a Report,
    introduction: String,
    heads: Vec<Head<'a>>,
    comparisons: Vec<Vec<Piece>>,
    annotators: Vec<Piece>,
    /// An entry a model.
    details: Vec<Details>,
    errors: Vec<Wrong<'a>>,
    json: String,
    style: &'a str,
    script: &'a str,
    style_hash: String,
    script_hash: String,
}

impl<'a> Page<'a> {
    fn of(report: &'a Report, texts: &HashMap<IssueId, String>) -> Self {
        let mut annotators = Vec::new();
        if let Some(found) = &report.annotators {
            blocks::agree(found, &mut annotators);
        }
        let comparisons = report.comparisons.iter().map(|comparison| {
            let mut blocks = Vec::new();
            blocks::compare(comparison, &mut blocks);
            pieces(blocks)
        });
        Self {
            report,
            introduction: blocks::introduction(report),
            heads: heads(report),
            comparisons: comparisons.collect(),
            annotators: pieces(annotators),
            details: report.models.iter().map(Details::of).collect(),
            errors: errors(report, texts),
            json: json(report),
            style: STYLE,
            script: SCRIPT,
            style_hash: hash(STYLE),
            script_hash: hash(SCRIPT),
        }
    }
}

/// What is said of a model beside its charts.
#[derive(Serialize)]
struct Details {
    remarks: Vec<String>,
    summary: Vec<Piece>,
    probabilities: Vec<Piece>,
}

impl Details {
    fn of(model: &Evaluation) -> Self {
        let (mut summary, mut probabilities) = (Vec::new(), Vec::new());
        blocks::summary(model, &mut summary);
        blocks::probabilities(model, &mut probabilities);
        Self {
            remarks: blocks::remarks(model),
            summary: pieces(summary),
            probabilities: pieces(probabilities),
        }
    }
}

/// A head that some model answers.
#[derive(Serialize, PartialEq)]
struct Head<'a> {
    name: &'a str,
    title: &'a str,
}

fn heads(report: &Report) -> Vec<Head<'_>> {
    let mut heads = Vec::new();
    for head in report.models.iter().flat_map(|model| &model.heads) {
        let head = Head {
            name: &head.head,
            title: &head.title,
        };
        if !heads.contains(&head) {
            heads.push(head);
        }
    }
    heads
}

/// A [`Block`] as templates see it.
#[derive(Serialize)]
#[serde(tag = "form", rename_all = "snake_case")]
enum Piece {
    Heading { text: String },
    Paragraph { text: String },
    List { items: Vec<String> },
    Table(Table),
}

/// A table named by the heading above it and what it has.
#[derive(Serialize)]
struct Table {
    caption: String,
    header: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Serialize)]
struct Column {
    name: String,
    is_numeric: bool,
    has_intervals: bool,
}

/// A cell whose figure is apart from its interval.
#[derive(Serialize)]
struct Cell {
    text: String,
    interval: Option<String>,
}

fn pieces(blocks: Vec<Block>) -> Vec<Piece> {
    let mut above = None;
    let pieces = blocks.into_iter().filter_map(|block| match block {
        Block::Heading(_, text) => {
            above = Some(text.clone());
            Some(Piece::Heading { text })
        }
        Block::Paragraph(text) => Some(Piece::Paragraph { text }),
        Block::List(items) => Some(Piece::List { items }),
        Block::Table(table) => Some(Piece::Table(named(table, above.as_deref()))),
        Block::Text(..) => None,
    });
    pieces.collect()
}

fn named(table: blocks::Table, above: Option<&str>) -> Table {
    let columns = table.header.iter().skip(1).cloned();
    let caption = above.map(str::to_owned).into_iter().chain(columns);
    let rows: Vec<Vec<Cell>> = table
        .rows
        .iter()
        .map(|row| row.iter().map(|text| cell(text)).collect())
        .collect();
    Table {
        caption: caption.collect::<Vec<_>>().join(", "),
        header: (0..table.header.len())
            .map(|column| {
                let has_intervals = rows.iter().any(|row| row[column].interval.is_some());
                Column {
                    name: table.header[column].clone(),
                    is_numeric: table.is_numeric(column) || has_intervals,
                    has_intervals,
                }
            })
            .collect(),
        rows,
    }
}

/// Takes the interval off a figure, and leaves any other text whole.
fn cell(text: &str) -> Cell {
    let figure = text
        .split_once(" [")
        .filter(|(value, interval)| value.parse::<f64>().is_ok() && interval.ends_with(']'));
    match figure {
        Some((value, interval)) => Cell {
            text: value.to_owned(),
            interval: Some(format!("[{interval}")),
        },
        None => Cell {
            text: text.to_owned(),
            interval: None,
        },
    }
}

/// A wrong answer of any model.
#[derive(Serialize)]
struct Wrong<'a> {
    model: &'a str,
    #[serde(flatten)]
    error: &'a Disagreement,
    /// What the model read, without control characters.
    text: Option<String>,
}

/// Of all models, the most probable first.
fn errors<'a>(report: &'a Report, texts: &HashMap<IssueId, String>) -> Vec<Wrong<'a>> {
    let of_models = report.models.iter().flat_map(|model| {
        model.errors.iter().map(|error| Wrong {
            model: &model.name,
            error,
            text: texts.get(&error.issue).map(|text| {
                let shown = |&c: &char| matches!(c, '\n' | '\t') || !c.is_control();
                text.chars().filter(shown).collect()
            }),
        })
    });
    let mut errors: Vec<_> = of_models.collect();
    errors.sort_by(|a, b| {
        let probability = |wrong: &Wrong| wrong.error.probability.unwrap_or(-1.0);
        probability(b).total_cmp(&probability(a))
    });
    errors
}

/// The report as JSON in which nothing ends the script element that holds it.
fn json(report: &Report) -> String {
    let json = serde_json::to_string(report).expect("a report has string keys only");
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// How strong the colour of a cell is: the share of its row, rounded up to one of [`STEPS`].
fn step(count: u64, row: Vec<u64>) -> u64 {
    (count * STEPS).div_ceil(row.iter().sum::<u64>().max(1))
}

/// A number beside an axis, which multiples of 0.1 would leave with rounding errors.
fn tick(value: f64) -> String {
    ((value * 1000.0).round() / 1000.0).to_string()
}

/// Of an inline script or style sheet, for the content security policy.
pub(crate) fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}
