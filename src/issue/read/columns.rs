//! The columns of a table of issues, CSV or Parquet.

use std::collections::BTreeSet;

use super::record::{Record, Repository};
use super::shape::{Count, Names, Text};
use super::{Problem, TableColumns};

/// Which columns of a table to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Those of a table of issues, by GitHub's names.
    Issue { needs_repo: bool },
    /// Those that were named: any table.
    Named(&'a TableColumns),
}

/// Where the columns that matter stand in a table.
#[derive(Default)]
pub(super) struct Columns {
    pub number: Option<usize>,
    title: Option<usize>,
    /// Together the body.
    bodies: Vec<usize>,
    label: Option<usize>,
    repo: Option<usize>,
    repository: Option<usize>,
    html_url: Option<usize>,
    url: Option<usize>,
    repository_url: Option<usize>,
    created_at: Option<usize>,
    state: Option<usize>,
    closed_at: Option<usize>,
    comments: Option<usize>,
    reactions: Option<usize>,
    labels: Option<usize>,
    author_association: Option<usize>,
}

impl Columns {
    /// Looks the columns up by name, whose case does not matter; `is_usable` says whether a column
    /// may be the one of that name. `found` describes the table's columns for the error.
    pub fn find<'a>(
        names: impl Iterator<Item = &'a str> + Clone,
        wanted: Wanted<'_>,
        is_usable: impl Fn(&str, usize) -> bool,
        found: impl FnOnce() -> String,
    ) -> Result<Self, Problem> {
        let find = |wanted: &str| {
            let is_it = |&(column, name): &(usize, &str)| {
                name.trim().eq_ignore_ascii_case(wanted) && is_usable(wanted, column)
            };
            names
                .clone()
                .enumerate()
                .find(is_it)
                .map(|(column, _)| column)
        };
        let needs_repo = match wanted {
            Wanted::Issue { needs_repo } => needs_repo,
            Wanted::Named(wanted) => return Self::named(wanted, find, found),
        };
        let [repo, repository, html_url, url, repository_url] =
            ["repo", "repository", "html_url", "url", "repository_url"].map(find);
        let names_repo = [repo, repository, html_url, url, repository_url]
            .iter()
            .any(Option::is_some);
        match (find("number"), find("title"), find("body")) {
            (Some(number), Some(title), Some(body)) if names_repo || !needs_repo => Ok(Self {
                number: Some(number),
                title: Some(title),
                bodies: vec![body],
                label: None,
                repo,
                repository,
                html_url,
                url,
                repository_url,
                created_at: find("created_at"),
                state: find("state"),
                closed_at: find("closed_at"),
                comments: find("comments"),
                reactions: find("reactions"),
                labels: find("labels"),
                author_association: find("author_association"),
            }),
            _ => Err(Problem::Columns { found: found() }),
        }
    }

    /// Of several texts the first is the title.
    fn named(
        wanted: &TableColumns,
        find: impl Fn(&str) -> Option<usize>,
        found: impl FnOnce() -> String,
    ) -> Result<Self, Problem> {
        let names = wanted.text.iter().chain(&wanted.label);
        if let Some(missing) = names.clone().find(|name| find(name).is_none()) {
            return Err(Problem::NoColumn {
                wanted: missing.clone(),
                found: found(),
            });
        }
        let mut columns: Vec<usize> = names.filter_map(|name| find(name)).collect();
        let label = wanted.label.as_ref().and_then(|_| columns.pop());
        let title = (columns.len() > 1).then(|| columns.remove(0));
        Ok(Self {
            title,
            bodies: columns,
            label,
            ..Self::default()
        })
    }

    /// All the columns, each once.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let optional = [
            self.number,
            self.title,
            self.label,
            self.repo,
            self.repository,
            self.html_url,
            self.url,
            self.repository_url,
            self.created_at,
            self.state,
            self.closed_at,
            self.comments,
            self.reactions,
            self.labels,
            self.author_association,
        ];
        let all: BTreeSet<usize> = optional
            .into_iter()
            .flatten()
            .chain(self.bodies.iter().copied())
            .collect();
        all.into_iter()
    }

    /// A row as a record, given its number and the text of its other cells.
    pub fn record(&self, number: Option<u64>, text: impl Fn(usize) -> Option<String>) -> Record {
        let optional = |column: Option<usize>| column.and_then(&text);
        let bodies: Vec<String> = self.bodies.iter().copied().filter_map(&text).collect();
        Record {
            number,
            title: self.title.map(&text),
            body: Some((!bodies.is_empty()).then(|| bodies.join("\n\n"))),
            label: optional(self.label).filter(|label| !label.trim().is_empty()),
            repo: optional(self.repo).map(Repository::Name),
            repository: optional(self.repository).map(Repository::Name),
            html_url: optional(self.html_url),
            url: optional(self.url),
            repository_url: optional(self.repository_url),
            created_at: optional(self.created_at).filter(|date| !date.is_empty()),
            state: Text(optional(self.state)),
            closed_at: Text(optional(self.closed_at)),
            comments: optional(self.comments)
                .map_or_else(Count::default, |text| Count::of_text(&text)),
            reactions: optional(self.reactions)
                .map_or_else(Count::default, |text| Count::of_text(&text)),
            labels: optional(self.labels).map_or_else(Names::default, |text| Names::of_text(&text)),
            author_association: Text(optional(self.author_association)),
            ..Record::default()
        }
    }
}

/// At most this many columns are named in an error, which is one line.
const MAX_NAMED: usize = 20;

/// Names columns for an error.
pub(super) fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let shown = |name: String| name.escape_debug().take(60).collect::<String>();
    let mut list = names
        .take(MAX_NAMED)
        .map(shown)
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        list.push_str(&format!(" and {more} more"));
    }
    list
}
