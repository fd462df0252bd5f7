use std::collections::HashMap;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::batch::Batch;
use crate::model::encoder::{Dropout, Encoder};

fn config(activation: HiddenAct) -> Config {
    Config {
        vocab_size: 50,
        hidden_size: 48,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 100,
        hidden_act: activation,
        max_position_embeddings: 90,
        type_vocab_size: 2,
        ..Config::default()
    }
}

/// Random tensors under the names of a BERT checkpoint.
fn tensors(config: &Config) -> HashMap<String, Tensor> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: Vec<usize>, mean: f32| {
        let count = shape.iter().product();
        let values = (0..count).map(|_| mean + rng.random_range(-0.3..0.3f32));
        let tensor = Tensor::from_vec(values.collect(), shape, &Device::Cpu).unwrap();
        tensors.insert(name, tensor);
    };
    for (name, rows) in [
        ("word", config.vocab_size),
        ("position", config.max_position_embeddings),
        ("token_type", config.type_vocab_size),
    ] {
        add(
            format!("embeddings.{name}_embeddings.weight"),
            vec![rows, hidden],
            0.0,
        );
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for i in 0..config.num_hidden_layers {
        let layer = format!("encoder.layer.{i}");
        for (name, input, output) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", hidden, inner),
            ("output.dense", inner, hidden),
        ] {
            add(format!("{layer}.{name}.weight"), vec![output, input], 0.0);
            add(format!("{layer}.{name}.bias"), vec![output], 0.0);
        }
        norms.push(format!("{layer}.attention.output.LayerNorm"));
        norms.push(format!("{layer}.output.LayerNorm"));
    }
    for norm in norms {
        add(format!("{norm}.weight"), vec![hidden], 1.0);
        add(format!("{norm}.bias"), vec![hidden], 0.0);
    }
    tensors
}

fn builder(config: &Config) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(config), candle_core::DType::F32, &Device::Cpu)
}

fn sequences() -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    [1, 2, 17, 64, 90]
        .iter()
        .map(|&length| (0..length).map(|_| rng.random_range(0..50)).collect())
        .collect()
}

/// Each sequence's pooled text by the encoder that training uses.
fn reference(config: &Config) -> Vec<Vec<f32>> {
    let encoder = Encoder::load(builder(config), config).unwrap();
    let sequences = sequences();
    let batch = Batch::pack(sequences.iter().map(Vec::as_slice));
    let hidden = encoder.forward(&batch, &mut Dropout::off()).unwrap();
    encoder
        .mean_pool(&hidden, &batch)
        .unwrap()
        .to_vec2()
        .unwrap()
}

fn pooled(config: &Config, arithmetic: Arithmetic) -> Vec<Vec<f32>> {
    let encoder = CpuEncoder::load(builder(config), config, arithmetic).unwrap();
    Workers::default().map(&sequences(), |tokens, scratch| {
        encoder.mean_pooled(tokens, scratch)
    })
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let differences = a
        .iter()
        .flatten()
        .zip(b.iter().flatten())
        .map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn f32_equals_the_encoder_that_training_uses() {
    for activation in [HiddenAct::Gelu, HiddenAct::GeluApproximate, HiddenAct::Relu] {
        let config = config(activation);
        let difference = largest_difference(&pooled(&config, Arithmetic::F32), &reference(&config));
        assert!(difference < 2e-5, "{activation:?}: {difference}");
    }
}

#[test]
fn bytes_are_close_to_it() {
    let config = config(HiddenAct::Gelu);
    let reference = reference(&config);
    let difference = largest_difference(&pooled(&config, Arithmetic::Int8), &reference);
    let scale = reference
        .iter()
        .flatten()
        .fold(0f32, |most, x| most.max(x.abs()));
    assert!(difference < 0.05 * scale, "{difference} of {scale}");
    // Bytes were used at all.
    assert!(difference > 1e-5 * scale, "{difference}");
}

#[test]
fn a_result_does_not_depend_on_what_was_computed_before_it() {
    let config = config(HiddenAct::Gelu);
    for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
        let encoder = CpuEncoder::load(builder(&config), &config, arithmetic).unwrap();
        let sequences = sequences();
        let mut scratch = Scratch::default();
        encoder.mean_pooled(&sequences[4], &mut scratch);
        let after = encoder.mean_pooled(&sequences[2], &mut scratch);
        assert_eq!(
            after,
            encoder.mean_pooled(&sequences[2], &mut Scratch::default())
        );
    }
}

#[test]
fn results_are_in_the_order_of_the_items() {
    let items: Vec<usize> = (0..1000).collect();
    assert_eq!(Workers::default().map(&items, |&i, _| i), items);
    assert!(Workers::default().map(&[0; 0], |&i, _| i).is_empty());
}
