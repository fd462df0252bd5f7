//! What reading promises, claim by claim. Here: what holds of every format.

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

mod files;
mod json;
mod round_trips;
mod tables;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn parquet(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
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

fn issues(corpus: &Corpus) -> Vec<Issue> {
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
        table: None,
    };
    for text in [r#"{"number":1,"title":"t"}"#, "number,title,body\n1,t,\n"] {
        let corpus = open_stdin(text.as_bytes(), &options("a/b")).unwrap();
        assert_eq!(issues(&corpus)[0].id.to_string(), "a/b#1");
    }
    let error = open_stdin(b"[]", &options("vllm")).unwrap_err();
    assert!(matches!(error, ReadError::Repo(_)), "{error}");
}
