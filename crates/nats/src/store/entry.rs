//! What is kept of a user: JSON, under a key that any user's id has.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate::store::StoreError;
use tidegate_protocol::{Settings, UserId};

/// Of a message in the bucket. Settings have 16 KiB; as JSON, with many short keys of
/// control characters, nine times as much.
pub(super) const MAX_MESSAGE: i32 = 256 * 1024;

/// A user as a key: ids have characters that keys have not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(user: &UserId) -> Self {
        Self(Sha256::digest(user.as_str()).into())
    }

    /// One token.
    pub(super) fn token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// The settings of a user, and how long they live.
pub(super) struct Entry {
    pub(super) ttl: Duration,
    pub(super) settings: Settings,
}

#[derive(Serialize)]
struct Written<'a> {
    user: &'a str,
    ttl_ms: u64,
    settings: &'a Settings,
}

#[derive(Deserialize)]
struct Read {
    user: String,
    ttl_ms: u64,
    settings: Settings,
}

impl Entry {
    pub(super) fn encode(&self, user: &UserId) -> Result<Vec<u8>, StoreError> {
        let written = Written {
            user: user.as_str(),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            settings: &self.settings,
        };
        serde_json::to_vec(&written).map_err(StoreError::other)
    }

    /// The entry of `user`; `None` is the mark of a delete, or of an expiry.
    pub(super) fn decode(body: &[u8], user: &UserId) -> Result<Option<Self>, StoreError> {
        if body.is_empty() {
            return Ok(None);
        }
        let corrupt = |what: &str| Err(StoreError::Corrupt(what.to_owned()));
        if body.len() > MAX_MESSAGE as usize {
            return corrupt("the entry is too long");
        }
        // What serde says could have settings in it.
        let Ok(read) = serde_json::from_slice::<Read>(body) else {
            return corrupt("the entry is not JSON of user, ttl_ms and settings of at most 16 KiB");
        };
        if read.user != user.as_str() {
            return corrupt("the entry is another user's");
        }
        Ok(Some(Self {
            ttl: Duration::from_millis(read.ttl_ms),
            settings: read.settings,
        }))
    }
}
