//! What is kept of an issue, and which issues are wanted.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::issue::IssueId;

/// An issue as the REST API gives it, without what only leads elsewhere in the API (`node_id` and
/// every address but the issue's own `html_url`), and with `repo` (and `number`) as they were asked
/// for: an issue keeps its identity when its repository is renamed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record(pub Map<String, Value>);

impl Record {
    pub fn new(mut fields: Map<String, Value>, id: &IssueId) -> Self {
        let address = fields.remove("html_url");
        slim(&mut fields);
        fields.extend(address.map(|address| ("html_url".into(), address)));
        fields.insert("repo".into(), id.repo.as_str().into());
        fields.insert("number".into(), id.number.into());
        Self(fields)
    }

    pub fn line(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Replaces the number of comments by the comments, and notes the number as `comment_count`.
    pub fn with_comments(&self, comments: Vec<Value>) -> Self {
        let mut fields = self.0.clone();
        let count = fields.insert("comments".into(), comments.into());
        fields.insert("comment_count".into(), count.unwrap_or_default());
        Self(fields)
    }

    /// Undoes [`with_comments`](Self::with_comments).
    pub fn without_comments(mut self) -> Self {
        if let Some(count) = self.0.remove("comment_count") {
            self.0.insert("comments".into(), count);
        }
        self
    }
}

fn slim(fields: &mut Map<String, Value>) {
    fields.retain(|key, _| {
        key != "node_id" && key != "gravatar_id" && key != "url" && !key.ends_with("_url")
    });
    for value in fields.values_mut() {
        match value {
            Value::Object(fields) => slim(fields),
            Value::Array(values) => values
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(slim),
            _ => {}
        }
    }
}

/// The fields of an answer's issue that decide what happens with it.
pub(super) fn number(fields: &Map<String, Value>) -> Option<u64> {
    fields.get("number")?.as_u64()
}

pub(super) fn updated_at(fields: &Map<String, Value>) -> Option<DateTime<Utc>> {
    let text = fields.get("updated_at")?.as_str()?;
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

pub(super) fn is_pull_request(fields: &Map<String, Value>) -> bool {
    fields
        .get("pull_request")
        .is_some_and(|value| !value.is_null())
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Open,
    Closed,
    #[default]
    All,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::All => "all",
        }
    }
}

/// Which issues of a repository are collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Those opened or changed at this time or later.
    pub since: Option<DateTime<Utc>>,
    pub state: State,
    /// Those with all of these labels, upper and lower case being the same.
    pub labels: Vec<String>,
}

impl Filter {
    /// Whether an issue can come to pass the filter, or cease to.
    pub(super) fn can_change(&self) -> bool {
        self.state != State::All || !self.labels.is_empty()
    }

    pub(super) fn passes(&self, fields: &Map<String, Value>) -> bool {
        let is_state = self.state == State::All
            || fields.get("state").and_then(Value::as_str) == Some(self.state.name());
        let is_recent = self
            .since
            .is_none_or(|since| updated_at(fields).is_none_or(|at| at >= since));
        let labels = fields.get("labels").and_then(Value::as_array);
        let labels: Vec<String> = labels
            .into_iter()
            .flatten()
            .filter_map(|label| label.as_str().or_else(|| label.get("name")?.as_str()))
            .map(str::to_lowercase)
            .collect();
        is_state
            && is_recent
            && self
                .labels
                .iter()
                .all(|label| labels.contains(&label.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn addresses_go_and_everything_else_stays() {
        let id = IssueId {
            repo: "old/name".into(),
            number: 3,
        };
        let record = Record::new(
            fields(json!({
                "url": "https://api.example.com/repos/new/name/issues/3", "labels_url": "x", "node_id": "I_1",
                "html_url": "https://example.com/new/name/issues/3", "number": 3, "title": "t", "body": null,
                "user": {"login": "ada", "avatar_url": "x", "html_url": "x", "node_id": "U_1"},
                "labels": [{"name": "bug", "url": "x"}], "reactions": {"url": "x", "+1": 2}
            })),
            &id,
        );
        assert_eq!(
            Value::Object(record.0),
            json!({
                "html_url": "https://example.com/new/name/issues/3", "repo": "old/name", "number": 3,
                "title": "t", "body": null, "user": {"login": "ada"}, "labels": [{"name": "bug"}],
                "reactions": {"+1": 2}
            })
        );
    }

    #[test]
    fn comments_take_the_place_of_their_number_and_can_be_taken_out_again() {
        let record = Record(fields(json!({"number": 3, "comments": 7})));
        let with = record.with_comments(vec![json!({"body": "me too"})]);
        assert_eq!(
            Value::Object(with.0.clone()),
            json!({"number": 3, "comments": [{"body": "me too"}], "comment_count": 7})
        );
        assert_eq!(with.without_comments(), record);
    }

    #[test]
    fn a_filter_wants_its_state_every_label_and_no_older_issue() {
        let issue = fields(json!({
            "state": "open", "labels": [{"name": "Bug"}, "gpu"], "updated_at": "2024-05-17T09:30:00Z"
        }));
        let passes = |since: Option<&str>, state, labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.into()).collect();
            let since = since.map(|since| since.parse().unwrap());
            Filter {
                since,
                state,
                labels,
            }
            .passes(&issue)
        };
        assert!(passes(None, State::All, &[]));
        assert!(passes(
            Some("2024-05-17T09:30:00Z"),
            State::Open,
            &["bug", "GPU"]
        ));
        assert!(!passes(Some("2024-05-17T09:30:01Z"), State::All, &[]));
        assert!(!passes(None, State::Closed, &[]));
        assert!(!passes(None, State::All, &["bug", "cpu"]));
    }
}
