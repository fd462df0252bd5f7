//! Differentiable operations of the encoder that candle lacks, or composes of many small ones.
//!
//! `candle_nn`'s fused layer norm and softmax have no backward pass: gradients stop there without a
//! word. Its composed ones have, but make a tensor per step. On the CPU in f32 each operation here is
//! one kernel with its own backward pass; elsewhere it is composed of candle's differentiable
//! operations. Tests hold both, and finite differences, together.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape};
use candle_core::{Storage, Tensor, bail};
use gemm::Parallelism;
use rayon::prelude::*;

/// Rows that one task of a row-wise kernel handles: enough work to be worth a task.
const ROWS_PER_TASK: usize = 64;

/// Whether the fused kernels serve `x`.
fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// `x·wᵀ + b` for `x` (N, I), `w` (O, I), `b` (O): (N, O).
pub fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    let product = x.matmul(&w.t()?)?;
    if fused(x) {
        product.apply_op2(b, AddBias)
    } else {
        product.broadcast_add(b)
    }
}

/// Gaussian error linear unit with the exact error function (Hendrycks & Gimpel 2016).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if fused(x) {
        x.contiguous()?.apply_op1(Gelu)
    } else {
        x.gelu_erf()
    }
}

/// Layer normalisation over the last dimension of `x` (N, H) with `weight` and `bias` (H)
/// (Ba et al. 2016).
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    if fused(x) {
        x.contiguous()?
            .apply_op3(weight, bias, LayerNorm { eps: eps as f32 })
    } else {
        candle_nn::ops::layer_norm_slow(x, weight, bias, eps as f32)
    }
}

/// Zeroes each element with probability `p` and scales the others by `1/(1-p)` (Srivastava et al.
/// 2014). The same seed drops the same elements on every device.
pub fn dropout(x: &Tensor, p: f32, seed: u64) -> Result<Tensor> {
    if p == 0.0 {
        return Ok(x.clone());
    }
    let op = Dropout { p, seed };
    if fused(x) {
        x.contiguous()?.apply_op1(op)
    } else {
        let mut mask = vec![1f32; x.elem_count()];
        op.apply(&mut mask);
        x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
    }
}

/// Scaled dot-product self-attention (Vaswani et al. 2017) within each sequence of a packed batch.
///
/// `qkv` is (N, 3·H): queries, keys and values of N tokens side by side, each of `heads` heads.
/// Sequence `i` is rows `offsets[i]..offsets[i + 1]`. Returns (N, H).
pub fn attention(qkv: &Tensor, offsets: &Arc<[usize]>, heads: usize) -> Result<Tensor> {
    if fused(qkv) {
        qkv.contiguous()?.apply_op1(Attention {
            offsets: offsets.clone(),
            heads,
        })
    } else {
        padded_attention(qkv, offsets, heads)
    }
}

/// [`attention`] by padding to (B, heads, T, H/heads), for devices without the fused kernel.
fn padded_attention(qkv: &Tensor, offsets: &[usize], heads: usize) -> Result<Tensor> {
    let (tokens, width) = qkv.dims2()?;
    let head_dim = width / 3 / heads;
    let device = qkv.device();
    let batch = offsets.len() - 1;
    let longest = offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
    // Padding repeats row 0: the mask removes it again, and its gradient is zero.
    let mut gather = vec![0u32; batch * longest];
    let mut mask = vec![f32::NEG_INFINITY; batch * longest];
    let mut scatter = Vec::with_capacity(tokens);
    for (i, range) in offsets.windows(2).enumerate() {
        for (t, row) in (range[0]..range[1]).enumerate() {
            gather[i * longest + t] = row as u32;
            mask[i * longest + t] = 0.0;
            scatter.push((i * longest + t) as u32);
        }
    }
    let gather = Tensor::from_vec(gather, batch * longest, device)?;
    let scatter = Tensor::from_vec(scatter, tokens, device)?;
    let mask = Tensor::from_vec(mask, (batch, 1, 1, longest), device)?.to_dtype(qkv.dtype())?;

    let split = qkv
        .index_select(&gather, 0)?
        .reshape((batch, longest, 3, heads, head_dim))?
        .permute((2, 0, 3, 1, 4))? // (3, B, heads, T, head_dim)
        .contiguous()?;
    let (q, k, v) = (split.get(0)?, split.get(1)?, split.get(2)?);
    let scores = (q.matmul(&k.t()?)? / (head_dim as f64).sqrt())?.broadcast_add(&mask)?;
    let context = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?; // (B, heads, T, head_dim)
    context
        .transpose(1, 2)?
        .reshape((batch * longest, heads * head_dim))?
        .index_select(&scatter, 0)
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, b) = (floats(s1, l1)?, floats(s2, l2)?);
        let mut out = x.to_vec();
        out.par_chunks_mut(b.len() * ROWS_PER_TASK)
            .for_each(|rows| add_to_rows(rows, b));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _b: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(column_sums(grad)?)))
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = floats(storage, layout)?.to_vec();
        out.par_chunks_mut(1 << 14).for_each(gelu_in_place);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut out = grad.flatten_all()?.to_vec1::<f32>()?;
        with_floats(x, |x| {
            out.par_chunks_mut(1 << 14)
                .zip(x.par_chunks(1 << 14))
                .for_each(|(grad, x)| times_gelu_derivative(grad, x));
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(out, x.shape(), x.device())?))
    }
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(width * ROWS_PER_TASK)
            .zip(x.par_chunks(width * ROWS_PER_TASK))
            .for_each(|(out, x)| normalise_rows(out, x, weight, bias, self.eps));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let mut grad_x = grad.flatten_all()?.to_vec1::<f32>()?;
        let (grad_weight, grad_bias) = with_floats(x, |x| {
            with_floats(weight, |weight| {
                Ok(grad_x
                    .par_chunks_mut(width * ROWS_PER_TASK)
                    .zip(x.par_chunks(width * ROWS_PER_TASK))
                    .map(|(grad, x)| normalise_rows_backward(grad, x, weight, self.eps))
                    // Collected and added in order: a parallel reduction would differ by the run.
                    .collect::<Vec<_>>()
                    .into_iter()
                    .fold((vec![0f32; width], vec![0f32; width]), |mut sum, part| {
                        add_to_rows(&mut sum.0, &part.0);
                        add_to_rows(&mut sum.1, &part.1);
                        sum
                    }))
            })
        })?;
        Ok((
            Some(Tensor::from_vec(grad_x, x.shape(), x.device())?),
            Some(Tensor::from_vec(grad_weight, weight.shape(), x.device())?),
            Some(Tensor::from_vec(grad_bias, bias.shape(), x.device())?),
        ))
    }
}

struct Dropout {
    p: f32,
    seed: u64,
}

impl Dropout {
    fn apply(&self, values: &mut [f32]) {
        const CHUNK: usize = 1 << 14;
        values
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(i, chunk)| {
                let stream = (self.seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                drop_in_place(chunk, self.p, stream as u32);
            });
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = floats(storage, layout)?.to_vec();
        self.apply(&mut out);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut out = grad.flatten_all()?.to_vec1::<f32>()?;
        self.apply(&mut out);
        Ok(Some(Tensor::from_vec(out, x.shape(), x.device())?))
    }
}

/// Where each sequence begins and ends in the packed rows, and how a row divides into heads.
struct Attention {
    offsets: Arc<[usize]>,
    heads: usize,
}

impl Attention {
    /// Attention weights (T, T) of one head: softmax of `Q·Kᵀ/√d` over rows. `qkv` (T, 3·H).
    fn weights(&self, weights: &mut [f32], qkv: &[f32], head: usize, tokens: usize, hidden: usize) {
        let dim = hidden / self.heads;
        let (q, k) = (&qkv[head * dim..], &qkv[hidden + head * dim..]);
        let scale = 1.0 / (dim as f32).sqrt();
        let stride = 3 * hidden;
        let (size, by_rows) = ((tokens, tokens, dim), (tokens, 1));
        matmul(
            weights,
            by_rows,
            q,
            (stride, 1),
            k,
            (1, stride),
            size,
            scale,
        );
        softmax_rows(weights, tokens);
    }

    /// Splits `rows` (N, width) into the batch's sequences.
    fn split<'a>(&self, mut rows: &'a mut [f32], width: usize) -> Vec<&'a mut [f32]> {
        self.offsets
            .windows(2)
            .map(|range| {
                let (head, tail) =
                    std::mem::take(&mut rows).split_at_mut((range[1] - range[0]) * width);
                rows = tail;
                head
            })
            .collect()
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (total, width) = layout.shape().dims2()?;
        let hidden = width / 3;
        let dim = hidden / self.heads;
        let qkv = floats(storage, layout)?;
        let mut out = vec![0f32; total * hidden];
        self.split(&mut out, hidden)
            .into_par_iter()
            .zip(self.offsets.par_windows(2))
            .for_each(|(out, range)| {
                let tokens = range[1] - range[0];
                let qkv = &qkv[range[0] * width..range[1] * width];
                let mut weights = vec![0f32; tokens * tokens];
                for head in 0..self.heads {
                    self.weights(&mut weights, qkv, head, tokens, hidden);
                    let v = &qkv[2 * hidden + head * dim..];
                    let out = &mut out[head * dim..];
                    let size = (tokens, dim, tokens);
                    matmul(
                        out,
                        (hidden, 1),
                        &weights,
                        (tokens, 1),
                        v,
                        (width, 1),
                        size,
                        1.0,
                    );
                }
            });
        Ok((CpuStorage::F32(out), Shape::from((total, hidden))))
    }

    /// With weights `P = softmax(S)` and `O = P·V`: `dV = Pᵀ·dO`, `dP = dO·Vᵀ`,
    /// `dS = P ∘ (dP - rowsum(P ∘ dP))`, `dQ = dS·K/√d`, `dK = dSᵀ·Q/√d`. The weights are computed
    /// again rather than kept: they are the largest tensor of the layer and cheap beside the rest.
    fn bwd(&self, qkv: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (total, width) = qkv.dims2()?;
        let hidden = width / 3;
        let dim = hidden / self.heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let mut out = vec![0f32; total * width];
        let grad = grad.contiguous()?;
        with_floats(qkv, |qkv| {
            with_floats(&grad, |grad| {
                self.split(&mut out, width)
                    .into_par_iter()
                    .zip(self.offsets.par_windows(2))
                    .for_each(|(out, range)| {
                        let t = range[1] - range[0];
                        let qkv = &qkv[range[0] * width..range[1] * width];
                        let grad = &grad[range[0] * hidden..range[1] * hidden];
                        let mut p = vec![0f32; t * t];
                        let mut ds = vec![0f32; t * t];
                        let row = (width, 1);
                        for head in 0..self.heads {
                            self.weights(&mut p, qkv, head, t, hidden);
                            let at = |part: usize| part * hidden + head * dim;
                            let (q, k, v) = (&qkv[at(0)..], &qkv[at(1)..], &qkv[at(2)..]);
                            let d_o = &grad[head * dim..];
                            let o_row = (hidden, 1);
                            // dV (T, d) = Pᵀ·dO
                            matmul(
                                &mut out[at(2)..],
                                row,
                                &p,
                                (1, t),
                                d_o,
                                o_row,
                                (t, dim, t),
                                1.0,
                            );
                            // dP (T, T) = dO·Vᵀ, and dS in its place
                            matmul(&mut ds, (t, 1), d_o, o_row, v, (1, width), (t, t, dim), 1.0);
                            softmax_rows_backward(&mut ds, &p, t);
                            // dQ (T, d) = dS·K/√d; dK (T, d) = dSᵀ·Q/√d
                            matmul(
                                &mut out[at(0)..],
                                row,
                                &ds,
                                (t, 1),
                                k,
                                row,
                                (t, dim, t),
                                scale,
                            );
                            matmul(
                                &mut out[at(1)..],
                                row,
                                &ds,
                                (1, t),
                                q,
                                row,
                                (t, dim, t),
                                scale,
                            );
                        }
                    });
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(out, (total, width), qkv.device())?))
    }
}

/// The sums of the columns of `x` (N, M): (M). As a product, since candle's sum over the first
/// dimension walks the rows element by element.
fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    Tensor::ones((1, rows), x.dtype(), x.device())?
        .matmul(&x.contiguous()?)?
        .reshape(columns)
}

/// `out (m, n) = scale · a (m, k) · b (k, n)` on this thread; strides are (row, column).
#[allow(clippy::too_many_arguments)] // a matrix product has three matrices with their strides
fn matmul(
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

/// The values of a contiguous f32 operand.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("expected a contiguous f32 tensor"),
    }
}

/// Calls `f` with the values of a contiguous f32 tensor on the CPU.
fn with_floats<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(floats(storage, layout)?),
        _ => bail!("expected a tensor on the CPU"),
    }
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
    fn add_to_rows(rows: &mut [f32], values: &[f32]) {
        for row in rows.chunks_exact_mut(values.len()) {
            for (x, v) in row.iter_mut().zip(values) {
                *x += v;
            }
        }
    }

    fn gelu_in_place(values: &mut [f32]) {
        for x in values {
            *x *= normal_cdf(*x);
        }
    }

    /// `grad ∘ d gelu(x)/dx = grad ∘ (Φ(x) + x·φ(x))`.
    fn times_gelu_derivative(grad: &mut [f32], x: &[f32]) {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        for (grad, &x) in grad.iter_mut().zip(x) {
            *grad *= normal_cdf(x) + x * INV_SQRT_2PI * exp(-0.5 * x * x);
        }
    }

    fn normalise_rows(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, scale) = moments(x, eps);
            for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = (x - mean) * scale * w + b;
            }
        }
    }

    /// Turns gradients of the result into gradients of `x`, and returns those of weight and bias.
    fn normalise_rows_backward(
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

    fn softmax_rows(rows: &mut [f32], width: usize) {
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

    fn softmax_rows_backward(grad: &mut [f32], weights: &[f32], width: usize) {
        for (grad, weights) in grad.chunks_exact_mut(width).zip(weights.chunks_exact(width)) {
            let mean = dot(grad, weights);
            for (g, w) in grad.iter_mut().zip(weights) {
                *g = w * (*g - mean);
            }
        }
    }

    fn squares(values: &[f32]) -> f32 {
        dot(values, values)
    }

    /// Element `i` survives where a hash of `i` and the stream (the finaliser of MurmurHash3) says so.
    fn drop_in_place(values: &mut [f32], p: f32, stream: u32) {
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
fn erf(x: f32) -> f32 {
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
fn exp(x: f32) -> f32 {
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

/// `Σ x²` of a tensor's elements.
pub fn squared_norm(x: &Tensor) -> Result<f64> {
    if !fused(x) {
        return x
            .to_dtype(DType::F32)?
            .sqr()?
            .sum_all()?
            .to_scalar::<f32>()
            .map(f64::from);
    }
    with_floats(&x.contiguous()?, |values| {
        // Collected and added in order, so that the sum is the same in every run.
        let parts: Vec<f32> = values.par_chunks(1 << 14).map(squares).collect();
        Ok(parts.into_iter().map(f64::from).sum())
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use rand::{RngExt, SeedableRng};

    use super::*;

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
}
