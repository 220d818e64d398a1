//! The set-up of one connection: TLS, WebSocket upgrade, authentication, started hook;
//! all under one deadline, counted from accept.
//!
//! - This file: the task of a connection, and the order of its set-up.
//! - [`upgrade`]: TLS and the WebSocket upgrade.
//! - [`session`]: authentication, and the session's start.
//! - [`refusal`]: what a client is told whose set-up fails.
//!
//! What set-up needs is dropped when it is done: a connection that is ready holds
//! nothing of it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate_protocol::{CloseReason, SessionId};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::admission::Place;
use crate::conn::Connection;
use crate::gate::GateInner;
use crate::session::{Attachment, LocalSession};
use crate::transport::{Stream, Transport};

mod refusal;
mod session;
mod upgrade;

use upgrade::certificates;

/// Serves one connection, from set-up to end.
pub(crate) fn spawn(
    gate: Arc<GateInner>,
    at: Arc<Attachment>,
    peer: SocketAddr,
    place: Place,
    source: Source,
) {
    let setup = Setup {
        deadline: Instant::now() + at.endpoint.limits.setup_timeout,
        gate,
        at: at.clone(),
        peer,
    };
    let place = place.on(at.shard.clone());
    at.shard.spawn(Task::Accepted(Some((setup, source, place))));
}

/// Where a connection comes from.
pub(crate) enum Source {
    /// Accepted by a listener; no runtime knows it yet.
    Socket(std::net::TcpStream),
    /// Brought by the gate's owner.
    Stream(Box<dyn Stream>),
}

impl Source {
    /// Must be called on the shard's runtime.
    fn open(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Socket(socket) => Transport::Tcp(TcpStream::from_std(socket)?),
            Self::Stream(stream) => Transport::Other(stream),
        })
    }
}

/// The task of one connection: its set-up, and then, in place of it, the connection.
///
/// The set-up gets its box when it is first polled, so that a burst of accepted sockets
/// does not need a burst of memory.
enum Task {
    Accepted(Option<(Setup, Source, Place)>),
    SetUp(Pin<Box<dyn Future<Output = Option<Connection>> + Send>>),
    Running(Connection),
}

async fn set_up(setup: Setup, source: Source, place: Place) -> Option<Connection> {
    let ready = setup.run(source).await?;
    Connection::new(ready.io, ready.session, setup.at, 0, ready.early, place)
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Accepted(accepted) => match accepted.take() {
                    None => return Poll::Ready(()),
                    Some((setup, source, place)) => {
                        *self = Self::SetUp(Box::pin(set_up(setup, source, place)));
                    }
                },
                Self::SetUp(set_up) => match set_up.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Ready(Some(connection)) => *self = Self::Running(connection),
                },
                Self::Running(connection) => return Pin::new(connection).poll(cx),
            }
        }
    }
}

/// A connection that is set up.
struct Ready {
    io: Transport,
    session: LocalSession,
    early: Vec<u8>,
}

struct Setup {
    gate: Arc<GateInner>,
    at: Arc<Attachment>,
    peer: SocketAddr,
    /// For everything up to the session's start.
    deadline: Instant,
}

impl Setup {
    async fn run(&self, source: Source) -> Option<Ready> {
        let io = match source.open() {
            Ok(io) => io,
            Err(error) => return self.failed(CloseReason::ConnectionLost, error),
        };
        let mut io = match timeout_at(self.deadline, self.tls(io)).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return self.failed(CloseReason::Handshake, error),
            Err(late) => return self.failed(CloseReason::SetupTimeout, late),
        };
        let (request, early) = match timeout_at(self.deadline, self.upgrade(&mut io)).await {
            Ok(Ok(Ok(upgraded))) => upgraded,
            Ok(Ok(Err(refused))) => {
                self.failed(CloseReason::Handshake, refused);
                return self.bye(io, refused.response()).await;
            }
            Ok(Err(error)) => return self.failed(CloseReason::Handshake, error),
            Err(late) => return self.failed(CloseReason::SetupTimeout, late),
        };
        let id = SessionId(rand::random());
        let identity = self.authenticate(id, certificates(&io), request);
        let identity = match timeout_at(self.deadline, identity).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(reason)) => {
                self.at.shard.counters.closed.add(reason);
                return self.refuse(io, reason).await;
            }
            Err(late) => {
                self.failed(CloseReason::SetupTimeout, late);
                return self.refuse(io, CloseReason::SetupTimeout).await;
            }
        };
        // Cut off, the session is ended, and counted, by what keeps it.
        let begun = timeout_at(self.deadline, self.begin(id, identity)).await;
        match begun.unwrap_or(Err(CloseReason::SetupTimeout)) {
            Ok(session) => Some(Ready { io, session, early }),
            Err(reason) => self.refuse(io, reason).await,
        }
    }
}
