//! WebSocket: who is let in, what is refused, how it closes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tidegate::{CloseReason, Limits, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

mod support;

use support::ws::{BINARY, CLOSE, KEY, PING, PONG, TEXT, masked, read_head, request};
use support::{LONG, Rig, WsClient, parse_v1, read_all, v1};

// --- the upgrade, over real sockets: refusals must survive the close

async fn rig(listener: WebSocket) -> Rig {
    Rig::with(|gate| gate.listen(listener)).await
}

/// What the gate answers to these bytes, up to its close.
async fn answer(rig: &Rig, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(rig.address(0)).await.unwrap();
    // The gate may refuse before it has read all.
    let _ = client.write_all(bytes).await;
    let mut all = Vec::new();
    let read = timeout(LONG, client.read_to_end(&mut all)).await.unwrap();
    read.expect("an answer and a FIN, not a reset");
    String::from_utf8(all).unwrap()
}

fn with_line(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(request("/", &[])).unwrap();
    assert!(text.contains(from));
    text.replace(from, to).into_bytes()
}

#[tokio::test]
async fn raw_requests_that_are_refused_get_an_http_answer() {
    let rig = rig(WebSocket::bind("127.0.0.1:0")).await;
    let line = |header: &str| request("/", &[header]);
    let corpus: Vec<(&str, Vec<u8>)> = vec![
        (
            "400",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello over TLS".to_vec(),
        ),
        ("400", b"hello\r\n\r\n".to_vec()),
        ("400", b"GET / HTTP/1.1\nHost: a\n\n".to_vec()),
        ("400", with_line("HTTP/1.1", "HTTP/1.0")),
        ("405", with_line("GET /", "POST /")),
        ("400", with_line("GET /", "GET http://gate.example/")),
        ("400", with_line("Host: gate.example\r\n", "")),
        ("400", line("Host: gate.example")),
        ("400", line("Content-Length: 5")),
        ("400", line("Transfer-Encoding: chunked")),
        ("400", line("X : smuggled")),
        ("400", line("X: a\r\n folded")),
        ("400", line("X: a\0b")),
        ("400", line("X: a\rSec-WebSocket-Key: b")),
        ("426", with_line("Upgrade: websocket\r\n", "")),
        ("400", with_line("Connection: Upgrade", "Connection: close")),
        ("426", with_line("Version: 13", "Version: 8")),
        ("400", with_line(KEY, "c2hvcnQ=")),
        ("404", request("/other", &[])),
        ("404", request("//", &[])),
        ("431", line(&format!("X: {}", "a".repeat(20_000)))),
        ("431", request("/", &["X: a"; 200])),
    ];
    let refused = corpus.len() as u64;
    for (status, bytes) in corpus {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let got = answer(&rig, &bytes).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(got.starts_with(&expected), "{what:?}\n got {got:?}");
        let connection = got.lines().find(|l| l.starts_with("Connection: "));
        assert!(connection.is_some_and(|l| l.ends_with("close")), "{got}");
    }
    until_closed(&rig, refused).await;
    let stats = rig.gate().stats();
    assert_eq!(
        (stats.handshake_failures, stats.sessions_started),
        (refused, 0)
    );
    // The permitted neighbour, with all that a browser adds.
    let client = TcpStream::connect(rig.address(0)).await.unwrap();
    let headers = [
        "Origin: http://gate.example",
        "User-Agent: a browser",
        "Cookie: a=b; c=d",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ];
    let (mut client, head) = WsClient::upgrade_with(client, "/?token=1", &headers).await;
    assert!(!head.to_ascii_lowercase().contains("extensions"), "{head}");
    client.assert_echo().await;
    drop(client);
    rig.settled().await;
}

async fn until_closed(rig: &Rig, n: u64) {
    let gate = rig.gate();
    support::until("all refusals are counted", || {
        gate.closed(CloseReason::Handshake) == n && gate.connection_count() == 0
    })
    .await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    for (listener, allowed, refused) in [
        (
            WebSocket::bind("127.0.0.1:0"),
            &["http://gate.example", "https://GATE.example"][..],
            &[
                "http://evil.example",
                "http://gate.example.evil",
                "http://gate.example:81",
                "null",
            ][..],
        ),
        (
            WebSocket::bind("127.0.0.1:0")
                .origins(["https://play.example", "http://localhost:8080"]),
            &[
                "https://play.example",
                "https://play.example:443",
                "http://localhost:8080",
            ],
            &[
                "http://play.example",
                "http://localhost",
                "http://gate.example",
                "null",
            ],
        ),
        (
            WebSocket::bind("127.0.0.1:0").any_origin(),
            &["http://evil.example", "null"],
            &[],
        ),
    ] {
        let rig = rig(listener).await;
        for origin in refused {
            let bytes = request("/", &[&format!("Origin: {origin}")]);
            let got = answer(&rig, &bytes).await;
            assert!(got.starts_with("HTTP/1.1 403 "), "{origin}: {got}");
        }
        for origin in allowed {
            let client = TcpStream::connect(rig.address(0)).await.unwrap();
            let line = format!("Origin: {origin}");
            WsClient::upgrade_with(client, "/", &[&line])
                .await
                .0
                .assert_echo()
                .await;
        }
        // A native client names none.
        let client = TcpStream::connect(rig.address(0)).await.unwrap();
        WsClient::upgrade(client, "/").await.assert_echo().await;
    }
}

#[tokio::test]
async fn path_and_subprotocol_are_the_listeners() {
    let listener = WebSocket::bind("127.0.0.1:0")
        .path("/game")
        .subprotocols(["v2", "v1"]);
    let rig = rig(listener).await;
    let got = answer(&rig, &request("/", &[])).await;
    assert!(got.starts_with("HTTP/1.1 404 "), "{got}");
    for (offer, expected) in [
        (Some("v1, v2"), Some("v2")),
        (Some("v1"), Some("v1")),
        (Some("v3"), None),
        (None, None),
    ] {
        let client = TcpStream::connect(rig.address(0)).await.unwrap();
        let line = offer.map(|o| format!("Sec-WebSocket-Protocol: {o}"));
        let lines: Vec<&str> = line.iter().map(String::as_str).collect();
        let (mut client, head) = WsClient::upgrade_with(client, "/game", &lines).await;
        let head = head.to_ascii_lowercase();
        match expected {
            Some(name) => assert!(head.contains(&format!("sec-websocket-protocol: {name}\r\n"))),
            None => assert!(!head.contains("sec-websocket-protocol")),
        }
        client.assert_echo().await;
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_come_with_the_request_are_served() {
    let rig = Rig::new().await;
    let (mut client, server) = tokio::io::duplex(65536);
    let listener = WebSocket::bind("pipe");
    rig.running.serve(server, listener, support::PEER).unwrap();
    let mut bytes = request("/", &[]);
    for i in 0..30 {
        bytes.extend(masked(0x82, &v1(&format!("echo/echo/{i}"), b"early")));
    }
    bytes.extend(&masked(0x82, &v1("echo/echo/x", b"split"))[..9]);
    client.write_all(&bytes).await.unwrap();
    let (head, buffer) = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "));
    let mut client = WsClient { io: client, buffer };
    for i in 0..30 {
        let expected = (format!("echo/echo/{i}"), b"early".to_vec());
        assert_eq!(client.packet().await, expected);
    }
    let rest = &masked(0x82, &v1("echo/echo/x", b"split"))[9..];
    client.io.write_all(rest).await.unwrap();
    assert_eq!(client.packet().await.1, b"split");
}

// --- violations

#[tokio::test(start_paused = true)]
async fn violations_are_answered_by_their_code() {
    let mut rig = Rig::new().await;
    let unmasked = [0x82, 3, 1, 2, 3];
    let mut too_long = masked(0x89, &[0; 100]);
    too_long[1] = 0x80 | 126;
    for (what, bytes, code) in [
        ("RSV1, a compressed message", masked(0xc2, b"abc"), 1002),
        ("RSV2", masked(0xa2, b"abc"), 1002),
        ("not masked", unmasked.to_vec(), 1002),
        ("reserved opcode", masked(0x83, b""), 1002),
        ("continuation of nothing", masked(0x80, b""), 1002),
        ("fragmented ping", masked(PING, b""), 1002),
        ("long ping", too_long, 1002),
        ("text", masked(0x80 | TEXT, b"hello"), 1003),
        (
            "close code 1005",
            masked(0x88, &1005u16.to_be_bytes()),
            1002,
        ),
        ("close code of one byte", masked(0x88, b"a"), 1002),
        (
            "close reason not UTF-8",
            masked(0x88, b"\x03\xe8\xff"),
            1007,
        ),
        (
            "too many fragments",
            {
                let mut all = masked(BINARY, b"");
                all.extend(masked(0, b"").repeat(100));
                all
            },
            1009,
        ),
    ] {
        let mut client = rig.ws(Limits::default()).await;
        client.assert_echo().await;
        client.io.write_all(&bytes).await.unwrap();
        assert_eq!(client.closed().await, Some(code), "{what}");
        drop(client);
        let reason = rig.reason().await;
        assert_eq!(reason.code(), code, "{what}");
    }
    rig.settled().await;
}

// --- closing

#[tokio::test(start_paused = true)]
async fn the_clients_close_is_answered_with_its_code_after_what_is_queued() {
    let mut rig = Rig::new().await;
    for code in [Some(1000), Some(1001), Some(3000), Some(4999), None] {
        let mut client = rig.ws(Limits::default()).await;
        client.send("echo/echo/1", b"last").await;
        let payload = code.map(|c: u16| [&c.to_be_bytes()[..], b"bye"].concat());
        client
            .send_frame(0x80 | CLOSE, &payload.unwrap_or_default())
            .await;
        // What comes after a close frame is not looked at.
        client.send("echo/echo/2", b"too late").await;
        assert_eq!(client.packet().await.1, b"last");
        assert_eq!(client.closed().await, code);
        drop(client);
        let ended = rig.end().await;
        assert_eq!(
            (ended.reason, ended.undelivered_packets),
            (CloseReason::ClientLeft, 0)
        );
    }
    // Without a close frame it is a loss.
    drop(rig.ws(Limits::default()).await);
    assert_eq!(rig.reason().await, CloseReason::ConnectionLost);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn the_gates_close_goes_first_and_waits_for_the_clients() {
    let mut rig = Rig::new().await;
    let mut client = rig.ws(Limits::default()).await;
    let session = rig.session().await;
    session.send(support::packet("news", 9)).unwrap();
    assert!(session.close(CloseReason::Kicked));
    assert!(
        !session.close(CloseReason::Shutdown),
        "the first reason stays"
    );
    assert_eq!(client.packet().await.0, "news");
    let frame = client.next().await.unwrap();
    assert_eq!(frame.close_code(), Some(4504));
    assert_eq!(&frame.payload[2..], CloseReason::Kicked.text().as_bytes());
    client.send_frame(0x80 | CLOSE, &frame.payload).await;
    assert_eq!(client.next().await, None);
    drop(client);
    assert_eq!(rig.reason().await, CloseReason::Kicked);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn pongs_repeat_the_ping_and_unasked_pongs_are_ignored() {
    let rig = Rig::new().await;
    let mut client = rig.ws(Limits::default()).await;
    for payload in [&b""[..], b"a", &[9; 125]] {
        client.send_frame(0x80 | PONG, b"nobody asked").await;
        client.send_frame(0x80 | PING, payload).await;
        let frame = client.next().await.unwrap();
        assert_eq!((frame.opcode, &frame.payload[..]), (PONG, payload));
    }
    client.assert_echo().await;
    assert_eq!(rig.gate().stats().pings, 3);
}

// --- a foreign client

#[tokio::test]
async fn tungstenite_gets_its_answer_and_its_close() {
    let mut rig = rig(WebSocket::bind("127.0.0.1:0")).await;
    let url = format!("ws://{}/", rig.address(0));
    let (mut client, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for size in [0, 125, 126, 60_000] {
        let frame = v1("echo/echo/1", &vec![1; size]);
        client.send(Message::binary(frame.clone())).await.unwrap();
        let got = timeout(LONG, client.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(parse_v1(&got.into_data()).1.len(), size);
    }
    client.close(None).await.unwrap();
    while let Some(last) = timeout(LONG, client.next()).await.unwrap() {
        assert!(last.unwrap().is_close());
    }
    assert_eq!(rig.reason().await, CloseReason::ClientLeft);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn the_web_is_told_when_authentication_says_no() {
    let rig = Rig::with(|gate| {
        gate.on_authenticate(
            Duration::from_secs(1),
            async |credentials| match credentials.upgrade.as_ref().and_then(|u| u.query()) {
                Some("token=good") => Ok(tidegate::Identity::user(7.into())),
                Some("slow") => std::future::pending().await,
                Some("panic") => panic!("in a hook"),
                _ => Err(tidegate::Refused::new("no such token")),
            },
        )
    })
    .await;
    for (path, code) in [
        ("/?token=bad", 4503),
        ("/", 4503),
        ("/?slow", 4007),
        ("/?panic", 4007),
    ] {
        let (client, server) = tokio::io::duplex(4096);
        let listener = WebSocket::bind("pipe");
        rig.running.serve(server, listener, support::PEER).unwrap();
        let mut client = WsClient::upgrade(client, path).await;
        assert_eq!(client.closed().await, Some(code), "{path}");
    }
    let (client, server) = tokio::io::duplex(4096);
    let listener = WebSocket::bind("pipe");
    rig.running.serve(server, listener, support::PEER).unwrap();
    WsClient::upgrade(client, "/?token=good")
        .await
        .assert_echo()
        .await;
    let mut tcp = rig.tcp(Limits::default());
    assert!(read_all(&mut tcp).await.is_empty());
    assert_eq!(rig.gate().stats().sessions_started, 1);
}
