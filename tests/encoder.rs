//! The encoder against PyTorch and against itself.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use faultlens::model::batch::Batch;
use faultlens::model::bundle::Base;
use faultlens::model::encoder::{Dropout, Encoder};
use serde::Deserialize;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Hidden states made by scripts/make-encoder-fixtures.py: for each sequence, for each token, the first
/// dimensions.
#[derive(Deserialize)]
struct Expected {
    input_ids: Vec<Vec<u32>>,
    hidden: Vec<Vec<Vec<f32>>>,
}

impl Expected {
    fn read(path: &Path) -> Self {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Encodes all sequences as one batch and compares each token.
    fn compare(&self, encoder: &Encoder) {
        let batch = Batch::pack(self.input_ids.iter().map(Vec::as_slice));
        let hidden = encoder
            .forward(&batch, &mut Dropout::off())
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let expected: Vec<&Vec<f32>> = self.hidden.iter().flatten().collect();
        assert_eq!(hidden.len(), expected.len());
        for (ours, theirs) in hidden.iter().zip(expected) {
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() < 1e-4, "{a} is not {b}");
            }
        }
    }
}

fn load(folder: &Path) -> Encoder {
    let base = Base::load(folder, &Device::Cpu).unwrap();
    let vb = VarBuilder::from_tensors(base.tensors, DType::F32, &Device::Cpu);
    Encoder::load(vb, &base.config).unwrap()
}

#[test]
fn hidden_states_equal_those_of_transformers() {
    let folder = fixtures().join("tiny-bert");
    Expected::read(&folder.join("hidden.json")).compare(&load(&folder));
}

#[test]
fn hidden_states_of_the_base_model_equal_those_of_transformers() {
    let folder = match std::env::var_os("FAULTLENS_BASE") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base"),
    };
    if !folder.is_dir() {
        eprintln!(
            "skipped: no base model in {} (scripts/fetch-base-model gets it)",
            folder.display()
        );
        return;
    }
    Expected::read(&fixtures().join("minilm-hidden.json")).compare(&load(&folder));
}

#[test]
fn a_sequence_is_encoded_the_same_alone_and_in_any_batch() {
    let encoder = load(&fixtures().join("tiny-bert"));
    let sequences: Vec<Vec<u32>> = (0..12u32)
        .map(|i| {
            (0..1 + i * 5 % 17)
                .map(|t| 5 + (i * 31 + t * 7) % 160)
                .collect()
        })
        .collect();
    let encode = |sequences: &[&[u32]]| {
        let batch = Batch::pack(sequences.iter().copied());
        let hidden = encoder.forward(&batch, &mut Dropout::off()).unwrap();
        encoder
            .mean_pool(&hidden, &batch)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    let together = encode(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for (sequence, pooled) in sequences.iter().zip(together) {
        for (a, b) in encode(&[sequence])[0].iter().zip(pooled) {
            assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        }
    }
}

/// Along the direction of its own gradient, and of its largest element alone, every parameter's loss
/// changes as fast as the gradient says.
#[test]
fn gradients_of_every_parameter_equal_finite_differences() {
    let base = Base::load(&fixtures().join("tiny-bert"), &Device::Cpu).unwrap();
    let vars: Vec<(String, Var)> = base
        .tensors
        .iter()
        .map(|(name, t)| (name.clone(), Var::from_tensor(t).unwrap()))
        .collect();
    let tensors = vars
        .iter()
        .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
        .collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let encoder = Encoder::load(vb, &base.config).unwrap();
    let batch = Batch::pack([
        [2u32, 40, 7, 99, 3].as_slice(),
        &[2, 5, 3],
        &[2, 150, 20, 20, 61, 8, 3],
    ]);
    let weights: Vec<f32> = (0..3 * 48)
        .map(|i| ((i * 37 % 19) as f32 - 9.0) / 9.0)
        .collect();
    let weights = Tensor::from_vec(weights, (3, 48), &Device::Cpu).unwrap();
    let loss = || {
        let hidden = encoder.forward(&batch, &mut Dropout::new(0.2, 5)).unwrap();
        let pooled = encoder.mean_pool(&hidden, &batch).unwrap();
        (pooled * &weights).unwrap().sum_all().unwrap()
    };
    let grads = loss().backward().unwrap();
    for (name, var) in &vars {
        let grad = grads
            .get(var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        let values = grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let norm = values.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        // Keys' biases shift all scores of a query alike: softmax ignores them, the gradient is 0.
        if name.ends_with("key.bias") {
            assert!(norm < 1e-4, "{name}: {norm}");
            continue;
        }
        assert!(norm > 1e-3, "{name} has a vanishing gradient");
        let largest = (0..values.len())
            .max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()))
            .unwrap();
        let mut unit = vec![0f32; values.len()];
        unit[largest] = 1.0;
        let directions = [
            ((grad / norm).unwrap(), norm),
            (
                Tensor::from_vec(unit, grad.shape(), &Device::Cpu).unwrap(),
                f64::from(values[largest]),
            ),
        ];
        let start = var.as_tensor().copy().unwrap();
        for (direction, slope) in directions {
            let epsilon = 4e-3;
            let at = |step: f64| {
                var.set(&(&start + (&direction * step).unwrap()).unwrap())
                    .unwrap();
                f64::from(loss().to_scalar::<f32>().unwrap())
            };
            let measured = (at(epsilon) - at(-epsilon)) / (2.0 * epsilon);
            var.set(&start).unwrap();
            let tolerance = 0.02 * slope.abs() + 2e-3;
            assert!(
                (measured - slope).abs() < tolerance,
                "{name}: measured {measured}, gradient {slope}"
            );
        }
    }
}

/// The path of GPUs, on the CPU: every parameter's gradient is f32 and points where that of f32 does.
#[test]
fn gradients_in_bf16_are_those_of_f32_but_for_rounding() {
    let base = Base::load(&fixtures().join("tiny-bert"), &Device::Cpu).unwrap();
    let batch = Batch::pack([[2u32, 40, 7, 99, 3].as_slice(), &[2, 5, 3]]);
    let gradients = |precision: DType| -> Vec<(String, Vec<f32>)> {
        let mut vars: Vec<(String, Var)> = base
            .tensors
            .iter()
            .map(|(name, t)| (name.clone(), Var::from_tensor(t).unwrap()))
            .collect();
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let tensors = vars
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
            .collect();
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let encoder = Encoder::load(vb, &base.config)
            .unwrap()
            .in_precision(precision);
        let hidden = encoder.forward(&batch, &mut Dropout::new(0.1, 5)).unwrap();
        assert_eq!(hidden.dtype(), precision);
        let weights: Vec<f32> = (0..8 * 48)
            .map(|i| ((i * 37 % 19) as f32 - 9.0) / 9.0)
            .collect();
        let weights = Tensor::from_vec(weights, (8, 48), &Device::Cpu).unwrap();
        let loss = (hidden.to_dtype(DType::F32).unwrap() * weights).unwrap();
        let grads = loss.sum_all().unwrap().backward().unwrap();
        vars.into_iter()
            .map(|(name, var)| {
                let grad = grads.get(&var).unwrap();
                assert_eq!(grad.dtype(), DType::F32, "{name}");
                (name, grad.flatten_all().unwrap().to_vec1().unwrap())
            })
            .collect()
    };
    let exact = gradients(DType::F32);
    for ((name, exact), (_, rounded)) in exact.iter().zip(gradients(DType::BF16)) {
        let dot =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        // Keys' biases have no gradient but rounding.
        if !name.ends_with("key.bias") {
            let cosine =
                dot(exact, &rounded) / (dot(exact, exact) * dot(&rounded, &rounded)).sqrt();
            assert!(cosine > 0.99, "{name}: {cosine}");
        }
    }
}
