use candle_core::{Device, Var};
use rand::{RngExt, SeedableRng};

use super::*;
use crate::model::kernels::{erf, exp};

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product())
        .map(|_| rng.random_range(-2f32..2.0))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The result and the gradients of `Σ op(inputs) ∘ r`, with a fixed random `r`, in f32, where the
/// fused kernels run, and in f64, where the composed operations do: they must agree.
fn fused_equals_composed(op: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) {
    let run = |dtype: DType| {
        let vars: Vec<Var> = inputs
            .iter()
            .map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let result = op(&tensors).unwrap();
        let weights = random(result.dims(), 99).to_dtype(dtype).unwrap();
        let grads = (&result * weights)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let grads: Vec<Vec<f64>> = vars.iter().map(|v| flat(grads.get(v).unwrap())).collect();
        (flat(&result), grads)
    };
    let (fused, composed) = (run(DType::F32), run(DType::F64));
    let close = |a: &[f64], b: &[f64], what: &str| {
        assert_eq!(a.len(), b.len());
        let scale = b.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 2e-5 * scale, "{what}: {a} is not {b}");
        }
    };
    close(&fused.0, &composed.0, "result");
    for (i, (fused, composed)) in fused.1.iter().zip(&composed.1).enumerate() {
        close(fused, composed, &format!("gradient of input {i}"));
    }
}

#[test]
fn linear_equals_its_composition() {
    let inputs = [
        random(&[130, 24], 1),
        random(&[40, 24], 2),
        random(&[40], 3),
    ];
    fused_equals_composed(|x| linear(&x[0], &x[1], &x[2]), &inputs);
}

#[test]
fn gelu_equals_its_composition() {
    fused_equals_composed(|x| gelu(&(&x[0] * 3.0)?), &[random(&[70, 33], 4)]);
}

#[test]
fn layer_norm_equals_its_composition() {
    let inputs = [random(&[150, 40], 5), random(&[40], 6), random(&[40], 7)];
    fused_equals_composed(|x| layer_norm(&x[0], &x[1], &x[2], 1e-12), &inputs);
}

#[test]
fn attention_equals_its_padded_composition() {
    let offsets: Arc<[usize]> = [0, 1, 20, 37, 39].into();
    let inputs = [random(&[39, 3 * 24], 8)];
    fused_equals_composed(|x| attention(&x[0], &offsets, 4), &inputs);
}

#[test]
fn dropout_drops_its_share_and_the_same_on_both_paths() {
    let x = random(&[400, 100], 9);
    fused_equals_composed(|x| dropout(&x[0], 0.3, 11), std::slice::from_ref(&x));
    let kept = flat(&dropout(&x, 0.3, 11).unwrap());
    let dropped = kept.iter().filter(|x| **x == 0.0).count() as f64 / kept.len() as f64;
    assert!((dropped - 0.3).abs() < 0.01, "{dropped}");
    assert_ne!(kept, flat(&dropout(&x, 0.3, 12).unwrap()));
}

#[test]
fn erf_and_exp_are_within_their_stated_errors() {
    for i in -1000..=1000 {
        let x = i as f32 / 200.0;
        let exact: f64 = flat(
            &Tensor::new(f64::from(x), &Device::Cpu)
                .unwrap()
                .erf()
                .unwrap(),
        )[0];
        assert!((f64::from(erf(x)) - exact).abs() < 1e-6, "erf {x}");
        let y = i as f32 / 12.0;
        let exact = f64::from(y).exp();
        assert!(
            (f64::from(exp(y)) - exact).abs() <= 3e-7 * exact + 1e-37,
            "exp {y}"
        );
    }
}

#[test]
fn the_squared_norm_is_the_sum_of_squares() {
    let x = random(&[300, 123], 10);
    let exact: f64 = flat(&x).iter().map(|x| x * x).sum();
    assert!((squared_norm(&x).unwrap() - exact).abs() < 1e-5 * exact);
}
