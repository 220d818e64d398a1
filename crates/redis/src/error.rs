//! Why a store does not connect, and Redis' errors as those of a store.

use std::io;
use std::path::PathBuf;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;
use tidegate::store::StoreError;

/// A store that does not connect.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no URL.
    #[error("no URL of a Redis is given")]
    NoUrl,
    /// A URL cannot be read. It is not shown: it may hold a password.
    #[error(
        "URL number {number} is not one of Redis: redis://host:port/database, rediss://… or unix:///path"
    )]
    Url {
        /// Which, from 1.
        number: usize,
    },
    /// The prefix has other characters, or is too short or long.
    #[error("the prefix must be 1 to 64 of A-Z a-z 0-9 . _ -")]
    Prefix,
    /// A CA or a client certificate is given, and a URL that does not use them.
    #[error("certificates are given, but {address} is not rediss://: it would not be encrypted")]
    CertificatesWithoutTls {
        /// The address.
        address: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path:?} is not {what}")]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// No connection, or it ended.
    #[error("cannot reach Redis at {address}: {detail}")]
    Unreachable {
        /// The address.
        address: String,
        /// What happened.
        detail: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with Redis at {address} failed: {source}")]
    Tls {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Redis did not accept user and password.
    #[error("Redis at {address} refused the user or the password: {detail}")]
    Refused {
        /// The address.
        address: String,
        /// What it said.
        detail: String,
    },
    /// The user may not do what the store does.
    #[error(
        "Redis at {address} does not permit what the store does: {detail} (it needs GET, SET, DEL and PEXPIRE on its keys, PING, CLIENT|INFO and CLIENT|KILL)"
    )]
    NotPermitted {
        /// The address.
        address: String,
        /// What it said.
        detail: String,
    },
    /// Redis answers, but cannot serve now: it is a replica, or reads its file.
    #[error("Redis at {address} does not take writes: {detail}")]
    NotServing {
        /// The address.
        address: String,
        /// What it said.
        detail: String,
    },
    /// It has no such database, is no Redis, or one before 6.2.
    #[error("Redis at {address} cannot be used, version 6.2 or later is needed: {detail}")]
    Unusable {
        /// The address.
        address: String,
        /// What it said.
        detail: String,
    },
}

impl ConnectError {
    /// What Redis, or the connection to it, answered while connecting.
    pub(crate) fn of(address: &str, error: &RedisError) -> Self {
        let (address, detail) = (address.to_owned(), text(error));
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
                Self::Refused { address, detail }
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
                Self::NotPermitted { address, detail }
            }
            _ if not_serving(error) => Self::NotServing { address, detail },
            (ErrorKind::Io, _) => Self::Unreachable { address, detail },
            _ => Self::Unusable { address, detail },
        }
    }
}

/// What may pass, while the connection is well.
fn not_serving(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain) => true,
        _ => matches!(error.code(), Some("BUSY" | "MISCONF" | "NOREPLICAS")),
    }
}

/// Whether Redis has no room.
pub(crate) fn is_full(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}

/// Whether another connection might do better: this one is lost, or goes to what does
/// not take writes any more, or not from this user. Nothing was done, or not for sure.
pub(crate) fn is_lost(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => true,
        _ => error.code() == Some("NOAUTH"),
    }
}

pub(crate) fn store_error(error: &RedisError) -> StoreError {
    if is_full(error) {
        StoreError::Full
    } else if is_lost(error) || not_serving(error) {
        StoreError::Unavailable(text(error))
    } else if error.code() == Some("WRONGTYPE") {
        StoreError::Corrupt("another kind of value is under the user's key".into())
    } else {
        StoreError::Other(text(error))
    }
}

/// What Redis said, without control characters.
fn text(error: &RedisError) -> String {
    let text = error.to_string();
    text.replace(char::is_control, " ")
}
