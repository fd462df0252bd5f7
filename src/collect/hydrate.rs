//! The texts of single issues, for annotations that travel without them.
//!
//! With a token, fifty issues are asked for at once (GraphQL). Those that GraphQL does not find, and
//! all where there is no token, are asked for one by one: the REST API says what became of an issue.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Event;
use super::client::{Client, ClientError};
use super::graphql::{self, Found};
use super::record::{Record, is_pull_request};
use super::store::{StoreError, lock};
use crate::issue::{IssueId, is_github_repo};
use crate::locked_file::LockedFile;

/// Why texts cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HydrateError {
    #[error("{}: {source}; give a JSONL file of annotations", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {reason}; a line is {{\"repo\": \"owner/name\", \"number\": 1, …}}", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        reason: String,
    },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("writing failed: {0}")]
    Write(io::Error),
}

impl HydrateError {
    /// Whether it is because the client was told to stop.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Client(ClientError::Stopped))
    }

    /// Whether it is because whoever read the output has had enough.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What became of an issue that is not simply there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Deleted,
    /// Nobody knows it: it never was, or it or its repository is private or deleted.
    Unknown,
    /// The number is a pull request's.
    PullRequest,
    /// The text is there, now as the issue named here.
    Transferred(IssueId),
    /// The text is there, but the issue was closed in favour of a discussion.
    Converted,
}

impl Fate {
    /// Whether there is a text all the same.
    pub fn has_text(&self) -> bool {
        matches!(self, Self::Transferred(_) | Self::Converted)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleted => f.write_str("deleted"),
            Self::Unknown => f.write_str("not found: deleted, private, or never there"),
            Self::PullRequest => f.write_str("a pull request"),
            Self::Transferred(to) => write!(f, "transferred to {to}"),
            Self::Converted => f.write_str("converted to a discussion"),
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hydrated {
    pub written: u64,
    /// The issues with something to tell, in the order they were asked for.
    pub fates: Vec<(IssueId, Fate)>,
    /// Repositories by the name asked for, with their present one.
    pub renamed: Vec<(String, String)>,
}

/// The identities in a JSONL file of annotations, or of anything else with `repo` and `number`: each
/// once, in the file's order.
pub fn read_identities(path: &Path) -> Result<Vec<IssueId>, HydrateError> {
    let file = File::open(path).map_err(|source| HydrateError::Read {
        path: path.into(),
        source,
    })?;
    let mut seen = HashSet::new();
    let mut ids = Vec::new();
    for (line, text) in (1..).zip(BufReader::new(file).split(b'\n')) {
        let text = text.map_err(|source| HydrateError::Read {
            path: path.into(),
            source,
        })?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let id = identity(&text).map_err(|reason| HydrateError::Line {
            path: path.into(),
            line,
            reason,
        })?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn identity(line: &[u8]) -> Result<IssueId, String> {
    let id: IssueId = serde_json::from_slice(line).map_err(|error| {
        let reason = error.to_string();
        reason
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned()
    })?;
    if is_github_repo(&id.repo) && id.number > 0 {
        Ok(id)
    } else {
        Err(format!("{id} is no issue"))
    }
}

/// A JSONL file of issues that is added to, one process at a time.
#[derive(Debug)]
pub struct HydratedFile {
    path: PathBuf,
    file: LockedFile,
    length: u64,
    done: HashSet<IssueId>,
}

impl HydratedFile {
    /// Opens the file at `path`, and makes it if there is none. A line that was cut off is dropped.
    ///
    /// # Errors
    /// If the file holds anything but issues with `repo` and `number`, or another process writes it.
    pub fn open(path: &Path) -> Result<Self, HydrateError> {
        let file = lock(path, path)?;
        let failed = |source| StoreError::Failed {
            path: path.into(),
            source,
        };
        let (mut done, mut length) = (HashSet::new(), 0);
        let mut reader = BufReader::new(&file.0);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(failed)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            done.insert(identity(&text).map_err(|reason| HydrateError::Line {
                path: path.into(),
                line,
                reason,
            })?);
            length += read as u64;
        }
        file.0.set_len(length).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            file,
            length,
            done,
        })
    }

    /// The issues that the file holds.
    pub fn done(&self) -> &HashSet<IssueId> {
        &self.done
    }

    /// Adds whole lines and brings them to disk.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = &self.file.0;
        if let Err(error) = file.write_all(lines).and_then(|()| file.sync_data()) {
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Closes the file. One without issues is removed.
    pub fn finish(self) -> io::Result<()> {
        if self.length == 0 {
            fs::remove_file(&self.path)
        } else {
            Ok(())
        }
    }
}

/// Fetches the issues named by `ids` and gives them to `write`, as lines of JSON, batch by batch and in
/// their order. A record keeps the identity that was asked for; where the issue is another one now,
/// `moved_to` says which, and where it was converted, `converted_to_discussion` is true.
///
/// # Errors
/// If the server cannot be asked or `write` fails. What was written until then is whole.
pub async fn hydrate(
    client: &Client,
    ids: &[IssueId],
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Hydrated, HydrateError> {
    let mut run = Run {
        client,
        names: HashMap::new(),
        result: Hydrated::default(),
    };
    let batch = if client.has_token() {
        graphql::BATCH
    } else {
        1
    };
    let mut done = 0;
    for batch in ids.chunks(batch) {
        let mut lines = Vec::new();
        for (id, found) in batch.iter().zip(run.ask(batch).await?) {
            if let Some(record) = run.resolve(id, found).await? {
                lines.extend(record.line().as_bytes());
                lines.push(b'\n');
                run.result.written += 1;
            }
        }
        write(&lines).map_err(HydrateError::Write)?;
        done += batch.len() as u64;
        (client.watch.0)(Event::Issues {
            done,
            total: Some(ids.len() as u64),
        });
    }
    Ok(run.result)
}

struct Run<'a> {
    client: &'a Client,
    /// The present name of each repository that had to be looked up, `None` if nobody knows it.
    names: HashMap<String, Option<String>>,
    result: Hydrated,
}

impl Run<'_> {
    async fn ask(&self, ids: &[IssueId]) -> Result<Vec<Found>, ClientError> {
        if !self.client.has_token() {
            return Ok(ids.iter().map(|_| Found::Nothing).collect());
        }
        let answer: Value = self.client.graphql(&graphql::query(ids)).await?.json()?;
        Ok(graphql::found(ids, &answer))
    }

    /// The record of an issue, if there is a text, and what there is to tell about it.
    async fn resolve(&mut self, id: &IssueId, found: Found) -> Result<Option<Record>, ClientError> {
        let found = match found {
            Found::Nothing => self.ask_alone(id).await?,
            found => Ok(found),
        };
        let (fields, name, is_discussion) = match found {
            Ok(Found::Issue {
                fields,
                name,
                is_discussion,
            }) => (fields, name, is_discussion),
            Ok(Found::PullRequest) => return Ok(self.tell(id, Fate::PullRequest)),
            Ok(Found::Nothing) => return Ok(self.tell(id, Fate::Unknown)),
            Err(fate) => return Ok(self.tell(id, fate)),
        };
        let now = present_identity(&fields).unwrap_or_else(|| id.clone());
        let mut record = Record::new(fields, id);
        let is_here = now.repo.eq_ignore_ascii_case(&id.repo) && now.number == id.number;
        if !is_here {
            record.0.insert("moved_to".into(), now.to_string().into());
        }
        if is_discussion {
            record
                .0
                .insert("converted_to_discussion".into(), true.into());
            self.tell(id, Fate::Converted);
        }
        if now.number != id.number || !now.repo.eq_ignore_ascii_case(&name) {
            self.tell(id, Fate::Transferred(now));
        } else if !is_here {
            let renamed = (id.repo.clone(), now.repo);
            if !self.result.renamed.contains(&renamed) {
                self.result.renamed.push(renamed);
            }
        }
        Ok(Some(record))
    }

    fn tell(&mut self, id: &IssueId, fate: Fate) -> Option<Record> {
        self.result.fates.push((id.clone(), fate));
        None
    }

    /// Asks the REST API for one issue. It redirects to where an issue was transferred to, and says 410
    /// of one that was deleted.
    async fn ask_alone(&mut self, id: &IssueId) -> Result<Result<Found, Fate>, ClientError> {
        if self.names.get(&id.repo) == Some(&None) {
            return Ok(Err(Fate::Unknown));
        }
        let path = format!("/repos/{}/issues/{}", id.repo, id.number);
        let answer = match self.client.get(&path, &[], None).await {
            Err(ClientError::Refused {
                status: StatusCode::GONE,
                ..
            }) => return Ok(Err(Fate::Deleted)),
            Err(ClientError::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }) => {
                // So that the other issues of a repository that is no more are not asked for.
                self.name(&id.repo).await?;
                return Ok(Err(Fate::Unknown));
            }
            answer => answer?,
        };
        let fields: Map<String, Value> = answer.json()?;
        if is_pull_request(&fields) {
            return Ok(Ok(Found::PullRequest));
        }
        let is_elsewhere =
            present_identity(&fields).is_some_and(|now| !now.repo.eq_ignore_ascii_case(&id.repo));
        let name = if is_elsewhere {
            self.name(&id.repo).await?
        } else {
            None
        };
        let name = name.unwrap_or_else(|| id.repo.clone());
        // Only a converted issue's events say so; it is closed to further comments.
        let is_locked = fields.get("locked") == Some(&true.into());
        let is_discussion = is_locked && self.was_converted(&path).await?;
        Ok(Ok(Found::Issue {
            fields,
            name,
            is_discussion,
        }))
    }

    async fn name(&mut self, repo: &str) -> Result<Option<String>, ClientError> {
        #[derive(Deserialize)]
        struct Repository {
            full_name: String,
        }
        if let Some(name) = self.names.get(repo) {
            return Ok(name.clone());
        }
        let name = match self.client.get(&format!("/repos/{repo}"), &[], None).await {
            Err(ClientError::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }) => None,
            answer => Some(answer?.json::<Repository>()?.full_name),
        };
        self.names.insert(repo.into(), name.clone());
        Ok(name)
    }

    async fn was_converted(&self, issue: &str) -> Result<bool, ClientError> {
        let path = format!("{issue}/events");
        for page in 1.. {
            let query = [("per_page", "100".into()), ("page", page.to_string())];
            let answer = self.client.get(&path, &query, None).await?;
            let events: Vec<Map<String, Value>> = answer.json()?;
            let is_conversion = |event: &Map<String, Value>| {
                event.get("event").and_then(Value::as_str) == Some("converted_to_discussion")
            };
            if events.iter().any(is_conversion) {
                return Ok(true);
            }
            if !answer.has_next() {
                break;
            }
        }
        Ok(false)
    }
}

/// What the issue's address on the web says: `https://HOST/owner/name/issues/NUMBER`.
fn present_identity(fields: &Map<String, Value>) -> Option<IssueId> {
    let url = reqwest::Url::parse(fields.get("html_url")?.as_str()?).ok()?;
    let parts: Vec<&str> = url.path_segments()?.collect();
    let [owner, name, "issues", number] = parts[..] else {
        return None;
    };
    let repo = format!("{owner}/{name}");
    Some(IssueId {
        repo,
        number: number.parse().ok()?,
    })
}
