//! A server, buses on it, and callers that need no gate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::{Bus, Call, CallResult, Caller, Responder};
use tidegate_nats::{Nats, NatsOptions};
use tidegate_protocol::{GateId, InstanceId, Network, SessionId, Settings, Snapshot, UserId};
use tidegate_test_servers::NatsServer;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Only turns a hang into a failure.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn options(url: &str, name: &str) -> NatsOptions {
    let mut options = NatsOptions::new([url]);
    options.name = name.to_owned();
    options
}

pub(crate) async fn bus(server: &NatsServer, name: &str) -> Arc<Nats> {
    Nats::connect(options(&server.url(), name)).await.unwrap()
}

pub(crate) fn session(number: u128, bound: bool) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        id: SessionId::new(number << 8, 0),
        gate: GateId::new("gate-1").unwrap(),
        user: bound.then(|| UserId::from(number as u64)),
        device: None,
        settings: Settings::new(),
        ip: "127.0.0.1".parse().unwrap(),
        network: Network::Tcp,
        trace_id: 0xabc,
    })
}

/// A call of a session, handed over when this returns.
pub(crate) fn ask(
    bus: &dyn Bus,
    session: &Arc<Snapshot>,
    service: &str,
    method: &str,
    instance: Option<&InstanceId>,
    body: impl Into<Bytes>,
) -> oneshot::Receiver<CallResult> {
    let (responder, answer) = Responder::channel();
    bus.call(
        Call {
            service,
            method,
            caller: match session.user {
                Some(_) => Caller::Bound,
                None => Caller::Guest,
            },
            session: Some(session.clone()),
            body: body.into(),
            instance,
            wants_answer: true,
            span_id: 1,
        },
        responder,
    );
    answer
}

pub(crate) async fn outcome(answer: oneshot::Receiver<CallResult>) -> CallResult {
    let answer = timeout(LONG, answer).await.expect("an answer in time");
    answer.expect("a responder always answers")
}

pub(crate) fn instance(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

/// A client of NATS and nothing else.
pub(crate) async fn plain(server: &NatsServer) -> async_nats::Client {
    async_nats::connect(server.url()).await.unwrap()
}
