//! `faultlens study` and `taxonomy` as their users meet them, on invented issues; and how often the
//! intervals hold the truth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use faultlens::study::findings::{Findings, Verdict, schema};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

mod simulation;
#[path = "../tiny/mod.rs"]
mod tiny;
use tiny::{faultlens, model, source};

const REPOS: [&str; 2] = ["a/first", "b/second"];

/// 300 invented issues of two repositories: number, truth, prediction. A fifth of predictions is wrong.
fn corpus() -> Vec<(usize, &'static str, [&'static str; 3], [&'static str; 3])> {
    let truth = |i: usize| match i % 10 {
        0..=3 => ["bug", "memory", "memory_allocation"],
        4 | 5 => ["bug", "gpu", "platform"],
        6 => ["bug", "api", "interface"],
        7 | 8 => ["feature", "none", "none"],
        _ => ["question", "none", "none"],
    };
    (0..300)
        .map(|i| {
            let predicted = if i % 5 == 3 {
                truth(i * 7 + 5)
            } else {
                truth(i)
            };
            (i + 1, REPOS[(i / 10) % 2], truth(i), predicted)
        })
        .collect()
}

fn line(repo: &str, number: usize, [kind, category, cause]: [&str; 3]) -> Value {
    json!({"repo": repo, "number": number, "kind": kind, "category": category, "root_cause": cause})
}

struct Files {
    folder: TempDir,
    issues: PathBuf,
    predictions: PathBuf,
    gold: PathBuf,
}

fn files() -> Files {
    let folder = tempdir().unwrap();
    let corpus = corpus();
    let issues = corpus.iter().map(|(number, repo, ..)| {
        let month = 1 + number % 12;
        json!({"repo": repo, "number": number, "title": "t", "body": "b", "comments": number % 7,
            "state": if number % 4 == 0 { "open" } else { "closed" },
            "created_at": format!("2024-{month:02}-03T00:00:00Z"),
            "closed_at": (number % 4 != 0).then(|| format!("2024-{month:02}-{:02}T00:00:00Z", 4 + number % 20)),
            "labels": [{"name": "bug"}], "author_association": "NONE"})
    });
    let predictions = corpus
        .iter()
        .map(|&(number, repo, _, predicted)| line(repo, number, predicted));
    // Every third: spread alike over repositories, months and labels.
    let gold = corpus.iter().filter(|(number, ..)| number % 3 == 0);
    let gold = gold.map(|&(number, repo, truth, _)| line(repo, number, truth));
    let write = |name: &str, lines: &mut dyn Iterator<Item = Value>| {
        let path = folder.path().join(name);
        let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    };
    Files {
        issues: write("issues.jsonl", &mut { issues }),
        predictions: write("predictions.jsonl", &mut { predictions }),
        gold: write("gold.jsonl", &mut { gold }),
        folder,
    }
}

fn study(issues: &Path) -> Command {
    let mut command = faultlens();
    command.arg("study").arg("--issues").arg(issues);
    command
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output
}

fn findings(command: &mut Command, folder: &TempDir) -> Findings {
    let path = folder.path().join("analysis_results.json");
    succeeds(command.arg("-o").arg(&path));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn share(findings: &Findings, head: &str, label: &str) -> faultlens::study::findings::Shares {
    let head = findings
        .heads
        .iter()
        .find(|found| found.head == head)
        .unwrap();
    head.labels
        .iter()
        .find(|found| found.label == label)
        .unwrap()
        .share
        .clone()
}

#[test]
fn one_command_makes_json_page_and_markdown_and_answers_claims() {
    let files = files();
    let folder = files.folder.path();
    let claims = folder.join("study.toml");
    fs::write(
        &claims,
        r#"
        claims = [
          { id = "a", text = "Memory is first.", first = "category.memory" },
          { id = "b", text = "API is first.", first = "category.api" },
          { id = "c", text = "Bugs are most.", at_least = { label = "kind.bug", share = 0.5 } },
          { id = "d", text = "Half are features.", at_least = { label = "kind.feature", share = 0.5 } },
          { id = "e", text = "Alike.", greater = { label = "category.gpu", in = "a/first", than = "b/second" } },
          { id = "f", text = "Hard.", undecidable = "Nobody measured." },
          { id = "g", text = "Elsewhere.", first = "category.memory", in = "c/third" },
          { id = "h", text = "GPU is platform.", at_least = { label = "root_cause.platform", share = 0.7 }, within = "category.gpu" },
        ]"#,
    )
    .unwrap();
    let (page, text) = (folder.join("study.html"), folder.join("findings.md"));
    let mut command = study(&files.issues);
    command
        .arg("--predictions")
        .arg(&files.predictions)
        .arg("--gold")
        .arg(&files.gold);
    command
        .arg("--claims")
        .arg(&claims)
        .arg("--html")
        .arg(&page)
        .arg("--markdown")
        .arg(&text);
    let found = findings(&mut command, &files.folder);

    let verdicts: Vec<Verdict> = found.claims.iter().map(|claim| claim.verdict).collect();
    use Verdict::{Refuted, Supported, Undecidable, Undecided};
    assert_eq!(
        verdicts,
        [
            Supported,
            Refuted,
            Supported,
            Refuted,
            Undecided,
            Undecidable,
            Undecided,
            Supported
        ]
    );
    assert!(found.claims[6].why.contains("no issue of c/third"));
    // 120 of the 210 bugs are of memory; counting predictions says less.
    let memory = share(&found, "category", "memory");
    let estimate = memory.estimate.unwrap();
    assert!(
        estimate.low < 4.0 / 7.0 && 4.0 / 7.0 < estimate.high,
        "{estimate:?}"
    );
    assert!(memory.lambda.unwrap() > 0.3);
    assert_eq!((memory.gold_issues, memory.gold_with_label), (70, 40));
    let all = &found.repositories[0];
    assert_eq!(
        (all.issues, all.open, all.closed, all.gold),
        (300, 75, 225, 100)
    );
    assert_eq!(all.survival.closed, 225);
    assert_eq!(found.github_labels[0].issues, 300);
    assert!(
        found
            .gold
            .as_ref()
            .unwrap()
            .spread
            .iter()
            .all(|spread| spread.p > 0.5)
    );

    let text = fs::read_to_string(text).unwrap();
    assert!(
        text.contains("| Memory is first. | share of memory 0."),
        "{text}"
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("Content-Security-Policy") && !page.contains("<script"));

    let document = succeeds(
        faultlens()
            .arg("taxonomy")
            .arg("--markdown")
            .arg("--study")
            .arg(folder.join("analysis_results.json")),
    );
    let document = String::from_utf8(document.stdout).unwrap();
    assert!(document.contains("(`memory_allocation`)") && document.contains("| a/first |"));
}

#[test]
fn predictions_of_issues_that_the_model_was_trained_on_do_not_count() {
    let files = files();
    let of = |arguments: &[&Path]| {
        let mut command = study(&files.issues);
        command.arg("--gold").arg(&files.gold).args(arguments);
        findings(&mut command, &files.folder)
    };
    let plain: [&Path; 2] = ["--predictions".as_ref(), &files.predictions];
    let unknown = of(&plain);
    assert!(
        unknown.remarks[0].contains("--trained-on names"),
        "{:?}",
        unknown.remarks
    );
    // Labels that name no model: nothing is known of what it was trained on.
    assert_eq!(unknown.gold.unwrap().left_out, 0);

    let trained = files.folder.path().join("trained.jsonl");
    let lines = corpus().into_iter().filter(|(number, ..)| number % 3 != 0);
    let lines: Vec<String> = lines
        .map(|(number, repo, truth, _)| line(repo, number, truth).to_string())
        .collect();
    fs::write(&trained, lines.join("\n")).unwrap();
    let known = [&plain[..], &["--trained-on".as_ref(), &trained]].concat();
    let found = of(&known);
    let gold = found.gold.as_ref().unwrap();
    assert_eq!((gold.left_out, gold.unlabelled), (200, 0));
    let memory = share(&found, "category", "memory");
    assert_eq!(memory.estimate, memory.gold_alone);
    let said = found.remarks.join(" ");
    assert!(
        said.contains("200 of 300") && said.contains("gold alone"),
        "{said}"
    );

    // By cross-validation they do.
    let folds = files.folder.path().join("folds.jsonl");
    let lines: Vec<String> = corpus()
        .into_iter()
        .map(|(number, repo, _, predicted)| {
            let mut line = line(repo, number, predicted);
            line["model"] = "cross-validation-5".into();
            line.to_string()
        })
        .collect();
    fs::write(&folds, lines.join("\n") + "\n").unwrap();
    let found = of(&[&known[..], &["--predictions".as_ref(), &folds]].concat());
    assert_eq!(found.gold.unwrap().unlabelled, 200);
}

#[test]
fn a_corpus_without_gold_says_that_its_shares_are_counts() {
    let files = files();
    let mut command = study(&files.issues);
    command.arg("--predictions").arg(&files.predictions);
    let found = findings(&mut command, &files.folder);
    assert!(
        found
            .remarks
            .iter()
            .any(|remark| remark.starts_with("There is no gold"))
    );
    let memory = share(&found, "category", "memory");
    assert!(memory.estimate.is_none() && memory.classify_and_count.is_some());
    assert!(found.claims.iter().all(|claim| {
        claim.estimate.is_none()
            && matches!(claim.verdict, Verdict::Undecided | Verdict::Undecidable)
    }));
}

#[test]
fn one_issue_no_issue_and_missing_dates_are_said_in_words() {
    let files = files();
    let folder = files.folder.path();
    let corpora = [
        (
            r#"{"repo":"a/first","number":1,"title":"t"}"#,
            "is one issue",
        ),
        ("[]", "has no issue"),
        (
            "{\"repo\":\"a/first\",\"number\":1,\"title\":\"t\"}\n{\"repo\":\"a/first\",\"number\":21,\"title\":\"t\",\"created_at\":\"soon\"}",
            "2 of 2 issues have no date",
        ),
    ];
    for (place, (text, words)) in corpora.into_iter().enumerate() {
        let issues = folder.join(format!("{place}.json"));
        fs::write(&issues, text).unwrap();
        for with_gold in [false, true] {
            let (page, md) = (folder.join("p.html"), folder.join("f.md"));
            let mut command = study(&issues);
            command.arg("--predictions").arg(&files.predictions);
            command.arg("--html").arg(&page).arg("--markdown").arg(&md);
            if with_gold {
                command.arg("--gold").arg(&files.gold);
            }
            let found = findings(&mut command, &files.folder);
            assert!(
                found.remarks.iter().any(|remark| remark.contains(words)),
                "{:?}",
                found.remarks
            );
            assert!(share(&found, "category", "memory").estimate.is_none());
        }
    }
}

#[test]
fn a_repository_without_gold_and_gold_elsewhere_are_named() {
    let files = files();
    let gold = fs::read_to_string(&files.gold).unwrap();
    let of_first: Vec<String> = gold
        .lines()
        .filter(|line| line.contains("a/first"))
        .map(str::to_owned)
        .collect();
    let outside = line("c/third", 5, ["bug", "gpu", "platform"]).to_string();
    fs::write(&files.gold, of_first.join("\n") + "\n" + &outside + "\n").unwrap();
    let mut command = study(&files.issues);
    command
        .arg("--predictions")
        .arg(&files.predictions)
        .arg("--gold")
        .arg(&files.gold);
    let found = findings(&mut command, &files.folder);
    let said = found.remarks.join("\n");
    assert!(
        said.contains("b/second has 150 issues and 0 of gold"),
        "{said}"
    );
    assert!(
        said.contains("1 gold annotations are of issues that are not in the corpus"),
        "{said}"
    );
    assert!(
        said.contains("not spread over the corpus as a random sample would be, by repository"),
        "{said}"
    );
    let memory = found.heads[1]
        .labels
        .iter()
        .find(|label| label.label == "memory")
        .unwrap();
    assert!(memory.repositories["b/second"].estimate.is_none());
    assert!(memory.repositories["a/first"].estimate.is_some());
}

#[test]
fn weights_count() {
    let files = files();
    let gold = fs::read_to_string(&files.gold).unwrap();
    // Bugs, three in seven of them, each stand for as many as are left out.
    let weighted: Vec<String> = gold
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["kind"] != "bug" || line["number"].as_u64().unwrap() % 2 == 0)
        .map(|mut line| {
            line["weight"] = if line["kind"] == "bug" {
                7.0 / 3.0
            } else {
                1.0
            }
            .into();
            line.to_string()
        })
        .collect();
    fs::write(&files.gold, weighted.join("\n")).unwrap();
    let mut command = study(&files.issues);
    command
        .arg("--predictions")
        .arg(&files.predictions)
        .arg("--gold")
        .arg(&files.gold);
    let found = findings(&mut command, &files.folder);
    assert!(found.gold.as_ref().unwrap().is_weighted);
    let alone = share(&found, "kind", "bug").gold_alone.unwrap();
    assert!((alone.value - 0.7).abs() < 0.01, "{alone:?}");
}

#[test]
fn a_wrong_study_file_is_refused_with_the_claim_and_what_is_wrong() {
    let files = files();
    let claims = files.folder.path().join("study.toml");
    for (form, words) in [
        (
            r#"first = "category.gpus""#,
            "name one of build, distributed",
        ),
        (r#"first = "kinds.bug""#, "name one of kind, category"),
        (r#"first = "bug""#, "is not head.label"),
        (
            r#"first = "kind.bug", rising = "kind.bug""#,
            "exactly one of",
        ),
        (
            r#"at_least = { label = "kind.bug", share = 50 }"#,
            "from 0 to 1",
        ),
        (
            r#"greater = { label = "kind.bug", than = "a/b" }"#,
            "two repositories",
        ),
        (r#"biggest = "kind.bug""#, "unknown field"),
        (
            r#"first = "kind.bug", except = "kind.bug""#,
            "other labels of the same head",
        ),
    ] {
        fs::write(
            &claims,
            format!("claims = [{{ id = \"x\", text = \"y\", {form} }}]"),
        )
        .unwrap();
        let mut command = study(&files.issues);
        command
            .arg("--predictions")
            .arg(&files.predictions)
            .arg("--claims")
            .arg(&claims);
        let output = command.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{form} was taken");
        assert!(
            message.contains(words) && message.trim_end().lines().count() == 1,
            "{message}"
        );
    }
}

#[test]
fn a_model_labels_first_and_its_labels_can_be_kept() {
    let folder = tempdir().unwrap();
    let kept = folder.path().join("kept.jsonl");
    let mut command = study(&source("examples/issues.json"));
    command
        .arg("--model")
        .arg(model())
        .arg("--gold")
        .arg(source("examples/labels.jsonl"));
    command
        .arg("--trained-on")
        .arg(source("examples/labels.jsonl"));
    let found = findings(command.arg("--keep-predictions").arg(&kept), &folder);
    // It was trained on all of them.
    assert_eq!(found.gold.as_ref().unwrap().memorised, 73);
    assert_eq!(fs::read_to_string(kept).unwrap().lines().count(), 73);
    assert_eq!(found.models.values().sum::<usize>(), 73);
}

#[test]
fn the_schema_in_the_repository_is_that_of_the_findings() {
    let path = source("eval/study.schema.json");
    if std::env::var_os("FAULTLENS_WRITE_SCHEMA").is_some() {
        fs::write(&path, schema()).unwrap();
    }
    let stored = fs::read_to_string(path).unwrap();
    assert!(
        stored == schema(),
        "run the test with FAULTLENS_WRITE_SCHEMA=1 to write it anew"
    );
}

#[test]
fn intervals_hold_the_truth_and_classify_and_count_does_not() {
    // eval/study-coverage.md has more of it.
    let (coverages, kappa) = simulation::simulate(3000, 200, 400);
    assert!((kappa - 0.75).abs() < 0.02, "{kappa}");
    for label in &coverages {
        assert!(
            (0.92..=0.98).contains(&label.estimate),
            "{} {}",
            label.share,
            label.estimate
        );
    }
    assert!(coverages.iter().any(|label| label.counted < 0.5));
    // Of the rarest label the normal interval is too short, and that of gold alone is not.
    assert!(coverages[0].normal < 0.9 && coverages[0].gold_alone > 0.9);
    assert!(coverages[simulation::LABELS - 1].width < 0.7);
}
