//! What GitHub knows of an issue beside its text.

/// Everything is `None`, or no label, where a file does not say it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    pub is_open: Option<bool>,
    /// When it was closed, as its file says.
    pub closed_at: Option<String>,
    pub comments: Option<u64>,
    pub reactions: Option<u64>,
    /// GitHub's labels.
    pub labels: Vec<String>,
    /// The author's part in the project, such as `MEMBER` or `NONE`.
    pub author_association: Option<String>,
}
