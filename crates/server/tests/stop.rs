//! How the binary stops, and what it says of itself meanwhile.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::server::{Server, client, packet};
use support::{PATIENCE, frame};
use tidegate_client::{Client, CloseReason, Protocol};

const CONFIG: &str = r#"
services = ["echo", "chat"]
[[tcp]]
address = "127.0.0.1:0"
[[websocket]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
"#;

/// A call of `echo/after` that has reached the service: what was sent after it is answered.
fn call_under_way(server: &Server, time: &str) -> TcpStream {
    let mut stream = client(server.listeners[0]);
    let call = frame("echo/after/1", format!("{time} done").as_bytes());
    stream.write_all(&call).unwrap();
    stream.write_all(&frame("echo/echo/2", b"x")).unwrap();
    assert_eq!(packet(&mut stream).0, "echo/echo/2");
    stream
}

#[test]
fn a_call_under_way_is_answered_before_the_close() {
    let mut server = Server::start(CONFIG, &[]);
    let mut stream = call_under_way(&server, "1s");
    server.signal("TERM");
    let answer = packet(&mut stream);
    assert_eq!(answer, ("echo/after/1".to_owned(), b"done".to_vec()));
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn an_idle_client_does_not_delay_the_stop() {
    let mut server = Server::start(CONFIG, &[]);
    let mut silent = client(server.listeners[0]);
    let mut spoken = client(server.listeners[0]);
    spoken.write_all(&frame("echo/echo/1", b"x")).unwrap();
    packet(&mut spoken);
    server.signal("TERM");
    let began = Instant::now();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(spoken.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(server.ended().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?} of 10 s allowed");
}

#[tokio::test]
async fn websocket_clients_are_told_why() {
    let mut server = Server::start(CONFIG, &[]);
    let url = format!("ws://{}/", server.listeners[1]);
    let client = Client::builder(&url)
        .protocol(Protocol::V1)
        .connect()
        .await
        .unwrap();
    client.request("echo/echo", "x").await.unwrap();
    server.signal("TERM");
    let closed = tokio::time::timeout(PATIENCE, client.closed())
        .await
        .unwrap();
    assert_eq!(closed.code, Some(4000));
    assert_eq!(closed.reason(), Some(CloseReason::Shutdown));
    assert_eq!(server.ended().code(), Some(0));
}

/// Other deadlines are longer than the test may take: only the gate's own ends this.
#[test]
fn a_client_that_never_reads_cannot_hold_up_the_stop() {
    let config = format!(
        "{CONFIG}\n[gate]\nshutdown_timeout = \"2s\"\n\
         [limits]\nclose_timeout = \"5m\"\nwrite_timeout = \"5m\"\n"
    );
    let mut server = Server::start(&config, &[]);
    let mut stream = client(server.listeners[0]);
    let call = frame("echo/echo/1", &vec![b'x'; 60_000]);
    // Until the gate reads no more: its queue is full, and so is every buffer between.
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let full = loop {
        if let Err(error) = stream.write_all(&call) {
            break error;
        }
    };
    assert!(
        matches!(full.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{full}"
    );
    // The others are served as ever.
    let mut other = client(server.listeners[0]);
    other.write_all(&frame("echo/echo/1", b"x")).unwrap();
    packet(&mut other);

    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?} of 2 s allowed");
}

#[test]
fn readiness_ends_with_the_signal_and_health_with_the_process() {
    let mut server = Server::start(CONFIG, &[]);
    assert_eq!(server.admin("/healthz"), Some((200, "alive\n".to_owned())));
    assert_eq!(server.admin("/readyz"), Some((200, "ready\n".to_owned())));
    let mut stream = call_under_way(&server, "3s");
    server.signal("TERM");
    let deadline = Instant::now() + PATIENCE;
    while server.admin("/readyz").unwrap().0 != 503 {
        assert!(Instant::now() < deadline, "still ready");
    }
    assert_eq!(server.admin("/healthz").unwrap().0, 200);
    while TcpStream::connect(server.listeners[0]).is_ok() {
        assert!(Instant::now() < deadline, "still takes clients");
    }
    assert_eq!(packet(&mut stream).0, "echo/after/1", "the call goes on");
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(server.admin("/healthz"), None);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(CONFIG, &[]);
    let mut stream = call_under_way(&server, "5s");
    server.signal("INT");
    server.line_with("\"stopping\"");
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(1));
    let rest = stream.read(&mut [0; 1]);
    assert!(
        matches!(rest, Ok(0) | Err(_)),
        "the call was not waited for"
    );
}
