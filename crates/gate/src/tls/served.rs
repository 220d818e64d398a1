//! What a listener serves now, and its handshakes.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::HandshakeKind;
use rustls::pki_types::UnixTime;
use tokio_rustls::TlsAcceptor;

use super::load::{Digest, Files, Loaded, load};
use super::reload::TlsExpiry;
use super::{Tls, TlsError};
use crate::transport::{Socket, Transport};

/// The TLS of one listener.
pub(crate) struct Served {
    listener: Arc<str>,
    tls: Tls,
    web: bool,
    current: ArcSwap<Loaded>,
    /// Held by who reloads: nothing older may come after what is newer.
    turn: Mutex<()>,
}

impl Served {
    /// Loads what `listener` serves; `web` for those whose clients speak HTTP first.
    pub(crate) fn load(listener: Arc<str>, tls: Tls, web: bool) -> Result<Arc<Self>, TlsError> {
        let loaded = load(&tls, web, None)?;
        Ok(Arc::new(Self {
            listener,
            tls,
            web,
            current: ArcSwap::from_pointee(loaded),
            turn: Mutex::new(()),
        }))
    }

    /// TLS over this socket. What failed comes with what the client may still be reading.
    pub(crate) async fn accept(&self, socket: Socket) -> Result<Transport, (io::Error, Transport)> {
        // Old or new from its first byte to its last.
        let current = self.current.load_full();
        let acceptor = TlsAcceptor::from(current.config.clone());
        let io = Transport::tls(socket, &acceptor).await?;
        match current.check_resumed(&io) {
            Ok(()) => Ok(io),
            Err(error) => Err((io::Error::new(io::ErrorKind::InvalidData, error), io)),
        }
    }

    /// Loads the files again. Answers whether anything changed; when they cannot be
    /// used, what was served is served on.
    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let _turn = self.turn.lock();
        let before = self.current.load_full();
        let loaded = load(&self.tls, self.web, Some(&before))?;
        let is_new = loaded.digest != before.digest;
        if is_new {
            self.current.store(Arc::new(loaded));
        }
        Ok(is_new)
    }

    /// The digest of the files as they are, where that is not what is served.
    pub(super) fn changed_files(&self) -> Result<Option<Digest>, TlsError> {
        let digest = Files::read(&self.tls)?.digest();
        Ok(Some(digest).filter(|digest| *digest != self.current.load().digest))
    }

    pub(super) fn listener(&self) -> &Arc<str> {
        &self.listener
    }

    pub(super) fn expiry(&self) -> TlsExpiry {
        let (expires, certificate) = self.current.load().expires.clone();
        TlsExpiry {
            listener: self.listener.clone(),
            expires,
            certificate,
        }
    }
}

impl Loaded {
    /// A ticket brings back the client's certificate without its being checked again, and
    /// each resumption gives a new ticket: one that has expired would never be refused.
    fn check_resumed(&self, io: &Transport) -> Result<(), rustls::Error> {
        let (Some(verifier), Transport::Tls(stream)) = (&self.verifier, io) else {
            return Ok(());
        };
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        match (session.handshake_kind(), chain.split_first()) {
            (Some(HandshakeKind::Resumed), Some((own, rest))) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let now = UnixTime::since_unix_epoch(now.unwrap_or_default());
                verifier.verify_client_cert(own, rest, now).map(|_| ())
            }
            (Some(HandshakeKind::Resumed), None) if verifier.client_auth_mandatory() => {
                Err(rustls::Error::NoCertificatesPresented)
            }
            _ => Ok(()),
        }
    }
}
