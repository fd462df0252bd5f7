//! Many issues in one question: a GraphQL query with an alias for each.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::issue::IssueId;

/// Issues asked for at once. GitHub ends a query after ten seconds, and counts a hundred connections
/// (here, an issue has two) as one request towards the limit.
pub(super) const BATCH: usize = 50;

const FIELDS: &str = "\
fragment fields on Issue { number title body url state stateReason locked createdAt updatedAt closedAt \
authorAssociation author { login } labels(first: 100) { nodes { name } } comments { totalCount } \
timelineItems(itemTypes: [CONVERTED_TO_DISCUSSION_EVENT], last: 1) { totalCount } }";

/// The query for `ids`: the repository of alias `r0` is the first one among them, and its issue of
/// number 7 is `i7`.
pub(super) fn query(ids: &[IssueId]) -> String {
    let mut text = String::from("query {");
    for (i, (repo, numbers)) in by_repository(ids).iter().enumerate() {
        let (owner, name) = repo.split_once('/').unwrap_or((repo, ""));
        let (owner, name) = (json!(owner), json!(name));
        write!(
            text,
            " r{i}: repository(owner: {owner}, name: {name}) {{ nameWithOwner"
        )
        .unwrap();
        for number in numbers {
            write!(
                text,
                " i{number}: issueOrPullRequest(number: {number}) {{ __typename ...fields }}"
            )
            .unwrap();
        }
        text += " }";
    }
    text + " }\n" + FIELDS
}

fn by_repository(ids: &[IssueId]) -> BTreeMap<&str, Vec<u64>> {
    let mut repositories: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for id in ids {
        repositories.entry(&id.repo).or_default().push(id.number);
    }
    repositories
}

/// What is known of an issue that was asked for.
pub(super) enum Found {
    /// In the REST API's form.
    Issue {
        fields: Map<String, Value>,
        /// The repository's present name.
        name: String,
        is_discussion: bool,
    },
    PullRequest,
    /// Not there, or not answered.
    Nothing,
}

/// What the answer to [`query`] says about each of `ids`.
pub(super) fn found(ids: &[IssueId], answer: &Value) -> Vec<Found> {
    let repositories = by_repository(ids);
    let aliases: BTreeMap<&str, usize> = repositories.keys().copied().zip(0..).collect();
    ids.iter()
        .map(|id| {
            let repository = &answer["data"][format!("r{}", aliases[id.repo.as_str()])];
            let issue = &repository[format!("i{}", id.number)];
            match (
                issue["__typename"].as_str(),
                repository["nameWithOwner"].as_str(),
            ) {
                (Some("Issue"), Some(name)) => Found::Issue {
                    fields: as_rest(issue),
                    name: name.into(),
                    is_discussion: issue["timelineItems"]["totalCount"].as_u64() > Some(0),
                },
                (Some("PullRequest"), _) => Found::PullRequest,
                _ => Found::Nothing,
            }
        })
        .collect()
}

fn as_rest(issue: &Value) -> Map<String, Value> {
    let lower = |value: &Value| value.as_str().map(str::to_lowercase);
    let user = match &issue["author"] {
        // A deleted account.
        Value::Null => Value::Null,
        author => json!({ "login": author["login"] }),
    };
    let record = json!({
        "number": issue["number"],
        "title": issue["title"],
        "body": issue["body"],
        "html_url": issue["url"],
        "state": lower(&issue["state"]),
        "state_reason": lower(&issue["stateReason"]),
        "locked": issue["locked"],
        "created_at": issue["createdAt"],
        "updated_at": issue["updatedAt"],
        "closed_at": issue["closedAt"],
        "author_association": issue["authorAssociation"],
        "user": user,
        "labels": issue["labels"]["nodes"],
        "comments": issue["comments"]["totalCount"],
    });
    record.as_object().cloned().unwrap_or_default()
}
