//! How a gate runs and stops.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_protocol::CloseReason;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::builder::{GateBuilder, StartError};
use super::{Ending, Gate, GateInner};
use crate::accept::{self, accept};
use crate::admission::Admission;
use crate::budget::Budget;
use crate::bus::{Connected, GateInfo, Registration};
use crate::busy::Parting;
use crate::clock::Clock;
use crate::dormant::Dormant;
use crate::limits::Limits;
use crate::listener::{Endpoint, ListenError, Listener, Local, SocketFile};
use crate::log_limit::LogLimit;
use crate::metrics::calls::Services;
use crate::metrics::listeners::Listeners;
use crate::pace::Pace;
use crate::proxy::Remote;
use crate::rpc;
use crate::service::RunningService;
use crate::session::beyond;
use crate::session::table::{Groups, Table};
use crate::session::users::Users;
use crate::session::{Attachment, LocalSession};
use crate::setup::{self, Source};
use crate::shard::{self, Shard};
use crate::store::keeper::{self, Keeper};
use crate::tls::reload;
use crate::transport::Stream;
use crate::wrong_tokens::WrongTokens;

/// How often the byte budget, and sessions that wait, are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How long a stop waits for connections that are being set up.
const FOR_SET_UPS: Duration = Duration::from_millis(500);
/// Part of the shutdown deadline that is kept for the services, after the clients.
const FOR_SERVICES: u32 = 5;

/// A gate that runs. Dropping it ends everything at once, and tells neither clients nor
/// services nor hooks; [`stop`](Self::stop) ends it in order.
pub struct RunningGate {
    gate: Gate,
    listeners: Vec<(Arc<str>, Local)>,
    /// Of Unix-domain listeners, removed when they close.
    files: Vec<SocketFile>,
    /// One for each listener.
    acceptors: Vec<AbortHandle>,
    tasks: Vec<AbortHandle>,
    services: Vec<RunningService>,
    registration: Option<Registration>,
    /// One for each shard.
    lanes: Vec<Registration>,
    threads: Threads,
    /// For connections of listeners without limits of their own.
    limits: Limits,
}

pub(super) async fn start(builder: GateBuilder, home: Handle) -> Result<RunningGate, StartError> {
    let id = builder.gate_id()?;
    let bus = builder.bus_or_local();
    builder.limits.check()?;
    builder.gate_limits.check()?;
    keeper::check_ttl(builder.store_ttl)?;
    // Sockets are bound before anything runs: what cannot be had stops the start.
    let mut sockets = Vec::new();
    for listener in builder.listeners {
        sockets.push(listener.open(&builder.limits)?);
    }
    let tls: Vec<_> = sockets
        .iter()
        .filter_map(|(_, endpoint)| endpoint.tls.clone())
        .collect();
    let clock = Arc::new(Clock::new());
    let (shards, threads) = start_shards(builder.shards, &home, &clock)?;
    let limits = builder.gate_limits;
    let gate = Gate(Arc::new(GateInner {
        admission: Admission::new(limits.max_connections, limits.max_connections_per_address),
        pace: Pace::new(limits.accept_rate),
        parting: Parting::default(),
        budget: Budget::new(limits.memory_budget),
        store: Keeper::new(builder.store, builder.store_ttl, limits.store_timeout),
        services: Services::new(),
        listeners: Listeners::default(),
        id: id.clone(),
        bus: bus.clone(),
        hooks: builder.hooks,
        exposure: builder.exposure,
        limits,
        clock,
        shards,
        tls: tls.clone(),
        sessions: Table::new(),
        users: Users::new(builder.logins),
        groups: Groups::new(),
        error_log: LogLimit::new(10),
        end_log: LogLimit::new(10),
        accept_log: LogLimit::new(1),
        dormant: Dormant::default(),
        wrong_tokens: WrongTokens::default(),
        ending: Ending::default(),
        ready: AtomicBool::new(false),
        stop_by: OnceLock::new(),
        stopping: Notify::new(),
    }));
    let mut running = RunningGate {
        gate,
        listeners: Vec::new(),
        files: Vec::new(),
        acceptors: Vec::new(),
        tasks: Vec::new(),
        services: Vec::new(),
        registration: None,
        lanes: Vec::new(),
        threads,
        limits: builder.limits,
    };
    let info = GateInfo {
        id,
        version: env!("CARGO_PKG_VERSION").into(),
        metadata: Default::default(),
    };
    let inner = running.gate.0.clone();
    for (number, shard) in inner.shards.iter().enumerate() {
        let attached = shard.handle().spawn(bus.attach_shard(&inner.id, number));
        running
            .lanes
            .push(attached.await.map_err(io::Error::other)??);
    }
    running.registration = Some(bus.register_gate(info, rpc::endpoint(&inner)).await?);
    if let Some(kept) = bus.users(&inner.id) {
        inner.users.keep_beyond(kept.clone());
        running.spawn(&home, beyond::keep_standing(inner.clone(), kept));
    }
    for service in builder.services {
        let service = service.register(bus.clone()).await?;
        inner.services.add(service.service());
        running.services.push(service);
    }
    running.spawn(&home, keeper::heartbeats(inner.clone()));
    running.spawn(&home, keep_house(inner.clone()));
    if !tls.is_empty() {
        running.spawn(&home, reload::remind(tls.clone()));
        if let Some(every) = builder.tls_watch {
            running.spawn(&home, reload::watch(tls, every));
        }
    }
    for (i, (bound, endpoint)) in sockets.into_iter().enumerate() {
        let endpoint = Arc::new(endpoint);
        announce(&endpoint, &bound.local);
        running.listeners.push((endpoint.name.clone(), bound.local));
        running.files.extend(bound.file);
        let shard = inner.shards[i % inner.shards.len()].clone();
        let accepting = accept(inner.clone(), bound.socket, endpoint);
        let task = shard.handle().spawn(accepting);
        running.acceptors.push(task.abort_handle());
    }
    inner.ready.store(true, Ordering::Release);
    Ok(running)
}

type Threads = Vec<(oneshot::Sender<()>, JoinHandle<()>)>;

fn start_shards(
    shards: Option<usize>,
    home: &Handle,
    clock: &Arc<Clock>,
) -> io::Result<(Arc<[Arc<Shard>]>, Threads)> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    match shards.unwrap_or_else(cores) {
        0 => Ok((
            [Shard::guest(home.clone(), clock.clone())].into(),
            Vec::new(),
        )),
        n => {
            let mut threads = Vec::new();
            let mut shards = Vec::new();
            for number in 0..n {
                let (handle, stop, thread) = shard::spawn_thread(number)?;
                shards.push(Shard::new(number, handle, clock.clone()));
                threads.push((stop, thread));
            }
            Ok((shards.into(), threads))
        }
    }
}

fn announce(endpoint: &Endpoint, address: &Local) {
    tracing::info!(
        listener = %endpoint.name,
        %address,
        network = endpoint.network().as_str(),
        tls = endpoint.tls.is_some(),
        "listening"
    );
    if endpoint.resume_over_plaintext && endpoint.tls.is_none() {
        tracing::warn!(
            listener = %endpoint.name,
            "sessions are resumed without TLS: whoever reads the traffic can take them over"
        );
    }
    if let Some(cipher) = endpoint.cipher {
        tracing::warn!(
            listener = %endpoint.name,
            cipher,
            "a legacy cipher, for old clients only: packets are unauthenticated and \
             deterministic, and can be forged, replayed and reordered; use TLS"
        );
    }
}

/// Looks after sessions that wait to be resumed. When more bytes wait than the gate may
/// hold, drops what may be dropped, then closes the sessions that hold most: in the middle
/// of a frame, for a socket that takes nothing, or without a connection.
async fn keep_house(gate: Arc<GateInner>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let now = gate.clock.now();
        for session in gate.dormant.due(now, &gate.sessions) {
            session.look_after(now);
        }
        let mut excess = gate.budget.excess();
        if excess == 0 {
            continue;
        }
        let weigh = |session: LocalSession| {
            session.shed_droppable();
            let weight = session.core().flow.lock().weight();
            (weight > 0).then_some((weight, session))
        };
        let mut fat: Vec<_> = gate.sessions.all().filter_map(weigh).collect();
        fat.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        gate.counters().sheds.add(1);
        tracing::warn!(
            excess,
            holders = fat.len(),
            "the byte budget is spent; closing the fattest"
        );
        for (weight, session) in fat {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(u64::from(weight));
            session.close(CloseReason::MemoryPressure);
        }
    }
}

/// Tells clients that the gate is going to close, and serves them until they have gone, or
/// the time is over. Who is dormant cannot come back here and is not waited for.
async fn drain(gate: &GateInner, wait: Duration) {
    let until = Instant::now() + wait;
    let attached = || {
        let all = gate.sessions.all();
        all.filter(|s| s.connected() == Connected::Attached).count()
    };
    tracing::info!(sessions = attached(), ?wait, "draining");
    let mut told = HashSet::new();
    loop {
        // Again and again: a connection in set-up becomes a session meanwhile.
        for session in gate.sessions.all() {
            if told.insert(session.id()) {
                session.tell_drain(until - Instant::now());
            }
        }
        let gone = attached() == 0 && gate.admission.connections() == 0;
        if gone || Instant::now() >= until {
            return;
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}

impl RunningGate {
    /// The gate's handle.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The listeners' names and addresses, in the order they were given. Unix-domain
    /// listeners have none.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, Option<SocketAddr>)> {
        let listeners = self.listeners.iter();
        listeners.map(|(name, at)| (&**name, at.ip()))
    }

    /// The address of the `i`th listener, for those that took a free port.
    pub fn address(&self, i: usize) -> Option<SocketAddr> {
        self.listeners.get(i)?.1.ip()
    }

    /// Serves one connection that the caller brings, as if `listener` had accepted it
    /// from `peer`. TLS is not possible here: bring a stream that has it.
    pub fn serve(
        &self,
        stream: impl Stream + 'static,
        listener: impl Into<Listener>,
        peer: SocketAddr,
    ) -> Result<(), ListenError> {
        let gate = &self.gate.0;
        let endpoint = listener.into().without_socket(&self.limits)?;
        let places = Attachment::on_each(gate, Arc::new(endpoint));
        let at = Attachment::quietest(&places);
        at.shard.counters.accepted.add(1);
        let peer = Remote::from(peer);
        let place = match accept::place(gate, &at.endpoint, peer) {
            Ok(place) => place,
            Err(why) => {
                accept::turned_away(gate, &at, peer, why);
                return Ok(());
            }
        };
        let source = Source::Stream(Box::new(stream));
        setup::spawn(gate.clone(), at, peer, place, source);
        Ok(())
    }

    /// Stops in order: not ready, listeners closed, clients drained where that is wished;
    /// then calls under way finished, queues flushed, clients told, services drained; all
    /// within the shutdown timeout, which no client can stretch.
    pub async fn stop(mut self) {
        let inner = self.gate.0.clone();
        inner.ready.store(false, Ordering::Release);
        self.close_listeners();
        if let Some(wait) = inner.limits.drain_wait {
            drain(&inner, wait).await;
        }
        let began = Instant::now();
        let timeout = inner.limits.shutdown_timeout;
        let clients_by = began + timeout - timeout / FOR_SERVICES;
        // Set once: this consumes the gate.
        let _ = inner.stop_by.set(clients_by);
        tracing::info!(sessions = inner.sessions.len(), "stopping");
        self.end_tasks();
        // Again and again: a connection in set-up becomes a session meanwhile. One that
        // does not was promised nothing.
        loop {
            let told = inner.sessions.len() == 0 && inner.ending.count() == 0;
            let set_up = inner.admission.connections() == 0 || began.elapsed() >= FOR_SET_UPS;
            if told && set_up {
                break;
            }
            inner.stopping.notify_waiters();
            for session in inner.sessions.all() {
                session.close_after_calls(CloseReason::Shutdown);
            }
            if Instant::now() >= clients_by + timeout / (2 * FOR_SERVICES) {
                tracing::warn!(
                    connections = inner.admission.connections(),
                    ending = inner.ending.count(),
                    "connections cut off at the shutdown deadline"
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = (began + timeout).saturating_duration_since(Instant::now());
        let services = self.services.drain(..).map(|s| s.stop_within(left));
        futures_util::future::join_all(services).await;
        let registration = self.registration.take();
        let last = async {
            // That the sessions ended, the services are to hear.
            inner.bus.flush().await;
            if let Some(registration) = registration {
                registration.end().await;
            }
        };
        let left = (began + timeout).saturating_duration_since(Instant::now());
        // Late, it goes on by itself as long as the runtime does.
        let _ = tokio::time::timeout(left, last).await;
        tracing::info!(took = ?began.elapsed(), "stopped");
    }

    fn close_listeners(&mut self) {
        self.files.clear();
        for acceptor in self.acceptors.drain(..) {
            acceptor.abort();
        }
    }

    fn end_tasks(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }

    fn spawn(&mut self, on: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(on.spawn(task).abort_handle());
    }
}

impl Drop for RunningGate {
    fn drop(&mut self) {
        self.close_listeners();
        self.end_tasks();
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            // Its panic, if it had one, has been reported when it happened.
            let _ = thread.join();
        }
        let inner = &self.gate.0;
        inner.ready.store(false, Ordering::Release);
        for shard in inner.shards.iter() {
            shard.cut_off();
        }
        // What is left was cut off. Sessions hold the gate, and the gate them.
        for session in inner.sessions.take_all() {
            let (packets, _) = session.core().flow.lock().end();
            inner.counters().undelivered.add(packets);
            inner.counters().sessions_ended.add(1);
        }
        inner.users.clear();
        inner.groups.clear();
    }
}
