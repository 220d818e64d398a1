//! The gate's way to its store: with deadlines, and with heartbeats for the users that
//! are here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::{Settings, UserId};
use tokio::time::timeout;

use super::{Store, StoreError};
use crate::bus::GateError;
use crate::gate::GateInner;

/// Users in one heartbeat.
const BATCH: usize = 1000;
/// Shortest time between heartbeats.
const SHORTEST: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    ttl: Duration,
    deadline: Duration,
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn Store>, ttl: Duration, deadline: Duration) -> Self {
        Self {
            store,
            ttl,
            deadline,
        }
    }

    pub(crate) async fn query(&self, user: &UserId) -> Result<Option<Settings>, GateError> {
        self.bounded(self.store.query(user)).await
    }

    pub(crate) async fn save(&self, user: &UserId, settings: &Settings) -> Result<(), GateError> {
        self.bounded(self.store.save(user, settings, self.ttl))
            .await
    }

    pub(crate) async fn delete(&self, user: &UserId) -> Result<(), GateError> {
        self.bounded(self.store.delete(user)).await
    }

    async fn bounded<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, GateError> {
        let result = match timeout(self.deadline, operation).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        };
        result.map_err(|error| {
            tracing::warn!(%error, "the store failed");
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
            let heartbeat = gate.store.store.heartbeat(batch, gate.store.ttl);
            if gate.store.bounded(heartbeat).await.is_err() {
                gate.counters().store_errors.add(1);
            }
        }
    }
}
