//! Delivery classes.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tidegate::bus::{Connected, GateError};
use tidegate::protocol::extended::*;
use tidegate::{Delivery, Protocol};

use super::*;

fn latest(key: &str) -> Delivery {
    Delivery::Latest(key.into())
}

/// The client loses its connection, and the gate has seen it.
async fn gone(session: &tidegate::LocalSession, client: &mut Extended) {
    client.cut();
    until("it is dormant", || {
        session.connected() == Connected::Dormant
    })
    .await;
}

/// What comes, gaps as text, until something is called "end".
async fn all(client: &mut Extended) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match client.take().await {
            Taken::Packet(packet) if packet.body == "end" => return seen,
            Taken::Packet(packet) => seen.push(String::from_utf8(packet.body.to_vec()).unwrap()),
            Taken::Gap(gap) => seen.push(format!("{:?} {}", gap.reason, gap.count)),
            other => panic!("unexpected: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn newer_ones_replace_and_droppable_ones_give_way() {
    let gate = start().await;
    let limits = limits(|l| l.send_queue_packets = 5);
    let mut client = Extended::join_on(&gate, listener().limits(limits), &hello()).await;
    let session = gate.gate().sessions().next().unwrap();
    let send = |body: &'static str, delivery| session.send_as(packet("n/n", body), delivery);
    // Nothing is written before this test waits.
    send("a1", latest("a")).unwrap();
    send("b1", latest("b")).unwrap();
    send("a2", latest("a")).unwrap();
    send("a3", latest("a")).unwrap();
    send("drop1", Delivery::Droppable).unwrap();
    send("drop2", Delivery::Droppable).unwrap();
    send("c1", Delivery::Critical).unwrap();
    send("c2", Delivery::Critical).unwrap();
    send("c3", Delivery::Critical).unwrap();
    assert_eq!(send("c4", Delivery::Critical), Err(GateError::QueueFull));
    assert_eq!(
        send("drop3", Delivery::Droppable),
        Err(GateError::QueueFull)
    );
    assert_eq!(gate.gate().stats().dropped, 4);
    tokio::time::sleep(SECOND / 10).await;
    send("end", Delivery::Critical).unwrap();
    assert_eq!(
        all(&mut client).await,
        [
            "Replaced 1",
            "b1",
            "Replaced 1",
            "a3",
            "Dropped 2",
            "c1",
            "c2",
            "c3"
        ]
    );
    client.ack().await;
    client.send("echo/echo/1", "the counts agree").await;
    assert_eq!(client.packet().await.1, "the counts agree");
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_1_client_gets_what_is_left() {
    let gate = start().await;
    let limits = limits(|l| l.send_queue_packets = 2);
    let v1 = Tcp::bind("memory").protocol(Protocol::V1).limits(limits);
    let (mut client, session) = session_of(&gate, |gate| connect_with(gate, v1, 65_536)).await;
    let send = |body: &'static str, delivery| session.send_as(packet("n/n", body), delivery);
    send("drop", Delivery::Droppable).unwrap();
    send("a1", latest("a")).unwrap();
    send("a2", latest("a")).unwrap();
    send("c1", Delivery::Critical).unwrap();
    assert_eq!(client.recv().await.1, "a2");
    assert_eq!(client.recv().await.1, "c1");
    client.nothing(SECOND).await;
    assert_eq!(gate.gate().stats().dropped, 2);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_critical_packets_wait_for_a_client_that_is_away() {
    let gate = start().await;
    let mut away = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    let mut here = Extended::join(&gate).await;
    gone(&session, &mut away).await;
    for delivery in [latest("a"), Delivery::Droppable] {
        let missed = session.send_as(packet("n/n", "missed"), delivery.clone());
        assert_eq!(missed, Err(GateError::Dormant));
        let sent = gate
            .gate()
            .broadcast_as(packet("n/n", "news"), delivery)
            .await
            .unwrap();
        assert_eq!((sent.attached, sent.dormant, sent.missed), (1, 0, 1));
    }
    let sent = gate.gate().broadcast(packet("n/n", "kept")).await.unwrap();
    assert_eq!((sent.attached, sent.dormant, sent.missed), (1, 1, 0));
    away.come_back(&gate).await;
    assert_eq!(away.packet().await.1, "kept");
    for expected in ["news", "news", "kept"] {
        assert_eq!(here.packet().await.1, expected);
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_during_a_broadcast_gets_it_once() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    gone(&session, &mut client).await;
    let handle = gate.gate().clone();
    let mut broadcast = pin!(handle.broadcast(packet("n/n", "news")));
    // It has got to those who are dormant.
    let begun = poll_fn(|cx| Poll::Ready(broadcast.as_mut().poll(cx).is_pending()));
    assert!(begun.await);
    client.come_back(&gate).await;
    let sent = broadcast.await.unwrap();
    assert_eq!((sent.attached, sent.dormant), (0, 1));
    session.send(packet("n/n", "end")).unwrap();
    for expected in ["news", "end"] {
        assert_eq!(client.packet().await.1, expected);
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_longer_fits_becomes_a_gap() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    gone(&session, &mut client).await;
    session.send(packet("n/n", "small")).unwrap();
    session.send(packet("n/n", vec![b'x'; 5000])).unwrap();
    session.send(packet("n/n", "end")).unwrap();
    let narrow = listener().limits(limits(|l| l.max_packet_size = 4000));
    client.come_back_on(&gate, narrow, &hello()).await;
    assert_eq!(client.welcome.max_packet, 4000);
    assert_eq!(all(&mut client).await, ["small", "TooLarge 1"]);
    client.send("echo/echo/1", "the counts agree").await;
    client.ack().await;
    assert_eq!(client.packet().await.1, "the counts agree");
    gate.stop().await;
}

/// The client may have what was written, though it says that it has not: a connection that
/// it has given up may still be read.
#[tokio::test(start_paused = true)]
async fn what_was_written_is_not_replaced_or_dropped_any_more() {
    let gate = start().await;
    let on = || listener().limits(limits(|l| l.send_queue_packets = 3));
    let mut client = Extended::join_on(&gate, on(), &hello()).await;
    let session = gate.gate().sessions().next().unwrap();
    let send = |body: &'static str, delivery| session.send_as(packet("n/n", body), delivery);
    send("latest", latest("a")).unwrap();
    send("droppable", Delivery::Droppable).unwrap();
    tokio::time::sleep(SECOND / 10).await;
    gone(&session, &mut client).await;
    let back = client.state.hello(&hello());
    // The `$welcome` does not fit: the session is back, and nothing can be written yet.
    let mut io = connect_with(&gate, on(), 64);
    io.send(HELLO, &back.body).await;
    until("it is back", || session.connected() == Connected::Attached).await;
    send("newer", latest("a")).unwrap();
    assert_eq!(
        send("critical", Delivery::Critical),
        Err(GateError::QueueFull)
    );
    let welcome = read_welcome(&mut io).await;
    client.state.welcome(&welcome).unwrap();
    client.io = io;
    for expected in ["latest", "droppable", "newer"] {
        assert_eq!(client.packet().await.1, expected);
    }
    gate.stop().await;
}
