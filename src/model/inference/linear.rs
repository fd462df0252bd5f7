//! Products of rows with weights that were packed once, in f32 or in bytes.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::Arithmetic;
use crate::model::kernels::{RowScale, dequantise_rows, quantise_rows};

/// `x·wᵀ + b`.
pub struct Linear {
    weights: Weights,
    bias: Vec<f32>, // (O)
    inputs: usize,
}

enum Weights {
    F32(PackedBMatrix<f32>),
    /// `w ≈ scale · byte`, with a scale for each output.
    Int8 {
        bytes: PackedBMatrix<i8>,
        scales: Vec<f32>, // (O)
        /// Of the bytes of each output.
        sums: Vec<i32>, // (O)
    },
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

impl Linear {
    /// Of `weight` (O, I) and `bias` (O).
    pub fn pack(
        weight: &[f32],
        bias: Vec<f32>,
        arithmetic: Arithmetic,
        multiplier: &Multiplier,
    ) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        let weights = match arithmetic {
            Arithmetic::F32 | Arithmetic::Bf16 => {
                let weight = NdTensorView::from_data([outputs, inputs], weight);
                Weights::F32(multiplier.f32.prepack_b(weight.transposed()))
            }
            Arithmetic::Int8 => {
                let largest = multiplier.largest_weight();
                let mut bytes = Vec::with_capacity(weight.len());
                let (mut scales, mut sums) = (Vec::new(), Vec::new());
                for row in weight.chunks_exact(inputs) {
                    let greatest = row.iter().fold(0f32, |most, w| most.max(w.abs()));
                    let scale = (greatest / largest).max(f32::MIN_POSITIVE);
                    let row: Vec<i8> = row.iter().map(|w| (w / scale).round() as i8).collect();
                    scales.push(scale);
                    sums.push(row.iter().map(|&byte| i32::from(byte)).sum());
                    bytes.extend(row);
                }
                let view = NdTensorView::from_data([outputs, inputs], bytes.as_slice());
                let bytes = multiplier.int8.prepack_b(view.transposed());
                Weights::Int8 {
                    bytes,
                    scales,
                    sums,
                }
            }
        };
        Self {
            weights,
            bias,
            inputs,
        }
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Writes the products of the rows `x` (N, I) to `out` (N, O).
    pub fn apply(&self, x: &[f32], out: &mut [f32], multiplier: &mut Multiplier) {
        let rows = x.len() / self.inputs;
        let fits = "shapes were checked when the model was loaded";
        match &self.weights {
            Weights::F32(weights) => {
                let options = GemmOptions {
                    bias: Some(BiasVector::Row(&self.bias)),
                    ..GemmOptions::default()
                };
                let x = GemmInputA::Unpacked(NdTensorView::from_data([rows, self.inputs], x));
                let weights = GemmInputB::Packed(weights);
                multiplier.f32.gemm(out, x, weights, options).expect(fits);
            }
            Weights::Int8 {
                bytes,
                scales,
                sums,
            } => {
                let m = multiplier;
                m.bytes.resize(x.len(), 0);
                m.rows.resize(rows, RowScale::default());
                m.products.resize(out.len(), 0);
                quantise_rows(x, self.inputs, &mut m.bytes, &mut m.rows);
                let x = NdTensorView::from_data([rows, self.inputs], m.bytes.as_slice());
                let (x, weights) = (GemmInputA::Unpacked(x), GemmInputB::Packed(bytes));
                // The zeros are subtracted below: rten-gemm 0.27 takes those of the first rows for all.
                m.int8
                    .gemm(&mut m.products, x, weights, GemmOptions::default())
                    .expect(fits);
                dequantise_rows(out, &m.products, &m.rows, scales, sums, &self.bias);
            }
        }
    }
}
