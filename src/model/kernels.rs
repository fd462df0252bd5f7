//! The loops under the fused operations and under inference: plain slices in, plain slices out.

use gemm::Parallelism;

/// What the bytes of each column stand for: `w ≈ scale · byte`.
#[derive(Clone, Default)]
pub struct Columns {
    pub scales: Vec<f32>, // (O)
    /// Of the bytes of a column.
    pub sums: Vec<i32>, // (O)
    pub bias: Vec<f32>,   // (O)
}

/// How a row's bytes stand for its values: `x ≈ scale · (byte - zero)`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowScale {
    pub scale: f32,
    pub zero: i32,
}

/// Compiles each kernel once for each instruction set and chooses at run time. The loops are written
/// so that the compiler vectorises them.
macro_rules! kernels {
    ($($kernel:item)*) => {
        $(
            #[multiversion::multiversion(targets(
                "x86_64+avx512f+avx512dq+avx512bw+avx512vl",
                "x86_64+avx2+fma",
                "aarch64+neon"
            ))]
            $kernel
        )*
    };
}

kernels! {
    pub fn add_to_rows(rows: &mut [f32], values: &[f32]) {
        for row in rows.chunks_exact_mut(values.len()) {
            for (x, v) in row.iter_mut().zip(values) {
                *x += v;
            }
        }
    }

    pub fn gelu_in_place(values: &mut [f32]) {
        for x in values {
            *x *= normal_cdf(*x);
        }
    }

    /// `grad ∘ d gelu(x)/dx = grad ∘ (Φ(x) + x·φ(x))`.
    pub fn times_gelu_derivative(grad: &mut [f32], x: &[f32]) {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        for (grad, &x) in grad.iter_mut().zip(x) {
            *grad *= normal_cdf(x) + x * INV_SQRT_2PI * exp(-0.5 * x * x);
        }
    }

    pub fn normalise_rows(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, scale) = moments(x, eps);
            for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = (x - mean) * scale * w + b;
            }
        }
    }

    /// Turns gradients of the result into gradients of `x`, and returns those of weight and bias.
    pub fn normalise_rows_backward(
        grad: &mut [f32],
        x: &[f32],
        weight: &[f32],
        eps: f32,
    ) -> (Vec<f32>, Vec<f32>) {
        let width = weight.len();
        let (mut grad_weight, mut grad_bias) = (vec![0f32; width], vec![0f32; width]);
        let mut normal = vec![0f32; width];
        for (grad, x) in grad.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, scale) = moments(x, eps);
            for (n, x) in normal.iter_mut().zip(x) {
                *n = (x - mean) * scale;
            }
            for ((gw, g), n) in grad_weight.iter_mut().zip(&*grad).zip(&normal) {
                *gw += g * n;
            }
            for (gb, g) in grad_bias.iter_mut().zip(&*grad) {
                *gb += g;
            }
            for (g, w) in grad.iter_mut().zip(weight) {
                *g *= w;
            }
            let mean_grad = sum(grad, |g| g) / width as f32;
            let mean_grad_normal = dot(grad, &normal) / width as f32;
            for (g, n) in grad.iter_mut().zip(&normal) {
                *g = scale * (*g - mean_grad - n * mean_grad_normal);
            }
        }
        (grad_weight, grad_bias)
    }

    pub fn softmax_rows(rows: &mut [f32], width: usize) {
        for row in rows.chunks_exact_mut(width) {
            let max = greatest(row);
            for x in row.iter_mut() {
                *x = exp(*x - max);
            }
            let scale = 1.0 / sum(row, |x| x);
            for x in row {
                *x *= scale;
            }
        }
    }

    pub fn softmax_rows_backward(grad: &mut [f32], weights: &[f32], width: usize) {
        for (grad, weights) in grad.chunks_exact_mut(width).zip(weights.chunks_exact(width)) {
            let mean = dot(grad, weights);
            for (g, w) in grad.iter_mut().zip(weights) {
                *g = w * (*g - mean);
            }
        }
    }

    /// Rows as unsigned bytes, such that a row's least and greatest values, and 0, fall within 0 to 255.
    pub fn quantise_rows(x: &[f32], width: usize, bytes: &mut [u8], scales: &mut [RowScale]) {
        let rows = x.chunks_exact(width).zip(bytes.chunks_exact_mut(width));
        for ((x, bytes), row) in rows.zip(scales) {
            let (low, high) = extremes(x);
            let (low, high) = (low.min(0.0), high.max(0.0));
            row.scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
            let inverse = 1.0 / row.scale;
            let zero = (-low * inverse).round();
            row.zero = zero as i32;
            for (byte, x) in bytes.iter_mut().zip(x) {
                // What is not a number becomes 0 as well.
                let value = x * inverse + zero;
                let value = if value > 0.0 { value } else { 0.0 };
                let value = if value < 255.0 { value } else { 255.0 };
                // Adding 2²³ rounds, and leaves the integer in the last bits.
                *byte = (value + 8_388_608.0).to_bits() as u8;
            }
        }
    }

    /// Products of rows of bytes with columns of bytes as what they stand for:
    /// `out = (product - zero · sum) · row scale · column scale + bias`.
    pub fn dequantise_rows(out: &mut [f32], products: &[i32], rows: &[RowScale], columns: &Columns) {
        let Columns { scales, sums, bias } = columns;
        let width = bias.len();
        let lines = out.chunks_exact_mut(width).zip(products.chunks_exact(width));
        for ((out, products), row) in lines.zip(rows) {
            let columns = scales.iter().zip(sums).zip(bias);
            for ((out, product), ((scale, sum), bias)) in out.iter_mut().zip(products).zip(columns) {
                *out = (*product - row.zero * sum) as f32 * (row.scale * scale) + bias;
            }
        }
    }

    /// `x += y`, then layer normalisation of each row of `x` in its place.
    pub fn add_and_normalise_rows(x: &mut [f32], y: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
        let width = weight.len();
        for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
            let (mean, scale) = moments(x, eps);
            for ((x, w), b) in x.iter_mut().zip(weight).zip(bias) {
                *x = (*x - mean) * scale * w + b;
            }
        }
    }

    pub fn squares(values: &[f32]) -> f32 {
        dot(values, values)
    }

    /// Element `i` survives where a hash of `i` and the stream (the finaliser of MurmurHash3) says so.
    pub fn drop_in_place(values: &mut [f32], p: f32, stream: u32) {
        let threshold = (p as f64 * u32::MAX as f64) as u32;
        let scale = 1.0 / (1.0 - p);
        for (i, x) in values.iter_mut().enumerate() {
            let mut hash = (i as u32).wrapping_mul(0x9e37_79b9) ^ stream;
            hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
            hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
            hash ^= hash >> 16;
            *x = if hash < threshold { 0.0 } else { *x * scale };
        }
    }
}

/// Mean and reciprocal standard deviation of a row.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum(row, |x| x) / row.len() as f32;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / row.len() as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// The least and the greatest value, `∞` and `-∞` of none; what is not a number does not count.
#[inline(always)]
fn extremes(values: &[f32]) -> (f32, f32) {
    (
        extreme(
            values,
            f32::INFINITY,
            |low, x| if x < low { x } else { low },
        ),
        greatest(values),
    )
}

/// The greatest value, `-∞` of none.
#[inline(always)]
fn greatest(values: &[f32]) -> f32 {
    extreme(
        values,
        f32::NEG_INFINITY,
        |high, x| if x > high { x } else { high },
    )
}

/// What `pick` leaves of `start` and all values, found in lanes that the compiler turns into vectors.
#[inline(always)]
fn extreme(values: &[f32], start: f32, pick: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 64];
    let chunks = values.chunks_exact(lanes.len());
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = pick(*lane, *x);
        }
    }
    let (first, second) = lanes.split_at_mut(32);
    for (lane, x) in first.iter_mut().zip(second) {
        *lane = pick(*lane, *x);
    }
    let (first, second) = first.split_at_mut(16);
    for (lane, x) in first.iter_mut().zip(second) {
        *lane = pick(*lane, *x);
    }
    let lanes = first.iter().chain(rest);
    lanes.fold(start, |most, x| pick(most, *x))
}

/// `Σ f(x)` in 16 partial sums, which the compiler turns into vector additions.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut partial = [0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|&x| f(x)).sum();
    for chunk in chunks {
        for i in 0..16 {
            partial[i] += f(chunk[i]);
        }
    }
    partial.iter().sum::<f32>() + rest
}

/// `Σ a·b` in 16 partial sums.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut partial = [0f32; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16
        .remainder()
        .iter()
        .zip(b16.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a16.zip(b16) {
        for i in 0..16 {
            partial[i] += a[i] * b[i];
        }
    }
    partial.iter().sum::<f32>() + rest
}

/// The standard normal distribution function Φ(x) = (1 + erf(x/√2))/2.
#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// The error function as the rational approximation of Eigen's vectorised `erf`, within 1e-6.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    const P: [f32; 7] = [
        -1.609_603_3e-2,
        -2.954_6e-3,
        -7.349_906_3e-4,
        -5.692_506_4e-5,
        -2.101_024e-6,
        2.770_681_4e-8,
        -2.726_142_3e-10,
    ];
    const Q: [f32; 5] = [
        -1.426_473_9e-2,
        -7.373_329e-3,
        -1.682_827e-3,
        -2.133_740_6e-4,
        -1.456_607_2e-5,
    ];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let p = P.iter().rev().fold(0.0, |sum, c| sum * square + c);
    let q = Q.iter().rev().fold(0.0, |sum, c| sum * square + c);
    x * p / q
}

/// `eˣ` for x ≤ 88 as in Cephes' `expf`, within 2 units in the last place; 0 below -87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const C: [f32; 6] = [
        0.5,
        1.666_666_5e-1,
        4.166_579_6e-2,
        8.333_452e-3,
        1.398_2e-3,
        1.987_569_1e-4,
    ];
    // Adding 1.5·2²³ rounds to the nearest integer, in any instruction set, and leaves it in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let above = if x < -87.0 { -87.0 } else { x };
    let clamped = if above > 88.0 { 88.0 } else { above };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let poly = C.iter().rev().fold(0.0, |sum, c| sum * r + c) * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23)); // 2ⁿ
    let value = poly * power;
    if x < -87.0 { 0.0 } else { value }
}

/// `out (m, n) = scale · a (m, k) · b (k, n)` on this thread; strides are (row, column).
#[allow(clippy::too_many_arguments)] // a matrix product has three matrices with their strides
pub fn matmul(
    out: &mut [f32],
    out_strides: (usize, usize),
    a: &[f32],
    a_strides: (usize, usize),
    b: &[f32],
    b_strides: (usize, usize),
    (m, n, k): (usize, usize, usize),
    scale: f32,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let last = |(rs, cs): (usize, usize), rows: usize, columns: usize| {
        (rows - 1) * rs + (columns - 1) * cs
    };
    assert!(
        last(out_strides, m, n) < out.len(),
        "product outside its result"
    );
    assert!(
        last(a_strides, m, k) < a.len() && last(b_strides, k, n) < b.len(),
        "short operand"
    );
    // SAFETY: the assertions above keep every index the strides reach inside its slice, and `out`
    // is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            out_strides.1 as isize,
            out_strides.0 as isize,
            false,
            a.as_ptr(),
            a_strides.1 as isize,
            a_strides.0 as isize,
            b.as_ptr(),
            b_strides.1 as isize,
            b_strides.0 as isize,
            0.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
