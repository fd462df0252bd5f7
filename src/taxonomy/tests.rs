use super::*;

const SMALL: &str = r#"
[[heads]]
name = "kind"
title = "Kind"
definition = "What it is."

[[heads.labels]]
name = "bug"
title = "Bug"
definition = "It fails."
rules = ["A crash is `bug`."]

[[heads.labels]]
name = "feature"
title = "Feature"
definition = "It is wanted:\na \"new\" thing."

[[heads]]
name = "severity"
title = "Severity"
definition = "How bad it is."
applies_when = { head = "kind", labels = ["bug"] }

[[heads.labels]]
name = "minor"
title = "Minor"
definition = "It can wait."

[[heads.labels]]
name = "major"
title = "Major"
definition = "It cannot."
"#;

fn small() -> Taxonomy {
    Taxonomy::from_toml(SMALL, "small.toml").unwrap()
}

/// The error of the small taxonomy with `from` replaced by `to`.
fn error(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from} is not in the fixture");
    let text = SMALL.replace(from, to);
    let error = Taxonomy::from_toml(&text, "small.toml").unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    message
}

#[test]
fn heads_and_labels_keep_the_order_of_the_file() {
    let taxonomy = small();
    assert_eq!(taxonomy.head_index("kind"), Some(0));
    assert_eq!(taxonomy.head_index("severity"), Some(1));
    assert_eq!(taxonomy.head_index("colour"), None);
    let severity = &taxonomy.heads[1];
    assert_eq!(severity.label_index("major"), Some(1));
    assert_eq!(severity.label_index(NONE), None);
    assert_eq!(taxonomy.heads[0].labels[0].rules, ["A crash is `bug`."]);
}

#[test]
fn a_head_with_a_condition_applies_only_where_it_holds() {
    let taxonomy = small();
    let (bug, feature) = (Some(0), Some(1));
    assert!(taxonomy.applies(0, &[None, None]));
    assert!(taxonomy.applies(1, &[bug, None]));
    assert!(!taxonomy.applies(1, &[feature, None]));
    assert!(!taxonomy.applies(1, &[None, None]));
}

#[test]
fn writing_and_reading_back_changes_nothing() {
    let taxonomy = small();
    assert_eq!(
        Taxonomy::from_toml(&taxonomy.to_toml(), "copy").unwrap(),
        taxonomy
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = Taxonomy::from_path(Path::new("no/such.toml")).unwrap_err();
    assert!(error.to_string().starts_with("no/such.toml: "), "{error}");
}

#[test]
fn broken_toml_is_named_with_its_line() {
    assert_eq!(
        error("title = \"Severity\"", "titel = \"Severity\""),
        "small.toml:20: unknown field `titel`, expected one of `name`, `title`, `definition`, \
         `applies_when`, `was`, `removed`, `labels`; see training-data/taxonomy.toml for the form"
    );
    let unclosed = error("\"It can wait.\"", "\"It can wait.");
    assert!(unclosed.starts_with("small.toml:27: "), "{unclosed}");
    let missing = error("definition = \"How bad it is.\"", "");
    assert!(missing.contains("missing field `definition`"), "{missing}");
}

#[test]
fn a_taxonomy_without_heads_is_refused() {
    let error = Taxonomy::from_toml("", "empty.toml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "empty.toml: there is no head; declare at least one [[heads]]"
    );
}

#[test]
fn a_broken_rule_is_named_with_its_remedy() {
    for (from, to, expected) in [
        (
            "\"severity\"",
            "\"Severity!\"",
            "the name \"Severity!\" of a head is not",
        ),
        ("\"minor\"", "\"\"", "the name \"\" of a label is not"),
        (
            "\"severity\"",
            "\"confidence\"",
            "head confidence has the name of a field",
        ),
        ("\"severity\"", "\"kind\"", "head kind is declared twice"),
        ("\"minor\"", "\"none\"", "head severity has a label none"),
        (
            "\"minor\"",
            "\"major\"",
            "head severity has the label major twice",
        ),
        (
            "head = \"kind\"",
            "head = \"sort\"",
            "applies when \"sort\", which is no head",
        ),
        (
            "head = \"kind\"",
            "head = \"severity\"",
            "applies when severity, which is not declared before it",
        ),
        (
            "labels = [\"bug\"]",
            "labels = [\"defect\"]",
            "which is no label of kind: name one of bug, feature",
        ),
        (
            "labels = [\"bug\"]",
            "labels = []",
            "head severity applies for no label of kind",
        ),
    ] {
        let message = error(from, to);
        assert!(message.starts_with("small.toml: "), "{message}");
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
}

#[test]
fn a_head_with_one_label_is_refused() {
    let text = &SMALL[..SMALL.rfind("[[heads.labels]]").unwrap()];
    let error = Taxonomy::from_toml(text, "small.toml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "small.toml: head severity has 1 label(s); a head needs at least two [[heads.labels]]"
    );
}
