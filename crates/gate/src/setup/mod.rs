//! The set-up of one connection: PROXY header, TLS, WebSocket upgrade, authentication,
//! started hook; all under one deadline, counted from accept.
//!
//! - This file: the task of a connection, and the order of its set-up.
//! - [`client`]: who the client is, where proxies stand in between.
//! - [`upgrade`]: TLS and the WebSocket upgrade.
//! - [`hello`]: which protocol the client speaks, and the answer to a `$hello`.
//! - [`session`]: authentication, and the session's start.
//! - [`refusal`]: what a client is told whose set-up fails.
//!
//! What set-up needs is dropped when it is done: a connection that is ready holds
//! nothing of it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate_protocol::{CloseReason, SessionId};
use tokio::time::{Instant, timeout_at};

use crate::admission::Place;
use crate::conn::Connection;
use crate::gate::GateInner;
use crate::hooks::Identity;
use crate::proxy::Remote;
use crate::session::{Attachment, LocalSession};
use crate::transport::{Socket, Stream, Transport};

mod client;
mod hello;
mod refusal;
mod session;
mod upgrade;

use hello::First;
use refusal::Failed;
use upgrade::certificates;

/// Serves one connection, from set-up to end.
pub(crate) fn spawn(
    gate: Arc<GateInner>,
    at: Arc<Attachment>,
    peer: Remote,
    place: Place,
    source: Source,
) {
    let setup = Setup {
        said_hello: false,
        deadline: Instant::now() + at.endpoint.limits.setup_timeout,
        gate,
        at: at.clone(),
        client: peer,
        place: place.on(at.clone()),
    };
    at.shard.spawn(Task::Accepted(Some((setup, source))));
}

/// Where a connection comes from.
pub(crate) enum Source {
    /// Accepted by a listener; no runtime knows it yet.
    Socket(socket2::Socket),
    /// Brought by the gate's owner.
    Stream(Box<dyn Stream>),
}

impl Source {
    /// Must be called on the shard's runtime.
    fn open(self, peer: Remote) -> io::Result<Transport> {
        Ok(match self {
            Self::Socket(socket) => Transport::Plain(Socket::open(socket, peer)?),
            Self::Stream(stream) => Transport::Other(stream),
        })
    }
}

/// The task of one connection: its set-up, and then, in place of it, the connection.
///
/// The set-up gets its box when it is first polled, so that a burst of accepted sockets
/// does not need a burst of memory.
enum Task {
    Accepted(Option<(Setup, Source)>),
    SetUp(Pin<Box<dyn Future<Output = Option<Connection>> + Send>>),
    Running(Connection),
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Accepted(accepted) => match accepted.take() {
                    None => return Poll::Ready(()),
                    Some((setup, source)) => {
                        *self = Self::SetUp(Box::pin(Box::new(setup).run(source)));
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

struct Setup {
    gate: Arc<GateInner>,
    at: Arc<Attachment>,
    /// The peer, or the client that a proxy named, as far as set-up has come.
    client: Remote,
    place: Place,
    /// The client speaks the extended protocol.
    said_hello: bool,
    /// For everything up to the session's start.
    deadline: Instant,
}

impl Setup {
    async fn run(mut self: Box<Self>, source: Source) -> Option<Connection> {
        let deadline = self.deadline;
        let mut io = match source.open(self.client) {
            Ok(io) => io,
            Err(error) => return self.failed(CloseReason::ConnectionLost, error),
        };
        if let Err(why) = within(deadline, Box::pin(self.proxy_header(&mut io))).await {
            return Box::pin(self.give_up(Some(io), why)).await;
        }
        let mut io = match within(deadline, Box::pin(self.tls(io))).await {
            Ok(io) => io,
            Err(why) => return Box::pin(self.give_up(None, why)).await,
        };
        let (request, early) = match within(deadline, Box::pin(self.upgrade(&mut io))).await {
            Ok(upgraded) => upgraded,
            Err(why) => return Box::pin(self.give_up(Some(io), why)).await,
        };
        let first = match self.first(&mut io, early).await {
            Ok(first) => first,
            Err((reason, why)) => {
                self.failed(reason, why);
                return Box::pin(self.refuse(io, reason)).await;
            }
        };
        let id = SessionId::new(rand::random(), self.at.shard.number);
        let identity = Box::pin(self.authenticate(id, certificates(&io), request, &first));
        let identity = match timeout_at(deadline, identity).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(reason)) => {
                self.at.shard.counters.closed.add(reason);
                return Box::pin(self.refuse(io, reason)).await;
            }
            Err(late) => {
                self.failed(CloseReason::SetupTimeout, late);
                return Box::pin(self.refuse(io, CloseReason::SetupTimeout)).await;
            }
        };
        // Cut off, the session is ended, and counted, by what keeps it.
        let open = Box::pin(self.open(&mut io, &first, id, identity));
        let begun = timeout_at(deadline, open).await;
        match begun.unwrap_or(Err(CloseReason::SetupTimeout)) {
            Ok((session, epoch)) => {
                let early = first.into_early();
                Some(Connection::attached(
                    io, session, self.at, epoch, early, self.place,
                ))
            }
            Err(reason) => Box::pin(self.refuse(io, reason)).await,
        }
    }

    /// The client's session, and the epoch of this connection.
    async fn open(
        &self,
        io: &mut Transport,
        first: &First,
        id: SessionId,
        identity: Identity,
    ) -> Result<(LocalSession, u32), CloseReason> {
        match first {
            First::Extended(hello, terms, _) => self.welcome(io, hello, *terms, id, identity).await,
            First::V1(_) => {
                let (unready, _) = self.begin(id, identity, None).await?;
                let session = unready.ready();
                let epoch = session.attach(&self.at, 0);
                Ok((session, epoch.ok_or(CloseReason::ConnectionLost)?))
            }
        }
    }
}

/// One step of set-up; late if the deadline passes first.
async fn within<T, E: Into<Failed>>(
    deadline: Instant,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    match timeout_at(deadline, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failed::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what an async function makes.
    fn size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Many may wait for their clients' first packets at a time. What other steps need is in
    /// boxes of their own.
    #[test]
    fn a_set_up_that_waits_is_small() {
        assert!(size(Setup::run) <= 1100, "{}", size(Setup::run));
    }

    /// What set-up needs has its room where the connection will be.
    #[test]
    fn a_task_is_no_larger_than_its_connection() {
        assert_eq!(size_of::<Task>(), size_of::<Connection>());
    }
}
