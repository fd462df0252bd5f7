//! Issues as they come from GitHub, and the reduction of their text to what the model reads.

use std::fmt;

use serde::{Deserialize, Serialize};

pub mod condense;
pub mod read;

/// What names an issue everywhere: `owner/name` and the number within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct IssueId {
    pub repo: String,
    pub number: u64,
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
