//! What a writer refuses, and how it says so.

use super::*;

#[test]
fn an_existing_file_is_refused_and_both_ways_on_are_named() {
    let folder = TempDir::new().unwrap();
    for name in FORMATS {
        let path = folder.path().join(name);
        fs::write(&path, b"x").unwrap();
        assert_eq!(
            refusal(&path, Mode::Create),
            format!(
                "{} already exists: --resume continues it, --force replaces it",
                path.display()
            )
        );
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }
    let path = folder.path().join("other.parquet");
    abandon(&path, 1);
    assert!(refusal(&path, Mode::Create).contains("other.parquet.partial already exists"));
}

#[test]
fn an_unwritable_place_is_found_before_any_work() {
    let folder = TempDir::new().unwrap();
    let taxonomy = taxonomy();
    for name in FORMATS {
        for mode in [Mode::Create, Mode::Replace, Mode::Resume] {
            let refusal = |path: &Path| {
                PredictionWriter::create(path, &taxonomy, MODEL, mode)
                    .unwrap_err()
                    .to_string()
            };
            let missing = folder.path().join("missing").join(name);
            assert!(refusal(&missing).starts_with(&format!("cannot write {}", missing.display())));
            assert!(refusal(&missing).ends_with("; create its folder first"));

            let directory = TempDir::new().unwrap();
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            assert!(
                refusal(&path).ends_with("; name a file in that folder"),
                "{}",
                refusal(&path)
            );
            assert_eq!(names(&directory), [name]);
        }
    }
    assert_eq!(names(&folder).len(), 0);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_found_before_any_work() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.path().join("probe"), b"").is_ok() {
        println!("skipped: this user may write anywhere");
        return;
    }
    let error = refusal(&folder.path().join("labels.csv"), Mode::Create);
    assert!(
        error.ends_with("; change its permissions or choose another place"),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_names_the_file_and_the_way_on() {
    let folder = TempDir::new().unwrap();
    for (name, written) in [
        ("a.jsonl", "a.jsonl"),
        ("a.csv", "a.csv"),
        ("a.parquet", "a.parquet.partial"),
        ("b.parquet", "b.parquet"),
    ] {
        let path = folder.path().join(name);
        let full = if name == "b.parquet" {
            "b.parquet.new"
        } else {
            written
        };
        std::os::unix::fs::symlink("/dev/full", folder.path().join(full)).unwrap();
        let error = refusal(&path, Mode::Create);
        let written = folder.path().join(written);
        assert!(
            error.starts_with(&format!("writing {} failed", written.display())),
            "{error}"
        );
        assert!(error.ends_with("; what is written so far can be continued with --resume"));
    }
    // The journal outlives the failed conversion.
    complete(&folder.path().join("b.parquet"), Mode::Resume).unwrap();
    let read = read_predictions(&folder.path().join("b.parquet"), &taxonomy()).unwrap();
    assert_eq!(read, predictions());
}

#[test]
fn a_name_that_would_break_a_csv_line_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.csv");
    let taxonomy = taxonomy();
    let mut prediction = predictions().remove(0);
    prediction.id.repo = "a/b\nc".into();
    let mut writer = PredictionWriter::create(&path, &taxonomy, MODEL, Mode::Create).unwrap();
    let error = writer.append(&[prediction]).unwrap_err().to_string();
    assert!(error.ends_with(
        r#"labels.csv: the name "a/b\nc" holds a line break, which only .jsonl can take"#
    ));
    assert_eq!(names(&folder).len(), 0);
}

/// The whole file with `from` on its `line`-th line replaced, resumed.
fn refused_change(name: &str, line: usize, from: &str, to: &str) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    complete(&path, Mode::Create).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
    assert!(lines[line - 1].contains(from));
    lines[line - 1] = lines[line - 1].replace(from, to);
    let changed = lines.concat();
    fs::write(&path, &changed).unwrap();
    let error = refusal(&path, Mode::Resume);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        changed,
        "the file is left as it is"
    );
    assert!(!error.contains('\n'));
    assert!(error.ends_with(" (or replace the file with --force)"));
    assert!(error.contains(&format!("{name}:{line}: ")), "{error}");
    error
}

#[test]
fn another_model_is_refused() {
    for (name, line) in [("a.jsonl", 2), ("a.csv", 3)] {
        let error = refused_change(name, line, MODEL, "large-5e6f");
        assert!(
            error.contains("predicted by large-5e6f, not by tiny-1a2b3c4d"),
            "{error}"
        );
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("labels.parquet");
    complete(&path, Mode::Create).unwrap();
    let taxonomy = taxonomy();
    let error = PredictionWriter::create(&path, &taxonomy, "large-5e6f", Mode::Resume).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("labels.parquet:1: predicted by tiny-1a2b3c4d, not by large-5e6f")
    );
}

#[test]
fn other_heads_or_labels_are_refused() {
    for (line, from, to, reason) in [
        (
            1,
            r#""root_cause":"#,
            r#""cause":"#,
            "this model has no head `cause`",
        ),
        (
            3,
            r#""kind":"feature""#,
            r#""kind":"wish""#,
            "`kind` has no label `wish`",
        ),
        (
            3,
            r#""kind":"feature""#,
            r#""kind":"none""#,
            "`kind` has no label `none`",
        ),
        (
            2,
            r#""gpu":0.12,"#,
            "",
            "the distribution of `category` is over other labels",
        ),
        (
            2,
            r#""gpu":0.12,"#,
            r#""gpu":0.12,"cpu":0,"#,
            "the distribution of `category` is over other labels",
        ),
        (
            2,
            r#""gpu":0.12,"#,
            r#""gpu":1.2,"#,
            "1.2 of `category` is no probability",
        ),
        (
            2,
            r#""root_cause":null,"#,
            "",
            "the head `root_cause` is missing",
        ),
    ] {
        let error = refused_change("a.jsonl", line, from, to);
        assert!(error.contains(reason), "{error}");
    }
    for (line, from, to, reason) in [
        (
            1,
            "category.gpu",
            "category.cpu",
            "column 14 is `category.cpu` where this model's heads and labels want `category.gpu`",
        ),
        (
            1,
            ",root_cause.none",
            "",
            "the column `root_cause.none` is missing",
        ),
        (
            1,
            "root_cause.none",
            "root_cause.none,more",
            "this model has no column `more`",
        ),
        (4, "feature", "wish", "`kind` has no label `wish`"),
        (
            2,
            "0.33",
            "a third",
            "`a third` of `root_cause.unknown` is not a number",
        ),
        (2, ",0.33", "", "17 fields where 18 are wanted"),
        (2, ",1,", ",one,", "`one` is no issue number"),
    ] {
        let error = refused_change("a.csv", line, from, to);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_damaged_line_is_refused_wherever_it_stands() {
    for line in [1, 2, 4] {
        refused_change("a.jsonl", line, r#"}},"abstained""#, "\n");
        refused_change("a.jsonl", line, "{\"repo", "{{\"repo");
    }
    // A stray quote swallows the lines after it in CSV, but is no reason to drop them.
    refused_change("a.csv", 2, "ada", "\"ada");
    refused_change("a.csv", 2, ",memory", "\n,memory");
}

#[test]
fn a_file_of_something_else_is_refused_rather_than_cut() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("a.jsonl", b"notes without a line's end".as_slice()),
        ("b.jsonl", br#"{"repo":"a/b","number":1,"kind":"bug"}"#),
        ("a.csv", b"name,age"),
        ("b.csv", b"repo,number\xe9"),
        ("a.parquet", b"not Parquet"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let error = refusal(&path, Mode::Resume);
        assert!(error.contains(name), "{error}");
        assert_eq!(fs::read(&path).unwrap(), text);
    }
}
