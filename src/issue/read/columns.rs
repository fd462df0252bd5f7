//! The columns of a table of issues, CSV or Parquet.

use super::Problem;
use super::record::{Record, Repository};

/// Where the columns that matter stand in a table.
pub(super) struct Columns {
    pub number: usize,
    title: usize,
    body: usize,
    repo: Option<usize>,
    repository: Option<usize>,
    html_url: Option<usize>,
    url: Option<usize>,
    repository_url: Option<usize>,
    created_at: Option<usize>,
}

impl Columns {
    /// Looks the columns up by name, whose case does not matter; `is_usable` says whether a column
    /// may be the one of that name. `found` describes the table's columns for the error.
    pub fn find<'a>(
        names: impl Iterator<Item = &'a str> + Clone,
        needs_repo: bool,
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
        let [repo, repository, html_url, url, repository_url] =
            ["repo", "repository", "html_url", "url", "repository_url"].map(find);
        let names_repo = [repo, repository, html_url, url, repository_url]
            .iter()
            .any(Option::is_some);
        match (find("number"), find("title"), find("body")) {
            (Some(number), Some(title), Some(body)) if names_repo || !needs_repo => Ok(Self {
                number,
                title,
                body,
                repo,
                repository,
                html_url,
                url,
                repository_url,
                created_at: find("created_at"),
            }),
            _ => Err(Problem::Columns { found: found() }),
        }
    }

    /// All the columns, each once.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        let optional = [
            self.repo,
            self.repository,
            self.html_url,
            self.url,
            self.repository_url,
            self.created_at,
        ];
        [self.number, self.title, self.body]
            .into_iter()
            .chain(optional.into_iter().flatten())
    }

    /// A row as a record, given its number and the text of its other cells.
    pub fn record(&self, number: Option<u64>, text: impl Fn(usize) -> Option<String>) -> Record {
        let optional = |column: Option<usize>| column.and_then(&text);
        Record {
            number,
            title: Some(text(self.title)),
            body: Some(text(self.body)),
            repo: optional(self.repo).map(Repository::Name),
            repository: optional(self.repository).map(Repository::Name),
            html_url: optional(self.html_url),
            url: optional(self.url),
            repository_url: optional(self.repository_url),
            created_at: optional(self.created_at).filter(|date| !date.is_empty()),
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
