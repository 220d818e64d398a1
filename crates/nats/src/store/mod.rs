//! A store of settings in a bucket of JetStream.
//!
//! - This file: what a gate's store does.
//! - [`bucket`]: the bucket, its messages read and written.
//! - [`entry`]: what is kept of a user, as bytes.
//! - [`revisions`]: what was last seen of each user.
//!
//! Every change names the revision that it replaces, and leaves one behind, a delete
//! too. So a change that was given up and is still on its way, on a connection that was
//! lost or through a server that was stopped, is refused once a later one is there.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tidegate::store::{Store, StoreError};
use tidegate_protocol::{Settings, UserId};
use tokio::time::{Instant, sleep, timeout};

use crate::options::NatsOptions;

mod bucket;
mod entry;
mod options;
mod revisions;

pub use options::{KvStoreError, KvStoreOptions};

use bucket::{Bucket, Fault, Found};
use entry::{Entry, Key};
use revisions::Revisions;

/// Users of a heartbeat that are looked after at once.
const AT_ONCE: usize = 32;
/// For so long a delete is remembered: a change before it that comes later, is refused.
const MARKER: Duration = Duration::from_secs(3600);
/// How long a connection that is made anew is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pauses between attempts.
const PAUSES: [u64; 2] = [5, 200];

/// A [`Store`] in a bucket of JetStream, NATS server 2.11 or later.
///
/// It has a connection of its own, and the bucket `<prefix>-settings`.
///
/// ```no_run
/// use tidegate::Gate;
/// use tidegate_nats::{KvStore, KvStoreError, KvStoreOptions, NatsOptions};
///
/// # async fn run() -> Result<(), KvStoreError> {
/// let nats = NatsOptions::new(["nats://10.0.0.1:4222", "nats://10.0.0.2:4222"]);
/// let mut options = KvStoreOptions::default();
/// options.replicas = 3;
/// let gate = Gate::builder().store(KvStore::connect(&nats, options).await?);
/// # Ok(())
/// # }
/// ```
pub struct KvStore {
    bucket: Bucket,
    revisions: Revisions,
    timeout: Duration,
}

impl KvStore {
    /// Connects and makes the bucket, or checks the one that is there.
    ///
    /// The connection lives on the tokio runtime that this is called on. When it is
    /// lost it is made anew, for as long as the store lives.
    ///
    /// # Errors
    /// Why there is no connection, or why the bucket cannot be used.
    pub async fn connect(
        nats: &NatsOptions,
        options: KvStoreOptions,
    ) -> Result<Self, KvStoreError> {
        let timeout = options.timeout;
        Ok(Self {
            bucket: Bucket::open(nats, options).await?,
            revisions: Revisions::default(),
            timeout,
        })
    }

    /// Puts an entry, or the mark of a delete, in place of whatever is there.
    async fn put(&self, key: Key, body: Vec<u8>, ttl: Duration) -> Result<(), StoreError> {
        let body = Bytes::from(body);
        let mut attempts = Attempts::new(self);
        let mut seen = self.revisions.get(&key);
        loop {
            match self
                .try_put(&key, seen.take(), &body, ttl, attempts.until)
                .await
            {
                Ok(()) => return Ok(()),
                Err(fault) => attempts.after(fault).await?,
            }
        }
    }

    async fn try_put(
        &self,
        key: &Key,
        seen: Option<u64>,
        body: &Bytes,
        ttl: Duration,
        until: Instant,
    ) -> Result<(), Fault> {
        let revision = match seen {
            Some(revision) => revision,
            None => {
                let found = self.bucket.read(key, until).await?;
                found.map_or(0, |found| found.revision)
            }
        };
        let written = self.bucket.write(key, revision, body.clone(), ttl, until);
        self.revisions.put(*key, written.await?);
        Ok(())
    }

    async fn find(&self, user: &UserId) -> Result<Option<Settings>, StoreError> {
        let key = Key::new(user);
        let mut attempts = Attempts::new(self);
        loop {
            match self.try_find(&key, user, attempts.until).await {
                Ok(found) => return Ok(found),
                Err(fault) => attempts.after(fault).await?,
            }
        }
    }

    async fn try_find(
        &self,
        key: &Key,
        user: &UserId,
        until: Instant,
    ) -> Result<Option<Settings>, Fault> {
        let found = self.bucket.read(key, until).await?;
        self.revisions
            .put(*key, found.as_ref().map_or(0, |found| found.revision));
        let Some(found) = found else {
            return Ok(None);
        };
        let Some(entry) = Entry::decode(&found.body, user)? else {
            return Ok(None);
        };
        let over = self.is_over(&found, &entry, until).await?;
        Ok((!over).then_some(entry.settings))
    }

    async fn renew(&self, user: &UserId, ttl: Duration) -> Result<(), StoreError> {
        let key = Key::new(user);
        let mut attempts = Attempts::new(self);
        loop {
            match self.try_renew(&key, user, ttl, attempts.until).await {
                Ok(()) => return Ok(()),
                Err(fault) => attempts.after(fault).await?,
            }
        }
    }

    async fn try_renew(
        &self,
        key: &Key,
        user: &UserId,
        ttl: Duration,
        until: Instant,
    ) -> Result<(), Fault> {
        let Some(found) = self.bucket.read(key, until).await? else {
            return Ok(());
        };
        // What cannot be read is told to who asks for it.
        let Ok(Some(entry)) = Entry::decode(&found.body, user) else {
            return Ok(());
        };
        if self.is_over(&found, &entry, until).await? {
            return Ok(());
        }
        let body = Entry { ttl, ..entry }.encode(user)?;
        let written = self
            .bucket
            .write(key, found.revision, body.into(), ttl, until);
        match written.await {
            Ok(revision) => self.revisions.put(*key, revision),
            // Somebody else saved, renewed or deleted it just now, and so has the last
            // word.
            Err(Fault::Conflict) => {}
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// Whether an entry that NATS still has is past its time, by the clock of NATS.
    ///
    /// NATS removes what has expired a moment later, or much later where it was stopped.
    async fn is_over(&self, found: &Found, entry: &Entry, until: Instant) -> Result<bool, Fault> {
        let Some(over) = found.at.map(|at| at.saturating_add(entry.ttl)) else {
            return Ok(false);
        };
        // This machine's clock may be wrong: it only tells when to ask.
        if bucket::clock_here() < over {
            return Ok(false);
        }
        let now = self.bucket.time(until).await?;
        Ok(now.is_some_and(|now| now >= over))
    }
}

/// The attempts at one operation.
struct Attempts<'a> {
    store: &'a KvStore,
    until: Instant,
    pause: u64,
}

impl<'a> Attempts<'a> {
    fn new(store: &'a KvStore) -> Self {
        Self {
            store,
            until: Instant::now() + store.timeout,
            pause: PAUSES[0],
        }
    }

    /// Waits until another attempt is worth it. An error: there is to be none, the fault
    /// stays or the time is up.
    async fn after(&mut self, fault: Fault) -> Result<(), StoreError> {
        let bucket = &self.store.bucket;
        let why = match fault {
            Fault::Stays(error) => return Err(error),
            Fault::Conflict => "others change it all the time".to_owned(),
            Fault::Gone => {
                bucket.make_again().await?;
                "the bucket was gone".to_owned()
            }
            Fault::Passes(why) => {
                if timeout(PATIENCE, bucket.up()).await.is_err() {
                    return Err(StoreError::Unavailable("NATS cannot be reached".into()));
                }
                why
            }
        };
        let wait = Duration::from_millis(rand::random_range(0..=self.pause));
        if Instant::now() + wait >= self.until {
            return Err(StoreError::Unavailable(why));
        }
        sleep(wait).await;
        self.pause = (self.pause * 2).min(PAUSES[1]);
        Ok(())
    }
}

impl Store for KvStore {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let settings = settings.clone();
        async move {
            let body = Entry { ttl, settings }.encode(user)?;
            self.put(Key::new(user), body, ttl).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.put(Key::new(user), Vec::new(), MARKER).boxed()
    }

    fn query<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<Settings>, StoreError>> {
        self.find(user).boxed()
    }

    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let renewals = users.iter().map(move |user| self.renew(user, ttl));
        stream::iter(renewals)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .boxed()
    }
}

impl fmt::Debug for KvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("KvStore");
        debug
            .field("bucket", &self.bucket.name())
            .finish_non_exhaustive()
    }
}
