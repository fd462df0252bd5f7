//! A second annotator, their agreement, and who decides between the two.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::browser::Browser;
use crate::page::{ENTER, is_quiet, open, press, shown, text};
use crate::program::{Server, annotate, bug, lines};
use crate::tiny::{faultlens, source};

fn export(labels: &Path, beside: &[&Path], output: &Path) -> Output {
    let mut command = faultlens();
    command.arg("annotate").arg("--labels").arg(labels);
    if !beside.is_empty() {
        command.arg("--beside").args(beside);
    }
    command.arg("--export").arg(output).output().unwrap()
}

#[test]
fn two_annotators_read_independently_and_a_third_decides() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, second, gold) = (path("ann.jsonl"), path("ben.jsonl"), path("gold.jsonl"));

    let server = Server::start(&mut annotate(&first));
    for number in 900001..=900010 {
        server.label(number, "memory");
    }
    // The second annotator gets the same issues without the first one's labels.
    let mut command = annotate(&second);
    command.args(["--annotator", "ben", "--beside"]).arg(&first);
    let beside = Server::start(&mut command);
    open(&browser, &beside);
    let setup = beside.get("next");
    assert_eq!(setup["status"]["total"], 10);
    assert_eq!(setup["issue"]["readings"], json!([]));
    for i in 0..10 {
        // Two of them are read otherwise.
        press(&browser, &format!("1{}i{ENTER}", if i < 2 { 6 } else { 3 }));
    }
    let agreement = text(&browser, "agreement");
    assert!(
        agreement.contains("ann and ben on 10 issues, kappa: kind"),
        "{agreement}"
    );
    // The first goes on, and the second's page notices.
    server.label(900011, "api");
    browser.wait("return document.getElementById('progress').textContent.startsWith('10 of 11')");
    let status = beside.get("status");
    let accuracy = &status["agreement"][0]["heads"][1];
    assert_eq!(accuracy["accuracy"], 0.8);
    is_quiet(&browser, &beside);
    beside.interrupt();
    server.interrupt();

    let read: Vec<Value> = lines(&second);
    assert!(
        read.iter()
            .all(|line| line["annotator"] == "ben" && line["root_cause"] == "unknown")
    );

    let mut command = annotate(&gold);
    command.args(["--annotator", "cas", "--queue", "disagreements", "--beside"]);
    command.arg(&first).arg(&second);
    let server = Server::start(&mut command);
    open(&browser, &server);
    let readings = text(&browser, "readings");
    assert!(
        readings.contains("Take ann’s x") && readings.contains("Take ben’s y"),
        "{readings}"
    );
    assert!(readings.contains("Category ≠\tmemory\tgpu"), "{readings}");
    press(&browser, &format!("y{ENTER}"));
    let one = shown(&browser);
    // Neither is right.
    press(&browser, &format!("2l{ENTER}"));
    browser.wait("return !document.getElementById('done').hidden");
    assert_ne!(one, shown(&browser));
    is_quiet(&browser, &server);
    server.interrupt();
    let decided = lines(&gold);
    assert_eq!(decided.len(), 2);
    assert_eq!(decided[0]["category"], "gpu");
    assert_eq!(decided[0]["first"]["category"], "memory");
    assert_eq!(decided[0]["second"]["category"], "gpu");
    assert_eq!(
        (&decided[0]["adjudicated"], &decided[0]["annotator"]),
        (&json!(true), &json!("cas"))
    );
    assert_eq!(
        (&decided[1]["kind"], &decided[1]["confidence"]),
        (&json!("feature"), &json!("low"))
    );

    // What both agree on joins what was decided; the result is gold that can be measured on.
    let output = path("settled.jsonl");
    let exported = export(&gold, &[&first, &second], &output);
    let said = String::from_utf8(exported.stdout).unwrap();
    assert!(said.contains("10 annotations in "), "{said}");
    assert!(
        said.contains("ann and ben on 10 issues agree: kind 1.000"),
        "{said}"
    );
    assert!(said.contains("faultlens train --from "), "{said}");
    let settled = lines(&output);
    assert_eq!(
        settled
            .iter()
            .filter(|line| line["adjudicated"] == true)
            .count(),
        2
    );
    let eval = faultlens()
        .args(["eval", "--resamples", "0", "--gold"])
        .arg(&output)
        .arg("--predictions")
        .arg(source("examples/labels.jsonl"))
        .output()
        .unwrap();
    assert!(
        eval.status.success(),
        "{}",
        String::from_utf8_lossy(&eval.stderr)
    );
}

#[test]
fn an_export_has_a_line_an_issue_and_says_what_is_left_to_decide() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (first, second, output) = (path("ann.jsonl"), path("ben.jsonl"), path("out.jsonl"));
    for (file, category) in [(&first, "memory"), (&second, "gpu")] {
        let server = Server::start(&mut annotate(file));
        server.label(900001, category);
        server.label(900002, "api");
        server.label(900003, "build");
        server.label(900002, "model");
        server.post("label", &bug(900004, "other"));
        server.post("undo", &json!({}));
        server.interrupt();
    }
    assert_eq!(lines(&first).len(), 6);
    assert!(export(&first, &[], &output).status.success());
    let found: Vec<String> = lines(&output)
        .iter()
        .map(|l| l["category"].to_string())
        .collect();
    assert_eq!(found, ["\"memory\"", "\"model\"", "\"build\""]);
    assert!(
        lines(&output)
            .iter()
            .all(|line| line.get("revises").is_none())
    );

    let exported = export(&path("none.jsonl"), &[&first, &second], &output);
    let said = String::from_utf8(exported.stdout).unwrap();
    assert!(
        said.contains("1 issues that the two label differently are not decided"),
        "{said}"
    );
    assert_eq!(lines(&output).len(), 2);
}

#[test]
fn a_queue_without_what_it_needs_is_refused_at_once() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("mine.jsonl");
    let refused = |arguments: &[&str], expected: &str| {
        let output = annotate(&file).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains(expected),
            "{said}"
        );
    };
    refused(
        &["--queue", "disagreements"],
        "give both files with --beside",
    );
    refused(&["--queue", "review"], "--suspects go together");
    refused(&["--suspects", "x"], "--suspects go together");
    fs::write(&file, "").unwrap();
    refused(
        &["--beside", file.to_str().unwrap()],
        "every annotator has a file of their own",
    );
}
