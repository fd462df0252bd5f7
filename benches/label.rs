//! How long the parts of labelling an issue take, on one thread.

use std::hint::black_box;

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faultlens::issue::condense::Lines;
use faultlens::issue::{Issue, IssueId};
use faultlens::model::bundle::Bundle;
use faultlens::model::inference::{Arithmetic, CpuEncoder, Scratch};
use faultlens::model::lexical::MAX_TOKENS;
use faultlens::model::{Classifier, heads};
use faultlens::prediction::write::write_jsonl;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default");

fn issues() -> Vec<Issue> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/issues.json");
    let issues: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(path).expect("examples/issues.json")).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let issue = |issue: &serde_json::Value| Issue {
        id: IssueId {
            repo: "owner/name".into(),
            number: issue["number"].as_u64().expect("a number"),
        },
        title: text(&issue["title"]),
        body: text(&issue["body"]),
        created_at: None,
    };
    issues.iter().map(issue).collect()
}

fn encoder(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    pool.build_global().expect("nothing has used it before");
    let bundle = Bundle::load(MODEL.as_ref(), &Device::Cpu).expect("the shipped model");
    let mut group = criterion.benchmark_group("encode");
    for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
        let tensors = bundle.base.tensors.clone();
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let encoder =
            CpuEncoder::load(tensors, &bundle.base.config, arithmetic).expect("the shipped model");
        let mut scratch = Scratch::default();
        for length in [16, 64, 128, 256] {
            let tokens: Vec<u32> = (0..length).map(|i| 1000 + i * 7).collect();
            group.throughput(Throughput::Elements(length.into()));
            let id = BenchmarkId::new(arithmetic.name(), length);
            group.bench_function(id, |b| {
                b.iter(|| encoder.mean_pooled(black_box(&tokens), &mut scratch));
            });
        }
    }
    group.finish();
}

fn words(criterion: &mut Criterion) {
    let bundle = Bundle::load(MODEL.as_ref(), &Device::Cpu).expect("the shipped model");
    let issues = issues();
    let texts: Vec<String> = issues
        .iter()
        .map(|issue| Lines::read(&issue.title, &issue.body).within(MAX_TOKENS))
        .collect();
    let mut group = criterion.benchmark_group("all examples");
    group.throughput(Throughput::Elements(issues.len() as u64));
    group.bench_function("words' branch", |b| {
        b.iter(|| {
            texts
                .iter()
                .map(|text| bundle.lexical.logits(black_box(text)).len())
                .sum::<usize>()
        });
    });
    let tokenizer = bundle.base.truncating_tokenizer(256).expect("a tokenizer");
    group.bench_function("tokenize", |b| {
        b.iter(|| {
            for text in &texts {
                black_box(tokenizer.encode_fast(text.as_str(), true)).expect("any text");
            }
        });
    });
    let classifier = Classifier::load(MODEL.as_ref(), &Device::Cpu).expect("the shipped model");
    let predictions = classifier.classify(&issues).expect("labels");
    group.bench_function("write as JSONL", |b| {
        b.iter(|| {
            let mut out = Vec::new();
            write_jsonl(
                &mut out,
                &predictions,
                classifier.taxonomy(),
                classifier.id(),
            )
            .expect("memory");
            out
        });
    });
    let logits: Vec<Vec<Vec<f32>>> = predictions
        .iter()
        .map(|_| {
            bundle
                .taxonomy
                .heads
                .iter()
                .map(|head| vec![0.1; head.labels.len()])
                .collect()
        })
        .collect();
    group.bench_function("decode", |b| {
        b.iter(|| {
            logits
                .iter()
                .map(|logits| heads::decode(black_box(logits), &bundle.taxonomy, &[]).len())
                .sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, encoder, words);
criterion_main!(benches);
