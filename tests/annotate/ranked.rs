//! Queues that a model ranks, and the review of suspects.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::program::{REPO, Server, annotate, bug, mine};
use crate::tiny;

#[test]
fn the_queue_is_ranked_again_within_seconds_as_labels_come_in() {
    for queue in ["uncertain", "diverse"] {
        let folder = tempdir().unwrap();
        let mut command = annotate(&mine(&folder));
        command
            .args(["--queue", queue, "--model"])
            .arg(tiny::model());
        let server = Server::start(&mut command);
        let until = |what: &dyn Fn(&Value) -> bool| {
            let begun = Instant::now();
            loop {
                let status = server.get("status");
                if what(&status["learning"]) {
                    return;
                }
                assert!(begun.elapsed() < Duration::from_secs(30), "{status}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until(&|learning| learning["embedded"] == 73 && learning["labels"] == 0);
        for _ in 0..10 {
            let issue = server.get("next")["issue"].clone();
            let labels = json!({ "kind": "bug", "category": "gpu", "root_cause": "unknown" });
            let body =
                json!({ "repo": issue["repo"], "number": issue["number"], "labels": labels });
            server.post("label", &body);
        }
        until(&|learning| learning["labels"].as_u64() >= Some(6));
        assert!(!server.get("next")["issue"].is_null());
        server.interrupt();
    }
}

#[test]
fn suspects_are_reviewed_surest_first_and_named_after_the_choice() {
    let folder = tempdir().unwrap();
    let suspects = folder.path().join("suspects.jsonl");
    let suspect = |number: u64, head: &str| {
        json!({
            "repo": REPO, "number": number, "head": head,
            "annotated": "gpu", "annotated_probability": 0.125,
            "predicted": "memory", "predicted_probability": 0.75,
        })
        .to_string()
            + "\n"
    };
    let text =
        suspect(900003, "category") + &suspect(900001, "category") + &suspect(900003, "kind");
    fs::write(&suspects, text).unwrap();
    let mut command = annotate(&mine(&folder));
    command
        .args(["--queue", "review", "--suspects"])
        .arg(&suspects);
    let server = Server::start(&mut command);
    let next = server.get("next");
    assert_eq!(
        (&next["status"]["total"], &next["issue"]["number"]),
        (&json!(2), &json!(900003))
    );
    server.post("label", &bug(900003, "gpu"));
    let said = server.get(&format!("suggestion?repo={REPO}&number=900003"));
    assert_eq!(said["suspects"].as_array().unwrap().len(), 2);
    assert_eq!(said["suspects"][0]["predicted"], "memory");
    assert_eq!(server.get("next")["issue"]["number"], 900001);
}
