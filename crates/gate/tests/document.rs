//! The defaults in `docs/protocol.md` are those of the gate.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../protocol/tests/page/mod.rs"]
mod page;

use std::time::Duration;

use page::{says, table};
use tidegate::protocol::ws::upgrade::MAX_HEADERS;
use tidegate::{GateLimits, Limits};

/// A time as the page says it.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    assert_eq!(time, Duration::from_secs(seconds));
    match seconds % 60 {
        0 if seconds > 60 => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        n if n % (1024 * 1024) == 0 => format!("{} MiB", n / (1024 * 1024)),
        n if n % 1024 == 0 => format!("{} KiB", n / 1024),
        n => n.to_string(),
    }
}

fn thousands(n: usize) -> String {
    match n {
        0..1000 => n.to_string(),
        n => format!("{},{:03}", n / 1000, n % 1000),
    }
}

#[test]
fn limits_that_a_client_meets() {
    let (limits, gate) = (Limits::default(), GateLimits::default());
    assert!(limits.packet_rate.is_none() && limits.byte_rate.is_none());
    let expected = [
        ("set-up", time(limits.setup_timeout)),
        ("no byte from the client", time(limits.heartbeat_timeout)),
        ("a frame that has begun", time(limits.partial_frame_timeout)),
        (
            "the client's socket takes nothing",
            time(limits.write_timeout),
        ),
        (
            "requests under way",
            format!("{};", limits.concurrent_tasks),
        ),
        (
            "packets that wait for a client",
            format!(
                "{}, and {}",
                limits.send_queue_packets,
                bytes(limits.send_queue_bytes.into())
            ),
        ),
        ("rate of packets and of bytes", "off;".to_owned()),
        (
            "WebSocket upgrade request",
            format!(
                "{}, {MAX_HEADERS} headers",
                bytes(limits.max_upgrade_size as u64)
            ),
        ),
        (
            "connections, in all and from one address",
            format!(
                "{} and {};",
                thousands(gate.max_connections),
                thousands(gate.max_connections_per_address)
            ),
        ),
    ];
    let page = table("Limit | Default");
    assert_eq!(page.len(), expected.len());
    for (row, (limit, default)) in page.iter().zip(expected) {
        assert!(row[0].starts_with(limit), "{row:?}: {limit}");
        assert!(row[1].starts_with(&default), "{row:?}: {default}");
    }
}

#[test]
fn what_the_text_says() {
    let limits = Limits::default();
    for phrase in [
        format!(
            "{} by default, which is also the ceiling",
            limits.max_packet_size
        ),
        format!("({} fragments by default)", limits.max_fragments),
        format!(
            "heartbeat timeout ({} by default;",
            time(limits.heartbeat_timeout)
        ),
        format!("at most {} (`hello_wait`)", time(limits.hello_wait)),
        format!(
            "half the listener's heartbeat timeout: {} by default",
            time(limits.heartbeat_timeout / 2)
        ),
        format!(
            "By default the gate keeps {} packets and {} of topics and bodies",
            limits.resume_packets,
            bytes(limits.resume_bytes.into())
        ),
        format!(
            "from when it notices the loss; {} by default",
            time(limits.resume_window.unwrap())
        ),
    ] {
        says(&phrase);
    }
}
