//! Memberships of real gates, over a real NATS server: the gates reach each other within this
//! process, their leases and records are in JetStream.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tidegate::bus::{
    Bus, Call, Connected, Endpoint, Event, EventTarget, GateEndpoint, GateReply, GateRequest,
    InstanceInfo, LocalBus, Policy, Registration, Responder,
};
use tidegate::{
    CloseReason, DeviceId, Gate, GateBuilder, LocalSession, Logins, Protocol, RunningGate, Tcp,
};
use tidegate_protocol::{InstanceId, Snapshot};
use tidegate_test_servers::{NatsServer, eventually};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Barrier;
use tokio::time::Instant;

use async_nats::Client;

use super::*;
use crate::record::Record;
use crate::subject::GateVerb;

mod dead;
mod logins;

/// Gates of one process, whose memberships are real.
struct Joined {
    near: LocalBus,
    client: Client,
    options: NatsOptions,
    members: Mutex<HashMap<GateId, Arc<Membership>>>,
    gone: Mutex<Vec<GateGone>>,
}

struct TestBus(Arc<Joined>);

struct TestReach(Arc<Joined>);

impl Reach for TestReach {
    fn is_used(&self, gate: &GateId) -> BoxFuture<'static, bool> {
        let ping = self.0.options.prefix.node(gate, GateVerb::Ping);
        let asked = self.0.client.clone();
        async move {
            let asked = asked.request(ping, Default::default());
            matches!(timeout(Duration::from_secs(1), asked).await, Ok(Ok(_)))
        }
        .boxed()
    }

    fn gate_gone(&self, gone: GateGone) -> BoxFuture<'static, ()> {
        self.0.gone.lock().push(gone);
        std::future::ready(()).boxed()
    }

    fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        self.0.near.session(gate, session, op)
    }
}

impl Bus for TestBus {
    fn register_gate(
        &self,
        gate: GateInfo,
        endpoint: Arc<dyn GateEndpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        let joined = self.0.clone();
        async move {
            let reach = Arc::new(TestReach(joined.clone()));
            let (client, options) = (&joined.client, &joined.options);
            let member = Membership::begin(current(client), options, gate.clone(), reach).await?;
            let id = gate.id.clone();
            let near = joined.near.register_gate(gate, endpoint).await?;
            let ping = options.prefix.node(&id, GateVerb::Ping);
            let mut pings = client.subscribe(ping).await.unwrap();
            client.flush().await.unwrap();
            let answers = client.clone();
            let pong = tokio::spawn(async move {
                while let Some(ping) = pings.next().await {
                    let reply = ping.reply.unwrap();
                    answers.publish(reply, Default::default()).await.unwrap();
                }
            });
            member.confirm().await?;
            joined.members.lock().insert(id.clone(), Arc::new(member));
            Ok(Registration::with_async_end(move || async move {
                let member = joined.members.lock().remove(&id);
                pong.abort();
                if let Some(member) = member {
                    member.end().await;
                }
                near.end().await;
            }))
        }
        .boxed()
    }

    fn users(&self, gate: &GateId) -> Option<Arc<dyn KeptLogins>> {
        let members = self.0.members.lock();
        members.get(gate).map(|member| member.users())
    }

    fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        self.0.near.session(gate, session, op)
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        self.0.near.call(call, responder);
    }
    fn event(&self, to: EventTarget<'_>, session: Arc<Snapshot>, event: Event) {
        self.0.near.event(to, session, event);
    }
    fn policy(&self, service: &str) -> Policy {
        self.0.near.policy(service)
    }
    fn register(
        &self,
        instance: InstanceInfo,
        endpoint: Arc<dyn Endpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        self.0.near.register(instance, endpoint)
    }
    fn instances(&self, service: &str) -> BoxFuture<'static, Result<Vec<InstanceInfo>, BusError>> {
        self.0.near.instances(service)
    }
    fn instance_up(&self, service: &str, instance: &InstanceId) -> BoxFuture<'static, ()> {
        self.0.near.instance_up(service, instance)
    }
    fn gates(&self) -> BoxFuture<'static, Result<Vec<GateInfo>, BusError>> {
        self.0.near.gates()
    }
    fn every_gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>> {
        self.0.near.every_gate(request)
    }
}

/// One NATS server, and gates on it.
struct Site {
    server: NatsServer,
    lease: Duration,
}

impl Site {
    async fn start(lease: u64) -> Self {
        Self {
            server: NatsServer::start().await,
            lease: Duration::from_secs(lease),
        }
    }

    fn options(&self) -> NatsOptions {
        let mut options = NatsOptions::new([self.server.url()]);
        options.lease = self.lease;
        options
    }

    /// Gates in one process share what this answers.
    async fn bus(&self) -> Arc<Joined> {
        self.bus_at(&self.server.url()).await
    }

    async fn bus_at(&self, url: &str) -> Arc<Joined> {
        Arc::new(Joined {
            near: LocalBus::new(),
            client: client(url).await,
            options: self.options(),
            members: Mutex::default(),
            gone: Mutex::default(),
        })
    }

    async fn client(&self) -> Client {
        client(&self.server.url()).await
    }
}

fn current(client: &Client) -> CurrentClient {
    let client = client.clone();
    Arc::new(move || (0, client.clone()))
}

async fn client(url: &str) -> Client {
    let options = async_nats::ConnectOptions::new().ping_interval(Duration::from_secs(1));
    options.connect(url).await.unwrap()
}

impl Joined {
    fn member(&self, id: &str) -> Arc<Membership> {
        self.members.lock()[&GateId::new(id).unwrap()].clone()
    }

    async fn record(&self, user: &str) -> Record {
        let member = self.members.lock().values().next().unwrap().clone();
        let record = member.registrar.read(&user_id(user)).await;
        record.unwrap().0
    }
}

fn builder(bus: &Arc<Joined>, id: &str) -> GateBuilder {
    let bus = Arc::new(TestBus(bus.clone()));
    Gate::builder().id(id).bus(bus).shards(1)
}

async fn gates(bus: &Arc<Joined>, logins: Logins, ids: &[&str]) -> Vec<RunningGate> {
    let gates = ids.iter().map(|id| builder(bus, id).logins(logins).start());
    let gates = join_all(gates).await;
    gates.into_iter().map(Result::unwrap).collect()
}

fn user_id(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn one() -> Logins {
    Logins::limit(NonZeroU32::MIN)
}

/// A client that only holds its connection, and its session.
async fn guest(gate: &RunningGate) -> (DuplexStream, LocalSession) {
    let before: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
    let (client, server) = duplex(4096);
    let v1 = Tcp::bind("memory").protocol(Protocol::V1);
    gate.serve(server, v1, ([127, 0, 0, 1], 1).into()).unwrap();
    let session = eventually("the client has a session", async || {
        gate.gate().sessions().find(|s| !before.contains(&s.id()))
    });
    (client, session.await)
}

fn live(sessions: &[LocalSession]) -> usize {
    let attached = |s: &&LocalSession| s.connected() == Connected::Attached && !s.is_guest();
    sessions.iter().filter(attached).count()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    eventually(what, async || condition().then_some(())).await;
}
