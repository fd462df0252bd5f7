//! `faultlens classify` as its users meet it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

mod tiny;
use tiny::{copy_folder, faultlens, many_issues, model, source};

fn classify(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = faultlens();
    command.arg("classify").arg("--model").arg(model());
    command.args(arguments.iter().map(|argument| argument.as_ref()));
    command
}

fn rows(jsonl: &[u8]) -> Vec<Value> {
    std::str::from_utf8(jsonl)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_issue_gets_consistent_labels_in_input_order() {
    let issues = source("examples/issues.json");
    let output = classify(&[&issues]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = rows(&output.stdout);
    let issues: Vec<Value> = serde_json::from_slice(&fs::read(issues).unwrap()).unwrap();
    assert_eq!(rows.len(), issues.len());
    for (row, issue) in rows.iter().zip(&issues) {
        assert_eq!(row["number"], issue["number"]);
        let is_bug = row["kind"] == "bug";
        assert_eq!(row["category"] != "none", is_bug);
        assert_eq!(row["root_cause"] != "none", is_bug);
        for head in ["kind", "category", "root_cause"] {
            let distribution = row["distribution"][head].as_object().unwrap();
            let sum: f64 = distribution.values().map(|p| p.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 0.01, "{sum}");
            assert_eq!(
                distribution[row[head].as_str().unwrap()],
                row["probability"][head]
            );
        }
    }
    let summary = stderr(&output);
    assert!(
        summary.contains(&format!("{} issues labelled", rows.len())),
        "{summary}"
    );
}

#[test]
fn an_issue_has_the_same_probabilities_alone_and_in_company() {
    let folder = tempdir().unwrap();
    let together = rows(
        &classify(&[&source("examples/issues.json")])
            .output()
            .unwrap()
            .stdout,
    );
    let issues: Vec<Value> =
        serde_json::from_slice(&fs::read(source("examples/issues.json")).unwrap()).unwrap();
    for (issue, expected) in issues.iter().zip(&together).step_by(9) {
        let file = folder.path().join("one.json");
        fs::write(&file, issue.to_string()).unwrap();
        let alone = rows(&classify(&[&file]).output().unwrap().stdout);
        for head in ["kind", "category", "root_cause"] {
            let difference = alone[0]["probability"][head].as_f64().unwrap()
                - expected["probability"][head].as_f64().unwrap();
            assert!(difference.abs() < 2e-4, "{issue}: {difference}");
        }
    }
}

#[test]
fn standard_input_and_every_output_format_work() {
    let folder = tempdir().unwrap();
    let issues = fs::read(source("examples/issues.json")).unwrap();
    let mut piped = classify(&[&"-", &"--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(&issues).unwrap();
    let piped = piped.wait_with_output().unwrap().stdout;
    for name in ["labels.jsonl", "labels.csv", "labels.parquet"] {
        let path = folder.path().join(name);
        let output = classify(&[&source("examples/issues.json"), &"-o", &path])
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stdout.is_empty(),
            "{}",
            stderr(&output)
        );
        assert!(fs::metadata(&path).unwrap().len() > 1000);
    }
    assert_eq!(fs::read(folder.path().join("labels.jsonl")).unwrap(), piped);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        3,
        "nothing else is left behind"
    );
}

#[test]
fn improbable_labels_are_abstained_from() {
    let output = classify(&[&source("examples/issues.json"), &"--min-confidence", &"0.9"])
        .output()
        .unwrap();
    let rows = rows(&output.stdout);
    let mut abstained = 0;
    for row in &rows {
        for head in ["kind", "category", "root_cause"] {
            let improbable = row["probability"][head].as_f64().unwrap() < 0.9;
            assert_eq!(row[head].is_null(), improbable, "{row}");
            assert_eq!(
                row["abstained"].as_array().unwrap().contains(&head.into()),
                improbable
            );
            abstained += usize::from(improbable);
        }
    }
    assert!(abstained > 0);
    assert!(stderr(&output).contains("abstained"), "{}", stderr(&output));
}

#[test]
fn broken_records_and_pull_requests_are_skipped_and_counted() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("issues.jsonl");
    let lines = "{\"number\":1,\"title\":\"It crashes\",\"body\":\"a\",\"repo\":\"o/r\"}\n\
        {\"number\":2,\"title\":\n\
        {\"number\":3,\"title\":\"A change\",\"html_url\":\"https://github.com/o/r/pull/3\"}\n\
        {\"number\":4,\"title\":\"It hangs\",\"body\":\"b\",\"repo\":\"o/r\"}\n";
    fs::write(&file, lines).unwrap();
    let output = classify(&[&file]).output().unwrap();
    assert!(output.status.success());
    let numbers: Vec<Value> = rows(&output.stdout)
        .into_iter()
        .map(|row| row["number"].clone())
        .collect();
    assert_eq!(numbers, [1, 4]);
    let summary = stderr(&output);
    assert!(
        summary.contains("skipped: ") && summary.contains("record 2"),
        "{summary}"
    );
    assert!(
        summary.contains("1 pull requests skipped, 1 broken records skipped"),
        "{summary}"
    );

    let strict = classify(&[&file, &"--strict"]).output().unwrap();
    assert!(!strict.status.success() && strict.stdout.is_empty());
}

/// Ten runs killed at different moments, each followed by `--resume`.
#[test]
fn killed_at_any_moment_and_resumed_the_output_is_that_of_one_run() {
    let folder = tempdir().unwrap();
    let issues = folder.path().join("issues.jsonl");
    fs::write(&issues, many_issues(2500)).unwrap();
    let whole = folder.path().join("whole.jsonl");
    assert!(
        classify(&[&issues, &"-o", &whole, &"-q"])
            .status()
            .unwrap()
            .success()
    );
    let expected = fs::read(&whole).unwrap();

    let mut cut = 0;
    for round in 1..=10u32 {
        let path = folder.path().join(format!("cut{round}.jsonl"));
        let mut run = classify(&[&issues, &"-o", &path, &"-q"]).spawn().unwrap();
        // At different places of the output, and somewhat later, however fast the machine is.
        let place = expected.len() as u64 * u64::from(round - 1) / 13;
        while fs::metadata(&path).map_or(0, |file| file.len()) < place
            && run.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(u64::from(round * 7 % 10)));
        run.kill().unwrap();
        run.wait().unwrap();
        let length = fs::metadata(&path).map_or(0, |file| file.len());
        if round % 2 == 0 && length > 0 {
            // As if it had been killed in the middle of a line.
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(length - 37).unwrap();
        }
        cut += usize::from(length > 0 && length < expected.len() as u64);
        let resumed = classify(&[&issues, &"-o", &path, &"-q", &"--resume"])
            .output()
            .unwrap();
        assert!(resumed.status.success(), "{}", stderr(&resumed));
        assert!(
            fs::read(&path).unwrap() == expected,
            "round {round} differs"
        );
    }
    assert!(cut >= 3, "only {cut} of 10 runs were cut off in the middle");
}

/// The command fails with one line that says all of `words`, and `path` is not there.
fn fails(command: &mut Command, words: &[&str], path: &Path) {
    let output = command.output().unwrap();
    let message = stderr(&output);
    assert!(!output.status.success(), "{command:?} succeeded");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    assert!(message.starts_with("error: "), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(!path.exists(), "{} was left behind", path.display());
}

#[test]
fn bad_input_is_one_line_that_names_it_and_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let output = folder.path().join("out.jsonl");
    let missing = folder.path().join("missing.json");
    fails(
        &mut classify(&[&missing, &"-o", &output]),
        &["missing.json", "no such file"],
        &output,
    );
    let empty = write("empty.json", b"");
    fails(
        &mut classify(&[&empty, &"-o", &output]),
        &["empty.json", "empty"],
        &output,
    );
    let binary = write(
        "binary.json",
        &[0x7f, b'E', b'L', b'F', 0, 1, 2, 3, 0xff, 0xfe],
    );
    fails(
        &mut classify(&[&binary, &"-o", &output]),
        &["binary.json"],
        &output,
    );
    let examples = fs::read(source("examples/issues.json")).unwrap();
    let truncated = write("truncated.json", &examples[..examples.len() / 2]);
    fails(
        &mut classify(&[&truncated, &"-o", &output, &"--strict"]),
        &["truncated.json", "record"],
        &output,
    );
    // Without --strict the records before the cut are labelled, and the cut one is reported.
    let partial = classify(&[&truncated]).output().unwrap();
    assert!(partial.status.success() && rows(&partial.stdout).len() > 5);
    assert!(
        stderr(&partial).contains("truncated.json: record"),
        "{}",
        stderr(&partial)
    );
}

#[test]
fn unwritable_outputs_are_named_before_any_work() {
    let folder = tempdir().unwrap();
    let issues = source("examples/issues.json");
    let missing = folder.path().join("no/such/folder/out.jsonl");
    fails(
        &mut classify(&[&issues, &"-o", &missing]),
        &["out.jsonl", "create its folder"],
        &missing,
    );
    let unknown = folder.path().join("out.txt");
    fails(
        &mut classify(&[&issues, &"-o", &unknown]),
        &["out.txt", ".jsonl", ".csv", ".parquet"],
        &unknown,
    );
    let existing = folder.path().join("there.jsonl");
    fs::write(&existing, "something\n").unwrap();
    let nothing = folder.path().join("nothing");
    fails(
        &mut classify(&[&issues, &"-o", &existing]),
        &["there.jsonl", "--resume", "--force"],
        &nothing,
    );
    assert_eq!(fs::read(&existing).unwrap(), b"something\n");
}

#[test]
fn a_model_folder_with_something_wrong_is_named() {
    let folder = tempdir().unwrap();
    let issues = source("examples/issues.json");
    let output = folder.path().join("out.jsonl");
    let run = |model: &Path| {
        let mut command = faultlens();
        command
            .arg("classify")
            .arg(&issues)
            .arg("-o")
            .arg(&output)
            .arg("--model")
            .arg(model);
        command
    };
    for file in [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "heads.safetensors",
        "taxonomy.toml",
        "faultlens.json",
    ] {
        let broken = folder.path().join(format!("without-{file}"));
        copy_folder(model(), &broken);
        fs::remove_file(broken.join(file)).unwrap();
        fails(&mut run(&broken), &[file, "missing"], &output);
    }
    let cut = folder.path().join("cut");
    copy_folder(model(), &cut);
    let weights = fs::read(cut.join("model.safetensors")).unwrap();
    fs::write(cut.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    fails(&mut run(&cut), &["model.safetensors", "again"], &output);

    let other = folder.path().join("other-taxonomy");
    copy_folder(model(), &other);
    let taxonomy = fs::read_to_string(other.join("taxonomy.toml")).unwrap();
    let (before, after) = taxonomy.split_once("[[heads.labels]]").unwrap();
    let extra = format!(
        "{before}[[heads.labels]]\nname = \"new\"\ntitle = \"New\"\ndefinition = \"x\"\nrules = []\n\n[[heads.labels]]{after}"
    );
    fs::write(other.join("taxonomy.toml"), extra).unwrap();
    fails(
        &mut run(&other),
        &["taxonomy.toml", "kind", "5 labels", "faultlens train"],
        &output,
    );

    fails(
        &mut run(Path::new("no-such-model")),
        &["no-such-model", "owner/name"],
        &output,
    );
}

#[test]
fn the_shipped_model_is_found_from_any_directory() {
    if !source("models/default").is_dir() {
        panic!("models/default is missing");
    }
    let folder = tempdir().unwrap();
    let output = faultlens()
        .arg("classify")
        .arg(source("examples/issues.json"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        rows(&output.stdout)[0]["model"]
            .as_str()
            .unwrap()
            .starts_with("default-")
    );
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut run = classify(&[&source("examples/issues.json")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stdout.take());
    std::thread::sleep(Duration::from_millis(10));
    assert!(run.wait().unwrap().success());
}
