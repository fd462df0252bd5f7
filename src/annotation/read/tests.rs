use std::io::Write;

use tempfile::NamedTempFile;

use super::*;

const TAXONOMY: &str = r#"
[[heads]]
name = "kind"
title = "Kind"
definition = ""
labels = [
    { name = "bug", title = "Bug", definition = "" },
    { name = "feature", title = "Feature", definition = "" },
]

[[heads]]
name = "area"
title = "Area"
definition = ""
applies_when = { head = "kind", labels = ["bug"] }
labels = [
    { name = "gpu", title = "GPU", definition = "" },
    { name = "api", title = "API", definition = "" },
]
"#;

fn read(text: impl AsRef<[u8]>) -> Result<Vec<Annotation>, AnnotationError> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_ref()).unwrap();
    let taxonomy = Taxonomy::from_toml(TAXONOMY, "taxonomy").unwrap();
    read_annotations(file.path(), &taxonomy, Coverage::AllHeads)
}

/// The problems of a file as `line: message`.
fn problems(text: impl AsRef<[u8]>) -> Vec<String> {
    let AnnotationError::Invalid { problems, .. } = read(text).unwrap_err() else {
        panic!("the file could not be read");
    };
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.line, problem.message))
        .collect()
}

/// A good line with `from` replaced by `to`.
fn line(from: &str, to: &str) -> String {
    let good = r#"{"repo": "o/n", "number": 7, "kind": "bug", "area": "api", "confidence": "low", "annotator": "ann", "first": {"kind": "bug", "area": "gpu"}, "second": {"kind": "feature", "area": "none"}, "adjudicated": true}"#;
    assert!(good.contains(from), "{from} is not in the fixture");
    good.replace(from, to)
}

#[test]
fn a_full_line_gives_labels_readings_and_confidence() {
    let id = IssueId {
        repo: "o/n".into(),
        number: 7,
    };
    let expected = Annotation {
        id,
        labels: vec![Some(0), Some(1)],
        unlabelled: vec![],
        confidence: Some(Confidence::Low),
        annotator: Some("ann".into()),
        readings: vec![vec![Some(0), Some(0)], vec![Some(1), None]],
        adjudicated: true,
        weight: None,
    };
    assert_eq!(read(line("", "")).unwrap(), [expected]);
}

#[test]
fn a_bare_line_is_enough_and_empty_lines_are_skipped() {
    let text =
        "\n{\"repo\": \"o/n\", \"number\": 1, \"kind\": \"feature\", \"area\": \"none\"}\r\n \r\n";
    let annotations = read(text).unwrap();
    assert_eq!(annotations.len(), 1);
    assert_eq!(annotations[0].labels, [Some(1), None]);
    assert_eq!(annotations[0].confidence, None);
    assert!(annotations[0].readings.is_empty());
    assert!(!annotations[0].adjudicated);
}

#[test]
fn each_wrong_part_of_a_line_is_named_with_its_remedy() {
    for (from, to, expected) in [
        ("\"o/n\"", "\"on\"", "1: repo must be"),
        ("\"o/n\"", "\"o/n/m\"", "1: repo must be"),
        ("\"o/n\"", "\"/n\"", "1: repo must be"),
        ("\"repo\": \"o/n\", ", "", "1: repo must be"),
        ("7", "0", "1: number must be"),
        ("7", "\"7\"", "1: number must be"),
        ("7", "-7", "1: number must be"),
        (
            "\"area\": \"api\"",
            "\"area\": \"apis\"",
            "1: \"apis\" is no label of area; use one of gpu, api",
        ),
        (
            "\"api\"",
            "null",
            "1: area must be a string, one of gpu, api",
        ),
        (
            ", \"area\": \"api\"",
            "",
            "1: area is missing; give one of gpu, api, or none",
        ),
        (
            "\"api\"",
            "\"none\"",
            "1: area is none though kind is bug; use one of gpu, api",
        ),
        (
            "\"kind\": \"bug\", \"area\": \"api\"",
            "\"kind\": \"feature\", \"area\": \"api\"",
            "1: area is api though kind is feature; make it none or correct kind",
        ),
        (
            "\"kind\": \"bug\", \"area\": \"api\"",
            "\"kind\": \"none\", \"area\": \"none\"",
            "1: kind applies to every issue and cannot be none; use one of bug, feature",
        ),
        (
            "\"annotator\"",
            "\"arae\"",
            "1: unknown key \"arae\"; correct it to one of kind, area, repo,",
        ),
        (
            "\"low\"",
            "\"medium\"",
            "1: confidence is \"medium\"; make it",
        ),
        ("\"ann\"", "3", "1: annotator must be a string"),
        (
            "\"adjudicated\": true",
            "\"adjudicated\": \"yes\"",
            "1: adjudicated must be",
        ),
        (
            "\"gpu\"",
            "\"cpu\"",
            "1: first: \"cpu\" is no label of area",
        ),
        (
            "\"feature\", \"area\": \"none\"",
            "\"feature\", \"area\": \"gpu\"",
            "1: second: area is gpu though kind is feature",
        ),
        (
            "\"area\": \"gpu\"",
            "\"area\": \"gpu\", \"repo\": \"o/n\"",
            "1: first: unknown key \"repo\"",
        ),
        (
            "{\"kind\": \"bug\", \"area\": \"gpu\"}",
            "\"bug\"",
            "1: first must be an object",
        ),
        (
            "\"first\": {\"kind\": \"bug\", \"area\": \"gpu\"}, ",
            "",
            "1: first and second go together",
        ),
        ("true}", "true", "1: not a JSON object, column"),
    ] {
        let found = problems(line(from, to));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(expected),
            "{} is not {expected}",
            found[0]
        );
    }
}

#[test]
fn an_unreadable_kind_does_not_blame_the_heads_that_depend_on_it() {
    let found = problems(line(
        "\"kind\": \"bug\", \"area\": \"api\"",
        "\"kind\": \"bgu\", \"area\": \"none\"",
    ));
    assert_eq!(
        found,
        ["1: \"bgu\" is no label of kind; use one of bug, feature"]
    );
}

#[test]
fn a_line_that_is_not_utf_8_is_a_problem_of_that_line() {
    let text = [line("", "").as_bytes(), b"\n{\"repo\": \"\xff\"}"].concat();
    let found = problems(text);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("2: not a JSON object"), "{found:?}");
}

#[test]
fn an_issue_annotated_twice_is_named_with_both_lines() {
    let text = [line("", ""), line("7", "8"), line("bug", "bug")].join("\n");
    assert_eq!(
        problems(text),
        ["3: o/n#7 is annotated on line 1 already; keep one of the two"]
    );
}

#[test]
fn all_problems_of_all_lines_are_found() {
    let text = [
        line("\"low\"", "\"no\"").replace("\"o/n\"", "1"),
        "[]".into(),
        line("true", "1"),
    ];
    let found = problems(text.join("\n"));
    let lines: Vec<&str> = found.iter().map(|problem| &problem[..1]).collect();
    assert_eq!(lines, ["1", "1", "2", "3"], "{found:?}");
}

#[test]
fn a_message_has_twenty_problems_and_counts_the_rest() {
    let message = read("{\n".repeat(23)).unwrap_err().to_string();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 21);
    assert!(lines[19].contains(":20: not a JSON object"), "{message}");
    assert_eq!(lines[20], "… and 3 more");
    let message = read("{\n".repeat(20)).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 20);
}

#[test]
fn a_missing_file_is_named() {
    let taxonomy = Taxonomy::from_toml(TAXONOMY, "taxonomy").unwrap();
    let error =
        read_annotations(Path::new("no/such.jsonl"), &taxonomy, Coverage::AllHeads).unwrap_err();
    assert!(error.to_string().starts_with("no/such.jsonl: "), "{error}");
}

#[test]
fn no_head_can_take_the_name_of_a_field() {
    for field in FIELDS {
        let text = TAXONOMY.replace("\"area\"", &format!("{field:?}"));
        let error = Taxonomy::from_toml(&text, "taxonomy").unwrap_err();
        assert!(error.to_string().contains("name of a field"), "{error}");
    }
}
