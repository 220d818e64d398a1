//! What a client is told whose set-up fails.

use std::io;

use tidegate_protocol::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Ready, Setup};
use crate::transport::Transport;

impl Setup {
    /// Tells the client why, as far as its connection can carry that.
    pub(super) async fn refuse(&self, io: Transport, reason: CloseReason) -> Option<Ready> {
        let mut bye = Vec::new();
        if self.at.endpoint.ws.is_some() {
            tidegate_protocol::ws::encode_close(&mut bye, reason.code(), reason.text());
        }
        self.bye(io, bye).await
    }

    /// Writes a last word and waits for the client to close: closing on unread bytes
    /// would take the word back.
    pub(super) async fn bye(&self, mut io: Transport, word: Vec<u8>) -> Option<Ready> {
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

    pub(super) fn failed(
        &self,
        reason: CloseReason,
        error: impl std::fmt::Display,
    ) -> Option<Ready> {
        self.at.shard.counters.closed.add(reason);
        if reason == CloseReason::Handshake {
            self.at.shard.counters.handshake_failures.add(1);
        }
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
