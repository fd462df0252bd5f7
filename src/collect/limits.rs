//! GitHub's rate limits, by its rules: <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>.
//!
//! - The primary limit counts requests an hour. Every answer says how many are left and when the hour
//!   ends; with none left, nothing is sent before.
//! - A secondary limit is told by 403 or 429: with `Retry-After`, that is how long to rest; without, at
//!   least a minute, and twice as long each time.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::Extensions;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Request, Response, StatusCode};
use reqwest_middleware::{Error, Middleware, Next, Result};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::answer::{date, message};
use super::client::{ClientError, ClientSettings};
use super::retries::Body;
use super::{Event, Watch};

/// Rests for one request. More means that the server never lets it pass.
const MAX_RESTS: u32 = 20;

/// Rests where the server asks for it, and then repeats the request.
pub(super) struct RateLimits {
    /// By the limit's name, when a limit that is used up is renewed.
    renewals: Mutex<HashMap<&'static str, Instant>>,
    max_wait: Duration,
    secondary_rest: Duration,
    watch: Watch,
}

/// Why a request was not served.
#[derive(Debug, PartialEq)]
enum Limit {
    /// The renewal is known.
    Primary,
    Secondary {
        retry_after: Option<Duration>,
    },
}

impl RateLimits {
    pub fn new(settings: &ClientSettings) -> Self {
        Self {
            renewals: Mutex::default(),
            max_wait: settings.max_wait,
            secondary_rest: settings.secondary_rest,
            watch: settings.watch.clone(),
        }
    }

    async fn rest(&self, wait: Duration, reason: &str) -> Result<()> {
        if wait > self.max_wait {
            return Err(Error::middleware(ClientError::TooLong {
                wait,
                max: self.max_wait,
                reason: reason.into(),
            }));
        }
        let until = Instant::now() + wait;
        let mut left = wait;
        while !left.is_zero() {
            (self.watch)(Event::Rest {
                left,
                whole: wait,
                reason: reason.into(),
            });
            sleep(left.min(Duration::from_secs(1))).await;
            left = until.saturating_duration_since(Instant::now());
        }
        Ok(())
    }

    /// Remembers when a limit that this answer used up is renewed.
    fn note(&self, limit: &'static str, headers: &HeaderMap) {
        let mut renewals = self.renewals.lock().unwrap();
        match renewal(headers) {
            Some(wait) => renewals.insert(limit, Instant::now() + wait),
            None => renewals.remove(limit),
        };
    }
}

#[async_trait::async_trait]
impl Middleware for RateLimits {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let limit = limit_of(request.url().path());
        let mut secondary = self.secondary_rest;
        for _ in 0..MAX_RESTS {
            let renewal = self.renewals.lock().unwrap().get(limit).copied();
            if let Some(renewal) = renewal {
                let wait = renewal.saturating_duration_since(Instant::now());
                self.rest(wait, "the rate limit").await?;
            }
            let again = request
                .try_clone()
                .ok_or_else(|| Error::middleware(io::Error::other("the request is a stream")))?;
            let response = next.clone().run(again, extensions).await?;
            self.note(limit, response.headers());
            match exceeded(&response) {
                None => return Ok(response),
                Some(Limit::Primary) => {}
                Some(Limit::Secondary {
                    retry_after: Some(wait),
                }) => {
                    self.rest(wait, "the secondary rate limit").await?;
                }
                Some(Limit::Secondary { retry_after: None }) => {
                    let jitter = secondary.mul_f64(rand::random_range(0.0..0.1));
                    self.rest(secondary + jitter, "the secondary rate limit")
                        .await?;
                    secondary *= 2;
                }
            }
        }
        let reason = format!("the server asked for {MAX_RESTS} rests without an answer");
        let url = request.url().to_string();
        Err(Error::middleware(ClientError::Unreachable { url, reason }))
    }
}

/// The name of the limit that a request counts towards.
fn limit_of(path: &str) -> &'static str {
    if path.ends_with("/graphql") {
        "graphql"
    } else if path.contains("/search/") {
        "search"
    } else {
        "core"
    }
}

/// How long until the limit is renewed, if it is used up. The server's clock counts, not this
/// machine's. It truncates to seconds, so that the real time is never before `Date`.
fn renewal(headers: &HeaderMap) -> Option<Duration> {
    if number(headers, "x-ratelimit-remaining")? > 0 {
        return None;
    }
    let reset =
        DateTime::from_timestamp(number(headers, "x-ratelimit-reset")?.try_into().ok()?, 0)?;
    let now = date(headers).unwrap_or_else(Utc::now);
    Some((reset - now).to_std().unwrap_or(Duration::ZERO))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn exceeded(response: &Response) -> Option<Limit> {
    let headers = response.headers();
    let body = response.extensions().get::<Body>();
    let body = body.map_or(&[][..], |body| &body.0);
    let status = response.status();
    if status == StatusCode::OK {
        // GraphQL says it in the body of a success.
        let is_graphql = limit_of(response.url().path()) == "graphql";
        if !is_graphql || !is_rate_limited(body) {
            return None;
        }
    } else if let Some(wait) = number(headers, RETRY_AFTER.as_str()) {
        let refused = status == StatusCode::FORBIDDEN || status == StatusCode::TOO_MANY_REQUESTS;
        let retry_after = Some(Duration::from_secs(wait));
        return (refused || status.is_server_error()).then_some(Limit::Secondary { retry_after });
    } else if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let message = message(body).unwrap_or_default().to_lowercase();
    let is_limit = status != StatusCode::FORBIDDEN
        || message.contains("rate limit")
        || message.contains("abuse");
    if renewal(headers).is_some() {
        Some(Limit::Primary)
    } else {
        // Any other 403 is a door that stays shut.
        is_limit.then_some(Limit::Secondary { retry_after: None })
    }
}

fn is_rate_limited(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let errors = body["errors"].as_array().map_or(&[][..], Vec::as_slice);
    errors.iter().any(|error| error["type"] == "RATE_LIMITED")
}
