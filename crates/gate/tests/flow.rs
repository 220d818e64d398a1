//! The way out: queues that fill, clients that do not read, closes in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::sync::Arc;
use std::time::Duration;

use tidegate::bus::gate::GateError;
use tidegate::{CloseReason, Guests, Limits, LocalSession, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

mod support;

use support::ws::{BINARY, parse};
use support::{
    PIPE, Rig, WsClient, assert_echo, connect_small, frames_in, packet, quiet, read_all, read_v1,
    until, v1,
};

const SECOND: Duration = Duration::from_secs(1);

/// Sends until the queue is full; answers how many packets it took.
async fn fill(session: &LocalSession, size: usize) -> u64 {
    let mut accepted = 0;
    loop {
        match session.send(packet("news", size)) {
            Ok(()) => accepted += 1,
            Err(GateError::QueueFull) => {
                // Once more, with all that the transport takes taken.
                quiet().await;
                match session.send(packet("news", size)) {
                    Ok(()) => accepted += 1,
                    Err(error) => {
                        assert!(matches!(error, GateError::QueueFull), "{error:?}");
                        return accepted;
                    }
                }
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_refused_then_closed_and_every_packet_accounted_for() {
    let mut rig = Rig::new().await;
    for (size, packets, bytes) in [(1000, 100, 1 << 20), (3000, 1000, 20_000), (0, 50, 1 << 20)] {
        let mut limits = Limits::default();
        limits.send_queue_packets = packets;
        limits.send_queue_bytes = bytes;
        let mut client = rig.tcp(limits);
        let session = rig.session().await;
        let accepted = fill(&session, size).await;
        let began = Instant::now();
        let queued = session.backlog().bytes;
        assert!(queued <= bytes);
        let count = queued / (size as u32 + 4);
        assert!(
            count == packets || queued + size as u32 + 4 > bytes,
            "{count}"
        );
        // Left alone: it may still come back.
        sleep(SECOND * 9).await;
        assert!(rig.ended.try_recv().is_err());
        let ended = rig.end().await;
        assert_eq!(ended.reason, CloseReason::Slow);
        assert!(began.elapsed() < SECOND * 11);
        assert!(matches!(
            session.send(packet("news", 1)),
            Err(GateError::SessionGone)
        ));
        let all = read_all(&mut client).await;
        let received = frames_in(&all);
        assert_eq!(received.len() as u64 + ended.undelivered_packets, accepted);
        assert!(received.iter().all(|(_, body)| body.len() == size));
        let each = size as u64 + 4;
        assert_eq!(ended.undelivered_bytes, ended.undelivered_packets * each);
        assert_eq!(session.packets_sent(), received.len() as u64);
        rig.settled().await;
    }
    let stats = rig.gate().stats();
    assert!(stats.refused_full >= 6 && stats.undelivered > 150);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_moves_is_not_closed_and_loses_nothing() {
    let mut rig = Rig::new().await;
    let mut client = rig.tcp(Limits::default());
    let session = rig.session().await;
    let accepted = fill(&session, 500).await;
    let mut all = Vec::new();
    // It sends now and then: only its reading is slow.
    for i in 0..60 {
        sleep(SECOND * 9).await;
        if i % 5 == 0 {
            client.write_all(&v1("echo/take", b"")).await.unwrap();
        }
        let mut some = [0; 200];
        client.read_exact(&mut some).await.unwrap();
        all.extend_from_slice(&some);
    }
    while frames_in(&all).len() < accepted as usize {
        client.read_buf(&mut all).await.unwrap();
    }
    assert_eq!(frames_in(&all).len() as u64, accepted);
    assert_echo(&mut client).await;
    drop(client);
    let ended = rig.end().await;
    assert_eq!(
        (ended.reason, ended.undelivered_packets),
        (CloseReason::ClientLeft, 0)
    );
}

#[tokio::test]
async fn accounts_are_exact_over_a_real_socket() {
    let mut rig = Rig::with(|gate| {
        let mut limits = Limits::default();
        limits.write_timeout = Duration::from_millis(300);
        gate.limits(limits)
            .listen(tidegate::Tcp::bind("127.0.0.1:0"))
    })
    .await;
    for size in [100, 5000, 60_000] {
        let mut client = connect_small(rig.address(0), 4096).await;
        let session = rig.session().await;
        let mut accepted = 0;
        // Until the kernel takes no more either.
        until("the queue stays full", || {
            let mut took = false;
            while session.send(packet("news", size)).is_ok() {
                accepted += 1;
                took = true;
            }
            !took
        })
        .await;
        // What the kernel still takes after the last send is taken from the queue.
        let ended = rig.end().await;
        assert_eq!(ended.reason, CloseReason::Slow);
        let received = frames_in(&read_all(&mut client).await).len() as u64;
        assert_eq!(received + ended.undelivered_packets, accepted, "{size}");
        rig.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_delays_nobody() {
    let mut rig = Rig::new().await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        stuck.push(rig.tcp(Limits::default()));
        let session = rig.session().await;
        fill(&session, 1000).await;
    }
    let mut reader = rig.ws(Limits::default()).await;
    let session = rig.session().await;
    let began = Instant::now();
    reader.assert_echo().await;
    let sent = rig.gate().broadcast(packet("news", 10)).await.unwrap();
    assert_eq!((sent.attached, sent.full), (1, 20));
    assert_eq!(reader.packet().await.0, "news");
    assert!(session.close(CloseReason::Kicked));
    assert_eq!(reader.closed().await, Some(4504));
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(reader);
    assert_eq!(rig.reason().await, CloseReason::Kicked);
    // A kick of one that does not read takes the close timeout, whatever it does.
    let kicked = rig.gate().sessions().next().unwrap();
    assert!(kicked.close(CloseReason::Kicked));
    assert_eq!(rig.reason().await, CloseReason::Kicked);
    let took = began.elapsed();
    assert!(SECOND * 4 < took && took < SECOND * 6, "{took:?}");
    let began = Instant::now();
    rig.running.stop().await;
    assert!(began.elapsed() < SECOND * 6, "{:?}", began.elapsed());
    for _ in 0..19 {
        let ended = rig.ended.try_recv().unwrap();
        assert!(matches!(
            ended.reason,
            CloseReason::Shutdown | CloseReason::Slow
        ));
    }
}

// --- closing

#[tokio::test(start_paused = true)]
async fn a_close_frame_never_stands_inside_a_frame() {
    let mut rig = Rig::new().await;
    for wait in [0, 1, 4, 6] {
        let mut client = rig.ws(Limits::default()).await;
        let session = rig.session().await;
        let accepted = fill(&session, 1000).await;
        assert!(session.close(CloseReason::Kicked));
        sleep(SECOND * wait).await;
        if wait < 5 {
            // What was queued, the reason, the end.
            for _ in 0..accepted {
                assert_eq!(client.packet().await.0, "news");
            }
            assert_eq!(client.closed().await, Some(4504));
            drop(client);
            assert_eq!(rig.end().await.undelivered_packets, 0);
            continue;
        }
        let ended = rig.end().await;
        assert_eq!(ended.reason, CloseReason::Kicked);
        let all = read_all(&mut client.io).await;
        let mut at = 0;
        let mut received = 0;
        while let Some((frame, len)) = parse(&all[at..]) {
            assert_eq!(frame.opcode, BINARY);
            at += len;
            received += 1;
        }
        assert_eq!(received + ended.undelivered_packets, accepted);
    }
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_come_while_the_gate_closes_never_follow_the_close_frame() {
    // So many bytes of the close frame still fit into the pipe.
    for fits in [0, 1, 2, 10] {
        let gate = Arc::new(Semaphore::new(0));
        let opened = gate.clone();
        let late = Service::new("late")
            .request("answer", move || {
                let opened = opened.clone();
                async move {
                    let _ = opened.acquire().await;
                    vec![7; 500]
                }
            })
            .open_to(Guests)
            .concurrent();
        let mut rig = Rig::with(|gate| gate.service(late)).await;
        let mut client = rig.ws(Limits::default()).await;
        let session = rig.session().await;
        for i in 0..10 {
            client.send(&format!("late/answer/{i}"), b"").await;
        }
        until("the calls are made", || session.backlog().calls == 10).await;
        // With its headers this fills the pipe.
        session.send(packet("news", PIPE - 12 - fits)).unwrap();
        quiet().await;
        assert!(session.close(CloseReason::Kicked));
        quiet().await;
        gate.add_permits(1);
        quiet().await;
        assert_eq!(client.packet().await.0, "news");
        assert_eq!(client.closed().await, Some(4504));
        drop(client);
        let ended = rig.end().await;
        assert_eq!(
            (ended.undelivered_packets, ended.undelivered_bytes),
            (10, 10 * 513)
        );
    }
}

// --- pipelining

/// Writes until the pipe takes no more; answers how many bytes it took.
async fn flood(client: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> usize {
    let mut written = 0;
    let blocked = Duration::from_millis(10);
    while written < bytes.len()
        && let Ok(n) = timeout(blocked, client.write(&bytes[written..])).await
    {
        written += n.unwrap();
    }
    written
}

#[tokio::test(start_paused = true)]
async fn reading_stops_at_the_concurrent_task_limit() {
    let mut rig = Rig::new().await;
    let mut clients = Vec::new();
    let frame = v1("echo/hang/1", &[0; 85]);
    let mut limits = Limits::default();
    limits.call_timeout = SECOND * 100;
    for _ in 0..200 {
        let mut client = rig.tcp(limits.clone());
        let all = frame.repeat(50);
        let written = flood(&mut client, &all.repeat(10)).await;
        assert!(written < 20 * 100 + 2048 + PIPE + 1, "{written}");
        let session = rig.session().await;
        assert_eq!(session.backlog().calls, 20);
        assert_eq!(session.packets_received(), 20);
        clients.push(client);
    }
    let read = rig.gate().stats().bytes_in;
    assert!(read <= 200 * (20 * 100 + 2048), "{read}");
    assert!(rig.gate().memory_used() <= 200 * 4096);
    drop(clients);
    // What is in the pipes is served, 20 at a time as the calls before time out.
    sleep(SECOND * 400).await;
    for _ in 0..200 {
        rig.end().await;
    }
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_pipeline_and_do_not_read_stay_in_bounds() {
    let mut rig = Rig::new().await;
    let mut clients = Vec::new();
    for size in [80, 1000, 8000] {
        let mut limits = Limits::default();
        limits.write_timeout = SECOND * 100;
        let before = rig.gate().memory_used();
        let mut sessions = Vec::new();
        for _ in 0..200 {
            let mut client = rig.tcp(limits.clone());
            let frames = v1("echo/echo/1", &vec![0; size]).repeat(800_000 / size);
            let written = flood(&mut client, &frames).await;
            assert!(written < frames.len());
            sessions.push(rig.session().await);
            clients.push((client, written / (size + 15)));
        }
        let frame = size + 15;
        // Answers queued, one chunk on its way, a frame that has begun, and what is read
        // at a time.
        let bound = 20 * frame + 16 * 1024 + frame + frame + 2048;
        for session in &sessions {
            let served = session.packets_received() as usize;
            assert!(served <= 20 + (PIPE + 16 * 1024) / frame + 2, "{served}");
        }
        let held = (rig.gate().memory_used() - before) as usize;
        assert!(held <= 200 * bound, "{held}");
        if size >= 1000 {
            assert!(held > 200 * 4096, "it is counted: {held}");
        }
    }
    // Everything that was taken in is answered once they read.
    let (mut client, sent) = clients.swap_remove(0);
    for _ in 0..sent {
        assert_eq!(read_v1(&mut client).await.unwrap().1.len(), 80);
    }
    drop((client, clients));
    for _ in 0..600 {
        rig.end().await;
    }
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_noticed_while_the_gate_does_not_read() {
    let mut rig = Rig::with(|gate| {
        let mut limits = Limits::default();
        limits.call_timeout = SECOND * 100;
        gate.limits(limits)
            .listen(tidegate::Tcp::bind("127.0.0.1:0"))
    })
    .await;
    let hang = v1("echo/hang/1", b"").repeat(20);
    for what in ["fin", "reset", "reset behind packets", "fin behind packets"] {
        let mut client = connect_small(rig.address(0), 65536).await;
        client.write_all(&hang).await.unwrap();
        let session = rig.session().await;
        until("it is paused", || session.backlog().calls == 20).await;
        if what.ends_with("packets") {
            client
                .write_all(&v1("echo/take", b"").repeat(5))
                .await
                .unwrap();
        }
        sleep(SECOND * 3).await;
        let began = Instant::now();
        if what.starts_with("reset") {
            #[expect(deprecated, reason = "a zero linger does not block")]
            client.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        let reason = rig.reason().await;
        let took = began.elapsed();
        match what {
            "fin" => assert_eq!(reason, CloseReason::ClientLeft),
            "fin behind packets" => {
                assert_eq!(reason, CloseReason::ClientLeft);
                assert_eq!(session.packets_received(), 25, "served first");
                continue;
            }
            _ => assert_eq!(reason, CloseReason::ConnectionLost),
        }
        assert!(took < SECOND * 3, "{what}: {took:?}");
    }
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn pings_of_a_client_that_does_not_read_are_bounded() {
    let mut rig = Rig::new().await;
    let mut client: WsClient<_> = rig.ws(Limits::default()).await;
    let session = rig.session().await;
    let ping = support::ws::masked(0x89, &[b'p'; 125]);
    let written = flood(&mut client.io, &ping.repeat(5000)).await;
    assert!(written < 40_000, "the gate stops reading: {written}");
    let read = rig.gate().stats().bytes_in;
    assert!(read < 40_000, "{read}");
    assert!(rig.gate().memory_used() < 40_000);
    // It reads again: the gate reads on, and at once.
    let began = Instant::now();
    for _ in 0..written / ping.len() {
        let frame = client.next().await.unwrap();
        assert_eq!((frame.opcode, frame.payload.len()), (10, 125));
    }
    assert!(began.elapsed() < SECOND / 2, "{:?}", began.elapsed());
    assert!(session.close(CloseReason::Kicked));
    let _ = rig.reason().await;
}
