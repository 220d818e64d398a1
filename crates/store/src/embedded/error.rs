//! Why a store does not open.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A store that does not open. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory that the file is to be in is not there. It is not made: where a
    /// volume is missing, settings would go astray unnoticed.
    #[error("cannot make the store {path:?}: its directory does not exist")]
    NoDirectory {
        /// The store's path.
        path: PathBuf,
    },
    /// Another process, or another store in this one, has the file open.
    #[error("the store {path:?} is in use by another process")]
    Locked {
        /// The store's path.
        path: PathBuf,
    },
    /// There is a file, but it is not a store of Tidegate's.
    #[error("{path:?} is not a Tidegate store: {detail}")]
    NotAStore {
        /// The store's path.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file was written by a later version.
    #[error("the store {path:?} has format {found}; this version knows formats up to {known}")]
    NewerFormat {
        /// The store's path.
        path: PathBuf,
        /// The file's format.
        found: u64,
        /// The latest format known.
        known: u64,
    },
    /// The file is damaged beyond what can be repaired.
    #[error("the store {path:?} is damaged: {detail}")]
    Corrupt {
        /// The store's path.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The operating system refused.
    #[error("cannot open the store {path:?}: {source}")]
    Io {
        /// The store's path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}
