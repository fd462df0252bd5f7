//! What the API said.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{DATE, ETAG, HeaderMap, LINK};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::ClientError;

/// Characters of a server's message that an error repeats.
const MAX_MESSAGE: usize = 300;

/// An answer of success or, if an ETag was sent, of status 304.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// Where it came from in the end.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Unexpected {
            url: self.url.clone(),
            reason: error.to_string(),
        })
    }

    pub fn etag(&self) -> Option<&str> {
        self.headers.get(ETAG)?.to_str().ok()
    }

    /// When it was sent, by the server's clock.
    pub fn date(&self) -> Option<DateTime<Utc>> {
        date(&self.headers)
    }

    /// Whether another page follows.
    pub fn has_next(&self) -> bool {
        self.headers
            .get_all(LINK)
            .iter()
            .filter_map(|link| link.to_str().ok())
            .any(|link| link.contains(r#"rel="next""#))
    }
}

pub(super) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.to_utc())
}

/// What the server says about why it refuses.
pub(super) fn message(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(
        body.get("message")?
            .as_str()?
            .chars()
            .take(MAX_MESSAGE)
            .collect(),
    )
}
