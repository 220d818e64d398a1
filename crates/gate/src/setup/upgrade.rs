//! From a socket to a client's byte stream: TLS and the WebSocket upgrade.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_protocol::ws::upgrade::{self, UpgradeRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Setup;
use super::refusal::Failed;
use crate::transport::Transport;

/// The request, on a listener for WebSocket, and the bytes that came behind it.
pub(super) type Upgraded = (Option<Arc<UpgradeRequest>>, Vec<u8>);

impl Setup {
    pub(super) async fn tls(&self, io: Transport) -> Result<Transport, (io::Error, Transport)> {
        match (&self.at.endpoint.tls, io) {
            (Some(tls), Transport::Plain(socket)) => Box::pin(tls.accept(socket)).await,
            (Some(_), io) => {
                let why = "TLS needs a socket";
                Err((io::Error::new(io::ErrorKind::Unsupported, why), io))
            }
            (None, io) => Ok(io),
        }
    }

    /// Reads the upgrade request on a WebSocket listener, and answers one that is let in.
    /// Whose it is, and whether there is a place for that client, is clear before the answer.
    pub(super) async fn upgrade(&mut self, io: &mut Transport) -> Result<Upgraded, Failed> {
        let at = self.at.clone();
        let Some(ws) = &at.endpoint.ws else {
            return Ok((None, Vec::new()));
        };
        let mut head = Vec::with_capacity(1024);
        let (request, used) = loop {
            match upgrade::parse(&head, &ws.upgrade) {
                Ok(Some(parsed)) => break parsed,
                Ok(None) => {
                    if io.read_buf(&mut head).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
                Err(error) => return Err(Failed::Upgrade(error)),
            }
        };
        self.forwarded(&request)?;
        let accept = ws.policy.check(&request).map_err(Failed::Upgrade)?;
        io.write_all(&accept.response()).await?;
        io.flush().await?;
        Ok((Some(Arc::new(request)), head.split_off(used)))
    }
}

/// The client's certificate chain, DER.
pub(super) fn certificates(io: &Transport) -> Vec<Bytes> {
    let chain = match io {
        Transport::Tls(stream) => stream.get_ref().1.peer_certificates(),
        Transport::Plain(_) | Transport::Other(_) => None,
    };
    let chain = chain.unwrap_or_default().iter();
    chain.map(|cert| Bytes::copy_from_slice(cert)).collect()
}
