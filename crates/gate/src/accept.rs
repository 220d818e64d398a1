//! Accepts connections and hands them to shards.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use crate::admission::Place;
use crate::gate::GateInner;
use crate::listener::Endpoint;
use crate::session::Attachment;
use crate::setup::{self, Source};
use crate::stats::Label;
use crate::transport;

/// First and longest pause after an accept that failed for want of resources.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Accepts until the task is aborted; dropping the future closes the listener.
pub(crate) async fn accept(gate: Arc<GateInner>, socket: TcpListener, endpoint: Arc<Endpoint>) {
    #[expect(
        deprecated,
        reason = "unsound for types whose descriptor may change; a std listener's does not"
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
        match next(&socket).await {
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

async fn next(socket: &AsyncFd<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(result) = ready.try_io(|socket| socket.get_ref().accept()) {
            return result;
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

fn admit(gate: &Arc<GateInner>, at: Arc<Attachment>, stream: TcpStream, peer: SocketAddr) {
    let listener = &at.endpoint.name;
    at.shard.counters.accepted.add(1);
    let place = match Place::take(gate, peer.ip()) {
        Ok(place) => place,
        Err(why) => {
            at.shard.counters.turned_away.add(why);
            if let Some(unlogged) = gate.accept_log.admit() {
                let (connections, most) =
                    (gate.admission.connections(), gate.limits.max_connections);
                tracing::warn!(%listener, ip = %peer.ip(), limit = why.label(), connections, most, unlogged, "connection limit reached; turned away");
            }
            return;
        }
    };
    if let Err(error) = transport::prepare(&stream) {
        tracing::debug!(%error, "a socket could not be prepared");
        return;
    }
    setup::spawn(gate.clone(), at, peer, place, Source::Socket(stream));
}
