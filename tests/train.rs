//! `faultlens train` as its users meet it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use faultlens::model::bundle::{Base, Bundle};
use tempfile::tempdir;

mod tiny;
use tiny::{faultlens, source, train};

fn tensors(folder: &Path, file: &str) -> BTreeMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap();
    let values = |t: Tensor| {
        t.flatten_all()
            .unwrap()
            .to_dtype(candle_core::DType::F32)
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    tensors
        .into_iter()
        .map(|(name, tensor)| (name, values(tensor)))
        .collect()
}

#[test]
fn one_step_moves_every_parameter() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    // One batch of all examples is one step.
    let status = train(&output)
        .args([
            "--epochs",
            "1",
            "--batch-size",
            "100",
            "--validation",
            "0",
            "--warmup",
            "0",
            "--learning-rate",
            "0.01",
        ])
        .status()
        .unwrap();
    assert!(status.success());
    let before = Base::load(&source("tests/fixtures/tiny-bert"), &Device::Cpu)
        .unwrap()
        .tensors;
    let after = tensors(&output, "model.safetensors");
    assert_eq!(after.len(), before.len());
    for (name, values) in after {
        let old = before[&name]
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let moved = values
            .iter()
            .zip(&old)
            .filter(|(a, b)| (*a - *b).abs() > 1e-3)
            .count();
        // Words and positions that no example has stay where they were, but for the decay.
        let few = name.contains("word_embeddings")
            || name.contains("position")
            || name.contains("token_type");
        // Keys' biases have no effect on a softmax over keys, and no gradient.
        if !name.ends_with("key.bias") {
            assert!(
                moved > if few { 0 } else { old.len() / 2 },
                "{name}: {moved} of {}",
                old.len()
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_model_and_another_seed_another() {
    let folder = tempdir().unwrap();
    let weights = |name: &str, seed: &str| {
        let output = folder.path().join(name);
        assert!(
            train(&output)
                .args(["--epochs", "2", "--seed", seed])
                .status()
                .unwrap()
                .success()
        );
        (
            fs::read(output.join("model.safetensors")).unwrap(),
            fs::read(output.join("heads.safetensors")).unwrap(),
        )
    };
    let first = weights("a", "3");
    assert!(
        first == weights("b", "3"),
        "two trainings with one seed differ"
    );
    assert!(first != weights("c", "4"));
}

#[test]
fn training_learns_its_examples() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let run = train(&output)
        .args([
            "--epochs",
            "30",
            "--validation",
            "0",
            "--dropout",
            "0",
            "--head-learning-rate",
            "0.01",
        ])
        .output()
        .unwrap();
    assert!(run.status.success());
    let losses: Vec<f64> = String::from_utf8(run.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"]
                .as_f64()
                .unwrap()
        })
        .collect();
    assert_eq!(losses.len(), 30);
    assert!(losses[29] < losses[0] * 0.5, "{losses:?}");
}

#[test]
fn the_bundle_says_where_it_comes_from() {
    let bundle = Bundle::load(tiny::model(), &Device::Cpu).unwrap();
    let provenance = &bundle.manifest.provenance;
    assert!(
        provenance["base"]["source"]
            .as_str()
            .unwrap()
            .ends_with("tiny-bert")
    );
    assert_eq!(
        provenance["labels"][0]["sha256"].as_str().unwrap().len(),
        64
    );
    assert_eq!(provenance["settings"]["seed"], 0);
    assert!(provenance["validation"]["heads"]["kind"]["accuracy"].is_f64());
    assert!(bundle.manifest.id.starts_with("tiny-"));
    let card = fs::read_to_string(tiny::model().join("README.md")).unwrap();
    assert!(card.contains("| kind |") && card.contains(&bundle.manifest.id));
}

#[test]
fn ctrl_c_leaves_a_usable_model() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let mut run = train(&output).args(["--epochs", "100000"]).spawn().unwrap();
    let begun = Instant::now();
    // Not before the first epoch's model is there, so that a second one replaces it.
    while !output.join("faultlens.json").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "no model after a minute"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupted = std::process::Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let labelled = faultlens()
        .arg("classify")
        .arg(source("examples/issues.json"))
        .arg("--model")
        .arg(&output)
        .output()
        .unwrap();
    assert!(labelled.status.success());
    assert_eq!(labelled.stdout.iter().filter(|b| **b == b'\n').count(), 73);
    let mut left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["model", "model.training"],
        "the model, and what --resume needs"
    );
}

#[test]
fn mistakes_are_named_before_any_work() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("model");
    let fails = |arguments: &[&str], words: &[&str]| {
        let run = train(&output).args(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success(), "{arguments:?} succeeded");
        let last = message.trim_end().lines().last().unwrap_or_default();
        for word in words {
            assert!(last.contains(word), "{word:?} is not in {last:?}");
        }
        assert!(!output.exists());
    };
    fails(&["--epochs", "0"], &["--epochs", "1 epoch or more"]);
    fails(&["--dropout", "1"], &["--dropout", "[0, 1)"]);
    fails(&["--max-tokens", "65"], &["64 tokens"]);
    let gold = source("eval/gold.jsonl");
    let labels = folder.path().join("labels.jsonl");
    fs::write(&labels, "{\"repo\":\"o/r\",\"number\":1,\"kind\":\"bugg\",\"category\":\"none\",\"root_cause\":\"none\"}\n").unwrap();
    fails(
        &["--labels", labels.to_str().unwrap()],
        &["labels.jsonl:1", "bugg"],
    );
    let run = faultlens()
        .arg("train")
        .args(["--issues", source("examples/issues.json").to_str().unwrap()])
        .args([
            "--labels",
            gold.to_str().unwrap(),
            "--taxonomy",
            source("training-data/taxonomy.toml").to_str().unwrap(),
        ])
        .args([
            "--base",
            source("tests/fixtures/tiny-bert").to_str().unwrap(),
            "-o",
            output.to_str().unwrap(),
        ])
        .args(["--max-tokens", "64"])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(
        !run.status.success() && message.contains("nothing to train on"),
        "{message}"
    );
}
