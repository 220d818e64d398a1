//! The gate's way to its store: with deadlines, and with heartbeats for the users that
//! are here.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tidegate_protocol::{Settings, UserId};
use tokio::time::timeout;

use super::{Store, StoreError};
use crate::bus::GateError;
use crate::gate::GateInner;
use crate::limits::LimitError;
use crate::log_limit::LogLimit;
use crate::metrics::histogram::Histogram;
use crate::stats::{Counter, Label, labels};

/// Users in one heartbeat.
const BATCH: usize = 1000;
/// Shortest time between heartbeats.
const SHORTEST: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    ttl: Duration,
    deadline: Duration,
    counts: [Counts; <Operation as Label>::ALL.len()],
    log: LogLimit,
}

/// What is counted of one operation.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By [`OUTCOMES`].
    outcomes: [Counter; OUTCOMES.len()],
    pub(crate) times: Histogram,
}

/// How an operation ended: well, or by the name of its [`StoreError`].
const OUTCOMES: [&str; 5] = ["ok", "unavailable", "full", "corrupt", "other"];

impl Counts {
    fn add(&self, outcome: &str, took: Duration) {
        let at = OUTCOMES.iter().position(|o| *o == outcome);
        self.outcomes[at.unwrap_or(OUTCOMES.len() - 1)].add(1);
        self.times.add(took, 1);
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.outcomes.iter().map(Counter::get);
        OUTCOMES.into_iter().zip(counts)
    }
}

labels! {
    /// What a store is asked to do.
    Operation {
        Query = "query",
        Save = "save",
        Delete = "delete",
        Heartbeat = "heartbeat",
    }
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
            counts: Default::default(),
            log: LogLimit::new(10),
        }
    }

    /// Operations that failed so far.
    pub(crate) fn errors(&self) -> u64 {
        let outcomes = self.counts.iter().flat_map(Counts::outcomes);
        outcomes.filter(|(o, _)| *o != "ok").map(|(_, n)| n).sum()
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (Operation, &Counts)> {
        Operation::ALL.iter().copied().zip(&self.counts)
    }

    pub(crate) async fn query(&self, user: &UserId) -> Result<Option<Settings>, GateError> {
        self.bounded(Operation::Query, async { self.store.query(user).await })
            .await
    }

    pub(crate) async fn save(&self, user: &UserId, settings: &Settings) -> Result<(), GateError> {
        let save = async { self.store.save(user, settings, self.ttl).await };
        self.bounded(Operation::Save, save).await
    }

    pub(crate) async fn delete(&self, user: &UserId) -> Result<(), GateError> {
        self.bounded(Operation::Delete, async { self.store.delete(user).await })
            .await
    }

    async fn heartbeat(&self, users: &[UserId]) -> Result<(), GateError> {
        let heartbeat = async { self.store.heartbeat(users, self.ttl).await };
        self.bounded(Operation::Heartbeat, heartbeat).await
    }

    /// Runs the store's code: within the deadline, and a panic is a failure of the
    /// operation.
    async fn bounded<T>(
        &self,
        operation: Operation,
        run: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, GateError> {
        let began = Instant::now();
        let result = match timeout(self.deadline, AssertUnwindSafe(run).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(StoreError::other("it panicked")),
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        };
        let outcome = result.as_ref().map_or_else(StoreError::name, |_| "ok");
        self.counts[operation as usize].add(outcome, began.elapsed());
        result.map_err(|error| {
            if let Some(unlogged) = self.log.admit() {
                tracing::warn!(operation = operation.label(), kind = error.name(), error = ?error.to_string(), unlogged, "the store failed");
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
