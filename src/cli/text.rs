//! `faultlens text`: what the model reads of an issue.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use faultlens::issue::condense::condense;

use super::ReadArguments;

/// Print what the model reads of issues
///
/// An issue's title and the most telling lines of its body: without templates, environment dumps and
/// logs. Of the shipped model the encoder reads about 256 tokens, the words beside it 512 (--tokens).
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Files of issues, or patterns, or - for standard input
    #[arg(required = true)]
    files: Vec<String>,
    /// Print only the issue with this number (of every repository in the files)
    #[arg(long, short)]
    number: Option<u64>,
    /// About how many tokens to keep
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Print a JSON object a line, with repo, number and text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    read: ReadArguments,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let corpus = self.read.open(&self.files)?;
        let mut out = std::io::stdout().lock();
        let mut found = 0;
        for issue in corpus.issues() {
            let issue = issue?;
            if self.number.is_some_and(|number| number != issue.id.number) {
                continue;
            }
            let text = condense(&issue.title, &issue.body, self.tokens);
            let written = if self.json {
                let (repo, number) = (&issue.id.repo, issue.id.number);
                writeln!(
                    out,
                    "{}",
                    serde_json::json!({"repo": repo, "number": number, "text": text})
                )
            } else {
                let gap = if found > 0 { "\n" } else { "" };
                writeln!(out, "{gap}{}\n{text}", issue.id)
            };
            match written {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::SUCCESS);
                }
                other => other?,
            }
            found += 1;
        }
        match self.number {
            Some(number) if found == 0 => bail!(
                "no issue has number {number}; the files hold {} issues",
                corpus.len()
            ),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}
