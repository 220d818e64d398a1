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
