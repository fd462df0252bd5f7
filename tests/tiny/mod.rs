//! A tiny fine-tuned model for tests of the program, trained once a test binary on the examples.

#![allow(dead_code)] // each test binary uses its part

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A file of the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The program, without the environment's settings of the hub.
pub fn faultlens() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultlens"));
    for variable in [
        "HF_ENDPOINT",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "RUST_BACKTRACE",
    ] {
        command.env_remove(variable);
    }
    command
}

/// `faultlens train` from the tiny base on the examples, into `output`.
pub fn train(output: &Path) -> Command {
    let mut command = faultlens();
    command
        .arg("train")
        .arg("--issues")
        .arg(source("examples/issues.json"));
    command.arg("--labels").arg(source("examples/labels.jsonl"));
    command
        .arg("--taxonomy")
        .arg(source("training-data/taxonomy.toml"));
    command
        .arg("--base")
        .arg(source("tests/fixtures/tiny-bert"));
    command.args([
        "--max-tokens",
        "64",
        "--validation",
        "0.2",
        "--learning-rate",
        "1e-3",
    ]);
    command.arg("--output").arg(output);
    command
}

/// The folder of a model trained for one epoch.
pub fn model() -> &'static Path {
    static MODEL: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, folder) = MODEL.get_or_init(|| {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("tiny");
        let output = train(&folder).args(["--epochs", "1"]).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        (parent, folder)
    });
    folder
}

/// Copies a folder of files.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The examples repeated under new numbers, as JSONL, until there are `count` issues.
pub fn many_issues(count: usize) -> String {
    let examples: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(source("examples/issues.json")).unwrap()).unwrap();
    (0..count)
        .map(|i| {
            let mut issue = examples[i % examples.len()].clone();
            issue["number"] = (i + 1).into();
            let url = issue["html_url"].as_str().unwrap();
            issue["html_url"] = format!("{}/{}", url.rsplit_once('/').unwrap().0, i + 1).into();
            issue.to_string() + "\n"
        })
        .collect()
}
