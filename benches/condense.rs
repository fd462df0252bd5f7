//! How long condensing takes, and that it is linear in the body's length.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faultlens::issue::condense::condense;
use std::hint::black_box;

/// The bodies of the examples, end to end, repeated up to `length` bytes.
fn body(length: usize) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/issues.json");
    let issues: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(path).expect("examples/issues.json")).expect("JSON");
    let all: Vec<&str> = issues
        .iter()
        .filter_map(|issue| issue["body"].as_str())
        .collect();
    let mut body = String::new();
    while body.len() < length {
        body += &all.join("\n\n");
    }
    let end = (0..=length)
        .rev()
        .find(|&end| body.is_char_boundary(end))
        .unwrap_or(0);
    body.truncate(end);
    body
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("condense");
    let one_line = "word ".repeat(20_000);
    let texts = [
        ("2 kB", body(2_000)),
        ("10 kB", body(10_000)),
        ("100 kB", body(100_000)),
        ("1 MB", body(1_000_000)),
        ("100 kB in one line", one_line),
    ];
    for (name, body) in &texts {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(*name, |b| {
            b.iter(|| condense("A title", black_box(body), 256))
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
