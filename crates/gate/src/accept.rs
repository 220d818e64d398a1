//! Accepts connections and hands them to shards.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tidegate_protocol::CloseReason;
use tokio::io::unix::AsyncFd;

use crate::admission::Place;
use crate::busy;
use crate::gate::GateInner;
use crate::listener::Endpoint;
use crate::pace::Pace;
use crate::proxy::Remote;
use crate::session::Attachment;
use crate::setup::{self, Source};
use crate::stats::{Label, TurnedAway};

/// First and longest pause after an accept that failed for want of resources.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Accepts until the task is aborted; dropping the future closes the listener.
pub(crate) async fn accept(gate: Arc<GateInner>, socket: Socket, endpoint: Arc<Endpoint>) {
    #[expect(
        deprecated,
        reason = "unsound for types whose descriptor may change; a socket's does not"
    )]
    let socket = match AsyncFd::new(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = %endpoint.name, %error, "cannot watch the listener");
            return;
        }
    };
    let places = Attachment::on_each(&gate, endpoint.clone());
    let mut pause = BACK_OFF.0;
    loop {
        match next(&socket, &gate.pace).await {
            Ok((stream, peer)) => {
                pause = BACK_OFF.0;
                admit(&gate, Attachment::quietest(&places), stream, peer);
            }
            // The client was gone before we came.
            Err(e) if is_about_one_connection(&e) => {}
            Err(error) => {
                gate.counters().accept_errors.add(1);
                if let Some(unlogged) = gate.accept_log.admit() {
                    tracing::warn!(listener = %endpoint.name, %error, ?pause, unlogged, "cannot accept; pausing");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

async fn next(socket: &AsyncFd<Socket>, pace: &Pace) -> io::Result<(Socket, Remote)> {
    loop {
        let mut ready = socket.readable().await?;
        // Those who wait do so in the kernel, where they cost the gate nothing.
        pace.turn().await;
        if let Ok(result) = ready.try_io(|socket| socket.get_ref().accept()) {
            let (accepted, peer) = result?;
            let peer = peer.as_socket().map_or(Remote::Unix, Remote::from);
            return Ok((accepted, peer));
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn admit(gate: &Arc<GateInner>, at: Arc<Attachment>, socket: Socket, peer: Remote) {
    at.shard.counters.accepted.add(1);
    let place = match place(gate, &at.endpoint, peer) {
        Ok(place) => place,
        Err(why) => {
            turned_away(gate, &at, peer, why);
            // Below TLS there is no way to say it.
            if at.endpoint.ws.is_some() && at.endpoint.tls.is_none() {
                busy::tell(gate, &at.shard, socket, peer);
            }
            return;
        }
    };
    if let Err(error) = socket.set_nonblocking(true) {
        tracing::debug!(%error, "a socket could not be prepared");
        return;
    }
    setup::spawn(gate.clone(), at, peer, place, Source::Socket(socket));
}

/// A place for a connection from `peer`. If that is a proxy, which will say whose connection
/// it brings, it does not count for the proxy's address.
pub(crate) fn place(
    gate: &Arc<GateInner>,
    endpoint: &Endpoint,
    peer: Remote,
) -> Result<Place, TurnedAway> {
    let mut place = Place::take(gate)?;
    let proxies = &endpoint.proxies;
    let is_known = !proxies.sends_header(peer) && !proxies.forwards(peer);
    match peer.counted() {
        Some(ip) if is_known && !place.count_for(ip) => Err(TurnedAway::Address),
        _ => Ok(place),
    }
}

/// Counts and logs that there was no place for a client.
pub(crate) fn turned_away(gate: &GateInner, at: &Attachment, client: Remote, why: TurnedAway) {
    at.shard.counters.turned_away.add(why);
    at.shard
        .counters
        .closed
        .add(CloseReason::TooManyConnections);
    if let Some(unlogged) = gate.accept_log.admit() {
        let (connections, most) = (gate.admission.connections(), gate.limits.max_connections);
        let (listener, ip) = (&at.endpoint.name, client.address().ip());
        tracing::warn!(%listener, %ip, limit = why.label(), connections, most, unlogged, "connection limit reached; turned away");
    }
}
