//! Whom a `tls://` or `wss://` connection trusts, and who it says it is.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::error::Error;

/// Options of a TLS connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsOptions {
    /// PEM certificates trusted beside the public roots.
    pub(crate) ca_pem: Vec<Vec<u8>>,
    /// Whether the public roots are left out.
    pub(crate) only_given_ca: bool,
    /// What the certificate must be for, in place of the address's host.
    pub(crate) server_name: Option<String>,
    /// What this client shows to a gate that asks who it is.
    pub(crate) identity: Option<Identity>,
}

/// A client certificate with its key, both PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl TlsOptions {
    /// How to open TLS, and to whom.
    pub(crate) fn connector(
        &self,
        host: &str,
    ) -> Result<(TlsConnector, ServerName<'static>), Error> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = match ServerName::try_from(name.clone()) {
            Ok(name) => name,
            Err(_) => return Err(Error::InvalidServerName(name)),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Tls(std::io::Error::other(e)))?
            .with_root_certificates(self.roots()?);
        let config = match &self.identity {
            Some(identity) => {
                let (chain, key) = identity.read()?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| Error::InvalidClientCertificate)?
            }
            None => config.with_no_client_auth(),
        };
        Ok((TlsConnector::from(Arc::new(config)), name))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if !self.only_given_ca {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for pem in &self.ca_pem {
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| Error::InvalidCa)?;
                roots.add(certificate).map_err(|_| Error::InvalidCa)?;
            }
            // A file without a certificate is a mistake, not an empty wish.
            if roots.len() == before {
                return Err(Error::InvalidCa);
            }
        }
        if roots.is_empty() {
            return Err(Error::InvalidCa);
        }
        Ok(roots)
    }
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain).collect();
        let chain = chain.map_err(|_| Error::InvalidClientCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| Error::InvalidClientCertificate)?;
        if chain.is_empty() {
            return Err(Error::InvalidClientCertificate);
        }
        Ok((chain, key))
    }
}
