//! The way out: what a send answers, and what becomes of what was accepted.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::*;
use tidegate::bus::{Bus, Connected, GateError, LocalBus};
use tidegate::protocol::codec::FrameError;
use tidegate::{
    CloseReason, Codec, Limits, LocalSession, Packet, Refused, RunningGate, Tcp, WebSocket,
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A client that does not read, whose session has room for two packets behind those
/// that are being written.
async fn stuck(gate: &RunningGate) -> (Client, LocalSession) {
    let mut limits = Limits::default();
    limits.send_queue_packets = 2;
    limits.write_timeout = 60 * SECOND;
    let listener = Tcp::bind("memory").limits(limits);
    let (client, session) = session_of(gate, |g| connect_with(g, listener, 16)).await;
    session.send(packet("first", vec![0; 100])).unwrap();
    until("it is being written", || session.backlog().bytes == 0).await;
    (client, session)
}

#[tokio::test(start_paused = true)]
async fn a_send_answers_what_became_of_it() {
    let gate = builder()
        .on_outbound(|_, packet: Packet| match &*packet.body {
            b"secret" => Err(Refused::new("not for clients")),
            _ => Ok(packet),
        })
        .start()
        .await
        .unwrap();
    let (mut client, session) = stuck(&gate).await;
    session.send(packet("a", "1")).unwrap();
    session.send(packet("b", "2")).unwrap();
    let before = gate.gate().stats();
    assert_eq!(session.send(packet("c", "3")), Err(GateError::QueueFull));
    let refused = session.send(packet("c", "secret"));
    assert_eq!(refused, Err(GateError::Refused));
    assert_eq!(session.send(packet("$bye", "")), Err(GateError::Refused));
    let large = session.send(packet("c", vec![0; 65_531]));
    assert!(matches!(large, Err(GateError::TooLarge(e)) if e.len == 65_536));
    let stats = gate.gate().stats();
    assert_eq!(stats.refused_full - before.refused_full, 1);
    assert_eq!(stats.refused_hook - before.refused_hook, 1);
    assert_eq!(stats.refused_too_large - before.refused_too_large, 1);
    // A full queue leaves the client alone: it gets all that was accepted.
    for expected in ["first", "a", "b"] {
        assert_eq!(client.recv().await.0, expected);
    }
    session.send(packet("c", vec![0; 65_530])).unwrap();
    assert_eq!(client.recv().await.1.len(), 65_530);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_gets_the_room_that_comes_or_hears_that_none_came() {
    let gate = builder().start().await.unwrap();
    let (mut client, session) = stuck(&gate).await;
    session.send_wait(packet("a", "1"), SECOND).await.unwrap();
    session.send_wait(packet("b", "2"), SECOND).await.unwrap();
    let began = Instant::now();
    let late = session.send_wait(packet("c", "3"), SECOND).await;
    assert_eq!(late, Err(GateError::QueueFull));
    assert!(began.elapsed() >= SECOND && began.elapsed() < 2 * SECOND);
    let waiting = tokio::spawn({
        let session = as_service(&gate, &session);
        async move { session.send_wait("d", "4", 5 * SECOND).await }
    });
    sleep(SECOND).await;
    for expected in ["first", "a", "b", "d"] {
        assert_eq!(client.recv().await.0, expected);
    }
    within("the send", waiting).await.unwrap().unwrap();
    let reserved = session.send_wait(packet("$x", ""), SECOND).await;
    assert_eq!(reserved, Err(GateError::Refused));
    // One that waits hears of the close at once.
    let (_client, session) = stuck(&gate).await;
    session.send(packet("a", "1")).unwrap();
    session.send(packet("b", "2")).unwrap();
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.send_wait(packet("c", ""), 3600 * SECOND).await }
    });
    sleep(SECOND).await;
    let began = Instant::now();
    assert!(session.close(CloseReason::Kicked));
    let gone = within("the send", waiting).await.unwrap();
    assert_eq!(gone, Err(GateError::SessionGone));
    assert!(began.elapsed() < SECOND);
}

#[tokio::test]
async fn send_then_close_closes_after_the_send() {
    for shards in [0, 1, 2] {
        let gate = builder()
            .shards(shards)
            .listen(Tcp::bind("127.0.0.1:0"))
            .start()
            .await
            .unwrap();
        let mut client = Client::tcp(&gate, 0).await;
        client.ask("echo/echo/1", "x").await;
        let local = gate.gate().sessions().next().unwrap();
        let session = as_service(&gate, &local);
        for n in 0..50 {
            session.send("n", n.to_string()).await.unwrap();
        }
        session.close().await.unwrap();
        assert_eq!(session.close().await, Err(GateError::SessionGone));
        assert_eq!(session.send("n", "late").await, Err(GateError::SessionGone));
        for n in 0..50 {
            assert_eq!(client.recv().await, ("n".into(), n.to_string().into()));
        }
        client.closed().await;
        drop(client);
        until("it has ended", || gate.gate().connection_count() == 0).await;
        assert_eq!(gate.gate().closed(CloseReason::Kicked), 1);
        assert_eq!(gate.gate().stats().undelivered, 0);
    }
}

/// Version 1, and how often it was encoded.
struct Counting(Arc<AtomicUsize>);

impl Codec for Counting {
    fn frame_len(&self, buffered: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
        tidegate::protocol::V1.frame_len(buffered, max)
    }
    fn decode(&self, frame: &[u8]) -> Result<Packet, FrameError> {
        tidegate::protocol::V1.decode(frame)
    }
    fn encoded_len(&self, packet: &Packet) -> usize {
        tidegate::protocol::V1.encoded_len(packet)
    }
    fn encode(&self, packet: &Packet, out: &mut Vec<u8>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        tidegate::protocol::V1.encode(packet, out);
    }
}

#[tokio::test]
async fn a_broadcast_is_encoded_once_for_each_codec_and_counts_who_took_it() {
    for shards in [0, 1, 2] {
        let encoded = [0, 1].map(|_| Arc::new(AtomicUsize::new(0)));
        let listener = |i: usize| Tcp::bind("127.0.0.1:0").codec(Counting(encoded[i].clone()));
        let gate = builder()
            .shards(shards)
            .listen(listener(0))
            .listen(listener(1))
            .start()
            .await
            .unwrap();
        let mut clients = Vec::new();
        for i in 0..10 {
            let mut client = Client::tcp(&gate, i % 2).await;
            client.ask("echo/echo/1", "x").await;
            clients.push(client);
        }
        let encodes = || encoded.each_ref().map(|n| n.swap(0, Ordering::Relaxed));
        assert_eq!(encodes(), [5, 5]);
        let clients_of = gate.gate().clients();
        let sent = clients_of.broadcast("news", "hi").await.unwrap();
        assert_eq!((sent.attached, sent.taken()), (10, 10));
        for client in &mut clients {
            assert_eq!(client.recv().await, ("news".into(), "hi".into()));
        }
        assert_eq!(encodes(), [1, 1], "over {shards} shards");
        let reserved = clients_of.broadcast("$news", "").await;
        assert_eq!(reserved, Err(GateError::Refused));
        assert!(clients_of.broadcast("a\nb", "").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_counts_by_kind_and_waits_for_nobody() {
    let gate = builder().start().await.unwrap();
    let (_stuck, full) = stuck(&gate).await;
    full.send(packet("a", "1")).unwrap();
    full.send(packet("b", "2")).unwrap();
    let mut limits = Limits::default();
    limits.max_packet_size = 100;
    let (_small, _) = session_of(&gate, |g| connect_limited(g, limits)).await;
    let (mut client, _) = join(&gate).await;
    let began = Instant::now();
    let sent = gate
        .gate()
        .broadcast(packet("news", vec![0; 200]))
        .await
        .unwrap();
    assert_eq!((sent.attached, sent.full, sent.too_large), (1, 1, 1));
    assert_eq!((sent.taken(), sent.refused, sent.dormant), (1, 0, 0));
    assert!(began.elapsed() < SECOND);
    assert_eq!(client.recv().await.1.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn with_an_outbound_hook_a_broadcast_is_each_sessions_own() {
    let gate = builder()
        .on_outbound(|session, packet: Packet| match session.get("mute") {
            Some(_) => Err(Refused::new("muted")),
            None => Ok(Packet::new(
                packet.topic,
                format!("for {}", session.get("name").unwrap_or_default()),
            )),
        })
        .start()
        .await
        .unwrap();
    let (mut a, one) = join(&gate).await;
    let (mut b, two) = join(&gate).await;
    let (_c, three) = join(&gate).await;
    one.set(settings([("name", "a")])).await.unwrap();
    two.set(settings([("name", "b")])).await.unwrap();
    three.set(settings([("mute", "")])).await.unwrap();
    let sent = gate.gate().broadcast(packet("news", "hi")).await.unwrap();
    assert_eq!((sent.attached, sent.refused), (2, 1));
    assert_eq!(a.recv().await.1, "for a");
    assert_eq!(b.recv().await.1, "for b");
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_and_not_written_is_counted_and_told() {
    let log = Log::default();
    let ended = log.clone();
    let gate = builder()
        .on_ended(move |_, how| {
            ended.add(format!(
                "{} {} {}",
                how.reason.name(),
                how.undelivered_packets,
                how.undelivered_bytes
            ));
            async {}
        })
        .start()
        .await
        .unwrap();
    let (client, session) = stuck(&gate).await;
    session.send(packet("abc", "1234567")).unwrap();
    session.send(packet("abc", "1234567")).unwrap();
    drop(client);
    // Two in the queue of 10 bytes, and one of 105 that was being written.
    assert_eq!(log.wait(1).await, ["ClientLeft 3 125"]);
    assert_eq!(gate.gate().stats().undelivered, 3);
    until("all is given back", || gate.gate().memory_used() == 0).await;
    // A client that takes nothing for the write deadline is closed as slow.
    let mut limits = Limits::default();
    limits.write_timeout = 2 * SECOND;
    let listener = Tcp::bind("memory").limits(limits);
    let (_client, session) = session_of(&gate, |g| connect_with(g, listener, 16)).await;
    session.send(packet("first", vec![0; 100])).unwrap();
    assert_eq!(log.wait(2).await[1], "Slow 1 105");
}

#[tokio::test(start_paused = true)]
async fn close_all_closes_each_once() {
    let gate = builder().start().await.unwrap();
    let (mut a, one) = join(&gate).await;
    let (mut b, _) = join(&gate).await;
    assert!(one.close(CloseReason::Kicked));
    assert_eq!(gate.gate().close_all(CloseReason::Kicked), 1);
    assert_eq!(gate.gate().close_all(CloseReason::Kicked), 0);
    a.closed().await;
    b.closed().await;
    drop((a, b));
    until("they have ended", || gate.gate().session_count() == 0).await;
    assert_eq!(gate.gate().closed(CloseReason::Kicked), 2);
    let stats = gate.gate().stats();
    assert_eq!((stats.sessions_started, stats.sessions_ended), (2, 2));
    // A listener of the other kind is served the same way.
    gate.serve(tokio::io::duplex(64).1, WebSocket::bind("ws"), peer())
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn clients_of_several_gates_are_reached_from_each() {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let start = async |id: &str| {
        let gate = tidegate::Gate::builder().id(id).bus(bus.clone()).shards(0);
        gate.start().await.unwrap()
    };
    let (near, far) = (start("near").await, start("far").await);
    let (mut a, _) = join(&near).await;
    let (mut b, there) = join(&far).await;
    let clients = near.gate().clients();
    assert_eq!(clients.broadcast("t", "all").await.unwrap().taken(), 2);
    assert_eq!(clients.count().await, Ok((2, 2)));
    for client in [&mut a, &mut b] {
        assert_eq!(client.recv().await.1, "all");
    }
    let session = clients.session(far.gate().id().clone(), there.id());
    session.bind("u").await.unwrap();
    session.join("g").await.unwrap();
    assert_eq!(there.user(), Some(user("u")));
    let sent = [
        clients.to_user("u").send("t", "user").await.unwrap(),
        clients.to_group("g").send("t", "group").await.unwrap(),
    ];
    assert_eq!(sent.map(|s| s.taken()), [1, 1]);
    assert_eq!(b.recv().await.1, "user");
    assert_eq!(b.recv().await.1, "group");
    // Its gate and no other holds a session.
    let elsewhere = clients.session(near.gate().id().clone(), there.id());
    assert_eq!(elsewhere.connected().await, Ok(Connected::Gone));
    assert_eq!(elsewhere.send("t", "x").await, Err(GateError::SessionGone));
    drop(b);
    far.stop().await;
    assert_eq!(session.send("t", "x").await, Err(GateError::Unavailable));
    assert_eq!(clients.count().await, Ok((1, 1)));
}
