//! All issues of a repository, page by page.
//!
//! The REST API's list of issues is walked in order of the last change, oldest first, and each page is
//! asked for by time (`since`), not by its number:
//!
//! - Nothing is lost when an issue changes between two pages: it moves to the end, where the walk comes
//!   by later. Page numbers would skip the issue that moves up across a page's end.
//! - There is no limit to how many issues can be reached; GitHub's search ends at 1,000, and page
//!   numbers are refused for large repositories.
//! - The walk ends where the next run begins: what has changed since is the same question again, and if
//!   nothing has, its ETag makes the answer an empty one that counts towards no limit.
//! - It works without a token, and the records have the form that the rest of the world knows. GraphQL
//!   would give pages of 100 issues too, without the pull requests among them, but needs a token.
//!
//! An issue that is deleted or moved to another repository disappears from the list without a trace:
//! what was collected of it stays as it was. Removing the repository's file collects it anew.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::client::{Client, ClientError};
use super::journal::{Begin, Cursor, Page};
use super::record::{Record, State, is_pull_request, number, updated_at};
use super::repository::{CollectError, CollectSettings};
use super::store::Store;
use super::{Event, comments};
use crate::issue::IssueId;

/// The most that GitHub gives at once.
pub(super) const PER_PAGE: usize = 100;

/// Times are in whole seconds, and whether `since` includes its own second is not said for certain:
/// a second earlier, it does not matter.
pub(super) const OVERLAP: TimeDelta = TimeDelta::seconds(1);

/// A second that lies this far back has seen its last change, even on a server that lags behind.
const SETTLED: TimeDelta = TimeDelta::seconds(60);

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing has changed since the last.
    Unchanged,
    Whole,
    Limited,
}

pub(super) struct Walk<'a> {
    pub client: &'a Client,
    pub store: Store,
    pub begin: Begin,
    pub settings: &'a CollectSettings,
    /// What became of issues so far.
    pub new: u64,
    pub changed: u64,
    pub gone: u64,
}

/// A page of issues and pull requests.
struct Items {
    items: Vec<Map<String, Value>>,
    has_next: bool,
    answer: Answer,
}

/// What became of a page.
struct Taken {
    /// The last change of the last item that was looked at.
    reached: Option<DateTime<Utc>>,
    limited: bool,
}

impl Walk<'_> {
    /// Walks from where the journal is to the end, and leaves what it finds in the journal.
    pub async fn run(&mut self) -> Result<End, CollectError> {
        let mut cursor = self.cursor();
        let mut etag = cursor.etag.take();
        cursor.complete = false;
        while !cursor.complete {
            let Some(first) = self.page(&cursor, 1, etag.take().as_deref()).await? else {
                return Ok(End::Unchanged);
            };
            let (page, taken) = self.take(first.items).await?;
            if !first.has_next && !taken.limited {
                self.end(&mut cursor, page, first.answer.etag())?;
                continue;
            }
            let moved = advance(&mut cursor, taken.reached);
            if moved || taken.limited {
                self.save(page, Some(&cursor))?;
                if taken.limited {
                    return Ok(End::Limited);
                }
                continue;
            }
            // More issues share a second than fit a page.
            self.save(page, None)?;
            let taken = self.through_second(&cursor).await?;
            if taken.limited {
                return Ok(End::Limited);
            }
            let times = taken.reached.zip(first.answer.date());
            if advance(&mut cursor, taken.reached) {
                self.save(Page::default(), Some(&cursor))?;
            } else if times.is_some_and(|(reached, now)| now - reached > SETTLED) {
                // So that the next run has less to ask for than all of that second.
                cursor.since = taken.reached.map(|reached| reached + OVERLAP);
                self.save(Page::default(), Some(&cursor))?;
            } else {
                self.end(&mut cursor, Page::default(), None)?;
            }
        }
        Ok(End::Whole)
    }

    /// After the last page: with a filter, issues may have come to pass it or ceased to since the walk
    /// began, so that it goes on from there without. Else it is complete.
    fn end(
        &mut self,
        cursor: &mut Cursor,
        page: Page,
        etag: Option<&str>,
    ) -> Result<(), CollectError> {
        if cursor.filtered {
            cursor.filtered = false;
            cursor.since = Some(self.begin.at - SETTLED).max(self.begin.filter.since);
        } else {
            cursor.complete = true;
            cursor.etag = etag.map(str::to_owned);
        }
        self.save(page, Some(cursor))
    }

    fn cursor(&self) -> Cursor {
        let journal = self.store.journal.as_ref();
        journal
            .map(|journal| journal.cursor.clone())
            .unwrap_or_default()
    }

    /// Walks through the pages that begin at the cursor by their numbers, until an item changed later
    /// or the end. When an item among them changes, those behind it move up, and one may move to a page
    /// that was read already. Items never move back: going through the pages again, from the last to
    /// the first, finds every one.
    async fn through_second(&mut self, cursor: &Cursor) -> Result<Taken, CollectError> {
        let mut reached = None;
        let mut last = 1;
        let mut has_next = true;
        while has_next && reached.is_none_or(|reached| Some(reached - OVERLAP) <= cursor.since) {
            last += 1;
            let taken = self.take_page(cursor, last, &mut has_next).await?;
            reached = reached.max(taken.reached);
            if taken.limited {
                return Ok(taken);
            }
        }
        for page in (1..last).rev() {
            let taken = self.take_page(cursor, page, &mut has_next).await?;
            if taken.limited {
                return Ok(taken);
            }
        }
        Ok(Taken {
            reached,
            limited: false,
        })
    }

    async fn take_page(
        &mut self,
        cursor: &Cursor,
        page: u32,
        has_next: &mut bool,
    ) -> Result<Taken, CollectError> {
        let Some(items) = self.page(cursor, page, None).await? else {
            return Ok(Taken {
                reached: None,
                limited: false,
            });
        };
        *has_next = items.has_next;
        let (page, taken) = self.take(items.items).await?;
        self.save(page, None)?;
        Ok(taken)
    }

    /// Fetches a page; `None` if it still has the ETag.
    async fn page(
        &self,
        cursor: &Cursor,
        page: u32,
        etag: Option<&str>,
    ) -> Result<Option<Items>, CollectError> {
        let filter = &self.begin.filter;
        let state = if cursor.filtered {
            filter.state
        } else {
            State::All
        };
        let mut query = vec![
            ("state", state.name().to_owned()),
            ("sort", "updated".into()),
            ("direction", "asc".into()),
            ("per_page", PER_PAGE.to_string()),
        ];
        if let Some(since) = cursor.since {
            query.push(("since", since.format("%FT%TZ").to_string()));
        }
        if cursor.filtered && !filter.labels.is_empty() {
            query.push(("labels", filter.labels.join(",")));
        }
        if page > 1 {
            query.push(("page", page.to_string()));
        }
        let path = format!("/repos/{}/issues", self.begin.name);
        let answer = self.client.get(&path, &query, etag).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let items = answer.json()?;
        Ok(Some(Items {
            items,
            has_next: answer.has_next(),
            answer,
        }))
    }

    /// Keeps what is new on a page. Where that takes further requests, what they gave is saved at once;
    /// the rest is for the caller to save.
    async fn take(
        &mut self,
        items: Vec<Map<String, Value>>,
    ) -> Result<(Page, Taken), CollectError> {
        let mut page = Page::default();
        let mut reached = None;
        for fields in items {
            let (number, updated) = identified(&fields, &self.begin.name)?;
            if !is_pull_request(&fields) {
                let before = self.store.record(number)?;
                let passes = self.begin.filter.passes(&fields);
                let id = IssueId {
                    repo: self.begin.repo.clone(),
                    number,
                };
                let record = Record::new(fields, &id);
                if !passes {
                    if before.is_some() {
                        self.gone += 1;
                        page.gone(number);
                    }
                } else if is_newer(&record, before.as_deref()) {
                    if self
                        .settings
                        .limit
                        .is_some_and(|limit| self.new + self.changed >= limit)
                    {
                        return Ok((
                            page,
                            Taken {
                                reached,
                                limited: true,
                            },
                        ));
                    }
                    page = self.keep(page, number, record).await?;
                    let counter = if before.is_some() {
                        &mut self.changed
                    } else {
                        &mut self.new
                    };
                    *counter += 1;
                }
            }
            reached = reached.max(Some(updated));
        }
        Ok((
            page,
            Taken {
                reached,
                limited: false,
            },
        ))
    }

    async fn keep(
        &mut self,
        mut page: Page,
        number: u64,
        record: Record,
    ) -> Result<Page, CollectError> {
        let Some(wanted) = self.settings.comments else {
            page.issue(number, &record.line());
            return Ok(page);
        };
        let count = record.0.get("comments").and_then(Value::as_u64);
        let comments = match count {
            Some(0) => Vec::new(),
            _ => comments::fetch(self.client, &self.begin.name, number, wanted).await?,
        };
        page.issue(number, &record.with_comments(comments).line());
        self.save(page, None)?;
        Ok(Page::default())
    }

    fn save(&mut self, page: Page, cursor: Option<&Cursor>) -> Result<(), CollectError> {
        if cursor.is_some() || !page.is_empty() {
            self.store.add(page, cursor)?;
        }
        let (done, total) = (self.store.len()?, self.begin.total);
        (self.client.watch.0)(Event::Issues { done, total });
        Ok(())
    }
}

/// Moves a cursor behind what was reached. Returns whether that is further than it was.
fn advance(cursor: &mut Cursor, reached: Option<DateTime<Utc>>) -> bool {
    let since = reached.map(|reached| reached - OVERLAP);
    let moved = since > cursor.since;
    if moved {
        cursor.since = since;
    }
    moved
}

fn identified(
    fields: &Map<String, Value>,
    repo: &str,
) -> Result<(u64, DateTime<Utc>), ClientError> {
    number(fields)
        .zip(updated_at(fields))
        .ok_or_else(|| ClientError::Unexpected {
            url: format!("the list of issues of {repo}"),
            reason: "an issue has no number or no updated_at".into(),
        })
}

/// Whether a record differs from the one there is, and is not older: servers that answer may lag behind
/// each other.
fn is_newer(record: &Record, before: Option<&[u8]>) -> bool {
    let Some(before) = before else {
        return true;
    };
    let before: Map<String, Value> = serde_json::from_slice(before).unwrap_or_default();
    let before = Record(before).without_comments();
    *record != before && updated_at(&record.0) >= updated_at(&before.0)
}
