//! What clients can make the gate hold: in a process of its own, for its memory is measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use tidegate::{CloseReason, GateLimits, Limits, Rate, WebSocket};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{Duration, sleep};

mod support;

use support::ws::{BINARY, masked};
use support::{PEER, Rig, WsClient, quiet, v1};

const CLIENTS: usize = 2000;

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

async fn write(clients: &mut [DuplexStream], bytes: &[u8]) {
    for client in clients {
        client.write_all(bytes).await.unwrap();
    }
    quiet().await;
}

/// How much more memory `f` leaves the process with, for each client.
async fn growth(f: impl AsyncFnOnce()) -> usize {
    let before = resident();
    f().await;
    resident().saturating_sub(before) / CLIENTS
}

#[tokio::test(start_paused = true)]
async fn what_is_held_grows_by_bytes_received() {
    let mut places = GateLimits::default();
    places.max_connections_per_address = 2 * CLIENTS;
    let mut rig = Rig::with(|gate| gate.gate_limits(places)).await;
    let mut limits = Limits::default();
    limits.packet_rate = Some(Rate::per_second(100));
    let mut tcp: Vec<_> = (0..CLIENTS).map(|_| rig.tcp(limits.clone())).collect();
    let mut ws = Vec::new();
    for _ in 0..CLIENTS {
        let (client, server) = tokio::io::duplex(support::PIPE);
        let listener = WebSocket::bind("pipe").limits(limits.clone());
        rig.running.serve(server, listener, PEER).unwrap();
        ws.push(WsClient::upgrade(client, "/").await.io);
    }
    // The pipes keep their buffers: fill each once before anything is measured.
    let whole = v1("echo/take", &[1; 65_000]);
    write(&mut tcp, &whole).await;
    write(&mut ws, &masked(0x80 | BINARY, &whole)).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.gate().memory_used(), 0);

    // A large frame, and the beginning of one that announces as much again: only the
    // beginning is held.
    let mut header = v1("echo/take", &[2; 65_500]);
    header.truncate(10);
    let grown = growth(async || {
        write(&mut tcp, &[&whole[..], &header].concat()).await;
    })
    .await;
    assert!(grown < 2048, "a partial frame of ten bytes holds {grown}");
    let message = [masked(0x80 | BINARY, &whole), masked(BINARY, &header)].concat();
    let grown = growth(async || write(&mut ws, &message).await).await;
    assert!(grown < 2048, "a partial message of ten bytes holds {grown}");
    // It is counted in steps of 4 KiB for each.
    assert!((rig.gate().memory_used() as usize) < 4096 * 2 * CLIENTS);

    // What has come is counted.
    write(&mut tcp, &[3; 20_000]).await;
    let used = rig.gate().memory_used() as usize;
    assert!(
        (15_900 * CLIENTS..24_100 * CLIENTS).contains(&used),
        "{used}"
    );

    for _ in 0..2 * CLIENTS {
        assert_eq!(rig.reason().await, CloseReason::PartialFrameTimeout);
    }
    assert_eq!(rig.gate().memory_used(), 0);
    drop((tcp, ws));
    rig.settled().await;
}
