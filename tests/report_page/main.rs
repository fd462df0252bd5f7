//! The page of `faultlens eval --html` as a browser shows it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use faultlens::eval::report::{Agreement, Estimate, Report, html};
use faultlens::issue::IssueId;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

mod browser;
mod data;
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

/// Contrast of every text with what is behind it, as WCAG 2.2 defines it, where it is below 4.5.
const FAINT: &str = r#"
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
    let found = browser.run("return document.querySelector('[data-figure=kappa]').textContent");
    assert_eq!(found, "–");
    report.models[0].heads.clear();
    browser.goto(&page(&folder, &report, &HashMap::new()));
    is_quiet(&browser);
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
