//! Sessions: logical clients, as the gate holds them.
//!
//! - This file: the session and what hooks can do with it.
//! - [`flow`]: what is under way: the outbound queue and the calls in flight. [`queue`]: which
//!   packets wait, and which give way; [`entry`]: what stands in it.
//! - [`extended`]: what a session has whose client speaks the extended protocol.
//! - [`resume`]: how it waits for its client, and how the client comes back.
//! - [`send`]: the way of a packet into the queue, and of an answer.
//! - [`change`]: bind, unbind, settings, groups, instance bindings; and the end.
//! - [`table`]: all sessions and groups of a gate. [`users`]: whom they are bound to;
//!   [`logins`]: how often one user may be; [`beyond`]: where they are kept for many gates.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_protocol::{
    CloseReason, DeviceId, GateId, GroupName, InstanceId, Name, Network, SessionId, Settings,
    Snapshot, UserId,
};

use crate::bus::Connected;
use crate::clock::Tick;
use crate::gate::GateInner;
use crate::listener::Endpoint;
use crate::metrics::listeners::OpenConnections;
use crate::shard::Shard;
use crate::stats::Counters;

pub(crate) mod beyond;
pub(crate) mod change;
pub(crate) mod entry;
pub(crate) mod extended;
pub(crate) mod flow;
pub(crate) mod logins;
mod queue;
pub(crate) mod resume;
pub(crate) mod send;
pub(crate) mod table;
pub(crate) mod users;

pub use entry::Delivery;
use flow::{Closing, Flow, Phase};

/// A session of this gate, as hooks and the gate's owner see it. Cheap to clone.
///
/// Services see a [`Session`](crate::service::Session) instead, which works wherever
/// the service runs.
#[derive(Clone)]
pub struct LocalSession(Arc<Core>);

/// One session. Does not contain the socket; where its connection is can change.
pub(crate) struct Core {
    pub(crate) id: SessionId,
    pub(crate) gate: Arc<GateInner>,
    at: ArcSwap<Attachment>,
    pub(crate) began: Tick,
    /// Identity and settings: replaced, never changed.
    info: Mutex<Arc<Snapshot>>,
    pub(crate) flow: Mutex<Flow>,
    extra: Mutex<Option<Box<Extra>>>,
    /// Whether `extra` holds instance bindings: looked at for each packet.
    pub(crate) has_bindings: AtomicBool,
    /// Held while a packet of the extended protocol is taken and handed on: two connections
    /// that have the session one after the other do not hand on at a time.
    pub(crate) turn: Mutex<()>,
    /// Whether the gate's own code has been told, or is being told, that it began.
    pub(crate) announced: AtomicBool,
    pub(crate) sent: AtomicU64,
}

/// Where a session's connection is. Connections of one listener on one shard share it.
pub(crate) struct Attachment {
    /// Codec and limits.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Who serves the connection.
    pub(crate) shard: Arc<Shard>,
    /// The listener's connections, counted.
    pub(crate) open: Arc<OpenConnections>,
}

impl Attachment {
    /// What connections of a listener may have, on each shard.
    pub(crate) fn on_each(gate: &GateInner, endpoint: Arc<Endpoint>) -> Vec<Arc<Self>> {
        let open = gate.listeners.open(&endpoint.name, endpoint.network());
        let on = |shard: &Arc<Shard>| {
            Arc::new(Self {
                endpoint: endpoint.clone(),
                shard: shard.clone(),
                open: open.clone(),
            })
        };
        gate.shards.iter().map(on).collect()
    }

    /// The one of the shard with the fewest connections. There must be one at least.
    pub(crate) fn quietest(places: &[Arc<Self>]) -> Arc<Self> {
        let quietest = places.iter().min_by_key(|at| at.shard.len());
        quietest.unwrap_or(&places[0]).clone()
    }
}

/// The counters of the shard that a session is on.
pub(crate) struct CountersOf(Guard<Arc<Attachment>>);

impl Deref for CountersOf {
    type Target = Counters;
    fn deref(&self) -> &Counters {
        &self.0.shard.counters
    }
}

impl Core {
    /// Where the session's connection is now, or was last.
    pub(crate) fn at(&self) -> Guard<Arc<Attachment>> {
        self.at.load()
    }

    pub(crate) fn counters(&self) -> CountersOf {
        CountersOf(self.at())
    }
}

/// What few sessions have.
#[derive(Default)]
pub(crate) struct Extra {
    /// Data of the gate's own code; never travels.
    pub(crate) data: Option<Arc<dyn Any + Send + Sync>>,
    /// Groups it is in.
    pub(crate) groups: SmallVec<[GroupName; 2]>,
    /// Instances it is bound to.
    pub(crate) bindings: Vec<crate::dispatch::Binding>,
    /// Puts changes that go to the store in order.
    pub(crate) turn: Option<Arc<tokio::sync::Mutex<()>>>,
    /// Whom it is being bound to, on a bus that keeps the logins.
    pub(crate) entering: Option<UserId>,
    /// Why the connection broke, for those who look.
    pub(crate) last_error: Option<String>,
}

impl LocalSession {
    /// A session that no connection drains yet.
    pub(crate) fn new(info: Snapshot, gate: Arc<GateInner>, at: Arc<Attachment>) -> Self {
        Self(Arc::new(Core {
            id: info.id,
            at: ArcSwap::new(at),
            began: gate.clock.now(),
            gate,
            info: Mutex::new(Arc::new(info)),
            flow: Mutex::new(Flow::new()),
            extra: Mutex::new(None),
            has_bindings: AtomicBool::new(false),
            turn: Mutex::new(()),
            announced: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        }))
    }

    /// Makes a connection at `at` the one that drains the session, unless another did so
    /// since `epoch`, or the session has ended. Answers the new epoch; a connection of an
    /// older one ends without ending the session.
    pub(crate) fn attach(&self, at: &Arc<Attachment>, epoch: u32) -> Option<u32> {
        let mut flow = self.0.flow.lock();
        let epoch = flow.attach(epoch)?;
        self.0.at.store(at.clone());
        Some(epoch)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.0
    }

    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// The gate's id.
    pub fn gate_id(&self) -> &GateId {
        &self.0.gate.id
    }

    /// The session as services see it now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.info.lock().clone()
    }

    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        self.0.info.lock().ip
    }

    /// What its connection runs over.
    pub fn network(&self) -> Network {
        self.0.info.lock().network
    }

    /// The name of the listener it came by.
    pub fn listener(&self) -> Arc<str> {
        self.0.at().endpoint.name.clone()
    }

    /// The user it is bound to.
    pub fn user(&self) -> Option<UserId> {
        self.0.info.lock().user.clone()
    }

    /// The client's device, as far as it is known.
    pub fn device(&self) -> Option<DeviceId> {
        self.0.info.lock().device.clone()
    }

    /// Whether it has no user.
    pub fn is_guest(&self) -> bool {
        self.0.info.lock().is_guest()
    }

    /// One of its settings.
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.info.lock().settings.get(key).map(str::to_owned)
    }

    /// Its settings now.
    pub fn settings(&self) -> Settings {
        self.0.info.lock().settings.clone()
    }

    /// Groups all its calls in traces (W3C Trace Context trace-id).
    pub fn trace_id(&self) -> u128 {
        self.0.info.lock().trace_id
    }

    /// Data of the gate's own code; it never travels to services.
    pub fn local_data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let data = self.0.extra.lock().as_ref()?.data.clone()?;
        data.downcast().ok()
    }

    /// Sets the data of the gate's own code; one value, of any type.
    pub fn set_local_data<T: Any + Send + Sync>(&self, data: T) {
        self.with_extra(|extra| extra.data = Some(Arc::new(data)));
    }

    /// Packets received from the client.
    pub fn packets_received(&self) -> u64 {
        self.0.flow.lock().received()
    }

    /// Packets written to the client's socket.
    pub fn packets_sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// How long ago it began; in steps of 50 ms.
    pub fn age(&self) -> Duration {
        let now = self.0.gate.clock.now();
        crate::clock::TICK * now.0.saturating_sub(self.0.began.0)
    }

    /// When it began, by the wall clock.
    pub fn opened_at(&self) -> SystemTime {
        SystemTime::now() - self.age()
    }

    /// Packets and bytes that wait for the client, and calls in flight.
    pub fn backlog(&self) -> Backlog {
        let flow = self.0.flow.lock();
        Backlog {
            bytes: flow.queued_bytes(),
            calls: flow.calls() as u32,
        }
    }

    /// Why its connection broke, once it has.
    pub fn last_error(&self) -> Option<String> {
        self.0.extra.lock().as_ref()?.last_error.clone()
    }

    /// Whether it lives, and has a connection.
    pub fn connected(&self) -> Connected {
        let flow = self.0.flow.lock();
        match flow.phase {
            Phase::Open if flow.is_dormant() => Connected::Dormant,
            Phase::Open => Connected::Attached,
            Phase::Closing(_) | Phase::Ended => Connected::Gone,
        }
    }

    pub(crate) fn is_dormant(&self) -> bool {
        self.connected() == Connected::Dormant
    }

    /// Closes the session once what is queued now has been written. Answers whether
    /// this call was the one that closed it. Never waits.
    pub fn close(&self, reason: CloseReason) -> bool {
        self.close_as(Closing {
            reason,
            finish_calls: false,
        })
    }

    pub(crate) fn close_after_calls(&self, reason: CloseReason) {
        self.close_as(Closing {
            reason,
            finish_calls: true,
        });
    }

    /// Closes the session while it has no connection. Answers whether this call did.
    pub(crate) fn close_dormant(&self, reason: CloseReason) -> bool {
        let closing = Closing {
            reason,
            finish_calls: false,
        };
        let closed = {
            let mut flow = self.0.flow.lock();
            flow.is_dormant() && flow.close(closing)
        };
        if closed {
            self.end_without_connection(reason);
        }
        closed
    }

    fn close_as(&self, closing: Closing) -> bool {
        let (closed, dormant) = {
            let mut flow = self.0.flow.lock();
            (flow.close(closing), flow.is_dormant())
        };
        if closed && dormant {
            self.end_without_connection(closing.reason);
        }
        closed
    }

    /// No connection is there to end it.
    fn end_without_connection(&self, reason: CloseReason) {
        let shard = self.0.at().shard.clone();
        shard.spawn(self.clone().end(reason, (0, 0)));
    }

    /// Changes identity or settings; services called from now on see it.
    pub(crate) fn change_info<T>(&self, f: impl FnOnce(&mut Snapshot) -> T) -> (T, Arc<Snapshot>) {
        let mut info = self.0.info.lock();
        let result = f(Arc::make_mut(&mut info));
        (result, info.clone())
    }

    pub(crate) fn with_extra<T>(&self, f: impl FnOnce(&mut Extra) -> T) -> T {
        f(self.0.extra.lock().get_or_insert_default())
    }

    /// Looks at what few sessions have, without giving it to one that has nothing.
    pub(crate) fn if_extra<T>(&self, f: impl FnOnce(&mut Extra) -> T) -> Option<T> {
        self.0.extra.lock().as_deref_mut().map(f)
    }

    /// The instance of `service` it is bound to.
    pub fn bound_instance(&self, service: &str) -> Option<InstanceId> {
        self.if_extra(|extra| {
            let bindings = extra.bindings.iter();
            let mut of_service = bindings.filter(|b| b.service == *service);
            of_service.next().map(|b| b.instance.clone())
        })?
    }

    /// The services it has instance bindings to.
    pub fn instance_bindings(&self) -> Vec<(Name, InstanceId)> {
        let list = |extra: &mut Extra| {
            let bindings = extra.bindings.iter();
            bindings
                .map(|b| (b.service.clone(), b.instance.clone()))
                .collect()
        };
        self.if_extra(list).unwrap_or_default()
    }

    /// The groups it is in.
    pub fn groups(&self) -> Vec<GroupName> {
        self.if_extra(|extra| extra.groups.to_vec())
            .unwrap_or_default()
    }
}

impl fmt::Debug for LocalSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalSession").field(&self.0.id).finish()
    }
}

/// What is under way in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes of topic and body that wait for the client.
    pub bytes: u32,
    /// Calls whose answers have not come.
    pub calls: u32,
}
