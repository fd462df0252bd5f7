//! The comments of one issue.
//!
//! They are asked for issue by issue, not through the list of all comments of a repository: that is
//! cheaper for a whole repository (a hundred issues' comments a page), but it gives the comments of
//! all pull requests too, cannot be limited to some issues or to the first comments, and does not say
//! which were deleted.

use serde_json::{Map, Value, json};

use super::client::{Client, ClientError};
use super::repository::Comments;
use super::walk::PER_PAGE;

/// The first `wanted` comments of an issue, oldest first, as
/// `{"author", "author_association", "created_at", "body"}`.
pub(super) async fn fetch(
    client: &Client,
    repo: &str,
    number: u64,
    wanted: Comments,
) -> Result<Vec<Value>, ClientError> {
    let wanted = match wanted {
        Comments::First(count) => count as usize,
        Comments::All => usize::MAX,
    };
    let path = format!("/repos/{repo}/issues/{number}/comments");
    let mut comments = Vec::new();
    for page in 1.. {
        let query = [
            ("per_page", PER_PAGE.min(wanted).to_string()),
            ("page", page.to_string()),
        ];
        let answer = client.get(&path, &query, None).await?;
        let found: Vec<Map<String, Value>> = answer.json()?;
        comments.extend(found.iter().map(trimmed));
        if comments.len() >= wanted || !answer.has_next() {
            break;
        }
    }
    comments.truncate(wanted);
    Ok(comments)
}

fn trimmed(comment: &Map<String, Value>) -> Value {
    let field = |name: &str| comment.get(name).cloned().unwrap_or_default();
    // A deleted account is null.
    let author = comment
        .get("user")
        .and_then(|user| user.get("login"))
        .cloned();
    json!({
        "author": author,
        "author_association": field("author_association"),
        "created_at": field("created_at"),
        "body": field("body"),
    })
}
