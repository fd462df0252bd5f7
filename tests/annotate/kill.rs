//! A program that is killed loses nothing that it acknowledged.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::tempdir;

use crate::program::{Server, annotate, bug, lines, mine};

#[test]
fn kill_9_at_twenty_random_moments_loses_no_acknowledged_label() {
    let folder = tempdir().unwrap();
    let file = mine(&folder);
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let categories = ["memory", "gpu", "api", "build", "model"];
    let numbers: Vec<u64> = (900001..=900024).collect();
    // The category that counts of each issue, as far as it was acknowledged.
    let mut acknowledged: HashMap<u64, &str> = HashMap::new();
    let mut given = 0;
    for _ in 0..20 {
        let server = Server::start(&mut annotate(&file));
        // The last label may have been written and not acknowledged.
        let mut open = None;
        let pid = server.process.id().to_string();
        let after = Duration::from_micros(random.random_range(500..60_000));
        let killer = thread::spawn(move || {
            thread::sleep(after);
            std::process::Command::new("kill")
                .args(["-9", &pid])
                .status()
                .unwrap();
        });
        loop {
            let number = numbers[random.random_range(0..numbers.len())];
            let category = categories[random.random_range(0..categories.len())];
            match server.try_post("label", &bug(number, category)) {
                Ok(response) if response.status().is_success() => {
                    acknowledged.insert(number, category);
                    given += 1;
                }
                Ok(response) => panic!("{}", response.text().unwrap()),
                Err(_) => {
                    open = Some((number, category)).or(open);
                    break;
                }
            }
        }
        killer.join().unwrap();
        drop(server);

        // The next start repairs what is to be repaired.
        Server::start(&mut annotate(&file)).interrupt();
        let mut found: HashMap<u64, Value> = HashMap::new();
        for line in lines(&file) {
            found.insert(line["number"].as_u64().unwrap(), line["category"].clone());
        }
        for (number, category) in &acknowledged {
            let is_open = open.is_some_and(|(n, c)| n == *number && found[number] == c);
            assert!(
                found[number] == *category || is_open,
                "{number}: {category}"
            );
        }
        if let Some((number, category)) = open
            && found.get(&number).is_some_and(|c| c == category)
        {
            acknowledged.insert(number, category);
        }
    }
    assert!(given > 20, "only {given} labels were given");
}
