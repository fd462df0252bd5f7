//! JSON and JSON Lines: shapes, broken records, cut files.

use super::*;

#[test]
fn json_is_read_in_every_shape_issues_come_in() {
    let [one, two] = one_and_two();
    let pretty = |json: &str| {
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        serde_json::to_string_pretty(&value).unwrap()
    };
    let list = format!("[{one},{two}]");
    for text in [
        list.clone(),
        pretty(&list),
        format!("[{one}]\n[{two}]\n"),
        format!("[[{one}],[{two}]]"),
        format!("{{\"items\":{list}}}"),
        format!("{{ \"issues\" : {list} , \"x\":[1]}}"),
        format!(
            r#"{{"total_count":2,"meta":{{"items":[1]}},"note":"\"items\":[","items":{list},"page":{{}}}}"#
        ),
        format!(r#"{{"odd\"items":[1],"items":{list}}}"#),
        pretty(&format!("{{\"total_count\":2,\"items\":{list}}}")),
        format!("{{\"items\":[{one}]}}\n{{\"items\":[{two}]}}\n"),
        format!("[{{\"items\":[{one}]}},{{\"items\":[{two}]}}]"),
        format!("{one}\n{two}"),
        format!("{one}\r\n\r\n{two}\r\n"),
        format!("{}\n{}", pretty(&one), pretty(&two)),
        format!("\u{feff}{one}\n\u{feff}{two}"),
        format!("\n\n  [{one},{two}]"),
    ] {
        let corpus = read(&text);
        assert_eq!(broken(&corpus), [""; 0], "{text}");
        assert_eq!(titles(&corpus), ["1:one", "2:two"], "{text}");
        assert_eq!(issues(&corpus)[0].body, r#"see {["]}"#);
    }
    assert_eq!(titles(&read(&one)), ["1:one"]);
    assert_eq!(titles(&read(pretty(&one))), ["1:one"]);
    assert_eq!(read("[]").len(), 0);
    assert_eq!(read(r#"{"items":[]}"#).summary().records, 0);
}

#[test]
fn what_the_github_command_line_client_gives_is_read() {
    let corpus = read(
        r#"[{"body":"b","number":7,"title":"t","labels":[{"id":"x","name":"bug"}],
            "url":"https://github.com/a/b/issues/7"}]"#,
    );
    let id = crate::issue::IssueId {
        repo: "a/b".into(),
        number: 7,
    };
    assert_eq!(
        issues(&corpus),
        [Issue {
            id,
            title: "t".into(),
            body: "b".into(),
            created_at: None,
        }]
    );
}

#[test]
fn a_broken_record_is_skipped_and_named() {
    let [one, two] = one_and_two();
    let no_text = r#"{"number":3,"repo":"a/b"}"#;
    let corpus = read(format!(
        "[{one},\n{{\"number\":x}},\n17,\"a,b\",{no_text},{two}]"
    ));
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(
        broken(&corpus),
        [
            "standard input: record 2 (line 2, byte 62): it is not valid JSON for an issue: expected value",
            "standard input: record 3 (line 3, byte 76): it is not a JSON object",
            "standard input: record 4 (line 3, byte 79): it is not a JSON object",
            "standard input: record 5 (line 3, byte 85): it has neither title nor body: it is not an issue",
        ]
    );
    assert_eq!(corpus.summary().records, 6);
}

#[test]
fn a_broken_line_of_json_lines_costs_that_line_only() {
    let [one, two] = one_and_two();
    for bad in [
        "{nonsense",
        r#"{"repo":"a/b","number":3,"title":"cut of"#,
        r#"{"repo":"a/b","number":3,"title":"cut off\"#,
        r#"{"repo":"a/b","number":3,"title":"t""#,
        r#"{"repo":"a/b","number":3,"#,
    ] {
        for (text, record) in [
            (format!("{bad}\n{one}\n{two}\n"), 1),
            (format!("{one}\n{bad}\n{two}\n"), 2),
        ] {
            let corpus = read(&text);
            assert_eq!(titles(&corpus), ["1:one", "2:two"], "{text}");
            let place = format!("standard input: record {record} (line {record}, ");
            let [broken] = broken(&corpus).try_into().unwrap();
            assert!(broken.starts_with(&place), "{broken}");
        }
    }
    let nested = r#"{"repo":"a/b","number":3,"labels":[{"name":"#;
    let corpus = read(format!("{one}\n{nested}\n{two}\n"));
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(corpus.summary().broken_records[0].fault, Fault::CutByLine);

    let corpus = read(format!("{one}\nno JSON, {{}}\n{two}"));
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(corpus.summary().broken_records[0].fault, Fault::NotAnObject);
}

#[test]
fn a_file_named_json_lines_may_begin_with_nonsense() {
    let folder = folder();
    let [one, two] = one_and_two();
    let path = write(
        folder.path(),
        "a.jsonl",
        format!("nonsense\n{one}\n{two}\n"),
    );
    let corpus = open(&[&path]).unwrap();
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(broken(&corpus).len(), 1);
}

#[test]
fn a_list_that_is_not_closed_is_reported() {
    let [one, two] = one_and_two();
    for text in [
        format!("[{one},{two}"),
        format!("[{one},{two},\n"),
        format!("{{\"items\":[{one},{two}]"),
        format!("[{{\"items\":[{one},{two}]"),
    ] {
        let corpus = read(&text);
        assert_eq!(titles(&corpus), ["1:one", "2:two"], "{text}");
        let [record] = corpus.summary().broken_records.as_slice() else {
            panic!("not one report: {:?}", broken(&corpus));
        };
        assert_eq!(record.fault, Fault::UnclosedList, "{text}");
    }
}

#[test]
fn lists_within_lists_are_followed_to_a_bounded_depth() {
    let within = |depth: usize| {
        read(format!(
            "{}{}{}",
            "[".repeat(depth),
            json(1, "one"),
            "]".repeat(depth)
        ))
    };
    assert_eq!(titles(&within(16)), ["1:one"]);
    assert_eq!(within(16).summary().broken, 0);
    assert_eq!(
        within(17).summary().broken_records[0].fault,
        Fault::NotAnObject
    );
}
