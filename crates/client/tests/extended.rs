//! A client of the extended protocol on its connection, with a scripted gate and under
//! paused time.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod scripted;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use scripted::*;
use tidegate_client::{
    Cause, Client, CloseReason, Error, ErrorKind, Event, Gap, GapReason, Protocol, State,
};
use tidegate_protocol::extended::{ClientControl, GateControl, Heartbeat, MAX_HELLO, Welcome};
use tidegate_protocol::{Codec, Packet, V1};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn acknowledgements_come_after_16_packets_or_a_second() {
    let (client, _gate, mut conn) = open(|b| b).await;
    let mut events = client.events();
    let since = Instant::now();
    for _ in 0..16 {
        conn.push("news", "").await;
    }
    conn.expect_ack(16).await;
    assert_eq!(since.elapsed().as_secs(), 0);
    // Errors and gaps count too; what else begins with $ does not.
    conn.push("news", "").await;
    sleep(Duration::from_millis(600)).await;
    conn.error("a/b", 1, 3).await;
    let gap = Gap {
        count: 5,
        reason: GapReason::Dropped,
    };
    conn.say(GateControl::Gap(gap)).await;
    conn.say(GateControl::Pong(1)).await;
    conn.push("$later", "").await;
    conn.expect_ack(23).await;
    assert_eq!(since.elapsed().as_millis(), 1000);
    assert!(matches!(
        events.recv().await,
        Some(Ok(Event::NotServed { .. }))
    ));
    assert_eq!(events.recv().await, Some(Ok(Event::Gap(gap))));
    // Once.
    sleep(Duration::from_secs(20)).await;
    conn.push("news", "").await;
    conn.expect_ack(24).await;
    assert_eq!(since.elapsed().as_millis(), 22_000);
}

#[tokio::test(start_paused = true)]
async fn both_sides_are_heard_within_their_intervals() {
    let (connecting, mut gate) = connect(|b| b);
    let mut conn = gate.accept().await;
    conn.hello().await;
    conn.welcome(Welcome {
        heartbeat: Heartbeat {
            client_ms: 3_000,
            gate_ms: 5_000,
        },
        ..fresh("t1")
    })
    .await;
    conn.expect_ack(0).await;
    let client = connecting.await.unwrap().unwrap();
    let since = Instant::now();
    let second = || since.elapsed().as_millis();
    // Nothing else to say.
    conn.expect(&["$ping \u{1}\0\0\0\0\0\0\0"]).await;
    assert_eq!(second(), 3_000);
    conn.say(GateControl::Ping(77)).await;
    match ClientControl::read(&conn.read().await.unwrap()).unwrap() {
        ClientControl::Pong(n) => assert_eq!(n, 77),
        other => panic!("{other:?}"),
    }
    sleep(Duration::from_secs(2)).await;
    client.send("svc/tell", "").await.unwrap();
    conn.expect(&["svc/tell", "$ping \u{2}\0\0\0\0\0\0\0"])
        .await;
    assert_eq!(second(), 8_000);
    // A part of a frame is a sign of life; then there is none.
    sleep(Duration::from_millis(1_500)).await;
    conn.0.write_all(&[100, 0]).await.unwrap();
    let mut states = client.states();
    let (_, why) = next_waiting(&mut states).await;
    assert_eq!(second(), 9_500 + 10_000);
    assert_eq!(why, "connection lost: nothing was heard for 10s");
    gate.accept().await.expect_resume("t1", 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_connection_is_bounded() {
    let (client, mut gate, conn) = open(|b| b.max_queued(32, 1000)).await;
    gate.set_down(true);
    drop(conn);
    sleep(BASE).await;
    for n in 0..30 {
        client.send("svc/tell", n.to_string()).await.unwrap();
    }
    // A request that is given up makes room again, and is never sent.
    let short = client.request_within("svc/ask", "", Duration::from_secs(1));
    let error = short.await.unwrap_err();
    assert!(
        matches!(error, Error::NotSent(t) if t.as_secs() == 1),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let asking = client.request("svc/ask", "");
    assert!(tokio::time::timeout(BASE, asking).await.is_err(), "dropped");
    client.send("svc/tell", "30").await.unwrap();
    client.send("svc/tell", "31").await.unwrap();
    match client.send("svc/tell", "32").await.unwrap_err() {
        Error::QueueFull(full) => assert_eq!((full.packets, full.bytes), (32, 310)),
        other => panic!("{other}"),
    }
    let error = client.request("svc/ask", "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    gate.set_down(false);
    let mut conn = gate.resume("t1", 0, 0, "t2").await;
    for n in 0..32 {
        conn.expect(&[&format!("svc/tell {n}")]).await;
    }
    // A gate that does not acknowledge is not written to for ever.
    for n in 32..64 {
        client.send("svc/tell", n.to_string()).await.unwrap();
    }
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.send("svc/tell", "64").await }
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished(), "there is a connection: it waits");
    conn.say(GateControl::Ack(1)).await;
    conn.expect(&["svc/tell 32"]).await;
    waits.await.unwrap().unwrap();
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.send("svc/tell", "65").await }
    });
    sleep(BASE).await;
    gate.set_down(true);
    drop(conn);
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::QueueFull,
        "the connection is lost meanwhile"
    );
    // Closed without a connection: what waits is counted, and what was not acknowledged.
    assert_eq!(client.close().await.unsent, 64);
}

#[tokio::test(start_paused = true)]
async fn errors_find_the_packets_that_they_are_about() {
    let (client, _gate, mut conn) = open(|b| b).await;
    let mut events = client.events();
    let (one, two) = (client.clone(), client.clone());
    let ask = |client: Client, body: &'static str| {
        tokio::spawn(async move { client.request_under("svc/ask/x", body, MINUTE).await })
    };
    client.send("svc/tell", "").await.unwrap();
    let first = ask(one, "first");
    sleep(Duration::from_millis(1)).await;
    let second = ask(two, "second");
    conn.expect(&["svc/tell", "svc/ask/x first", "svc/ask/x second"])
        .await;
    conn.error("svc/ask/x", 3, 1001).await;
    match second.await.unwrap().unwrap_err() {
        Error::NotServed(e) => assert_eq!((e.code.0, &*e.message, e.packet), (1001, "no", Some(3))),
        other => panic!("{other}"),
    }
    assert!(!first.is_finished());
    conn.push("svc/ask/x", "yes").await;
    assert_eq!(first.await.unwrap().unwrap().body, "yes");
    conn.error("svc/tell", 1, 3).await;
    match events.recv().await.unwrap().unwrap() {
        Event::NotServed { topic, error } => {
            assert_eq!((topic.as_str(), error.packet), ("svc/tell", Some(1)));
        }
        other => panic!("{other:?}"),
    }
    // Given up by its caller: not an event, and no push.
    let late = client.request_within("svc/ask", "", Duration::from_secs(1));
    assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Timeout);
    conn.expect(&["svc/ask/1"]).await;
    conn.expect_ack(3).await;
    conn.error("svc/ask/1", 4, 3).await;
    conn.push("end", "").await;
    let mut pushes = client.pushes();
    assert_eq!(pushes.recv().await.unwrap().unwrap().topic.as_str(), "end");
    assert_eq!(client.stats().late_answers, 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_outlives_connections() {
    let (client, mut gate, mut conn) = open(|b| b.push_buffer(2)).await;
    let mut chat = client.subscribe("chat/");
    conn.push("chat/a", "1").await;
    conn.push("news", "2").await;
    conn.expect_ack(2).await;
    drop(conn);
    let mut conn = gate.resume("t1", 2, 0, "t2").await;
    for n in ["3", "4"] {
        conn.push("chat/b", n).await;
    }
    conn.expect_ack(4).await;
    assert_eq!(chat.recv().await.unwrap().unwrap_err().0, 1);
    for n in ["3", "4"] {
        assert_eq!(chat.recv().await.unwrap().unwrap().body, n);
    }
    client.close().await;
    assert!(chat.recv().await.is_none());
    assert!(client.subscribe("chat/").recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_waits_and_says_goodbye() {
    let (client, mut gate, mut conn) = open(|b| b).await;
    for n in 0..3 {
        client.send("svc/tell", n.to_string()).await.unwrap();
    }
    let other = client.clone();
    let closing = tokio::spawn(async move { other.close().await });
    conn.expect(&["svc/tell 0", "svc/tell 1", "svc/tell 2", "$bye"])
        .await;
    assert_eq!(conn.read().await, None);
    assert!(!closing.is_finished(), "the gate has not closed");
    drop(conn);
    let closed = closing.await.unwrap();
    assert_eq!((closed.cause, closed.unsent), (Cause::Client, 0));
    assert_eq!(client.state(), State::Closed(closed));
    assert!(gate.nobody_came());

    // Dropped. What came is acknowledged first: else it would count as undelivered.
    let (client, mut gate, mut conn) = open(|b| b).await;
    let mut news = client.subscribe("news");
    conn.push("news", "").await;
    news.recv().await.unwrap().unwrap();
    client.send("svc/tell", "last").await.unwrap();
    drop(client);
    conn.expect(&["svc/tell last"]).await;
    conn.expect_ack(1).await;
    conn.expect(&["$bye"]).await;
    drop(conn);
    sleep(MINUTE).await;
    assert!(gate.nobody_came());

    // With a gate that does not read.
    let (ours, theirs) = duplex(400);
    let connecting = tokio::spawn(Client::builder("tcp://gate:1").connect_over(ours));
    let mut conn = Conn(theirs);
    conn.hello().await;
    conn.welcome(fresh("t1")).await;
    let client = connecting.await.unwrap().unwrap();
    client.send("svc/tell", vec![0; 4000]).await.unwrap();
    let since = Instant::now();
    assert_eq!(client.close().await.unsent, 1);
    assert_eq!(since.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn reserved_topics_are_refused() {
    let (client, _gate, mut conn) = open(|b| b).await;
    let error = client.send("$ack", "12345678").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    let error = client.request_under("$a/b/1", "", MINUTE).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidTopic);
    let error = client.request_under("a/b", "", MINUTE).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidTopic);
    client.send("a/b", "").await.unwrap();
    conn.expect(&["a/b"]).await;
}

/// A gate would not tell it from another protocol.
#[tokio::test]
async fn what_is_shown_to_the_gate_must_fit_a_hello() {
    let long = Client::builder("tcp://127.0.0.1:1").auth("x".repeat(20_000));
    match long.connect().await {
        Err(Error::TooLarge(why)) => assert!(why.len > 20_000 && why.max == MAX_HELLO),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_starts_by_itself_waits_for_its_gate() {
    // Nobody listens there, and none will.
    let client = Client::builder("tcp://127.0.0.1:1")
        .backoff(BACKOFF)
        .start()
        .unwrap();
    client.send("svc/tell", "").await.unwrap();
    let mut states = client.states();
    for _ in 0..3 {
        let (_, why) = next_waiting(&mut states).await;
        assert!(why.starts_with("cannot connect: "), "{why}");
    }
    assert_eq!(client.close().await.unsent, 1);
    let v1 = Client::builder("tcp://127.0.0.1:1").protocol(Protocol::V1);
    assert_eq!(v1.start().unwrap_err().kind(), ErrorKind::InvalidOption);
    let nowhere = Client::builder("gate").start();
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::InvalidUrl);
}

/// The gate's side of a WebSocket, up to its welcome and then a close frame.
async fn websocket_gate(stream: tokio::io::DuplexStream, welcome: bool, reason: CloseReason) {
    let mut ws = tokio_tungstenite::accept_async(stream).await.unwrap();
    ws.next().await.unwrap().unwrap();
    if welcome {
        let mut frame = Vec::new();
        let packet: Packet = GateControl::Welcome(Box::new(fresh("t1"))).packet();
        V1.encode(&packet, &mut frame);
        ws.send(Message::Binary(frame.into())).await.unwrap();
        ws.next().await.unwrap().unwrap();
    }
    let frame = CloseFrame {
        code: reason.code().into(),
        reason: reason.text().into(),
    };
    ws.close(Some(frame)).await.unwrap();
    while let Some(Ok(_)) = ws.next().await {}
}

#[tokio::test(start_paused = true)]
async fn websocket_close_codes_decide_too() {
    for (reason, comes_back) in [(CloseReason::Slow, true), (CloseReason::Kicked, false)] {
        let (streams, mut gate) = tokio::sync::mpsc::unbounded_channel();
        let open = move || {
            let (ours, theirs) = duplex(4096);
            std::future::ready(
                streams
                    .send(theirs)
                    .map(|()| ours)
                    .map_err(std::io::Error::other),
            )
        };
        let builder = Client::builder("ws://gate/").backoff(BACKOFF);
        let connecting = tokio::spawn(builder.connect_with(open));
        let first = gate.recv().await.unwrap();
        let serving = tokio::spawn(websocket_gate(first, true, reason));
        let client = connecting.await.unwrap().unwrap();
        serving.await.unwrap();
        if comes_back {
            // Before there is a welcome as well.
            let again = gate.recv().await.unwrap();
            websocket_gate(again, false, CloseReason::AuthenticationRefused).await;
        }
        let closed = client.closed().await;
        let last = match comes_back {
            true => CloseReason::AuthenticationRefused,
            false => reason,
        };
        assert_eq!((closed.cause, closed.reason()), (Cause::Gate, Some(last)));
    }
}
