//! A record's fields, whatever the format, and the issue they describe.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::MAX_RECORD_BYTES;
use super::shape::{Count, Names, Text};
use crate::issue::{Issue, IssueId, Metadata};

/// Why a record is no issue.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("it is not valid UTF-8")]
    NotUtf8,
    #[error("it is not valid JSON for an issue: {0}")]
    Json(String),
    #[error("it is not a JSON object")]
    NotAnObject,
    #[error("it has {found} fields where the header has {expected}")]
    FieldCount { expected: u64, found: u64 },
    #[error("it is cut off: the file ends inside it")]
    CutByFile,
    #[error("it is cut off: its line ends, or the next record begins, inside it")]
    CutByLine,
    #[error("the file ends before its list of records is closed: records may be missing")]
    UnclosedList,
    #[error("it has more than {} MiB", MAX_RECORD_BYTES >> 20)]
    TooLong,
    #[error("it has more than {} MiB, perhaps for a quote that is never closed: the rest of the file is not read", MAX_RECORD_BYTES >> 20)]
    TooLongToGoOn,
    #[error("it has neither title nor body: it is not an issue")]
    NoText,
    #[error("its number is not a positive integer")]
    Number,
    #[error("{0:?} is not a repository: owner/name is wanted")]
    Repo(String),
    #[error("it does not name its repository: pass --repo owner/name")]
    NoRepo,
}

/// A record as a format's reader found it. Lines count from 1, bytes from 0.
pub(super) struct Entry {
    pub line: Option<u64>,
    pub byte: Option<u64>,
    pub record: Result<Record, Fault>,
}

/// What a record turned out to be.
#[derive(Debug, PartialEq)]
// It is taken apart as soon as it is made.
#[allow(clippy::large_enum_variant)]
pub(super) enum Outcome {
    Issue(Issue, Box<Extra>),
    PullRequest,
}

/// What stands beside an issue's text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extra {
    /// Its label in a table that has labels.
    pub label: Option<String>,
    pub metadata: Metadata,
}

/// The fields that matter, named as GitHub names them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    #[serde(deserialize_with = "whole_number")]
    pub number: Option<u64>,
    /// Outer `None`: there is no such field. Inner: it is null.
    #[serde(deserialize_with = "present")]
    pub title: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    pub body: Option<Option<String>>,
    /// A table's column that was named for it.
    #[serde(skip)]
    pub label: Option<String>,
    pub repo: Option<Repository>,
    pub repository: Option<Repository>,
    pub html_url: Option<String>,
    pub url: Option<String>,
    pub repository_url: Option<String>,
    /// `createdAt` is what GitHub's command line client says.
    #[serde(alias = "createdAt", deserialize_with = "text")]
    pub created_at: Option<String>,
    /// GitHub's REST API: there and not null for a pull request.
    pub pull_request: Option<IgnoredAny>,
    /// `gh search issues --json isPullRequest`.
    #[serde(rename = "isPullRequest")]
    pub is_pull_request: Option<bool>,
    pub state: Text,
    #[serde(alias = "closedAt")]
    pub closed_at: Text,
    pub comments: Count,
    /// What `collect --comments` notes where `comments` are the comments themselves.
    pub comment_count: Count,
    pub reactions: Count,
    /// `gh --json`.
    #[serde(rename = "reactionGroups")]
    pub reaction_groups: Count,
    pub labels: Names,
    #[serde(alias = "authorAssociation")]
    pub author_association: Text,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a repository is neither a name nor an object")]
pub(super) enum Repository {
    Name(String),
    Object {
        #[serde(alias = "nameWithOwner")]
        full_name: Option<String>,
    },
}

fn whole_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(serde_json::Value::deserialize(from)?.as_u64())
}

/// A field that no issue needs: whatever is not text counts as missing.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::String(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl Record {
    /// The issue described, of repository `default` where the record names none.
    pub fn resolve(self, default: Option<&str>) -> Result<Outcome, Fault> {
        let addresses = [&self.html_url, &self.url];
        let addresses = addresses.map(|url| url.as_deref().and_then(Address::parse));
        let is_pull = |address: &Address| address.is_pull_request;
        if self.pull_request.is_some()
            || self.is_pull_request == Some(true)
            || addresses.iter().flatten().any(is_pull)
        {
            return Ok(Outcome::PullRequest);
        }
        if self.title.is_none() && self.body.is_none() {
            return Err(Fault::NoText);
        }
        let number = self
            .number
            .filter(|&number| number > 0)
            .ok_or(Fault::Number)?;

        let closed_at = self.closed_at.0.filter(|text| !text.is_empty());
        let state = self.state.0.map(|state| state.to_ascii_lowercase());
        let metadata = Metadata {
            is_open: match state.as_deref() {
                Some("open") => Some(true),
                Some("closed") => Some(false),
                _ => closed_at.is_some().then_some(false),
            },
            closed_at,
            comments: self.comment_count.0.or(self.comments.0),
            reactions: self.reactions.0.or(self.reaction_groups.0),
            labels: self.labels.0,
            author_association: self.author_association.0.filter(|text| !text.is_empty()),
        };
        let named = [self.repo, self.repository].into_iter().flatten();
        let named = named
            .filter_map(Repository::name)
            .find(|name| !name.is_empty());
        let repo = match named {
            Some(name) if is_repo_name(&name) => name,
            Some(name) => return Err(Fault::Repo(name)),
            None => addresses
                .into_iter()
                .flatten()
                .map(|address| address.repo)
                .next()
                .or_else(|| repo_at_end(self.repository_url.as_deref()?))
                .or_else(|| default.map(str::to_owned))
                .ok_or(Fault::NoRepo)?,
        };
        let issue = Issue {
            id: IssueId { repo, number },
            title: self.title.flatten().unwrap_or_default(),
            body: self.body.flatten().unwrap_or_default(),
            created_at: self.created_at,
        };
        let extra = Extra {
            label: self.label,
            metadata,
        };
        Ok(Outcome::Issue(issue, Box::new(extra)))
    }
}

impl Repository {
    fn name(self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name),
            Self::Object { full_name } => full_name,
        }
    }
}

/// Whether `name` has the form `owner/name`.
pub(super) fn is_repo_name(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.contains(['/', ' ', '\t', '\n', '\r']);
    name.split_once('/')
        .is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

/// What the address of an issue or a pull request says, on the web
/// (`https://github.com/owner/name/issues/1`) or in the API
/// (`https://api.github.com/repos/owner/name/issues/1`), on any host.
struct Address {
    repo: String,
    is_pull_request: bool,
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        segments(url)?.windows(4).find_map(|window| match window {
            [owner, name, kind @ ("issues" | "pull" | "pulls"), number]
                if number.parse::<u64>().is_ok() =>
            {
                let repo = format!("{owner}/{name}");
                let is_pull_request = *kind != "issues";
                is_repo_name(&repo).then_some(Self {
                    repo,
                    is_pull_request,
                })
            }
            _ => None,
        })
    }
}

/// The repository whose own address, `https://api.github.com/repos/owner/name`, `url` is.
fn repo_at_end(url: &str) -> Option<String> {
    match segments(url)?.as_slice() {
        [.., owner, name] => Some(format!("{owner}/{name}")).filter(|repo| is_repo_name(repo)),
        _ => None,
    }
}

/// The parts of an address's path, without the host.
fn segments(url: &str) -> Option<Vec<&str>> {
    let (_, path) = url.split_once("://")?;
    let path = path.split(['?', '#']).next()?;
    Some(
        path.split('/')
            .skip(1)
            .filter(|part| !part.is_empty())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(json: &str, default: Option<&str>) -> Result<Outcome, Fault> {
        serde_json::from_str::<Record>(json)
            .unwrap()
            .resolve(default)
    }

    fn repo_of(json: &str) -> Result<String, Fault> {
        match resolve(json, Some("de/fault"))? {
            Outcome::Issue(issue, _) => Ok(issue.id.repo),
            Outcome::PullRequest => panic!("{json} was taken for a pull request"),
        }
    }

    #[test]
    fn the_repository_comes_from_a_field_then_from_addresses_then_from_the_default() {
        let table = [
            (
                r#""repo":"a/b","html_url":"https://github.com/c/d/issues/1""#,
                "a/b",
            ),
            (r#""repository":"a/b""#, "a/b"),
            (r#""repository":{"full_name":"a/b","id":3}"#, "a/b"),
            (r#""repository":{"name":"b","nameWithOwner":"a/b"}"#, "a/b"),
            (
                r#""repository":{"name":"b"},"url":"https://github.com/c/d/issues/1""#,
                "c/d",
            ),
            (r#""html_url":"https://github.com/c/d/issues/1""#, "c/d"),
            (
                r#""url":"https://github.com/c/d/issues/1#issuecomment-2""#,
                "c/d",
            ),
            (
                r#""url":"https://api.github.com/repos/c/d/issues/1""#,
                "c/d",
            ),
            (
                r#""url":"https://git.corp.example/api/v3/repos/c/d/issues/1""#,
                "c/d",
            ),
            (
                r#""html_url":"https://git.corp.example/c/d/issues/1?x=y""#,
                "c/d",
            ),
            (
                r#""html_url":"https://github.com/c/issues/issues/1""#,
                "c/issues",
            ),
            (
                r#""repository_url":"https://api.github.com/repos/c/d""#,
                "c/d",
            ),
            (r#""repo":"","url":null"#, "de/fault"),
            (r#""url":"https://example.com/c""#, "de/fault"),
            (r#""url":"nonsense""#, "de/fault"),
        ];
        for (fields, repo) in table {
            let json = format!(r#"{{"number":1,"title":"t",{fields}}}"#);
            assert_eq!(repo_of(&json).as_deref(), Ok(repo), "{json}");
        }
    }

    #[test]
    fn a_repository_of_the_wrong_form_is_a_fault_and_not_replaced_by_the_default() {
        for name in ["vllm", "a/b/c", "a/", "/b", "a b/c"] {
            let json = format!(r#"{{"number":1,"title":"t","repo":"{name}"}}"#);
            assert_eq!(repo_of(&json), Err(Fault::Repo(name.into())));
        }
    }

    #[test]
    fn a_record_that_names_no_repository_says_how_to_name_one() {
        let fault = resolve(r#"{"number":1,"title":"t"}"#, None).unwrap_err();
        assert!(
            fault.to_string().ends_with("pass --repo owner/name"),
            "{fault}"
        );
    }

    #[test]
    fn pull_requests_are_told_from_issues() {
        for fields in [
            r#""pull_request":{"url":"x"}"#,
            r#""isPullRequest":true"#,
            r#""html_url":"https://github.com/a/b/pull/1""#,
            r#""html_url":"https://github.com/a/b/pull/1","repo":"a/b""#,
            r#""url":"https://api.github.com/repos/a/b/pulls/1""#,
        ] {
            let json = format!(r#"{{"number":1,"title":"t",{fields}}}"#);
            assert_eq!(resolve(&json, None), Ok(Outcome::PullRequest), "{json}");
        }
        for fields in [
            r#""pull_request":null,"isPullRequest":false,"repo":"a/b""#,
            r#""html_url":"https://github.com/a/pull/issues/1""#,
        ] {
            let json = format!(r#"{{"number":1,"title":"t",{fields}}}"#);
            assert!(
                matches!(resolve(&json, None), Ok(Outcome::Issue(..))),
                "{json}"
            );
        }
    }

    #[test]
    fn a_number_is_a_positive_integer() {
        for number in [
            "0",
            "-1",
            "1.5",
            r#""7""#,
            "null",
            "[1]",
            "99999999999999999999",
        ] {
            let json = format!(r#"{{"number":{number},"title":"t","repo":"a/b"}}"#);
            assert_eq!(resolve(&json, None), Err(Fault::Number), "{json}");
        }
        assert_eq!(
            resolve(r#"{"title":"t","repo":"a/b"}"#, None),
            Err(Fault::Number)
        );
    }

    #[test]
    fn the_date_is_kept_as_it_stands_and_nothing_fails_for_it() {
        let date = |field: &str| {
            let json = format!(r#"{{"number":1,"title":"t","repo":"a/b"{field}}}"#);
            match resolve(&json, None) {
                Ok(Outcome::Issue(issue, _)) => issue.created_at,
                other => panic!("{json}: {other:?}"),
            }
        };
        let expected = Some("2024-05-17T09:30:00Z".to_owned());
        assert_eq!(date(r#","created_at":"2024-05-17T09:30:00Z""#), expected);
        assert_eq!(date(r#","createdAt":"2024-05-17T09:30:00Z""#), expected);
        for other in ["", r#","created_at":null"#, r#","created_at":{"a":[17]}"#] {
            assert_eq!(date(other), None);
        }
    }

    #[test]
    fn a_null_or_missing_title_or_body_is_empty_but_one_must_be_there() {
        for fields in [
            r#""title":null"#,
            r#""body":null"#,
            r#""title":null,"body":null"#,
        ] {
            let json = format!(r#"{{"number":1,"repo":"a/b",{fields}}}"#);
            let Ok(Outcome::Issue(issue, _)) = resolve(&json, None) else {
                panic!("{json} is an issue");
            };
            assert_eq!((issue.title.as_str(), issue.body.as_str()), ("", ""));
        }
        assert_eq!(
            resolve(r#"{"number":1,"repo":"a/b"}"#, None),
            Err(Fault::NoText)
        );
    }

    fn metadata_of(fields: &str) -> Metadata {
        let json = fields
            .replacen('{', r#"{"number":1,"title":"t","repo":"a/b","#, 1)
            .replace(",}", "}");
        match resolve(&json, None) {
            Ok(Outcome::Issue(_, extra)) => extra.metadata,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn the_rest_api_gh_and_tables_say_the_same() {
        let expected = Metadata {
            is_open: Some(false),
            closed_at: Some("2024-05-17T09:30:00Z".into()),
            comments: Some(2),
            reactions: Some(3),
            labels: vec!["bug".into(), "good first issue".into()],
            author_association: Some("MEMBER".into()),
        };
        let rest = r#"{"state":"closed","closed_at":"2024-05-17T09:30:00Z","comments":2,
            "reactions":{"url":"x","total_count":3,"+1":3},"author_association":"MEMBER",
            "labels":[{"id":1,"name":"bug"},{"name":"good first issue"}]}"#;
        let gh = r#"{"state":"CLOSED","closedAt":"2024-05-17T09:30:00Z",
            "comments":[{"body":"a"},{"body":"b"}],"authorAssociation":"MEMBER",
            "reactionGroups":[{"content":"HEART","users":{"totalCount":1}},{"users":{"totalCount":2}}],
            "labels":["bug","good first issue"]}"#;
        let with_comments = r#"{"closed_at":"2024-05-17T09:30:00Z","comments":[{"body":"a"}],
            "comment_count":2,"reactions":"3","author_association":"MEMBER",
            "labels":"bug; good first issue"}"#;
        for json in [rest, gh, with_comments] {
            assert_eq!(metadata_of(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_missing_or_odd_is_unknown_and_refuses_nothing() {
        let odd = r#"{"state":7,"closed_at":null,"comments":-1,"reactions":true,"labels":{"a":1},
            "author_association":[]}"#;
        for json in ["{}", odd] {
            assert_eq!(metadata_of(json), Metadata::default(), "{json}");
        }
    }
}
