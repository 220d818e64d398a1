//! The gates: those of this process, and the way to those of others.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tidegate::bus::{
    Bus as _, BusError, GateEndpoint, GateError, GateInfo, Registration, SessionOp, SessionReply,
};
use tidegate_protocol::{GateId, SessionId};
use tokio::time;

use crate::bus::Inner;
use crate::counters::Counters;
use crate::link::{ConnectError, Link};
use crate::members::OverBus;
use crate::membership::Membership;
use crate::mux::AskError;
use crate::options::NatsOptions;
use crate::rpc::{self, Served, Serving};
use crate::subject::GateVerb;
use crate::wire::gate::{Asked, LiveGate, encode_list, encode_result};
use crate::wire::{self, Envelope, read_json};

/// Gates that have not answered after a silence this long, do not.
const SILENCE: Duration = Duration::from_millis(300);
/// For all gates to answer.
const ROUND: Duration = Duration::from_secs(1);
/// Replies that wait to be written: what a gate is asked comes in bursts.
const REPLIES: usize = 65_536;

impl Inner {
    /// Makes a gate reachable, unless a live one has its id.
    pub(crate) async fn register_gate(
        self: Arc<Self>,
        gate: GateInfo,
        endpoint: Arc<dyn GateEndpoint>,
    ) -> Result<Registration, BusError> {
        let unreachable = |e: ConnectError| BusError::Unavailable(e.to_string());
        // A connection to which nobody but JetStream has reason to send: whatever others make
        // of the rest, the gate renews its lease and reads the records.
        let own = Link::connect(&self.options, self.counters.clone()).await;
        let own = own.map_err(unreachable)?;
        self.mind(&own);
        let client = Arc::new(move || (own.epoch(), own.client()));
        let reach = Arc::new(OverBus(Arc::downgrade(&self)));
        let member = Membership::begin(client, &self.options, gate.clone(), reach).await?;
        let live = LiveGate {
            gate: gate.id.clone(),
            incarnation: member.incarnation(),
            version: gate.version.clone(),
            metadata: gate.metadata.clone(),
        };
        let near = self.near.register_gate(gate, endpoint.clone()).await?;
        let connection = Arc::new(Counters::default());
        let options = NatsOptions {
            outbound: self.options.outbound.max(REPLIES),
            ..self.options.clone()
        };
        let link = Link::connect(&options, connection.clone()).await;
        let link = link.map_err(unreachable)?;
        self.mind(&link);
        let bus = Arc::downgrade(&self);
        let serving = rpc::serve(
            link,
            Served {
                prefix: self.prefix.clone(),
                gate: live,
                endpoint,
                any: Arc::new(move |asked| match bus.upgrade() {
                    Some(bus) => bus.serve_any(asked),
                    // The gate ends.
                    None => futures_util::future::ready(vec![unavailable()]).boxed(),
                }),
                inbound: options.inbound,
                counters: self.counters.clone(),
                connection,
            },
        )
        .await?;
        member.confirm().await?;
        self.be_known(&member).await;
        let member = Arc::new(member);
        self.members.add(member.clone());
        let serving = Arc::new(Mutex::new(Some(serving)));
        let lost = tokio::spawn(end_when_superseded(member.clone(), serving.clone()));
        let bus = Arc::downgrade(&self);
        Ok(Registration::with_async_end(move || async move {
            lost.abort();
            // The others ask it no more; what had come is served.
            member.end().await;
            if let Some(bus) = bus.upgrade() {
                bus.members.remove(&member);
            }
            let serving = serving.lock().take();
            if let Some(serving) = serving {
                serving.end().await;
            }
            near.end().await;
        }))
    }

    /// The live gates: of all gates that can be reached, those that answer.
    pub(crate) async fn gates(self: Arc<Self>) -> Result<Vec<GateInfo>, BusError> {
        let mut gates = self.near.gates().await?;
        // Services may not ask the gates themselves.
        let others = match gates.is_empty() {
            true => self.ask_for_gates().await?,
            false => self.live_gates().await?,
        };
        for other in others.into_iter().map(GateInfo::from) {
            if !gates.iter().any(|gate| gate.id == other.id) {
                gates.push(other);
            }
        }
        Ok(gates)
    }

    async fn ask_for_gates(&self) -> Result<Vec<LiveGate>, BusError> {
        let unavailable = |why: &dyn std::fmt::Display| BusError::Unavailable(why.to_string());
        let any = self.prefix.any(GateVerb::Gates);
        let mut parts = self
            .home
            .gather(any, None, Default::default(), self.options.ask_timeout);
        let mut gates = Vec::new();
        while let Some(part) = parts.next().await {
            let Message {
                headers, payload, ..
            } = match part {
                Ok(part) => part,
                Err(AskError::NoResponders) => return Ok(Vec::new()),
                Err(error) => return Err(unavailable(&error)),
            };
            let headers = crate::header::Headers(headers.as_ref());
            if let Some(error) = wire::error::decode(headers, &payload) {
                return Err(unavailable(&error));
            }
            let part: Vec<LiveGate> = read_json(&payload).map_err(|e| unavailable(&e))?;
            gates.extend(part);
            if !headers.more().map_err(|e| unavailable(&e))? {
                return Ok(gates);
            }
        }
        Err(unavailable(&AskError::OutcomeUnknown))
    }

    /// The gates that live, those of this process too: by their leases, where a gate of this
    /// process knows them.
    pub(crate) async fn live_gates(&self) -> Result<Vec<LiveGate>, BusError> {
        match self.members.live_gates() {
            Some(gates) => Ok(gates),
            None => self.ping_gates().await,
        }
    }

    async fn ping_gates(&self) -> Result<Vec<LiveGate>, BusError> {
        let ping = self.prefix.gates(GateVerb::Ping);
        let mut replies = self.home.gather(ping, None, Default::default(), ROUND);
        let mut gates = Vec::new();
        while let Ok(Some(reply)) = time::timeout(SILENCE, replies.next()).await {
            match reply {
                Ok(reply) => gates.extend(read_json::<LiveGate>(&reply.payload).ok()),
                Err(AskError::NoResponders | AskError::OutcomeUnknown) => break,
                Err(error) => return Err(BusError::Unavailable(error.to_string())),
            }
        }
        Ok(gates)
    }

    /// Applies an operation to a session, wherever it is. Gates of this process are asked
    /// without a way over NATS.
    pub(crate) fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        match self.near.holds(gate) {
            true => self.near.session(gate, session, op),
            false => self.asks.session(&self.home, gate, session, op),
        }
    }

    /// Serves what any gate serves for all of them.
    fn serve_any(self: Arc<Self>, asked: Asked) -> BoxFuture<'static, Vec<Envelope>> {
        async move {
            match asked {
                Asked::Request(request) => encode_result(&self.every_gate(request).await),
                Asked::Gates => match self.live_gates().await {
                    Ok(gates) => encode_list(&gates),
                    Err(_) => vec![unavailable()],
                },
                // The loop answers these itself.
                Asked::Ping | Asked::Fence => Vec::new(),
                Asked::Locate(user) => match self.locate(user).await {
                    Ok(found) => encode_list(&found),
                    Err(error) => vec![wire::error::encode(&error)],
                },
            }
        }
        .boxed()
    }
}

/// Another gate has the id: what is meant for it must not reach this one.
async fn end_when_superseded(member: Arc<Membership>, serving: Arc<Mutex<Option<Serving>>>) {
    let mut standing = member.users().standing();
    if standing.wait_for(|s| s.superseded).await.is_ok() {
        let serving = serving.lock().take();
        if let Some(serving) = serving {
            serving.end().await;
        }
    }
}

fn unavailable() -> Envelope {
    wire::error::encode(&GateError::Unavailable)
}
