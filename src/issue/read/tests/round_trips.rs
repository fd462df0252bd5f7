//! Properties: what is written in any format reads back the same, and a file cut anywhere gives
//! all that stands before the cut.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::issue::IssueId;

/// Texts with all that formats give a meaning to, besides any other characters.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<char>().prop_map(String::from),
        "[\"\\\\{}\\[\\],:\r\n\t\u{0}\u{feff}a]",
        Just("\"items\":[".to_owned()),
        "[ -~]{0,20}",
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn some_issues(at_most: usize) -> impl Strategy<Value = Vec<Issue>> {
    let date = prop::option::of("20[0-9]{2}-0[1-9]-1[0-9]T[0-9:]{8}Z");
    let issue = (0..3usize, text(), text(), date);
    prop::collection::vec(issue, 1..=at_most).prop_map(|issues| {
        let repos = ["a/b", "vllm-project/vllm", "ggml-org/llama.cpp"];
        let issue = |(number, (repo, title, body, created_at)): (
            u64,
            (usize, String, String, Option<String>),
        )| {
            let id = IssueId {
                repo: repos[repo].into(),
                number,
            };
            Issue {
                id,
                title,
                body,
                created_at,
            }
        };
        (1..).zip(issues).map(issue).collect()
    })
}

fn value(issue: &Issue) -> Value {
    serde_json::json!({
        "number": issue.id.number,
        "labels": [{"name": "x"}, []],
        "title": issue.title,
        "body": issue.body,
        "created_at": issue.created_at,
        "html_url": format!("https://github.com/{}/issues/{}", issue.id.repo, issue.id.number),
    })
}

fn lines(issues: &[Issue]) -> String {
    issues
        .iter()
        .map(|issue| format!("{}\n", value(issue)))
        .collect()
}

/// The issues in every format.
fn written(issues: &[Issue]) -> Vec<(&'static str, Vec<u8>)> {
    let list = Value::Array(issues.iter().map(value).collect());
    let wrapped = serde_json::json!({"a_count": 1, "items": list, "later": [{}]});
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap().into_bytes();
    let mut csv = ::csv::Writer::from_writer(Vec::new());
    csv.write_record(["repo", "number", "title", "body", "created_at"])
        .unwrap();
    for Issue {
        id,
        title,
        body,
        created_at,
    } in issues
    {
        let date = created_at.as_deref().unwrap_or_default();
        csv.write_record([&id.repo, &id.number.to_string(), title, body, date])
            .unwrap();
    }
    let column = |text: fn(&Issue) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(issues.iter().map(text)))
    };
    let numbers = issues.iter().map(|issue| issue.id.number as i64);
    let dates: StringArray = issues
        .iter()
        .map(|issue| issue.created_at.as_deref())
        .collect();
    let parquet = parquet(&[
        ("repo", column(|issue| &issue.id.repo)),
        ("number", Arc::new(Int64Array::from_iter_values(numbers))),
        ("title", column(|issue| &issue.title)),
        ("body", column(|issue| &issue.body)),
        ("created_at", Arc::new(dates)),
    ]);
    vec![
        ("a list", list.to_string().into_bytes()),
        ("a printed list", pretty(&list)),
        ("a wrapped list", wrapped.to_string().into_bytes()),
        ("a printed wrapped list", pretty(&wrapped)),
        ("lines", lines(issues).into_bytes()),
        (
            "printed objects",
            issues
                .iter()
                .flat_map(|issue| pretty(&value(issue)))
                .collect(),
        ),
        ("CSV", csv.into_inner().unwrap()),
        ("Parquet", parquet),
    ]
}

fn read(content: &[u8]) -> Corpus {
    Corpus::open_with(&["-".into()], &ReadOptions::default(), &mut &*content).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn issues_written_in_any_format_read_back_the_same(expected in some_issues(7)) {
        for (format, plain) in written(&expected) {
            for content in [gzip(&plain), zstandard(&plain), plain] {
                let corpus = read(&content);
                prop_assert_eq!(corpus.summary().broken, 0, "{}", format);
                prop_assert_eq!(&issues(&corpus), &expected, "{}", format);
            }
        }
    }
}

/// A list cut at `end` is read up to the last whole issue, and the cut is reported once.
fn check_cut(content: &[u8], end: usize, wholes: &[usize], expected: &[Issue], at_line: bool) {
    let corpus = read(&content[..end]);
    let whole = wholes.iter().filter(|&&whole| whole <= end).count();
    assert_eq!(issues(&corpus), expected[..whole], "cut at {end}");
    assert_eq!(corpus.summary().broken, u64::from(!at_line), "cut at {end}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn a_file_cut_anywhere_gives_all_issues_before_the_cut_and_reports_the_cut_one(
        expected in some_issues(3),
    ) {
        let records: Vec<String> = expected.iter().map(|issue| value(issue).to_string()).collect();
        for (head, separator, tail) in
            [("[", ",", "]"), ("[\n", ",\n", "\n]"), ("{\"n\":{},\"issues\":[", ", ", "],\"z\":1}"), ("", "\n", "")]
        {
            let mut content = head.to_owned();
            let mut wholes = Vec::new();
            for (place, record) in records.iter().enumerate() {
                content.push_str(if place == 0 { "" } else { separator });
                content.push_str(record);
                wholes.push(content.len());
            }
            content.push_str(tail);
            for end in 1..content.len() {
                // Cut between lines, nothing is missing.
                let at_line = head.is_empty()
                    && wholes.iter().any(|&whole| end == whole || end == whole + separator.len());
                check_cut(content.as_bytes(), end, &wholes, &expected, at_line);
            }
        }
    }
}
