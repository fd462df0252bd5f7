//! `faultlens hydrate`: the texts of annotated issues from GitHub.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use faultlens::collect::{Fate, Hydrated, HydratedFile, hydrate, read_identities};
use faultlens::issue::IssueId;
use indicatif::HumanCount;

use super::github::{GitHubArguments, block_on};
use super::{INTERRUPTED, stop_flag};

/// Fetch the texts of annotated issues from GitHub
///
/// Annotations travel without texts. This writes a JSONL file with the issues that a file of annotations
/// names, under the names it uses, in its order: where a repository was renamed or an issue moved to
/// another one, "moved_to" says where it is now. Issues that are deleted, moved or converted to
/// discussions are listed at the end. What the output holds already is not fetched again, so that a run
/// that was cut off goes on. Uses the token in GITHUB_TOKEN or GH_TOKEN, or that of `gh auth login`.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// JSONL files of annotations, or of anything else with "repo" and "number"
    #[arg(required = true, value_name = "LABELS")]
    files: Vec<PathBuf>,
    /// JSONL file to add to, or - for standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    github: GitHubArguments,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let mut ids = Vec::new();
        let mut seen = HashSet::new();
        for file in &self.files {
            ids.extend(
                read_identities(file)?
                    .into_iter()
                    .filter(|id| seen.insert(id.clone())),
            );
        }
        if self.output == Path::new("-") {
            let mut write = |lines: &[u8]| {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines).and_then(|()| stdout.flush())
            };
            return self.hydrate(&ids, 0, &mut write);
        }
        let mut file = HydratedFile::open(&self.output)?;
        let asked = ids.len();
        ids.retain(|id| !file.done().contains(id));
        let there = asked - ids.len();
        let code = self.hydrate(&ids, there, &mut |lines| file.append(lines));
        file.finish()?;
        code
    }

    fn hydrate(
        &self,
        ids: &[IssueId],
        there: usize,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<ExitCode> {
        let mut hydrated = Hydrated::default();
        if !ids.is_empty() {
            let (client, progress) = self.github.client(stop_flag()?)?;
            if !client.has_token() {
                eprintln!("without a token, issues are fetched one by one; with one, 50 at once");
            }
            progress.begin("issues");
            let result = block_on(hydrate(&client, ids, write))?;
            progress.end();
            hydrated = match result {
                Err(error) if error.is_stop() => {
                    eprintln!("interrupted; the same command goes on");
                    return Ok(ExitCode::from(INTERRUPTED));
                }
                Err(error) if error.is_broken_pipe() => return Ok(ExitCode::SUCCESS),
                result => result?,
            };
        }
        eprint!("{}", report(&hydrated, there));
        let lost = hydrated
            .fates
            .iter()
            .filter(|(_, fate)| !fate.has_text())
            .count();
        if hydrated.written == 0 && there == 0 && lost > 0 {
            bail!("none of the issues has a text any more");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(hydrated: &Hydrated, there: usize) -> String {
    let mut text = format!("{} issues fetched", HumanCount(hydrated.written));
    if there > 0 {
        text += &format!(", {} already there", HumanCount(there as u64));
    }
    for kind in KINDS {
        let fates = hydrated.fates.iter();
        let count = fates.filter(|(_, fate)| kind_of(fate) == kind).count();
        if count > 0 {
            text += &format!(", {count} {kind}");
        }
    }
    text.push('\n');
    for (from, to) in &hydrated.renamed {
        text += &format!("  {from} is called {to} now\n");
    }
    for (id, fate) in &hydrated.fates {
        text += &format!("  {id}: {fate}\n");
    }
    text
}

const KINDS: [&str; 5] = [
    "deleted",
    "not found",
    "pull requests",
    "transferred",
    "converted to discussions",
];

fn kind_of(fate: &Fate) -> &'static str {
    KINDS[match fate {
        Fate::Deleted => 0,
        Fate::Unknown => 1,
        Fate::PullRequest => 2,
        Fate::Transferred(_) => 3,
        Fate::Converted => 4,
    }]
}
