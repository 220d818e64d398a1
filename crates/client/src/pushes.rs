//! Packets that answer no request.

use thiserror::Error;
use tidegate_protocol::Packet;
use tokio::sync::broadcast;

/// Reader of the packets that answer no request. Get one from
/// [`Client::pushes`](crate::Client::pushes).
#[derive(Debug)]
pub struct Pushes {
    /// None when the connection had ended before.
    pub(crate) receiver: Option<broadcast::Receiver<Packet>>,
}

/// So many packets were overwritten before this reader came for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("missed {0} packets")]
pub struct Missed(pub u64);

impl Pushes {
    /// The next packet, in the order of arrival; `None` once the connection has ended and
    /// all is read. [`Missed`] stands where packets are lacking; reading goes on with the
    /// oldest that is left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Result<Packet, Missed>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(packet) => Some(Ok(packet)),
            Err(broadcast::error::RecvError::Lagged(n)) => Some(Err(Missed(n))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next packet, if one has arrived: `None` says neither that more will come nor
    /// that none will.
    pub fn try_recv(&mut self) -> Option<Result<Packet, Missed>> {
        match self.receiver.as_mut()?.try_recv() {
            Ok(packet) => Some(Ok(packet)),
            Err(broadcast::error::TryRecvError::Lagged(n)) => Some(Err(Missed(n))),
            Err(_) => None,
        }
    }
}
