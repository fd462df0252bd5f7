//! The shipped model gives the same labels in every precision, by a CPU's path and by a GPU's (batches of
//! padded sequences in half precision), which a CPU computes too, slowly.

use std::path::{Path, PathBuf};

use candle_core::Device;
use faultlens::issue::Issue;
use faultlens::issue::read::{Corpus, ReadOptions};
use faultlens::model::inference::Arithmetic;
use faultlens::model::{Classifier, ClassifySettings};
use faultlens::prediction::{HeadPrediction, Prediction};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn examples() -> Vec<Issue> {
    let files = [shipped("examples/issues.json").display().to_string()];
    let corpus = Corpus::open(&files, &ReadOptions::default()).unwrap();
    corpus.issues().collect::<Result<_, _>>().unwrap()
}

fn labelled(issues: &[Issue], arithmetic: Arithmetic, batch_tokens: usize) -> Vec<HeadPrediction> {
    let folder = shipped("models/default");
    let model = Classifier::load_with(&folder, &Device::Cpu, arithmetic).unwrap();
    let settings = ClassifySettings {
        batch_tokens,
        ..ClassifySettings::default()
    };
    let predictions = model.classify_with(issues, &settings).unwrap();
    let ids = predictions.iter().map(|Prediction { id, .. }| id);
    assert!(ids.eq(issues.iter().map(|issue| &issue.id)));
    predictions.into_iter().flat_map(|p| p.heads).collect()
}

#[test]
fn labels_are_those_of_f32_and_probabilities_nearly() {
    let issues = &examples()[..30];
    let exact = labelled(issues, Arithmetic::F32, 1);
    for (arithmetic, tolerance) in [
        (Arithmetic::Int8, 0.1),
        (Arithmetic::F16, 0.01),
        (Arithmetic::Bf16, 0.05),
    ] {
        let rounded = labelled(issues, arithmetic, 2048);
        let mut other = 0;
        for (a, b) in exact.iter().zip(&rounded) {
            other += usize::from(a.label != b.label);
            for (a, b) in a.distribution.iter().zip(&b.distribution) {
                let off = (a - b).abs();
                assert!(off < tolerance, "{}: {a} and {b}", arithmetic.name());
            }
        }
        // One in fifty at most, of two that are about as probable.
        let labels = exact.len();
        assert!(
            other * 50 <= labels,
            "{}: {other} of {labels}",
            arithmetic.name()
        );
    }
}

#[test]
fn batches_of_any_size_give_the_same_predictions_in_order() {
    let issues = &examples()[..12];
    let together = labelled(issues, Arithmetic::F16, 16_384);
    for (a, b) in together.iter().zip(labelled(issues, Arithmetic::F16, 1)) {
        assert_eq!(a.label, b.label);
        assert!((a.probability - b.probability).abs() < 2e-3);
    }
}
