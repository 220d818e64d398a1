//! From a socket to a client's byte stream: TLS and the WebSocket upgrade.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_protocol::ws::upgrade::{self, UpgradeError, UpgradeRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Setup;
use crate::transport::Transport;

/// What came of an upgrade: the request and the bytes behind it, or a refusal. Without
/// a request on a listener that is not for WebSocket.
pub(super) type Upgraded = Result<(Option<Arc<UpgradeRequest>>, Vec<u8>), UpgradeError>;

impl Setup {
    pub(super) async fn tls(&self, io: Transport) -> io::Result<Transport> {
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
    pub(super) async fn upgrade(&self, io: &mut Transport) -> io::Result<Upgraded> {
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
}

/// The client's certificate chain, DER.
pub(super) fn certificates(io: &Transport) -> Vec<Bytes> {
    let chain = match io {
        Transport::Tls(stream) => stream.get_ref().1.peer_certificates(),
        Transport::Tcp(_) | Transport::Other(_) => None,
    };
    let chain = chain.unwrap_or_default().iter();
    chain.map(|cert| Bytes::copy_from_slice(cert)).collect()
}
