//! A repository's file, brought up to date.

use std::path::PathBuf;

use chrono::Utc;
use serde::{Deserialize, Serialize};

use super::client::{Client, ClientError};
use super::journal::{Begin, Cursor};
use super::record::{Filter, State};
use super::store::{Folder, StoreError};
use super::walk::{End, OVERLAP, Walk};
use crate::issue::is_github_repo;

/// What to collect of each repository.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollectSettings {
    pub filter: Filter,
    /// Whether to keep comments too.
    pub comments: Option<Comments>,
    /// New or changed issues after which to stop for this time.
    pub limit: Option<u64>,
}

/// Which comments of an issue, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comments {
    First(u32),
    All,
}

/// What a run did to a repository's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// There is one if there are issues.
    pub file: Option<PathBuf>,
    /// Issues in the file.
    pub issues: u64,
    /// Issues that were not there before, that were there in an older version, and that no longer
    /// pass the filter.
    pub new: u64,
    pub changed: u64,
    pub gone: u64,
    /// Whether the limit ended the run; the next one goes on.
    pub limited: bool,
    /// The repository's present name, if it is another than the one asked for.
    pub renamed: Option<String>,
}

/// Why a repository is not collected to its end.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("{0:?} is not a repository: write it as owner/name, for example vllm-project/vllm")]
    Repo(String),
    #[error(
        "{repo} was collected {before} before, and now {now} is asked for: use the same options, or \
         another folder"
    )]
    Settings {
        repo: String,
        before: String,
        now: String,
    },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CollectError {
    /// Whether it is because the client was told to stop.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Client(ClientError::Stopped))
    }
}

/// Brings the file of `repo` in `folder` up to date: every issue that passes the filter, once, in its
/// newest version, by number. What an earlier run got is not fetched again, whether that run came to
/// its end or died.
///
/// # Errors
/// If the repository cannot be read or the folder not be written. What was fetched until then is kept,
/// and the next run goes on behind it.
pub async fn collect(
    client: &Client,
    folder: &Folder,
    repo: &str,
    settings: &CollectSettings,
) -> Result<Collected, CollectError> {
    if !is_github_repo(repo) {
        return Err(CollectError::Repo(repo.into()));
    }
    let mut store = folder.store(repo)?;
    let begin = match &store.journal {
        Some(journal) => {
            let begin = journal.begin.clone();
            same_settings(&begin, client, settings)?;
            begin
        }
        None => {
            let begin = begin(client, repo, settings).await?;
            let cursor = Cursor {
                since: settings.filter.since.map(|since| since - OVERLAP),
                filtered: settings.filter.can_change(),
                ..Cursor::default()
            };
            store.begin(begin.clone(), cursor)?;
            begin
        }
    };
    let mut walk = Walk {
        client,
        store,
        begin,
        settings,
        new: 0,
        changed: 0,
        gone: 0,
    };
    let end = walk.run().await?;
    if end != End::Unchanged || walk.store.is_behind() {
        walk.store.merge()?;
    }
    let issues = walk.store.len()?;
    Ok(Collected {
        file: (issues > 0).then(|| folder.file(repo)),
        issues,
        new: walk.new,
        changed: walk.changed,
        gone: walk.gone,
        limited: end == End::Limited,
        renamed: Some(walk.begin.name).filter(|name| !name.eq_ignore_ascii_case(repo)),
    })
}

fn same_settings(
    begin: &Begin,
    client: &Client,
    settings: &CollectSettings,
) -> Result<(), CollectError> {
    let before = described(&begin.api_url, &begin.filter, begin.comments);
    let now = described(client.api_url(), &settings.filter, settings.comments);
    if before == now {
        return Ok(());
    }
    Err(CollectError::Settings {
        repo: begin.repo.clone(),
        before,
        now,
    })
}

/// The options that decide what a file holds.
fn described(api_url: &str, filter: &Filter, comments: Option<Comments>) -> String {
    let mut text = format!("from {api_url} with --state {}", filter.state.name());
    if let Some(since) = filter.since {
        text += &format!(" --since {}", since.format("%FT%TZ"));
    }
    if !filter.labels.is_empty() {
        text += &format!(" --labels {}", filter.labels.join(","));
    }
    match comments {
        None => {}
        Some(Comments::All) => text += " --comments all",
        Some(Comments::First(count)) => text += &format!(" --comments {count}"),
    }
    text
}

/// Asks what the repository is called and how many issues to expect.
async fn begin(
    client: &Client,
    repo: &str,
    settings: &CollectSettings,
) -> Result<Begin, CollectError> {
    #[derive(Deserialize)]
    struct Repository {
        full_name: String,
    }
    let answer = client.get(&format!("/repos/{repo}"), &[], None).await?;
    let name = answer.json::<Repository>()?.full_name;
    let filter = settings.filter.clone();
    Ok(Begin {
        // Another case is no other name: annotations know the repository by its proper one.
        repo: if name.eq_ignore_ascii_case(repo) {
            name.clone()
        } else {
            repo.into()
        },
        total: total(client, &name, &filter).await,
        name,
        api_url: client.api_url().into(),
        filter,
        comments: settings.comments,
        at: answer.date().unwrap_or_else(Utc::now),
    })
}

/// The number of issues, from the search, which can count beyond what it lists. It has a small rate
/// limit of its own; where that is used up, the walk goes without.
async fn total(client: &Client, name: &str, filter: &Filter) -> Option<u64> {
    #[derive(Deserialize)]
    struct Found {
        total_count: u64,
    }
    let mut query = format!("repo:{name} is:issue");
    if filter.state != State::All {
        query += &format!(" state:{}", filter.state.name());
    }
    for label in &filter.labels {
        query += &format!(" label:\"{}\"", label.replace('"', ""));
    }
    if let Some(since) = filter.since {
        query += &format!(" updated:>={}", since.format("%FT%TZ"));
    }
    let query = [("q", query), ("per_page", "1".into())];
    let answer = client.get_once("/search/issues", &query).await.ok()?;
    Some(answer.json::<Found>().ok()?.total_count)
}
