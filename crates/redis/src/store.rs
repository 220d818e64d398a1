//! What a gate's store does, as Redis' commands.

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Pipeline, Value};
use tidegate::store::{Store, StoreError};
use tidegate::{Settings, UserId};

use crate::address::Address;
use crate::connection::Dialer;
use crate::error::ConnectError;
use crate::link::Link;
use crate::options::RedisOptions;

/// Users in one round trip of a heartbeat.
const BATCH: usize = 250;
/// Settings have 16 KiB; as JSON, with many short keys of control characters, nine times
/// as much.
const MAX_VALUE: usize = 256 * 1024;
/// Redis counts milliseconds in an `i64`, from 1970.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// A [`Store`] on Redis 6.2 or later, or on what speaks its protocol.
///
/// What is kept of a user is one string, JSON, under `<prefix>:settings:<user>`, with
/// Redis' own expiry.
pub struct RedisStore {
    link: Link,
    /// What keys begin with.
    keys: String,
}

impl RedisStore {
    /// Connects, and checks that everything the store does is permitted there.
    ///
    /// The connection lives on the tokio runtime that this is called on. When it is
    /// lost it is made anew, for as long as the store lives.
    ///
    /// # Errors
    /// Why none of the options' Redis can be used.
    pub async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        let prefix = options.prefix.as_str();
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..=64).contains(&prefix.len()) || !prefix.bytes().all(fits) {
            return Err(ConnectError::Prefix);
        }
        // A prefix has no colon: no user of one installation is a user of another.
        let keys = format!("{prefix}:settings:");
        let dialer = Dialer {
            addresses: Address::all(&options)?,
            probe: keys.clone(),
            connect_timeout: options.connect_timeout,
            answer_timeout: options.answer_timeout,
            in_flight: options.in_flight,
        };
        let link = Link::open(dialer).await?;
        Ok(Self { link, keys })
    }

    fn key(&self, user: &UserId) -> String {
        format!("{}{}", self.keys, user.as_str())
    }
}

impl Store for RedisStore {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let value = serde_json::to_vec(settings).map_err(StoreError::other)?;
            let mut set = Pipeline::new();
            set.cmd("SET").arg(self.key(user)).arg(value);
            set.arg("PX").arg(milliseconds(ttl));
            self.link.ask(&set).await.map(drop)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let mut del = Pipeline::new();
            del.cmd("DEL").arg(self.key(user));
            self.link.ask(&del).await.map(drop)
        }
        .boxed()
    }

    fn query<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<Settings>, StoreError>> {
        async move {
            let mut get = Pipeline::new();
            get.cmd("GET").arg(self.key(user));
            match self.link.ask(&get).await?.pop() {
                Some(Value::Nil) => Ok(None),
                Some(Value::BulkString(value)) => decode(&value).map(Some),
                _ => Err(StoreError::Corrupt("Redis answered another type".into())),
            }
        }
        .boxed()
    }

    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let ttl = milliseconds(ttl);
            for batch in users.chunks(BATCH) {
                let mut commands = Pipeline::with_capacity(batch.len());
                for user in batch {
                    commands.cmd("PEXPIRE").arg(self.key(user)).arg(ttl);
                }
                self.link.ask(&commands).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RedisStore");
        debug.field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// At least one: Redis takes nothing less.
fn milliseconds(ttl: Duration) -> i64 {
    let ttl = ttl.clamp(Duration::from_millis(1), LONGEST);
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

fn decode(value: &[u8]) -> Result<Settings, StoreError> {
    if value.len() > MAX_VALUE {
        return Err(StoreError::Corrupt("they are too long".into()));
    }
    // What serde says could have settings in it.
    serde_json::from_slice(value)
        .map_err(|_| StoreError::Corrupt("they are not a JSON object of at most 16 KiB".into()))
}
