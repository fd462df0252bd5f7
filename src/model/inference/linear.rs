//! Products of rows with weights that were packed once, in f32 or in bytes.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::Arithmetic;
use super::profile::{Clock, Part};
#[cfg(target_arch = "x86_64")]
use super::vnni;
use crate::model::kernels::{Columns, RowScale, dequantise_rows, quantise_rows};

/// `x·wᵀ + b`.
pub struct Linear {
    weights: Weights,
    inputs: usize,
    outputs: usize,
}

enum Weights {
    F32 {
        weights: PackedBMatrix<f32>,
        bias: Vec<f32>, // (O)
    },
    Int8 {
        bytes: PackedBMatrix<i8>,
        columns: Columns,
    },
    #[cfg(target_arch = "x86_64")]
    Vnni(vnni::Packed),
}

/// What multiplies, one to a thread.
#[derive(Default)]
pub struct Multiplier {
    f32: GemmExecutor<f32>,
    int8: GemmExecutor<u8, i8, i32>,
    bytes: Vec<u8>,
    rows: Vec<RowScale>,
    products: Vec<i32>,
}

impl Multiplier {
    /// Leaves the rows `x` (N, I) as bytes in its buffers.
    fn quantise(&mut self, x: &[f32], inputs: usize) {
        self.bytes.resize(x.len(), 0);
        self.rows.resize(x.len() / inputs, RowScale::default());
        quantise_rows(x, inputs, &mut self.bytes, &mut self.rows);
    }

    /// The largest byte that a weight may have: processors without the instructions for products of
    /// bytes add two of them in 16 bits, which must not overflow.
    fn largest_weight(&self) -> f32 {
        if self.int8.may_saturate() {
            63.0
        } else {
            127.0
        }
    }
}

/// The weights (O, I) as bytes from `-largest` to `largest`.
fn quantise(weight: &[f32], bias: Vec<f32>, largest: f32) -> (Vec<i8>, Columns) {
    let inputs = weight.len() / bias.len();
    let mut bytes = Vec::with_capacity(weight.len());
    let mut columns = Columns {
        bias,
        ..Columns::default()
    };
    for row in weight.chunks_exact(inputs) {
        let greatest = row.iter().fold(0f32, |most, w| most.max(w.abs()));
        let scale = (greatest / largest).max(f32::MIN_POSITIVE);
        let row: Vec<i8> = row.iter().map(|w| (w / scale).round() as i8).collect();
        columns.scales.push(scale);
        columns
            .sums
            .push(row.iter().map(|&byte| i32::from(byte)).sum());
        bytes.extend(row);
    }
    (bytes, columns)
}

impl Weights {
    fn f32(weight: &[f32], bias: Vec<f32>, multiplier: &Multiplier) -> Self {
        let shape = [bias.len(), weight.len() / bias.len()];
        let weight = NdTensorView::from_data(shape, weight);
        Self::F32 {
            weights: multiplier.f32.prepack_b(weight.transposed()),
            bias,
        }
    }

    /// For any processor.
    fn int8(bytes: &[i8], columns: Columns, multiplier: &Multiplier) -> Self {
        let shape = [columns.bias.len(), bytes.len() / columns.bias.len()];
        let view = NdTensorView::from_data(shape, bytes);
        Self::Int8 {
            bytes: multiplier.int8.prepack_b(view.transposed()),
            columns,
        }
    }

    /// For a processor that has the instructions, and shapes that fit them.
    #[cfg(target_arch = "x86_64")]
    fn vnni(bytes: &[i8], columns: &Columns) -> Option<Self> {
        vnni::Packed::new(bytes, columns).map(Self::Vnni)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn vnni(_: &[i8], _: &Columns) -> Option<Self> {
        None
    }
}

impl Linear {
    /// Of `weight` (O, I) and `bias` (O).
    pub fn pack(
        weight: &[f32],
        bias: Vec<f32>,
        arithmetic: Arithmetic,
        multiplier: &Multiplier,
    ) -> Self {
        let outputs = bias.len();
        Self {
            weights: match arithmetic {
                Arithmetic::Int8 => {
                    let (bytes, columns) = quantise(weight, bias, multiplier.largest_weight());
                    Weights::vnni(&bytes, &columns)
                        .unwrap_or_else(|| Weights::int8(&bytes, columns, multiplier))
                }
                _ => Weights::f32(weight, bias, multiplier),
            },
            inputs: weight.len() / outputs,
            outputs,
        }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of weights, I·O.
    pub fn weights(&self) -> usize {
        self.inputs * self.outputs
    }

    /// Writes the products of the rows `x` (N, I) to `out` (N, O).
    pub fn apply(
        &self,
        x: &[f32],
        out: &mut [f32],
        multiplier: &mut Multiplier,
        clock: &mut Clock,
    ) {
        let shape = [x.len() / self.inputs, self.inputs];
        let fits = "shapes were checked when the model was loaded";
        match &self.weights {
            Weights::F32 { weights, bias } => {
                let options = GemmOptions {
                    bias: Some(BiasVector::Row(bias)),
                    ..GemmOptions::default()
                };
                let x = GemmInputA::Unpacked(NdTensorView::from_data(shape, x));
                let weights = GemmInputB::Packed(weights);
                multiplier.f32.gemm(out, x, weights, options).expect(fits);
            }
            Weights::Int8 { bytes, columns } => {
                multiplier.quantise(x, self.inputs);
                clock.lap(Part::Rounding);
                let m = multiplier;
                m.products.resize(out.len(), 0);
                let x = GemmInputA::Unpacked(NdTensorView::from_data(shape, m.bytes.as_slice()));
                let weights = GemmInputB::Packed(bytes);
                // The zeros are subtracted below: rten-gemm 0.27 takes those of the first rows for all.
                m.int8
                    .gemm(&mut m.products, x, weights, GemmOptions::default())
                    .expect(fits);
                dequantise_rows(out, &m.products, &m.rows, columns);
            }
            #[cfg(target_arch = "x86_64")]
            Weights::Vnni(packed) => {
                multiplier.quantise(x, self.inputs);
                clock.lap(Part::Rounding);
                packed.multiply(&multiplier.bytes, &multiplier.rows, out);
            }
        }
        clock.lap(Part::Products);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn all_ways_to_multiply_bytes_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut multiplier = Multiplier::default();
        for (rows, inputs, outputs) in [(1, 4, 1), (7, 48, 144), (13, 100, 64), (90, 384, 70)] {
            let mut numbers = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random_range(-2.0..3.0)).collect()
            };
            let (x, weight, bias) = (
                numbers(rows * inputs),
                numbers(inputs * outputs),
                numbers(outputs),
            );
            let (bytes, columns) = quantise(&weight, bias, multiplier.largest_weight());
            let mut apply = |weights: Weights| {
                let linear = Linear {
                    weights,
                    inputs,
                    outputs,
                };
                let mut out = vec![f32::NAN; rows * outputs];
                linear.apply(&x, &mut out, &mut multiplier, &mut Clock::default());
                out
            };
            let any = apply(Weights::int8(
                &bytes,
                columns.clone(),
                &Multiplier::default(),
            ));
            for (i, exact) in any.iter().enumerate() {
                let (row, output) = (i / outputs, i % outputs);
                let pairs = x[row * inputs..][..inputs]
                    .iter()
                    .zip(&weight[output * inputs..][..inputs]);
                let product: f32 = pairs.map(|(x, w)| x * w).sum::<f32>() + columns.bias[output];
                assert!(
                    (product - exact).abs() < 0.05 * inputs as f32,
                    "{product} {exact}"
                );
            }
            let Some(weights) = Weights::vnni(&bytes, &columns) else {
                eprintln!("skipped: this processor has no VNNI");
                continue;
            };
            for (a, b) in apply(weights).iter().zip(&any) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}");
            }
        }
    }

    #[test]
    fn inputs_that_the_instructions_cannot_group_are_multiplied_as_well() {
        let linear = Linear::pack(
            &[1.0, 2.0, 3.0],
            vec![0.5],
            Arithmetic::Int8,
            &Multiplier::default(),
        );
        let mut out = [0.0];
        let multiplier = &mut Multiplier::default();
        linear.apply(
            &[1.0, 1.0, 1.0],
            &mut out,
            multiplier,
            &mut Clock::default(),
        );
        assert!((out[0] - 6.5).abs() < 0.05, "{}", out[0]);
    }
}
