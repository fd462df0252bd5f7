//! Differentiable operations of the encoder that candle lacks, or composes of many small ones.
//!
//! `candle_nn`'s fused layer norm and softmax have no backward pass: gradients stop there without a
//! word. Its composed ones have, but make a tensor per step. On the CPU in f32 each operation here is
//! one kernel with its own backward pass; elsewhere it is composed of candle's differentiable
//! operations. Tests hold both, and finite differences, together.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape};
use candle_core::{Storage, Tensor, bail};
use rayon::prelude::*;

#[cfg(test)]
mod tests;

use super::kernels::*;

/// Rows that one task of a row-wise kernel handles: enough work to be worth a task.
const ROWS_PER_TASK: usize = 64;

/// Whether the fused kernels serve `x`.
fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// `x·wᵀ + b` for `x` (N, I), `w` (O, I), `b` (O): (N, O), computed in the precision of `x`.
pub fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (w, b) = (&w.to_dtype(x.dtype())?, &b.to_dtype(x.dtype())?);
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
/// (Ba et al. 2016). The result has the precision of `x`; statistics are of at least f32.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (weight, bias) = (&weight.to_dtype(x.dtype())?, &bias.to_dtype(x.dtype())?);
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
        return qkv.contiguous()?.apply_op1(Attention {
            offsets: offsets.clone(),
            heads,
        });
    }
    #[cfg(feature = "flash-attn")]
    if qkv.device().is_cuda() && qkv.dtype() != DType::F32 && !qkv.track_op() {
        return flash_attention(qkv, offsets, heads);
    }
    padded_attention(qkv, offsets, heads)
}

/// The length of the longest sequence.
fn longest(offsets: &[usize]) -> usize {
    offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)
}

/// [`attention`] by FlashAttention-2 (Dao 2023), which needs no padding but has no backward pass.
#[cfg(feature = "flash-attn")]
fn flash_attention(qkv: &Tensor, offsets: &[usize], heads: usize) -> Result<Tensor> {
    let (tokens, width) = qkv.dims2()?;
    let head_dim = width / 3 / heads;
    let longest = longest(offsets);
    let cumulative: Vec<u32> = offsets.iter().map(|&offset| offset as u32).collect();
    let cumulative = Tensor::new(cumulative, qkv.device())?;
    let split = qkv.reshape((tokens, 3, heads, head_dim))?;
    let part = |i| split.narrow(1, i, 1)?.squeeze(1)?.contiguous();
    let scale = 1.0 / (head_dim as f32).sqrt();
    let (q, k, v) = (&part(0)?, &part(1)?, &part(2)?);
    let context = candle_flash_attn::flash_attn_varlen(
        q,
        k,
        v,
        &cumulative,
        &cumulative,
        longest,
        longest,
        scale,
        false,
    )?;
    context.reshape((tokens, heads * head_dim))
}

/// [`attention`] by padding to (B, heads, T, H/heads), for devices without the fused kernel.
fn padded_attention(qkv: &Tensor, offsets: &[usize], heads: usize) -> Result<Tensor> {
    let (tokens, width) = qkv.dims2()?;
    let head_dim = width / 3 / heads;
    let device = qkv.device();
    let batch = offsets.len() - 1;
    let longest = longest(offsets);
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
    let scores = match scores.dtype() {
        DType::F16 | DType::BF16 => scores.to_dtype(DType::F32)?,
        _ => scores,
    };
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?.to_dtype(v.dtype())?;
    let context = weights.matmul(&v)?; // (B, heads, T, head_dim)
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
