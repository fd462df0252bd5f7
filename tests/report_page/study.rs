//! The page of `faultlens study --html`.

use std::path::PathBuf;

use serde_json::json;
use tempfile::{TempDir, tempdir};

use crate::browser::Browser;
use crate::data::predictions;
use crate::is_quiet;
use crate::look::FAINT;
use crate::tiny::{faultlens, source};

/// The findings over the examples, with gold or without.
fn findings(folder: &TempDir, with_gold: bool) -> PathBuf {
    let page = folder.path().join("study.html");
    let mut command = faultlens();
    command
        .arg("study")
        .arg("--issues")
        .arg(source("examples/issues.json"));
    command
        .arg("--predictions")
        .arg(predictions(folder, "alpha", 100));
    if with_gold {
        command.arg("--gold").arg(source("examples/labels.jsonl"));
    }
    let output = command
        .args(["--note", "Invented <b>issues</b>."])
        .arg("--html")
        .arg(&page)
        .arg("-o")
        .arg(folder.path().join("study.json"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    page
}

#[test]
fn findings_are_shown_without_a_word_in_the_console_and_fit_any_width() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    for with_gold in [true, false] {
        let page = findings(&folder, with_gold);
        for width in [360, 768, 1280, 3840] {
            browser.resize(width);
            browser.goto(&page);
            let found = browser.run(
                "const { scrollWidth, clientWidth } = document.documentElement;
                return [innerWidth, scrollWidth, clientWidth, document.body.scrollWidth];",
            );
            assert_eq!(found[0], width);
            assert_eq!(found[1], found[2], "{found}");
            assert!(found[3].as_u64() <= found[2].as_u64(), "{found}");
        }
        is_quiet(&browser);
    }
}

#[test]
fn every_estimate_and_verdict_on_the_page_is_that_of_the_json() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let page = findings(&folder, true);
    let text = std::fs::read(folder.path().join("study.json")).unwrap();
    let findings: faultlens::study::findings::Findings = serde_json::from_slice(&text).unwrap();
    browser.goto(&page);
    let found = browser.run(
        r#"const text = (element) => element.textContent.trim().replace(/\s+/g, " ");
        return {
            note: text(document.querySelector(".note")),
            shares: [...document.querySelectorAll("[data-figure=estimate]")].map((cell) => [
                cell.closest("section").id, cell.parentElement.dataset.label, text(cell)]),
            verdicts: [...document.querySelectorAll("[data-claim]")].map((row) => [
                row.dataset.claim, text(row.querySelector(".verdict"))]),
        };"#,
    );
    assert_eq!(found["note"], "Invented <b>issues</b>.");
    let shares: Vec<_> = findings
        .heads
        .iter()
        .flat_map(|head| {
            head.labels.iter().map(|label| {
                let shown = label.share.estimate.map_or("–".to_owned(), |e| {
                    let percent = |share: f64| format!("{:.1}", 100.0 * share);
                    format!(
                        "{} [{}, {}]",
                        percent(e.value),
                        percent(e.low),
                        percent(e.high)
                    )
                });
                json!([head.head, label.label, shown])
            })
        })
        .collect();
    assert_eq!(found["shares"], json!(shares));
    assert!(
        shares.iter().any(|share| share[2] != "–"),
        "nothing was estimated"
    );
    let verdicts: Vec<_> = findings
        .claims
        .iter()
        .map(|claim| json!([claim.id, claim.verdict]))
        .collect();
    assert_eq!(found["verdicts"], json!(verdicts));
    assert!(verdicts.len() > 5);
}

#[test]
fn findings_stand_out_in_both_themes_and_print() {
    let folder = tempdir().unwrap();
    let mut page = None;
    for dark in [false, true] {
        let Some(browser) = Browser::open(dark) else {
            return;
        };
        browser.goto(page.get_or_insert_with(|| findings(&folder, true)));
        let found = browser.run(FAINT);
        assert_eq!(found["faint"], json!([]));
        assert!(found["checked"].as_u64().unwrap() > 300, "{found}");
        let pdf = browser.devtools("Page.printToPDF", json!({ "printBackground": false }));
        assert!(
            pdf["data"].as_str().unwrap().starts_with("JVBERi"),
            "no PDF"
        );
    }
}
