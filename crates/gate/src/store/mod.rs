//! Where settings persist: by user, with an expiry.
//!
//! - This file: the trait and its error.
//! - [`memory`]: a store within the process.
//! - [`conformance`]: the rules of the trait as a suite that runs on any store.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thiserror::Error;
use tidegate_protocol::{Settings, UserId};

pub mod conformance;
pub(crate) mod keeper;
pub mod memory;

pub use memory::MemoryStore;

/// Keeps the settings of users.
///
/// An entry expires when its time to live has passed since the last
/// [`save`](Self::save) or [`heartbeat`](Self::heartbeat); an expired entry is not
/// there. Operations on one user that follow each other (the next begins when the last
/// has answered, or was given up) take effect in that order.
/// [`conformance::run`] checks the rules on a store of your own.
///
/// The gate gives each operation a deadline and drops the future when it has passed:
/// whether the operation took effect is then open.
pub trait Store: Send + Sync + 'static {
    /// Keeps `settings` (at most 16 KiB) for `user`, in place of what was there, and
    /// lets them expire after `ttl`. Empty settings are an entry too.
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets `user`; one that is not there is no error.
    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What is kept for `user`; `None` when nothing is. Does not extend the expiry.
    fn query<'a>(&'a self, user: &'a UserId)
    -> BoxFuture<'a, Result<Option<Settings>, StoreError>>;

    /// Lets the entries of `users` expire `ttl` from now. Users that are not there are
    /// no error and are not made.
    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Why a store did not do its part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store has no room: for another user, or for anything. Nothing was changed.
    #[error("the store is full")]
    Full,
    /// What is kept cannot be read.
    #[error("the stored settings cannot be read: {0}")]
    Corrupt(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// The error's kind for logs and metric labels, from a fixed set.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Full => "full",
            Self::Corrupt(_) => "corrupt",
            Self::Other(_) => "other",
        }
    }

    /// Anything that displays itself, as [`StoreError::Other`].
    pub fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }
}
