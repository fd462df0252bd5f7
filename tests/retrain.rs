//! `faultlens train` on more annotations, other taxonomies, tables, and after it was cut off.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

mod tiny;
use tiny::{faultlens, source, train};

/// Words of three invented failures; a text has some of its own and some of everybody's.
const FAILURES: [(&str, [&str; 6]); 3] = [
    (
        "leak",
        ["memory", "grows", "oom", "heap", "allocator", "swap"],
    ),
    (
        "hang",
        ["deadlock", "stuck", "thread", "lock", "waiting", "forever"],
    ),
    (
        "build",
        ["cmake", "linker", "wheel", "compile", "header", "toolchain"],
    ),
];
const FILLER: [&str; 8] = [
    "the", "server", "after", "update", "version", "again", "users", "today",
];

/// The `i`th text about a failure: the same for the same arguments.
fn text(failure: usize, i: usize) -> String {
    let mut state = (failure * 10_007 + i * 97 + 13) as u64;
    let mut random = |n: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let words: Vec<&str> = (0..12)
        .map(|k| match k % 3 {
            0 => FAILURES[failure].1[random(6)],
            _ => FILLER[random(8)],
        })
        .collect();
    words.join(" ")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

/// The files of a model that its training decides.
fn weights(model: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = [
        "model.safetensors",
        "heads.safetensors",
        "lexical.safetensors",
        "faultlens.json",
    ];
    files
        .iter()
        .map(|file| ((*file).to_owned(), fs::read(model.join(file)).unwrap()))
        .collect()
}

#[test]
fn a_training_killed_again_and_again_ends_with_the_same_bits() {
    let folder = tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole/m"), folder.path().join("cut/m"));
    let arguments = ["--epochs", "6", "--checkpoint-steps", "3"];
    run(train(&whole).args(arguments));
    let mut kills = 0;
    for round in 0u64.. {
        let mut child = train(&cut)
            .args(arguments)
            .arg("--resume")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150 + 60 * round));
        match child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
        }
    }
    assert!(kills > 0, "it was over before it could be killed");
    assert!(
        weights(&whole) == weights(&cut),
        "the weights differ after {kills} kills"
    );
    assert_eq!(
        fs::read_to_string(whole.join("metrics.jsonl")).unwrap(),
        fs::read_to_string(cut.join("metrics.jsonl")).unwrap()
    );
    let left: Vec<_> = fs::read_dir(folder.path().join("cut")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_training_that_was_cut_off_is_neither_lost_nor_mixed_up() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("m");
    let mut child = train(&output)
        .args(["--epochs", "100000", "--checkpoint-steps", "1"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state = folder.path().join("m.training");
    while !state.join("model.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let message = |arguments: &[&str]| {
        let run = train(&output).args(arguments).output().unwrap();
        assert!(!run.status.success());
        String::from_utf8_lossy(&run.stderr).into_owned()
    };
    let unasked = message(&["--epochs", "100000"]);
    assert!(
        unasked.contains("--resume") && unasked.contains("--force"),
        "{unasked}"
    );
    let other = message(&["--epochs", "2", "--resume"]);
    assert!(other.contains("another training"), "{other}");
    run(train(&output).args(["--epochs", "1", "--force"]));
    assert!(!state.exists());
}

/// Issues and annotations of the failures with texts `range`, as files in `folder`.
fn corpus(folder: &Path, name: &str, failures: &[usize], range: std::ops::Range<usize>) {
    let (mut issues, mut labels) = (String::new(), String::new());
    for &failure in failures {
        for i in range.clone() {
            let number = 1 + failure * 1000 + i;
            let body = text(failure, i);
            let issue =
                serde_json::json!({"repo": "o/r", "number": number, "title": "", "body": body});
            writeln!(issues, "{issue}").unwrap();
            let label = FAILURES[failure].0;
            let label = serde_json::json!({"repo": "o/r", "number": number, "failure": label});
            writeln!(labels, "{label}").unwrap();
        }
    }
    fs::write(folder.join(format!("{name}.issues.jsonl")), issues).unwrap();
    fs::write(folder.join(format!("{name}.labels.jsonl")), labels).unwrap();
}

fn taxonomy(folder: &Path, labels: &[(&str, &str)]) {
    let mut toml = "[[heads]]\nname = \"failure\"\ntitle = \"\"\ndefinition = \"\"\n".to_owned();
    for (name, more) in labels {
        let head = "[[heads.labels]]\ntitle = \"\"\ndefinition = \"\"";
        writeln!(toml, "{head}\nname = \"{name}\"\n{more}").unwrap();
    }
    fs::write(folder.join("taxonomy.toml"), toml).unwrap();
}

/// `faultlens classify` of a file with a model.
fn classify(file: &Path, model: &Path) -> Command {
    let mut command = faultlens();
    command.arg("classify").arg(file).arg("--model").arg(model);
    command
}

/// What a `classify` writes, a row an issue.
fn rows(command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The share of a corpus's issues of each failure that a model labels right.
fn accuracy(folder: &Path, model: &Path, name: &str) -> BTreeMap<String, f64> {
    let issues = folder.join(format!("{name}.issues.jsonl"));
    let mut right: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for row in rows(&mut classify(&issues, model)) {
        let truth = FAILURES[(row["number"].as_u64().unwrap() / 1000) as usize].0;
        let counts = right.entry(truth.to_owned()).or_default();
        counts.0 += f64::from(u8::from(row["failure"] == truth));
        counts.1 += 1.0;
    }
    right
        .into_iter()
        .map(|(label, (right, all))| (label, right / all))
        .collect()
}

/// `faultlens train` on corpora in a folder.
fn train_on(folder: &Path, names: &[&str], output: &Path) -> Command {
    let mut command = faultlens();
    command
        .arg("train")
        .arg("--output")
        .arg(output)
        .args(["--max-tokens", "32"]);
    command
        .args(["--validation", "0.2", "--learning-rate", "1e-3"])
        .args(["--head-learning-rate", "0.01"]);
    command.arg("--taxonomy").arg(folder.join("taxonomy.toml"));
    command.arg("--issues").args(
        names
            .iter()
            .map(|n| folder.join(format!("{n}.issues.jsonl"))),
    );
    command.arg("--labels").args(
        names
            .iter()
            .map(|n| folder.join(format!("{n}.labels.jsonl"))),
    );
    command
}

#[test]
fn new_annotations_teach_a_new_label_and_the_others_are_not_forgotten() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    corpus(folder, "old", &[0, 1], 0..100);
    corpus(folder, "new", &[2], 0..60);
    corpus(folder, "test", &[0, 1, 2], 500..560);
    taxonomy(folder, &[("leak", ""), ("hang", "")]);
    let (first, second) = (folder.join("first"), folder.join("second"));
    let base = source("tests/fixtures/tiny-bert");
    run(train_on(folder, &["old"], &first)
        .arg("--base")
        .arg(&base)
        .args(["--epochs", "8"]));
    let before = accuracy(folder, &first, "test");
    assert!(
        before["leak"] > 0.9 && before["hang"] > 0.9 && before["build"] == 0.0,
        "{before:?}"
    );

    taxonomy(folder, &[("leak", ""), ("hang", ""), ("build", "")]);
    let stderr = run(train_on(folder, &["old", "new"], &second)
        .arg("--from")
        .arg(&first)
        .args(["--epochs", "4"]));
    assert!(!stderr.contains("warning"), "{stderr}");
    let after = accuracy(folder, &second, "test");
    assert!(after.values().all(|share| *share > 0.9), "{after:?}");

    // Only the new annotations: the model is told what it may forget.
    let third = folder.join("third");
    let stderr = run(train_on(folder, &["old"], &third)
        .arg("--from")
        .arg(&second)
        .args(["--epochs", "1"]));
    assert!(
        stderr.contains("failure.build") && stderr.contains("forget"),
        "{stderr}"
    );
}

#[test]
fn a_changed_taxonomy_reads_old_annotations_and_keeps_what_the_model_knows() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    corpus(folder, "old", &[0, 1, 2], 0..60);
    taxonomy(folder, &[("leak", ""), ("hang", ""), ("build", "")]);
    let (first, second) = (folder.join("first"), folder.join("second"));
    let base = source("tests/fixtures/tiny-bert");
    run(train_on(folder, &["old"], &first)
        .arg("--base")
        .arg(&base)
        .args(["--epochs", "15"]));

    // Two labels merged, one renamed: almost no training, so the rows must have come along.
    taxonomy(
        folder,
        &[
            ("packaging", "was = \"build\""),
            ("runtime", "was = [\"leak\", \"hang\"]"),
        ],
    );
    run(train_on(folder, &["old"], &second)
        .arg("--from")
        .arg(&first)
        .args([
            "--epochs",
            "1",
            "--learning-rate",
            "1e-9",
            "--head-learning-rate",
            "1e-9",
        ]));
    corpus(folder, "test", &[0, 1, 2], 500..530);
    let rows = rows(&mut classify(&folder.join("test.issues.jsonl"), &second));
    let right = rows.iter().filter(|row| {
        let is_build = row["number"].as_u64().unwrap() > 2000;
        row["failure"] == if is_build { "packaging" } else { "runtime" }
    });
    let right = right.count();
    assert!(right > 80, "{right} of 90 are right");

    // A label that nobody declared as removed or renamed is an error; a removed one is not.
    taxonomy(folder, &[("leak", ""), ("hang", "")]);
    let output = train_on(folder, &["old"], &folder.join("third"))
        .arg("--from")
        .arg(&first)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && message.contains("\"build\" is no label of failure"),
        "{message}"
    );
    let toml = fs::read_to_string(folder.join("taxonomy.toml")).unwrap();
    let declared = toml.replacen(
        "definition = \"\"\n",
        "definition = \"\"\nremoved = [\"build\"]\n",
        1,
    );
    fs::write(folder.join("taxonomy.toml"), declared).unwrap();
    run(train_on(folder, &["old"], &folder.join("third"))
        .arg("--from")
        .arg(&first)
        .args(["--epochs", "1"]));
}

#[test]
fn without_an_epoch_the_encoder_and_its_heads_stay() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    corpus(folder, "old", &[0, 1, 2], 0..60);
    taxonomy(folder, &[("leak", ""), ("hang", ""), ("build", "")]);
    let (first, second) = (folder.join("first"), folder.join("second"));
    run(train_on(folder, &["old"], &first)
        .arg("--base")
        .arg(source("tests/fixtures/tiny-bert"))
        .args(["--epochs", "15"]));
    let issues = folder.join("old.issues.jsonl");
    let update = |output: &Path| {
        let mut command = train_on(folder, &["old"], output);
        command.arg("--from").arg(&first).args(["--epochs", "0"]);
        command
    };
    run(&mut update(&second));
    let (before, after) = (weights(&first), weights(&second));
    for file in ["model.safetensors", "heads.safetensors"] {
        assert!(before[file] == after[file], "{file} has changed");
    }
    assert_eq!(rows(&mut classify(&issues, &second)).len(), 180);
    let after = accuracy(folder, &second, "old");
    assert!(after.values().all(|share| *share > 0.9), "{after:?}");

    // A label that the heads do not know cannot be had without training them.
    taxonomy(
        folder,
        &[("leak", ""), ("hang", ""), ("build", ""), ("crash", "")],
    );
    let refused = update(&folder.join("third")).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("failure.crash"), "{message}");
}

/// A table of texts, with labels that are no names, of which every `wrong`th is wrong.
fn table(path: &Path, range: std::ops::Range<usize>, wrong: Option<usize>) -> Vec<usize> {
    let titles = ["Memory leak", "Hang / deadlock", "Build"];
    let (mut csv, mut flipped) = ("id,subject,details,failure type\n".to_owned(), Vec::new());
    let mut row = 0;
    for i in range {
        for failure in 0..3 {
            row += 1;
            let is_wrong = wrong.is_some_and(|wrong| row % wrong == 0);
            let label = titles[(failure + usize::from(is_wrong)) % 3];
            if is_wrong {
                flipped.push(row);
            }
            let (subject, details) = (text(failure, i), text(failure, i + 5000));
            writeln!(csv, "x{row},\"{subject}\",\"{details}\",{label}").unwrap();
        }
    }
    fs::write(path, csv).unwrap();
    flipped
}

fn train_table(csv: &Path) -> Command {
    let mut command = faultlens();
    command.arg("train").arg("--csv").arg(csv);
    command.args([
        "--text",
        "subject,details",
        "--label",
        "failure type",
        "--max-tokens",
        "32",
    ]);
    command
        .args([
            "--learning-rate",
            "1e-3",
            "--head-learning-rate",
            "0.01",
            "--base",
        ])
        .arg(source("tests/fixtures/tiny-bert"));
    command
}

#[test]
fn any_table_trains_a_classifier_that_labels_tables() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let (training, test, model) = (
        folder.join("tickets.csv"),
        folder.join("new.csv"),
        folder.join("model"),
    );
    table(&training, 0..60, None);
    table(&test, 500..510, None);
    run(train_table(&training)
        .args(["--epochs", "15", "--output"])
        .arg(&model));
    let rows = rows(classify(&test, &model).args(["--text", "subject,details"]));
    assert_eq!(rows.len(), 30);
    let names = ["memory_leak", "hang_deadlock", "build"];
    let right = rows.iter().filter(|row| {
        assert_eq!(row["repo"], "table/new");
        row["failure_type"] == names[(row["number"].as_u64().unwrap() as usize - 1) % 3]
    });
    let right = right.count();
    assert!(right >= 27, "{right} of 30 are right");

    let evaluate = |columns: &str, label: &str| {
        let mut command = faultlens();
        command
            .args(["eval", "--resamples", "0", "--csv"])
            .arg(&test);
        command.args(["--text", columns, "--label", label, "--model"]);
        command
            .arg(&model)
            .arg("--json")
            .arg(folder.join("report.json"));
        command
    };
    run(&mut evaluate("subject,details", "failure type"));
    let report: Value =
        serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    let accuracy = &report["models"][0]["heads"][0]["all"]["accuracy"];
    let accuracy = accuracy["value"]
        .as_f64()
        .unwrap_or_else(|| panic!("{report}"));
    assert!((accuracy - right as f64 / 30.0).abs() < 1e-9, "{accuracy}");
    assert_eq!(report["models"][0]["errors"][0]["url"], Value::Null);
    let other = evaluate("details", "subject").output().unwrap();
    let message = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(message.contains("the model's is failure_type"), "{message}");

    let missing = train_table(&training)
        .args(["--label", "colour"])
        .arg("-o")
        .arg(folder.join("n"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        message.contains("no column colour") && message.contains("failure type"),
        "{message}"
    );
}

#[test]
fn cross_validation_finds_wrong_annotations_and_calibrates_a_model_of_all() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let csv = folder.join("tickets.csv");
    let flipped = table(&csv, 0..60, Some(13));
    let (model, suspects, predictions) = (
        folder.join("model"),
        folder.join("suspects.jsonl"),
        folder.join("folds.csv"),
    );
    let mut command = train_table(&csv);
    command
        .args(["--epochs", "10", "--folds", "3", "--suspects"])
        .arg(&suspects);
    command
        .arg("--fold-predictions")
        .arg(&predictions)
        .arg("--output")
        .arg(&model);
    run(&mut command);
    let found: Vec<Value> = fs::read_to_string(&suspects)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers: Vec<usize> = found
        .iter()
        .map(|s| s["number"].as_u64().unwrap() as usize)
        .collect();
    let hits = numbers
        .iter()
        .take(flipped.len())
        .filter(|n| flipped.contains(n))
        .count();
    assert!(
        hits * 4 >= flipped.len() * 3,
        "{hits} of {} among the first",
        flipped.len()
    );
    assert!(
        found[0]["predicted_probability"].as_f64() > found[0]["annotated_probability"].as_f64()
    );
    assert_eq!(
        fs::read_to_string(&predictions).unwrap().lines().count(),
        181
    );

    let manifest: Value =
        serde_json::from_slice(&fs::read(model.join("faultlens.json")).unwrap()).unwrap();
    assert_eq!(manifest["provenance"]["validation"]["folds"], 3);
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    assert!(
        card.contains("Cross-validation") && card.contains("| failure_type | 0.95 |"),
        "{card}"
    );
}

#[test]
fn a_wanted_precision_is_kept_by_abstaining() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let (csv, model) = (folder.join("tickets.csv"), folder.join("model"));
    table(&csv, 0..60, Some(4));
    let mut command = train_table(&csv);
    command
        .args([
            "--epochs",
            "3",
            "--folds",
            "3",
            "--target-precision",
            "0.8",
            "--output",
        ])
        .arg(&model);
    run(&mut command);
    let with_precision = |precision: &str| {
        let mut command = classify(&csv, &model);
        command.args(["--text", "subject,details", "--target-precision", precision]);
        command
    };
    let manifest: Value =
        serde_json::from_slice(&fs::read(model.join("faultlens.json")).unwrap()).unwrap();
    let threshold = &manifest["thresholds"]["failure_type"][0];
    let least = threshold["probability"].as_f64().unwrap_or(2.0);
    for row in rows(&mut with_precision("0.8")) {
        let distribution = row["distribution"]["failure_type"].as_object().unwrap();
        let best = distribution
            .values()
            .filter_map(Value::as_f64)
            .fold(0.0, f64::max);
        // Files have four decimals.
        if (best - least).abs() > 1e-3 {
            assert_eq!(row["failure_type"].is_null(), best < least, "{row}");
        }
    }
    let unknown = with_precision("0.95").output().unwrap();
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success() && message.contains("0.8"),
        "{message}"
    );
}

#[test]
fn an_encoder_learns_to_guess_hidden_words_and_is_a_base_to_train_from() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    corpus(folder, "all", &[0, 1, 2], 0..40);
    let adapted = folder.join("adapted");
    let pretrain = |output: &Path, epochs: &str| {
        let mut command = faultlens();
        command
            .arg("pretrain")
            .arg("--issues")
            .arg(folder.join("all.issues.jsonl"));
        command
            .arg("--base")
            .arg(source("tests/fixtures/tiny-bert"))
            .arg("-o")
            .arg(output);
        command.args([
            "--epochs",
            epochs,
            "--max-tokens",
            "32",
            "--learning-rate",
            "3e-3",
        ]);
        command
    };
    let stderr = run(&mut pretrain(&adapted, "40"));
    let losses: Vec<f64> = stderr
        .lines()
        .filter_map(|line| line.split_once("loss ")?.1.split(',').next()?.parse().ok())
        .collect();
    assert!(
        losses.len() > 3 && losses[losses.len() - 1] < losses[0] * 0.8,
        "{losses:?}"
    );
    let again = folder.join("again");
    run(&mut pretrain(&again, "40"));
    assert!(
        fs::read(adapted.join("model.safetensors")).unwrap()
            == fs::read(again.join("model.safetensors")).unwrap(),
        "the same seed gave another encoder"
    );
    let excluded = pretrain(&folder.join("none"), "1")
        .arg("--exclude")
        .arg(folder.join("all.labels.jsonl"))
        .output()
        .unwrap();
    assert!(!excluded.status.success());
    taxonomy(folder, &[("leak", ""), ("hang", ""), ("build", "")]);
    run(train_on(folder, &["all"], &folder.join("model"))
        .arg("--base")
        .arg(&adapted)
        .args(["--epochs", "1"]));
}
