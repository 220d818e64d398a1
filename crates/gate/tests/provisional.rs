//! What a connection may do before its first packet, on a listener for both protocols.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use support::ws::masked;
use support::*;
use tidegate::protocol::{Codec, FrameError};
use tidegate::{CloseReason, GateLimits, Limits, Packet, Protocol, Rate, Tcp, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const PING: u8 = 0x89;

fn tcp(rig: &Rig, listener: Tcp) -> DuplexStream {
    let (client, server) = duplex(PIPE);
    rig.running.serve(server, listener, PEER).unwrap();
    client
}

async fn ws(rig: &Rig, listener: WebSocket) -> WsClient<DuplexStream> {
    let (client, server) = duplex(PIPE);
    rig.running.serve(server, listener, PEER).unwrap();
    WsClient::upgrade(client, "/").await
}

#[tokio::test(start_paused = true)]
async fn it_has_no_session_and_gets_one_when_it_only_listens() {
    let mut rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.hello_wait = SECOND * 3;
    limits.setup_timeout = SECOND * 5;
    let mut client = tcp(&rig, Tcp::bind("pipe").limits(limits));
    let began = Instant::now();
    sleep(SECOND * 2).await;
    assert_eq!(rig.gate().session_count(), 0);
    let sent = rig.gate().broadcast(packet("news", 1)).await.unwrap();
    assert_eq!(sent.attached, 0);
    rig.session().await;
    assert_eq!(began.elapsed().as_secs(), 3);
    // No set-up deadline closes it.
    sleep(SECOND * 10).await;
    rig.gate().broadcast(packet("news", 1)).await.unwrap();
    assert_eq!(read_v1(&mut client).await.unwrap().0, "news");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_is_served_first_and_in_order() {
    let rig = Rig::new().await;
    let mut client = tcp(&rig, Tcp::bind("pipe"));
    let frames: Vec<u8> = (0..5).flat_map(|n| v1("echo/echo/1", &[n; 100])).collect();
    client.write_all(&frames[..300]).await.unwrap();
    quiet().await;
    client.write_all(&frames[300..]).await.unwrap();
    for n in 0..5 {
        assert_eq!(read_v1(&mut client).await.unwrap().1, [n; 100]);
    }
    // A part of a frame only, for longer than the gate waits for a `$hello`.
    let mut client = tcp(&rig, Tcp::bind("pipe"));
    client.write_all(&frames[..10]).await.unwrap();
    sleep(SECOND * 3).await;
    client.write_all(&frames[10..]).await.unwrap();
    assert_eq!(read_v1(&mut client).await.unwrap().1, [0; 100]);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_whatever_comes_then() {
    let rig = Rig::new().await;
    let hello = v1("$hello", br#"{"versions":[1]}"#);
    for (first, answer) in [
        (v1("echo/echo/1", b"x"), "echo/echo/1"),
        (hello, "$welcome"),
    ] {
        let mut client = ws(&rig, WebSocket::bind("pipe")).await;
        let fragments = [
            masked(PING, b"before"),
            masked(0x02, &first[..4]),
            masked(PING, b"between"),
            masked(0x80, &first[4..]),
        ];
        client.io.write_all(&fragments.concat()).await.unwrap();
        for payload in [b"before".as_slice(), b"between"] {
            assert_eq!(client.next().await.unwrap().payload, payload);
        }
        assert_eq!(client.packet().await.0, answer);
    }
    assert_eq!(rig.gate().stats().pings, 4);
    // From one that says nothing more, they are answered when the wait is over.
    let mut client = ws(&rig, WebSocket::bind("pipe")).await;
    client.send_frame(PING, b"alone").await;
    assert_eq!(client.next().await.unwrap().payload, b"alone");
}

#[tokio::test(start_paused = true)]
async fn the_rates_hold_for_what_it_brought() {
    let rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.packet_rate = Some(Rate::per_second(10));
    limits.byte_rate = Some(Rate::per_second(1000));
    let client = ws(&rig, WebSocket::bind("pipe").limits(limits.clone())).await;
    let (mut reader, mut writer) = tokio::io::split(client.io);
    let flood = async {
        loop {
            writer.write_all(&masked(PING, b"")).await.unwrap();
        }
    };
    let read = async { while reader.read(&mut [0; 1024]).await.unwrap() > 0 {} };
    tokio::select! {
        () = flood => {}
        () = read => panic!("closed"),
        () = sleep(SECOND * 30) => {}
    }
    let pings = rig.gate().stats().pings;
    // In its first second it may bring more, which counts.
    assert!(pings < 400, "{pings}");

    let (mut reader, mut writer) = tokio::io::split(tcp(&rig, Tcp::bind("pipe").limits(limits)));
    let began = Instant::now();
    let frame = v1("echo/echo/1", &[7; 30_000]);
    let (written, _) = tokio::join!(writer.write_all(&frame), read_v1(&mut reader));
    written.unwrap();
    let took = began.elapsed();
    assert!(SECOND * 25 < took && took < SECOND * 35, "{took:?}");
}

/// Bytes that are no `$hello` are the session's affair soon, with all its limits.
#[tokio::test(start_paused = true)]
async fn it_holds_no_more_than_a_hello() {
    let mut rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.hello_wait = SECOND * 1000;
    limits.setup_timeout = SECOND * 1000;
    let on = |protocol| Tcp::bind("pipe").protocol(protocol).limits(limits.clone());
    let long = v1("echo/echo/1", &[7; 40_000]);
    let mut client = tcp(&rig, on(Protocol::Any));
    client.write_all(&long[..20_000]).await.unwrap();
    rig.session().await;
    client.write_all(&long[20_000..]).await.unwrap();
    assert_eq!(read_v1(&mut client).await.unwrap().1.len(), 40_000);
    let mut client = tcp(&rig, on(Protocol::Extended));
    let _ = client.write_all(&long[..20_000]).await;
    // It never said that it understands `$close`.
    assert!(read_all(&mut client).await.is_empty());
    assert_eq!(rig.gate().closed(CloseReason::ExtendedProtocol), 1);
}

#[tokio::test(start_paused = true)]
async fn what_it_holds_counts_and_goes_first_when_memory_is_short() {
    let mut limits = GateLimits::default();
    limits.memory_budget = 200_000;
    let mut rig = Rig::with(|gate| gate.gate_limits(limits)).await;
    let mut lasting = Limits::default();
    lasting.hello_wait = SECOND * 100;
    lasting.setup_timeout = SECOND * 100;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = tcp(&rig, Tcp::bind("pipe").limits(lasting.clone()));
        let part = &v1("echo/take", &[0; 30_000])[..12_000];
        let _ = client.write_all(part).await;
        clients.push(client);
        quiet().await;
        assert!(rig.gate().memory_used() < 240_000);
    }
    assert!(rig.gate().memory_used() > 150_000);
    assert!(rig.gate().closed(CloseReason::MemoryPressure) > 20);
    drop(clients);
    until("it is given back", || rig.gate().memory_used() == 0).await;
    // They end as version 1 clients that left in the middle of a frame.
    while rig.gate().session_count() > 0 {
        rig.end().await;
    }
    rig.settled().await;
}

struct Panics;

impl Codec for Panics {
    fn frame_len(&self, buffered: &[u8], _: usize) -> Result<Option<usize>, FrameError> {
        Ok(Some(buffered.len()))
    }

    fn decode(&self, _: &[u8]) -> Result<Packet, FrameError> {
        panic!("in a codec")
    }

    fn encoded_len(&self, packet: &Packet) -> usize {
        packet.size()
    }

    fn encode(&self, _: &Packet, _: &mut Vec<u8>) {
        panic!("in a codec");
    }
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_panics_costs_its_connection_only() {
    let rig = Rig::new().await;
    let mut client = tcp(&rig, Tcp::bind("pipe").codec(Panics));
    client.write_all(b"whatever").await.unwrap();
    assert!(read_all(&mut client).await.is_empty());
    assert_eq!(rig.gate().closed(CloseReason::Internal), 1);
    assert_echo(&mut tcp(&rig, Tcp::bind("pipe"))).await;
    drop(client);
    until("it has gone", || rig.gate().connection_count() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_told_that_the_gate_stops() {
    let rig = Rig::new().await;
    let mut client = ws(&rig, WebSocket::bind("pipe")).await;
    let stopping = tokio::spawn(rig.running.stop());
    assert_eq!(client.closed().await, Some(CloseReason::Shutdown.code()));
    drop(client);
    stopping.await.unwrap();
}
