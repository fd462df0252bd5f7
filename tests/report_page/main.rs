//! The page of `faultlens eval --html` as a browser shows it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use faultlens::eval::report::{Estimate, Report, html};
use faultlens::issue::IssueId;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

#[path = "../browser/mod.rs"]
mod browser;
mod data;
mod errors;
mod figures;
mod look;
mod study;
#[path = "../tiny/mod.rs"]
mod tiny;

use browser::Browser;
use data::{evaluated, labels, predictions, read_twice};
use tiny::source;

const NOTE: &str = "Labelled by a language model.";

/// Two models with probabilities and one without, on gold that was read twice, with texts.
fn full(folder: &TempDir) -> (PathBuf, Report) {
    let gold = read_twice(folder);
    let files = [
        predictions(folder, "alpha", 100),
        predictions(folder, "beta", 200),
        labels(folder, "rules", 300),
    ];
    let issues = source("examples/issues.json");
    let mut arguments: Vec<&Path> = vec!["--gold".as_ref(), &gold];
    for file in &files {
        arguments.extend(["--predictions".as_ref(), file.as_path()]);
    }
    arguments.extend(["--issues".as_ref(), issues.as_path()]);
    evaluated(
        folder,
        &arguments,
        &["--texts", "--resamples", "300", "--note", NOTE],
    )
}

/// A report by itself as a page.
fn page(folder: &TempDir, report: &Report, texts: &HashMap<IssueId, String>) -> PathBuf {
    let path = folder.path().join("page.html");
    fs::write(&path, html(report, texts)).unwrap();
    path
}

/// The page was shown without a word in the console and asked for nothing but itself.
fn is_quiet(browser: &Browser) {
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
    let requests = browser.requests();
    let outside: Vec<_> = requests
        .iter()
        .filter(|url| !url.starts_with("file:///") && !url.starts_with("data:"))
        .collect();
    assert!(!requests.is_empty() && outside.is_empty(), "{outside:?}");
}

#[test]
fn a_page_that_asks_for_something_or_complains_is_noticed() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let path = folder.path().join("page.html");
    let outside = "http://127.0.0.1:9/image.png";
    fs::write(
        &path,
        format!("<img src='{outside}'><script>console.error('oh')</script>"),
    )
    .unwrap();
    browser.goto(&path);
    assert!(browser.requests().contains(&outside.to_owned()));
    assert!(
        browser
            .console()
            .iter()
            .any(|message| message.contains("oh"))
    );
}

#[test]
fn what_a_report_or_a_text_says_is_never_run() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (_, mut report) = full(&folder);
    let evil = r#""'></td></script></style><script>window.ran = 1</script><img src=x onerror="window.ran = 1"><!--"#;
    let model = &mut report.models[0];
    model.name = format!("model {evil}");
    let head = &mut model.heads[1];
    head.title = evil.into();
    head.all.labels[0] = evil.into();
    head.all.per_label[0].label = evil.into();
    head.confused[0].truth = evil.into();
    model.groups[0].name = evil.into();
    model.errors[0].issue.repo = evil.into();
    model.errors[0].predicted = evil.into();
    report.gold.note = Some(evil.into());
    report.gold.file = evil.into();
    let odd = format!(
        "{evil}\n\u{0}\u{1b}[31m\u{202e}reversed\u{2028}\u{fffe}\u{10ffff} e\u{301}🇩🇪 {{{{ 7 * 7 }}}} ]]> &lt;"
    );
    let texts = HashMap::from([(report.models[0].errors[0].issue.clone(), odd.clone())]);
    browser.goto(&page(&folder, &report, &texts));
    let found = browser.run(
        "return {
            ran: window.ran ?? null,
            images: document.images.length,
            scripts: document.scripts.length,
            label: document.querySelector('.head[data-head=category] .labels tbody th').textContent,
            note: document.querySelector('.note').textContent,
            text: document.querySelector('#wrong pre').textContent,
            json: document.getElementById('report').textContent,
        };",
    );
    assert_eq!(found["ran"], Value::Null);
    assert_eq!(
        (&found["images"], &found["scripts"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(found["label"], evil);
    assert_eq!(found["note"], evil);
    let printable: String = odd
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    assert_eq!(found["text"], printable);
    let embedded: Report = serde_json::from_str(found["json"].as_str().unwrap()).unwrap();
    assert_eq!(embedded, report);
    is_quiet(&browser);
}

#[test]
fn a_report_without_probabilities_intervals_texts_or_defined_figures_is_shown() {
    let Some(browser) = Browser::open(true) else {
        return;
    };
    let folder = tempdir().unwrap();
    let rules = labels(&folder, "rules", 300);
    let gold = source("examples/labels.jsonl");
    let arguments: [&Path; 4] = ["--gold".as_ref(), &gold, "--predictions".as_ref(), &rules];
    let (page_without, mut report) = evaluated(&folder, &arguments, &["--resamples", "0"]);
    browser.goto(&page_without);
    let words = browser.run("return document.body.textContent");
    let words = words.as_str().unwrap();
    for expected in [
        "no resamples were asked for",
        "nothing is said of calibration",
        "is not known to this report",
    ] {
        assert!(words.contains(expected), "{expected}");
    }
    assert!(!words.contains("what the model reads") && !words.contains("Reliability"));
    is_quiet(&browser);

    // No head is answered, nothing is wrong, and every figure is undefined.
    let model = &mut report.models[0];
    model.errors.clear();
    model.groups.clear();
    model.joint_accuracy = Estimate::default();
    for head in &mut model.heads {
        head.confused.clear();
        head.all.kappa = Estimate::default();
        for label in &mut head.all.per_label {
            label.f1 = Estimate::default();
        }
    }
    browser.goto(&page(&folder, &report, &HashMap::new()));
    let found =
        browser.run("return document.querySelector('[data-figure=kappa]').textContent.trim()");
    assert_eq!(found, "–");
    report.models[0].heads.clear();
    browser.goto(&page(&folder, &report, &HashMap::new()));
    is_quiet(&browser);
}
