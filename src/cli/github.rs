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
        let (line, is_worth_it) = self.line(event);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if is_worth_it || self.said.elapsed() >= SILENCE => {
                eprintln!("{line}");
                self.said = Instant::now();
            }
            None => {}
        }
    }

    /// The line for an event, and whether it is worth one even where lines stay.
    fn line(&mut self, event: Event) -> (String, bool) {
        let what = &self.what;
        match event {
            Event::Issues { done, total } => {
                self.issues = count(done, total);
                (format!("{what}: {}", self.issues), false)
            }
            Event::Rest {
                left,
                whole,
                reason,
            } => {
                let so_far = match self.issues.as_str() {
                    "" => String::new(),
                    issues => format!("{issues}, "),
                };
                let seconds = left.as_secs_f64().ceil();
                let line = format!("{what}: {so_far}resting {seconds} s for {reason}");
                (line, left == whole && whole >= LONG)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_says_how_far_things_are_and_what_is_waited_for() {
        let progress = Progress::new();
        let mut state = progress.state.lock().unwrap();
        state.what = "acme/engine".into();
        let rest = |left, whole| Event::Rest {
            left: Duration::from_millis(left),
            whole: Duration::from_millis(whole),
            reason: "the rate limit".into(),
        };
        assert_eq!(
            state.line(rest(4_000, 4_000)),
            ("acme/engine: resting 4 s for the rate limit".into(), false)
        );
        let issues = |done, total| Event::Issues { done, total };
        assert_eq!(state.line(issues(9, None)).0, "acme/engine: 9 issues");
        assert_eq!(state.line(issues(9, Some(8))).0, "acme/engine: 9 issues");
        state.line(issues(3_200, Some(12_349)));
        let line = "acme/engine: 3,200 of 12,349, resting 41 s for the rate limit";
        assert_eq!(state.line(rest(41_000, 41_000)), (line.into(), true));
        assert_eq!(state.line(rest(40_001, 60_000)), (line.into(), false));
    }

    #[test]
    fn a_time_is_seconds_or_has_units() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        assert_eq!(seconds("0"), Ok(0));
        assert!(seconds("soon").is_err() && seconds("-1").is_err());
    }
}
