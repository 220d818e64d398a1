//! Where a user's code plugs into the gate.
//!
//! Each hook is one closure, set on the builder; an absent one costs nothing. A hook
//! that panics fails what it was asked about, not the gate.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tidegate_protocol::ws::upgrade::UpgradeRequest;
use tidegate_protocol::{ErrorCode, Network, Packet, SessionId, Settings, Topic, UserId};

use crate::bus::{CallError, Ended};
use crate::gate::GateInner;
use crate::session::LocalSession;
use crate::watch::poll_watched;

/// The hooks of a gate.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) authenticate: Option<(AuthenticateFn, Duration)>,
    pub(crate) started: Option<StartedFn>,
    pub(crate) receive: Option<InboundFn>,
    pub(crate) route: Option<InboundFn>,
    pub(crate) outbound: Option<OutboundFn>,
    pub(crate) resumed: Option<ResumedFn>,
    pub(crate) ended: Option<EndedFn>,
    pub(crate) packet_error: Option<PacketErrorFn>,
}

pub(crate) type AuthenticateFn =
    Box<dyn Fn(Credentials) -> BoxFuture<'static, Result<Identity, Refused>> + Send + Sync>;
pub(crate) type StartedFn =
    Box<dyn Fn(LocalSession) -> BoxFuture<'static, Result<(), Refused>> + Send + Sync>;
pub(crate) type InboundFn = Box<
    dyn Fn(LocalSession, Packet) -> BoxFuture<'static, Result<Inbound, CallError>> + Send + Sync,
>;
pub(crate) type OutboundFn =
    Box<dyn Fn(&LocalSession, Packet) -> Result<Packet, Refused> + Send + Sync>;
pub(crate) type ResumedFn = Box<dyn Fn(&LocalSession, SessionId) + Send + Sync>;
pub(crate) type EndedFn = Box<dyn Fn(LocalSession, Ended) -> BoxFuture<'static, ()> + Send + Sync>;
pub(crate) type PacketErrorFn = Box<dyn Fn(&LocalSession, &Topic, &CallError) + Send + Sync>;

/// What an authenticate hook sees.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The id that the session will have, if the client is let in, and does not resume
    /// another.
    pub session: SessionId,
    /// The client's address: what a trusted proxy says, where one is in between. The port is
    /// 0 if it did not tell; a peer on a Unix-domain socket has 127.0.0.1.
    pub peer: SocketAddr,
    /// What the connection runs over.
    pub network: Network,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The WebSocket upgrade request: path, query, headers.
    pub upgrade: Option<Arc<UpgradeRequest>>,
    /// The payload of the extended protocol's `$hello`.
    pub hello: Option<Bytes>,
    /// The client's certificate chain, DER, its own first; see
    /// [`peer_certificate`](Self::peer_certificate). Empty for a client that showed none.
    pub certificates: Vec<Bytes>,
}

impl fmt::Debug for Credentials {
    /// What the client shows to be let in is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("session", &self.session)
            .field("peer", &self.peer)
            .field("network", &self.network)
            .field("listener", &self.listener)
            .field("upgrade", &self.upgrade)
            .field("hello_bytes", &self.hello.as_ref().map(Bytes::len))
            .field("certificates", &self.certificates.len())
            .finish()
    }
}

/// Who a client is, as an authenticate hook found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The session is bound to this user from the start; without one it is a guest.
    pub user: Option<UserId>,
    /// Settings to begin with; they win over stored ones.
    pub settings: Settings,
}

impl Identity {
    /// A guest without settings.
    pub fn guest() -> Self {
        Self::default()
    }

    /// A user.
    pub fn user(user: UserId) -> Self {
        Self {
            user: Some(user),
            settings: Settings::new(),
        }
    }
}

/// A hook's no, with a text for the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("refused: {0}")]
pub struct Refused(pub String);

impl Refused {
    /// A no with its reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        CallError::new(ErrorCode::REFUSED, refused.0)
    }
}

/// What a receive or route hook decides about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// Goes on, as it is or rewritten.
    Pass(Packet),
    /// The hook has handled it: an answer to the client under this topic.
    Answer(Packet),
    /// The hook has handled it: nothing more happens.
    Handled,
}

/// Runs a hook to its end; a panic becomes `None`, and is counted and logged.
pub(crate) async fn guarded<T>(
    what: &'static str,
    gate: &GateInner,
    call: impl FnOnce() -> BoxFuture<'static, T>,
) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(future) => {
            let mut future = AssertUnwindSafe(future).catch_unwind();
            poll_fn(|cx| poll_watched("hook", what, || future.poll_unpin(cx))).await
        }
        Err(panic) => Err(panic),
    }
    .map_err(|panic| report_panic(what, gate, panic.as_ref()))
    .ok()
}

/// Runs a synchronous hook; a panic becomes `None`, and is counted and logged.
pub(crate) fn guarded_now<T>(
    what: &'static str,
    gate: &GateInner,
    call: impl FnOnce() -> T,
) -> Option<T> {
    poll_watched("hook", what, || catch_unwind(AssertUnwindSafe(call)))
        .map_err(|panic| report_panic(what, gate, panic.as_ref()))
        .ok()
}

fn report_panic(what: &'static str, gate: &GateInner, panic: &(dyn Any + Send)) {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)");
    gate.counters().hook_panics.add(1);
    tracing::error!(hook = what, panic = ?text, "a hook panicked");
}
