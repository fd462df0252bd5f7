//! The list of wrong answers and its filters.

use serde_json::Value;
use tempfile::tempdir;

use crate::browser::Browser;
use crate::{full, is_quiet};

/// What stands in the list of errors: their number, and whether each has `value` for `name`.
fn listed(browser: &Browser) -> Vec<Value> {
    let found = browser.run(
        "return [...document.querySelectorAll('#wrong > li')].filter((li) => li.offsetHeight)
            .map((li) => ({ ...li.dataset, link: li.querySelector('a').href, text: li.textContent, title: li.querySelector('summary').textContent }));",
    );
    found.as_array().unwrap().clone()
}

#[test]
fn errors_are_filtered_searched_and_sorted() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (page, report) = full(&folder);
    browser.goto(&page);
    let all = listed(&browser);
    assert_eq!(
        all.len(),
        report.models.iter().map(|m| m.errors.len()).sum::<usize>()
    );
    let probability = |error: &Value| {
        error["probability"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap_or(-1.0)
    };
    assert!(all.is_sorted_by(|a, b| probability(a) >= probability(b)));
    for error in &all {
        let link = format!(
            "https://github.com/{}/issues/{}",
            error["repo"].as_str().unwrap(),
            error["number"].as_str().unwrap()
        );
        assert_eq!(error["link"], link);
        assert!(
            error["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty())
        );
    }

    // Each filter, by keyboard's event as by mouse's.
    for (name, value) in [
        ("model", "beta"),
        ("head", "category"),
        ("truth", "gpu"),
        ("predicted", "bug"),
        ("repo", "sgl-project/sglang"),
    ] {
        let set = |value: &str| {
            browser.run(&format!(
                "const field = document.getElementById('filters').elements['{name}'];
                field.value = '{value}';
                field.dispatchEvent(new Event('input', {{ bubbles: true }}));"
            ));
        };
        set(value);
        let left = listed(&browser);
        let expected = all.iter().filter(|error| error[name] == value).count();
        assert_eq!(left.len(), expected, "{name}");
        assert!(expected > 0 && expected < all.len(), "{name}: {expected}");
        assert!(left.iter().all(|error| error[name] == value));
        let told = browser.run("return document.querySelector('output').value");
        assert_eq!(told, format!("{expected} of {}", all.len()));
        set("");
    }

    let words = "document.getElementById('filters').elements.words";
    browser.run(&format!(
        "{words}.value = 'SGLANG oom'; {words}.dispatchEvent(new Event('input', {{ bubbles: true }}));"
    ));
    let found = listed(&browser);
    assert!(
        !found.is_empty() && found.len() < all.len(),
        "{}",
        found.len()
    );
    for error in found {
        let text = error["text"].as_str().unwrap().to_lowercase();
        assert!(text.contains("sglang") && text.contains("oom"), "{text}");
    }

    let orders = "document.getElementById('filters').elements.order";
    browser.run(&format!(
        "{words}.value = ''; {orders}.value = 'rising'; {orders}.dispatchEvent(new Event('input', {{ bubbles: true }}));"
    ));
    let rising = listed(&browser);
    assert_eq!(rising.len(), all.len());
    assert!(rising.is_sorted_by(|a, b| probability(a) <= probability(b)));

    browser.run("document.querySelector('#filters [type=reset]').click()");
    browser.run("document.querySelector('.confused a').click()");
    let pair = browser.run("return { ...document.querySelector('.confused a').dataset }");
    let left = listed(&browser);
    assert!(!left.is_empty());
    for error in left {
        assert_eq!(error["model"], pair["filterModel"]);
        assert_eq!(error["head"], pair["filterHead"]);
        assert_eq!(error["truth"], pair["filterTruth"]);
        assert_eq!(error["predicted"], pair["filterPredicted"]);
    }
    is_quiet(&browser);
}
