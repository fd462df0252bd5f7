//! `faultlens eval` as its users meet it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

mod tiny;
use tiny::{faultlens, model, source};

/// `faultlens eval` on the labels of the examples, with few resamples.
fn eval(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = faultlens();
    command
        .arg("eval")
        .arg("--gold")
        .arg(source("examples/labels.jsonl"));
    command.args(["--resamples", "200"]);
    command.args(arguments.iter().map(|argument| argument.as_ref()));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// The command fails with one line that says all of `words`.
fn fails(command: &mut Command, words: &[&str]) {
    let output = command.output().unwrap();
    let message = text(&output.stderr);
    assert!(!output.status.success(), "{command:?} succeeded");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn gold() -> Vec<Value> {
    let text = fs::read_to_string(source("examples/labels.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Predictions of labels only in `folder/name`: those of gold, wrong for every issue whose place is a
/// multiple of `wrong`.
fn labels(folder: &TempDir, name: &str, wrong: usize) -> PathBuf {
    let path = folder.path().join(name);
    let mut text = "repo,number,kind,category,root_cause\n".to_owned();
    for (place, mut row) in gold().into_iter().enumerate() {
        if place % wrong == 0 {
            let is_bug = row["kind"] == "bug";
            row["kind"] = if is_bug { "feature" } else { "bug" }.into();
            row["category"] = if is_bug { "none" } else { "other" }.into();
            row["root_cause"] = if is_bug { "none" } else { "unknown" }.into();
        }
        let field = |name: &str| row[name].as_str().unwrap().to_owned();
        text += &format!(
            "{},{},{},{},{}\n",
            field("repo"),
            row["number"],
            field("kind"),
            field("category"),
            field("root_cause")
        );
    }
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_model_and_the_file_of_its_predictions_have_the_same_figures() {
    let folder = tempdir().unwrap();
    let issues = source("examples/issues.json");
    let file = folder.path().join("predictions.jsonl");
    let mut classify = faultlens();
    classify
        .arg("classify")
        .arg("--model")
        .arg(model())
        .arg(&issues)
        .arg("-o")
        .arg(&file);
    succeeds(&mut classify);
    let (by_model, by_file) = (folder.path().join("a.json"), folder.path().join("b.json"));
    succeeds(&mut eval(&[
        &"--model",
        &model(),
        &"--issues",
        &issues,
        &"--json",
        &by_model,
    ]));
    succeeds(&mut eval(&[
        &"--predictions",
        &file,
        &"--issues",
        &issues,
        &"--json",
        &by_file,
    ]));
    let (mut by_model, by_file) = (json(&by_model), json(&by_file));
    assert_eq!(by_model["models"][0]["name"], "tiny");
    assert_eq!(by_file["models"][0]["name"], "predictions");
    by_model["models"][0]["name"] = "predictions".into();
    assert_eq!(by_model, by_file);

    let model = &by_file["models"][0];
    assert_eq!(model["issues"], gold().len());
    let heads = model["heads"].as_array().unwrap();
    let names: Vec<&Value> = heads.iter().map(|head| &head["head"]).collect();
    assert_eq!(names, ["kind", "category", "root_cause"]);
    for head in heads {
        assert!(head["calibration"]["ece"]["value"].is_f64(), "{head}");
        assert!(head["selective"]["aurc"]["low"].is_f64(), "{head}");
    }
}

#[test]
fn labels_of_any_tool_are_measured() {
    let folder = tempdir().unwrap();
    let (report, page) = (folder.path().join("r.json"), folder.path().join("r.md"));
    let predictions = labels(&folder, "rules.csv", 5);
    let output = succeeds(&mut eval(&[
        &"--predictions",
        &predictions,
        &"--json",
        &report,
        &"--markdown",
        &page,
    ]));
    let n = gold().len();
    let right = (n - n.div_ceil(5)) as f64 / n as f64;
    let model = &json(&report)["models"][0];
    for head in model["heads"].as_array().unwrap() {
        let accuracy = &head["all"]["accuracy"];
        assert!((accuracy["value"].as_f64().unwrap() - right).abs() < 1e-12);
        assert!(accuracy["low"].as_f64().unwrap() < right);
        assert!(accuracy["high"].as_f64().unwrap() > right);
        assert!(head["calibration"].is_null());
    }
    assert!((model["joint_accuracy"]["value"].as_f64().unwrap() - right).abs() < 1e-12);
    let shown = text(&output.stdout);
    assert!(shown.contains("nothing is said of calibration"), "{shown}");
    let figure = format!("{right:.3} [");
    for report in [shown, fs::read_to_string(page).unwrap()] {
        assert!(report.contains(&figure), "{figure:?} is not in {report}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempdir().unwrap();
    let predictions = labels(&folder, "rules.csv", 4);
    let with = |threads: &str| {
        let path = folder.path().join(threads);
        let mut command = eval(&[&"--predictions", &predictions, &"--json", &path]);
        succeeds(command.env("RAYON_NUM_THREADS", threads));
        fs::read(path).unwrap()
    };
    assert_eq!(with("1"), with("3"));
}

#[test]
fn a_change_for_the_worse_fails_the_check_and_names_the_figures() {
    let folder = tempdir().unwrap();
    let stored = folder.path().join("stored.json");
    let predictions = labels(&folder, "rules.csv", 5);
    succeeds(&mut eval(&[
        &"--predictions",
        &predictions,
        &"--json",
        &stored,
    ]));
    let mut check = eval(&[&"--predictions", &predictions, &"--check", &stored]);
    let output = succeeds(&mut check);
    assert!(text(&output.stdout).starts_with("no figure is worse"));

    labels(&folder, "rules.csv", 2);
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let lines = text(&output.stdout);
    assert!(
        lines.lines().all(|line| line.starts_with("worse: rules: ")),
        "{lines}"
    );
    assert!(
        lines.contains("worse: rules: kind: accuracy: 0.493, stored 0.795"),
        "{lines}"
    );
    assert!(
        lines.contains("worse: rules: category where it applies: accuracy"),
        "{lines}"
    );

    let other = labels(&folder, "other.csv", 2);
    fails(
        &mut eval(&[&"--predictions", &other, &"--check", &stored]),
        &["rules", "other", "evaluate rules too"],
    );
    fails(
        &mut eval(&[&"--predictions", &predictions, &"--check", &predictions]),
        &["rules.csv", "--json"],
    );
}

#[test]
fn two_models_are_compared() {
    let folder = tempdir().unwrap();
    let (good, bad) = (
        labels(&folder, "good.csv", 20),
        labels(&folder, "bad.csv", 2),
    );
    let report = folder.path().join("r.json");
    let output = succeeds(&mut eval(&[
        &"--predictions",
        &good,
        &bad,
        &"--json",
        &report,
    ]));
    let shown = text(&output.stdout);
    assert!(
        shown.contains(
            "- good agrees with gold more often than bad on kind (p < 0.001, corrected for 3 tests)"
        ),
        "{shown}"
    );
    let comparison = &json(&report)["comparisons"][0];
    assert_eq!(
        (&comparison["first"], &comparison["second"]),
        (&"good".into(), &"bad".into())
    );
    assert!(comparison["heads"][0]["accuracy"]["low"].as_f64().unwrap() > 0.0);
}

#[test]
fn models_of_one_name_go_by_their_paths() {
    let (one, two) = (tempdir().unwrap(), tempdir().unwrap());
    let (a, b) = (labels(&one, "m.csv", 3), labels(&two, "m.csv", 4));
    let report = one.path().join("r.json");
    succeeds(&mut eval(&[&"--predictions", &a, &b, &"--json", &report]));
    let report = json(&report);
    assert_eq!(report["models"][0]["name"], a.display().to_string());
    assert_eq!(report["models"][1]["name"], b.display().to_string());
}

#[test]
fn annotators_of_other_files_are_compared_with_each_other_and_the_model() {
    let folder = tempdir().unwrap();
    let annotator = |name: &str, kind: &str| {
        let path = folder.path().join(format!("{name}.jsonl"));
        let lines = gold().into_iter().enumerate().map(|(place, mut row)| {
            if place % 10 == 0 && row["kind"] != "bug" {
                row["kind"] = kind.into();
            }
            row["annotator"] = name.into();
            row.to_string()
        });
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
        path
    };
    let (ada, bob) = (annotator("ada", "other"), annotator("bob", "question"));
    let predictions = labels(&folder, "rules.csv", 3);
    let report = folder.path().join("r.json");
    let output = succeeds(&mut eval(&[
        &"--predictions",
        &predictions,
        &"--annotators",
        &ada,
        &bob,
        &"--json",
        &report,
    ]));
    let annotators = &json(&report)["annotators"];
    let names: Vec<&str> = annotators["names"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        names.contains(&"ada") && names.contains(&"bob"),
        "{names:?}"
    );
    let kind = &annotators["heads"][0];
    assert!(kind["alpha"]["value"].as_f64().unwrap() > 0.5);
    assert!(kind["models"][0]["difference"]["high"].as_f64().unwrap() < 0.0);
    let shown = text(&output.stdout);
    assert!(
        shown.contains("rules on kind: agrees with the annotators less"),
        "{shown}"
    );
}

#[test]
fn texts_are_shown_on_demand_and_written_into_no_figures() {
    let folder = tempdir().unwrap();
    let issues = source("examples/issues.json");
    let predictions = labels(&folder, "rules.csv", 1);
    let (report, page) = (folder.path().join("r.json"), folder.path().join("r.md"));
    let html = folder.path().join("r.html");
    let mut command = eval(&[
        &"--predictions",
        &predictions,
        &"--issues",
        &issues,
        &"--json",
        &report,
        &"--markdown",
        &page,
        &"--html",
        &html,
    ]);
    let without = text(&succeeds(&mut command).stdout) + &fs::read_to_string(&html).unwrap();
    let with = text(&succeeds(command.arg("--texts")).stdout);
    let html = fs::read_to_string(&html).unwrap();
    assert!(html.contains("[Bug]: OOM at CUDA graph capture"));
    let issues: Vec<Value> = serde_json::from_slice(&fs::read(issues).unwrap()).unwrap();
    let files = fs::read_to_string(report).unwrap() + &fs::read_to_string(page).unwrap();
    let titles: Vec<&str> = issues
        .iter()
        .filter_map(|issue| issue["title"].as_str())
        .collect();
    assert!(titles.iter().any(|title| with.contains(title)), "{with}");
    for title in titles {
        assert!(
            !without.contains(title) && !files.contains(title),
            "{title}"
        );
    }
}

#[test]
fn a_note_stands_in_every_form_of_the_report() {
    let folder = tempdir().unwrap();
    let predictions = labels(&folder, "rules.csv", 3);
    let files = ["r.json", "r.md", "r.html"].map(|name| folder.path().join(name));
    let note = "Labelled by a language model";
    let mut command = eval(&[
        &"--predictions",
        &predictions,
        &"--json",
        &files[0],
        &"--markdown",
        &files[1],
        &"--html",
        &files[2],
    ]);
    let without = text(&succeeds(&mut command).stdout);
    assert!(!without.contains(note));
    assert!(json(&files[0])["gold"].get("note").is_none());
    let with = text(&succeeds(command.args(["--note", note])).stdout);
    assert!(with.starts_with(note), "{with}");
    assert_eq!(json(&files[0])["gold"]["note"], note);
    for file in &files[1..] {
        let form = fs::read_to_string(file).unwrap();
        assert!(form.contains(note), "{}", file.display());
    }
}

#[test]
fn what_cannot_be_measured_is_one_line_that_says_why() {
    let folder = tempdir().unwrap();
    fails(&mut eval(&[&"--model", &model()]), &["--issues"]);
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let elsewhere = write("elsewhere.csv", "repo,number,kind\nno/where,1,bug\n");
    fails(
        &mut eval(&[&"--predictions", &elsewhere]),
        &["elsewhere", "none of its 1 predictions", "labels.jsonl"],
    );
    let others = write("others.csv", "repo,number,kind\nno/where,1,defect\n");
    fails(
        &mut eval(&[&"--predictions", &others]),
        &["others.csv", "\"defect\"", "--taxonomy"],
    );
    let headless = write("headless.csv", "repo,number,topic\nno/where,1,defect\n");
    fails(
        &mut eval(&[&"--predictions", &headless]),
        &["headless.csv", "kind, category, root_cause"],
    );
    let issues = write(
        "issues.jsonl",
        "{\"repo\":\"no/where\",\"number\":1,\"title\":\"t\"}\n",
    );
    fails(
        &mut eval(&[&"--model", &model(), &"--issues", &issues]),
        &["none of the 1 issues is in labels.jsonl"],
    );
    let twice = labels(&folder, "twice.csv", 3);
    let rows = fs::read_to_string(&twice).unwrap();
    fs::write(&twice, format!("{rows}{}\n", rows.lines().nth(1).unwrap())).unwrap();
    fails(
        &mut eval(&[&"--predictions", &twice]),
        &["twice: ", "predicted twice"],
    );
    let table = write("labels.txt", "");
    fails(
        &mut eval(&[&"--predictions", &table]),
        &["labels.txt", ".jsonl, .csv or .parquet"],
    );
}
