//! Files of a test, and certificates in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;

/// A directory of a test's own, gone with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The address of a Unix-domain listener here.
    pub fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A new certificate for `localhost` that signs itself, and its key, as `name.pem` and
    /// `name.key`.
    pub fn localhost(&self, name: &str) -> (PathBuf, PathBuf, CertificateDer<'static>) {
        let names = vec!["localhost".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        let cert = self.write(&format!("{name}.pem"), &pair.cert.pem());
        let key = pair.signing_key.serialize_pem();
        let key = self.write(&format!("{name}.key"), &key);
        (cert, key, pair.cert.der().clone())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // In the system's directory for what may be lost.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A TLS client that trusts this certificate only.
pub fn tls_client(trusted: &CertificateDer<'static>) -> TlsConnector {
    tls_client_of(trusted, rustls::DEFAULT_VERSIONS)
}

/// As above, of these versions of TLS.
pub fn tls_client_of(
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
