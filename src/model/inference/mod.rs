//! The encoder on a CPU, for inference: the same weights and results as [`Encoder`](super::encoder), at a
//! multiple of its speed.
//!
//! One core takes one issue through all layers: its activations stay in that core's cache, nothing waits
//! for another core, nothing is padded, and a result cannot depend on an issue's company. Weights are packed
//! once, in f32 or as bytes; what is not a product of matrices is fused into few passes.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Result};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::HiddenAct;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;

mod attention;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod linear;
pub mod profile;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use attention::Attention;
use linear::{Linear, Multiplier};
use profile::{Clock, Part, PartFigures};

use super::encoder::Config;
use super::kernels::{add_and_normalise_rows, gelu_in_place, normalise_rows};

/// How products of matrices are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    F32,
    /// For a GPU; a CPU computes it as a GPU does, slowly, to tell what labels come of it.
    F16,
    /// As [`Arithmetic::F16`].
    Bf16,
    /// On a CPU only: weights as bytes with a scale for each output, activations with a scale and a zero for each row,
    /// found as they come (Dettmers et al. 2022, LLM.int8(), vector-wise, without its outliers); attention in
    /// bf16 where the processor has instructions for it, else in f32.
    Int8,
}

impl Arithmetic {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

struct Norm {
    weight: Vec<f32>, // (H)
    bias: Vec<f32>,   // (H)
}

struct Layer {
    qkv: Linear,              // (H -> 3H)
    attention_output: Linear, // (H -> H)
    attention_norm: Norm,
    intermediate: Linear, // (H -> I)
    output: Linear,       // (I -> H)
    output_norm: Norm,
}

impl Layer {
    /// How many weights products are of.
    fn weights(&self) -> usize {
        [
            &self.qkv,
            &self.attention_output,
            &self.intermediate,
            &self.output,
        ]
        .map(Linear::weights)
        .into_iter()
        .sum()
    }
}

pub struct CpuEncoder {
    words: Vec<f32>,     // (vocabulary, H)
    positions: Vec<f32>, // (positions, H), with the embedding of token type 0 added
    norm: Norm,
    layers: Vec<Layer>,
    hidden: usize,
    heads: usize,
    /// Whether products are rounded, so that attention may be, too.
    rounded: bool,
    eps: f32,
    activation: HiddenAct,
}

/// What a thread needs to encode: buffers that grow to the longest sequence seen.
#[derive(Default)]
pub struct Scratch {
    multiplier: Multiplier,
    attention: attention::Buffers,
    clock: Clock,
    x: Vec<f32>,       // (T, H)
    qkv: Vec<f32>,     // (T, 3H)
    context: Vec<f32>, // (T, H)
    inner: Vec<f32>,   // (T, I)
    out: Vec<f32>,     // (T, H)
}

fn floats(vb: &VarBuilder, shape: impl Into<candle_core::Shape>, name: &str) -> Result<Vec<f32>> {
    vb.get(shape.into(), name)?.flatten_all()?.to_vec1()
}

impl Norm {
    fn load(vb: VarBuilder, hidden: usize) -> Result<Self> {
        Ok(Self {
            weight: floats(&vb, hidden, "weight")?,
            bias: floats(&vb, hidden, "bias")?,
        })
    }
}

impl CpuEncoder {
    /// Loads the tensors under their standard names, on the CPU.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than `config` says.
    pub fn load(vb: VarBuilder, config: &Config, arithmetic: Arithmetic) -> Result<Self> {
        debug_assert!(matches!(vb.device(), Device::Cpu));
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let multiplier = &Multiplier::default();
        let linear = |vb: VarBuilder, inputs: usize, outputs: usize| -> Result<Linear> {
            let weight = floats(&vb, (outputs, inputs), "weight")?;
            let bias = floats(&vb, outputs, "bias")?;
            Ok(Linear::pack(&weight, bias, arithmetic, multiplier))
        };
        let layer = |vb: VarBuilder| -> Result<Layer> {
            let attention = vb.pp("attention");
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for name in ["query", "key", "value"] {
                let part = attention.pp("self").pp(name);
                weight.extend(floats(&part, (hidden, hidden), "weight")?);
                bias.extend(floats(&part, hidden, "bias")?);
            }
            Ok(Layer {
                qkv: Linear::pack(&weight, bias, arithmetic, multiplier),
                attention_output: linear(attention.pp("output.dense"), hidden, hidden)?,
                attention_norm: Norm::load(attention.pp("output.LayerNorm"), hidden)?,
                intermediate: linear(vb.pp("intermediate.dense"), hidden, inner)?,
                output: linear(vb.pp("output.dense"), inner, hidden)?,
                output_norm: Norm::load(vb.pp("output.LayerNorm"), hidden)?,
            })
        };
        let embeddings = vb.pp("embeddings");
        let positions = (config.max_position_embeddings, hidden);
        let mut positions = floats(&embeddings, positions, "position_embeddings.weight")?;
        let types = (config.type_vocab_size, hidden);
        let types = floats(&embeddings, types, "token_type_embeddings.weight")?;
        for row in positions.chunks_exact_mut(hidden) {
            for (position, kind) in row.iter_mut().zip(&types[..hidden]) {
                *position += kind;
            }
        }
        let words = (config.vocab_size, hidden);
        Ok(Self {
            words: floats(&embeddings, words, "word_embeddings.weight")?,
            positions,
            norm: Norm::load(embeddings.pp("LayerNorm"), hidden)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| layer(vb.pp(format!("encoder.layer.{i}"))))
                .collect::<Result<_>>()?,
            hidden,
            heads: config.num_attention_heads,
            rounded: arithmetic == Arithmetic::Int8,
            eps: config.layer_norm_eps as f32,
            activation: config.hidden_act,
        })
    }

    /// The hidden size H.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The mean over a sequence's tokens of the last hidden states: (H).
    pub fn mean_pooled(&self, tokens: &[u32], scratch: &mut Scratch) -> Vec<f32> {
        scratch.clock.start();
        self.encode(tokens, scratch);
        let mut mean = vec![0f32; self.hidden];
        for row in scratch.x.chunks_exact(self.hidden) {
            for (mean, x) in mean.iter_mut().zip(row) {
                *mean += x;
            }
        }
        let count = tokens.len().max(1) as f32;
        mean.iter_mut().for_each(|mean| *mean /= count);
        scratch.clock.lap(Part::Norms);
        mean
    }

    /// Where the time goes of encoding `sequences` on this thread.
    pub fn profile(&self, sequences: &[Vec<u32>]) -> Vec<PartFigures> {
        let mut scratch = Scratch::default();
        for tokens in sequences {
            std::hint::black_box(self.mean_pooled(tokens, &mut scratch));
        }
        let weights: usize = self.layers.iter().map(Layer::weights).sum();
        let (mut tokens, mut pairs) = (0.0, 0.0);
        for count in sequences.iter().map(|tokens| tokens.len() as f64) {
            tokens += count;
            pairs += count * count;
        }
        let figures = |part| PartFigures {
            part,
            seconds: scratch.clock.spent(part).as_secs_f64(),
            operations: match part {
                Part::Products => Some(2.0 * tokens * weights as f64),
                // Scores, and means of values.
                Part::Attention => Some(4.0 * pairs * (self.layers.len() * self.hidden) as f64),
                Part::Rounding | Part::Activation | Part::Norms => None,
            },
        };
        Part::ALL.map(figures).into()
    }

    /// Leaves the last hidden states (T, H) in `scratch.x`.
    fn encode(&self, tokens: &[u32], scratch: &mut Scratch) {
        let (count, hidden) = (tokens.len(), self.hidden);
        let Scratch {
            multiplier,
            attention,
            clock,
            x,
            qkv,
            context,
            inner,
            out,
        } = scratch;
        for (buffer, width) in [
            (&mut *x, hidden),
            (&mut *qkv, 3 * hidden),
            (&mut *context, hidden),
            (&mut *out, hidden),
        ] {
            buffer.resize(count * width, 0.0);
        }
        for ((row, token), position) in out
            .chunks_exact_mut(hidden)
            .zip(tokens)
            .zip(self.positions.chunks_exact(hidden))
        {
            let word = &self.words[*token as usize * hidden..][..hidden];
            for ((x, word), position) in row.iter_mut().zip(word).zip(position) {
                *x = word + position;
            }
        }
        normalise_rows(x, out, &self.norm.weight, &self.norm.bias, self.eps);
        clock.lap(Part::Norms);
        for layer in &self.layers {
            layer.qkv.apply(x, qkv, multiplier, clock);
            let attention = Attention {
                qkv,
                hidden,
                heads: self.heads,
                rounded: self.rounded,
                context,
                buffers: attention,
            };
            attention.run();
            clock.lap(Part::Attention);
            layer
                .attention_output
                .apply(context, out, multiplier, clock);
            let norm = &layer.attention_norm;
            add_and_normalise_rows(x, out, &norm.weight, &norm.bias, self.eps);
            clock.lap(Part::Norms);

            inner.resize(count * layer.intermediate.outputs(), 0.0);
            layer.intermediate.apply(x, inner, multiplier, clock);
            match self.activation {
                HiddenAct::Gelu => gelu_in_place(inner),
                HiddenAct::GeluApproximate => gelu_tanh_in_place(inner),
                HiddenAct::Relu => inner.iter_mut().for_each(|x| *x = x.max(0.0)),
            }
            clock.lap(Part::Activation);
            layer.output.apply(inner, out, multiplier, clock);
            let norm = &layer.output_norm;
            add_and_normalise_rows(x, out, &norm.weight, &norm.bias, self.eps);
            clock.lap(Part::Norms);
        }
    }
}

/// The approximation of the Gaussian error linear unit by a hyperbolic tangent.
fn gelu_tanh_in_place(values: &mut [f32]) {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    for x in values {
        *x *= 0.5 * (1.0 + (SQRT_2_OVER_PI * (*x + 0.044_715 * *x * *x * *x)).tanh());
    }
}

/// A thread for each core, each of which takes the next item when it is done with one.
pub struct Workers {
    /// Of one thread each, so that the libraries used within start no threads of their own.
    pools: Vec<ThreadPool>,
}

impl Default for Workers {
    /// As many as rayon has threads.
    fn default() -> Self {
        let pool = || ThreadPoolBuilder::new().num_threads(1).build();
        let pools = 0..rayon::current_num_threads();
        Self {
            pools: pools
                .map(|_| pool().expect("a thread can be started"))
                .collect(),
        }
    }
}

impl Workers {
    /// `f` on one thread, the libraries used within included.
    pub fn alone<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pools[0].install(f)
    }

    /// `f` of every item, in their order.
    pub fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        f: impl Fn(&T, &mut Scratch) -> R + Sync,
    ) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut scratch = Scratch::default();
            let mut done = Vec::new();
            while let Some((i, item)) = {
                let i = next.fetch_add(1, Ordering::Relaxed);
                items.get(i).map(|item| (i, item))
            } {
                done.push((i, f(item, &mut scratch)));
            }
            done
        };
        let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
            let pools = self.pools.iter().take(items.len());
            let threads: Vec<_> = pools
                .map(|pool| scope.spawn(|| pool.install(work)))
                .collect();
            let done = threads.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            done.flatten().collect()
        });
        results.sort_unstable_by_key(|(i, _)| *i);
        results.into_iter().map(|(_, result)| result).collect()
    }
}
