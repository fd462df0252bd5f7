//! How many labels the queue of `faultlens annotate` saves: replays annotations that exist as if they
//! were given one batch after another, and measures the heads that each number of them makes.
//!
//! ```sh
//! scripts/simulate-annotation ISSUES.json...
//! ```
//!
//! Runs the queue and the learner that the server runs, on a base encoder that has seen no annotation.
//! Without --gold, a quarter of the annotations is held out to measure on: that is where settings are
//! chosen. With it, gold measures them, once.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use clap::Parser;
use faultlens::annotate::learner::{Labelled, Learner, Pool};
use faultlens::annotate::queue::{Uncertainty, diverse, uncertain};
use faultlens::annotation::{Annotation, Coverage, read_annotations};
use faultlens::eval::metrics::ConfusionMatrix;
use faultlens::issue::condense::condense;
use faultlens::issue::read::{Corpus, ReadOptions};
use faultlens::issue::{Issue, IssueId};
use faultlens::model::batch::{Batch, group_by_length};
use faultlens::model::bundle::Base;
use faultlens::model::encoder::{Dropout, Encoder};
use faultlens::taxonomy::Taxonomy;
use ndarray::{Array2, Axis, concatenate};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::{Value, json};

/// Labels at the start, in a batch and at the end.
const START: usize = 200;
const BATCH: usize = 50;
const END: usize = 1500;
/// Tokens that the encoder reads, and that the words are taken from.
const TOKENS: usize = 256;

#[derive(Parser)]
struct Arguments {
    /// Folder of the base encoder
    #[arg(long, default_value = "models/base")]
    base: PathBuf,
    #[arg(long, num_args = 1.., required = true)]
    issues: Vec<String>,
    #[arg(long, default_value = "training-data/labels.jsonl")]
    labels: PathBuf,
    #[arg(long, default_value = "training-data/taxonomy.toml")]
    taxonomy: PathBuf,
    /// Measure on these instead of a quarter of the annotations
    #[arg(long)]
    gold: Option<PathBuf>,
    /// Keeps the embeddings between runs
    #[arg(long, default_value = "target/simulation/embeddings.json")]
    cache: PathBuf,
    /// random, diverse, or uncertain[:POWER[:WEIGHT,…]]
    #[arg(long, num_args = 1.., default_values = ["random", "uncertain"])]
    strategies: Vec<String>,
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    #[arg(long, default_value_t = 10.0)]
    variance: f32,
    /// Dimensions of the words' features
    #[arg(long, default_value_t = 512)]
    words: usize,
    #[arg(long)]
    output: Option<PathBuf>,
}

enum Strategy {
    Random,
    Diverse,
    Uncertain(Uncertainty),
}

impl Strategy {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        Ok(match parts.next() {
            Some("random") => Self::Random,
            Some("diverse") => Self::Diverse,
            Some("uncertain") => {
                let mut settings = Uncertainty::default();
                if let Some(power) = parts.next() {
                    settings.power = power.parse()?;
                }
                if let Some(heads) = parts.next() {
                    let heads = heads.split(',').map(str::parse);
                    settings.heads = heads.collect::<Result<_, _>>()?;
                }
                Self::Uncertain(settings)
            }
            _ => bail!("{text} is no strategy"),
        })
    }
}

/// What is replayed: the pool and its labels, and rows to measure on.
struct World {
    taxonomy: Taxonomy,
    pool: Pool,
    labels: Vec<Vec<Option<usize>>>,
    measured: Pool,
    truth: Vec<Vec<Option<usize>>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let taxonomy = Taxonomy::from_path(&arguments.taxonomy)?;
    let read = |path| read_annotations(path, &taxonomy, Coverage::AllHeads);
    let mut annotations = read(&arguments.labels)?;
    let mut measured = match &arguments.gold {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    if measured.is_empty() {
        annotations.shuffle(&mut ChaCha8Rng::seed_from_u64(7));
        measured = annotations.split_off(annotations.len() * 3 / 4);
    }
    let world = world(&arguments, taxonomy, &annotations, &measured)?;
    let runs: Vec<(&String, u64)> = arguments
        .strategies
        .iter()
        .flat_map(|strategy| (0..arguments.seeds).map(move |seed| (strategy, seed)))
        .collect();
    let curves: Vec<Vec<Vec<f64>>> = runs
        .par_iter()
        .map(|(strategy, seed)| {
            Ok(curve(
                &world,
                &Strategy::parse(strategy)?,
                *seed,
                arguments.variance,
            ))
        })
        .collect::<Result<_>>()?;
    let seeds = arguments.seeds as usize;
    let means: Vec<Vec<Vec<f64>>> = curves.chunks(seeds).map(mean).collect();
    let report = report(&world.taxonomy, &arguments, &means, &curves);
    if let Some(path) = &arguments.output {
        let json = serde_json::to_string(&report)? + "\n";
        fs::write(path.with_extension("json"), json)?;
        fs::write(
            path.with_extension("md"),
            markdown(&world.taxonomy, &report),
        )?;
    }
    println!("{}", markdown(&world.taxonomy, &report));
    Ok(())
}

/// By number of labels and head, kappa.
fn curve(world: &World, strategy: &Strategy, seed: u64, variance: f32) -> Vec<Vec<f64>> {
    let World { taxonomy, pool, .. } = world;
    let mut order: Vec<usize> = (0..pool.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut known: Vec<usize> = order.drain(..START).collect();
    let mut learner = Learner::new(taxonomy, pool.features.ncols(), variance);
    let mut curve = Vec::new();
    loop {
        let labelled: Vec<Labelled> = known
            .iter()
            .map(|&p| (p, world.labels[p].as_slice()))
            .collect();
        learner.fit(pool, &labelled);
        curve.push(kappas(world, &learner));
        if known.len() >= END.min(pool.len()) {
            return curve;
        }
        let mut is_open = vec![true; pool.len()];
        known.iter().for_each(|&place| is_open[place] = false);
        known.extend(match strategy {
            Strategy::Random => order.drain(..BATCH).collect(),
            Strategy::Diverse => diverse(pool, &known, &is_open, BATCH),
            Strategy::Uncertain(settings) => {
                let probabilities = learner.probabilities(pool);
                uncertain(taxonomy, pool, &probabilities, &is_open, BATCH, settings)
            }
        });
    }
}

/// Cohen's kappa of each head on the issues to measure on; "does not apply" is a label.
fn kappas(world: &World, learner: &Learner) -> Vec<f64> {
    let probabilities = learner.probabilities(&world.measured);
    let mut said: Vec<Vec<Option<usize>>> = vec![Vec::new(); world.measured.len()];
    for (head, probabilities) in probabilities.iter().enumerate() {
        for (row, said) in probabilities.rows().into_iter().zip(&mut said) {
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            said.push(best.filter(|_| world.taxonomy.applies(head, said)));
        }
    }
    let heads = world.taxonomy.heads.iter().enumerate();
    heads
        .map(|(head, definition)| {
            let none = definition.labels.len();
            let class = |labels: &Vec<Option<usize>>| labels[head].unwrap_or(none);
            let pairs = world.truth.iter().map(class).zip(said.iter().map(class));
            ConfusionMatrix::from_pairs(pairs, none + 1)
                .kappa()
                .unwrap_or(0.0)
        })
        .collect()
}

fn mean(curves: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
    let mut mean = curves[0].clone();
    for (step, heads) in mean.iter_mut().enumerate() {
        for (head, value) in heads.iter_mut().enumerate() {
            *value =
                curves.iter().map(|curve| curve[step][head]).sum::<f64>() / curves.len() as f64;
        }
    }
    mean
}

/// The least number of labels with which a curve reaches `target`, between its points.
fn reaches(curve: &[Vec<f64>], head: usize, target: f64) -> Option<f64> {
    let at = |step: usize| (START + step * BATCH) as f64;
    let step = curve.iter().position(|heads| heads[head] >= target)?;
    if step == 0 {
        return Some(at(0));
    }
    let (before, after) = (curve[step - 1][head], curve[step][head]);
    Some(at(step - 1) + BATCH as f64 * (target - before) / (after - before))
}

fn report(
    taxonomy: &Taxonomy,
    arguments: &Arguments,
    means: &[Vec<Vec<f64>>],
    curves: &[Vec<Vec<f64>>],
) -> Value {
    let heads: Vec<&str> = taxonomy
        .heads
        .iter()
        .map(|head| head.name.as_str())
        .collect();
    let labels: Vec<usize> = (0..means[0].len())
        .map(|step| START + step * BATCH)
        .collect();
    let random = &means[0];
    let strategies = arguments.strategies.iter().zip(means).enumerate();
    let strategies = strategies.map(|(index, (name, mean))| {
        let seeds = arguments.seeds as usize;
        // What random choice has with so many labels, and how many this strategy needs for it.
        let needs = [500, 750, 1000, 1250, 1500]
            .into_iter()
            .filter_map(|count| {
                let step = labels.iter().position(|&labels| labels == count)?;
                let needed = (0..heads.len()).map(|head| reaches(mean, head, random[step][head]));
                let needed: Vec<Option<f64>> = needed.map(|n| n.map(f64::round)).collect();
                Some(json!({ "random": count, "needed": needed }))
            });
        json!({
            "strategy": name,
            "kappa": mean,
            "needs": needs.collect::<Vec<_>>(),
            "seeds": &curves[index * seeds..(index + 1) * seeds],
        })
    });
    json!({
        "heads": heads,
        "labels": labels,
        "measured_on": if arguments.gold.is_some() { "gold" } else { "a quarter of the annotations" },
        "seeds": arguments.seeds,
        "variance": arguments.variance,
        "words": arguments.words,
        "strategies": strategies.collect::<Vec<_>>(),
    })
}

fn markdown(taxonomy: &Taxonomy, report: &Value) -> String {
    let heads: Vec<&str> = taxonomy
        .heads
        .iter()
        .map(|head| head.name.as_str())
        .collect();
    let strategies = report["strategies"].as_array().expect("a list");
    let mut text = format!(
        "Cohen's kappa on {}, mean of {} seeds, {}.\n\n| labels |",
        report["measured_on"].as_str().unwrap_or_default(),
        report["seeds"],
        heads.join(" / ")
    );
    for strategy in strategies {
        text += &format!(" {} |", strategy["strategy"].as_str().unwrap_or_default());
    }
    text += &format!("\n|{}\n", "---|".repeat(strategies.len() + 1));
    let labels = report["labels"].as_array().expect("a list");
    for (step, count) in labels.iter().enumerate() {
        text += &format!("| {count} |");
        for strategy in strategies {
            let kappas =
                (0..heads.len()).map(|h| strategy["kappa"][step][h].as_f64().unwrap_or(0.0));
            let kappas: Vec<String> = kappas.map(|kappa| format!("{kappa:.3}")).collect();
            text += &format!(" {} |", kappas.join(" / "));
        }
        text += "\n";
    }
    text += "\nLabels needed for what random choice reaches with so many:\n\n| random |";
    for strategy in &strategies[1..] {
        text += &format!(" {} |", strategy["strategy"].as_str().unwrap_or_default());
    }
    text += &format!("\n|{}\n", "---|".repeat(strategies.len()));
    let rows = strategies[0]["needs"].as_array().expect("a list");
    for (row, random) in rows.iter().enumerate() {
        text += &format!("| {} |", random["random"]);
        let count = random["random"].as_f64().unwrap_or(1.0);
        for strategy in &strategies[1..] {
            let needed = (0..heads.len()).map(|head| {
                let needed = strategy["needs"][row]["needed"][head].as_f64();
                needed.map_or("never".into(), |n| {
                    format!("{n} ({:.0} %)", 100.0 * n / count)
                })
            });
            text += &format!(" {} |", needed.collect::<Vec<String>>().join(" / "));
        }
        text += "\n";
    }
    text
}

fn world(
    arguments: &Arguments,
    taxonomy: Taxonomy,
    annotations: &[Annotation],
    measured: &[Annotation],
) -> Result<World> {
    let corpus = Corpus::open(&arguments.issues, &ReadOptions::default())?;
    let mut issues = HashMap::new();
    for issue in corpus.issues() {
        let issue: Issue = issue?;
        issues.insert(issue.id.clone(), issue);
    }
    let found = |annotation: &&Annotation| issues.contains_key(&annotation.id);
    let pool: Vec<&Annotation> = annotations.iter().filter(found).collect();
    let measured: Vec<&Annotation> = measured.iter().filter(found).collect();
    let all: Vec<&Issue> = pool
        .iter()
        .chain(&measured)
        .map(|a| &issues[&a.id])
        .collect();
    let embeddings = embeddings(arguments, &all)?;
    let words: Vec<f32> = all
        .par_iter()
        .flat_map_iter(|issue| {
            word_features(
                &condense(&issue.title, &issue.body, TOKENS),
                arguments.words,
            )
        })
        .collect();
    let words = Array2::from_shape_vec((all.len(), arguments.words), words)?;
    let features = concatenate![
        Axis(1),
        Pool::normalised(embeddings),
        Pool::normalised(words)
    ];
    let part = |rows: Vec<usize>| {
        let heads = taxonomy.heads.iter();
        Pool {
            offsets: heads
                .map(|h| Array2::zeros((rows.len(), h.labels.len())))
                .collect(),
            features: features.select(Axis(0), &rows),
        }
    };
    let labels =
        |annotations: &[&Annotation]| annotations.iter().map(|a| a.labels.clone()).collect();
    Ok(World {
        pool: part((0..pool.len()).collect()),
        measured: part((pool.len()..all.len()).collect()),
        labels: labels(&pool),
        truth: labels(&measured),
        taxonomy,
    })
}

/// The pooled texts (N, H) by the base encoder.
fn embeddings(arguments: &Arguments, issues: &[&Issue]) -> Result<Array2<f32>> {
    let mut known: HashMap<String, Vec<f32>> = match fs::read(&arguments.cache) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => HashMap::new(),
    };
    let missing: Vec<&Issue> = issues
        .iter()
        .filter(|issue| !known.contains_key(&issue.id.to_string()))
        .copied()
        .collect();
    if !missing.is_empty() {
        let base = Base::load(&arguments.base, &Device::Cpu)?;
        let tensors = VarBuilder::from_tensors(base.tensors.clone(), DType::F32, &Device::Cpu);
        let encoder = Encoder::load(tensors, &base.config)?;
        let tokenizer = base.truncating_tokenizer(TOKENS)?;
        let sequences: Vec<Vec<u32>> = missing
            .par_iter()
            .map(|issue| {
                let text = condense(&issue.title, &issue.body, TOKENS);
                let encoding = tokenizer.encode_fast(text, true);
                encoding
                    .map(|e| e.get_ids().to_vec())
                    .map_err(|e| anyhow::anyhow!("{e}"))
            })
            .collect::<Result<_>>()?;
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        for group in group_by_length(&lengths, 4096) {
            let batch = Batch::pack(group.iter().map(|&i| sequences[i].as_slice()));
            let hidden = encoder.forward(&batch, &mut Dropout::off())?;
            let pooled = encoder.mean_pool(&hidden, &batch)?.to_vec2::<f32>()?;
            let ids = group.iter().map(|&i| missing[i].id.to_string());
            known.extend(ids.zip(pooled));
        }
        if let Some(folder) = arguments.cache.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&arguments.cache, serde_json::to_vec(&known)?)?;
    }
    let row = |id: &IssueId| {
        known
            .get(&id.to_string())
            .context("every issue is embedded")
    };
    let width = known.values().next().map_or(0, Vec::len);
    let mut rows = Array2::zeros((issues.len(), width));
    for (mut to, issue) in rows.rows_mut().into_iter().zip(issues) {
        to.assign(&ndarray::ArrayView1::from(row(&issue.id)?));
    }
    Ok(rows)
}

/// A text's words in `dimensions` numbers of length 1: a sign and a place for every word by its hash
/// (Weinberger et al. 2009). The base encoder was not trained on issues and reads error codes badly.
fn word_features(text: &str, dimensions: usize) -> Vec<f32> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut counts = BTreeMap::<&str, f32>::new();
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1.0;
    }
    let mut features = vec![0f32; dimensions];
    for (word, count) in counts {
        // FNV-1a, 64 bits.
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
        features[(hash >> 20) as usize % dimensions] += sign * (1.0 + count.ln());
    }
    features
}
