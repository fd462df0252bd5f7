//! Everything at once, at random: nothing is lost and nothing is there twice.

use std::fs::OpenOptions;

use chrono::{DateTime, Utc};
use faultlens::collect::{Comments, Filter, State};
use rand::RngExt;
use tempfile::tempdir;

use super::*;
use crate::github::{Item, START};
use crate::server::Faults;

const ROUNDS: u64 = 240;
const THREADS: usize = 4;

#[test]
fn whatever_goes_wrong_every_issue_is_there_once_in_its_newest_version() {
    // They mostly wait, for the disk and the server: several at once.
    let rounds = |first: u64| (first..ROUNDS).step_by(THREADS).map(round).sum::<u32>();
    let interrupted: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS as u64)
            .map(|first| scope.spawn(move || rounds(first)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(
        interrupted > 200,
        "only {interrupted} runs were interrupted"
    );
}

/// A collection through faults, changes and interruptions, and then one in peace. Returns how many runs
/// were interrupted.
fn round(seed: u64) -> u32 {
    let random = &mut random(seed);
    let count = random.random_range(0..120);
    let mut repo = Repo::invented("acme/engine", count, random);
    if random.random_bool(0.3) {
        // A robot has touched many of them within a second or two.
        for item in repo.items.values_mut() {
            if random.random_bool(0.8) {
                item.updated = START - random.random_range(0..2);
            }
        }
    }
    let mut github = GitHub::new(vec![repo]);
    github.page = random.random_range(4..30);
    github.inclusive = random.random_bool(0.5);
    if random.random_bool(0.3) {
        github.now = START;
    }
    let server = Server::start(github, seed);
    let mut level = || random.random_range(0.0..0.15);
    let faults = Faults {
        trouble: level(),
        limits: level(),
        vague_limits: level(),
        slow: level(),
        change: 2.0 * level(),
    };
    server.lock().faults = faults;
    let settings = CollectSettings {
        filter: Filter {
            since: random
                .random_bool(0.2)
                .then(|| at(START - 1000 + random.random_range(-200..200))),
            state: [State::All, State::Open, State::Closed, State::All][random.random_range(0..4)],
            labels: if random.random_bool(0.2) {
                vec!["bug".into()]
            } else {
                Vec::new()
            },
        },
        comments: match random.random_range(0..6) {
            0 => Some(Comments::All),
            1 => Some(Comments::First(2)),
            _ => None,
        },
        limit: None,
    };

    let folder = tempdir().unwrap();
    let journal = folder.path().join(".collect/acme__engine.jsonl");
    let mut interrupted = 0;
    loop {
        let mut quick = quick(&server);
        let (stop, soon) = (
            quick.stop.clone(),
            server.requests() + random.random_range(1..40),
        );
        server.lock().on_request = Box::new(move |number| {
            if number == soon {
                stop.store(true, Ordering::Relaxed);
            }
        });
        quick.token = random.random_bool(0.5).then(|| Token::new(TOKEN)).flatten();
        let before = std::fs::metadata(&journal).map_or(0, |metadata| metadata.len());
        match collect_into(folder.path(), &Client::new(quick).unwrap(), &settings) {
            Ok(_) => break,
            Err(error) if error.is_stop() => interrupted += 1,
            Err(error) => panic!("round {seed}: {error}"),
        }
        let after = std::fs::metadata(&journal).map_or(0, |metadata| metadata.len());
        if after > before && random.random_bool(0.5) {
            // As if the process had been killed while it wrote.
            let cut = random
                .random_range(before..=after)
                .max(after.saturating_sub(300));
            OpenOptions::new()
                .write(true)
                .open(&journal)
                .unwrap()
                .set_len(cut)
                .unwrap();
        }
        if random.random_bool(0.1) {
            server
                .lock()
                .github
                .rename(0, ["acme/motor", "acme/engine"][interrupted as usize % 2]);
        }
    }

    let file = folder.path().join("acme__engine.jsonl");
    let found = numbers(&records(&file));
    assert!(
        found.is_sorted_by(|a, b| a < b),
        "round {seed}: twice or out of order"
    );

    {
        let mut inner = server.lock();
        inner.faults = Faults::default();
        inner.on_request = Box::new(|_| {});
    }
    collect_into(folder.path(), &client(&server), &settings).unwrap();
    let expected = wanted(&server, &settings);
    let found = records(&file);
    same(&found, &expected, &format!("round {seed}"));
    interrupted
}

fn wanted(server: &Server, settings: &CollectSettings) -> Vec<Value> {
    let inner = server.lock();
    let (repo, url) = (&inner.github.repos[0], &inner.github.url);
    let filter = &settings.filter;
    let passes = |item: &&Item| {
        let is_state = match filter.state {
            State::All => true,
            State::Open => item.open,
            State::Closed => !item.open,
        };
        let is_recent = filter
            .since
            .is_none_or(|since| item.updated >= since.timestamp());
        is_state
            && is_recent
            && filter
                .labels
                .iter()
                .all(|label| item.labels.contains(label))
    };
    let kept = |item: &Item| match settings.comments {
        None => item.kept("acme/engine", &repo.name, url),
        Some(comments) => {
            let count = if let Comments::First(count) = comments {
                count as usize
            } else {
                usize::MAX
            };
            item.kept_with_comments("acme/engine", &repo.name, url, count)
        }
    };
    repo.issues().filter(passes).map(kept).collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
