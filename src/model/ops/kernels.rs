//! The loops under the fused operations: plain slices in, plain slices out.

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
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
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
    // Adding and removing 1.5·2²³ rounds to the nearest integer, in any instruction set.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = clamped * std::f32::consts::LOG2_E + ROUND - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let poly = C.iter().rev().fold(0.0, |sum, c| sum * r + c) * r * r + r + 1.0;
    let value = poly * f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { value }
}
