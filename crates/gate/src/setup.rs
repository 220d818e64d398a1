//! The set-up of one connection: TLS, WebSocket upgrade, authentication, started hook;
//! all under one deadline, counted from accept.
//!
//! What set-up needs is dropped when it is done: a connection that is ready holds
//! nothing of it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidegate_protocol::ws::upgrade::{self, UpgradeError, UpgradeRequest};
use tidegate_protocol::{CloseReason, SessionId, Settings, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::Place;
use crate::bus::{Event, EventTarget};
use crate::conn::Connection;
use crate::gate::GateInner;
use crate::hooks::{Credentials, Identity, guarded};
use crate::session::{Attachment, LocalSession};
use crate::stats::Handshake;
use crate::transport::{Stream, Transport};

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
    let place = place.on(at.clone());
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

/// A session whose set-up goes on: ends if that is cut off.
struct Unready(Option<LocalSession>);

impl Unready {
    fn session(&self) -> LocalSession {
        // Taken only by the methods that consume it.
        #[expect(clippy::expect_used, reason = "see above")]
        self.0.clone().expect("present until consumed")
    }

    fn ready(mut self) -> LocalSession {
        let session = self.session();
        self.0 = None;
        session
    }

    fn end(mut self, reason: CloseReason) {
        if let Some(session) = self.0.take() {
            let shard = session.core().at().shard.clone();
            shard.spawn(session.end(reason, (0, 0)));
        }
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            let shard = session.core().at().shard.clone();
            shard.spawn(session.end(CloseReason::SetupTimeout, (0, 0)));
        }
    }
}

struct Setup {
    gate: Arc<GateInner>,
    at: Arc<Attachment>,
    peer: SocketAddr,
    /// For everything up to the session's start.
    deadline: Instant,
}

/// What came of an upgrade: the request and the bytes behind it, or a refusal. Without
/// a request on a listener that is not for WebSocket.
type Upgraded = Result<(Option<Arc<UpgradeRequest>>, Vec<u8>), UpgradeError>;

impl Setup {
    async fn run(&self, source: Source) -> Option<Ready> {
        let io = match source.open() {
            Ok(io) => io,
            Err(error) => return self.failed(CloseReason::ConnectionLost, error),
        };
        let mut io = match timeout_at(self.deadline, self.tls(io)).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return self.no_handshake(Handshake::Tls, error),
            Err(late) => return self.failed(CloseReason::SetupTimeout, late),
        };
        let (request, early) = match timeout_at(self.deadline, self.upgrade(&mut io)).await {
            Ok(Ok(Ok(upgraded))) => upgraded,
            Ok(Ok(Err(refused))) => {
                self.no_handshake(Handshake::Upgrade, refused);
                return self.bye(io, refused.response()).await;
            }
            Ok(Err(error)) => return self.no_handshake(Handshake::Upgrade, error),
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

    /// Makes the session; ended again if it cannot be bound, or may not start.
    async fn begin(&self, id: SessionId, identity: Identity) -> Result<LocalSession, CloseReason> {
        let unready = Unready(Some(self.new_session(id, identity.settings)));
        let session = unready.session();
        if let Some(user) = identity.user
            && let Err(error) = session.bind(user).await
        {
            tracing::warn!(session = %session.id(), %error, "an authenticated user could not be bound");
            let reason = CloseReason::AuthenticationUnavailable;
            unready.end(reason);
            return Err(reason);
        }
        if let Some(reason) = self.started(&session).await {
            unready.end(reason);
            return Err(reason);
        }
        Ok(unready.ready())
    }

    async fn tls(&self, io: Transport) -> io::Result<Transport> {
        match (&self.at.endpoint.tls, io) {
            (Some(config), Transport::Tcp(socket)) => {
                Transport::tls(socket, &config.clone().into()).await
            }
            (Some(_), _) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "TLS needs a TCP socket",
            )),
            (None, io) => Ok(io),
        }
    }

    /// Reads the upgrade request on a WebSocket listener, and answers one that is let in.
    async fn upgrade(&self, io: &mut Transport) -> io::Result<Upgraded> {
        let Some(ws) = &self.at.endpoint.ws else {
            return Ok(Ok((None, Vec::new())));
        };
        let mut head = Vec::with_capacity(1024);
        let (request, used) = loop {
            match upgrade::parse(&head, &ws.upgrade) {
                Ok(Some(parsed)) => break parsed,
                Ok(None) => {
                    if io.read_buf(&mut head).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        };
        let accept = match ws.policy.check(&request) {
            Ok(accept) => accept,
            Err(error) => return Ok(Err(error)),
        };
        io.write_all(&accept.response()).await?;
        io.flush().await?;
        Ok(Ok((Some(Arc::new(request)), head.split_off(used))))
    }

    async fn authenticate(
        &self,
        session: SessionId,
        certificates: Vec<Bytes>,
        upgrade: Option<Arc<UpgradeRequest>>,
    ) -> Result<Identity, CloseReason> {
        let Some((hook, deadline)) = &self.gate.hooks.authenticate else {
            return Ok(Identity::guest());
        };
        let credentials = Credentials {
            session,
            peer: self.peer,
            network: self.at.endpoint.network(),
            listener: self.at.endpoint.name.clone(),
            upgrade,
            hello: None,
            certificates,
        };
        let answer = guarded("authenticate", &self.gate, || hook(credentials));
        match timeout(*deadline, answer).await {
            Ok(Some(Ok(identity))) => Ok(identity),
            Ok(Some(Err(refused))) => {
                if let Some(unlogged) = self.gate.end_log.admit() {
                    let (ip, listener) = (self.peer.ip(), &self.at.endpoint.name);
                    tracing::info!(%ip, %listener, why = ?refused.0, unlogged, "authentication refused");
                }
                Err(CloseReason::AuthenticationRefused)
            }
            Ok(None) => Err(CloseReason::AuthenticationUnavailable),
            Err(_) => {
                tracing::warn!(?deadline, "the authenticate hook took too long");
                Err(CloseReason::AuthenticationUnavailable)
            }
        }
    }

    fn new_session(&self, id: SessionId, settings: Settings) -> LocalSession {
        let info = Snapshot {
            id,
            gate: self.gate.id.clone(),
            user: None,
            settings,
            ip: self.peer.ip().to_canonical(),
            network: self.at.endpoint.network(),
            trace_id: rand::random(),
        };
        let session = LocalSession::new(info, self.gate.clone(), self.at.clone());
        self.gate.sessions.insert(session.clone());
        self.at.shard.counters.sessions_started.add(1);
        session
    }

    /// Tells hook and services that the session begins; answers why it must not.
    async fn started(&self, session: &LocalSession) -> Option<CloseReason> {
        session.core().announced.store(true, Ordering::Release);
        if let Some(hook) = &self.gate.hooks.started {
            match guarded("started", &self.gate, || hook(session.clone())).await {
                Some(Ok(())) => {}
                Some(Err(refused)) => {
                    tracing::info!(session = %session.id(), why = ?refused.0, "refused by the started hook");
                    return Some(CloseReason::AuthenticationRefused);
                }
                None => return Some(CloseReason::Internal),
            }
        }
        let bus = &self.gate.bus;
        bus.event(EventTarget::WhoAsked, session.snapshot(), Event::Started);
        None
    }

    /// Tells the client why, as far as its connection can carry that.
    async fn refuse(&self, io: Transport, reason: CloseReason) -> Option<Ready> {
        let mut bye = Vec::new();
        if self.at.endpoint.ws.is_some() {
            tidegate_protocol::ws::encode_close(&mut bye, reason.code(), reason.text());
        }
        self.bye(io, bye).await
    }

    /// Writes a last word and waits for the client to close: closing on unread bytes
    /// would take the word back.
    async fn bye(&self, mut io: Transport, word: Vec<u8>) -> Option<Ready> {
        let told = async {
            io.write_all(&word).await?;
            io.flush().await?;
            io.shutdown().await?;
            let mut rest = [0; 1024];
            while io.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether the client listens or not, it is refused.
        let _ = timeout(self.at.endpoint.limits.close_timeout, told).await;
        None
    }

    fn no_handshake(&self, which: Handshake, error: impl std::fmt::Display) -> Option<Ready> {
        self.at.shard.counters.handshakes.add(which);
        self.failed(CloseReason::Handshake, error)
    }

    fn failed(&self, reason: CloseReason, error: impl std::fmt::Display) -> Option<Ready> {
        self.at.shard.counters.closed.add(reason);
        if let Some(unlogged) = self.gate.end_log.admit() {
            tracing::info!(
                ip = %self.peer.ip(),
                listener = %self.at.endpoint.name,
                reason = reason.name(),
                code = reason.code(),
                error = ?error.to_string(),
                unlogged,
                "set-up failed"
            );
        }
        None
    }
}

/// The client's certificate chain, DER.
fn certificates(io: &Transport) -> Vec<Bytes> {
    let chain = match io {
        Transport::Tls(stream) => stream.get_ref().1.peer_certificates(),
        Transport::Tcp(_) | Transport::Other(_) => None,
    };
    let chain = chain.unwrap_or_default().iter();
    chain.map(|cert| Bytes::copy_from_slice(cert)).collect()
}
