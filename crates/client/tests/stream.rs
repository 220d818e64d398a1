//! The client of version 1 over an in-memory stream, under paused time.

#![expect(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate_client::{
    Builder, Cause, Client, Closed, Error, ErrorKind, Missed, Packet, Protocol, Pushes,
};
use tidegate_protocol::{Codec, V1};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::time::{Instant, sleep};

const BUFFER: usize = 256 * 1024;

fn v1(url: &str) -> Builder {
    Client::builder(url).protocol(Protocol::V1)
}

/// The gate's side.
struct Gate(DuplexStream);

impl Gate {
    async fn read(&mut self) -> Option<Packet> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.ok()?;
        let mut frame = vec![0; usize::from(u16::from_le_bytes(head))];
        frame[..2].copy_from_slice(&head);
        self.0.read_exact(&mut frame[2..]).await.ok()?;
        Some(V1.decode(&frame).unwrap())
    }

    async fn write(&mut self, topic: &str, body: &'static str) {
        let mut frame = Vec::new();
        V1.encode(&Packet::try_new(topic, body).unwrap(), &mut frame);
        self.0.write_all(&frame).await.unwrap();
    }
}

async fn open(options: impl FnOnce(Builder) -> Builder) -> (Client, Gate) {
    let (ours, theirs) = duplex(BUFFER);
    let client = options(v1("tcp://gate:1"))
        .connect_over(ours)
        .await
        .unwrap();
    (client, Gate(theirs))
}

async fn next(pushes: &mut Pushes) -> (String, Vec<u8>) {
    let packet = pushes.recv().await.unwrap().unwrap();
    (packet.topic.to_string(), packet.body.to_vec())
}

fn closed(result: Result<impl std::fmt::Debug, Error>) -> Closed {
    match result {
        Err(Error::Closed(closed)) => closed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_requests_in_any_order() {
    let (client, mut gate) = open(|b| b).await;
    let asked = tokio::join!(
        client.request("svc/a", "1"),
        client.request("svc/a", "2"),
        client.request("svc/b", "3"),
        async {
            let mut got = Vec::new();
            for _ in 0..3 {
                got.push(gate.read().await.unwrap());
            }
            let topics: Vec<_> = got.iter().map(|p| p.topic.as_str()).collect();
            assert_eq!(topics, ["svc/a/1", "svc/a/2", "svc/b/3"]);
            gate.write("svc/b/3", "three").await;
            gate.write("svc/a/1", "one").await;
            gate.write("svc/a/2", "two").await;
        }
    );
    assert_eq!(asked.0.unwrap(), "one");
    assert_eq!(asked.1.unwrap(), "two");
    assert_eq!(asked.2.unwrap(), "three");
}

#[tokio::test(start_paused = true)]
async fn packets_leave_in_order() {
    let (client, mut gate) = open(|b| b.send_queue(2)).await;
    tokio::spawn(async move {
        for i in 0..1000u32 {
            client.send("a/b", i.to_string()).await.unwrap();
        }
    });
    for i in 0..1000u32 {
        assert_eq!(gate.read().await.unwrap().body, i.to_string());
    }
    assert_eq!(gate.read().await, None, "the last handle is gone");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_counted_and_is_no_push() {
    let (client, mut gate) = open(|b| b.request_timeout(Duration::from_secs(3))).await;
    let mut pushes = client.pushes();
    let start = Instant::now();
    let error = client.request("svc/slow", "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(start.elapsed(), Duration::from_secs(3));

    // Given up by its caller instead.
    let asking = client.request("svc/slow", "");
    assert!(
        tokio::time::timeout(Duration::from_secs(1), asking)
            .await
            .is_err()
    );

    gate.write("svc/slow/1", "late").await;
    gate.write("svc/slow/2", "late").await;
    gate.write("svc/slow/3", "never asked").await;
    assert_eq!(next(&mut pushes).await.0, "svc/slow/3");
    assert_eq!(client.stats().late_answers, 2);
    assert_eq!(client.stats().received, 3);
    // A second answer to one request is no answer.
    gate.write("svc/slow/1", "again").await;
    assert_eq!(next(&mut pushes).await.0, "svc/slow/1");
}

#[tokio::test(start_paused = true)]
async fn pushes_are_kept_for_the_first_reader_and_overflow_is_told() {
    let (client, mut gate) = open(|b| b.push_buffer(4)).await;
    for topic in ["p/0", "p/1", "p/2", "p/3", "p/4", "p/5"] {
        gate.write(topic, "").await;
    }
    while client.stats().received < 6 {
        sleep(Duration::from_millis(1)).await;
    }
    let mut first = client.pushes();
    let mut second = client.pushes();
    assert_eq!(first.recv().await.unwrap(), Err(Missed(2)));
    assert_eq!(next(&mut first).await.0, "p/2");
    gate.write("p/6", "").await;
    assert_eq!(next(&mut second).await.0, "p/6");
    drop((first, second));
    gate.write("p/7", "").await;
    while client.stats().received < 8 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(client.stats().unread_pushes, 1);
    drop(gate);
    client.closed().await;
    assert_eq!(client.pushes().recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_gate_closes_in_order() {
    let (client, mut gate) = open(|b| b).await;
    let mut pushes = client.pushes();
    let other = client.clone();
    let asking = tokio::spawn(async move { other.request("a/b", "").await });
    gate.read().await.unwrap();
    gate.write("last/words", "").await;
    drop(gate);
    let ended = client.closed().await;
    assert_eq!(
        (ended.cause, ended.code, ended.unsent),
        (Cause::Gate, None, 0)
    );
    assert_eq!(closed(asking.await.unwrap()), ended);
    assert_eq!(closed(client.send("a/b", "").await), ended);
    assert_eq!(closed(client.request("a/b", "").await), ended);
    assert_eq!(next(&mut pushes).await.0, "last/words");
    assert_eq!(pushes.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_gate_goes_within_a_frame() {
    let (client, mut gate) = open(|b| b).await;
    gate.0.write_all(&[10, 0, 1, 0, b'x']).await.unwrap();
    drop(gate);
    assert_eq!(client.closed().await.cause, Cause::Lost);
}

/// A stream whose peer does not take anything any more.
struct Deaf(DuplexStream);

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_are_read_after_writing_has_failed() {
    for gate_goes in [true, false] {
        let (ours, theirs) = duplex(BUFFER);
        let mut gate = Gate(theirs);
        let client = v1("tcp://gate:1").connect_over(Deaf(ours)).await.unwrap();
        let mut pushes = client.pushes();
        client.send("a/b", "").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        gate.write("last/words", "").await;
        assert_eq!(next(&mut pushes).await.0, "last/words");
        if gate_goes {
            drop(gate);
        }
        let start = Instant::now();
        let ended = client.closed().await;
        let waited = Duration::from_secs(if gate_goes { 0 } else { 1 });
        assert_eq!(start.elapsed(), waited);
        assert_eq!(ended.unsent, 1);
        let cause = if gate_goes { Cause::Gate } else { Cause::Lost };
        assert_eq!(ended.cause, cause);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_arrive_in_pieces_and_together() {
    let (client, mut gate) = open(|b| b).await;
    let mut pushes = client.pushes();
    let mut bytes = Vec::new();
    for body in ["one", "two", ""] {
        V1.encode(&Packet::try_new("p/q", body).unwrap(), &mut bytes);
    }
    let (pieces, together) = bytes.split_at(12);
    for byte in pieces {
        gate.0.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    gate.0.write_all(together).await.unwrap();
    for body in ["one", "two", ""] {
        assert_eq!(next(&mut pushes).await, ("p/q".to_owned(), body.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_break_the_protocol_end_the_connection() {
    for bytes in [
        &[3, 0][..],
        &[4, 0, 0, 0],
        &[5, 0, 1, 0, 7],
        &[5, 0, 2, 0, b'a'],
    ] {
        let (client, mut gate) = open(|b| b).await;
        gate.0.write_all(bytes).await.unwrap();
        assert_eq!(client.closed().await.cause, Cause::Protocol, "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_refused_before() {
    let (client, mut gate) = open(|b| b).await;
    let kind = |r: Result<(), Error>| r.unwrap_err().kind();
    let fits = vec![0; 65535 - 4 - 3];
    client.send("a/b", fits.clone()).await.unwrap();
    assert_eq!(gate.read().await.unwrap().body, fits);
    let over = vec![0; fits.len() + 1];
    assert_eq!(kind(client.send("a/b", over).await), ErrorKind::TooLarge);
    assert_eq!(kind(client.send("", "").await), ErrorKind::InvalidTopic);
    assert_eq!(kind(client.send("a\n", "").await), ErrorKind::InvalidTopic);
    for method in ["a", "a/b/c", "$a/b", "a b/c", ""] {
        let error = client.request(method, "").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTopic, "{method:?}");
    }
    let error = client.request("a/b", fits).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::TooLarge,
        "the request id counts too"
    );
    assert_eq!(client.stats().sent, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_is_queued_and_reads_to_the_end() {
    let (client, mut gate) = open(|b| b).await;
    client.send("a/b", "1").await.unwrap();
    client.send("a/b", "2").await.unwrap();
    let other = client.clone();
    let asking = tokio::spawn(async move { other.request("a/b", "3").await });
    tokio::task::yield_now().await;
    let other = client.clone();
    let closing = tokio::spawn(async move { other.close().await });
    for body in ["1", "2", "3"] {
        assert_eq!(gate.read().await.unwrap().body, body);
    }
    assert_eq!(gate.read().await, None);
    assert_eq!(closed(client.send("a/b", "").await).cause, Cause::Client);
    gate.write("a/b/1", "still").await;
    assert_eq!(asking.await.unwrap().unwrap(), "still");
    drop(gate);
    let ended = closing.await.unwrap();
    assert_eq!((ended.cause, ended.unsent), (Cause::Client, 0));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_does_not_read_delays_a_close_no_longer_than_allowed() {
    let (ours, gate) = duplex(16);
    let client = v1("tcp://gate:1")
        .send_queue(1)
        .connect_over(ours)
        .await
        .unwrap();
    let start = Instant::now();
    let mut accepted = 0;
    loop {
        let sending = client.send("a/b", vec![0; 60_000]);
        match tokio::time::timeout(Duration::from_secs(1), sending).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        accepted += 1;
    }
    assert!(accepted < 5, "the queue is bounded: {accepted}");
    let ended = client.close().await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert_eq!((ended.cause, ended.unsent), (Cause::Client, accepted));
    drop(gate);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_even_with_a_full_queue() {
    let (ours, mut gate) = duplex(16);
    let client = v1("tcp://gate:1")
        .send_queue(1)
        .connect_over(ours)
        .await
        .unwrap();
    let mut pushes = client.pushes();
    for _ in 0..3 {
        let sending = client.send("a/b", vec![0; 60_000]);
        let _ = tokio::time::timeout(Duration::from_secs(1), sending).await;
    }
    drop(client);
    assert_eq!(pushes.recv().await, None);
    let mut rest = Vec::new();
    gate.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keepalive_sends_only_when_nothing_else_did() {
    let (client, mut gate) = open(|b| b.keepalive("live/beat", Duration::from_secs(30))).await;
    let start = Instant::now();
    assert_eq!(gate.read().await.unwrap().topic.as_str(), "live/beat");
    assert_eq!(start.elapsed().as_secs(), 30);
    sleep(Duration::from_secs(20)).await;
    client.send("a/b", "").await.unwrap();
    assert_eq!(gate.read().await.unwrap().topic.as_str(), "a/b");
    assert_eq!(gate.read().await.unwrap().topic.as_str(), "live/beat");
    assert_eq!(start.elapsed().as_secs(), 80);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_says_nothing_is_no_connection() {
    for url in ["ws://gate/", "tls://gate:1"] {
        let (ours, _gate) = duplex(BUFFER);
        let start = Instant::now();
        let connecting = v1(url).connect_timeout(Duration::from_secs(4));
        let error = connecting.connect_over(ours).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(start.elapsed(), Duration::from_secs(4));
    }
}

#[tokio::test(start_paused = true)]
async fn options_are_checked() {
    let kind = |builder: Builder| async move {
        let (ours, _gate) = duplex(BUFFER);
        builder.connect_over(ours).await.unwrap_err().kind()
    };
    let ws = || v1("ws://gate/");
    let tls = || v1("tls://gate:1");
    assert_eq!(kind(v1("gate")).await, ErrorKind::InvalidUrl);
    assert_eq!(kind(ws().header("a b", "")).await, ErrorKind::InvalidOption);
    assert_eq!(
        kind(ws().header("a", "\r\n")).await,
        ErrorKind::InvalidOption
    );
    assert_eq!(
        kind(ws().header("Upgrade", "x")).await,
        ErrorKind::InvalidOption
    );
    assert_eq!(kind(tls().ca_pem("no PEM")).await, ErrorKind::InvalidOption);
    assert_eq!(
        kind(tls().without_public_roots()).await,
        ErrorKind::InvalidOption
    );
    assert_eq!(
        kind(tls().server_name("a b")).await,
        ErrorKind::InvalidOption
    );
    let beat = ws().keepalive("", Duration::from_secs(1));
    assert_eq!(kind(beat).await, ErrorKind::InvalidTopic);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_error_topic_find_their_requests() {
    let (client, mut gate) = open(|b| b.error_topic("oops")).await;
    let mut pushes = client.pushes();
    let answer = async {
        let asked = gate.read().await.unwrap();
        assert_eq!(asked.topic.as_str(), "a/b/1");
        gate.write("oops", r#"{"topic":"a/c","code":5,"message":"away"}"#)
            .await;
        gate.write("oops", r#"{"topic":"a/b/1","code":1001,"message":"no"}"#)
            .await;
        gate
    };
    let (asked, _gate) = tokio::join!(client.request("a/b", ""), answer);
    match asked {
        Err(Error::NotServed(e)) => assert_eq!((e.code.0, &*e.message), (1001, "no")),
        other => panic!("{other:?}"),
    }
    // Of a packet that waits for no answer: a push like any other.
    let (topic, body) = next(&mut pushes).await;
    assert_eq!(topic, "oops");
    assert!(String::from_utf8(body).unwrap().contains("a/c"));
}
