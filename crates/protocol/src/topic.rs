//! Topics, and the grammar that the default router reads them by.

use std::fmt;

use compact_str::CompactString;
use thiserror::Error;

use crate::name::is_token;

/// Longest request id, in bytes.
pub const MAX_REQUEST_ID: usize = 64;

/// A packet's topic: UTF-8 text, not empty, without control characters.
///
/// Topics of up to 24 bytes live inside the value and cost no allocation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(CompactString);

/// Why bytes are not a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicError {
    /// A topic has at least one byte.
    #[error("the topic is empty")]
    Empty,
    /// A topic is UTF-8.
    #[error("the topic is not UTF-8")]
    NotUtf8,
    /// A topic has no control characters (Unicode category Cc).
    #[error("the topic contains a control character")]
    Control,
    /// A topic fits a frame.
    #[error("the topic is longer than 65531 bytes")]
    TooLong,
}

impl Topic {
    /// Longest topic that fits a version 1 frame, in bytes.
    pub const MAX_LEN: usize = u16::MAX as usize - 4;

    /// Checks and copies `text`.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        Self::check(text)?;
        Ok(Self(CompactString::new(text)))
    }

    /// Checks and copies bytes that came from a client.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TopicError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TopicError::NotUtf8)?;
        Self::new(text)
    }

    fn check(text: &str) -> Result<(), TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(TopicError::TooLong);
        }
        // Nearly all topics are ASCII: look at bytes first.
        let mut ascii = true;
        let mut control = false;
        for &b in text.as_bytes() {
            ascii &= b < 0x80;
            control |= b < 0x20 || b == 0x7f;
        }
        if control || (!ascii && text.chars().any(char::is_control)) {
            return Err(TopicError::Control);
        }
        Ok(())
    }

    /// The topic's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a topic is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the topic belongs to the protocol itself: it begins with `$`.
    pub fn is_reserved(&self) -> bool {
        self.0.as_bytes()[0] == b'$'
    }

    /// Reads the topic by the default router's grammar.
    pub fn route(&self) -> Result<Route<'_>, RouteError> {
        Route::parse(self.as_str())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<&str> for Topic {
    type Error = TopicError;
    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;
    fn try_from(text: String) -> Result<Self, TopicError> {
        Self::check(&text)?;
        Ok(Self(CompactString::from(text)))
    }
}

/// A topic, read as `service "/" method [ "/" request_id ]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// Service, `[A-Za-z0-9_-]{1,64}`.
    pub service: &'a str,
    /// Method, `[A-Za-z0-9_-]{1,64}`.
    pub method: &'a str,
    /// Present when the client asks for an answer. 1 to 64 bytes.
    pub request_id: Option<&'a str>,
}

/// Why a topic does not name a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RouteError {
    /// Topics that begin with `$` belong to the protocol.
    #[error("topics that begin with $ are reserved")]
    Reserved,
    /// Two or three segments are allowed.
    #[error("a topic is service/method or service/method/request-id")]
    Segments,
    /// A service or method is not `[A-Za-z0-9_-]{1,64}`.
    #[error("service and method are 1 to 64 of A-Z a-z 0-9 _ -")]
    Name,
    /// A request id has 1 to 64 bytes.
    #[error("a request id has 1 to 64 bytes")]
    RequestId,
}

impl<'a> Route<'a> {
    /// Reads `topic`.
    pub fn parse(topic: &'a str) -> Result<Self, RouteError> {
        if topic.starts_with('$') {
            return Err(RouteError::Reserved);
        }
        let mut segments = topic.split('/');
        let service = segments.next().unwrap_or_default();
        let method = segments.next().ok_or(RouteError::Segments)?;
        let request_id = segments.next();
        if segments.next().is_some() {
            return Err(RouteError::Segments);
        }
        if !is_token(service) || !is_token(method) {
            return Err(RouteError::Name);
        }
        if request_id.is_some_and(|id| id.is_empty() || id.len() > MAX_REQUEST_ID) {
            return Err(RouteError::RequestId);
        }
        Ok(Self {
            service,
            method,
            request_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_value_as_a_topic() {
        for b in 0..=255u8 {
            let got = Topic::from_bytes(&[b'a', b, b'z']);
            match b {
                0..=0x1f | 0x7f => assert_eq!(got, Err(TopicError::Control), "{b:#x}"),
                0x80.. => assert_eq!(got, Err(TopicError::NotUtf8), "{b:#x}"),
                _ => assert!(got.is_ok(), "{b:#x}"),
            }
        }
        assert_eq!(Topic::new("a\u{85}"), Err(TopicError::Control));
        assert!(Topic::new("喵/喵").is_ok());
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
    }

    #[test]
    fn grammar() {
        let route = |t| Route::parse(t).map(|r| (r.service, r.method, r.request_id));
        assert_eq!(route("echo/echo/1"), Ok(("echo", "echo", Some("1"))));
        assert_eq!(route("chat/say"), Ok(("chat", "say", None)));
        assert_eq!(route("chat"), Err(RouteError::Segments));
        assert_eq!(route("a/b/c/d"), Err(RouteError::Segments));
        assert_eq!(route("a/b/"), Err(RouteError::RequestId));
        assert_eq!(route("/b"), Err(RouteError::Name));
        assert_eq!(route("a/"), Err(RouteError::Name));
        assert_eq!(route("a.b/c"), Err(RouteError::Name));
        assert_eq!(route("a/*"), Err(RouteError::Name));
        assert_eq!(route("a/>"), Err(RouteError::Name));
        assert_eq!(route("$hello"), Err(RouteError::Reserved));
        let long_service = format!("{}/b", "a".repeat(65));
        assert_eq!(route(&long_service), Err(RouteError::Name));
        let long_id = format!("a/b/{}", "1".repeat(65));
        assert_eq!(route(&long_id), Err(RouteError::RequestId));
    }
}
