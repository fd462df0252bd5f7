//! CSV and Parquet: columns, cells, broken rows.

use super::*;

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
fn a_long_csv_of_short_rows_has_no_record_that_is_too_long() {
    let body = "x".repeat(1 << 20);
    let rows = MAX_RECORD_BYTES / body.len() + 2;
    let row = |number| format!("a/b,{number},t,{body}\n");
    let content: String = (1..=rows).map(row).collect();
    let corpus = read(format!("repo,number,title,body\n{content}"));
    assert_eq!((corpus.len(), corpus.summary().broken), (rows, 0));
}

#[test]
fn what_github_knows_beside_the_text_is_read_from_tables_too() {
    let expected = Metadata {
        is_open: Some(false),
        closed_at: Some("2024-05-17T09:30:00Z".into()),
        comments: Some(4),
        reactions: Some(2),
        labels: vec!["bug".into(), "gpu".into()],
        author_association: Some("NONE".into()),
    };
    let csv = "number,title,body,repo,state,closed_at,comments,reactions,labels,author_association\n\
               1,t,b,a/b,closed,2024-05-17T09:30:00Z,4,2,\"bug, gpu\",NONE\n\
               2,t,b,a/b,,,,,,\n";
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let parquet = parquet(&[
        ("number", Arc::new(Int32Array::from(vec![1]))),
        ("title", text("t")),
        ("body", text("b")),
        ("repo", text("a/b")),
        ("state", text("CLOSED")),
        ("closed_at", text("2024-05-17T09:30:00Z")),
        ("comments", Arc::new(Int32Array::from(vec![4]))),
        ("reactions", text("2")),
        ("labels", text(r#"[{"name":"bug"},"gpu"]"#)),
        ("author_association", text("NONE")),
    ]);
    for corpus in [read(csv), read(parquet)] {
        let found: Vec<Metadata> = corpus
            .issues_with_metadata()
            .map(|issue| issue.unwrap().1)
            .collect();
        assert_eq!(found[0], expected);
        assert!(found.len() == 1 || found[1] == Metadata::default());
    }
}
