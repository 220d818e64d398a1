//! A store within the process.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_protocol::{Settings, UserId};
use tokio::time::Instant;

use super::{Store, StoreError};

/// Expired entries that one operation removes at most, so that none is held up.
const SWEEP: usize = 64;

/// Longer times to live are cut to this, about 30 years: an [`Instant`] ends somewhere.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Keeps settings in memory: for tests, for one gate, for what may be lost.
///
/// Expired entries are not there, and each operation removes some of them from memory;
/// there is no task behind it.
#[derive(Debug)]
pub struct MemoryStore {
    max_users: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_user: HashMap<UserId, Entry>,
    /// Every entry once, the next to expire first.
    by_expiry: BTreeSet<(Instant, UserId)>,
}

#[derive(Debug)]
struct Entry {
    settings: Settings,
    expires: Instant,
}

impl MemoryStore {
    /// A store for any number of users.
    pub fn new() -> Self {
        Self::with_max_users(usize::MAX)
    }

    /// A store that answers [`StoreError::Full`] to another user's settings once it
    /// holds those of `max_users`.
    pub fn with_max_users(max_users: usize) -> Self {
        Self {
            max_users,
            entries: Mutex::default(),
        }
    }

    /// Entries in memory, those expired but not removed yet among them.
    pub fn len(&self) -> usize {
        self.entries.lock().by_user.len()
    }

    /// Whether nothing is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        entries.sweep(now);
        entries.remove(user);
        let saved = if entries.by_user.len() < self.max_users {
            let expires = now + ttl.min(LONGEST);
            entries.by_expiry.insert((expires, user.clone()));
            let settings = settings.clone();
            entries
                .by_user
                .insert(user.clone(), Entry { settings, expires });
            Ok(())
        } else {
            Err(StoreError::Full)
        };
        ready(saved).boxed()
    }

    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut entries = self.entries.lock();
        entries.sweep(Instant::now());
        entries.remove(user);
        ready(Ok(())).boxed()
    }

    fn query<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<Settings>, StoreError>> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        entries.sweep(now);
        let found = entries.live(user, now).map(|entry| entry.settings.clone());
        ready(Ok(found)).boxed()
    }

    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let now = Instant::now();
        let expires = now + ttl.min(LONGEST);
        let mut entries = self.entries.lock();
        entries.sweep(now);
        for user in users {
            entries.extend(user, now, expires);
        }
        ready(Ok(())).boxed()
    }
}

impl Entries {
    fn live(&self, user: &UserId, now: Instant) -> Option<&Entry> {
        self.by_user.get(user).filter(|entry| entry.expires > now)
    }

    fn extend(&mut self, user: &UserId, now: Instant, expires: Instant) {
        let Some(entry) = self.by_user.get_mut(user).filter(|e| e.expires > now) else {
            return;
        };
        let key = (std::mem::replace(&mut entry.expires, expires), user.clone());
        self.by_expiry.remove(&key);
        self.by_expiry.insert((expires, key.1));
    }

    fn remove(&mut self, user: &UserId) {
        if let Some((user, entry)) = self.by_user.remove_entry(user) {
            self.by_expiry.remove(&(entry.expires, user));
        }
    }

    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            match self.by_expiry.first() {
                Some((expires, _)) if *expires <= now => {}
                _ => return,
            }
            if let Some((_, user)) = self.by_expiry.pop_first() {
                self.by_user.remove(&user);
            }
        }
    }
}
