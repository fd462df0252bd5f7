//! What reading promises, claim by claim.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, LargeStringArray};
use arrow::array::{NullArray, RecordBatch, StringArray, StringViewArray, UInt16Array};
use arrow::datatypes::Int32Type;
use flate2::{Compression, write::GzEncoder};

use super::*;

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(super) fn parquet(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let columns = columns
        .iter()
        .map(|(name, column)| (*name, column.clone(), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn strict() -> ReadOptions {
    ReadOptions {
        strict: true,
        ..ReadOptions::default()
    }
}

fn open_stdin(content: &[u8], options: &ReadOptions) -> Result<Corpus, ReadError> {
    Corpus::open_with(&["-".into()], options, &mut &*content)
}

/// Opens `content` as standard input, which is told by content alone.
fn read(content: impl AsRef<[u8]>) -> Corpus {
    open_stdin(content.as_ref(), &ReadOptions::default()).unwrap()
}

fn refusal(content: impl AsRef<[u8]>) -> String {
    let error = open_stdin(content.as_ref(), &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error
}

fn open(inputs: &[&Path]) -> Result<Corpus, ReadError> {
    let inputs: Vec<String> = inputs
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Corpus::open(&inputs, &ReadOptions::default())
}

pub(super) fn issues(corpus: &Corpus) -> Vec<Issue> {
    let issues: Vec<Issue> = corpus.issues().collect::<Result<_, _>>().unwrap();
    assert_eq!(issues.len(), corpus.len());
    issues
}

/// The issues as `number:title`.
fn titles(corpus: &Corpus) -> Vec<String> {
    let title = |issue: Issue| format!("{}:{}", issue.id.number, issue.title);
    issues(corpus).into_iter().map(title).collect()
}

fn broken(corpus: &Corpus) -> Vec<String> {
    let summary = corpus.summary();
    assert_eq!(summary.broken, summary.broken_records.len() as u64);
    summary
        .broken_records
        .iter()
        .map(BrokenRecord::to_string)
        .collect()
}

/// An issue of `a/b`, on one line.
fn json(number: u64, title: &str) -> String {
    format!(r#"{{"repo":"a/b","number":{number},"title":"{title}","body":"see {{[\"]}}"}}"#)
}

fn one_and_two() -> [String; 2] {
    [json(1, "one"), json(2, "two")]
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path
}

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
            body: "b".into()
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
            "standard input: record 2 (line 2, byte 67): it is not valid JSON for an issue: expected value",
            "standard input: record 3 (line 3, byte 81): it is not a JSON object",
            "standard input: record 4 (line 3, byte 84): it is not a JSON object",
            "standard input: record 5 (line 3, byte 90): it has neither title nor body: it is not an issue",
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
    ] {
        let corpus = read(&text);
        assert_eq!(titles(&corpus), ["1:one", "2:two"], "{text}");
        assert_eq!(
            corpus.summary().broken_records[0].fault,
            Fault::UnclosedList,
            "{text}"
        );
    }
}

#[test]
fn invalid_utf8_costs_its_record_only() {
    let [one, two] = one_and_two();
    let mut text = format!("{one}\n{}\n{two}\n", json(3, "?")).into_bytes();
    let place = text.iter().position(|&byte| byte == b'?').unwrap();
    text[place] = 0xff;
    let corpus = read(&text);
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(corpus.summary().broken_records[0].fault, Fault::NotUtf8);

    let mut text = b"repo,number,title,body\na/b,1,one,x\na/b,3,?,x\na/b,2,two,x\n".to_vec();
    let place = text.iter().position(|&byte| byte == b'?').unwrap();
    text[place] = 0xff;
    let corpus = read(&text);
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(
        broken(&corpus),
        ["standard input: record 2 (line 3): it is not valid UTF-8"]
    );
}

#[test]
fn a_record_without_end_is_reported_and_not_kept() {
    let filler = std::io::repeat(b'x').take(MAX_RECORD_BYTES as u64 + 1);
    let [one, two] = one_and_two();
    let before = format!("[{one},{{\"number\":3,\"title\":\"");
    let after = format!("\"}},{two}]");
    let mut stdin = before.as_bytes().chain(filler).chain(after.as_bytes());
    let corpus = Corpus::open_with(&["-".into()], &ReadOptions::default(), &mut stdin).unwrap();
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(corpus.summary().broken_records[0].fault, Fault::TooLong);

    let filler = std::io::repeat(b'x').take(MAX_RECORD_BYTES as u64 + (1 << 20));
    let before = "repo,number,title,body\na/b,1,one,x\na/b,2,two,\"";
    let mut stdin = before.as_bytes().chain(filler);
    let corpus = Corpus::open_with(&["-".into()], &ReadOptions::default(), &mut stdin).unwrap();
    assert_eq!(titles(&corpus), ["1:one"]);
    let record = &corpus.summary().broken_records[0];
    assert_eq!(
        (record.line, &record.fault),
        (Some(3), &Fault::TooLongToGoOn)
    );
}

#[test]
fn strict_makes_the_first_broken_record_an_error() {
    let [one, two] = one_and_two();
    let error = open_stdin(format!("{one}\n{{}}\n{two}").as_bytes(), &strict()).unwrap_err();
    assert!(
        matches!(&error, ReadError::Broken(record) if record.record == 2),
        "{error}"
    );
    assert!(open_stdin(format!("{one}\n{two}").as_bytes(), &strict()).is_ok());
}

#[test]
fn every_broken_record_is_counted_but_only_a_thousand_are_kept() {
    let corpus = read("{}\n".repeat(MAX_BROKEN_KEPT + 5));
    assert_eq!(corpus.summary().broken, MAX_BROKEN_KEPT as u64 + 5);
    assert_eq!(corpus.summary().broken_records.len(), MAX_BROKEN_KEPT);
}

#[test]
fn pull_requests_are_skipped_and_counted() {
    let [one, two] = one_and_two();
    let pull = r#"{"number":3,"title":"t","pull_request":{},"repo":"a/b"}"#;
    let corpus = read(format!("{one}\n{pull}\n{two}"));
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(
        (corpus.summary().pull_requests, corpus.summary().records),
        (1, 3)
    );

    let csv = "number,title,body,html_url\n1,one,,https://github.com/a/b/issues/1\n2,two,,https://github.com/a/b/pull/2\n";
    let corpus = read(csv);
    assert_eq!(titles(&corpus), ["1:one"]);
    assert_eq!(corpus.summary().pull_requests, 1);
}

#[test]
fn of_an_issue_given_twice_the_later_wins_at_its_place() {
    let folder = folder();
    let other = json(1, "other").replace("a/b", "c/d");
    let first = write(
        folder.path(),
        "1.jsonl",
        format!("{}\n{}\n{other}\n", json(1, "old"), json(2, "two")),
    );
    let second = write(
        folder.path(),
        "2.jsonl",
        format!("{}\n{}\n", json(3, "three"), json(1, "new")),
    );
    let corpus = open(&[&first, &second]).unwrap();
    assert_eq!(titles(&corpus), ["2:two", "1:other", "3:three", "1:new"]);
    let summary = corpus.summary();
    assert_eq!(
        (
            summary.files,
            summary.records,
            summary.issues,
            summary.duplicates
        ),
        (2, 5, 4, 1)
    );
    let corpus = open(&[&second, &first]).unwrap();
    assert_eq!(titles(&corpus), ["3:three", "1:old", "2:two", "1:other"]);
}

#[test]
fn the_default_repository_is_used_and_checked() {
    let options = |repo: &str| ReadOptions {
        repo: Some(repo.into()),
        strict: true,
    };
    for text in [r#"{"number":1,"title":"t"}"#, "number,title,body\n1,t,\n"] {
        let corpus = open_stdin(text.as_bytes(), &options("a/b")).unwrap();
        assert_eq!(issues(&corpus)[0].id.to_string(), "a/b#1");
    }
    let error = open_stdin(b"[]", &options("vllm")).unwrap_err();
    assert!(matches!(error, ReadError::Repo(_)), "{error}");
}

#[test]
fn csv_is_read_with_quotes_line_breaks_and_any_case_of_header() {
    for text in [
        "Number, TITLE ,Body,Repo,labels\n1,one,\"a \"\"b\"\",\nc\",a/b,x\n2,two,,a/b,\n",
        "\u{feff}number,title,body,URL\r\n1,one,\"a \"\"b\"\",\nc\",https://github.com/a/b/issues/1\r\n2,two,,https://github.com/a/b/issues/2",
    ] {
        let corpus = read(text);
        assert_eq!(broken(&corpus), [""; 0], "{text}");
        assert_eq!(titles(&corpus), ["1:one", "2:two"], "{text}");
        assert_eq!(issues(&corpus)[0].body, "a \"b\",\nc");
    }
}

#[test]
fn a_broken_row_of_csv_is_skipped_and_named_by_line() {
    let corpus = read(
        "repo,number,title,body\na/b,1,one,\"x\ny\"\na/b,3\na/b,four,t,\na/b,2,two,x\na/b,5,five,\"cut",
    );
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
    assert_eq!(
        broken(&corpus),
        [
            "standard input: record 2 (line 4): it has 2 fields where the header has 4",
            "standard input: record 3 (line 5): its number is not a positive integer",
            "standard input: record 5 (line 7): it is cut off: the file ends inside it",
        ]
    );
}

#[test]
fn a_table_without_a_needed_column_names_what_is_wanted_and_found() {
    let error = refusal("number,headline,body,repo\n1,t,,a/b\n");
    assert!(
        error.contains("title") && error.ends_with("it has number, headline, body, repo"),
        "{error}"
    );
    let error = refusal("number,title,body\n1,t,\n");
    assert!(error.contains("--repo owner/name"), "{error}");

    let text: ArrayRef = Arc::new(StringArray::from(vec!["a/b"]));
    let number: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let file = parquet(&[
        ("number", number),
        ("title", text.clone()),
        ("body", text.clone()),
        ("repo", text),
    ]);
    let error = refusal(file);
    assert!(error.contains("number (Float64), title (Utf8)"), "{error}");
}

#[test]
fn parquet_is_read_with_any_width_of_number_and_any_kind_of_text() {
    let number: ArrayRef = Arc::new(UInt16Array::from(vec![1, 2]));
    let title: ArrayRef = Arc::new(LargeStringArray::from(vec!["one", "two"]));
    let body: ArrayRef = Arc::new(StringViewArray::from(vec![None, Some("text")]));
    let repo: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter(["a/b", "a/b"]));
    let extra: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 0.0]));
    let file = parquet(&[
        ("extra", extra.clone()),
        ("Repo", repo.clone()),
        ("body", body),
        ("comments", extra),
        ("TITLE", title.clone()),
        ("number", number),
    ]);
    for content in [gzip(&file), zstandard(&file), file] {
        let corpus = read(&content);
        assert_eq!(titles(&corpus), ["1:one", "2:two"]);
        assert_eq!(
            issues(&corpus)
                .iter()
                .map(|issue| &*issue.body)
                .collect::<Vec<_>>(),
            ["", "text"]
        );
    }

    let number: ArrayRef = Arc::new(Int32Array::from(vec![Some(-1), None]));
    let body: ArrayRef = Arc::new(NullArray::new(2));
    let corpus = read(parquet(&[
        ("number", number),
        ("title", title),
        ("body", body),
        ("repo", repo),
    ]));
    assert_eq!(
        broken(&corpus),
        [
            "standard input: record 1: its number is not a positive integer",
            "standard input: record 2: its number is not a positive integer",
        ]
    );
}

#[test]
fn files_globs_and_folders_are_read_in_order() {
    let folder = folder();
    let dir = folder.path();
    for (number, name) in [
        (1, "c.json"),
        (2, "a.jsonl"),
        (3, "b.json"),
        (4, "d.json.gz"),
        (5, "[b].json"),
    ] {
        let content = json(number, name).into_bytes();
        write(
            dir,
            name,
            if name.ends_with(".gz") {
                gzip(&content)
            } else {
                content
            },
        );
    }
    write(dir, "README.md", "no issues here");
    fs::create_dir(dir.join("z.json")).unwrap();

    let numbers = |inputs: &[&Path]| -> Vec<u64> {
        issues(&open(inputs).unwrap())
            .iter()
            .map(|issue| issue.id.number)
            .collect()
    };
    assert_eq!(
        numbers(&[&dir.join("c.json"), &dir.join("a.jsonl")]),
        [1, 2]
    );
    assert_eq!(numbers(&[&dir.join("?.json")]), [3, 1]);
    assert_eq!(numbers(&[dir]), [5, 2, 3, 1, 4]);
    // The pattern would match `b.json`, but there is a file of that very name.
    assert_eq!(numbers(&[&dir.join("[b].json")]), [5]);
}

#[test]
fn what_cannot_be_read_is_refused_in_one_line() {
    let folder = folder();
    let dir = folder.path();
    let refused = |path: &Path| open(&[path]).unwrap_err().to_string();
    assert!(refused(&dir.join("none.json")).ends_with("none.json: no such file"));
    assert!(refused(&dir.join("*.json")).contains("matches no file"));
    assert!(refused(&dir.join("a***b")).contains("is not a valid pattern"));
    assert!(refused(dir).contains("holds no .json, .jsonl, .ndjson, .csv, .parquet file"));
    for empty in [
        &b""[..],
        b" \n",
        "\u{feff}".as_bytes(),
        &gzip(b""),
        &zstandard(b""),
    ] {
        assert_eq!(refusal(empty), "standard input: it is empty");
    }
    assert!(
        refusal(b"\x7fELF\x02\x01\x01\0\0").contains("neither JSON, JSON Lines, CSV nor Parquet")
    );
    assert!(
        refusal(
            "\u{feff}[]"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
        )
        .contains("UTF-16")
    );
    assert!(refusal("Just a letter,\nand nothing more.\n").contains("it has Just a letter, "));
    assert!(refusal(b"PAR1 and no more").contains("cannot be read as Parquet"));
}

#[test]
fn compression_is_told_by_content_and_may_have_several_members() {
    let [one, two] = one_and_two();
    let (one, two) = (format!("{one}\n"), format!("{two}\n"));
    for compress in [gzip, zstandard] {
        let content = [compress(one.as_bytes()), compress(two.as_bytes())].concat();
        assert_eq!(titles(&read(&content)), ["1:one", "2:two"]);
        let folder = folder();
        let path = write(folder.path(), "misnamed.txt", &content);
        assert_eq!(titles(&open(&[&path]).unwrap()), ["1:one", "2:two"]);
    }
}

#[test]
fn a_compressed_file_cut_anywhere_is_refused() {
    let [one, two] = one_and_two();
    for (whole, magic) in [
        (gzip(format!("[{one},{two}]").as_bytes()), 2),
        (zstandard(format!("[{one},{two}]").as_bytes()), 4),
    ] {
        for end in magic..whole.len() {
            let error = refusal(&whole[..end]);
            assert!(
                error.contains("cut off or damaged"),
                "cut at {end}: {error}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_once_and_copied() {
    let folder = folder();
    let path = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, one_and_two().join("\n")).unwrap()
    });
    let corpus = open(&[&path]).unwrap();
    writer.join().unwrap();
    assert_eq!(titles(&corpus), ["1:one", "2:two"]);
}

#[test]
fn a_file_that_grows_after_it_was_opened_is_an_error_at_the_end() {
    let folder = folder();
    let [one, two] = one_and_two();
    let path = write(folder.path(), "a.jsonl", &one);
    let corpus = open(&[&path]).unwrap();
    write(folder.path(), "a.jsonl", format!("{one}\n{two}"));
    let last = corpus.issues().last().unwrap();
    assert!(matches!(last, Err(ReadError::Changed)), "{last:?}");
}

#[test]
fn the_study_sample_has_no_broken_record() {
    let shared = std::env::var_os("FAULTLENS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let pattern = shared.join("data/issues/*.json");
    if !pattern.parent().unwrap().is_dir() {
        println!("skipped: {} is not there", pattern.display());
        return;
    }
    let corpus = Corpus::open(&[pattern.display().to_string()], &strict()).unwrap();
    let summary = corpus.summary();
    assert_eq!(
        (summary.files, summary.issues, summary.duplicates),
        (3, 3625, 0)
    );
    let of = |repo: &str| {
        issues(&corpus)
            .iter()
            .filter(|issue| issue.id.repo == repo)
            .count()
    };
    assert_eq!(of("vllm-project/vllm"), 1275);
    assert_eq!(of("sgl-project/sglang"), 956);
    assert_eq!(of("ggml-org/llama.cpp"), 1394);
}
