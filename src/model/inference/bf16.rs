//! Self-attention by the bf16 instructions of AVX-512: one of them multiplies 32 pairs and adds them in twos
//! to sums in f32. Scores and the softmax are in f32; queries, keys, values and weights are rounded.

use std::arch::x86_64::*;
use std::f32::consts::LOG2_E;
use std::mem::transmute;

use super::profile::{CHAINS, ROUNDS};

/// Lanes of a vector; queries and vectors of keys at a time, together as many sums as registers hold.
const LANES: usize = 16;
const QUERIES: usize = 6;
const VECTORS: usize = 4;

/// Values that one instruction adds up, which lie side by side in 32 bits.
const PAIR: usize = 2;

/// Dimensions that a head has a multiple of.
const DIMENSIONS: usize = PAIR * LANES;

/// Buffers of a thread, which grow to the longest sequence seen; T is filled up to whole vectors.
#[derive(Default)]
pub struct Buffers {
    queries: Vec<u32>, // (QUERIES, D/2)
    keys: Vec<u32>,    // (D/2, T)
    values: Vec<u32>,  // (T/2, D)
    scores: Vec<f32>,  // (QUERIES, T)
    weights: Vec<u32>, // (QUERIES, T/2)
}

/// Whether the processor has the instructions, and heads of `dim` dimensions fit them.
pub fn serves(dim: usize) -> bool {
    available() && dim.is_multiple_of(DIMENSIONS)
}

fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// As [`super::profile::Peak`] counts: how many operations were done; `None`: the processor lacks the
/// instructions.
pub fn multiply_add() -> Option<u64> {
    // SAFETY: the processor has the instructions.
    available().then(|| unsafe { multiply_add_vectors() })
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_add_vectors() -> u64 {
    let (x, y) = std::hint::black_box((splat(0x3f00_3f00), splat(0x3e80_3e80)));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, y);
        }
    }
    std::hint::black_box(sums);
    2 * ROUNDS * (CHAINS * LANES * PAIR) as u64
}

/// Attention of a sequence of T tokens in `heads` heads: `qkv` (T, 3H) to `context` (T, H).
///
/// # Panics
/// If [`serves`] denies the heads' dimension, or the sizes do not fit.
pub fn attend(
    qkv: &[f32],
    hidden: usize,
    heads: usize,
    context: &mut [f32],
    buffers: &mut Buffers,
) {
    assert!(serves(hidden / heads) && hidden.is_multiple_of(heads));
    let count = qkv.len() / (3 * hidden);
    assert!(qkv.len() == count * 3 * hidden && context.len() == count * hidden);
    let head = Head {
        count,
        width: count.next_multiple_of(LANES),
        dim: hidden / heads,
        hidden,
    };
    for start in (0..hidden).step_by(head.dim) {
        // SAFETY: the processor has the instructions.
        unsafe { head.attend(&qkv[start..], &mut context[start..], buffers) }
    }
}

/// The sizes of what one head works on.
#[derive(Clone, Copy)]
struct Head {
    count: usize,
    /// Of a row of scores.
    width: usize,
    dim: usize,
    hidden: usize,
}

impl Head {
    /// `qkv` and `context` begin with the head's first dimension; their rows are 3H and H apart.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn attend(self, qkv: &[f32], context: &mut [f32], buffers: &mut Buffers) {
        let (count, width, dim) = (self.count, self.width, self.dim);
        let row = 3 * self.hidden;
        let Buffers {
            queries,
            keys,
            values,
            scores,
            weights,
        } = buffers;
        queries.resize(QUERIES * dim / PAIR, 0);
        keys.resize(dim / PAIR * width, 0);
        values.resize(width / PAIR * dim, 0);
        scores.resize(QUERIES * width, 0.0);
        weights.resize(QUERIES * width / PAIR, 0);

        for t in 0..count {
            let key = &qkv[t * row + self.hidden..][..dim];
            for (i, part) in key.chunks_exact(DIMENSIONS).enumerate() {
                for (pair, key) in rounded(part, 1.0).into_iter().enumerate() {
                    keys[(i * LANES + pair) * width + t] = key;
                }
            }
        }
        // What comes after the last token has no weight, but must be a number.
        let none = [0.0; LANES];
        for (pair, out) in values.chunks_exact_mut(dim).enumerate() {
            for (d, out) in out.chunks_exact_mut(LANES).enumerate() {
                let of = |t: usize| match t < count {
                    true => &qkv[t * row + 2 * self.hidden + d * LANES..][..LANES],
                    false => &none,
                };
                let both = side_by_side(of(PAIR * pair), of(PAIR * pair + 1));
                out.copy_from_slice(&both);
            }
        }
        let scale = LOG2_E / (dim as f32).sqrt();
        for first in (0..count).step_by(QUERIES) {
            let some = QUERIES.min(count - first);
            for (m, query) in queries.chunks_exact_mut(dim / PAIR).take(some).enumerate() {
                let of = &qkv[(first + m) * row..][..dim];
                let parts = of
                    .chunks_exact(DIMENSIONS)
                    .zip(query.chunks_exact_mut(LANES));
                for (part, out) in parts {
                    out.copy_from_slice(&rounded(part, scale));
                }
            }
            let context = &mut context[first * self.hidden..];
            match some {
                1 => self.step::<1>(queries, keys, values, scores, weights, context),
                2 => self.step::<2>(queries, keys, values, scores, weights, context),
                3 => self.step::<3>(queries, keys, values, scores, weights, context),
                4 => self.step::<4>(queries, keys, values, scores, weights, context),
                5 => self.step::<5>(queries, keys, values, scores, weights, context),
                _ => self.step::<QUERIES>(queries, keys, values, scores, weights, context),
            }
        }
    }

    /// `M` queries.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn step<const M: usize>(
        self,
        queries: &[u32],
        keys: &[u32],
        values: &[u32],
        scores: &mut [f32],
        weights: &mut [u32],
        context: &mut [f32],
    ) {
        let (width, dim) = (self.width, self.dim);
        let mut t = 0;
        while t < width {
            let (keys, scores) = (&keys[t..], &mut scores[t..]);
            match (width - t) / LANES {
                1 => self.scores::<M, 1>(queries, keys, scores),
                2 => self.scores::<M, 2>(queries, keys, scores),
                3 => self.scores::<M, 3>(queries, keys, scores),
                _ => self.scores::<M, VECTORS>(queries, keys, scores),
            }
            t += VECTORS * LANES;
        }
        let mut sums = [0.0; M];
        let rows = scores
            .chunks_exact(width)
            .zip(weights.chunks_exact_mut(width / PAIR));
        for ((scores, weights), sum) in rows.zip(&mut sums) {
            *sum = exponentiate(scores, self.count, weights);
        }
        for d in (0..dim).step_by(DIMENSIONS) {
            self.means::<M>(weights, &values[d..], sums, &mut context[d..]);
        }
    }

    /// The scores of `M` queries and `V` vectors of keys.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[allow(clippy::needless_range_loop)]
    fn scores<const M: usize, const V: usize>(
        self,
        queries: &[u32],
        keys: &[u32],
        scores: &mut [f32],
    ) {
        let (width, pairs) = (self.width, self.dim / PAIR);
        assert!(scores.len() >= (M - 1) * width + V * LANES);
        let sums = products::<M, V>(queries, pairs, keys, width, pairs);
        for m in 0..M {
            for v in 0..V {
                // SAFETY: the assertion on the scores.
                let out = unsafe { scores.as_mut_ptr().add(m * width + v * LANES) };
                unsafe { _mm512_storeu_ps(out, sums[m][v]) };
            }
        }
    }

    /// The weighted means of the values' first [`DIMENSIONS`] dimensions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[allow(clippy::needless_range_loop)]
    fn means<const M: usize>(
        self,
        weights: &[u32],
        values: &[u32],
        totals: [f32; M],
        context: &mut [f32],
    ) {
        let (pairs, dim) = (self.width / PAIR, self.dim);
        // Pairs of tokens that are not all past the end.
        let used = self.count.div_ceil(PAIR);
        assert!(context.len() >= (M - 1) * self.hidden + DIMENSIONS);
        let sums = products::<M, PAIR>(weights, pairs, values, dim, used);
        for m in 0..M {
            let scale = _mm512_set1_ps(1.0 / totals[m]);
            for v in 0..PAIR {
                // SAFETY: the assertion on the context.
                let out = unsafe { context.as_mut_ptr().add(m * self.hidden + v * LANES) };
                unsafe { _mm512_storeu_ps(out, _mm512_mul_ps(sums[m][v], scale)) };
            }
        }
    }
}

/// Of each of `M` rows of pairs, `stride` apart, its product with `V` vectors of columns, whose rows are
/// `columns_stride` apart; `depth` pairs are added up.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
// Loops over numbers, since the compiler unrolls them and keeps the sums in registers.
#[allow(clippy::needless_range_loop)]
fn products<const M: usize, const V: usize>(
    rows: &[u32],
    stride: usize,
    columns: &[u32],
    columns_stride: usize,
    depth: usize,
) -> [[__m512; V]; M] {
    assert!(depth > 0 && rows.len() >= (M - 1) * stride + depth);
    assert!(columns.len() >= (depth - 1) * columns_stride + V * LANES);
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    for pair in 0..depth {
        let mut vectors = [splat(0); V];
        for v in 0..V {
            // SAFETY: the assertion on the columns.
            vectors[v] = unsafe { load(columns.as_ptr().add(pair * columns_stride + v * LANES)) };
        }
        for m in 0..M {
            // SAFETY: the assertion on the rows.
            let one = splat(unsafe { *rows.get_unchecked(m * stride + pair) });
            for v in 0..V {
                sums[m][v] = _mm512_dpbf16_ps(sums[m][v], one, vectors[v]);
            }
        }
    }
    sums
}

/// Writes 2 to what the scores are above the greatest of the first `count`, the rest 0, and returns the sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn exponentiate(scores: &[f32], count: usize, weights: &mut [u32]) -> f32 {
    // Minimax polynomial of 2 to the power of [-0.5, 0.5]: 3e-6 off at most, where bf16 is 2e-3.
    const POWERS: [f32; 5] = [
        0.999_999_3,
        0.693_121_8,
        0.240_247_4,
        0.055_917_86,
        0.009_570_1,
    ];
    let mask = |t: usize| -> __mmask16 { (0xffff_u32 >> (LANES - (count - t).min(LANES))) as u16 };
    let whole = scores.chunks_exact(LANES).zip((0..count).step_by(LANES));
    let mut greatest = _mm512_set1_ps(f32::NEG_INFINITY);
    for (scores, t) in whole.clone() {
        // SAFETY: as many scores as lanes.
        let scores = unsafe { _mm512_loadu_ps(scores.as_ptr()) };
        greatest = _mm512_mask_max_ps(greatest, mask(t), greatest, scores);
    }
    let greatest = _mm512_set1_ps(_mm512_reduce_max_ps(greatest));
    let mut sum = _mm512_setzero_ps();
    let rounding = weights.chunks_exact_mut(LANES / PAIR);
    for ((scores, t), weights) in whole.zip(rounding) {
        // SAFETY: as many scores as lanes.
        let x = _mm512_sub_ps(unsafe { _mm512_loadu_ps(scores.as_ptr()) }, greatest);
        let power = _mm512_roundscale_ps::<0>(x);
        let rest = _mm512_sub_ps(x, power);
        let [constant, one, two, three, four] = POWERS.map(|c| _mm512_set1_ps(c));
        let mut value = _mm512_fmadd_ps(four, rest, three);
        value = _mm512_fmadd_ps(value, rest, two);
        value = _mm512_fmadd_ps(value, rest, one);
        value = _mm512_fmadd_ps(value, rest, constant);
        value = _mm512_maskz_scalef_ps(mask(t), value, power);
        sum = _mm512_add_ps(sum, value);
        // SAFETY: half as many pairs as lanes.
        unsafe {
            let rounded: __m256i = transmute(_mm512_cvtneps_pbh(value));
            _mm256_storeu_si256(weights.as_mut_ptr().cast(), rounded);
        }
    }
    _mm512_reduce_add_ps(sum)
}

/// [`DIMENSIONS`] values times `scale`, two by two.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(values: &[f32], scale: f32) -> [u32; LANES] {
    assert_eq!(values.len(), DIMENSIONS);
    let scale = _mm512_set1_ps(scale);
    // SAFETY: the assertion; vectors of as many bits.
    unsafe {
        let low = _mm512_mul_ps(_mm512_loadu_ps(values.as_ptr()), scale);
        let high = _mm512_mul_ps(_mm512_loadu_ps(values.as_ptr().add(LANES)), scale);
        transmute(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Values of two tokens, those of a dimension side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn side_by_side(first: &[f32], second: &[f32]) -> [u32; LANES] {
    assert!(first.len() == LANES && second.len() == LANES);
    // SAFETY: the assertion; vectors of as many bits.
    unsafe {
        let wide = |values: &[f32]| {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(values.as_ptr()));
            _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(rounded))
        };
        let (first, second) = (wide(first), wide(second));
        transmute(_mm512_or_si512(first, _mm512_slli_epi32::<16>(second)))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn splat(pair: u32) -> __m512bh {
    // SAFETY: vectors of as many bits.
    unsafe { transmute(_mm512_set1_epi32(pair as i32)) }
}

/// # Safety
/// [`LANES`] numbers can be read from `from`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load(from: *const u32) -> __m512bh {
    // SAFETY: the caller; vectors of as many bits.
    unsafe { transmute(_mm512_loadu_si512(from.cast())) }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::attention::{self, Attention};
    use super::*;

    #[test]
    fn attention_is_that_of_f32_but_for_rounding() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut exact_buffers, mut buffers) = (attention::Buffers::default(), Buffers::default());
        // Buffers are used again, also for shorter sequences.
        for (count, hidden, heads) in [
            (70, 96, 3),
            (1, 32, 1),
            (131, 64, 1),
            (16, 64, 2),
            (5, 96, 3),
        ] {
            if !serves(hidden / heads) {
                eprintln!("skipped: this processor has no bf16");
                return;
            }
            let qkv: Vec<f32> = (0..count * 3 * hidden)
                .map(|_| rng.random_range(-2.0..2.0))
                .collect();
            let mut exact = vec![f32::NAN; count * hidden];
            Attention {
                qkv: &qkv,
                hidden,
                heads,
                rounded: false,
                context: &mut exact,
                buffers: &mut exact_buffers,
            }
            .run();
            let mut rounded = vec![f32::NAN; count * hidden];
            attend(&qkv, hidden, heads, &mut rounded, &mut buffers);
            for (a, b) in exact.iter().zip(&rounded) {
                assert!((a - b).abs() < 0.03, "{a} {b} of {count} tokens");
            }
        }
    }

    #[test]
    fn weights_of_great_and_small_scores_are_powers_of_two() {
        if !available() {
            eprintln!("skipped: this processor has no bf16");
            return;
        }
        let mut scores = [f32::NAN; 32];
        scores[..18].copy_from_slice(&[-3000.0; 18]);
        scores[1] = 500.0;
        scores[17] = 499.0;
        let mut weights = [7; 16];
        // SAFETY: the processor has the instructions.
        let sum = unsafe { exponentiate(&scores, 18, &mut weights) };
        assert!((sum - 1.5).abs() < 1e-5);
        let values = weights.map(|pair| [pair << 16, pair & 0xffff_0000].map(f32::from_bits));
        let expected = |t| match t {
            1 => 1.0,
            17 => 0.5,
            _ => 0.0,
        };
        for (t, value) in values.as_flattened().iter().enumerate() {
            assert_eq!(*value, expected(t), "{t}");
        }
    }
}
