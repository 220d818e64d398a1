//! TLS to the servers of NATS.

use std::path::{Path, PathBuf};

use async_nats::rustls::pki_types::pem::{self, PemObject};
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// TLS to the servers of NATS. The files are read for each connection, so that they can be
/// replaced while the process runs.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Connect to no server without TLS. With a server that demands it, and with a
    /// `tls://` address, TLS is used in any case.
    pub required: bool,
    /// Begin with TLS, before the server has said anything (`handshake_first`).
    pub first: bool,
    /// The certificates of who signs the servers' (PEM); the system's where none is given.
    pub ca: Option<PathBuf>,
    /// The certificates that the process shows, its own first (PEM).
    pub cert: Option<PathBuf>,
    /// The key of the first of them (PEM).
    pub key: Option<PathBuf>,
}

/// Certificates or a key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// A certificate without a key, or a key without a certificate.
    #[error("TLS to NATS needs both cert and key, or neither")]
    Half,
    /// The file cannot be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// There is nothing of the kind in the file.
    #[error("{path} holds no {what} (PEM)")]
    Nothing {
        /// The file.
        path: String,
        /// What was looked for.
        what: &'static str,
    },
}

impl TlsOptions {
    pub(super) fn check(&self) -> Result<(), TlsFileError> {
        match self.cert.is_some() == self.key.is_some() {
            true => Ok(()),
            false => Err(TlsFileError::Half),
        }
    }

    /// Looks into the files, so that the start fails where they are wrong: the client
    /// would take an empty one for a list of no certificates. Reads files: may block.
    pub(crate) fn check_files(&self) -> Result<(), TlsFileError> {
        for path in [&self.ca, &self.cert].into_iter().flatten() {
            certificates(path)?;
        }
        match &self.key {
            Some(path) => key(path),
            None => Ok(()),
        }
    }
}

fn certificates(path: &Path) -> Result<(), TlsFileError> {
    let mut count = 0;
    let found = CertificateDer::pem_file_iter(path).map_err(|e| failed(path, "certificate", &e))?;
    for certificate in found {
        certificate.map_err(|e| failed(path, "certificate", &e))?;
        count += 1;
    }
    match count {
        0 => Err(failed(path, "certificate", &pem::Error::NoItemsFound)),
        _ => Ok(()),
    }
}

fn key(path: &Path) -> Result<(), TlsFileError> {
    PrivateKeyDer::from_pem_file(path)
        .map(drop)
        .map_err(|e| failed(path, "private key", &e))
}

fn failed(path: &Path, what: &'static str, error: &pem::Error) -> TlsFileError {
    let path = path.display().to_string();
    match error {
        pem::Error::NoItemsFound => TlsFileError::Nothing { path, what },
        other => TlsFileError::File {
            path,
            why: other.to_string(),
        },
    }
}
