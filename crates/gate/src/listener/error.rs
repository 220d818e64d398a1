//! Why a listener cannot be opened.

use std::io;

use thiserror::Error;
use tidegate_protocol::TopicError;
use tidegate_protocol::ws::policy::PolicyError;

use crate::limits::LimitError;
use crate::tls::TlsError;

/// A listener that cannot be opened: the gate does not start.
#[derive(Debug, Error)]
#[error("listener {address}: {why}")]
pub struct ListenError {
    /// The address as configured.
    pub address: String,
    /// What is wrong.
    pub why: ListenErrorKind,
}

/// What is wrong with a listener.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ListenErrorKind {
    /// The address cannot be resolved or bound.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The interface of an IPv6 scope does not exist.
    #[error("there is no interface {0:?}")]
    NoInterface(String),
    /// The path of a Unix-domain listener does not begin with `/`.
    #[error("the path behind unix: must begin with /")]
    RelativePath,
    /// A process listens on this Unix-domain socket.
    #[error("in use: a process listens there")]
    InUse,
    /// There is a file, and it is not a socket.
    #[error("there is a file that is not a socket")]
    NotASocket,
    /// An option for another kind of address.
    #[error("{option} is for {kind} only")]
    WrongKind {
        /// Which option.
        option: &'static str,
        /// What it is for.
        kind: &'static str,
    },
    /// A time or number that the operating system does not take.
    #[error("keep_alive: idle and interval are 1 s to 32767 s, retries 1 to 127")]
    KeepAlive,
    /// Proxies are to be believed, but none is trusted: every client would be refused or
    /// taken for another.
    #[error("{0} needs trusted_proxies")]
    NobodyTrusted(&'static str),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// WebSocket path, origin or sub-protocol.
    #[error(transparent)]
    WebSocket(#[from] PolicyError),
    /// The error topic is not a topic.
    #[error("v1_error_topic: {0}")]
    ErrorTopic(#[from] TopicError),
    /// The error topic begins with `$`: those are never sent to version 1 clients.
    #[error("v1_error_topic begins with $, which is reserved")]
    ReservedErrorTopic,
}
