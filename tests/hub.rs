//! Models from the hub, against a small server on loopback.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use faultlens::model::bundle::BUNDLE_FILES;
use sha2::{Digest, Sha256};
use tempfile::tempdir;

mod tiny;
use tiny::{faultlens, source};

/// What the hub answers about one repository: its files, and the token that may read them.
struct Hub {
    files: HashMap<String, Vec<u8>>,
    token: Option<&'static str>,
}

/// A hub that serves `acme/tiny`, at revisions `main` and `v1`.
struct Server {
    address: String,
    /// `METHOD path` of every request.
    requests: Arc<Mutex<Vec<String>>>,
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Server {
    fn start(folder: &Path, token: Option<&'static str>) -> Self {
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.file_name().into_string().unwrap(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (hub, seen) = (Arc::new(Hub { files, token }), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (hub, seen) = (hub.clone(), seen.clone());
                std::thread::spawn(move || hub.answer(stream, &seen));
            }
        });
        Self { address, requests }
    }

    fn count(&self, method: &str) -> usize {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.starts_with(method))
            .count()
    }
}

impl Hub {
    fn answer(&self, mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first).unwrap_or(0) == 0 {
                return;
            }
            let mut token = None;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if let Some(value) = header
                    .to_ascii_lowercase()
                    .strip_prefix("authorization: bearer ")
                {
                    token = Some(value.trim().to_owned());
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            let mut words = first.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            seen.lock().unwrap().push(format!("{method} {path}"));
            let (head, body) = self.response(path, token.as_deref());
            stream.write_all(head.as_bytes()).unwrap();
            if method == "GET" {
                stream.write_all(body).unwrap();
            }
        }
    }

    fn response(&self, path: &str, token: Option<&str>) -> (String, &[u8]) {
        let refused = |status: &str, code: &str| {
            (
                format!("HTTP/1.1 {status}\r\nX-Error-Code: {code}\r\nContent-Length: 0\r\n\r\n"),
                &[][..],
            )
        };
        if self.token.is_some() && token != self.token {
            return refused("401 Unauthorized", "RepoNotFound");
        }
        let Some(rest) = path.strip_prefix("/acme/tiny/resolve/") else {
            return refused("404 Not Found", "RepoNotFound");
        };
        let (revision, file) = rest.split_once('/').unwrap();
        if !["main", "v1", COMMIT].contains(&revision) {
            return refused("404 Not Found", "RevisionNotFound");
        }
        let Some(bytes) = self.files.get(file) else {
            return refused("404 Not Found", "EntryNotFound");
        };
        let etag: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let length = bytes.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Length: {length}\r\n\r\n"
        );
        (head, bytes)
    }
}

fn classify(endpoint: &str, home: &Path, model: &str) -> Command {
    let mut command = faultlens();
    command
        .arg("classify")
        .arg(source("examples/issues.json"))
        .args(["--model", model]);
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home);
    command
}

fn succeeded(output: &Output) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success(), "it succeeded");
    let message = String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// An address where nothing listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_model_is_downloaded_once_and_then_served_by_the_cache() {
    let home = tempdir().unwrap();
    let server = Server::start(tiny::model(), None);
    let expected = faultlens()
        .arg("classify")
        .arg(source("examples/issues.json"))
        .arg("--model")
        .arg(tiny::model())
        .output()
        .unwrap();
    for model in ["acme/tiny", "acme/tiny@v1"] {
        let output = classify(&server.address, home.path(), model)
            .output()
            .unwrap();
        succeeded(&output);
        assert_eq!(output.stdout, expected.stdout);
    }
    assert_eq!(
        server.count("GET"),
        BUNDLE_FILES.len(),
        "each file is fetched once"
    );
    // Without the hub, and without asking it, the cache serves.
    let output = classify(&nobody(), home.path(), "acme/tiny")
        .output()
        .unwrap();
    succeeded(&output);
    let before = server.requests.lock().unwrap().len();
    let output = classify(&server.address, home.path(), "acme/tiny")
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    succeeded(&output);
    assert_eq!(
        server.requests.lock().unwrap().len(),
        before,
        "offline asks nobody"
    );
}

#[test]
fn what_the_hub_refuses_is_said_with_a_remedy() {
    let home = tempdir().unwrap();
    let server = Server::start(tiny::model(), None);
    let fails = |model: &str| {
        error_of(
            &classify(&server.address, home.path(), model)
                .output()
                .unwrap(),
        )
    };
    let message = fails("acme/other");
    assert!(
        message.contains("acme/other") && message.contains("check the id"),
        "{message}"
    );
    let message = fails("acme/tiny@v9");
    assert!(
        message.contains("v9") && message.contains("revision"),
        "{message}"
    );
    let base = Server::start(&source("tests/fixtures/tiny-bert"), None);
    let message = error_of(
        &classify(&base.address, home.path(), "acme/tiny@v1")
            .output()
            .unwrap(),
    );
    assert!(
        message.contains("heads.safetensors") && message.contains("faultlens train"),
        "{message}"
    );
}

#[test]
fn a_private_model_needs_the_token_and_the_token_is_not_shown() {
    let home = tempdir().unwrap();
    let server = Server::start(tiny::model(), Some("hf_secret"));
    let message = error_of(
        &classify(&server.address, home.path(), "acme/tiny")
            .output()
            .unwrap(),
    );
    assert!(message.contains("HF_TOKEN"), "{message}");
    let wrong = classify(&server.address, home.path(), "acme/tiny")
        .env("HF_TOKEN", "hf_wrong")
        .output()
        .unwrap();
    assert!(!error_of(&wrong).contains("hf_wrong"));
    let output = classify(&server.address, home.path(), "acme/tiny")
        .env("HF_TOKEN", "hf_secret")
        .output()
        .unwrap();
    succeeded(&output);
}

#[test]
fn no_network_is_an_error_that_says_what_to_do() {
    let home = tempdir().unwrap();
    for (endpoint, offline) in [(nobody(), "0"), (nobody(), "1")] {
        let output = classify(&endpoint, home.path(), "acme/tiny")
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .unwrap();
        let message = error_of(&output);
        for remedy in ["acme/tiny", "folder", "cache", "scripts/fetch-base-model"] {
            assert!(message.contains(remedy), "{message}");
        }
    }
}

#[test]
fn a_base_model_is_trained_from_the_hub() {
    let (home, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let server = Server::start(&source("tests/fixtures/tiny-bert"), None);
    let output = tiny::train(&folder.path().join("model"))
        .args(["--base", "acme/tiny@v1", "--epochs", "1"])
        .env("HF_ENDPOINT", &server.address)
        .env("HF_HOME", home.path())
        .output()
        .unwrap();
    succeeded(&output);
}
