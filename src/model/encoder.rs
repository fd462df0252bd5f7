//! The BERT encoder (Devlin et al. 2019), for training and inference.
//!
//! Tokens of a batch are packed: the sequences' tokens lie end to end in one matrix (N, H), so there
//! is no padding to compute or to mask, and a sequence's result cannot depend on its neighbours'
//! lengths. Shapes: B sequences, N tokens in all, H hidden size.

use candle_core::{DType, Device, IndexOp, Result, Tensor};
use candle_nn::VarBuilder;
pub use candle_transformers::models::bert::Config;
use candle_transformers::models::bert::HiddenAct;

use super::batch::{Batch, group_by_length};
use super::ops;

/// Dropout while training: each use takes the next seed, so that a seed fixes the whole step.
pub struct Dropout {
    p: f32,
    seed: u64,
}

impl Dropout {
    /// None at all, for inference.
    pub fn off() -> Self {
        Self { p: 0.0, seed: 0 }
    }

    /// Drops with probability `p` in `[0, 1)`; `seed` is to differ from step to step.
    pub fn new(p: f32, seed: u64) -> Self {
        // Spreads consecutive seeds, which are counted up below.
        Self {
            p,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    pub fn apply(&mut self, x: &Tensor) -> Result<Tensor> {
        self.seed = self.seed.wrapping_add(1);
        ops::dropout(x, self.p, self.seed)
    }
}

struct Linear {
    weight: Tensor, // (out, in)
    bias: Tensor,   // (out)
}

impl Linear {
    fn load(vb: VarBuilder, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: vb.get((output, input), "weight")?,
            bias: vb.get(output, "bias")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, &self.bias)
    }
}

struct LayerNorm {
    weight: Tensor, // (H)
    bias: Tensor,   // (H)
    eps: f64,
}

impl LayerNorm {
    fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        Ok(Self {
            weight: vb.get(config.hidden_size, "weight")?,
            bias: vb.get(config.hidden_size, "bias")?,
            eps: config.layer_norm_eps,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    heads: usize,
    activation: HiddenAct,
}

impl Layer {
    fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = vb.pp("attention");
        Ok(Self {
            query: Linear::load(attention.pp("self.query"), hidden, hidden)?,
            key: Linear::load(attention.pp("self.key"), hidden, hidden)?,
            value: Linear::load(attention.pp("self.value"), hidden, hidden)?,
            attention_output: Linear::load(attention.pp("output.dense"), hidden, hidden)?,
            attention_norm: LayerNorm::load(attention.pp("output.LayerNorm"), config)?,
            intermediate: Linear::load(vb.pp("intermediate.dense"), hidden, inner)?,
            output: Linear::load(vb.pp("output.dense"), inner, hidden)?,
            output_norm: LayerNorm::load(vb.pp("output.LayerNorm"), config)?,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
        })
    }

    fn forward(&self, x: &Tensor, batch: &Batch, dropout: &mut Dropout) -> Result<Tensor> {
        let (q, k, v) = (
            self.query.forward(x)?,
            self.key.forward(x)?,
            self.value.forward(x)?,
        );
        let qkv = Tensor::cat(&[&q, &k, &v], 1)?; // (N, 3H)
        let context = ops::attention(&qkv, batch.offsets(), self.heads)?; // (N, H)
        let attended = dropout.apply(&self.attention_output.forward(&context)?)?;
        let x = self.attention_norm.forward(&(attended + x)?)?;

        let inner = self.intermediate.forward(&x)?; // (N, 4H)
        let inner = match self.activation {
            HiddenAct::Gelu => ops::gelu(&inner)?,
            HiddenAct::GeluApproximate => inner.gelu()?,
            HiddenAct::Relu => inner.relu()?,
        };
        let output = dropout.apply(&self.output.forward(&inner)?)?; // (N, H)
        self.output_norm.forward(&(output + x)?)
    }
}

/// Embeddings and layers of a BERT checkpoint, without its pooler.
pub struct Encoder {
    word_embeddings: Tensor,       // (vocabulary, H)
    position_embeddings: Tensor,   // (positions, H)
    token_type_embeddings: Tensor, // (types, H)
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    config: Config,
    precision: DType,
}

impl Encoder {
    /// Computes in `precision`: f32, or f16 or bf16 with the statistics of layer norms and the softmax still
    /// in f32. Weights stay as they were loaded: in f32, and with them their gradients, a training is of
    /// mixed precision (Micikevicius et al. 2018; bf16 has the range of f32, so that losses need not be
    /// scaled).
    pub fn in_precision(self, precision: DType) -> Self {
        Self { precision, ..self }
    }

    /// Loads the tensors under their standard names, e.g. `encoder.layer.0.output.dense.weight`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape than `config` says.
    pub fn load(vb: VarBuilder, config: &Config) -> Result<Self> {
        let hidden = config.hidden_size;
        let embeddings = vb.pp("embeddings");
        Ok(Self {
            word_embeddings: embeddings
                .get((config.vocab_size, hidden), "word_embeddings.weight")?,
            position_embeddings: embeddings.get(
                (config.max_position_embeddings, hidden),
                "position_embeddings.weight",
            )?,
            token_type_embeddings: embeddings.get(
                (config.type_vocab_size, hidden),
                "token_type_embeddings.weight",
            )?,
            embedding_norm: LayerNorm::load(embeddings.pp("LayerNorm"), config)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::load(vb.pp(format!("encoder.layer.{i}")), config))
                .collect::<Result<_>>()?,
            config: config.clone(),
            precision: DType::F32,
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn device(&self) -> &Device {
        self.word_embeddings.device()
    }

    /// Last hidden states (N, H) of the packed batch, in the encoder's precision. Every token is of
    /// type 0.
    pub fn forward(&self, batch: &Batch, dropout: &mut Dropout) -> Result<Tensor> {
        let words = self
            .word_embeddings
            .index_select(&batch.input_ids(self.device())?, 0)?;
        let positions = self
            .position_embeddings
            .index_select(&batch.positions(self.device())?, 0)?;
        let types = self.token_type_embeddings.i(0)?; // (H)
        let x = (words + positions)?.broadcast_add(&types)?;
        let x = x.to_dtype(self.precision)?;
        let mut x = dropout.apply(&self.embedding_norm.forward(&x)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, batch, dropout)?;
        }
        Ok(x)
    }

    /// The mean over each sequence's tokens of `hidden` (N, H): (B, H).
    pub fn mean_pool(&self, hidden: &Tensor, batch: &Batch) -> Result<Tensor> {
        batch
            .averaging(hidden.device(), hidden.dtype())?
            .matmul(hidden)
    }

    /// The mean of each sequence's last hidden states, (B, H) in f32.
    pub fn pool(&self, batch: &Batch, dropout: &mut Dropout) -> Result<Tensor> {
        let hidden = self.forward(batch, dropout)?; // (N, H)
        self.mean_pool(&hidden.to_dtype(DType::F32)?, batch)
    }

    /// The mean of each sequence's last hidden states, of any number of sequences, in their order.
    ///
    /// Sequences of about the same length go through the encoder together, `batch_tokens` tokens at once.
    /// Nothing is fetched before the last batch was begun, so that a GPU computes one while the next is
    /// packed.
    pub fn mean_pooled(
        &self,
        sequences: &[Vec<u32>],
        batch_tokens: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let groups = group_by_length(&lengths, batch_tokens);
        let pool = |group: &Vec<usize>| {
            let batch = Batch::pack(group.iter().map(|&i| sequences[i].as_slice()));
            self.pool(&batch, &mut Dropout::off())
        };
        let pooled = groups.iter().map(pool).collect::<Result<Vec<Tensor>>>()?;
        let mut rows = vec![Vec::new(); sequences.len()];
        for (group, pooled) in groups.iter().zip(pooled) {
            for (&i, row) in group.iter().zip(pooled.to_vec2()?) {
                rows[i] = row;
            }
        }
        Ok(rows)
    }
}
