//! What operations do to the tables, and expiry.
//!
//! A heartbeat must be cheap: it moves a user's expiry in one small row. The user's row
//! in `due` stays where it is, at an earlier time; when that has come the user is put
//! under the expiry's time, or removed.

use std::time::Duration;

use redb::{Error, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use tidegate::store::StoreError;
use tidegate::{Settings, UserId};

use super::clock::after;
use super::database::{BYTES_KEY, DUE, EXPIRY, META, PEAK_KEY, SETTINGS, TIME_KEY};
use super::encoding::encode;

/// Rows of `due` that one transaction looks after at most, so that none is held up.
pub(crate) const SWEEP: usize = 256;

/// An operation that changes something.
pub(crate) enum Change {
    Save {
        user: UserId,
        settings: Vec<u8>,
        ttl: Duration,
    },
    Delete {
        user: UserId,
    },
    Heartbeat {
        users: Vec<UserId>,
        ttl: Duration,
    },
}

impl Change {
    pub(crate) fn save(user: &UserId, settings: &Settings, ttl: Duration) -> Self {
        Self::Save {
            user: user.clone(),
            settings: encode(settings),
            ttl,
        }
    }

    pub(crate) fn heartbeat(users: &[UserId], ttl: Duration) -> Self {
        let users = users.to_vec();
        Self::Heartbeat { users, ttl }
    }

    /// About the bytes that it holds.
    pub(crate) fn weight(&self) -> usize {
        const ROW: usize = 256;
        match self {
            Self::Save { settings, .. } => ROW + settings.len(),
            Self::Delete { .. } => ROW,
            Self::Heartbeat { users, .. } => ROW + users.len() * size_of::<UserId>(),
        }
    }
}

/// What saves may take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Room {
    /// What they need.
    Any,
    /// What the file has already.
    InFile,
    /// Nothing.
    None,
}

/// The tables within a transaction.
pub(crate) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    settings: Table<'t, &'static str, &'static [u8]>,
    expiry: Table<'t, &'static str, (u64, u64)>,
    due: Table<'t, (u64, &'static str), ()>,
    now: u64,
    /// Bytes of settings, now and at most.
    bytes: u64,
    peak: u64,
    changed: bool,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction, now: u64) -> Result<Self, Error> {
        let meta = transaction.open_table(META)?;
        let number = |key| Ok::<_, Error>(meta.get(key)?.map_or(0, |row| row.value()));
        let (bytes, peak) = (number(BYTES_KEY)?, number(PEAK_KEY)?);
        Ok(Self {
            meta,
            settings: transaction.open_table(SETTINGS)?,
            expiry: transaction.open_table(EXPIRY)?,
            due: transaction.open_table(DUE)?,
            now,
            bytes,
            peak,
            changed: false,
        })
    }

    /// Ends the changes. Answers whether there is anything to commit.
    pub(crate) fn finish(mut self) -> Result<bool, Error> {
        if self.changed {
            // The store's clock will not be before this when it is next opened.
            self.meta.insert(TIME_KEY, self.now)?;
            self.meta.insert(BYTES_KEY, self.bytes)?;
            self.meta.insert(PEAK_KEY, self.peak.max(self.bytes))?;
        }
        Ok(self.changed)
    }

    /// The inner result is the operation's, the outer one the database's.
    pub(crate) fn apply(
        &mut self,
        change: &Change,
        max_users: Option<u64>,
        room: Room,
    ) -> Result<Result<(), StoreError>, Error> {
        match change {
            Change::Save {
                user,
                settings,
                ttl,
            } => {
                let has_room = self.has_room(settings, room);
                if !has_room || (self.row(user)?.is_none() && self.is_full(max_users)?) {
                    return Ok(Err(StoreError::Full));
                }
                let row = self.row(user)?;
                let old = self.settings.insert(&**user, settings.as_slice())?;
                let old = old.map_or(0, |old| size(old.value()));
                self.bytes = (self.bytes + size(settings)).saturating_sub(old);
                self.set_expiry(user, row, after(self.now, *ttl))?;
            }
            Change::Delete { user } => self.remove(user)?,
            Change::Heartbeat { users, ttl } => {
                for user in users {
                    let row = self.row(user)?;
                    if row.is_some_and(|(expires, _)| expires > self.now) {
                        self.set_expiry(user, row, after(self.now, *ttl))?;
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// Looks after the users that are due, some of them. Answers when the next one is.
    pub(crate) fn sweep(&mut self) -> Result<Option<u64>, Error> {
        for _ in 0..SWEEP {
            match self.first_due()? {
                Some((at, user)) if at <= self.now => self.look_after(at, &user)?,
                next => return Ok(next.map(|(at, _)| at)),
            }
        }
        self.next_due()
    }

    /// The time of the first row of `due`.
    pub(crate) fn next_due(&self) -> Result<Option<u64>, Error> {
        Ok(self.first_due()?.map(|(at, _)| at))
    }

    fn look_after(&mut self, at: u64, user: &str) -> Result<(), Error> {
        self.changed = true;
        match self.row(user)? {
            Some((expires, _)) if expires > self.now => {
                self.due.remove((at, user))?;
                self.due.insert((expires, user), ())?;
                self.expiry.insert(user, (expires, expires))?;
            }
            Some(_) => self.remove(user)?,
            None => {
                self.due.remove((at, user))?;
            }
        }
        Ok(())
    }

    fn first_due(&self) -> Result<Option<(u64, String)>, Error> {
        let first = self.due.first()?;
        Ok(first.map(|(key, _)| {
            let (at, user) = key.value();
            (at, user.to_owned())
        }))
    }

    fn row(&self, user: &str) -> Result<Option<(u64, u64)>, Error> {
        Ok(self.expiry.get(user)?.map(|row| row.value()))
    }

    /// A file that once held more has room within: it does not shrink much. But for a
    /// tenth, since room may be in pieces.
    fn has_room(&self, settings: &[u8], room: Room) -> bool {
        match room {
            Room::Any => true,
            Room::InFile => self.bytes + size(settings) <= self.peak / 10 * 9,
            Room::None => false,
        }
    }

    fn is_full(&mut self, max_users: Option<u64>) -> Result<bool, Error> {
        let Some(max) = max_users else {
            return Ok(false);
        };
        if self.expiry.len()? >= max {
            self.sweep()?;
        }
        Ok(self.expiry.len()? >= max)
    }

    fn set_expiry(
        &mut self,
        user: &str,
        row: Option<(u64, u64)>,
        expires: u64,
    ) -> Result<(), Error> {
        self.changed = true;
        let due = match row {
            Some((_, due)) if due <= expires => due,
            other => {
                if let Some((_, due)) = other {
                    self.due.remove((due, user))?;
                }
                self.due.insert((expires, user), ())?;
                expires
            }
        };
        self.expiry.insert(user, (expires, due))?;
        Ok(())
    }

    fn remove(&mut self, user: &str) -> Result<(), Error> {
        let due = self.expiry.remove(user)?.map(|row| row.value().1);
        if let Some(due) = due {
            self.changed = true;
            self.due.remove((due, user))?;
            let old = self.settings.remove(user)?;
            let old = old.map_or(0, |old| size(old.value()));
            self.bytes = self.bytes.saturating_sub(old);
        }
        Ok(())
    }
}

fn size(settings: &[u8]) -> u64 {
    settings.len() as u64
}
