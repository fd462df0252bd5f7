//! The program while it serves, and what it answers.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tiny::{faultlens, source};

pub struct Server {
    pub process: Child,
    pub stderr: BufReader<ChildStderr>,
    /// With the secret, ends in `/`.
    pub url: String,
    client: Client,
}

/// `faultlens annotate` on the examples, with the labels in `labels`.
pub fn annotate(labels: &Path) -> Command {
    let mut command = faultlens();
    command.args(["annotate", "--no-open", "--annotator", "ann"]);
    command.arg("--issues").arg(source("examples/issues.json"));
    command.arg("--labels").arg(labels);
    command
}

/// The labels' file of a folder.
pub fn mine(folder: &TempDir) -> PathBuf {
    folder.path().join("mine.jsonl")
}

impl Server {
    pub fn start(command: &mut Command) -> Self {
        let spawned = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut process = spawned.unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        while !line.starts_with("http://") {
            said += &line;
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
        }
        Self {
            process,
            stderr,
            url: line.trim().to_owned(),
            client: Client::new(),
        }
    }

    pub fn origin(&self) -> String {
        let parts: Vec<&str> = self.url.splitn(4, '/').collect();
        parts[..3].join("/")
    }

    pub fn get(&self, path: &str) -> Value {
        let response = self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.text().unwrap()
        );
        response.json().unwrap()
    }

    /// As the page asks.
    pub fn try_post(&self, path: &str, body: &Value) -> reqwest::Result<Response> {
        let request = self.client.post(format!("{}{path}", self.url));
        request.header("origin", self.origin()).json(body).send()
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.try_post(path, body).unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.text().unwrap()
        );
        response.json().unwrap()
    }

    /// Labels an issue of the examples as a bug.
    pub fn label(&self, number: u64, category: &str) -> Value {
        self.post("label", &bug(number, category))
    }

    /// Ends it as Ctrl-C does, and gives the rest of what it said.
    pub fn interrupt(mut self) -> String {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub const REPO: &str = "vllm-project/vllm";

pub fn bug(number: u64, category: &str) -> Value {
    let labels = json!({ "kind": "bug", "category": category, "root_cause": "unknown" });
    json!({ "repo": REPO, "number": number, "labels": labels, "confidence": "high" })
}

/// The lines of a file of labels.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}
