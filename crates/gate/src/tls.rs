//! Certificates and keys, loaded before anything listens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// A certificate chain and its key, as PEM files. TLS 1.2 and up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// TLS that cannot be had: the gate does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not PEM of the wanted kind.
    #[error("{what} {path}: {why}")]
    File {
        /// Certificate or key.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate is not valid at this time.
    #[error("certificate {path}: {why}")]
    Validity {
        /// Which file.
        path: PathBuf,
        /// Expired, or not valid yet.
        why: &'static str,
    },
    /// Certificate and key do not fit, or are of no use.
    #[error("certificate {cert} with key {key}: {why}")]
    Unusable {
        /// Which certificate.
        cert: PathBuf,
        /// Which key.
        key: PathBuf,
        /// Why.
        why: String,
    },
}

impl Tls {
    /// Loads and checks certificate and key.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = self.chain()?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| file_error("private key", &self.key, e))?;
        if let Some(first) = chain.first() {
            check_validity(first, &self.cert)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |why: rustls::Error| TlsError::Unusable {
            cert: self.cert.clone(),
            key: self.key.clone(),
            why: why.to_string(),
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        Ok(Arc::new(config))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let error = |e| file_error("certificate", &self.cert, e);
        let chain = CertificateDer::pem_file_iter(&self.cert).map_err(error)?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(error)?;
        if chain.is_empty() {
            return Err(TlsError::File {
                what: "certificate",
                path: self.cert.clone(),
                why: "no certificate in it".into(),
            });
        }
        Ok(chain)
    }
}

fn file_error(what: &'static str, path: &Path, error: rustls::pki_types::pem::Error) -> TlsError {
    TlsError::File {
        what,
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn check_validity(cert: &CertificateDer<'_>, path: &Path) -> Result<(), TlsError> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).map_err(|e| TlsError::File {
        what: "certificate",
        path: path.to_owned(),
        why: e.to_string(),
    })?;
    let validity = cert.validity();
    let now = x509_parser::time::ASN1Time::now();
    let why = if now > validity.not_after {
        "it has expired"
    } else if now < validity.not_before {
        "it is not valid yet"
    } else {
        return Ok(());
    };
    Err(TlsError::Validity {
        path: path.to_owned(),
        why,
    })
}
