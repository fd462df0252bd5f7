//! Who may ask, and what is on disk when an answer comes.

use std::fs;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::program::{REPO, Server, annotate, bug, lines, mine};

#[test]
fn nobody_is_answered_without_the_secret_the_name_and_the_origin() {
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    let client = Client::new();
    let status = |request: reqwest::blocking::RequestBuilder| request.send().unwrap().status();
    let origin = server.origin();
    let label = format!("{}label", server.url);
    let body = bug(900001, "memory");

    for path in ["/", "/label", "/next", "/0123456789abcdef/", "/script.js"] {
        let found = status(client.get(format!("{origin}{path}")));
        assert_eq!(found, StatusCode::NOT_FOUND, "{path}");
    }
    for host in [
        "evil.example",
        "evil.example:80",
        "127.0.0.1",
        "127.0.0.1:1",
        "",
    ] {
        let request = client
            .get(format!("{}next", server.url))
            .header("host", host);
        let found = request.send().map(|response| response.status());
        assert!(found.is_err() || !found.unwrap().is_success(), "{host}");
    }
    let port = origin.rsplit(':').next().unwrap();
    let own_name = client.get(format!("{}next", server.url));
    let own_name = own_name.header("host", format!("localhost:{port}"));
    assert_eq!(status(own_name), StatusCode::OK);
    for other in [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://localhost",
    ] {
        let request = client.post(&label).header("origin", other).json(&body);
        assert_eq!(status(request), StatusCode::FORBIDDEN, "{other}");
        let request = client
            .get(format!("{}next", server.url))
            .header("origin", other);
        assert_eq!(status(request), StatusCode::FORBIDDEN, "{other}");
    }
    assert_eq!(
        status(client.post(&label).json(&body)),
        StatusCode::FORBIDDEN
    );
    // A form of another page can send text, but no JSON.
    let text = client
        .post(&label)
        .header("origin", &origin)
        .body(body.to_string());
    assert_eq!(status(text), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let long = client.post(&label).header("origin", &origin);
    let long = long.json(&json!({ "note": "x".repeat(100_000) }));
    assert_eq!(status(long), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(lines(&mine(&folder)).is_empty());

    let page = client.get(&server.url).send().unwrap();
    let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");
}

#[test]
fn it_listens_on_loopback_only() {
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    assert!(server.url.starts_with("http://127.0.0.1:"));
    let port: u16 = server.origin().rsplit(':').next().unwrap().parse().unwrap();
    // Another loopback address is another interface as far as a listener is concerned.
    assert!(std::net::TcpStream::connect(("127.0.0.2", port)).is_err());
}

#[test]
fn a_label_is_in_the_file_when_it_is_acknowledged() {
    let folder = tempdir().unwrap();
    let file = mine(&folder);
    let server = Server::start(&mut annotate(&file));
    let mut body = bug(900001, "memory");
    body["note"] = "  a \"note\"\nin two lines  ".into();
    let status = server.post("label", &body);
    assert_eq!(
        (&status["labels"], &status["given"]),
        (&json!(1), &json!(1))
    );
    let expected = json!({
        "repo": REPO, "number": 900001, "kind": "bug", "category": "memory", "root_cause": "unknown",
        "confidence": "high", "annotator": "ann", "note": "a \"note\"\nin two lines",
    });
    assert_eq!(lines(&file), [expected]);

    server.label(900001, "gpu");
    assert_eq!(lines(&file)[1]["revises"], true);
    let undone = server.post("undo", &json!({}));
    assert_eq!(undone["undone"]["issue"]["label"]["category"], "memory");
    assert_eq!(undone["undone"]["label"]["category"], "gpu");
    assert_eq!(
        lines(&file)[2],
        json!({ "repo": REPO, "number": 900001, "withdrawn": true })
    );
    let said = server.interrupt();
    assert!(said.contains("1 labels given, 1 in "), "{said}");
}

#[test]
fn a_wrong_label_is_refused_with_what_is_wrong() {
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    let mut cases = vec![
        (bug(900001, "none"), "category is none though kind is bug"),
        (bug(900001, "spam"), "\"spam\" is no label of category"),
        (bug(1, "gpu"), "vllm-project/vllm#1 is not among the issues"),
    ];
    let mut unsure = bug(900001, "gpu");
    unsure["confidence"] = "very".into();
    cases.push((unsure, "confidence is \"very\""));
    let mut empty = bug(900001, "gpu");
    empty["labels"] = json!({});
    cases.push((empty, "kind is missing"));
    for (body, expected) in cases {
        let response = server.try_post("label", &body).unwrap();
        assert!(response.status().is_client_error());
        let answer: Value = response.json().unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error}");
    }
    assert!(lines(&mine(&folder)).is_empty());
}

#[test]
fn two_servers_on_one_file_refuse_each_other() {
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    let second = annotate(&mine(&folder)).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains("is being annotated by another faultlens"),
        "{said}"
    );
    server.interrupt();
    Server::start(&mut annotate(&mine(&folder))).interrupt();
}

#[test]
fn an_edit_from_outside_is_merged_and_never_overwritten() {
    let folder = tempdir().unwrap();
    let file = mine(&folder);
    let server = Server::start(&mut annotate(&file));
    server.label(900001, "memory");
    let by_hand = r#"{"repo":"vllm-project/vllm","number":900002,"kind":"question","category":"none","root_cause":"none"}"#;
    let text = fs::read_to_string(&file).unwrap();
    // As editors save: a new file in the place of the old, here without an end of the last line.
    let new = folder.path().join("new");
    fs::write(
        &new,
        format!("{}\n{by_hand}", text.replace("memory", "gpu").trim()),
    )
    .unwrap();
    fs::rename(&new, &file).unwrap();
    assert_eq!(server.get("status")["labels"], 2);
    let view = server.get("issue?repo=vllm-project/vllm&number=900001");
    assert_eq!(view["label"]["category"], "gpu");
    server.label(900003, "api");
    let numbers: Vec<Value> = lines(&file)
        .iter()
        .map(|line| line["number"].clone())
        .collect();
    assert_eq!(numbers, [900001, 900002, 900003]);

    // An edit that broke the file takes no label, and says where it is broken.
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("question", "oops")).unwrap();
    let response = server.try_post("label", &bug(900006, "build")).unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    let error = response.text().unwrap();
    assert!(
        error.contains("mine.jsonl:2") && error.contains("oops"),
        "{error}"
    );
    fs::write(&file, &good).unwrap();
    server.label(900006, "build");
    assert_eq!(lines(&file).len(), 4);
}

#[test]
fn the_issues_come_once_skipped_ones_last_and_found_ones_at_once() {
    let folder = tempdir().unwrap();
    let server = Server::start(&mut annotate(&mine(&folder)));
    let first = server.get("next")["issue"].clone();
    let id = json!({ "repo": first["repo"], "number": first["number"] });
    server.post("skip", &id);
    let mut seen = vec![first["number"].clone()];
    loop {
        let issue = server.get("next")["issue"].clone();
        if issue["number"] == first["number"] {
            break;
        }
        assert!(!seen.contains(&issue["number"]));
        seen.push(issue["number"].clone());
        let labels = json!({ "kind": "other" });
        let body = json!({ "repo": issue["repo"], "number": issue["number"], "labels": labels });
        server.post("label", &body);
    }
    assert_eq!(seen.len(), 73);
    let body = json!({ "repo": id["repo"], "number": id["number"], "labels": { "kind": "other" } });
    let status = server.post("label", &body);
    assert_eq!(
        (&status["done"], &status["total"]),
        (&json!(73), &json!(73))
    );
    assert_eq!(server.get("next")["issue"], Value::Null);
    let found = server.get("search?words=CUDA+graph+CAPTURE");
    assert_eq!(found[0]["number"], 900001);
    assert_eq!(server.get("search?words=nosuchword"), json!([]));
}
