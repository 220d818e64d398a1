//! How a gate is built and started.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use thiserror::Error;
use tidegate_protocol::{GateId, InvalidName, Packet, SessionId, Topic};
use tokio::runtime::Handle;

use super::run::RunningGate;
use crate::bus::{Bus, BusError, CallError, Ended, LocalBus};
use crate::expose::Exposure;
use crate::hooks::{Credentials, Hooks, Identity, Inbound, Refused};
use crate::limits::{GateLimits, LimitError, Limits};
use crate::listener::{ListenError, Listener};
use crate::service::{RegisterError, Service};
use crate::session::LocalSession;
use crate::store::{MemoryStore, Store};

/// How long settings outlive their user's last heartbeat, unless set: a day.
const STORE_TTL: Duration = Duration::from_secs(24 * 3600);

/// How often certificates are looked at, unless set.
const TLS_WATCH: Duration = Duration::from_secs(10);

/// Builds a gate. Nothing is checked or opened before [`start`](Self::start).
pub struct GateBuilder {
    pub(super) id: Option<String>,
    pub(super) listeners: Vec<Listener>,
    pub(super) services: Vec<Service>,
    pub(super) bus: Option<Arc<dyn Bus>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) store_ttl: Duration,
    pub(super) hooks: Hooks,
    pub(super) exposure: Exposure,
    pub(super) limits: Limits,
    pub(super) gate_limits: GateLimits,
    pub(super) shards: Option<usize>,
    pub(super) tls_watch: Option<Duration>,
}

impl GateBuilder {
    pub(super) fn new() -> Self {
        Self {
            id: None,
            listeners: Vec::new(),
            services: Vec::new(),
            bus: None,
            store: Arc::new(MemoryStore::new()),
            store_ttl: STORE_TTL,
            hooks: Hooks::default(),
            exposure: Exposure::all(),
            limits: Limits::default(),
            gate_limits: GateLimits::default(),
            shards: None,
            tls_watch: Some(TLS_WATCH),
        }
    }

    /// The gate's id on the bus, `[A-Za-z0-9_-]{1,64}`; by default a random one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds a listener.
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Runs a service in this process.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// The bus; by default one within this process.
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Where bound users' settings persist; by default in memory.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Arc::new(store);
        self
    }

    /// How long settings outlive their user's last heartbeat. A day. While the user is
    /// attached heartbeats go out every third of it, but not more often than each
    /// second.
    pub fn store_ttl(mut self, ttl: Duration) -> Self {
        self.store_ttl = ttl;
        self
    }

    /// What clients may call; by default all that services open to them. The rest does
    /// not exist for a client: its packets are answered as those for a method that is
    /// not there. Services call each other as before.
    pub fn expose(mut self, exposure: Exposure) -> Self {
        self.exposure = exposure;
        self
    }

    /// What listeners without limits of their own allow each connection.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What the whole gate allows.
    pub fn gate_limits(mut self, limits: GateLimits) -> Self {
        self.gate_limits = limits;
        self
    }

    /// Threads that serve connections, each a runtime of its own; by default one per
    /// core. 0: everything runs on the runtime that starts the gate.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// How often to look whether certificates, keys and client CAs have changed, and to
    /// serve what is new; 10 seconds, at least 10 ms. `None`: only
    /// [`Gate::reload_tls`](crate::Gate::reload_tls) does.
    ///
    /// Contents are compared, and taken once two looks agree, the second at most a
    /// second after the first.
    pub fn tls_watch(mut self, every: Option<Duration>) -> Self {
        self.tls_watch = every;
        self
    }

    // --- hooks

    /// Decides who a client is, before it has a session. Runs within the set-up
    /// deadline; with a deadline of its own after which the client is turned away.
    pub fn on_authenticate<F, R>(mut self, deadline: Duration, hook: F) -> Self
    where
        F: Fn(Credentials) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Identity, Refused>> + Send + 'static,
    {
        let hook = Box::new(move |credentials| hook(credentials).boxed());
        self.hooks.authenticate = Some((hook, deadline));
        self
    }

    /// Runs when a session begins, before its first packet is routed. A refusal
    /// closes it.
    pub fn on_started<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(LocalSession) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Refused>> + Send + 'static,
    {
        self.hooks.started = Some(Box::new(move |session| hook(session).boxed()));
        self
    }

    /// Sees each packet from a client before the router reads its topic; may rewrite
    /// or handle it. Packets of one session come one after the other; while the hook
    /// is at work the client is not read.
    pub fn on_receive<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(LocalSession, Packet) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Inbound, CallError>> + Send + 'static,
    {
        self.hooks.receive = Some(Box::new(move |session, packet| {
            hook(session, packet).boxed()
        }));
        self
    }

    /// Sees each packet whose topic follows the router's grammar, before it is routed;
    /// may answer or fail it.
    pub fn on_route<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(LocalSession, Packet) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Inbound, CallError>> + Send + 'static,
    {
        self.hooks.route = Some(Box::new(move |session, packet| {
            hook(session, packet).boxed()
        }));
        self
    }

    /// Sees each packet to a client, before its queue takes it; may rewrite or refuse
    /// it. Must not block.
    pub fn on_outbound<F>(mut self, hook: F) -> Self
    where
        F: Fn(&LocalSession, Packet) -> Result<Packet, Refused> + Send + Sync + 'static,
    {
        self.hooks.outbound = Some(Box::new(hook));
        self
    }

    /// Runs once when a session has ended.
    pub fn on_ended<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(LocalSession, Ended) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.hooks.ended = Some(Box::new(move |session, ended| hook(session, ended).boxed()));
        self
    }

    /// Runs when a client has come back for its session, before it is told so: with the
    /// session, and the id that its new connection's [`Credentials`](crate::Credentials)
    /// named. Must not block.
    pub fn on_resumed<F>(mut self, hook: F) -> Self
    where
        F: Fn(&LocalSession, SessionId) + Send + Sync + 'static,
    {
        self.hooks.resumed = Some(Box::new(hook));
        self
    }

    /// Sees each packet of a client that was not served, and why. Must not block.
    pub fn on_packet_error<F>(mut self, hook: F) -> Self
    where
        F: Fn(&LocalSession, &Topic, &CallError) + Send + Sync + 'static,
    {
        self.hooks.packet_error = Some(Box::new(hook));
        self
    }

    // --- start

    /// Checks what [`start`](Self::start) would find wrong before it listens: id, limits,
    /// listeners, certificates. Opens no socket.
    pub fn check(&self) -> Result<(), StartError> {
        self.gate_id()?;
        self.limits.check()?;
        self.gate_limits.check()?;
        for listener in &self.listeners {
            listener.clone().without_socket(&self.limits)?;
        }
        Ok(())
    }

    /// Starts the gate: checks everything, registers the services, then listens.
    pub async fn start(self) -> Result<RunningGate, StartError> {
        super::run::start(self, Handle::current()).await
    }

    /// Starts the gate, runs it until `shutdown` completes, and stops it in order.
    pub async fn run_until(self, shutdown: impl Future) -> Result<(), StartError> {
        let gate = self.start().await?;
        shutdown.await;
        gate.stop().await;
        Ok(())
    }

    pub(super) fn bus_or_local(&self) -> Arc<dyn Bus> {
        self.bus
            .clone()
            .unwrap_or_else(|| Arc::new(LocalBus::new()))
    }

    pub(super) fn gate_id(&self) -> Result<GateId, InvalidName> {
        match &self.id {
            Some(id) => GateId::new(id),
            None => GateId::new(&format!("gate-{:016x}", rand::random::<u64>())),
        }
    }
}

/// A gate that does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The id.
    #[error(transparent)]
    Id(#[from] InvalidName),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A service.
    #[error(transparent)]
    Service(#[from] RegisterError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A shard's thread.
    #[error("cannot start a shard: {0}")]
    Shard(#[from] io::Error),
}
