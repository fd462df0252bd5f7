//! One GitHub API: requests that carry the token to its host only, and come back with an answer that
//! is whole, whatever rests and repetitions that took.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{StatusCode, Url, redirect};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, RequestBuilder};

use super::answer::{Answer, message};
use super::limits::RateLimits;
use super::retries::{Patience, WholeBody};
use super::{Token, Watch};

/// Redirects followed for one request: a renamed repository needs one, renamed again another.
const MAX_REDIRECTS: usize = 5;

/// How to reach an API.
#[derive(Clone)]
pub struct ClientSettings {
    /// `https://api.github.com`, or `https://HOST/api/v3` of GitHub Enterprise. Plain `http` is for
    /// loopback only.
    pub api_url: String,
    pub token: Option<Token>,
    /// The longest single rest, whatever asks for it; what needs a longer one fails.
    pub max_wait: Duration,
    /// For connecting, and for each wait for more of an answer.
    pub timeout: Duration,
    /// Between attempts after network errors, answers cut short and 5xx.
    pub backoff: Backoff,
    /// The first rest when GitHub says "secondary rate limit" without saying for how long; it asks
    /// for at least a minute, and to double it each time.
    pub secondary_rest: Duration,
    /// Raised to give up as soon as possible, with [`ClientError::Stopped`].
    pub stop: Arc<AtomicBool>,
    pub watch: Watch,
}

/// Exponential back-off with jitter: the wait before attempt `n + 1` is drawn between `first` and
/// `first * 2^n`, at most `longest`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    pub retries: u32,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            api_url: "https://api.github.com".into(),
            token: None,
            // The primary rate limit resets every hour.
            max_wait: Duration::from_secs(65 * 60),
            timeout: Duration::from_secs(30),
            backoff: Backoff {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(120),
                retries: 8,
            },
            secondary_rest: Duration::from_secs(60),
            stop: Arc::default(),
            watch: Arc::new(|_| {}),
        }
    }
}

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url:?} is not the address of an API: {reason}")]
    ApiUrl { url: String, reason: String },
    #[error("stopped")]
    Stopped,
    #[error(
        "{reason} asks for a rest of {} s, and --max-wait allows {} s: run the same command again \
         later, or allow more; it goes on where it is",
        wait.as_secs(), max.as_secs()
    )]
    TooLong {
        wait: Duration,
        max: Duration,
        reason: String,
    },
    #[error(
        "{url} cannot be fetched: {reason}; run the same command again, it goes on where it is"
    )]
    Unreachable { url: String, reason: String },
    #[error("{}", refusal(*status, url, message))]
    Refused {
        status: StatusCode,
        url: String,
        message: String,
    },
    #[error("{url} answers with something else than expected: {reason}")]
    Unexpected { url: String, reason: String },
}

fn refusal(status: StatusCode, url: &str, message: &str) -> String {
    let remedy = match status {
        StatusCode::UNAUTHORIZED => "the token is not accepted: make a new one, or unset it",
        StatusCode::NOT_FOUND => {
            "no such repository, or it is private: check the name, or set a token that may read it"
        }
        StatusCode::GONE => "its issues are turned off or deleted",
        StatusCode::FORBIDDEN | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
            "access is refused: a token that may read it is needed"
        }
        status if status.is_redirection() => "it leads to another host, which is not followed",
        status if status.is_server_error() => {
            "run the same command again later, it goes on where it is"
        }
        _ => "this is not expected",
    };
    format!("{url} answers {status} ({message}): {remedy}")
}

/// Makes requests of one API, one at a time.
#[derive(Debug)]
pub struct Client {
    http: ClientWithMiddleware,
    /// Without rests and repetitions, for what is nice to have.
    hasty: ClientWithMiddleware,
    /// Without a slash at its end.
    api: String,
    stop: Arc<AtomicBool>,
    pub(super) watch: Watched,
    has_token: bool,
}

/// A [`Watch`] that can be shown.
#[derive(Clone)]
pub(super) struct Watched(pub Watch);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Client {
    /// # Errors
    /// If the API's address is not an `https` one, or an `http` one on loopback.
    pub fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        let wrong = |reason: &dyn fmt::Display| ClientError::ApiUrl {
            url: settings.api_url.clone(),
            reason: reason.to_string(),
        };
        let url = Url::parse(&settings.api_url).map_err(|error| wrong(&error))?;
        let loopback = is_loopback(&url);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => {
                return Err(wrong(
                    &"it has to begin with https://, so that the token travels safely",
                ));
            }
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(wrong(
                &"it has to be free of passwords and queries; a token comes from GITHUB_TOKEN",
            ));
        }

        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/vnd.github+json"),
        );
        headers.insert(
            "x-github-api-version",
            HeaderValue::from_static("2022-11-28"),
        );
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("faultlens/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.timeout)
            .read_timeout(settings.timeout)
            .https_only(!loopback)
            .redirect(same_origin());
        if loopback {
            // A proxy would see what goes over plain http.
            builder = builder.no_proxy();
        }
        if let Some(token) = &settings.token {
            headers.insert(AUTHORIZATION, token.header());
        }
        let http = builder
            .default_headers(headers)
            .build()
            .map_err(|error| wrong(&chain(&error)))?;
        Ok(Self {
            hasty: ClientBuilder::new(http.clone()).with(WholeBody).build(),
            http: ClientBuilder::new(http)
                .with(RateLimits::new(&settings))
                .with(Patience::new(&settings).middleware())
                .with(WholeBody)
                .build(),
            api: settings.api_url.trim_end_matches('/').into(),
            stop: settings.stop,
            watch: Watched(settings.watch),
            has_token: settings.token.is_some(),
        })
    }

    /// Whether requests carry a token.
    pub fn has_token(&self) -> bool {
        self.has_token
    }

    /// The API's address, which tells collections of different servers apart.
    pub fn api_url(&self) -> &str {
        &self.api
    }

    /// The answer to `GET path?query`. If `etag` still names the current version, it is an empty one
    /// of status 304, which counts towards no rate limit.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        etag: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let mut request = self.http.get(format!("{}{path}", self.api)).query(query);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        self.send(request).await
    }

    /// As [`get`](Self::get), tried once.
    pub(super) async fn get_once(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Answer, ClientError> {
        self.send(self.hasty.get(format!("{}{path}", self.api)).query(query))
            .await
    }

    /// The answer to a GraphQL query. Its endpoint stands beside the REST API: at `/graphql` on
    /// github.com, at `/api/graphql` where that is at `/api/v3`.
    pub(super) async fn graphql(&self, query: &str) -> Result<Answer, ClientError> {
        let base = self.api.strip_suffix("/v3").unwrap_or(&self.api);
        let body = serde_json::json!({ "query": query }).to_string();
        let request = self.http.post(format!("{base}/graphql")).body(body);
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let response = tokio::select! {
            biased;
            () = self.stopped() => return Err(ClientError::Stopped),
            response = request.send() => response.map_err(|error| self.failed(error))?,
        };
        let url = response.url().to_string();
        let status = response.status();
        let headers = response.headers().clone();
        let body = response
            .bytes()
            .await
            .map_err(|error| self.failed(error.into()))?;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(Answer {
                status,
                url,
                headers,
                body,
            });
        }
        let message = message(&body).unwrap_or_else(|| "without a message".into());
        Err(ClientError::Refused {
            status,
            url,
            message,
        })
    }

    async fn stopped(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn failed(&self, error: Error) -> ClientError {
        let url = error.url().map_or_else(|| self.api.clone(), Url::to_string);
        match error {
            Error::Middleware(error) => error.downcast().unwrap_or_else(|error| {
                let reason = chain(error.as_ref());
                ClientError::Unreachable { url, reason }
            }),
            Error::Reqwest(error) => {
                let reason = chain(&error);
                ClientError::Unreachable { url, reason }
            }
        }
    }
}

/// Follows redirects that stay where they are: those of renamed repositories and moved issues do.
/// Any other is given back as it is, so that neither the token nor a question goes elsewhere.
fn same_origin() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let stays = attempt
            .previous()
            .last()
            .is_some_and(|from| from.origin() == attempt.url().origin());
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("it redirects in a circle")
        } else if stays {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(api_url: &str) -> Result<Client, ClientError> {
        Client::new(ClientSettings {
            api_url: api_url.into(),
            token: Token::new("ghp_secret"),
            ..ClientSettings::default()
        })
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for url in [
            "https://api.github.com",
            "https://git.example.com/api/v3/",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost:8080",
        ] {
            assert!(client(url).is_ok(), "{url}");
        }
        for url in [
            "http://api.github.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "ftp://localhost",
            "https://user:secret@git.example.com",
            "api.github.com",
        ] {
            assert!(
                matches!(client(url), Err(ClientError::ApiUrl { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn a_client_does_not_show_its_token() {
        let shown = format!("{:?}", client("https://api.github.com").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
