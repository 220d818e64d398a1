//! The database: what is in the file, and opening it.
//!
//! | Table | Key | Value |
//! | --- | --- | --- |
//! | `meta` | `format`, `time`, `bytes`, `peak` | the file's format; the last time that it has seen; bytes of settings, now and at most |
//! | `settings` | user | the settings, see `encoding` |
//! | `expiry` | user | when the user expires; the time under which `due` has the user |
//! | `due` | time, user | nothing: users by a time that their expiry is not before |
//!
//! Times are milliseconds since 1970. A user has one row in each of the last three.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{
    Builder, Database, DatabaseError, Error, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition, WriteTransaction,
};

use super::error::OpenError;
use super::file::{AnyBackend, Storage};

/// The format that this version writes, and the latest that it knows.
pub(crate) const FORMAT: u64 = 1;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");
pub(crate) const EXPIRY: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("expiry");
pub(crate) const DUE: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("due");

const FORMAT_KEY: &str = "format";
/// The row of `meta` with the last time that was seen.
pub(crate) const TIME_KEY: &str = "time";
/// The row with the bytes of all settings.
pub(crate) const BYTES_KEY: &str = "bytes";
/// The row with the most that there have been.
pub(crate) const PEAK_KEY: &str = "peak";

/// Memory for a new file, and least for any.
const LEAST_CACHE: usize = 1024 * 1024;

pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) last_seen: u64,
}

/// Opens the database, repairs what a sudden end has left, and checks that it is a store
/// that this version knows.
pub(crate) fn open(
    storage: &dyn Storage,
    cache_bytes: usize,
    verify: bool,
) -> Result<Opened, OpenError> {
    let backend = storage.open()?;
    let opened = caught(|| {
        let database = Builder::new()
            .set_cache_size(cache_bytes.max(LEAST_CACHE))
            .set_check_integrity_on_open(verify)
            .create_with_backend(AnyBackend(backend))
            .map_err(|error| open_error(storage, error))?;
        let last_seen = check(storage, &database)?;
        Ok(Opened {
            database,
            last_seen,
        })
    });
    opened.unwrap_or_else(|panic| {
        Err(OpenError::Corrupt {
            path: storage.path().to_owned(),
            detail: panic,
        })
    })
}

/// Makes an empty store of an empty file.
pub(crate) fn initialise(
    storage: &dyn Storage,
    backend: Box<dyn StorageBackend>,
) -> Result<(), OpenError> {
    let made = caught(|| -> Result<(), Error> {
        let database = Builder::new()
            .set_cache_size(LEAST_CACHE)
            .create_with_backend(AnyBackend(backend))?;
        let transaction = begin(&database)?;
        transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
        transaction.open_table(SETTINGS)?;
        transaction.open_table(EXPIRY)?;
        transaction.open_table(DUE)?;
        transaction.commit()?;
        Ok(database.close()?)
    });
    let failed = match made {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Error::Io(source))) => source,
        Ok(Err(error)) => std::io::Error::other(error.to_string()),
        Err(panic) => std::io::Error::other(panic),
    };
    Err(storage.failed(failed))
}

/// A transaction as all of the store's are: its commit is on the disk when it returns,
/// and after a crash the file needs no long repair.
pub(crate) fn begin(database: &Database) -> Result<WriteTransaction, Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Runs the database's code. A panic is an error with the panic's text.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("the database panicked: {}", text.unwrap_or("no text"))
    })
}

/// What the database says when it does not open.
pub(crate) fn open_error(storage: &dyn Storage, error: DatabaseError) -> OpenError {
    let path = storage.path().to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { path }
        }
        DatabaseError::Storage(StorageError::Io(source)) => match source.kind() {
            ErrorKind::InvalidData => OpenError::NotAStore {
                path,
                detail: source.to_string(),
            },
            ErrorKind::UnexpectedEof => OpenError::Corrupt {
                path,
                detail: "it is cut short".into(),
            },
            _ => OpenError::Io { path, source },
        },
        DatabaseError::UpgradeRequired(version) => OpenError::NotAStore {
            path,
            detail: format!("its database has format {version}"),
        },
        other => OpenError::Corrupt {
            path,
            detail: other.to_string(),
        },
    }
}

/// Whether it is a store of a format that is known; answers the last time seen.
fn check(storage: &dyn Storage, database: &Database) -> Result<u64, OpenError> {
    let path = || storage.path().to_owned();
    let read = || -> Result<(Option<u64>, u64), Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT_KEY)?.map(|row| row.value());
        let last_seen = meta.get(TIME_KEY)?.map(|row| row.value());
        if format == Some(FORMAT) {
            transaction.open_table(SETTINGS)?;
            transaction.open_table(EXPIRY)?;
            transaction.open_table(DUE)?;
        }
        Ok((format, last_seen.unwrap_or(0)))
    };
    match read() {
        Ok((Some(FORMAT), last_seen)) => Ok(last_seen),
        Ok((Some(found), _)) if found > FORMAT => Err(OpenError::NewerFormat {
            path: path(),
            found,
            known: FORMAT,
        }),
        Ok((found, _)) => Err(OpenError::NotAStore {
            path: path(),
            detail: match found {
                Some(found) => format!("it has format {found}"),
                None => "it is a database without a format".into(),
            },
        }),
        Err(Error::Io(source)) => Err(storage.failed(source)),
        Err(Error::Corrupted(detail)) => Err(OpenError::Corrupt {
            path: path(),
            detail,
        }),
        Err(other) => Err(OpenError::NotAStore {
            path: path(),
            detail: other.to_string(),
        }),
    }
}
