//! Issues from GitHub: whole repositories ([`collect`](fn@collect)), and the texts of single issues
//! ([`hydrate`](fn@hydrate)).
//!
//! ```text
//! Client (token, retries, rate limits) -> walk (pages) -> store (journal, then one file a repository)
//!                                      -> hydrate (batches) -> a JSONL file
//! ```
//!
//! Requests go out one after another, as GitHub asks of its users; what an answer held is on disk
//! before the next request. Nothing here prints: [`Event`]s say how far things are.

use std::sync::Arc;
use std::time::Duration;

mod answer;
mod client;
mod comments;
mod graphql;
mod hydrate;
mod journal;
mod limits;
mod record;
mod repository;
mod retries;
mod store;
mod token;
mod walk;

pub use client::{Backoff, Client, ClientError, ClientSettings};
pub use hydrate::{Fate, HydrateError, Hydrated, HydratedFile, hydrate, read_identities};
pub use record::{Filter, State};
pub use repository::{CollectError, CollectSettings, Collected, Comments, collect};
pub use store::{Folder, StoreError};
pub use token::Token;

/// What a [`Watch`] is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `done` issues are there; `total` is how many the server counted at the beginning, where known.
    Issues { done: u64, total: Option<u64> },
    /// Nothing is sent for another `left` of `whole`, which are the same at first; told once a second.
    /// `reason` completes
    /// "resting 41 s for …".
    Rest {
        left: Duration,
        whole: Duration,
        reason: String,
    },
}

/// Told how far things are, from the thread that makes the requests.
pub type Watch = Arc<dyn Fn(Event) + Send + Sync>;
