//! What makes a request be made again: the network failed, the answer is cut short, or the server is
//! in trouble.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Extensions;
use reqwest::header::RETRY_AFTER;
use reqwest::{Request, Response, ResponseBuilderExt, StatusCode};
use reqwest_middleware::{Error, Middleware, Next, Result};
use reqwest_retry::policies::ExponentialBackoff;
use reqwest_retry::{
    Jitter, RetryDecision, RetryPolicy, RetryTransientMiddleware, Retryable, RetryableStrategy,
};
use serde::de::IgnoredAny;

use super::client::{ClientSettings, chain};
use super::{Event, Watch};

/// Reads an answer to its end, so that one that is cut short counts as a failure of the network, and
/// keeps the bytes as an extension, [`Body`], for whoever wants to look at them.
pub(super) struct WholeBody;

/// The bytes of an answer.
#[derive(Clone)]
pub(super) struct Body(pub Bytes);

#[async_trait::async_trait]
impl Middleware for WholeBody {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let response = next.run(request, extensions).await?;
        let mut whole = http::Response::builder()
            .status(response.status())
            .url(response.url().clone());
        if let Some(headers) = whole.headers_mut() {
            headers.clone_from(response.headers());
        }
        let status = response.status();
        let bytes = response.bytes().await?;
        // Without a length in its head, an answer that is cut short can only be told by its content.
        if status == StatusCode::OK && serde_json::from_slice::<IgnoredAny>(&bytes).is_err() {
            let reason = "the answer is cut short or no JSON";
            return Err(Error::middleware(io::Error::new(
                ErrorKind::UnexpectedEof,
                reason,
            )));
        }
        let whole = whole
            .extension(Body(bytes.clone()))
            .body(bytes)
            .map_err(Error::middleware)?;
        Ok(whole.into())
    }
}

/// When to try again, and after how long.
#[derive(Clone)]
pub(super) struct Patience {
    backoff: ExponentialBackoff,
    /// Why the next attempt is needed.
    reason: Arc<Mutex<String>>,
    watch: Watch,
}

impl Patience {
    pub fn new(settings: &ClientSettings) -> Self {
        let longest = settings.backoff.longest.min(settings.max_wait);
        Self {
            backoff: ExponentialBackoff::builder()
                .retry_bounds(settings.backoff.first.min(longest), longest)
                .jitter(Jitter::Bounded)
                .build_with_max_retries(settings.backoff.retries),
            reason: Arc::default(),
            watch: settings.watch.clone(),
        }
    }

    pub fn middleware(self) -> RetryTransientMiddleware<Self, Self> {
        RetryTransientMiddleware::new_with_policy_and_strategy(self.clone(), self)
    }

    fn again(&self, reason: String) -> Option<Retryable> {
        *self.reason.lock().unwrap() = reason;
        Some(Retryable::Transient)
    }
}

impl RetryableStrategy for Patience {
    fn handle(&self, result: &Result<Response>) -> Option<Retryable> {
        match result {
            // Whoever says for how long is waited for elsewhere.
            Ok(response) if response.headers().contains_key(RETRY_AFTER) => None,
            Ok(response)
                if response.status().is_server_error()
                    || response.status() == StatusCode::REQUEST_TIMEOUT =>
            {
                self.again(format!("the server, which answers {}", response.status()))
            }
            Ok(_) => None,
            Err(Error::Reqwest(error)) if error.is_builder() || error.is_redirect() => None,
            Err(Error::Reqwest(error)) => self.again(format!("the network ({})", chain(error))),
            Err(Error::Middleware(error)) => self.again(format!("the network ({error})")),
        }
    }
}

impl RetryPolicy for Patience {
    fn should_retry(&self, began: SystemTime, retries: u32) -> RetryDecision {
        let decision = self.backoff.should_retry(began, retries);
        if let RetryDecision::Retry { execute_after } = decision {
            let wait = execute_after
                .duration_since(SystemTime::now())
                .unwrap_or(Duration::ZERO);
            (self.watch)(Event::Rest {
                left: wait,
                whole: wait,
                reason: self.reason.lock().unwrap().clone(),
            });
        }
        decision
    }
}
