//! The secret that GitHub knows its user by.

use std::fmt;

use reqwest::header::HeaderValue;

/// An access token. Nothing shows it: it has no `Display`, its `Debug` leaves it out, and the header
/// that carries it is marked sensitive, which the HTTP libraries' own logs respect.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// `None` if `text`, without spaces around it, is empty or cannot stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        Some(Self(header))
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_by_debug_nor_by_its_header() {
        let token = Token::new(" ghp_secret\n").unwrap();
        for shown in [format!("{token:?}"), format!("{:?}", token.header())] {
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert_eq!(token.header(), "Bearer ghp_secret");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        for text in ["", " \n", "two words", "line\nbreak", "tökén"] {
            assert!(Token::new(text).is_none(), "{text:?}");
        }
    }
}
