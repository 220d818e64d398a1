//! A store in one file.
//!
//! - This file: the store as its users see it.
//! - [`queue`]: how operations wait for a thread, bounded.
//! - [`writer`]: the thread that commits, many operations at a time, and opens the
//!   database again after it failed.
//! - [`reader`]: the threads that answer queries.
//! - [`database`]: opening, and what is in the file.
//! - [`change`]: what the operations do to the tables; expiry.
//! - [`encoding`]: settings as bytes.
//! - [`file`](mod@file): making and opening the file.
//! - [`clock`]: a time that does not go backwards.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use redb::Database;
use tidegate::store::{Store, StoreError};
use tidegate::{Settings, UserId};
use tokio::sync::oneshot;

pub(crate) mod change;
pub(crate) mod clock;
pub(crate) mod database;
pub(crate) mod encoding;
mod error;
pub(crate) mod file;
pub(crate) mod queue;
mod reader;
mod writer;

use change::Change;
use clock::Clock;
pub use error::OpenError;
use file::{FileStorage, Storage};
use queue::{Closed, Queue};

/// Bytes of changes that may wait or be under way; who comes then waits for a place.
const CHANGES: usize = 16 * 1024 * 1024;
/// Queries that may wait or be under way.
const QUERIES: usize = 16 * 1024;
/// Threads that answer queries.
const READERS: usize = 2;

/// Keeps settings in a file: they survive the process, its sudden end, and that of the
/// machine.
///
/// A [`save`](Store::save), [`delete`](Store::delete) or
/// [`heartbeat`](Store::heartbeat) that returned `Ok` is on the disk. Those that wait
/// at the same time are written together. Queries wait for no write.
///
/// When the disk is full, or fails, operations answer an error, and the store goes on by
/// itself when the disk does; what it acknowledged before is there.
///
/// The file belongs to one store at a time. Dropping the store finishes what is being
/// written and releases the file; this blocks until it is done.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<Result<(), StoreError>>>,
    readers: Vec<JoinHandle<()>>,
}

/// How an [`Embedded`] store behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedOptions {
    /// Users that are kept at most; the settings of another are answered
    /// [`StoreError::Full`]. Unlimited.
    pub max_users: Option<u64>,
    /// Memory for parts of the file, in bytes. Half of it may hold what is about to be
    /// written. 64 MiB; less than 1 MiB is taken as 1 MiB.
    pub cache_bytes: usize,
    /// Saves that need more of the disk are answered [`StoreError::Full`] when the file
    /// system has fewer bytes left than this, so that there is room for deletes and
    /// expiry, which need a little for a while. 16 MiB.
    pub keep_free: u64,
    /// Whether opening reads the whole file and checks it, a few seconds for each
    /// gigabyte. Without, damage from outside shows only when what is damaged is read,
    /// and not always then. What a sudden end leaves is repaired in either case. Yes.
    pub verify: bool,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            max_users: None,
            cache_bytes: 64 * 1024 * 1024,
            keep_free: 16 * 1024 * 1024,
            verify: true,
        }
    }
}

impl EmbeddedOptions {
    /// Sets [`max_users`](Self::max_users).
    pub fn max_users(mut self, max_users: Option<u64>) -> Self {
        self.max_users = max_users;
        self
    }

    /// Sets [`cache_bytes`](Self::cache_bytes).
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets [`keep_free`](Self::keep_free).
    pub fn keep_free(mut self, bytes: u64) -> Self {
        self.keep_free = bytes;
        self
    }

    /// Sets [`verify`](Self::verify).
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }
}

impl Embedded {
    /// Opens the store at `path`, or makes a new one, with mode 0600, where no file is.
    /// The directory must be there. Blocks for as long as the disk takes.
    ///
    /// A file that is there is never replaced, whatever is in it.
    ///
    /// # Errors
    /// [`OpenError`], which names the path and what is wrong with it.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let storage = FileStorage::new(path.as_ref());
        storage.create_if_missing()?;
        Self::start(Arc::new(storage), options, Arc::new(clock::System::new()))
    }

    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        options: EmbeddedOptions,
        time: Arc<dyn clock::Source>,
    ) -> Result<Self, OpenError> {
        let opened = database::open(&*storage, options.cache_bytes, options.verify)?;
        let shared = Arc::new(Shared {
            database: RwLock::new(Ok(opened.database)),
            broken: AtomicBool::new(false),
            clock: Clock::start(time, opened.last_seen),
            changes: Queue::new(CHANGES),
            queries: Queue::new(QUERIES),
            options,
            storage,
        });
        // From here on a drop ends the threads that were started.
        let mut store = Self {
            shared: shared.clone(),
            writer: None,
            readers: Vec::new(),
        };
        let failed = |source| shared.storage.failed(source);
        for _ in 0..READERS {
            let shared = shared.clone();
            let reader = thread("store-read", move || reader::run(&shared)).map_err(failed)?;
            store.readers.push(reader);
        }
        let for_writer = shared.clone();
        let writer = thread("store-write", move || writer::run(&for_writer)).map_err(failed)?;
        store.writer = Some(writer);
        Ok(store)
    }

    /// Finishes what is being written and releases the file, as dropping the store
    /// does, and says whether that went well. Blocks until it is done.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        self.shared.queries.close();
        self.shared.changes.close();
        for reader in self.readers.drain(..) {
            // It catches the panics of what it runs.
            let _ = reader.join();
        }
        match self.writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(closed)) => closed,
            Some(Err(_)) => Err(StoreError::other("the store's thread panicked")),
        }
    }

    async fn change(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let weight = change.weight();
        let operation = Operation { change, reply };
        self.shared.changes.push(operation, weight).await?;
        answer.await.unwrap_or_else(|_| Err(Closed.into()))
    }

    async fn look_up(&self, user: UserId) -> Result<Option<Settings>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared.queries.push(Query { user, reply }, 1).await?;
        answer.await.unwrap_or_else(|_| Err(Closed.into()))
    }
}

impl Store for Embedded {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change(Change::save(user, settings, ttl)))
    }

    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change(Change::Delete { user: user.clone() }))
    }

    fn query<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<Settings>, StoreError>> {
        Box::pin(self.look_up(user.clone()))
    }

    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if users.is_empty() {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(self.change(Change::heartbeat(users, ttl)))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(path = ?self.shared.storage.path(), error = ?error.to_string(), "the store did not close well");
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("path", &self.shared.storage.path())
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

/// What the store's threads share.
pub(crate) struct Shared {
    /// The database, or why there is none just now. Written by the writer's thread only.
    database: RwLock<Result<Database, StoreError>>,
    /// Whether a reader found that the database must be opened again.
    broken: AtomicBool,
    clock: Clock,
    changes: Queue<Operation>,
    queries: Queue<Query>,
    options: EmbeddedOptions,
    storage: Arc<dyn Storage>,
}

impl Shared {
    /// Asks the writer to open the database again.
    fn report_broken(&self) {
        self.broken.store(true, Ordering::Release);
        self.changes.wake();
    }
}

/// A change, and who waits for it. Nobody does when the sender is closed.
struct Operation {
    change: Change,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

struct Query {
    user: UserId,
    reply: oneshot::Sender<Result<Option<Settings>, StoreError>>,
}

fn thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

#[cfg(test)]
impl Embedded {
    /// Changes that have a place in the queue and are not taken from it.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.changes.len()
    }

    /// Rows of `settings`, `expiry` and `due`.
    pub(crate) fn rows(&self) -> [u64; 3] {
        use redb::{ReadableDatabase, ReadableTableMetadata};
        let database = self.shared.database.read();
        let transaction = database.as_ref().unwrap().begin_read().unwrap();
        [
            transaction.open_table(database::SETTINGS).unwrap().len(),
            transaction.open_table(database::EXPIRY).unwrap().len(),
            transaction.open_table(database::DUE).unwrap().len(),
        ]
        .map(Result::unwrap)
    }
}
