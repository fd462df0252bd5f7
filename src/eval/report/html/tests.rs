use super::*;
use crate::eval::report::fixture::report;

/// What stands between the first `start` and the next `end`.
fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let rest = page.split_once(start).expect(start).1;
    rest.split_once(end).expect(end).0
}

#[test]
fn the_policy_allows_the_script_and_the_style_of_the_page_and_nothing_else() {
    let page = html(&report(), &HashMap::new());
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\">");
    let style = hash(between(&page, "<style>", "</style>"));
    let script = hash(between(&page, "<script>", "</script>"));
    let expected = format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; \
         base-uri 'none'; form-action 'none'"
    );
    assert_eq!(policy, expected);
    for outside in ["src=", "@import", "url(", " style=", "onclick="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn names_and_texts_stand_as_text_and_end_no_element() {
    let evil = "</script><b>\"'&";
    let mut report = report();
    report.models[0].name = evil.into();
    report.models[0].errors[0].truth = evil.into();
    let id = report.models[0].errors[0].issue.clone();
    let text = format!("{evil}\n\tfails\u{1b}[31m");
    let page = html(&report, &HashMap::from([(id, text)]));
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<b>\""));
    let shown = between(&page, "<pre dir=\"auto\">", "</pre>");
    assert!(shown.ends_with("\n\tfails[31m"), "{shown:?}");
    let json = between(
        &page,
        "type=\"application/json\" id=\"report\">",
        "</script>",
    );
    assert_eq!(serde_json::from_str::<Report>(json).unwrap(), report);
}

#[test]
fn texts_are_in_no_figures_and_need_asking_for() {
    let report = report();
    let id = report.models[0].errors[0].issue.clone();
    let text = "a rare word: flummoxed";
    let page = html(&report, &HashMap::from([(id, text.to_owned())]));
    // As the summary and as the text.
    assert_eq!(page.matches(text).count(), 2);
    assert!(!html(&report, &HashMap::new()).contains("what the model reads"));
}

#[test]
fn an_interval_is_taken_off_figures_only() {
    let parts = |text| {
        let cell = cell(text);
        (cell.text, cell.interval)
    };
    let interval = Some("[0.100, 0.600]".to_owned());
    assert_eq!(
        parts("0.333 [0.100, 0.600]"),
        ("0.333".to_owned(), interval)
    );
    for whole in ["0.333", "–", "a [b]", "1 [2"] {
        assert_eq!(parts(whole), (whole.to_owned(), None));
    }
}

#[test]
fn a_cell_is_as_strong_as_its_share_of_the_row() {
    assert_eq!(
        [0, 1, 50, 51, 100].map(|count| step(count, vec![count, 100 - count])),
        [0, 1, 5, 6, 10]
    );
    assert_eq!(step(0, vec![0, 0]), 0);
}
