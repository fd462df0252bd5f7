//! Prints the last hidden states of texts: a JSON array of texts in, one array of token vectors for
//! each out. `scripts/check-bundle` compares them with those of Python's transformers.
//!
//! ```sh
//! echo '["CUDA out of memory"]' | cargo run --example hidden_states models/default
//! ```

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use faultlens::model::batch::Batch;
use faultlens::model::bundle::Base;
use faultlens::model::encoder::{Dropout, Encoder};

fn main() -> Result<()> {
    let folder = std::env::args()
        .nth(1)
        .context("usage: hidden_states MODEL < texts.json")?;
    let base = Base::load(Path::new(&folder), &Device::Cpu)?;
    let encoder = Encoder::load(
        VarBuilder::from_tensors(base.tensors, DType::F32, &Device::Cpu),
        &base.config,
    )?;
    let texts: Vec<String> = serde_json::from_reader(std::io::stdin())?;
    let mut states = Vec::new();
    for text in texts {
        let encoding = base
            .tokenizer
            .encode(text, true)
            .map_err(|error| anyhow!("{error}"))?;
        let batch = Batch::pack([encoding.get_ids()]);
        states.push(
            encoder
                .forward(&batch, &mut Dropout::off())?
                .to_vec2::<f32>()?,
        );
    }
    println!("{}", serde_json::to_string(&states)?);
    Ok(())
}
