//! Invented predictions for the labels of the examples, and reports from them.

use std::fs;
use std::path::{Path, PathBuf};

use faultlens::eval::report::Report;
use faultlens::taxonomy::Taxonomy;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::tiny::{faultlens, source};

/// A number in `[0, 1)` that looks random, the same for the same arguments.
fn chance(place: usize, salt: usize) -> f64 {
    let mixed = (place as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((salt as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

pub fn gold() -> Vec<Value> {
    let text = fs::read_to_string(source("examples/labels.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// One issue's labels, each right with the probability that it says, and the probabilities.
fn answer(row: &Value, place: usize, salt: usize) -> Map<String, Value> {
    let taxonomy = Taxonomy::from_path(&source("training-data/taxonomy.toml")).unwrap();
    let (mut line, mut probability, mut distribution) = (Map::new(), Map::new(), Map::new());
    let mut is_bug = true;
    for (index, head) in taxonomy.heads.iter().enumerate() {
        let salt = salt + 10 * index;
        let truth = row[&head.name].as_str().unwrap();
        let p = 0.4 + 0.59 * chance(place, salt).sqrt();
        let mut names: Vec<&str> = head
            .labels
            .iter()
            .map(|label| label.name.as_str())
            .collect();
        let other = names[(chance(place, salt + 1) * names.len() as f64) as usize];
        let right = chance(place, salt + 2) < p && truth != "none";
        let label = match (is_bug, right) {
            (false, _) => "none",
            (true, true) => truth,
            (true, false) => other,
        };
        if index == 0 {
            is_bug = label == "bug";
        } else {
            names.push("none");
        }
        let rest = (1.0 - p) / (names.len() - 1) as f64;
        let shares = names.iter().map(|&name| {
            let share = if name == label { p } else { rest };
            (name.to_owned(), json!(share))
        });
        line.insert(head.name.clone(), label.into());
        probability.insert(head.name.clone(), p.into());
        distribution.insert(head.name.clone(), Value::Object(shares.collect()));
    }
    line.insert("probability".into(), probability.into());
    line.insert("distribution".into(), distribution.into());
    line.insert("repo".into(), row["repo"].clone());
    line.insert("number".into(), row["number"].clone());
    line
}

fn write(path: PathBuf, lines: impl Iterator<Item = Map<String, Value>>) -> PathBuf {
    let lines: Vec<String> = lines.map(|line| Value::Object(line).to_string()).collect();
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

/// Predictions with probabilities.
pub fn predictions(folder: &TempDir, name: &str, salt: usize) -> PathBuf {
    let lines = gold().into_iter().enumerate().map(|(place, row)| {
        let mut line = answer(&row, place, salt);
        line.insert("abstained".into(), json!([]));
        line.insert("model".into(), format!("{name}-1a2b3c4d").into());
        line
    });
    write(folder.path().join(format!("{name}.jsonl")), lines)
}

/// Predictions of labels only, of all issues but the first.
pub fn labels(folder: &TempDir, name: &str, salt: usize) -> PathBuf {
    let lines = gold().into_iter().enumerate().skip(1).map(|(place, row)| {
        let mut line = answer(&row, place, salt);
        line.remove("probability");
        line.remove("distribution");
        line
    });
    write(folder.path().join(format!("{name}.jsonl")), lines)
}

/// The labels of the examples as if two had read them, who differ on some.
pub fn read_twice(folder: &TempDir) -> PathBuf {
    let lines = gold().into_iter().enumerate().map(|(place, row)| {
        let labels = |mut line: Map<String, Value>| {
            line.retain(|name, _| ["kind", "category", "root_cause"].contains(&name.as_str()));
            Value::Object(line)
        };
        let first = labels(row.as_object().unwrap().clone());
        let second = match place % 9 {
            0 => labels(answer(&row, place, 7)),
            _ => first.clone(),
        };
        let mut line = row.as_object().unwrap().clone();
        line.insert("first".into(), first);
        line.insert("second".into(), second);
        line
    });
    write(folder.path().join("gold.jsonl"), lines)
}

/// The page and the JSON that one run of the program writes.
pub fn evaluated(folder: &TempDir, arguments: &[&Path], options: &[&str]) -> (PathBuf, Report) {
    let (page, json) = (folder.path().join("r.html"), folder.path().join("r.json"));
    let output = faultlens()
        .arg("eval")
        .args(options)
        .arg("--html")
        .arg(&page)
        .arg("--json")
        .arg(&json)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    (page, report)
}
