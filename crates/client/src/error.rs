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
    /// The gate or the service did not serve the request, and says why. Only where the
    /// listener has an error topic and [`Builder::error_topic`](crate::Builder::error_topic)
    /// names it.
    #[error(transparent)]
    NotServed(#[from] PacketError),
    /// The connection has ended. Whether a request in flight was served is not known.
    #[error("{0}")]
    Closed(Closed),
}

/// What failed, as a closed set to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address is not a gate's.
    InvalidUrl,
    /// An option cannot be used: header, certificates, server name.
    InvalidOption,
    /// The host was not found or refused the connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The WebSocket handshake failed.
    Handshake,
    /// Connecting, or an answer, took too long.
    Timeout,
    /// Topic or method are malformed.
    InvalidTopic,
    /// The packet does not fit a frame.
    TooLarge,
    /// The gate or the service did not serve the request.
    NotServed,
    /// The connection has ended.
    Closed,
}

impl Error {
    /// What failed, as a closed set to decide by.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidUrl(_) => ErrorKind::InvalidUrl,
            Self::InvalidHeader(_)
            | Self::InvalidCa
            | Self::InvalidClientCertificate
            | Self::InvalidServerName(_) => ErrorKind::InvalidOption,
            Self::Connect(_) => ErrorKind::Connect,
            Self::Tls(_) => ErrorKind::Tls,
            Self::UpgradeRefused(_) | Self::Upgrade(_) => ErrorKind::Handshake,
            Self::ConnectTimeout(_) | Self::RequestTimeout(_) => ErrorKind::Timeout,
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
pub struct PacketError {
    /// The number: below 1000 the gate's, from 1000 the service's.
    pub code: ErrorCode,
    /// In words, not escaped.
    pub message: String,
}

impl PacketError {
    /// Reads the body of a packet of the error topic: of which packet, and what. `None`
    /// for any other body.
    pub fn read(body: &[u8]) -> Option<(Topic, Self)> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        let topic = Topic::new(body.get("topic")?.as_str()?).ok()?;
        let code = body.get("code")?.as_u64()?.try_into().ok()?;
        let error = Self {
            code: ErrorCode(code),
            message: body.get("message")?.as_str()?.to_owned(),
        };
        Some((topic, error))
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Who or what ended it.
    pub cause: Cause,
    /// The number in the gate's WebSocket close frame. None on TCP, where there is no
    /// place for one.
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
    /// The connection broke.
    Lost,
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
