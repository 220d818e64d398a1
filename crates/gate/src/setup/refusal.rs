//! What a client is told whose set-up fails.

use std::io;

use tidegate_protocol::CloseReason;
use tidegate_protocol::proxy::ProxyError;
use tidegate_protocol::ws::upgrade::UpgradeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Setup;
use crate::accept::turned_away;
use crate::busy;
use crate::conn::Connection;
use crate::conn::extended::last_word;
use crate::conn::wire::Wire;
use crate::stats::{Handshake, TurnedAway};
use crate::transport::Transport;

/// Why set-up ends before the client is asked who it is.
pub(super) enum Failed {
    /// Its time is over.
    Late,
    /// The client or its proxy left without having said anything, as one does that only looks
    /// whether somebody listens.
    Left,
    /// The connection.
    Broken(io::Error),
    /// TLS; of that the client has been told.
    Tls(io::Error, Transport),
    /// A trusted proxy did not say whose connection it brings.
    Proxy(ProxyError),
    /// There is no place for one more of this client's connections.
    Busy,
    Upgrade(UpgradeError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<(io::Error, Transport)> for Failed {
    fn from((error, io): (io::Error, Transport)) -> Self {
        Self::Tls(error, io)
    }
}

impl Setup {
    /// Counts and logs why, and tells the client where its transport, as far as it has come,
    /// can carry that.
    pub(super) async fn give_up(&self, io: Option<Transport>, why: Failed) -> Option<Connection> {
        match why {
            Failed::Late => self.failed(CloseReason::SetupTimeout, "deadline has elapsed"),
            Failed::Broken(error) => self.no_handshake(Handshake::Lost, error),
            Failed::Tls(error, io) => {
                self.no_handshake(Handshake::Tls, error);
                self.bye(io, Vec::new()).await
            }
            Failed::Proxy(error) => self.no_handshake(
                Handshake::Proxy,
                format_args!("{error}, from a proxy that must send one"),
            ),
            Failed::Left => {
                self.at.shard.counters.closed.add(CloseReason::ClientLeft);
                None
            }
            Failed::Busy => {
                turned_away(&self.gate, &self.at, self.client, TurnedAway::Address);
                let endpoint = &self.at.endpoint;
                match io {
                    Some(io) if endpoint.ws.is_some() && self.is_readable(&io) => {
                        self.bye(io, busy::response()).await
                    }
                    _ => None,
                }
            }
            Failed::Upgrade(error) => {
                self.no_handshake(Handshake::Upgrade, error);
                match io {
                    Some(io) => self.bye(io, error.response()).await,
                    None => None,
                }
            }
        }
    }

    /// Whether the client would understand what is written now: not before TLS.
    fn is_readable(&self, io: &Transport) -> bool {
        self.at.endpoint.tls.is_none() || matches!(io, Transport::Tls(_))
    }

    /// Tells the client why, as far as its connection can carry that.
    pub(super) async fn refuse(&self, io: Transport, reason: CloseReason) -> Option<Connection> {
        let mut bye = Vec::new();
        if reason == CloseReason::ConnectionLost {
            // There is nobody, or another connection has taken the session over.
            return self.bye(io, bye).await;
        }
        if self.said_hello {
            let endpoint = &self.at.endpoint;
            let close = last_word(reason).packet();
            Wire::new(endpoint).encode(&*endpoint.codec, &close, &mut bye);
        }
        if self.at.endpoint.ws.is_some() {
            tidegate_protocol::ws::encode_close(&mut bye, reason.code(), reason.text());
        }
        self.bye(io, bye).await
    }

    /// Writes a last word and waits for the client to close: closing on unread bytes
    /// would take the word back.
    pub(super) async fn bye(&self, mut io: Transport, word: Vec<u8>) -> Option<Connection> {
        // In a box: else every set-up would have room for it.
        let told = Box::pin(async {
            io.write_all(&word).await?;
            io.flush().await?;
            io.shutdown().await?;
            let mut rest = [0; 1024];
            while io.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        });
        // Whether the client listens or not, it is refused.
        let _ = timeout(self.at.endpoint.limits.close_timeout, told).await;
        None
    }

    fn no_handshake(&self, which: Handshake, error: impl std::fmt::Display) -> Option<Connection> {
        self.at.shard.counters.handshakes.add(which);
        self.failed(CloseReason::Handshake, error)
    }

    pub(super) fn failed(
        &self,
        reason: CloseReason,
        error: impl std::fmt::Display,
    ) -> Option<Connection> {
        self.at.shard.counters.closed.add(reason);
        if let Some(unlogged) = self.gate.end_log.admit() {
            tracing::info!(
                ip = %self.client.address().ip(),
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
