//! The gate: one node.
//!
//! - This file: what a gate holds, and its handle.
//! - [`builder`]: how one is built and started.
//! - [`run`]: how it runs and stops.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_protocol::{CloseReason, ErrorCode, GateId, GroupName, Packet, SessionId, UserId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::budget::Budget;
use crate::bus::gate::Sent;
use crate::bus::{
    Bus, BusStats, Connected, GateEndpoint, GateError, GateRequest, SessionOp, SessionReply,
};
use crate::busy::Parting;
use crate::clock::Clock;
use crate::dormant::Dormant;
use crate::expose::Exposure;
use crate::hooks::Hooks;
use crate::limits::GateLimits;
use crate::log_limit::LogLimit;
use crate::metrics::calls::Services;
use crate::metrics::listeners::Listeners;
use crate::pace::Pace;
use crate::rpc;
use crate::service::Clients;
use crate::session::table::{Groups, Table};
use crate::session::users::Users;
use crate::session::{Delivery, LocalSession};
use crate::shard::Shard;
use crate::stats::{Counters, Stats};
use crate::store::keeper::Keeper;
use crate::tls::served::Served;
use crate::wrong_tokens::WrongTokens;

pub(crate) mod builder;
pub(crate) mod run;

/// What the parts of a gate share.
pub(crate) struct GateInner {
    pub(crate) id: GateId,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) hooks: Hooks,
    pub(crate) exposure: Exposure,
    pub(crate) limits: GateLimits,
    pub(crate) clock: Arc<Clock>,
    pub(crate) shards: Arc<[Arc<Shard>]>,
    pub(crate) sessions: Table,
    pub(crate) users: Users,
    pub(crate) groups: Groups,
    pub(crate) admission: Admission,
    pub(crate) pace: Pace,
    /// Clients turned away that are waited for.
    pub(crate) parting: Parting,
    pub(crate) budget: Budget,
    pub(crate) store: Keeper,
    /// Of the listeners that have it.
    pub(crate) tls: Vec<Arc<Served>>,
    /// What calls are counted by.
    pub(crate) services: Services,
    /// What connections are counted by.
    pub(crate) listeners: Listeners,
    /// Lines about packets that were not served.
    pub(crate) error_log: LogLimit,
    /// Lines about sessions and set-ups that ended as nobody wished.
    pub(crate) end_log: LogLimit,
    /// Lines about connections turned away.
    pub(crate) accept_log: LogLimit,
    /// Sessions that wait to be resumed.
    pub(crate) dormant: Dormant,
    /// Who tried resume tokens that were wrong.
    pub(crate) wrong_tokens: WrongTokens,
    /// Sessions whose end is being told.
    pub(crate) ending: Ending,
    ready: AtomicBool,
    stop_by: OnceLock<Instant>,
    /// Wakes connections in set-up that wait for their clients, again and again while the
    /// gate stops.
    pub(crate) stopping: Notify,
}

impl GateInner {
    /// For what does not happen on a shard.
    pub(crate) fn counters(&self) -> &Counters {
        &self.shards[0].counters
    }

    pub(crate) fn not_ready(&self) {
        self.ready.store(false, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop_by.get().is_some()
    }

    /// How long anything may still take: without end while the gate is not stopping.
    pub(crate) fn time_until_stopped(&self) -> Duration {
        match self.stop_by.get() {
            None => Duration::MAX,
            Some(at) => at.saturating_duration_since(Instant::now()),
        }
    }
}

/// Counts the sessions that are in no table any more but whose end has not been told to
/// everyone: the gate's stop waits for them.
#[derive(Default)]
pub(crate) struct Ending(AtomicUsize);

pub(crate) struct EndingOne<'a>(&'a Ending);

impl Ending {
    pub(crate) fn begin(&self) -> EndingOne<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        EndingOne(self)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for EndingOne<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A gate's handle: sessions, counters, and the RPC surface that services see too.
/// Cheap to clone.
#[derive(Clone)]
pub struct Gate(pub(crate) Arc<GateInner>);

impl Gate {
    /// Begins to build a gate.
    pub fn builder() -> builder::GateBuilder {
        builder::GateBuilder::new()
    }

    /// The gate's id.
    pub fn id(&self) -> &GateId {
        &self.0.id
    }

    /// What the whole gate allows.
    pub fn limits(&self) -> &GateLimits {
        &self.0.limits
    }

    /// The bus it is on.
    pub fn bus(&self) -> Arc<dyn Bus> {
        self.0.bus.clone()
    }

    /// Whether it takes clients: listeners are open and it is not stopping.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// How the bus is, and what it has counted. While it is down this gate serves what its
    /// own process serves, and answers "unavailable" for the rest.
    pub fn bus_stats(&self) -> BusStats {
        self.0.bus.stats()
    }

    /// How long the shard that is most behind has not come round to its tasks. Some
    /// 50 ms while all is well; it grows while code that blocks, or spins, keeps a shard
    /// to itself: its connections are not served meanwhile. For watchdogs.
    pub fn shard_lag(&self) -> Duration {
        let lags = self.0.shards.iter().map(|shard| shard.lag());
        lags.max().unwrap_or_default()
    }

    // --- the session table

    /// A session of this gate.
    pub fn session(&self, id: SessionId) -> Option<LocalSession> {
        self.0.sessions.get(id)
    }

    /// Every session of this gate.
    pub fn sessions(&self) -> impl Iterator<Item = LocalSession> {
        self.0.sessions.all()
    }

    /// Number of sessions.
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// Number of connections, those in set-up too.
    pub fn connection_count(&self) -> usize {
        self.0.admission.connections()
    }

    /// The sessions bound to a user.
    pub fn user_sessions(&self, user: &UserId) -> Vec<LocalSession> {
        self.0.users.get(user)
    }

    /// The sessions in a group.
    pub fn group_sessions(&self, group: &GroupName) -> Vec<LocalSession> {
        self.0.groups.get(group)
    }

    /// Closes every session. Answers how many this call closed.
    pub fn close_all(&self, reason: CloseReason) -> usize {
        self.sessions()
            .filter(|session| session.close(reason))
            .count()
    }

    // --- the RPC surface, on this gate only

    /// Applies an operation to a session, as a service would.
    pub fn apply(
        &self,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        GateEndpoint::session(&*self.0, session, op)
    }

    /// Sends to every session. Answers how many took it, by kind.
    pub async fn broadcast(&self, packet: Packet) -> Result<Sent, GateError> {
        self.broadcast_as(packet, Delivery::Critical).await
    }

    /// Like [`broadcast`](Self::broadcast), for a packet that may give way to others.
    pub async fn broadcast_as(
        &self,
        packet: Packet,
        delivery: Delivery,
    ) -> Result<Sent, GateError> {
        let request = GateRequest::Broadcast(packet, delivery);
        rpc::sent(self.0.gate(request).await)
    }

    /// Sends to every session bound to `user`.
    pub async fn send_to_user(&self, user: UserId, packet: Packet) -> Result<Sent, GateError> {
        let request = GateRequest::SendToUser(user, packet, Delivery::Critical);
        rpc::sent(self.0.gate(request).await)
    }

    /// Sends to every session in `group`.
    pub async fn send_to_group(&self, group: GroupName, packet: Packet) -> Result<Sent, GateError> {
        let request = GateRequest::SendToGroup(group, packet, Delivery::Critical);
        rpc::sent(self.0.gate(request).await)
    }

    /// Whether a session of this gate lives.
    pub fn connected(&self, session: SessionId) -> Connected {
        self.session(session)
            .map_or(Connected::Gone, |session| session.connected())
    }

    /// The same across all gates of the bus.
    pub fn clients(&self) -> Clients {
        Clients::new(self.bus())
    }

    /// Forgets what the store keeps for `user`.
    pub async fn forget(&self, user: &UserId) -> Result<(), GateError> {
        self.0.store.delete(user).await
    }

    // --- counters

    /// Counters since the gate began.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for shard in self.0.shards.iter() {
            shard.counters.add_to(&mut stats);
        }
        stats.store_errors += self.0.store.errors();
        stats
    }

    /// Connections and sessions that ended for `reason`.
    pub fn closed(&self, reason: CloseReason) -> u64 {
        let shards = self.0.shards.iter();
        shards.map(|shard| shard.counters.closed.get(reason)).sum()
    }

    /// Packets that were not served, by code; those of services share one counter.
    pub fn packet_errors(&self, code: ErrorCode) -> u64 {
        let shards = self.0.shards.iter();
        shards.map(|shard| shard.counters.errors.get(code)).sum()
    }

    /// Bytes that outbound queues and partial frames hold, within 4 KiB for each.
    pub fn memory_used(&self) -> u64 {
        self.0.budget.used()
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gate").field(&self.0.id).finish()
    }
}
