//! How the page looks: in windows of any width, in both themes, and on paper.

use std::collections::HashMap;

use serde_json::json;
use tempfile::tempdir;

use crate::browser::Browser;
use crate::{full, is_quiet, page};

#[test]
fn nothing_sticks_out_at_any_width() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (page, _) = full(&folder);
    for width in [360, 768, 1280, 3840] {
        browser.resize(width);
        browser.goto(&page);
        let found = browser.run(
            "document.querySelectorAll('details').forEach((details) => details.open = true);
            const { scrollWidth, clientWidth } = document.documentElement;
            return [innerWidth, scrollWidth, clientWidth, document.body.scrollWidth];",
        );
        assert_eq!(found[0], width);
        assert_eq!(found[1], found[2], "{found}");
        assert!(found[3].as_u64() <= found[2].as_u64(), "{found}");
    }
}

#[test]
fn a_taxonomy_of_many_labels_scrolls_in_its_own_place() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (_, mut report) = full(&folder);
    let many = &mut report.models[0].heads[2].all;
    let labels = 80;
    many.labels = (0..labels)
        .map(|label| format!("a_cause_of_a_long_name_{label}"))
        .collect();
    many.confusion = (0..labels)
        .map(|row| (0..labels).map(|column| (row * column) % 7).collect())
        .collect();
    many.per_label = many
        .labels
        .iter()
        .map(|label| {
            let mut of = many.per_label[0].clone();
            of.label = label.clone();
            of
        })
        .collect();
    browser.resize(360);
    browser.goto(&page(&folder, &report, &HashMap::new()));
    let found = browser.run(
        "const wide = document.querySelector('.head[data-head=root_cause] .confusion');
        const { scrollWidth, clientWidth } = document.documentElement;
        return [scrollWidth, clientWidth, wide.offsetWidth, wide.parentElement.offsetWidth];",
    );
    assert_eq!(found[0], found[1]);
    assert!(
        found[2].as_u64() > Some(2000) && found[3].as_u64() < Some(360),
        "{found}"
    );
    is_quiet(&browser);
}

/// Contrast of every text with what is behind it, as WCAG 2.2 defines it, where it is below 4.5.
pub const FAINT: &str = r#"
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const luminance = ([r, g, b]) => {
        const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = rgba(getComputedStyle(element).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        throw new Error("no background");
    };
    document.querySelectorAll("details").forEach((details) => details.open = true);
    const faint = [];
    let checked = 0;
    for (const element of document.body.querySelectorAll("*")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.getClientRects().length || element.matches("script, .unseen, title, option")) continue;
        const style = getComputedStyle(element);
        const text = element instanceof SVGElement ? style.fill : style.color;
        const [a, b] = [luminance(rgba(text)), luminance(behind(element))].sort((a, b) => b - a);
        const contrast = (a + 0.05) / (b + 0.05);
        checked += 1;
        if (contrast < 4.5) faint.push([element.tagName, element.className.baseVal ?? element.className, element.textContent.slice(0, 40), contrast]);
    }
    return { faint: faint.slice(0, 10), checked };"#;

#[test]
fn texts_stand_out_in_both_themes() {
    let folder = tempdir().unwrap();
    let mut page = None;
    let mut backgrounds = Vec::new();
    for dark in [false, true] {
        let Some(browser) = Browser::open(dark) else {
            return;
        };
        browser.goto(page.get_or_insert_with(|| full(&folder).0));
        let found = browser.run(FAINT);
        assert_eq!(found["faint"], json!([]));
        assert!(found["checked"].as_u64().unwrap() > 1000, "{found}");
        backgrounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
}

#[test]
fn it_prints_without_scroll_bars_and_on_paper_is_light() {
    let Some(browser) = Browser::open(true) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (page, _) = full(&folder);
    browser.goto(&page);
    browser.devtools("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    let found = browser.run(
        "const style = (selector) => getComputedStyle(document.querySelector(selector));
        return [style('form').display, style('.scroll').overflowX, style('body').backgroundColor];",
    );
    assert_eq!(found, json!(["none", "visible", "rgb(252, 252, 251)"]));
    let pdf = browser.devtools("Page.printToPDF", json!({ "printBackground": false }));
    assert!(
        pdf["data"].as_str().unwrap().starts_with("JVBERi"),
        "no PDF"
    );
}
