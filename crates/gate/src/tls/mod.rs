//! TLS: which certificates a listener shows, which clients it lets in, and how both
//! change while it runs.
//!
//! - This file: what can be asked for, and what can be wrong with it.
//! - [`load`]: from files to what a handshake needs, with every check.
//! - [`chain`]: what a certificate chain must be.
//! - [`choose`]: the certificate for a client, by its name for us and its signatures.
//! - [`served`]: what a listener serves now; handshakes.
//! - [`reload`]: new files in place of old ones, on demand and when they change.
//! - [`peer`]: who a client's certificate says it is.

use std::path::{Path, PathBuf};

use thiserror::Error;

mod chain;
mod choose;
mod load;
pub(crate) mod peer;
pub(crate) mod reload;
pub(crate) mod served;

/// Certificates, keys, and whether clients need a certificate of their own. TLS 1.2 and
/// 1.3, with suites that authenticate what they encrypt and have forward secrecy.
///
/// ```
/// use tidegate::{ClientAuth, Tcp, Tls};
///
/// let tls = Tls::new("example.com.pem", "example.com.key")
///     .certificate("example.org.pem", "example.org.key")
///     .client_auth(ClientAuth::Optional { ca: "devices.pem".into() });
/// let listener = Tcp::bind("0.0.0.0:3653").tls_with(tls);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pairs: Vec<Pair>,
    client_auth: ClientAuth,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

/// Whether clients show a certificate. Those that are shown must come from `ca`, a PEM
/// file with one or more certificates of authorities; which client it is, an
/// authenticate hook reads from [`Credentials`](crate::Credentials).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Clients are not asked.
    #[default]
    Off,
    /// Clients may come without one. A wrong one fails the handshake.
    Optional {
        /// Who may sign clients' certificates.
        ca: PathBuf,
    },
    /// Without one the handshake fails.
    Required {
        /// Who may sign clients' certificates.
        ca: PathBuf,
    },
}

impl Tls {
    /// A certificate chain (the server's own certificate first, then each issuer) and
    /// its private key: RSA, ECDSA on P-256 or P-384, or Ed25519, as PKCS#8, PKCS#1 or
    /// SEC1, not encrypted. PEM files.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            pairs: Vec::new(),
            client_auth: ClientAuth::Off,
        }
        .certificate(cert, key)
    }

    /// One more certificate, for clients that ask (by SNI) for a DNS name in its
    /// subjectAltName. An exact name goes before a wildcard; a wildcard stands for one
    /// label. Several may have the same name: of those whose signatures the client
    /// knows, ECDSA and Ed25519 go before RSA, then the earlier before the later.
    ///
    /// Clients that ask for no name, or for one that nothing has, get the first.
    pub fn certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let (cert, key) = (cert.into(), key.into());
        self.pairs.push(Pair { cert, key });
        self
    }

    /// Whether clients show a certificate; by default they are not asked.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }
}

impl ClientAuth {
    fn ca(&self) -> Option<&Path> {
        match self {
            Self::Off => None,
            Self::Optional { ca } | Self::Required { ca } => Some(ca),
        }
    }
}

/// TLS that cannot be had: the gate does not start, or a reload keeps what was there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not PEM of the wanted kind.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// Certificate, private key or client CA.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate is not valid at this time.
    #[error("certificate {}: {why}", path.display())]
    Validity {
        /// Which file.
        path: PathBuf,
        /// Expired, or not valid yet; and which one, where it is not the first.
        why: String,
    },
    /// The certificates of a file are not a chain.
    #[error("certificate {}: {why}", path.display())]
    Chain {
        /// Which file.
        path: PathBuf,
        /// Which one does not follow from which.
        why: String,
    },
    /// Certificate and key do not fit, or are of no use.
    #[error("certificate {} with key {}: {why}", cert.display(), key.display())]
    Unusable {
        /// Which certificate.
        cert: PathBuf,
        /// Which key.
        key: PathBuf,
        /// Why.
        why: String,
    },
}
