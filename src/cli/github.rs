//! What the commands that ask GitHub have in common: how to reach it, and how far they are.

use std::io::{IsTerminal, stderr};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use faultlens::collect::{Client, ClientSettings, Event, Token, Watch};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

#[derive(Args)]
pub struct GitHubArguments {
    /// Address of the API; of GitHub Enterprise https://HOST/api/v3
    #[arg(
        long,
        default_value = "https://api.github.com",
        value_name = "URL",
        help_heading = "GitHub"
    )]
    api_url: String,
    /// Longest rest for a rate limit or a failing server, in seconds or as in 10m and 1h30m; where a
    /// longer one is asked for, the run ends
    #[arg(long, default_value = "65m", value_name = "TIME", value_parser = duration, help_heading = "GitHub")]
    max_wait: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl GitHubArguments {
    /// The API's client, which ends what it does when `stop` is raised, and how far it is.
    pub fn client(&self, stop: Arc<AtomicBool>) -> Result<(Client, Progress)> {
        let token = token(&self.api_url)?;
        let progress = Progress::new();
        let client = Client::new(ClientSettings {
            api_url: self.api_url.clone(),
            token,
            max_wait: self.max_wait,
            stop,
            watch: progress.watch(),
            ..ClientSettings::default()
        })?;
        if !client.has_token() {
            eprintln!(
                "no token: GitHub answers 60 requests an hour, with one 5,000; set GITHUB_TOKEN or run \
                 `gh auth login`"
            );
        }
        Ok((client, progress))
    }
}

/// The user's token: from the environment, else from GitHub's command line client.
fn token(api_url: &str) -> Result<Option<Token>> {
    for variable in ["GITHUB_TOKEN", "GH_TOKEN"] {
        match std::env::var(variable) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => match Token::new(&text) {
                Some(token) => return Ok(Some(token)),
                None => {
                    bail!("{variable} holds no token: it has spaces or other characters inside")
                }
            },
            Err(_) => {}
        }
    }
    // The client keeps a token for each host, which is not `api.github.com` there.
    let host = api_url.split_once("://").map_or(api_url, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let host = host.strip_prefix("api.").unwrap_or(host);
    let output = Command::new("gh")
        .args(["auth", "token", "--hostname", host])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Ok(None);
    };
    let text = String::from_utf8(output.stdout).unwrap_or_default();
    Ok(output.status.success().then(|| Token::new(&text)).flatten())
}

/// Runs what the library does in the background of one thread.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make requests")?;
    Ok(runtime.block_on(work))
}

/// Says how far things are on standard error: on a terminal, in a line that changes; elsewhere, a line
/// now and then.
#[derive(Clone)]
pub struct Progress {
    state: Arc<Mutex<State>>,
}

struct State {
    /// On a terminal.
    bar: Option<ProgressBar>,
    what: String,
    issues: String,
    /// Last said, elsewhere.
    said: Instant,
}

/// Elsewhere than on a terminal, how long nothing is said; and the shortest rest that is worth a line.
const SILENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(5);

impl Progress {
    fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                bar: None,
                what: String::new(),
                issues: String::new(),
                said: Instant::now(),
            })),
        }
    }

    fn watch(&self) -> Watch {
        let state = self.state.clone();
        Arc::new(move |event| state.lock().unwrap().tell(event))
    }

    /// Begins something, whose name stands before how far it is.
    pub fn begin(&self, what: &str) {
        let mut state = self.state.lock().unwrap();
        state.what = what.into();
        state.issues.clear();
        state.said = Instant::now();
        if stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("{spinner} {msg}").expect("the template is right");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.set_message(format!("{what}: asking"));
            bar.enable_steady_tick(Duration::from_millis(100));
            state.bar = Some(bar);
        }
    }

    pub fn end(&self) {
        if let Some(bar) = self.state.lock().unwrap().bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl State {
    fn tell(&mut self, event: Event) {
        let (text, is_worth_a_line) = match event {
            Event::Issues { done, total } => {
                self.issues = count(done, total);
                (self.issues.clone(), false)
            }
            Event::Rest {
                left,
                whole,
                reason,
            } => {
                let is_new = left == whole && whole >= LONG;
                let rest = format!("resting {:.0} s for {reason}", left.as_secs_f64().ceil());
                let parts = [self.issues.as_str(), &rest];
                (
                    parts
                        .into_iter()
                        .filter(|part| !part.is_empty())
                        .collect::<Vec<_>>()
                        .join(", "),
                    is_new,
                )
            }
        };
        let line = format!("{}: {text}", self.what);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if is_worth_a_line || self.said.elapsed() >= SILENCE => {
                eprintln!("{line}");
                self.said = Instant::now();
            }
            None => {}
        }
    }
}

/// `3,200 of 12,349`; the total was counted at the beginning, and may be behind.
fn count(done: u64, total: Option<u64>) -> String {
    match total.filter(|&total| total >= done) {
        Some(total) => format!("{} of {}", HumanCount(done), HumanCount(total)),
        None => format!("{} issues", HumanCount(done)),
    }
}
