//! Many clients at once: those there is no place for, and five thousand that come back.
//! In a process of its own, whose descriptors and tasks are counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::{CloseReason, GateLimits, Rate, Tcp, WebSocket};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

mod support;

use support::ws::{read_head, request};
use support::{LONG, Rig, WsClient, assert_echo, connect_from, read_all, until};

const CLIENTS: u16 = 5000;

/// Raises the limit on descriptors, and answers how many clients may be there at a time:
/// each has two, with its gate in the same process.
fn at_a_time() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    (descriptors as usize).saturating_sub(500) / 2
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

#[tokio::test]
async fn five_thousand_come_back_at_the_pace_of_the_acceptor() {
    let rate = Rate {
        per_second: 2500,
        burst: 250,
    };
    let mut limits = GateLimits::default();
    limits.accept_rate = Some(rate);
    limits.max_connections_per_address = 2;
    let room = Arc::new(Semaphore::new(at_a_time().min(usize::from(CLIENTS))));
    let rig = Rig::with(|gate| {
        gate.gate_limits(limits)
            .listen(Tcp::bind("127.0.0.1:0"))
            .listen(WebSocket::bind("127.0.0.1:0"))
    })
    .await;
    let before = (descriptors(), tasks());
    let all_there = room.available_permits() == usize::from(CLIENTS);
    for round in 1..=3 {
        let began = Instant::now();
        let served = Arc::new(AtomicU16::new(0));
        let mut clients = JoinSet::new();
        for i in 0..CLIENTS {
            let (to, room) = (rig.address(usize::from(i % 2)), room.clone());
            let served = served.clone();
            clients.spawn(async move {
                let _permit = room.acquire().await.unwrap();
                let [high, low] = i.to_be_bytes();
                let mut client = connect_from([127, 3, high, low], to).await;
                if i % 2 == 0 {
                    assert_echo(&mut client).await;
                } else {
                    let mut ws = WsClient::upgrade(client, "/").await;
                    ws.assert_echo().await;
                    client = ws.io;
                }
                served.fetch_add(1, Ordering::Relaxed);
                if all_there {
                    // Until the gate closes.
                    read_all(&mut client).await;
                }
            });
        }
        if all_there {
            until("all are served", || {
                served.load(Ordering::Relaxed) == CLIENTS
            })
            .await;
            assert_eq!(rig.gate().session_count(), usize::from(CLIENTS));
            // What sends them all away at once, to come again.
            rig.gate().close_all(CloseReason::Shutdown);
        }
        timeout(LONG, clients.join_all()).await.unwrap();
        let accepted = rig.gate().stats().accepted;
        assert_eq!(accepted, round * u64::from(CLIENTS));
        let least = (u32::from(CLIENTS) - rate.burst) / rate.per_second;
        assert!(began.elapsed() >= Duration::from_secs(least.into()));
        rig.settled().await;
    }
    let stats = rig.gate().stats();
    assert_eq!((stats.turned_away, stats.handshake_failures), (0, 0));
    assert_eq!(stats.sessions_started, stats.sessions_ended);
    until("tasks and descriptors are those of before", || {
        descriptors() <= before.0 && tasks() <= before.1
    })
    .await;
    let mut client = TcpStream::connect(rig.address(0)).await.unwrap();
    assert_echo(&mut client).await;
}

#[tokio::test]
async fn who_is_turned_away_is_told_when_to_come_again() {
    let mut limits = GateLimits::default();
    limits.max_connections = 2;
    let rig = Rig::with(|gate| {
        gate.gate_limits(limits)
            .listen(Tcp::bind("127.0.0.1:0"))
            .listen(WebSocket::bind("127.0.0.1:0"))
    })
    .await;
    let before = tasks();
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(rig.address(0)).await.unwrap();
        assert_echo(&mut client).await;
        inside.push(client);
    }
    // On a stream of frames there is nothing to say it in.
    let mut client = TcpStream::connect(rig.address(0)).await.unwrap();
    assert!(read_all(&mut client).await.is_empty());
    let mut hints = HashSet::new();
    for i in 0..300 {
        let mut client = TcpStream::connect(rig.address(1)).await.unwrap();
        if i % 2 == 0 {
            // Its request does not take the answer back.
            client.write_all(&request("/", &[])).await.unwrap();
        }
        let (head, _) = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("Connection: close\r\n"), "{head}");
        let hint = head
            .lines()
            .find_map(|line| line.strip_prefix("Retry-After: "));
        let hint: u32 = hint.unwrap().parse().unwrap();
        assert!((1..=30).contains(&hint), "{hint}");
        hints.insert(hint);
        read_all(&mut client).await;
        let reset = client.take_error().unwrap();
        assert!(reset.is_none(), "{reset:?}");
    }
    // Each value misses 300 times in a row once in 26,000.
    assert!(hints.len() > 15, "{hints:?}");
    // Those that neither read nor leave hold nobody up, and nothing for long.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(rig.address(1)).await.unwrap());
    }
    until("all are turned away", || {
        rig.gate().stats().turned_away == 501
    })
    .await;
    assert_eq!(rig.gate().closed(CloseReason::TooManyConnections), 501);
    for client in &mut inside {
        assert_echo(client).await;
    }
    drop(inside);
    rig.settled().await;
    until("nothing waits for them", || tasks() <= before).await;
    let client = TcpStream::connect(rig.address(1)).await.unwrap();
    WsClient::upgrade(client, "/").await.assert_echo().await;
    drop(silent);
}

#[tokio::test]
async fn the_pace_is_that_of_all_listeners_together() {
    let mut limits = GateLimits::default();
    limits.accept_rate = Some(Rate {
        per_second: 20,
        burst: 5,
    });
    let rig = Rig::with(|gate| {
        gate.gate_limits(limits)
            .listen(Tcp::bind("127.0.0.1:0"))
            .listen(Tcp::bind("127.0.0.1:0"))
    })
    .await;
    let began = Instant::now();
    let clients: JoinSet<_> = (0..25)
        .map(|i| {
            let to: SocketAddr = rig.address(i % 2);
            async move {
                let mut client = TcpStream::connect(to).await.unwrap();
                assert_echo(&mut client).await;
            }
        })
        .collect();
    timeout(LONG, clients.join_all()).await.unwrap();
    // No sooner: 20 beyond the burst, 20 in a second.
    assert!(
        began.elapsed() >= Duration::from_millis(990),
        "{:?}",
        began.elapsed()
    );
    rig.settled().await;
}
