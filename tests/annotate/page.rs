//! The page in a browser, by keyboard.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::browser::Browser;
use crate::program::{Server, annotate, lines, mine};
use crate::tiny;

pub const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";
const LEFT: &str = "\u{e012}";
const SPACE: &str = "\u{e00d}";
const ESCAPE: &str = "\u{e00c}";

/// Waits until the page is done with what it was asked.
pub fn settled(browser: &Browser) {
    browser.wait("return document.title !== 'faultlens annotate' && !document.body.ariaBusy");
}

pub fn open(browser: &Browser, server: &Server) {
    browser.visit(&server.url);
    settled(browser);
    let title = browser.run("return document.title");
    assert!(title.as_str().unwrap().ends_with("– faultlens"), "{title}");
}

pub fn press(browser: &Browser, keys: &str) {
    browser.press(keys);
    settled(browser);
}

/// The name of the issue that is shown.
pub fn shown(browser: &Browser) -> String {
    let name = browser.run("return document.title.split(' ')[0]");
    name.as_str().unwrap().to_owned()
}

pub fn text(browser: &Browser, id: &str) -> String {
    let text = browser.run(&format!("return document.getElementById('{id}').innerText"));
    text.as_str().unwrap().to_owned()
}

/// Nothing was said in the console, and nothing was asked of another server.
pub fn is_quiet(browser: &Browser, server: &Server) {
    assert_eq!(browser.console(), [""; 0]);
    for url in browser.requests() {
        assert!(
            url.starts_with(&server.origin()) || url == "data:,",
            "{url}"
        );
    }
}

fn name(line: &Value) -> String {
    format!("{}#{}", line["repo"].as_str().unwrap(), line["number"])
}

/// What is chosen on the page.
fn choices(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('[role=radio][aria-checked=true]')].map(
            (button) => button.lastChild.textContent.trim())",
    )
}

#[test]
fn thirty_issues_are_labelled_by_keyboard_undone_and_still_there_after_a_reload() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let file = mine(&folder);
    let server = Server::start(&mut annotate(&file));
    open(&browser, &server);
    // What is pressed, and what that is to mean.
    let cases = [
        (
            format!("13a{ENTER}"),
            json!(["bug", "memory", "communication", "high"]),
        ),
        (
            format!("2l{ENTER}"),
            json!(["feature", "none", "none", "low"]),
        ),
        (
            format!("3{ENTER}"),
            json!(["question", "none", "none", "high"]),
        ),
        (
            format!("16{DOWN}{DOWN}{SPACE}h{ENTER}"),
            json!(["bug", "gpu", "dependency", "high"]),
        ),
        // The first answer is changed on the way; the root cause is asked again.
        (
            format!("1{LEFT}4{LEFT}19f{ENTER}"),
            json!(["bug", "other", "other", "high"]),
        ),
    ];
    let mut expected = Vec::new();
    for i in 0..30 {
        let (keys, labels) = &cases[i % cases.len()];
        let name = shown(&browser);
        press(&browser, keys);
        assert_ne!(shown(&browser), name, "{keys}");
        expected.push((name, labels.clone()));
    }
    let found = || -> Vec<(String, Value)> {
        let lines = lines(&file);
        let labelled = lines.iter().filter(|line| line["withdrawn"].is_null());
        let labels = |line: &Value| {
            let of = |key: &str| line[key].clone();
            json!([
                of("kind"),
                of("category"),
                of("root_cause"),
                of("confidence")
            ])
        };
        labelled.map(|line| (name(line), labels(line))).collect()
    };
    assert_eq!(found(), expected);
    assert!(text(&browser, "progress").starts_with("30 of 73 done · 30 now"));
    assert!(text(&browser, "last").starts_with(&format!("Saved {}", expected[29].0)));

    // Undo withdraws the last, shows it with what was chosen, and it can be labelled again.
    let next = shown(&browser);
    press(&browser, "u");
    assert_eq!(shown(&browser), expected[29].0);
    assert_eq!(choices(&browser), json!(["bug", "other", "other", "high"]));
    assert_eq!(lines(&file)[30]["withdrawn"], true);
    // By arrows to the kind, which is changed; with a note.
    press(&browser, &format!("{LEFT}{LEFT}2n"));
    press(&browser, &format!("u s 1 / g{ESCAPE}"));
    press(&browser, ENTER);
    assert_eq!(lines(&file)[31]["kind"], "feature");
    assert_eq!(lines(&file)[31]["note"], "u s 1 / g");
    assert_eq!(shown(&browser), next);

    open(&browser, &server);
    assert_eq!(shown(&browser), next);
    assert!(text(&browser, "progress").starts_with("30 of 73 done"));
    is_quiet(&browser, &server);
}

#[test]
fn back_search_and_jump_lead_to_an_issue_and_saving_it_revises() {
    let Some(browser) = Browser::open(true) else {
        return;
    };
    let folder = tempdir().unwrap();
    let file = mine(&folder);
    let server = Server::start(&mut annotate(&file));
    open(&browser, &server);
    let first = shown(&browser);
    press(&browser, &format!("2{ENTER}"));
    let second = shown(&browser);
    press(&browser, "s");
    let third = shown(&browser);
    press(&browser, "bb");
    // The second key came while the first was at work, or not: either way one more leads to the start.
    while shown(&browser) != first {
        press(&browser, "b");
    }
    assert!(text(&browser, "message").contains("You have labelled this issue"));
    assert_eq!(choices(&browser), json!(["feature", "high"]));
    press(&browser, &format!("3{ENTER}"));
    assert_eq!(lines(&file)[1]["revises"], true);
    assert_eq!(lines(&file)[1]["kind"], "question");
    assert_eq!(shown(&browser), third);
    assert_ne!(second, third);

    press(&browser, "/");
    browser.press("graph capture, image");
    browser.wait("return document.querySelectorAll('#found button').length === 1");
    press(&browser, ENTER);
    browser.wait("return document.title.includes('900001')");
    press(&browser, "g");
    browser.press(&format!("900002{ENTER}"));
    browser.wait("return document.title.includes('900002')");
    press(&browser, "g");
    browser.press(&format!("nowhere/at-all#1{ENTER}"));
    browser.wait("return document.getElementById('missing').textContent.includes('not among')");
    browser.press(ESCAPE);
    press(&browser, "?");
    browser.wait("return document.getElementById('keys').open");
    browser.press(ESCAPE);
    // An incomplete label is not saved.
    press(&browser, &format!("1{ENTER}"));
    assert_eq!(lines(&file).len(), 2);
    // What the server refused is the only thing that the console has.
    let console = browser.console();
    assert!(
        console.iter().all(|message| message.contains("404")),
        "{console:?}"
    );
}

#[test]
fn the_codebook_explains_the_label_under_the_cursor() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    open(&browser, &server);
    assert!(text(&browser, "codebook").contains("What kind of report it is"));
    press(&browser, &format!("{DOWN}{DOWN}"));
    let explained = text(&browser, "codebook");
    assert!(
        explained.contains("Asks for or proposes something"),
        "{explained}"
    );
    assert!(explained.contains("please support X"), "{explained}");
    press(&browser, "1");
    assert!(text(&browser, "codebook").contains("Where the failure shows"));
}

#[test]
fn nothing_sticks_out_at_any_width_and_everything_has_a_name() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    for width in [360, 768, 1280, 3840] {
        browser.resize(width);
        open(&browser, &server);
        press(&browser, "16");
        let found = browser.run(
            "const { scrollWidth, clientWidth } = document.documentElement;
            const nameless = [...document.querySelectorAll('button, input, [role=radiogroup]')]
                .filter((e) => !(e.ariaLabel || e.innerText || e.textContent || e.labels?.length));
            return [innerWidth, scrollWidth - clientWidth, nameless.length];",
        );
        assert_eq!(found, json!([width, 0, 0]));
    }
}

#[test]
fn a_model_speaks_only_after_the_annotator_unless_it_is_asked_to() {
    let Some(browser) = Browser::open(false) else {
        return;
    };
    let folder = tempdir().unwrap();
    let file = mine(&folder);
    let model = |command: &mut std::process::Command| {
        command.arg("--model").arg(tiny::model());
    };
    let mut command = annotate(&file);
    model(&mut command);
    let server = Server::start(&mut command);
    open(&browser, &server);
    let before = browser.run("return document.body.innerText");
    assert!(!before.as_str().unwrap().contains("model says"));
    let (repo, number) = {
        let name = shown(&browser);
        let (repo, number) = name.split_once('#').unwrap();
        (repo.to_owned(), number.to_owned())
    };
    let url = format!("{}suggestion?repo={repo}&number={number}", server.url);
    let refused = reqwest::blocking::get(url).unwrap();
    assert_eq!(refused.status(), reqwest::StatusCode::FORBIDDEN);
    press(&browser, &format!("2{ENTER}"));
    browser.wait("return document.getElementById('last').textContent.includes('The model says: ')");
    assert_eq!(lines(&file)[0]["suggested"], Value::Null);
    // Who labels again has seen it.
    while shown(&browser) != format!("{repo}#{number}") {
        press(&browser, "b");
    }
    press(&browser, &format!("3{ENTER}"));
    assert_eq!(lines(&file)[1]["suggested"], true);
    is_quiet(&browser, &server);
    server.interrupt();

    let mut command = annotate(&file);
    model(&mut command);
    let server = Server::start(command.arg("--suggest"));
    open(&browser, &server);
    browser.wait("return !document.getElementById('save').disabled");
    press(&browser, ENTER);
    assert_eq!(lines(&file)[2]["suggested"], true);
}
