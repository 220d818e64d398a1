//! The bus: what each module does of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use async_nats::Subject;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tidegate::bus::{
    Bus, BusError, BusStats, Call, Endpoint, Event, EventTarget, GateEndpoint, GateError, GateInfo,
    GateReply, GateRequest, InstanceInfo, KeptLogins, LocalBus, Policy, Registration, Responder,
    SessionOp, SessionReply,
};
use tidegate_protocol::{GateId, InstanceId, SessionId, Snapshot};
use tokio::sync::watch;
use tokio::task;

use crate::ask::Asks;
use crate::counters::{Counters, LogLimit};
use crate::discover::Discovery;
use crate::header::Malformed;
use crate::instance;
use crate::link::{ConnectError, Link, LinkState};
use crate::members::Members;
use crate::mux::Lane;
use crate::options::{NatsOptions, OptionsError, read_auth};
use crate::subject::Prefix;

/// The bus on NATS.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate_nats::{Nats, NatsOptions};
///
/// let mut options = NatsOptions::new(["nats://127.0.0.1:4222"]);
/// options.name = "gate-1".to_owned();
/// let bus = Nats::connect(options).await?;
/// # Ok(())
/// # }
/// ```
pub struct Nats(Arc<Inner>);

/// What the modules share.
pub(crate) struct Inner {
    pub(crate) options: NatsOptions,
    pub(crate) prefix: Prefix,
    /// Of what belongs to no shard.
    pub(crate) home: Arc<Lane>,
    /// The gates' shards have one each.
    lanes: ArcSwap<Vec<(GateId, usize, Arc<Lane>)>>,
    /// The gates and instances of this process.
    pub(crate) near: LocalBus,
    /// What is asked of sessions on other gates.
    pub(crate) asks: Asks,
    pub(crate) counters: Arc<Counters>,
    pub(crate) discovery: Discovery,
    pub(crate) members: Members,
    lines: LogLimit,
    /// The connections of this process's gates, beside the lanes.
    of_gates: Mutex<Vec<watch::Receiver<LinkState>>>,
}

impl Nats {
    /// Connects.
    ///
    /// # Errors
    /// When the options cannot be used, when NATS cannot be reached (in the time that they
    /// give for it) or refuses the credentials.
    pub async fn connect(options: NatsOptions) -> Result<Arc<Self>, ConnectError> {
        options.check()?;
        let (tls, auth) = (options.tls.clone(), options.auth.clone());
        let files = move || -> Result<(), OptionsError> {
            tls.check_files()?;
            read_auth(&auth)?;
            Ok(())
        };
        task::spawn_blocking(files)
            .await
            .map_err(|e| ConnectError::Unreachable(e.to_string()))??;
        let counters = Arc::new(Counters::default());
        let link = Link::connect(&options, counters.clone()).await?;
        let home = Lane::new(link, &options, counters.clone()).await?;
        Ok(Arc::new(Self(Arc::new(Inner {
            prefix: options.prefix.clone(),
            home,
            lanes: ArcSwap::default(),
            near: LocalBus::new(),
            asks: Asks::new(options.prefix.clone(), options.ask_timeout),
            counters,
            discovery: Discovery::new(),
            members: Members::default(),
            lines: LogLimit::new(1),
            of_gates: Mutex::default(),
            options,
        }))))
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("prefix", &self.0.prefix)
            .field("name", &self.0.options.name)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The connection over which everything of a session goes, in order.
    pub(crate) fn lane_of(&self, session: Option<&Snapshot>) -> Arc<Lane> {
        let Some(session) = session else {
            return self.home.clone();
        };
        let lanes = self.lanes.load();
        // A gate's lanes stand together, by number.
        let Some(first) = lanes.iter().position(|(gate, ..)| *gate == session.gate) else {
            return self.home.clone();
        };
        let count = lanes[first..]
            .iter()
            .take_while(|(gate, ..)| *gate == session.gate)
            .count();
        lanes[first + usize::from(session.id.lane()) % count]
            .2
            .clone()
    }

    /// Whether there is a connection again, since a moment ago.
    pub(crate) fn is_back_lately(&self) -> bool {
        self.home.link.is_back_lately()
    }

    /// Counts, and tells now and then, that a message was not what it should be.
    pub(crate) fn malformed(&self, subject: &Subject, malformed: &Malformed) {
        self.counters.malformed.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.lines.admit() {
            tracing::warn!(%subject, %malformed, unlogged, "a message on NATS was refused");
        }
    }

    async fn attach(
        self: Arc<Self>,
        gate: GateId,
        number: usize,
    ) -> Result<Registration, BusError> {
        let unavailable = |e: ConnectError| BusError::Unavailable(e.to_string());
        let link = Link::connect(&self.options, self.counters.clone()).await;
        let link = link.map_err(unavailable)?;
        let lane = Lane::new(link, &self.options, self.counters.clone()).await?;
        self.change_lanes(|lanes| {
            lanes.push((gate.clone(), number, lane.clone()));
            lanes.sort_by(|(a, m, _), (b, n, _)| (a, m).cmp(&(b, n)));
        });
        let bus: Weak<Self> = Arc::downgrade(&self);
        Ok(Registration::new(move || {
            if let Some(bus) = bus.upgrade() {
                bus.change_lanes(|lanes| {
                    lanes.retain(|(g, n, _)| (g, *n) != (&gate, number));
                });
            }
        }))
    }

    fn change_lanes(&self, change: impl Fn(&mut Vec<(GateId, usize, Arc<Lane>)>)) {
        self.lanes.rcu(|lanes| {
            let mut lanes = Vec::clone(lanes);
            change(&mut lanes);
            lanes
        });
    }

    /// Counts this connection of a gate when it is asked whether the bus is down.
    pub(crate) fn mind(&self, link: &Link) {
        self.of_gates.lock().push(link.changes());
    }

    fn is_gate_cut_off(&self) -> bool {
        let mut links = self.of_gates.lock();
        // Those of gates that have ended go.
        links.retain(|link| link.has_changed().is_ok());
        links.iter().any(|link| !link.borrow().up)
    }

    fn stats(&self) -> BusStats {
        let lanes = self.lanes.load();
        let lanes = || lanes.iter().map(|(.., lane)| lane).chain([&self.home]);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        BusStats {
            down: lanes().any(|lane| !lane.link.is_up()) || self.is_gate_cut_off(),
            disconnects: count(&counters.disconnects),
            calls_in_flight: lanes().map(|lane| lane.waiting() as u64).sum(),
            late_answers: count(&counters.late_answers),
            overflowed: count(&counters.overflowed),
            malformed: count(&counters.malformed),
            overloaded: count(&counters.overloaded),
            forbidden: count(&counters.forbidden),
            undelivered_events: count(&counters.undelivered_events)
                + self.near.undelivered_events(),
            lost_events: count(&counters.lost_events),
        }
    }
}

impl Bus for Nats {
    fn call(&self, call: Call<'_>, responder: Responder) {
        self.0.call(call, responder);
    }

    fn event(&self, to: EventTarget<'_>, session: Arc<Snapshot>, event: Event) {
        self.0.event(to, session, event);
    }

    fn policy(&self, service: &str) -> Policy {
        self.0.discovery.policy(service)
    }

    fn register(
        &self,
        instance: InstanceInfo,
        endpoint: Arc<dyn Endpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        instance::register(self.0.clone(), instance, endpoint).boxed()
    }

    fn instances(&self, service: &str) -> BoxFuture<'static, Result<Vec<InstanceInfo>, BusError>> {
        self.0.clone().instances(service.to_owned()).boxed()
    }

    fn instance_up(&self, service: &str, instance: &InstanceId) -> BoxFuture<'static, ()> {
        self.0.instance_up(service, instance)
    }

    fn register_gate(
        &self,
        gate: GateInfo,
        endpoint: Arc<dyn GateEndpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        self.0.clone().register_gate(gate, endpoint).boxed()
    }

    fn gates(&self) -> BoxFuture<'static, Result<Vec<GateInfo>, BusError>> {
        self.0.clone().gates().boxed()
    }

    fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        self.0.session(gate, session, op)
    }

    fn every_gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>> {
        self.0.every_gate(request)
    }

    fn users(&self, gate: &GateId) -> Option<Arc<dyn KeptLogins>> {
        self.0.members.users(gate)
    }

    fn attach_shard(
        &self,
        gate: &GateId,
        number: usize,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        self.0.clone().attach(gate.clone(), number).boxed()
    }

    fn flush(&self) -> BoxFuture<'static, ()> {
        let lanes = self.0.lanes.load();
        let lanes = lanes.iter().map(|(.., lane)| lane).chain([&self.0.home]);
        let flushed: Vec<_> = lanes
            .map(|lane| {
                let lane = lane.clone();
                async move { lane.flush().await }
            })
            .collect();
        join_all(flushed).map(drop).boxed()
    }

    fn stats(&self) -> BusStats {
        self.0.stats()
    }
}
