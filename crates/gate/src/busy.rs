//! What a WebSocket client is told for whom there is no place: 503, and when to come again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::gate::GateInner;
use crate::proxy::Remote;
use crate::shard::Shard;
use crate::transport::Socket;

/// Seconds in `Retry-After`, any of them as likely: who was turned away together does not come
/// back together.
const RETRY_AFTER: RangeInclusive<u32> = 1..=30;
/// Clients told at a time that are waited for, so that what they sent does not take the answer
/// back, and for how long. Those beyond that number are told and closed at once.
const PARTING: usize = 64;
const PARTING_TIME: Duration = Duration::from_secs(1);

/// The whole HTTP response, after which the connection is closed.
pub(crate) fn response() -> Vec<u8> {
    let body = "too many connections\n";
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        rand::random_range(RETRY_AFTER),
        body.len()
    )
    .into_bytes()
}

/// Tells a socket that was accepted from `peer`, as far as that goes without waiting.
pub(crate) fn tell(gate: &Arc<GateInner>, on: &Shard, socket: socket2::Socket, peer: Remote) {
    // A new socket has room for this; if it has not, closing says it too.
    let told = socket.set_nonblocking(true).is_ok() && socket.send(&response()).is_ok();
    if told
        && socket.shutdown(std::net::Shutdown::Write).is_ok()
        && let Some(leaver) = Leaver::enter(gate)
    {
        on.spawn(async move {
            let _leaver = leaver;
            if let Ok(mut socket) = Socket::open(socket, peer) {
                let mut rest = [0; 1024];
                let left = async { while matches!(socket.read(&mut rest).await, Ok(1..)) {} };
                // Its time is over, or it has gone: both are the end.
                let _ = timeout(PARTING_TIME, left).await;
            }
        });
    }
}

/// Number of clients that are waited for.
#[derive(Default)]
pub(crate) struct Parting(AtomicUsize);

struct Leaver(Arc<GateInner>);

impl Leaver {
    fn enter(gate: &Arc<GateInner>) -> Option<Self> {
        let before = gate.parting.0.fetch_add(1, Ordering::Relaxed);
        let leaver = Self(gate.clone());
        // One too many is dropped, which counts it out again.
        (before < PARTING).then_some(leaver)
    }
}

impl Drop for Leaver {
    fn drop(&mut self) {
        self.0.parting.0.fetch_sub(1, Ordering::Relaxed);
    }
}
