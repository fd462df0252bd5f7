//! `faultlens taxonomy`: the taxonomy as a document.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use faultlens::study::document::document;
use faultlens::study::findings::Findings;

use super::{print, taxonomy, write};

/// Print the taxonomy as TOML or as a document
///
/// With --markdown every label has its definition, its border rules and, with --study, how many issues
/// have it, its estimated share in each repository and links to typical ones.
#[derive(Args)]
pub struct Arguments {
    /// Heads and labels [default: those that ship]
    #[arg(long)]
    taxonomy: Option<PathBuf>,
    /// Write a document instead of TOML
    #[arg(long)]
    markdown: bool,
    /// Findings that `study -o` wrote under this taxonomy
    #[arg(long, value_name = "FILE", requires = "markdown")]
    study: Option<PathBuf>,
    /// File to write [default: standard output]
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let taxonomy = taxonomy(self.taxonomy.as_deref(), None)?;
        let findings: Option<Findings> = self
            .study
            .map(|path| {
                let text = std::fs::read(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| {
                    format!("{} is not what `faultlens study -o` writes", path.display())
                })
            })
            .transpose()?;
        let text = match self.markdown {
            true => document(&taxonomy, findings.as_ref()),
            false => taxonomy.to_toml(),
        };
        match &self.output {
            Some(path) => write(path, &text)?,
            None => print(text.trim_end())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
