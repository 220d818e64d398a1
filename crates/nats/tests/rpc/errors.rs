//! Each error of a gate is the same one at the caller, over NATS as within the process.

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate::bus::{Bus, GateError, SessionOp, SessionReply};
use tidegate::{Delivery, GroupName, Limits, LocalSession, Logins, SessionId, Settings, Tcp};
use tidegate_protocol::{GateId, session::MAX_SETTINGS};

use crate::harness::{
    Mood, TestStore, connect_with, join, packet, session_of, settings, until, user, within,
};
use crate::support::{Bench, Plain, bench, bench_with, bus};

/// Asks over NATS, as the kit does and as a plain client does; both must hear the same.
struct Asker {
    bus: std::sync::Arc<tidegate_nats::Nats>,
    plain: Plain,
}

impl Asker {
    async fn new(bench: &Bench) -> Self {
        Self {
            bus: bus(&bench.server, "service").await,
            plain: bench.plain().await,
        }
    }

    async fn ask(&self, id: SessionId, op: SessionOp) -> Result<SessionReply, GateError> {
        let gate = GateId::new("g1").unwrap();
        within("a reply", self.bus.session(&gate, id, op)).await
    }
}

fn send(topic: &str, body: impl Into<bytes::Bytes>) -> SessionOp {
    SessionOp::Send(packet(topic, body), Delivery::Critical)
}

#[tokio::test]
async fn every_error_of_a_gate_reaches_the_caller_as_it_is() {
    let store = TestStore::default();
    let bench = bench_with(|gate| {
        let one = Logins::limit(NonZeroU32::MIN).refuse();
        gate.store(store.clone()).logins(one)
    })
    .await;
    let asker = Asker::new(&bench).await;
    let (_client, session) = join(&bench.gate).await;
    let (_other_client, other) = join(&bench.gate).await;
    let id = session.id();
    let gone = SessionId(7);
    let topic = [("Tidegate-Topic", "$bye")];

    assert_eq!(
        asker.ask(gone, SessionOp::Load).await,
        Err(GateError::SessionGone)
    );
    let reply = asker.plain.ask("load", gone, &[], "").await;
    assert_eq!(reply.failed().0, "session-gone");

    assert_eq!(
        asker.ask(id, send("$bye", "")).await,
        Err(GateError::Refused)
    );
    let reply = asker.plain.ask("send", id, &topic, "").await;
    assert_eq!(reply.failed().0, "refused");

    let large = asker.ask(id, send("a", vec![0; 70_000])).await;
    let here = session.send(packet("a", vec![0; 70_000]));
    assert_eq!(large.map(|_| ()), here);
    let larger_than_nats_takes = asker.ask(id, send("a", vec![0; 2 << 20])).await;
    assert!(matches!(
        larger_than_nats_takes,
        Err(GateError::TooLarge(e)) if e.len == 2 << 20 && e.max == 1 << 20
    ));

    let bind = |name| SessionOp::Bind(user(name), None);
    asker.ask(id, bind("ada")).await.unwrap();
    assert_eq!(
        asker.ask(id, bind("bob")).await,
        Err(GateError::BoundToAnother)
    );
    let too_many = asker.ask(other.id(), bind("ada")).await;
    assert_eq!(too_many, Err(GateError::TooManyLogins));
    let reply = asker
        .plain
        .ask("bind", other.id(), &[], r#"{"user":"ada"}"#)
        .await;
    assert_eq!(reply.failed().0, "too-many-logins");

    let full = settings([("a", "x".repeat(MAX_SETTINGS - 1).as_str())]);
    asker.ask(id, SessionOp::Replace(full)).await.unwrap();
    let too_much = asker.ask(id, SessionOp::Set(settings([("b", "1")]))).await;
    assert!(matches!(too_much, Err(GateError::Settings(e)) if e.0 == MAX_SETTINGS + 2));

    store.mood("ada", Some(Mood::Fails));
    let set = SessionOp::Replace(Settings::new());
    let failed = asker.ask(id, set.clone()).await.unwrap_err();
    assert_eq!(failed, session.replace(Settings::new()).await.unwrap_err());
    assert!(matches!(failed, GateError::Store(_)));

    let group = |i: usize| GroupName::new(&format!("room {i}")).unwrap();
    let mut joined = 0;
    let refused = loop {
        match asker.ask(id, SessionOp::Join(group(joined))).await {
            Ok(_) => joined += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, GateError::TooMany("groups"));
}

/// A client that does not read, with room for two packets.
async fn stuck(bench: &Bench) -> (crate::harness::Client, LocalSession) {
    let mut limits = Limits::default();
    limits.send_queue_packets = 2;
    limits.write_timeout = Duration::from_secs(60);
    let listener = Tcp::bind("memory").limits(limits);
    let (client, session) = session_of(&bench.gate, |g| connect_with(g, listener, 16)).await;
    session.send(packet("first", vec![0; 100])).unwrap();
    until("it is being written", || session.backlog().bytes == 0).await;
    (client, session)
}

#[tokio::test]
async fn a_full_queue_is_told_and_a_send_can_wait_for_room() {
    let bench = bench().await;
    let asker = Asker::new(&bench).await;
    let (mut client, session) = stuck(&bench).await;
    let id = session.id();
    for topic in ["a", "b"] {
        assert_eq!(asker.ask(id, send(topic, "")).await, Ok(SessionReply::Done));
    }
    assert_eq!(
        asker.ask(id, send("c", "")).await,
        Err(GateError::QueueFull)
    );
    let wait = |ms| SessionOp::SendWait(packet("d", ""), Duration::from_millis(ms));
    assert_eq!(asker.ask(id, wait(10)).await, Err(GateError::QueueFull));
    let waits = asker
        .bus
        .session(&GateId::new("g1").unwrap(), id, wait(30_000));
    for topic in ["first", "a", "b"] {
        assert_eq!(client.recv().await.0, topic);
    }
    assert_eq!(within("room", waits).await, Ok(SessionReply::Done));
    assert_eq!(client.recv().await.0, "d");
}

#[tokio::test]
async fn without_a_gate_or_without_nats_nothing_was_done() {
    let mut bench = bench().await;
    let asker = Asker::new(&bench).await;
    let nowhere = GateId::new("g2").unwrap();
    let nobody = asker.bus.session(&nowhere, SessionId(7), SessionOp::Load);
    assert_eq!(
        within("an error", nobody).await,
        Err(GateError::Unavailable)
    );
    bench.server.kill();
    until("the connection is lost", || asker.bus.stats().down).await;
    let down = asker.ask(SessionId(7), SessionOp::Load).await;
    assert_eq!(down, Err(GateError::Unavailable));
    // The gate's own code and services go on.
    let (mut client, session) = join(&bench.gate).await;
    let here = bench
        .bus
        .session(&GateId::new("g1").unwrap(), session.id(), send("a", ""));
    assert_eq!(within("a send", here).await, Ok(SessionReply::Done));
    assert_eq!(client.recv().await.0, "a");
}

#[tokio::test]
async fn what_was_asked_when_nats_dies_is_of_unknown_outcome() {
    let store = TestStore::default();
    let mut bench = bench_with(|gate| gate.store(store.clone())).await;
    let asker = Asker::new(&bench).await;
    let (_client, session) = join(&bench.gate).await;
    session.bind(user("ada")).await.unwrap();
    let latch = crate::harness::Latch::new();
    store.mood("ada", Some(Mood::Waits(latch.clone())));
    let gate = GateId::new("g1").unwrap();
    let set = SessionOp::Set(settings([("a", "1")]));
    store.log.clear();
    let waits = asker.bus.session(&gate, session.id(), set);
    store.log.wait(1).await;
    bench.server.kill();
    assert_eq!(
        within("an error", waits).await,
        Err(GateError::OutcomeUnknown)
    );
    latch.open(1);
    until("it is done all the same", || {
        session.snapshot().settings.get("a") == Some("1")
    })
    .await;
}
