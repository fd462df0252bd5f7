//! The texts of single issues.

use faultlens::collect::{Fate, Hydrated, HydratedFile, hydrate, read_identities};
use faultlens::issue::IssueId;
use tempfile::tempdir;

use super::*;
use crate::server::Faults;

fn id(repo: &str, number: u64) -> IssueId {
    IssueId {
        repo: repo.into(),
        number,
    }
}

/// A server whose issues have had fates, and what annotations name: 120 issues of `acme/engine`, whose
/// name is `acme/motor` now, and some of others.
fn eventful() -> (Server, Vec<IssueId>) {
    let mut random = random(1);
    let repos = ["acme/engine", "acme/tracker"].map(|name| Repo::invented(name, 150, &mut random));
    let mut github = GitHub::new(repos.into());
    for item in github.repos[0].items.values_mut() {
        item.is_pull_request = item.number == 7;
    }
    github.repos[0].items.remove(&10);
    github.repos[0].deleted.push(10);
    github.repos[0].items.remove(&20);
    github.repos[0].transferred.insert(20, (1, 25));
    github.repos[0].items.get_mut(&30).unwrap().converted = true;
    github.repos[0].items.remove(&40);
    github.rename(0, "acme/motor");
    let server = Server::start(github, 1);
    let mut ids: Vec<IssueId> = (1..=120)
        .rev()
        .map(|number| id("acme/engine", number))
        .collect();
    ids.insert(50, id("acme/nowhere", 1));
    ids.insert(51, id("acme/nowhere", 2));
    ids.push(id("acme/tracker", 3));
    (server, ids)
}

fn hydrate_all(client: &Client, ids: &[IssueId]) -> (Hydrated, Vec<Value>) {
    let mut lines = Vec::new();
    let mut write = |found: &[u8]| {
        lines.extend_from_slice(found);
        Ok(())
    };
    let hydrated = run(hydrate(client, ids, &mut write)).unwrap();
    let records = String::from_utf8(lines).unwrap();
    (
        hydrated,
        records
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn without_token(server: &Server) -> Client {
    Client::new(ClientSettings {
        token: None,
        ..quick(server)
    })
    .unwrap()
}

#[test]
fn every_issue_has_its_text_or_its_fate_with_a_token_and_without() {
    let (server, ids) = eventful();
    let fates = [
        (id("acme/engine", 40), Fate::Unknown),
        (id("acme/nowhere", 1), Fate::Unknown),
        (id("acme/nowhere", 2), Fate::Unknown),
        (id("acme/engine", 30), Fate::Converted),
        (
            id("acme/engine", 20),
            Fate::Transferred(id("acme/tracker", 25)),
        ),
        (id("acme/engine", 10), Fate::Deleted),
        (id("acme/engine", 7), Fate::PullRequest),
    ];
    for (client, most) in [(client(&server), 20), (without_token(&server), 130)] {
        let before = server.requests();
        let (hydrated, records) = hydrate_all(&client, &ids);
        let requests = server.lock().seen[before..]
            .iter()
            .filter(|seen| seen.status != 301)
            .count();
        assert!(requests <= most, "{requests} requests");
        let mut found = hydrated.fates.clone();
        let mut expected = fates.to_vec();
        found.sort_by_key(|(id, _)| id.clone());
        expected.sort_by_key(|(id, _)| id.clone());
        assert_eq!(found, expected);
        assert_eq!(
            hydrated.renamed,
            [("acme/engine".into(), "acme/motor".into())]
        );

        let texts: Vec<&IssueId> = ids
            .iter()
            .filter(|id| {
                fates
                    .iter()
                    .all(|(other, fate)| other != *id || fate.has_text())
            })
            .collect();
        assert_eq!(records.len(), texts.len());
        assert_eq!(hydrated.written, texts.len() as u64);
        let inner = server.lock();
        for (record, id) in records.iter().zip(texts) {
            let (place, number) = match (id.repo.as_str(), id.number) {
                ("acme/engine", 20) => (1, 25),
                ("acme/engine", number) => (0, number),
                (_, number) => (1, number),
            };
            let item = &inner.github.repos[place].items[&number];
            assert_eq!(record["repo"], id.repo, "the record joins its label");
            assert_eq!(record["number"], id.number);
            assert_eq!(record["title"], item.title);
            assert_eq!(
                record["body"].as_str().unwrap_or_default(),
                item.body.as_deref().unwrap_or_default()
            );
            assert_eq!(record["state"], if item.open { "open" } else { "closed" });
            assert_eq!(
                record["labels"].as_array().unwrap().len(),
                item.labels.len()
            );
            assert_eq!(record["comments"], item.comments.len());
            let moved = (id.repo == "acme/engine")
                .then(|| format!("{}#{number}", inner.github.repos[place].name));
            assert_eq!(
                record.get("moved_to").and_then(Value::as_str),
                moved.as_deref()
            );
            assert_eq!(
                record.get("converted_to_discussion").is_some(),
                id.number == 30
            );
        }
    }
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_file() {
    let (server, ids) = eventful();
    let folder = tempdir().unwrap();
    let (_, whole) = hydrate_all(&client(&server), &ids);
    let path = folder.path().join("issues.jsonl");
    for (part, cut) in [(30, 17), (90, 1), (ids.len(), 0)] {
        let mut file = HydratedFile::open(&path).unwrap();
        let missing: Vec<IssueId> = ids[..part]
            .iter()
            .filter(|id| !file.done().contains(id))
            .cloned()
            .collect();
        run(hydrate(&client(&server), &missing, &mut |lines| {
            file.append(lines)
        }))
        .unwrap();
        file.finish().unwrap();
        let length = path.metadata().unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - cut)
            .unwrap();
    }
    assert_eq!(records(&path), whole);

    let before = server.requests();
    let file = HydratedFile::open(&path).unwrap();
    assert!(
        ids.iter().filter(|id| !file.done().contains(id)).count() == 5,
        "only what has no text"
    );
    assert!(
        HydratedFile::open(&path)
            .unwrap_err()
            .to_string()
            .contains("in use")
    );
    assert_eq!(server.requests(), before);
}

#[test]
fn faults_lose_no_text() {
    let (server, ids) = eventful();
    let (_, whole) = hydrate_all(&client(&server), &ids);
    server.lock().faults = Faults {
        trouble: 0.2,
        limits: 0.1,
        vague_limits: 0.1,
        slow: 0.1,
        change: 0.0,
    };
    for client in [client(&server), without_token(&server)] {
        let (hydrated, records) = hydrate_all(&client, &ids);
        assert_eq!(hydrated.fates.len(), 7);
        let texts = |records: &[Value]| -> BTreeMap<String, Value> {
            let key = |record: &Value| format!("{}#{}", record["repo"], record["number"]);
            records
                .iter()
                .map(|record| (key(record), record["title"].clone()))
                .collect()
        };
        assert_eq!(texts(&records), texts(&whole));
        assert_eq!(records.len(), whole.len());
    }
}

#[test]
fn identities_are_read_from_annotations_and_a_wrong_line_is_named() {
    let ids = read_identities(&tiny::source("examples/labels.jsonl")).unwrap();
    assert_eq!(ids[0], id("vllm-project/vllm", 900_001));
    let folder = tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    for wrong in [
        r#"{"repo":"a/b"}"#,
        r#"{"repo":"a b/c","number":1}"#,
        r#"{"repo":"a/b","number":0}"#,
        "7",
    ] {
        fs::write(
            &path,
            format!("{{\"repo\":\"a/b\",\"number\":1}}\n\n{wrong}\n"),
        )
        .unwrap();
        let error = read_identities(&path).unwrap_err().to_string();
        assert!(error.contains("labels.jsonl:3: "), "{error}");
    }
}
