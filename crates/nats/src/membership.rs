//! What a gate is among the others: its id, its lease, and the logins it has in the records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate::bus::{BusError, GateError, GateGone, GateInfo, KeptLogins, SessionOp, SessionReply};
use tidegate_protocol::{GateId, SessionId, UserId};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::bucket::{Bucket, BucketOptions, CurrentClient};
use crate::gone;
use crate::lease::{Lease, MAX_LEASE};
use crate::locate;
use crate::options::NatsOptions;
use crate::record::MAX_RECORD;
use crate::registrar::{Kept, Registrar};
use crate::wire::gate::LiveGate;

/// How long a gate that ends waits until its logins are out of the records.
const WRITTEN: Duration = Duration::from_secs(2);
/// How long a gate that starts waits until it sees all gates.
const SEEN: Duration = Duration::from_secs(5);
/// Gates that died and are not looked after yet.
const DIED: usize = 64;

/// What is needed of the rest of the bus.
pub(crate) trait Reach: Send + Sync + 'static {
    /// Whether a gate with this id answers.
    fn is_used(&self, gate: &GateId) -> BoxFuture<'static, bool>;

    /// Tells the services that ask that a gate has died.
    fn gate_gone(&self, gone: GateGone) -> BoxFuture<'static, ()>;

    /// As [`Bus::session`](tidegate::bus::Bus::session).
    fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>>;
}

/// See the module. Ends when dropped, as if the gate had died; in order by [`end`](Self::end).
pub(crate) struct Membership {
    lease: Arc<Lease>,
    registrar: Arc<Registrar>,
    tasks: Vec<AbortHandle>,
}

impl Membership {
    /// Claims the gate's id, and begins to watch the others. The gate is to make itself
    /// reachable then, and to [`confirm`](Self::confirm).
    pub(crate) async fn begin(
        client: CurrentClient,
        options: &NatsOptions,
        gate: GateInfo,
        reach: Arc<dyn Reach>,
    ) -> Result<Self, BusError> {
        let (prefix, replicas) = (&options.prefix, options.replicas);
        let gates = BucketOptions {
            prefix,
            name: "gates",
            about: "Tidegate: the gates that live",
            max_age: Some(options.lease),
            max_value: MAX_LEASE,
            replicas,
        };
        let users = BucketOptions {
            prefix,
            name: "users",
            about: "Tidegate: on which gates users are",
            max_age: None,
            max_value: MAX_RECORD as i32,
            replicas,
        };
        let gates = Bucket::open(client.clone(), gates).await?;
        let users = Arc::new(Bucket::open(client, users).await?);
        let id = gate.id.clone();
        let is_used = reach.is_used(&id);
        let (lease, before) = Lease::claim(gates, gate, options.lease, is_used).await?;
        let registrar = Registrar::new(users, lease.clone());
        let (died, deaths) = mpsc::channel(DIED);
        if let Some(before) = before {
            // There is room: nobody else has it.
            let _ = died.try_send(before);
        }
        let me = format!("{id} {}", String::from(lease.incarnation()));
        let tasks = [
            tokio::spawn(lease.clone().keep()),
            tokio::spawn(lease.clone().watch(died)),
            tokio::spawn(gone::bury(deaths, registrar.clone(), reach, me)),
        ];
        Ok(Self {
            lease,
            registrar,
            tasks: tasks.iter().map(|task| task.abort_handle()).collect(),
        })
    }

    /// The gate can be reached: looks whether the id is its own still. Two that start at the
    /// same time could not find each other before.
    pub(crate) async fn confirm(&self) -> Result<(), BusError> {
        self.lease.confirm().await?;
        // Then it has seen the others too: they stand before it.
        let _ = timeout(SEEN, self.lease.seen()).await;
        Ok(())
    }

    pub(crate) fn gate(&self) -> &GateId {
        self.lease.gate()
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.lease.incarnation().0
    }

    /// Where the gate's logins are kept.
    pub(crate) fn users(&self) -> Arc<dyn KeptLogins> {
        Arc::new(Kept(self.registrar.clone()))
    }

    /// The gates that live, this one too.
    pub(crate) fn live_gates(&self) -> Vec<LiveGate> {
        self.lease.live_gates()
    }

    /// The gates on which users have sessions, and for each the users, by their places in the
    /// list. Fails where the records cannot be read.
    pub(crate) async fn gates_of(
        &self,
        users: &[UserId],
    ) -> Result<BTreeMap<GateId, Vec<usize>>, GateError> {
        locate::gates_of(&self.registrar, users).await
    }

    /// Ends it in order: the logins are taken out, and the id is free.
    pub(crate) async fn end(&self) {
        let _ = timeout(WRITTEN, self.registrar.written()).await;
        for task in &self.tasks {
            task.abort();
        }
        self.lease.release().await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
