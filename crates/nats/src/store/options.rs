//! What the bucket is like, and why it cannot be used.

use std::time::Duration;

use async_nats::jetstream::stream::StorageType;
use thiserror::Error;

use crate::link::ConnectError;

/// The bucket of a [`KvStore`](super::KvStore). Its name is `<prefix>-settings`, with
/// the prefix of the [`NatsOptions`](crate::NatsOptions), dots in it as `-`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KvStoreOptions {
    /// On how many servers the bucket is kept: 1, 3 or 5. Default 1.
    pub replicas: usize,
    /// In memory only: lost when its servers stop. Default false.
    pub in_memory: bool,
    /// How large it may become; beyond, saves are answered with
    /// [`StoreError::Full`](tidegate::store::StoreError::Full). Default: what the
    /// account has.
    pub max_bytes: Option<u64>,
    /// Makes the bucket where there is none, at the start and whenever it is gone. If
    /// not, it must be there (default true).
    pub create: bool,
    /// For one operation, with all of its attempts: below the gate's deadline for its
    /// store. Default 4 s.
    pub timeout: Duration,
}

impl Default for KvStoreOptions {
    fn default() -> Self {
        Self {
            replicas: 1,
            in_memory: false,
            max_bytes: None,
            create: true,
            timeout: Duration::from_secs(4),
        }
    }
}

impl KvStoreOptions {
    pub(super) fn storage(&self) -> StorageType {
        if self.in_memory {
            StorageType::Memory
        } else {
            StorageType::File
        }
    }
}

/// Why a store does not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KvStoreError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// JetStream does not answer: it is off, has no leader, or the user may not ask.
    #[error("JetStream does not answer for the bucket {bucket}: {why}")]
    NoAnswer {
        /// The bucket.
        bucket: String,
        /// What happened.
        why: String,
    },
    /// There is none, and it is not to be made.
    #[error("there is no bucket {bucket}")]
    NoBucket {
        /// The bucket.
        bucket: String,
    },
    /// JetStream refused to make it or to tell of it.
    #[error("JetStream refused the bucket {bucket}: {why}")]
    Refused {
        /// The bucket.
        bucket: String,
        /// What it said.
        why: String,
    },
    /// There is one that is not as a store needs it.
    #[error("the bucket {bucket} cannot be used: {why}")]
    Unfit {
        /// The bucket.
        bucket: String,
        /// What is amiss.
        why: &'static str,
    },
}
