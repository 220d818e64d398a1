//! What one caller asks of one session takes effect in the order in which it was asked.

use std::sync::Arc;

use bytes::Bytes;
use tidegate::bus::{Bus, SessionOp, SessionReply};
use tidegate::{Delivery, SessionId};
use tidegate_protocol::GateId;

use crate::harness::{Latch, Mood, TestStore, join, packet, settings, user, within};
use crate::support::{bench, bench_with, bus};

const ROUNDS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_then_close_closes_after_the_send() {
    let bench = bench().await;
    let plain = bench.plain().await;
    let other = bus(&bench.server, "service").await;
    let gate = GateId::new("g1").unwrap();
    for round in 0..ROUNDS {
        let (mut client, session) = join(&bench.gate).await;
        let id = session.id();
        match round % 2 {
            0 => {
                for topic in ["a", "b", "c"] {
                    plain
                        .tell("send", id, &[("Tidegate-Topic", topic)], "x")
                        .await;
                }
                plain.tell("close", id, &[], "").await;
            }
            _ => {
                // On their way when they are made, though nobody waits for them yet.
                let send = |topic| SessionOp::Send(packet(topic, "x"), Delivery::Critical);
                let sent = ["a", "b", "c"].map(|topic| other.session(&gate, id, send(topic)));
                let closed = other.session(&gate, id, SessionOp::Close);
                assert_eq!(within("closed", closed).await, Ok(SessionReply::Done));
                for sent in sent {
                    assert_eq!(within("sent", sent).await, Ok(SessionReply::Done));
                }
            }
        }
        for topic in ["a", "b", "c"] {
            assert_eq!(client.recv().await.0, topic, "round {round}");
        }
        client.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_waits_delays_nothing_but_what_must_come_after_it() {
    let store = TestStore::default();
    let bench = bench_with(|gate| gate.store(store.clone())).await;
    let other = bus(&bench.server, "service").await;
    let gate = GateId::new("g1").unwrap();
    let (mut slow_client, slow) = join(&bench.gate).await;
    let (mut quick_client, quick) = join(&bench.gate).await;
    slow.bind(user("ada")).await.unwrap();
    let latch = Latch::new();
    store.mood("ada", Some(Mood::Waits(latch.clone())));
    let set = |id: SessionId, value: String| {
        other.session(&gate, id, SessionOp::Set(settings([("a", value.as_str())])))
    };
    // Many, so that the gate's loop is told by its runtime to pause in the middle of them.
    let waiting: Vec<_> = (0..ROUNDS).map(|i| set(slow.id(), i.to_string())).collect();
    let send = |id, topic| {
        let op = SessionOp::Send(packet(topic, Bytes::new()), Delivery::Critical);
        other.session(&gate, id, op)
    };
    for (client, id) in [
        (&mut slow_client, slow.id()),
        (&mut quick_client, quick.id()),
    ] {
        let sent = within("a send beside", send(id, "beside")).await;
        assert_eq!(sent, Ok(SessionReply::Done));
        assert_eq!(client.recv().await.0, "beside");
    }
    let set_beside = within("a set beside", set(quick.id(), "9".to_owned())).await;
    assert!(set_beside.is_ok());
    assert_eq!(slow.snapshot().settings.get("a"), None);
    latch.open(ROUNDS);
    for (i, set) in waiting.into_iter().enumerate() {
        let Ok(SessionReply::Session(snapshot)) = within("a set", set).await else {
            panic!("set {i} failed");
        };
        assert_eq!(snapshot.settings.get("a"), Some(&*i.to_string()));
    }
    assert_eq!(slow.snapshot().settings.get("a"), Some("299"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_that_wait_are_refused_and_the_rest_goes_on() {
    const MOST: usize = 10_000;
    const MORE: usize = 100;
    let store = TestStore::default();
    let bench = bench_with(|gate| gate.store(store.clone())).await;
    let (mut client, session) = join(&bench.gate).await;
    session.bind(user("ada")).await.unwrap();
    let latch = Latch::new();
    store.mood("ada", Some(Mood::Waits(latch.clone())));
    let plain = Arc::new(bench.plain().await);
    let mut asked = tokio::task::JoinSet::new();
    let id = session.id();
    for _ in 0..MOST + MORE {
        let plain = plain.clone();
        asked.spawn(async move { plain.ask("set", id, &[], r#"{"a":"1"}"#).await });
    }
    for _ in 0..MORE {
        let reply = within("one too many", asked.join_next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(reply.failed().0, "overloaded");
    }
    assert_eq!(bench.bus.stats().overloaded, MORE as u64);
    plain
        .ask("send", id, &[("Tidegate-Topic", "a")], "")
        .await
        .is_done();
    assert_eq!(client.recv().await.0, "a");
    latch.open(MOST);
    while let Some(reply) = within("a change", asked.join_next()).await {
        reply.unwrap().json();
    }
    // They are done: there is room again.
    store.mood("ada", None);
    let set = plain.ask("set", id, &[], r#"{"a":"2"}"#).await;
    assert_eq!(set.json()["settings"]["a"], "2");
}
