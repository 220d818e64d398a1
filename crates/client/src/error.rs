//! What can fail, and why a connection ended.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tidegate_protocol::{CloseReason, ErrorCode, RouteError, TooLarge, Topic, TopicError};

use crate::url::UrlError;

/// What failed. Match on [`kind`](Self::kind), or on the variant for details.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is not a gate's.
    #[error("invalid address: {0}")]
    InvalidUrl(#[from] UrlError),
    /// A name or value cannot stand in an HTTP header, or belongs to the handshake.
    #[error("the header {0:?} cannot be sent")]
    InvalidHeader(String),
    /// The extra trust anchors are not PEM certificates, or there are none.
    #[error("the trusted certificates cannot be used")]
    InvalidCa,
    /// The client certificate and its key are not PEM, or do not belong together.
    #[error("the client certificate and its key cannot be used")]
    InvalidClientCertificate,
    /// Neither a DNS name nor an IP address.
    #[error("{0:?} is not a server name")]
    InvalidServerName(String),
    /// The host was not found or refused the connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The TLS handshake failed: most often the certificate is not trusted.
    #[error("TLS failed: {0}")]
    Tls(#[source] io::Error),
    /// The gate answered the WebSocket request with another HTTP status than 101.
    #[error("WebSocket refused with HTTP status {0}")]
    UpgradeRefused(u16),
    /// The WebSocket handshake failed otherwise.
    #[error("the WebSocket handshake failed: {0}")]
    Upgrade(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There was no usable connection within [`Builder::connect_timeout`](crate::Builder::connect_timeout).
    #[error("no connection after {0:?}")]
    ConnectTimeout(Duration),
    /// The gate did not answer `$hello` in time: most likely it speaks version 1 only, for
    /// which there is [`Protocol::V1`](crate::Protocol::V1).
    #[error("the gate did not answer $hello within {0:?}; it may speak version 1 only")]
    NoWelcome(Duration),
    /// The gate answered `$hello` with something else: it speaks version 1 only, or the
    /// address is not a gate's.
    #[error("the gate does not speak the extended protocol")]
    NotExtended,
    /// What the client was to show to be let in could not be had.
    #[error("no authentication: {0}")]
    Auth(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Agent or device are too long, 128 bytes at most, or have control characters.
    #[error("{0} is too long, or has control characters")]
    InvalidName(&'static str),
    /// [`Builder::start`](crate::Builder::start) is not for version 1.
    #[error("a client of version 1 cannot connect by itself")]
    ExtendedOnly,
    /// The topic is not one. Nothing was sent.
    #[error("invalid topic: {0}")]
    InvalidTopic(#[from] TopicError),
    /// The method of a request is not `service/method`. Nothing was sent.
    #[error("not a request method: {0}")]
    InvalidMethod(#[from] RouteError),
    /// The packet does not fit a frame. Nothing was sent.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// No answer came in time. Whether the request was served is not known; an answer
    /// that comes later is discarded and counted.
    #[error("no answer after {0:?}")]
    RequestTimeout(Duration),
    /// There was no connection to send the request on in time: it was taken back, and never
    /// sent.
    #[error("not sent within {0:?}")]
    NotSent(Duration),
    /// So much waits for a connection already. Nothing was queued.
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    /// The request was sent in a session that does not go on: whether it was served is not
    /// known.
    #[error("the session was lost before the answer came; the outcome is unknown")]
    OutcomeUnknown,
    /// The gate or the service did not serve the request, and says why. With version 1 only
    /// where the listener has an error topic and
    /// [`Builder::error_topic`](crate::Builder::error_topic) names it.
    #[error(transparent)]
    NotServed(#[from] PacketError),
    /// The client has ended. Whether a request in flight was served is not known.
    #[error("{0}")]
    Closed(Closed),
}

/// What failed, as a closed set to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address is not a gate's.
    InvalidUrl,
    /// An option cannot be used: header, certificates, server name, agent, device.
    InvalidOption,
    /// The host was not found or refused the connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The WebSocket handshake failed, or `$hello` was not answered with `$welcome`.
    Handshake,
    /// What was to be shown to be let in could not be had.
    Auth,
    /// Connecting, or an answer, took too long.
    Timeout,
    /// Topic or method are malformed.
    InvalidTopic,
    /// The packet does not fit a frame.
    TooLarge,
    /// Too much waits for a connection.
    QueueFull,
    /// The request may have been served, or not.
    OutcomeUnknown,
    /// The gate or the service did not serve the request.
    NotServed,
    /// The client has ended.
    Closed,
}

/// No room for another packet while there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{packets} packets of {bytes} bytes wait for a connection already")]
pub struct QueueFull {
    /// Packets that wait.
    pub packets: usize,
    /// Bytes of topic and body in them.
    pub bytes: usize,
}

impl Error {
    /// What failed, as a closed set to decide by.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidUrl(_) => ErrorKind::InvalidUrl,
            Self::InvalidHeader(_)
            | Self::InvalidCa
            | Self::InvalidClientCertificate
            | Self::InvalidServerName(_)
            | Self::InvalidName(_)
            | Self::ExtendedOnly => ErrorKind::InvalidOption,
            Self::Connect(_) => ErrorKind::Connect,
            Self::Tls(_) => ErrorKind::Tls,
            Self::UpgradeRefused(_) | Self::Upgrade(_) | Self::NoWelcome(_) | Self::NotExtended => {
                ErrorKind::Handshake
            }
            Self::Auth(_) => ErrorKind::Auth,
            Self::ConnectTimeout(_) | Self::RequestTimeout(_) | Self::NotSent(_) => {
                ErrorKind::Timeout
            }
            Self::QueueFull(_) => ErrorKind::QueueFull,
            Self::OutcomeUnknown => ErrorKind::OutcomeUnknown,
            Self::InvalidTopic(_) | Self::InvalidMethod(_) => ErrorKind::InvalidTopic,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::NotServed(_) => ErrorKind::NotServed,
            Self::Closed(_) => ErrorKind::Closed,
        }
    }
}

/// Why a packet was not served, as the gate tells it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} ({})", code.0)]
#[non_exhaustive]
pub struct PacketError {
    /// The number: below 1000 the gate's, from 1000 the service's.
    pub code: ErrorCode,
    /// In words, not escaped.
    pub message: String,
    /// Which packet of the session it was, the client's first being 1. Version 1 does not
    /// count.
    pub packet: Option<u64>,
}

impl PacketError {
    pub(crate) fn new(code: u16, message: impl Into<String>, packet: Option<u64>) -> Self {
        Self {
            code: ErrorCode(code),
            message: message.into(),
            packet,
        }
    }

    /// Reads the body of a packet of the error topic: of which packet, and what. `None`
    /// for any other body.
    pub fn read(body: &[u8]) -> Option<(Topic, Self)> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        let topic = Topic::new(body.get("topic")?.as_str()?).ok()?;
        let code = body.get("code")?.as_u64()?.try_into().ok()?;
        Some((topic, Self::new(code, body.get("message")?.as_str()?, None)))
    }
}

/// How a connection, or a client, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Who or what ended it.
    pub cause: Cause,
    /// The gate's number for it: that of `$close`, or of the WebSocket close frame. None on
    /// TCP with version 1, where there is no place for one.
    pub code: Option<u16>,
    /// In words: the gate's own where it said some (at most 123 bytes, not escaped), else
    /// the fault. May be empty.
    pub text: String,
    /// Packets that were queued and not known to have been handed to the operating
    /// system whole. Some of them may have been.
    pub unsent: u64,
}

/// Who or what ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// This client: [`Client::close`](crate::Client::close), or the last handle was dropped.
    Client,
    /// The gate closed it in order.
    Gate,
    /// The connection broke, or the gate was not heard for too long.
    Lost,
    /// No connection could be made.
    Unreachable,
    /// The gate sent what the protocol does not allow.
    Protocol,
}

impl Closed {
    pub(crate) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self {
            cause,
            code: None,
            text: text.into(),
            unsent: 0,
        }
    }

    pub(crate) fn by_client() -> Self {
        Self::new(Cause::Client, "")
    }

    pub(crate) fn lost(error: &io::Error) -> Self {
        Self::new(Cause::Lost, error.to_string())
    }

    /// An attempt to connect that failed.
    pub(crate) fn unreachable(error: &Error) -> Self {
        match error {
            Error::Closed(closed) => closed.clone(),
            Error::Connect(error) => Self::new(Cause::Unreachable, error.to_string()),
            error => Self::new(Cause::Unreachable, error.to_string()),
        }
    }

    /// The gate's reason, where it named a known one.
    pub fn reason(&self) -> Option<CloseReason> {
        self.code.and_then(CloseReason::from_code)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.cause {
            Cause::Client => "closed by this client",
            Cause::Gate => "closed by the gate",
            Cause::Lost => "connection lost",
            Cause::Unreachable => "cannot connect",
            Cause::Protocol => "the gate broke the protocol",
        })?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        } else if let Some(reason) = self.reason() {
            write!(f, ": {}", reason.text())?;
        }
        if let Some(code) = self.code {
            write!(f, " ({code})")?;
        }
        Ok(())
    }
}
