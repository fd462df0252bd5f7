//! What the server knows, and what it answers when nothing goes wrong.

use std::collections::{BTreeMap, HashMap};

use chrono::DateTime;
use hyper::header::{ETAG, HeaderValue, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Response};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::{Reply, dated, reply};

/// Where the clock begins: 2023-11-14.
pub const START: i64 = 1_700_000_000;

pub struct GitHub {
    /// The server's own address.
    pub url: String,
    /// Seconds since 1970.
    pub now: i64,
    /// Items a page at most, whatever is asked for.
    pub page: usize,
    /// Whether `since` includes its own second.
    pub inclusive: bool,
    pub repos: Vec<Repo>,
    /// Former names of repositories, with their id.
    pub renamed: HashMap<String, usize>,
    /// Addresses outside, by the path that leads there.
    pub redirects: HashMap<String, String>,
    /// The primary limit, for everything but the search.
    pub limit: Option<Limit>,
    /// For how many seconds each of the next requests is refused, as a secondary limit does.
    pub retry_after: Vec<u64>,
}

pub struct Limit {
    pub remaining: u64,
    /// Seconds from any answer to the renewal, which leaves a thousand requests.
    pub renewal: i64,
}

/// A repository; its id is its place among them.
pub struct Repo {
    pub name: String,
    pub items: BTreeMap<u64, Item>,
    pub deleted: Vec<u64>,
    /// Issues that are now elsewhere: the repository's id and the number there.
    pub transferred: HashMap<u64, (usize, u64)>,
}

/// An issue or a pull request.
#[derive(Clone)]
pub struct Item {
    pub number: u64,
    pub title: String,
    pub body: Option<String>,
    pub open: bool,
    pub labels: Vec<String>,
    pub comments: Vec<String>,
    pub created: i64,
    pub updated: i64,
    pub is_pull_request: bool,
    pub converted: bool,
}

fn time(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0)
        .unwrap()
        .format("%FT%TZ")
        .to_string()
}

impl Repo {
    /// A repository with `count` issues, every eighth number a pull request, changed up to `START`:
    /// several at a time now and then.
    pub fn invented(name: &str, count: usize, random: &mut ChaCha8Rng) -> Self {
        let mut items = BTreeMap::new();
        let mut issues = 0;
        let mut updated = START - 4 * count as i64 - 1000;
        let mut number = 0;
        while issues < count {
            number += 1;
            updated += random.random_range(0..3);
            let item = Item::invented(number, updated, number % 8 == 7, random);
            issues += usize::from(!item.is_pull_request);
            items.insert(number, item);
        }
        // The order of changes is not that of numbers.
        let numbers: Vec<u64> = items.keys().copied().collect();
        for i in (1..numbers.len()).rev() {
            let (a, b) = (numbers[i], numbers[random.random_range(0..=i)]);
            let (first, second) = (items[&a].updated, items[&b].updated);
            items.get_mut(&a).unwrap().updated = second;
            items.get_mut(&b).unwrap().updated = first;
        }
        Self {
            name: name.into(),
            items,
            deleted: Vec::new(),
            transferred: HashMap::new(),
        }
    }

    /// What the list gives, in the order of the last change.
    fn listed(&self) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.items.values().collect();
        items.sort_by_key(|item| (item.updated, item.number));
        items
    }

    pub fn issues(&self) -> impl Iterator<Item = &Item> {
        self.items.values().filter(|item| !item.is_pull_request)
    }
}

impl Item {
    fn invented(number: u64, updated: i64, is_pull_request: bool, random: &mut ChaCha8Rng) -> Self {
        let labels = ["bug", "gpu", "question"]
            .into_iter()
            .filter(|_| random.random_bool(0.4))
            .map(str::to_owned)
            .collect();
        let length = random.random_range(0..5);
        let body = format!("Line of issue {number}\r\n\"quoted\" \u{1f525} \u{2028} text\n");
        Self {
            number,
            title: format!("Issue {number} does not work"),
            body: (length < 4).then(|| body.repeat(length)),
            open: random.random_bool(0.5),
            labels,
            comments: (0..random.random_range(0..4))
                .map(|i| format!("Comment {i} on {number}"))
                .collect(),
            created: START - 1_000_000 + number as i64,
            updated,
            is_pull_request,
            converted: false,
        }
    }

    /// What has to be kept of it, under the name `repo`, while the server calls the repository `name`.
    pub fn kept(&self, repo: &str, name: &str, url: &str) -> Value {
        json!({
            "repo": repo,
            "number": self.number,
            "id": 1_000_000 + self.number,
            "title": self.title,
            "body": self.body,
            "state": if self.open { "open" } else { "closed" },
            "locked": self.converted,
            "labels": self.labels.iter().map(|label| json!({ "name": label, "color": "ffffff" })).collect::<Vec<_>>(),
            "user": { "login": "ada", "id": 7 },
            "comments": self.comments.len(),
            "author_association": "NONE",
            "created_at": time(self.created),
            "updated_at": time(self.updated),
            "closed_at": (!self.open).then(|| time(self.updated)),
            "html_url": format!("{url}/{name}/issues/{}", self.number),
        })
    }

    /// The same with the first comments.
    pub fn kept_with_comments(&self, repo: &str, name: &str, url: &str, count: usize) -> Value {
        let mut kept = self.kept(repo, name, url);
        kept["comment_count"] = self.comments.len().into();
        let comments = self.comments.iter().take(count).map(|body| {
            json!({
                "author": "bob", "author_association": "MEMBER", "created_at": time(self.created), "body": body
            })
        });
        kept["comments"] = comments.collect();
        kept
    }

    /// What the REST API says.
    fn rest(&self, name: &str, url: &str) -> Value {
        let mut item = self.kept(name, name, url);
        item.as_object_mut().unwrap().remove("repo");
        let api = format!("{url}/repos/{name}");
        item["url"] = format!("{api}/issues/{}", self.number).into();
        item["repository_url"] = api.clone().into();
        item["labels_url"] = format!("{api}/issues/{}/labels{{/name}}", self.number).into();
        item["node_id"] = "I_kwDO".into();
        item["user"]["avatar_url"] = "https://avatars.example.com/u/7".into();
        item["user"]["html_url"] = format!("{url}/ada").into();
        for label in item["labels"].as_array_mut().unwrap() {
            label["url"] = format!("{api}/labels/x").into();
        }
        if self.is_pull_request {
            item["pull_request"] = json!({ "url": format!("{api}/pulls/{}", self.number) });
        }
        item
    }

    /// What GraphQL says.
    fn graphql(&self, name: &str, url: &str) -> Value {
        if self.is_pull_request {
            return json!({ "__typename": "PullRequest" });
        }
        json!({
            "__typename": "Issue",
            "number": self.number,
            "title": self.title,
            "body": self.body.clone().unwrap_or_default(),
            "url": format!("{url}/{name}/issues/{}", self.number),
            "state": if self.open { "OPEN" } else { "CLOSED" },
            "stateReason": null,
            "locked": self.converted,
            "createdAt": time(self.created),
            "updatedAt": time(self.updated),
            "closedAt": null,
            "authorAssociation": "NONE",
            "author": { "login": "ada" },
            "labels": { "nodes": self.labels.iter().map(|label| json!({ "name": label })).collect::<Vec<_>>() },
            "comments": { "totalCount": self.comments.len() },
            "timelineItems": { "totalCount": u64::from(self.converted) },
        })
    }
}

impl GitHub {
    pub fn new(repos: Vec<Repo>) -> Self {
        Self {
            url: String::new(),
            now: START + 3600,
            page: 100,
            inclusive: true,
            repos,
            renamed: HashMap::new(),
            redirects: HashMap::new(),
            limit: None,
            retry_after: Vec::new(),
        }
    }

    /// Gives a repository another name; the old one leads there.
    pub fn rename(&mut self, id: usize, name: &str) {
        let old = std::mem::replace(&mut self.repos[id].name, name.into());
        self.renamed.insert(old.to_lowercase(), id);
    }

    /// Changes an issue, or opens one, in the first repository.
    pub fn change(&mut self, random: &mut ChaCha8Rng) {
        self.now += random.random_range(0..3);
        let (now, repo) = (self.now, &mut self.repos[0]);
        let last = repo.items.keys().last().copied().unwrap_or_default();
        // Those that have not changed for long are what a walk comes by first.
        let mut oldest: Vec<(i64, u64)> = repo
            .items
            .values()
            .map(|item| (item.updated, item.number))
            .collect();
        oldest.sort_unstable();
        let range = if random.random_bool(0.5) {
            oldest.len().min(10)
        } else {
            oldest.len()
        };
        if range == 0 || random.random_bool(0.2) {
            let item = Item::invented(last + 1, now, random.random_bool(0.2), random);
            repo.items.insert(last + 1, item);
            return;
        }
        let number = oldest[random.random_range(0..range)].1;
        let item = repo.items.get_mut(&number).unwrap();
        item.updated = now;
        match random.random_range(0..4) {
            0 => item.open = !item.open,
            1 => item.title += ", still",
            2 => item.labels = vec!["bug".into()],
            _ => item.comments.push(format!("Comment at {now}")),
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.repos
            .iter()
            .position(|repo| repo.name.eq_ignore_ascii_case(name))
    }

    pub fn respond(&mut self, head: &Parts, body: &[u8], has_token: bool) -> Response<Reply> {
        if let Some(seconds) = self.retry_after.pop() {
            let mut response = reply(
                403,
                &json!({ "message": "You have exceeded a secondary rate limit." }),
            );
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            return dated(response, self.now);
        }
        let mut response = self.answer(head, body, has_token);
        let now = self.now;
        if let Some(limit) = &mut self.limit
            && !head.uri.path().starts_with("/search/")
        {
            if limit.remaining == 0 && limit.renewal > 100 {
                response = reply(403, &json!({ "message": "API rate limit exceeded." }));
            }
            limit.remaining = limit.remaining.checked_sub(1).unwrap_or(1000);
            let headers = response.headers_mut();
            headers.insert("x-ratelimit-remaining", limit.remaining.into());
            headers.insert("x-ratelimit-reset", (now + limit.renewal).into());
        }
        dated(response, now)
    }

    fn answer(&self, head: &Parts, body: &[u8], has_token: bool) -> Response<Reply> {
        let url = Url::parse(&format!("{}{}", self.url, head.uri)).unwrap();
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let path: Vec<&str> = url.path_segments().unwrap().collect();
        if let Some(elsewhere) = self.redirects.get(url.path()) {
            return redirect(elsewhere);
        }
        match path.as_slice() {
            ["graphql"] if head.method == Method::POST && has_token => self.graphql(body),
            ["graphql"] => reply(
                401,
                &json!({ "message": "This endpoint requires you to be authenticated." }),
            ),
            ["search", "issues"] => self.search(&query["q"]),
            ["repos", owner, name, rest @ ..] => {
                let name = format!("{owner}/{name}");
                match (self.find(&name), self.renamed.get(&name.to_lowercase())) {
                    (Some(id), _) => self.repository(id, rest, &query, head),
                    (None, Some(id)) => {
                        let rest: String = rest.iter().map(|part| format!("/{part}")).collect();
                        let query = url
                            .query()
                            .map_or(String::new(), |query| format!("?{query}"));
                        redirect(&format!("{}/repositories/{id}{rest}{query}", self.url))
                    }
                    (None, None) => not_found(),
                }
            }
            ["repositories", id, rest @ ..] => {
                self.repository(id.parse().unwrap(), rest, &query, head)
            }
            _ => not_found(),
        }
    }

    fn repository(
        &self,
        id: usize,
        path: &[&str],
        query: &HashMap<String, String>,
        head: &Parts,
    ) -> Response<Reply> {
        let repo = &self.repos[id];
        match path {
            [] => reply(
                200,
                &json!({ "id": id, "full_name": repo.name, "open_issues_count": 1 }),
            ),
            ["issues"] => self.list(repo, query, head),
            ["issues", number, rest @ ..] => {
                let number: u64 = number.parse().unwrap();
                if let Some((id, number)) = repo.transferred.get(&number) {
                    return redirect(&format!("{}/repositories/{id}/issues/{number}", self.url));
                }
                match (repo.items.get(&number), rest) {
                    (None, _) if repo.deleted.contains(&number) => {
                        reply(410, &json!({ "message": "This issue was deleted" }))
                    }
                    (None, _) => not_found(),
                    (Some(item), []) => reply(200, &item.rest(&repo.name, &self.url)),
                    (Some(item), ["events"]) => {
                        let events = if item.converted {
                            vec!["locked", "converted_to_discussion"]
                        } else {
                            vec![]
                        };
                        let events = events
                            .iter()
                            .map(|event| json!({ "event": event }))
                            .collect();
                        self.page(events, query, head)
                    }
                    (Some(item), ["comments"]) => {
                        let comments = item.comments.iter().map(|body| {
                            json!({
                                "id": 1, "node_id": "IC_1", "user": { "login": "bob" }, "body": body,
                                "author_association": "MEMBER", "created_at": time(item.created)
                            })
                        });
                        self.page(comments.collect(), query, head)
                    }
                    _ => not_found(),
                }
            }
            _ => not_found(),
        }
    }

    fn list(&self, repo: &Repo, query: &HashMap<String, String>, head: &Parts) -> Response<Reply> {
        assert_eq!(
            (query["sort"].as_str(), query["direction"].as_str()),
            ("updated", "asc")
        );
        let since = query
            .get("since")
            .map(|since| since.parse::<DateTime<chrono::Utc>>().unwrap().timestamp());
        let labels = query.get("labels").map(String::as_str).unwrap_or_default();
        let labels: Vec<&str> = labels
            .split(',')
            .filter(|label| !label.is_empty())
            .collect();
        let items = repo.listed().into_iter().filter(|item| {
            let is_recent = since.is_none_or(|since| {
                item.updated > since || self.inclusive && item.updated == since
            });
            let is_state = match query["state"].as_str() {
                "open" => item.open,
                "closed" => !item.open,
                _ => true,
            };
            is_recent
                && is_state
                && labels
                    .iter()
                    .all(|label| item.labels.iter().any(|has| has == label))
        });
        self.page(
            items.map(|item| item.rest(&repo.name, &self.url)).collect(),
            query,
            head,
        )
    }

    fn page(
        &self,
        all: Vec<Value>,
        query: &HashMap<String, String>,
        head: &Parts,
    ) -> Response<Reply> {
        let number = |name: &str| query.get(name).map(|text| text.parse::<usize>().unwrap());
        let (size, page) = (
            number("per_page").unwrap_or(30).min(self.page),
            number("page").unwrap_or(1),
        );
        let begin = ((page - 1) * size).min(all.len());
        let end = (begin + size).min(all.len());
        let body = Value::from(all[begin..end].to_vec());
        let etag: String = Sha256::digest(body.to_string())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let etag = HeaderValue::try_from(format!("W/\"{etag}\"")).unwrap();
        if head.headers.get(IF_NONE_MATCH) == Some(&etag) {
            return Response::builder()
                .status(304)
                .header(ETAG, etag)
                .body(Reply::empty())
                .unwrap();
        }
        let mut response = reply(200, &body);
        response.headers_mut().insert(ETAG, etag);
        if end < all.len() {
            let link = format!(
                "<{}/next>; rel=\"next\", <{}/last>; rel=\"last\"",
                self.url, self.url
            );
            response.headers_mut().insert(LINK, link.parse().unwrap());
        }
        response
    }

    fn search(&self, query: &str) -> Response<Reply> {
        let word = |prefix: &str| query.split(' ').find_map(|word| word.strip_prefix(prefix));
        let Some(id) = word("repo:").and_then(|name| self.find(name)) else {
            return reply(422, &json!({ "message": "Validation Failed" }));
        };
        let issues = self.repos[id].issues().filter(|item| match word("state:") {
            Some(state) => item.open == (state == "open"),
            None => true,
        });
        reply(200, &json!({ "total_count": issues.count(), "items": [] }))
    }

    fn graphql(&self, body: &[u8]) -> Response<Reply> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let query = body["query"].as_str().unwrap();
        let mut data = json!({});
        let mut errors = Vec::new();
        // ` r0: repository(owner: "o", name: "n") { nameWithOwner i7: issueOrPullRequest(number: 7) { … } }`
        let mut parts: Vec<&str> = query.split(": repository(owner: ").collect();
        parts.remove(0);
        for (i, part) in parts.into_iter().enumerate() {
            let alias = format!("r{i}");
            let quoted: Vec<&str> = part.split('"').collect();
            let name = format!("{}/{}", quoted[1], quoted[3]);
            let Some(id) = self
                .find(&name)
                .or_else(|| self.renamed.get(&name).copied())
            else {
                data[&alias] = Value::Null;
                errors.push(json!({ "type": "NOT_FOUND", "path": [alias] }));
                continue;
            };
            let repo = &self.repos[id];
            data[&alias] = json!({ "nameWithOwner": repo.name });
            for number in part.split("issueOrPullRequest(number: ").skip(1) {
                let number: u64 = number.split(')').next().unwrap().parse().unwrap();
                let item = repo.items.get(&number);
                data[&alias][format!("i{number}")] =
                    item.map_or(Value::Null, |item| item.graphql(&repo.name, &self.url));
                if item.is_none() {
                    errors.push(
                        json!({ "type": "NOT_FOUND", "path": [alias, format!("i{number}")] }),
                    );
                }
            }
        }
        reply(200, &json!({ "data": data, "errors": errors }))
    }
}

fn not_found() -> Response<Reply> {
    reply(404, &json!({ "message": "Not Found" }))
}

fn redirect(to: &str) -> Response<Reply> {
    let mut response = reply(301, &json!({ "message": "Moved Permanently", "url": to }));
    response.headers_mut().insert(LOCATION, to.parse().unwrap());
    response
}
