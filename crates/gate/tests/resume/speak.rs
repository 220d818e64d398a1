//! `$hello`, heartbeats, errors, acknowledgements, goodbye, close.

use tidegate::protocol::extended::*;
use tidegate::{CloseReason, ErrorCode, GateLimits, Protocol};
use tokio::time::{Instant, sleep};

use super::refused::lost;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_is_welcomed_and_served() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    let welcome = client.welcome.clone();
    assert_eq!(welcome.version, VERSION);
    assert_eq!(welcome.gate, "g1");
    assert_eq!(welcome.session, session.id().to_string());
    assert_eq!((welcome.user, welcome.received), (None, 0));
    assert!(!welcome.resumed && welcome.resume.is_some());
    assert_eq!(welcome.capabilities, [RESUME]);
    assert_eq!(welcome.max_packet, 65_535);
    client.send("echo/echo/1", "hi").await;
    assert_eq!(client.packet().await, ("echo/echo/1".into(), "hi".into()));
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn under_any_the_first_packet_tells_the_protocol() {
    let gate = start().await;
    // One that says nothing has no session, until it counts as version 1.
    let began = Instant::now();
    let mut silent = connect_with(&gate, Tcp::bind("memory"), 1024);
    sleep(SECOND / 2).await;
    assert_eq!(gate.gate().session_count(), 0);
    until("a session", || gate.gate().session_count() == 1).await;
    assert!(began.elapsed() >= SECOND && began.elapsed() < 2 * SECOND);
    assert_eq!(silent.ask("echo/echo/1", "late").await, "late");
    // A version 1 client is served at once, and never sent a control packet.
    let began = Instant::now();
    let mut v1 = connect_with(&gate, Tcp::bind("memory"), 1024);
    assert_eq!(v1.ask("echo/echo/1", "at once").await, "at once");
    assert!(began.elapsed() < SECOND / 2);
    v1.send("$ping", [0; 8]).await;
    v1.send("nobody/home/1", "").await;
    v1.nothing(5 * SECOND).await;
    // A frame in pieces is one frame.
    let mut slow = connect_with(&gate, Tcp::bind("memory"), 1024);
    for byte in frame("echo/echo/2", b"slow") {
        slow.send_bytes(&[byte]).await;
    }
    assert_eq!(slow.recv().await, ("echo/echo/2".into(), "slow".into()));
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_serve_one_protocol_only() {
    let gate = start().await;
    let v1 = Tcp::bind("memory").protocol(Protocol::V1);
    let mut client = connect_with(&gate, v1, 1024);
    until("at once", || gate.gate().session_count() == 1).await;
    client.send("$hello", r#"{"versions":[1]}"#).await;
    client.nothing(SECOND).await;
    let extended = || Tcp::bind("memory").protocol(Protocol::Extended);
    let mut client = connect_with(&gate, extended(), 1024);
    client.send("echo/echo/1", "hi").await;
    client.closed().await;
    let mut silent = connect_with(&gate, extended(), 1024);
    let began = Instant::now();
    silent.closed().await;
    assert!(began.elapsed() >= 10 * SECOND, "the set-up deadline");
    assert_eq!(gate.gate().closed(CloseReason::ExtendedProtocol), 1);
    assert_eq!(gate.gate().session_count(), 1);
    gate.stop().await;
}

/// The client was taken for one of version 1 by then, and nothing would answer it.
#[tokio::test(start_paused = true)]
async fn a_hello_that_was_held_up_ends_the_connection_so_that_it_is_made_again() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let held_up = client.state.hello(&hello());
    client.cut();
    let mut late = connect_with(&gate, listener(), 1024);
    until("it counts as version 1", || {
        gate.gate().session_count() == 2
    })
    .await;
    late.send(HELLO, &held_up.body).await;
    late.closed().await;
    until("it ends", || gate.gate().session_count() == 1).await;
    assert_eq!(gate.gate().closed(CloseReason::SetupTimeout), 1);
    assert!(CloseReason::SetupTimeout.may_reconnect());
    client.come_back(&gate).await;
    assert!(client.welcome.resumed);
    gate.stop().await;
}

/// Else its client would come again for ever.
#[tokio::test(start_paused = true)]
async fn a_hello_that_is_too_long_is_no_invitation_to_come_again() {
    log::keep();
    let gate = start().await;
    let hello = |pad: usize| {
        let body = format!(r#"{{"versions": [1], "pad": "{}"}}"#, "x".repeat(pad));
        frame(HELLO, body.as_bytes())
    };
    let rest = MAX_HELLO - hello(0).len();
    let mut fits = connect_with(&gate, listener(), 65_536);
    fits.send_bytes(&hello(rest)).await;
    read_welcome(&mut fits).await;
    // However the network cuts it: at once, or found to be too long before it is whole.
    for first in [MAX_HELLO + 1, MAX_HELLO] {
        let closed = gate.gate().closed(CloseReason::ExtendedProtocol);
        let mut client = connect_with(&gate, listener(), 65_536);
        let bytes = hello(rest + 1);
        client.send_bytes(&bytes[..first]).await;
        sleep(2 * SECOND).await;
        client.send_bytes(&bytes[first..]).await;
        until("it is closed", || {
            gate.gate().closed(CloseReason::ExtendedProtocol) == closed + 1
        })
        .await;
    }
    for says in ["set-up failed", "session ended"] {
        log::line_with(&[
            says,
            "ExtendedProtocol",
            "the $hello has more than 16384 bytes",
        ])
        .await;
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_none_is_refused() {
    let gate = start().await;
    for (body, reason) in [
        ("", CloseReason::ExtendedProtocol),
        ("{}", CloseReason::ExtendedProtocol),
        (r#"{"versions":[2]}"#, CloseReason::NoCommonVersion),
        (r#"{"versions":[]}"#, CloseReason::NoCommonVersion),
        (r#"{"versions":1}"#, CloseReason::ExtendedProtocol),
    ] {
        let before = gate.gate().closed(reason);
        let mut client = connect_with(&gate, listener(), 1024);
        client.send(HELLO, body).await;
        let (topic, said) = client.recv().await;
        assert_eq!(topic, CLOSE, "{body}");
        let said: Close = serde_json::from_slice(&said).unwrap();
        assert_eq!((said.code, said.reconnect), (reason.code(), false));
        client.closed().await;
        assert_eq!(gate.gate().closed(reason), before + 1, "{body}");
    }
    assert_eq!(gate.gate().stats().sessions_started, 0);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn violations_close_the_connection_and_the_session() {
    let gate = start().await;
    for (topic, body) in [
        (HELLO, &br#"{"versions":[1]}"#[..]),
        (PING, b"1234567"),
        (ACK, b""),
        (ACK, &1u64.to_le_bytes()),
    ] {
        let mut client = Extended::join(&gate).await;
        client.io.send(topic, body).await;
        let close = client.closed_with().await;
        assert_eq!(close.code, CloseReason::ExtendedProtocol.code(), "{topic}");
        assert!(!close.reconnect);
        until("it ends", || gate.gate().session_count() == 0).await;
    }
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn errors_tell_which_packet() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    client.send("echo/echo/7", "1").await;
    client.send("nobody/home/7", "2").await;
    client.send("no topic of the router's", "3").await;
    client.packet().await;
    for (topic, count, code) in [
        ("nobody/home/7", 2, ErrorCode::NOT_FOUND),
        ("no topic of the router's", 3, ErrorCode::BAD_TOPIC),
    ] {
        let Taken::Error(error) = client.take().await else {
            panic!("not an error");
        };
        assert_eq!((&*error.topic, error.packet), (topic, count));
        assert_eq!(error.code, code.0);
    }
    // Topics of a later version are no packets, and do not close.
    client.io.send("$later", "x").await;
    let Taken::Error(error) = client.take().await else {
        panic!("not an error");
    };
    assert_eq!((error.packet, error.code), (0, ErrorCode::RESERVED_TOPIC.0));
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_gate_acknowledges_after_so_many_packets_or_so_long() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    for i in 0..u64::from(ACK_PACKETS) {
        client.send(&format!("echo/echo/{i}"), "").await;
    }
    let mut acked = None;
    for _ in 0..=ACK_PACKETS {
        let (topic, body) = client.io.recv().await;
        if topic == ACK {
            acked = Some(u64::from_le_bytes(body[..].try_into().unwrap()));
        }
    }
    assert_eq!(acked, Some(u64::from(ACK_PACKETS)));
    client.send("echo/echo/x", "").await;
    let sent = Instant::now();
    assert_eq!(client.io.recv().await.0, "echo/echo/x");
    let (topic, body) = client.io.recv().await;
    assert_eq!((&*topic, &body[..]), (ACK, &17u64.to_le_bytes()[..]));
    assert!(sent.elapsed() >= ACK_DELAY && sent.elapsed() < 2 * ACK_DELAY);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn both_sides_are_heard_as_agreed() {
    let gate = start().await;
    let wish = br#"{"versions":[1],"heartbeat":{"client_ms":4000,"gate_ms":2000}}"#;
    let hello = Hello::read(wish).unwrap();
    let mut client = Extended::join_on(&gate, listener(), &hello).await;
    let agreed = Heartbeat {
        client_ms: 4000,
        gate_ms: 2000,
    };
    assert_eq!(client.welcome.heartbeat, agreed);
    let began = Instant::now();
    for n in 1..=3u32 {
        let (topic, body) = client.io.recv().await;
        assert_eq!((&*topic, body.len()), (PING, 8));
        let (from, to) = (2 * SECOND * n, 2 * SECOND * n + SECOND / 2);
        assert!(began.elapsed() >= from && began.elapsed() < to);
    }
    client.control(ClientControl::Ping(77)).await;
    let (topic, body) = client.io.recv().await;
    assert_eq!((&*topic, &body[..]), (PONG, &77u64.to_le_bytes()[..]));
    // Silent for twice its interval.
    let silent = Instant::now();
    while let Some((topic, body)) = client.io.next().await {
        if topic == CLOSE {
            let close: Close = serde_json::from_slice(&body).unwrap();
            assert_eq!(close.code, CloseReason::HeartbeatTimeout.code());
            assert!(close.reconnect && close.retry_after_ms.is_some());
        }
    }
    assert!(silent.elapsed() >= 8 * SECOND && silent.elapsed() < 10 * SECOND);
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn goodbye_ends_the_session_at_once() {
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    client.control(ClientControl::Bye).await;
    client.io.closed().await;
    until("it ends", || gate.gate().session_count() == 0).await;
    assert_eq!(gate.gate().closed(CloseReason::ClientLeft), 1);
    client.come_back(&gate).await;
    assert_eq!(
        client.welcome.refused.unwrap().code,
        ResumeRefusal::Ended.code()
    );
    gate.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_gate_says_why_it_closes() {
    let gate = start().await;
    let mut kicked = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    session.send(packet("a/b", "last")).unwrap();
    session.close(CloseReason::Kicked);
    assert_eq!(kicked.packet().await.1, "last");
    let close = kicked.closed_with().await;
    assert_eq!(close.code, CloseReason::Kicked.code());
    assert_eq!((close.reconnect, close.retry_after_ms), (false, None));
    let mut other = Extended::join(&gate).await;
    let stop = tokio::spawn(gate.stop());
    let close = other.closed_with().await;
    assert_eq!(close.code, CloseReason::Shutdown.code());
    assert!(close.reconnect && close.retry_after_ms.is_some());
    drop(other);
    stop.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn clients_are_served_while_the_gate_drains() {
    let mut limits = GateLimits::default();
    limits.drain_wait = Some(Duration::from_secs(20));
    let gate = builder().gate_limits(limits).start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    let mut v1 = connect(&gate);
    until("both are there", || gate.gate().session_count() == 2).await;
    let began = Instant::now();
    let handle = gate.gate().clone();
    let stopping = tokio::spawn(gate.stop());
    let drain = loop {
        match client.take().await {
            Taken::Drain(drain) => break drain,
            other => assert!(matches!(other, Taken::Nothing), "{other:?}"),
        }
    };
    assert_eq!(drain.deadline_ms, 20_000);
    assert!(drain.retry_after_ms <= 10_000);
    assert!(!handle.is_ready());
    sleep(Duration::from_secs(15)).await;
    client.send("echo/echo/1", "still").await;
    assert_eq!(client.packet().await.1, "still");
    assert_eq!(v1.ask("echo/echo/1", "served").await, "served");
    client.control(ClientControl::Bye).await;
    // The other one leaves no sooner than it must, and is told nothing.
    v1.closed().await;
    assert_eq!(began.elapsed().as_secs(), 20);
    stopping.await.unwrap();
    // Nobody is waited for who has gone.
    let mut limits = GateLimits::default();
    limits.drain_wait = Some(Duration::from_secs(1000));
    let gate = builder().gate_limits(limits).start().await.unwrap();
    let mut client = Extended::join(&gate).await;
    lost(&gate, &mut client).await;
    let began = Instant::now();
    gate.stop().await;
    assert!(began.elapsed().as_secs() < 15);
}
