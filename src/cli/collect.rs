//! `faultlens collect`: the issues of repositories from GitHub.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, ValueEnum};
use faultlens::collect::{
    Client, CollectSettings, Collected, Comments, Filter, Folder, State, collect,
};

use indicatif::HumanCount;

use super::github::{GitHubArguments, Progress, block_on};
use super::{INTERRUPTED, stop_flag};

/// Collect the issues of repositories from GitHub
///
/// Writes a JSONL file a repository, OWNER__NAME.jsonl, with every issue once, in its newest version,
/// by number, without pull requests. Every page is kept as it comes: whenever a run ends, however it
/// ends, the same command goes on, and after a complete one it fetches only what has changed. An issue
/// that was deleted on GitHub or moved to another repository stays in the file as it was; removing the
/// file collects it anew. Uses the token in GITHUB_TOKEN or GH_TOKEN, or that of `gh auth login`.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Repositories, owner/name
    #[arg(required = true, value_name = "OWNER/NAME")]
    repos: Vec<String>,
    /// Folder to write to, or - to write all issues to standard output at the end
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Only issues opened or changed since (2024-05-17, or 2024-05-17T09:30:00Z)
    #[arg(long, value_name = "DATE", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Only open or only closed issues
    #[arg(long, default_value = "all")]
    state: StateChoice,
    /// Only issues with all of these labels
    #[arg(long, value_delimiter = ',', value_name = "LABEL,…")]
    labels: Vec<String>,
    /// Keep the first N comments of each issue too, or all: a request more for each issue
    #[arg(long, value_name = "N|all", value_parser = comments)]
    comments: Option<Comments>,
    /// Stop after N new or changed issues of each repository, those that nobody touched for longest
    /// first; the next run goes on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    github: GitHubArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum StateChoice {
    Open,
    Closed,
    All,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let date: Option<NaiveDate> = text.parse().ok();
    date.and_then(|date| date.and_hms_opt(0, 0, 0))
        .map(|time| time.and_utc())
        .ok_or_else(|| "write it as 2024-05-17 or 2024-05-17T09:30:00Z".into())
}

fn comments(text: &str) -> Result<Comments, String> {
    match text.parse() {
        _ if text == "all" => Ok(Comments::All),
        Ok(count) if count > 0 => Ok(Comments::First(count)),
        _ => Err("it is a number from 1, or all".into()),
    }
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let settings = CollectSettings {
            filter: Filter {
                since: self.since,
                state: match self.state {
                    StateChoice::Open => State::Open,
                    StateChoice::Closed => State::Closed,
                    StateChoice::All => State::All,
                },
                labels: self.labels.clone(),
            },
            comments: self.comments,
            limit: self.limit,
        };
        let (client, progress) = self.github.client(stop_flag()?)?;
        if self.output != Path::new("-") {
            let folder = Folder::open(&self.output)?;
            return self.collect(&folder, &client, &settings, &progress);
        }
        // Each issue once and in its newest version can only be told at the end.
        let temporary = tempfile::tempdir().context("no place for a temporary folder")?;
        let folder = Folder::open(temporary.path())?;
        let code = self.collect(&folder, &client, &settings, &progress)?;
        if code == ExitCode::SUCCESS {
            for repo in &self.repos {
                if print(&folder.file(repo))? {
                    break;
                }
            }
        }
        Ok(code)
    }

    /// One repository after another. One that fails does not keep the others from being collected.
    fn collect(
        &self,
        folder: &Folder,
        client: &Client,
        settings: &CollectSettings,
        progress: &Progress,
    ) -> Result<ExitCode> {
        let mut failed = 0;
        for repo in &self.repos {
            progress.begin(repo);
            let collected = block_on(collect(client, folder, repo, settings))?;
            progress.end();
            match collected {
                Ok(collected) => eprintln!("{}", summary(repo, &collected)),
                Err(error) if error.is_stop() => {
                    let remedy = match self.output.to_str() {
                        Some("-") => "with a folder in the place of -, a later run would go on",
                        _ => "the same command goes on",
                    };
                    eprintln!("{repo}: interrupted; {remedy}");
                    return Ok(ExitCode::from(INTERRUPTED));
                }
                Err(error) if self.repos.len() == 1 => return Err(error).context(repo.clone()),
                Err(error) => {
                    failed += 1;
                    eprintln!("{repo}: {error}");
                }
            }
        }
        if failed > 0 {
            bail!(
                "{failed} of {} repositories could not be collected",
                self.repos.len()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(repo: &str, collected: &Collected) -> String {
    let mut text = format!("{repo}: {} issues", HumanCount(collected.issues));
    if let Some(file) = &collected.file {
        text += &format!(" in {}", file.display());
    }
    let parts = [
        (collected.new, "new"),
        (collected.changed, "changed"),
        (collected.gone, "no longer as asked for"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", HumanCount(count)))
        .collect();
    text += &match parts.as_slice() {
        [] => ", nothing new".into(),
        parts => format!(", {}", parts.join(", ")),
    };
    if let Some(name) = &collected.renamed {
        text += &format!("; it is called {name} now");
    }
    if collected.limited {
        text += "; stopped at --limit, the same command goes on";
    }
    text
}

/// Copies a file to standard output. Returns whether its reader has gone.
fn print(file: &Path) -> Result<bool> {
    // There is no file if there are no issues.
    let mut file = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match io::copy(&mut file, &mut io::stdout().lock()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        copied => Ok(copied.map(|_| false)?),
    }
}
