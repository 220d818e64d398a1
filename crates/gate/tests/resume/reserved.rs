//! Topics that belong to the protocol, from whoever should not use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate::bus::GateError;
use tidegate::bus::OpenTo::Guests;
use tidegate::protocol::extended::*;
use tidegate::service::Service;
use tidegate::{ErrorCode, LocalSession, Protocol};

use super::*;

/// All that the protocol has, and some that it has not.
const TOPICS: [&str; 17] = [
    HELLO,
    WELCOME,
    PING,
    PONG,
    ACK,
    BYE,
    ERROR,
    GAP,
    TOKEN,
    DRAIN,
    CLOSE,
    "$",
    "$later",
    "$echo/echo/1",
    "$SYS/x",
    "$/echo/1",
    "$all/called/1",
];

/// A service `all` whose method counts how often it was called, and the gate with it.
async fn watched() -> (RunningGate, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = Service::new("all")
        .one_way("called", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .open_to(Guests);
    (builder().service(service).start().await.unwrap(), calls)
}

async fn v1_is_refused(client: &mut Client, session: &LocalSession) {
    for topic in TOPICS {
        for body in [
            &b""[..],
            &[0; 8],
            br#"{"versions":[1],"count":1,"code":4000}"#,
        ] {
            client.send(topic, body).await;
            let (under, error) = client.recv().await;
            assert_eq!(under, "errors", "{topic}");
            let error: serde_json::Value = serde_json::from_slice(&error).unwrap();
            assert_eq!(error["code"], ErrorCode::RESERVED_TOPIC.0, "{topic}");
            assert_eq!(error["topic"], topic);
        }
    }
    assert_eq!(client.ask("echo/echo/1", "still here").await, "still here");
    for topic in TOPICS {
        let sent = session.send(packet(topic, ""));
        assert_eq!(sent, Err(GateError::Refused), "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn from_a_version_1_client_before_and_after_login() {
    let (gate, calls) = watched().await;
    for protocol in [Protocol::V1, Protocol::Any] {
        let listener = listener().protocol(protocol).v1_error_topic("errors");
        let before: Vec<_> = gate.gate().sessions().map(|s| s.id()).collect();
        let mut client = connect_with(&gate, listener, 65_536);
        // Under `Any` that makes it one of version 1.
        assert_eq!(client.ask("echo/echo/1", "").await, "");
        let mut sessions = gate.gate().sessions();
        let session = sessions.find(|s| !before.contains(&s.id())).unwrap();
        v1_is_refused(&mut client, &session).await;
        session.bind(user("anna")).await.unwrap();
        v1_is_refused(&mut client, &session).await;
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    gate.stop().await;
}

/// A first packet under a reserved topic, `$hello` apart, does not open anything.
#[tokio::test(start_paused = true)]
async fn as_a_first_packet() {
    let gate = start().await;
    for topic in TOPICS.into_iter().filter(|topic| *topic != HELLO) {
        let listener = listener().v1_error_topic("errors");
        let mut client = connect_with(&gate, listener, 65_536);
        client.send(topic, [0; 8]).await;
        assert_eq!(client.recv().await.0, "errors", "{topic}");
        // It is a version 1 client now, and stays one.
        client.send(HELLO, r#"{"versions":[1]}"#).await;
        assert_eq!(client.recv().await.0, "errors", "{topic}");
        assert_eq!(client.ask("echo/echo/1", "v1").await, "v1");
    }
    gate.stop().await;
}

/// What only gates say, and what nobody says, is no packet, changes nothing, and closes
/// nothing.
#[tokio::test(start_paused = true)]
async fn from_a_client_of_the_extended_protocol_before_and_after_login() {
    let (gate, calls) = watched().await;
    let mut client = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    for login in 0..2 {
        if login == 1 {
            session.bind(user("anna")).await.unwrap();
        }
        for topic in TOPICS {
            if [HELLO, PING, PONG, ACK, BYE].contains(&topic) {
                continue;
            }
            for body in [&b""[..], &[0; 8], br#"{"token":"x","count":9,"code":4000}"#] {
                client.io.send(topic, body).await;
                let Taken::Error(error) = client.take().await else {
                    panic!("{topic}: not an error");
                };
                assert_eq!(&*error.topic, topic);
                assert_eq!((error.packet, error.code), (0, ErrorCode::RESERVED_TOPIC.0));
            }
        }
        client.send("echo/echo/1", "counted").await;
        assert_eq!(client.packet().await.1, "counted");
        // The counts agree: neither side knows more or less than the other.
        client.come_back(&gate).await;
        assert!(client.welcome.resumed);
        assert_eq!(client.welcome.received, login + 1);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    gate.stop().await;
}

/// Nothing on the gate's own side goes by such a name either.
#[tokio::test(start_paused = true)]
async fn from_services() {
    for name in ["$hello", "$", "$echo", "a$/b"] {
        assert!(Service::new(name).build().is_err(), "{name}");
        let method = Service::new("echo").one_way(name, async || {});
        assert!(method.build().is_err(), "{name}");
    }
    let gate = start().await;
    let mut client = Extended::join(&gate).await;
    let session = gate.gate().sessions().next().unwrap();
    for topic in TOPICS {
        let sent = session.send(packet(topic, ""));
        assert_eq!(sent, Err(GateError::Refused), "{topic}");
        let sent = gate.gate().broadcast(packet(topic, "")).await;
        assert_eq!(sent.err(), Some(GateError::Refused), "{topic}");
    }
    client.send("echo/echo/1", "all that comes").await;
    assert_eq!(client.packet().await.1, "all that comes");
    gate.stop().await;
}
