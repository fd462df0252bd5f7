//! Issues from GitHub, against a local server that behaves like it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faultlens::collect::{
    Backoff, Client, ClientSettings, CollectError, CollectSettings, Collected, Event, Folder,
    Token, collect,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[path = "../tiny/mod.rs"]
mod tiny;

mod github;
mod hydrate;
mod limits;
mod program;
mod rounds;
mod server;
mod walk;

use github::{GitHub, Repo};
use server::Server;

const TOKEN: &str = "ghp_ThisIsTheSecretOfTheTests0123456789";

fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A server with one repository, `acme/engine`.
fn server(issues: usize, seed: u64) -> Server {
    let repo = Repo::invented("acme/engine", issues, &mut random(seed));
    Server::start(GitHub::new(vec![repo]), seed)
}

/// Settings that do not keep a test waiting.
fn quick(server: &Server) -> ClientSettings {
    ClientSettings {
        api_url: server.url.clone(),
        token: Token::new(TOKEN),
        max_wait: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        backoff: Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(4),
            retries: 30,
        },
        secondary_rest: Duration::from_millis(1),
        ..ClientSettings::default()
    }
}

fn client(server: &Server) -> Client {
    Client::new(quick(server)).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

fn collect_into(
    path: &Path,
    client: &Client,
    settings: &CollectSettings,
) -> Result<Collected, CollectError> {
    let folder = Folder::open(path).unwrap();
    run(collect(client, &folder, "acme/engine", settings))
}

/// The records of a file of issues, in its order.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn numbers(records: &[Value]) -> Vec<u64> {
    records
        .iter()
        .map(|record| record["number"].as_u64().unwrap())
        .collect()
}

/// What has to be kept of the first repository, asked for as `acme/engine`.
fn expected(server: &Server) -> Vec<Value> {
    let inner = server.lock();
    let repo = &inner.github.repos[0];
    let url = &inner.github.url;
    repo.issues()
        .map(|item| item.kept("acme/engine", &repo.name, url))
        .collect()
}

/// Asserts that records are those expected, but for the address of a repository that was renamed later.
fn same(found: &[Value], expected: &[Value], what: &str) {
    assert_eq!(numbers(found), numbers(expected), "{what}");
    let without_name = |record: &Value| {
        let mut record = record.clone();
        let address = record["html_url"].as_str().unwrap();
        record["html_url"] = address.replace("/acme/motor/", "/acme/engine/").into();
        record
    };
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(without_name(found), without_name(expected), "{what}");
    }
}
