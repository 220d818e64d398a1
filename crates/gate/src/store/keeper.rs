//! The gate's way to its store: with deadlines, and with heartbeats for the users that
//! are here.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tidegate_protocol::{Settings, UserId};
use tokio::time::timeout;

use super::{Store, StoreError};
use crate::bus::GateError;
use crate::gate::GateInner;
use crate::limits::LimitError;
use crate::log_limit::LogLimit;

/// Users in one heartbeat.
const BATCH: usize = 1000;
/// Shortest time between heartbeats.
const SHORTEST: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    ttl: Duration,
    deadline: Duration,
    errors: AtomicU64,
    log: LogLimit,
}

/// Whether heartbeats come often enough to keep what lives this long.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), LimitError> {
    let least = 2 * SHORTEST;
    if ttl < least {
        return Err(LimitError::TooSmall {
            name: "store_ttl (in milliseconds)",
            value: ttl.as_millis() as u64,
            least: least.as_millis() as u64,
        });
    }
    Ok(())
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn Store>, ttl: Duration, deadline: Duration) -> Self {
        Self {
            store,
            ttl,
            deadline,
            errors: AtomicU64::new(0),
            log: LogLimit::new(10),
        }
    }

    /// Operations that failed so far.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(crate) async fn query(&self, user: &UserId) -> Result<Option<Settings>, GateError> {
        self.bounded("query", async { self.store.query(user).await })
            .await
    }

    pub(crate) async fn save(&self, user: &UserId, settings: &Settings) -> Result<(), GateError> {
        let save = async { self.store.save(user, settings, self.ttl).await };
        self.bounded("save", save).await
    }

    pub(crate) async fn delete(&self, user: &UserId) -> Result<(), GateError> {
        self.bounded("delete", async { self.store.delete(user).await })
            .await
    }

    async fn heartbeat(&self, users: &[UserId]) -> Result<(), GateError> {
        let heartbeat = async { self.store.heartbeat(users, self.ttl).await };
        self.bounded("heartbeat", heartbeat).await
    }

    /// Runs the store's code: within the deadline, and a panic is a failure of the
    /// operation.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        run: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, GateError> {
        let result = match timeout(self.deadline, AssertUnwindSafe(run).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(StoreError::other("it panicked")),
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        };
        result.map_err(|error| {
            self.errors.fetch_add(1, Ordering::Relaxed);
            if let Some(unlogged) = self.log.admit() {
                tracing::warn!(operation, kind = error.name(), error = ?error.to_string(), unlogged, "the store failed");
            }
            GateError::Store(error.to_string())
        })
    }
}

/// Extends the expiry of the users that are here, every third of it.
pub(crate) async fn heartbeats(gate: Arc<GateInner>) {
    let every = (gate.store.ttl / 3).max(SHORTEST);
    loop {
        tokio::time::sleep(every).await;
        let users = gate.users.keys();
        for batch in users.chunks(BATCH) {
            // Counted and logged where it failed; the next round tries again.
            let _ = gate.store.heartbeat(batch).await;
        }
    }
}
