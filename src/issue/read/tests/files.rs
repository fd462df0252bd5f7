//! Which files are read, in what order, compressed or not, and which are refused.

use super::*;

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

#[test]
#[cfg(unix)]
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
