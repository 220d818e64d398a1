//! Deadlines, under paused time: set-up, partial frames, heartbeats, logging in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::ops::Range;
use std::time::Duration;

use tidegate::{
    CloseReason, ErrorCode, Guests, Identity, Limits, Service, Session, Tcp, UserId, WebSocket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

mod support;

use support::ws::{BINARY, PING, PONG, request};
use support::{PEER, Rig, WsClient, assert_echo, quiet, read_all, read_v1, v1};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn assert_took(since: Instant, seconds: Range<u64>) {
    // The gate's clock has steps of 50 ms, and a deadline counts from the last one.
    let took = since.elapsed() + Duration::from_millis(50);
    let range = SECOND * seconds.start as u32..SECOND * seconds.end as u32;
    assert!(range.contains(&took), "{took:?}");
}

/// Writes one byte each second until the gate closes.
async fn drip(client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), byte: &[u8]) {
    for _ in 0..600 {
        if client.write_all(byte).await.is_err() {
            return;
        }
        let read = timeout(SECOND, client.read(&mut [0; 1])).await;
        if matches!(read, Ok(Ok(0) | Err(_))) {
            return;
        }
    }
    panic!("it was never closed");
}

// --- partial frames

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_waited_for_thirty_seconds() {
    let mut rig = Rig::new().await;
    let mut client = rig.tcp(Limits::default());
    assert_echo(&mut client).await;
    let began = Instant::now();
    client.write_all(&[0xff, 0xff, 10, 0]).await.unwrap();
    drip(&mut client, b"a").await;
    assert_took(began, 30..32);
    drop(client);
    assert_eq!(rig.reason().await, CloseReason::PartialFrameTimeout);

    let mut ws = rig.ws(Limits::default()).await;
    let began = Instant::now();
    // Fragments without a last one, and pings in between.
    ws.send_frame(BINARY, b"a").await;
    for _ in 0..25 {
        sleep(SECOND).await;
        ws.send_frame(0x80 | PING, b"").await;
        ws.send_frame(0, b"a").await;
        assert_eq!(ws.next().await.unwrap().opcode, PONG);
    }
    assert_eq!(ws.closed().await, Some(4006));
    assert_took(began, 30..31);
    drop(ws);
    assert_eq!(rig.reason().await, CloseReason::PartialFrameTimeout);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_never_align_with_reads_are_no_partial_frame() {
    let rig = Rig::new().await;
    let mut tcp = rig.tcp(Limits::default());
    let mut ws = rig.ws(Limits::default()).await;
    let frame = v1("echo/echo/1", b"hello");
    let ping = support::ws::masked(0x80 | PING, b"1234");
    tcp.write_all(&frame[..7]).await.unwrap();
    ws.io.write_all(&ping[..3]).await.unwrap();
    for _ in 0..100 {
        sleep(SECOND).await;
        tcp.write_all(&frame[7..]).await.unwrap();
        tcp.write_all(&frame[..7]).await.unwrap();
        assert!(read_v1(&mut tcp).await.is_some());
        let piece = [&ping[3..], &ping[..3]].concat();
        ws.io.write_all(&piece).await.unwrap();
        assert_eq!(ws.next().await.unwrap().opcode, PONG);
    }
}

// --- heartbeats

#[tokio::test(start_paused = true)]
async fn a_tcp_client_that_sends_nothing_for_a_minute_is_closed_and_one_that_sends_is_not() {
    let mut rig = Rig::new().await;
    let mut silent = rig.tcp(Limits::default());
    let mut lively = rig.tcp(Limits::default());
    let silent_session = rig.session().await;
    let began = Instant::now();
    let lives = async {
        for _ in 0..20 {
            sleep(SECOND * 50).await;
            assert_echo(&mut lively).await;
        }
    };
    let pushes = async {
        // What the gate sends is no sign of life.
        sleep(SECOND * 30).await;
        silent_session.send(support::packet("news", 3)).unwrap();
        assert!(read_v1(&mut silent).await.is_some());
        assert!(read_all(&mut silent).await.is_empty());
        assert_took(began, 60..61);
        drop(silent);
    };
    tokio::join!(lives, pushes);
    assert_eq!(rig.reason().await, CloseReason::HeartbeatTimeout);
    assert!(rig.ended.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_websocket_client_is_pinged_at_half_time_and_lives_by_its_pong() {
    let mut rig = Rig::new().await;
    let mut client = rig.ws(Limits::default()).await;
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(client.next().await.unwrap().opcode, PING);
        assert_took(began, 30..31);
        client.send_frame(0x80 | PONG, b"").await;
        quiet().await;
    }
    let began = Instant::now();
    assert_eq!(client.next().await.unwrap().opcode, PING);
    assert_eq!(client.closed().await, Some(4002));
    assert_took(began, 60..61);
    drop(client);
    assert_eq!(rig.reason().await, CloseReason::HeartbeatTimeout);
}

#[tokio::test(start_paused = true)]
async fn while_the_gate_does_not_read_the_heartbeat_clock_stands_still() {
    let mut rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.call_timeout = SECOND * 200;
    let mut tcp = rig.tcp(limits.clone());
    let mut ws = rig.ws(limits).await;
    for i in 0..20 {
        let topic = format!("echo/hang/{i}");
        tcp.write_all(&v1(&topic, b"")).await.unwrap();
        ws.send(&topic, b"").await;
    }
    let began = Instant::now();
    // Waits in the pipe.
    tcp.write_all(&v1("echo/echo/7", b"ping")).await.unwrap();
    let answer = read_v1(&mut tcp).await.unwrap();
    assert_eq!(answer.1, b"ping");
    assert_took(began, 200..201);
    for _ in 0..40 {
        assert_eq!(rig.error().await.1, ErrorCode::OUTCOME_UNKNOWN);
    }
    // Not pinged before, and a full minute from now on.
    assert_eq!(ws.next().await.unwrap().opcode, PING);
    assert_took(began, 230..231);
    assert_eq!(ws.closed().await, Some(4002));
    assert_took(began, 260..261);
    assert!(read_all(&mut tcp).await.is_empty());
    drop((tcp, ws));
    assert_eq!(rig.reason().await, CloseReason::HeartbeatTimeout);
    assert_eq!(rig.reason().await, CloseReason::HeartbeatTimeout);
}

/// On the caller's runtime timers and connections may run at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_deadline_is_lost_between_threads() {
    let rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.heartbeat_timeout = Duration::from_millis(100);
    for _ in 0..5 {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let mut client = rig.tcp(limits.clone());
            clients.spawn(async move {
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(300) {
                    // It may be closed already, where a processor was busy.
                    let _ = client.write_all(&v1("echo/take", b"")).await;
                    tokio::task::yield_now().await;
                }
                read_all(&mut client).await
            });
        }
        let closed = timeout(support::LONG, clients.join_all()).await;
        assert!(
            closed.is_ok(),
            "{} were forgotten",
            rig.gate().session_count()
        );
        rig.settled().await;
    }
}

// --- set-up

#[tokio::test(start_paused = true)]
async fn a_slow_upgrade_has_ten_seconds_in_all() {
    let mut rig = Rig::new().await;
    let connect = |rig: &Rig| -> DuplexStream {
        let (client, server) = tokio::io::duplex(4096);
        let listener = WebSocket::bind("pipe");
        rig.running.serve(server, listener, PEER).unwrap();
        client
    };
    let began = Instant::now();
    let mut silent = connect(&rig);
    assert!(read_all(&mut silent).await.is_empty());
    assert_took(began, 10..11);

    let began = Instant::now();
    let mut dripping = connect(&rig);
    dripping.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    drip(&mut dripping, b"a").await;
    assert_took(began, 10..12);

    // The permitted neighbour: slow, but done in time.
    let mut slow = connect(&rig);
    for part in request("/", &[]).chunks(25) {
        sleep(SECOND).await;
        slow.write_all(part).await.unwrap();
    }
    let (head, buffer) = support::ws::read_head(&mut slow).await;
    assert!(head.starts_with("HTTP/1.1 101 "));
    WsClient { io: slow, buffer }.assert_echo().await;
    assert_eq!(rig.gate().closed(CloseReason::SetupTimeout), 2);
    assert_eq!(rig.gate().stats().sessions_started, 1);
    rig.end().await;
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn upgrade_and_authentication_share_one_deadline() {
    let rig = Rig::with(|gate| {
        gate.on_authenticate(SECOND * 60, async |credentials| {
            let nap = match credentials.listener.as_ref() {
                "slow" => 8,
                _ => 3,
            };
            sleep(SECOND * nap).await;
            Ok(Identity::guest())
        })
    })
    .await;
    for (name, works) in [("slow", false), ("quick", true)] {
        let (client, server) = tokio::io::duplex(4096);
        let listener = WebSocket::bind("pipe").name(name);
        rig.running.serve(server, listener, PEER).unwrap();
        let began = Instant::now();
        sleep(SECOND * 6).await;
        let mut client = WsClient::upgrade(client, "/").await;
        assert_took(began, 6..7);
        if works {
            client.assert_echo().await;
            assert_took(began, 9..10);
            continue;
        }
        assert_eq!(client.closed().await, Some(4005));
        assert_took(began, 10..11);
    }
    let mut tcp = rig.tcp_on(Tcp::bind("pipe").name("slow"));
    assert_echo(&mut tcp).await;
    assert_eq!(rig.gate().closed(CloseReason::SetupTimeout), 1);
    drop(tcp);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_started_hook_falls_under_the_deadline_and_its_session_ends_once() {
    let mut rig = Rig::with(|gate| {
        gate.on_started(async |_| {
            sleep(SECOND * 60).await;
            Ok(())
        })
    })
    .await;
    let mut client = rig.ws(Limits::default()).await;
    let began = Instant::now();
    assert_eq!(client.closed().await, Some(4005));
    assert_took(began, 10..11);
    assert_eq!(rig.reason().await, CloseReason::SetupTimeout);
    drop(client);
    rig.settled().await;
    assert_eq!(rig.gate().closed(CloseReason::SetupTimeout), 1);
    assert_eq!(rig.gate().stats().sessions_ended, 1);
}

// --- logging in

#[tokio::test(start_paused = true)]
async fn a_guest_has_until_the_bind_deadline_and_again_after_logging_out() {
    let login = async |session: Session| {
        session.bind(UserId::from(7)).await?;
        Ok::<_, tidegate::bus::gate::GateError>("in")
    };
    let logout = async |session: Session| {
        session.unbind().await?;
        Ok::<_, tidegate::bus::gate::GateError>("out")
    };
    let lobby = Service::new("lobby")
        .request("login", login)
        .open_to(Guests)
        .request("logout", logout);
    let mut rig = Rig::with(|gate| gate.service(lobby)).await;
    let mut limits = Limits::default();
    limits.bind_deadline = Some(SECOND * 20);
    let began = Instant::now();
    let mut guest = rig.ws(limits.clone()).await;
    let mut user = rig.tcp(limits);
    user.write_all(&v1("lobby/login/1", b"")).await.unwrap();
    assert_eq!(read_v1(&mut user).await.unwrap().1, b"in");
    sleep(SECOND * 15).await;
    guest.assert_echo().await;
    assert_eq!(guest.closed().await, Some(4505));
    assert_took(began, 20..21);
    drop(guest);
    assert_eq!(rig.reason().await, CloseReason::BindDeadline);
    for _ in 0..5 {
        sleep(SECOND * 35).await;
        assert_echo(&mut user).await;
    }
    user.write_all(&v1("lobby/logout/2", b"")).await.unwrap();
    assert_eq!(read_v1(&mut user).await.unwrap().1, b"out");
    let began = Instant::now();
    assert_echo(&mut user).await;
    assert!(read_all(&mut user).await.is_empty());
    assert_took(began, 20..21);
    drop(user);
    assert_eq!(rig.reason().await, CloseReason::BindDeadline);
    rig.settled().await;
}
