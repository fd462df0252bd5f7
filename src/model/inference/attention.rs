//! Self-attention of one sequence, a few queries at a time: their scores, the softmax of those and the sums
//! of the values stay in the nearest cache of a core.

use std::array;

use pulp::{Arch, Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use super::bf16;
use crate::model::kernels::exp;

/// Queries at a time, and vectors of a sum of each: together as many as the registers hold.
const QUERIES: usize = 6;
const VECTORS: usize = 2;

/// Attention of a sequence of T tokens in heads of D dimensions: `qkv` (T, 3H) to `context` (T, H).
pub struct Attention<'a> {
    pub qkv: &'a [f32],
    pub hidden: usize,
    pub heads: usize,
    /// Whether bf16 will do, where the processor is faster in it.
    pub rounded: bool,
    pub context: &'a mut [f32],
    pub buffers: &'a mut Buffers,
}

/// Buffers of a thread, which grow to the longest sequence seen.
#[derive(Default)]
pub struct Buffers {
    keys: Vec<f32>,   // (D, T), scaled; T is filled up to whole sums
    values: Vec<f32>, // (T, D); D is filled up to whole sums
    scores: Vec<f32>, // (QUERIES, T), likewise
    #[cfg(target_arch = "x86_64")]
    bf16: bf16::Buffers,
}

impl Attention<'_> {
    pub fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if self.rounded && bf16::serves(self.hidden / self.heads) {
            let buffers = &mut self.buffers.bf16;
            return bf16::attend(self.qkv, self.hidden, self.heads, self.context, buffers);
        }
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (dim, row) = (self.hidden / self.heads, 3 * self.hidden);
        let count = self.qkv.len() / row;
        let width = VECTORS * S::F32_LANES;
        let head = Head {
            count,
            dim,
            keys_width: count.next_multiple_of(width),
            values_width: dim.next_multiple_of(width),
            hidden: self.hidden,
        };
        let Buffers {
            keys,
            values,
            scores,
            ..
        } = self.buffers;
        keys.resize(dim * head.keys_width, 0.0);
        values.resize(count * head.values_width, 0.0);
        scores.resize(QUERIES * head.keys_width, 0.0);
        let scale = 1.0 / (dim as f32).sqrt();
        for start in (0..self.hidden).step_by(dim) {
            for (t, row) in self.qkv.chunks_exact(row).enumerate() {
                let key = &row[self.hidden + start..][..dim];
                for (d, key) in key.iter().enumerate() {
                    keys[d * head.keys_width + t] = key * scale;
                }
                let value = &row[2 * self.hidden + start..][..dim];
                values[t * head.values_width..][..dim].copy_from_slice(value);
            }
            let contexts = self.context.chunks_mut(QUERIES * self.hidden);
            for (queries, context) in self.qkv.chunks(QUERIES * row).zip(contexts) {
                let (queries, context) = (&queries[start..], &mut context[start..]);
                let (keys, values) = (&keys[..], &values[..]);
                let step = Step {
                    head,
                    queries,
                    keys,
                    values,
                    scores,
                    context,
                };
                match queries.len().div_ceil(row) {
                    1 => step.run::<S, 1>(simd),
                    2 => step.run::<S, 2>(simd),
                    3 => step.run::<S, 3>(simd),
                    4 => step.run::<S, 4>(simd),
                    5 => step.run::<S, 5>(simd),
                    _ => step.run::<S, QUERIES>(simd),
                }
            }
        }
    }
}

/// The sizes of what one head works on.
#[derive(Clone, Copy)]
struct Head {
    count: usize,
    dim: usize,
    keys_width: usize,
    values_width: usize,
    hidden: usize,
}

/// A few queries of a head.
struct Step<'a> {
    head: Head,
    queries: &'a [f32], // rows 3H apart
    keys: &'a [f32],
    values: &'a [f32],
    scores: &'a mut [f32],
    context: &'a mut [f32], // rows H apart
}

impl Step<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self, simd: S) {
        simd.vectorize(
            #[inline(always)]
            || self.vectorized::<S, M>(simd),
        );
    }

    #[inline(always)]
    fn vectorized<S: Simd, const M: usize>(self, simd: S) {
        let Head {
            count,
            dim,
            keys_width,
            values_width,
            hidden,
        } = self.head;
        let width = VECTORS * S::F32_LANES;
        for t in (0..keys_width).step_by(width) {
            let sums: [_; M] = sums(
                simd,
                array::from_fn(|m| &self.queries[m * 3 * hidden..][..dim]),
                &self.keys[t..],
                keys_width,
            );
            for (m, sums) in sums.iter().enumerate() {
                let (scores, _) =
                    S::as_mut_simd_f32s(&mut self.scores[m * keys_width + t..][..width]);
                scores.copy_from_slice(sums);
            }
        }
        let mut scales = [simd.splat_f32s(0.0); M];
        for (scores, scale) in self.scores.chunks_exact_mut(keys_width).zip(&mut scales) {
            *scale = simd.splat_f32s(1.0 / exponentiate(simd, scores, count));
        }
        for d in (0..dim).step_by(width) {
            let sums: [_; M] = sums(
                simd,
                array::from_fn(|m| &self.scores[m * keys_width..][..count]),
                &self.values[d..],
                values_width,
            );
            for (m, (sums, scale)) in sums.iter().zip(scales).enumerate() {
                let context = &mut self.context[m * hidden + d..][..width.min(dim - d)];
                for (part, sum) in context.chunks_mut(S::F32_LANES).zip(sums) {
                    simd.partial_store_f32s(part, simd.mul_f32s(*sum, scale));
                }
            }
        }
    }
}

/// Of each of a few rows `a` (K) its product with the first columns of `b` (K, columns in rows that are
/// `stride` apart).
#[inline(always)]
fn sums<S: Simd, const M: usize>(
    simd: S,
    a: [&[f32]; M],
    b: &[f32],
    stride: usize,
) -> [[S::f32s; VECTORS]; M] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; M];
    let depth = a[0].len();
    let a = a.map(|row| &row[..depth]);
    for (k, b) in b.chunks(stride).enumerate().take(depth) {
        let (b, _) = S::as_simd_f32s(&b[..VECTORS * S::F32_LANES]);
        for (sums, a) in sums.iter_mut().zip(a) {
            let a = simd.splat_f32s(a[k]);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = simd.mul_add_e_f32s(a, *b, *sum);
            }
        }
    }
    sums
}

/// Turns the first `count` scores into the exponentials of what they are above the greatest, the rest into 0,
/// and returns the sum.
#[inline(always)]
fn exponentiate<S: Simd>(simd: S, scores: &mut [f32], count: usize) -> f32 {
    scores[count..].fill(f32::NEG_INFINITY);
    let lowest = simd.splat_f32s(f32::NEG_INFINITY);
    let (vectors, _) = S::as_simd_f32s(scores);
    let greatest = vectors
        .iter()
        .fold(lowest, |most, x| simd.max_f32s(most, *x));
    let greatest = simd.reduce_max_f32s(greatest);
    for score in scores.iter_mut() {
        *score = exp(*score - greatest);
    }
    let (vectors, _) = S::as_simd_f32s(scores);
    let zero = simd.splat_f32s(0.0);
    let sum = vectors.iter().fold(zero, |sum, x| simd.add_f32s(sum, *x));
    simd.reduce_sum_f32s(sum)
}
