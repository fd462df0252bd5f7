//! Issues as they come from GitHub, and the reduction of their text to what the model reads.

use std::fmt;

use serde::{Deserialize, Serialize};

pub mod condense;
mod metadata;
pub mod read;

pub use metadata::Metadata;

/// What names an issue everywhere: `owner/name` and the number within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct IssueId {
    pub repo: String,
    pub number: u64,
}

/// What stands for an owner in the names of tables' rows, `table/NAME` and the row's number.
pub(crate) const TABLE: &str = "table";

impl IssueId {
    /// Its page on GitHub; `None` for the row of a table, and where `repo` is no repository's name.
    pub fn url(&self) -> Option<String> {
        let Self { repo, number } = self;
        let is_row = repo.split('/').next() == Some(TABLE);
        (is_github_repo(repo) && !is_row)
            .then(|| format!("https://github.com/{repo}/issues/{number}"))
    }
}

impl fmt::Display for IssueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.repo, self.number)
    }
}

/// One issue: its identity and the text its author wrote. An absent body is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    pub id: IssueId,
    pub title: String,
    pub body: String,
    /// When it was opened, as its file says: GitHub's form is `2024-05-17T09:30:00Z`.
    pub created_at: Option<String>,
}

/// Whether `name` is one that GitHub gives a repository, `owner/name`: no other goes into an address or a
/// file's name.
pub(crate) fn is_github_repo(name: &str) -> bool {
    let is_part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !matches!(part, "" | "." | "..") && part.bytes().all(allowed)
    };
    name.split_once('/')
        .is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for name in [
            "vllm-project/vllm",
            "ggml-org/llama.cpp",
            "a/.github",
            "a_b/c_d",
        ] {
            assert!(is_github_repo(name), "{name}");
        }
        for name in [
            "vllm", "a/", "/b", "a/b/c", "../b", "a/..", "a/.", "a b/c", "a/b?x", "a/b%2f",
        ] {
            assert!(!is_github_repo(name), "{name}");
        }
    }
}
