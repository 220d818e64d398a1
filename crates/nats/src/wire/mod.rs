//! Encodings: what stands in headers and bodies, both ways. Pure code, no I/O.
//!
//! - [`call`]: calls of services, and their answers.
//! - [`event`]: what services are told.
//! - [`session`]: operations on sessions, one and many, and their results.
//! - [`gate`]: requests to gates, and their replies, in parts where they are large.
//! - [`error`]: why a gate did not do it.

pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod gate;
pub(crate) mod session;
#[cfg(test)]
mod tests;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(test)]
use crate::header::Headers;
use crate::header::Malformed;

/// Longest JSON body of a request: a thousand users, of the longest names.
pub(crate) const MAX_JSON: usize = 768 * 1024;
/// A reply is sent in parts of about this many bytes.
pub(crate) const MAX_PART: usize = 512 * 1024;
/// Most parts of a reply.
pub(crate) const MAX_PARTS: usize = 64;

/// What goes into a message beside its subjects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Envelope {
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) body: Bytes,
}

impl Envelope {
    pub(crate) fn new(headers: HeaderMap, body: impl Into<Bytes>) -> Self {
        Self {
            headers: (!headers.is_empty()).then_some(headers),
            body: body.into(),
        }
    }

    /// With a body of JSON and no headers.
    pub(crate) fn json(body: &impl Serialize) -> Self {
        Self::new(HeaderMap::new(), write_json(body))
    }

    /// The headers, to add some.
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers.get_or_insert_default()
    }

    /// As it looks to whoever gets it.
    #[cfg(test)]
    pub(crate) fn arrived(&self) -> (Headers<'_>, &Bytes) {
        (Headers(self.headers.as_ref()), &self.body)
    }
}

/// A struct of strings and numbers always serializes.
pub(crate) fn write_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Reads a JSON body of a request.
pub(crate) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    if body.len() > MAX_JSON {
        return Err(Malformed::new("body", "is too long"));
    }
    serde_json::from_slice(body).map_err(|e| Malformed::because("body", &e))
}
