//! Certificates and keys for tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate::Tls;

/// A directory of a test's own, gone with it.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-certificates-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes certificate and key as `name.pem` and `name.key`.
    pub(crate) fn pair(&self, name: &str, pair: &Pair) -> Tls {
        let (cert, key) = self.pair_paths(name, pair);
        Tls::new(cert, key)
    }

    pub(crate) fn pair_paths(&self, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        let cert = self.write(&format!("{name}.pem"), &pair.chain);
        (cert, self.write(&format!("{name}.key"), &pair.key))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // In the system's directory for what may be lost.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate chain and its key; PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        certificates.map(Result::unwrap).collect()
    }

    /// What a client must trust for a certificate that signs itself, and what tells it
    /// from others.
    pub(crate) fn leaf(&self) -> CertificateDer<'static> {
        self.certificates().remove(0)
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Parameters of a certificate for these names, valid in 2020 to 2090.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

pub(crate) fn named(mut params: CertificateParams, common_name: &str) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

/// Lets it expire so long after now.
pub(crate) fn expiring_in(mut params: CertificateParams, time: Duration) -> CertificateParams {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    params.not_after = date_time_ymd(1970, 1, 1) + now.unwrap() + time;
    params
}

/// A certificate that signs itself.
pub(crate) fn own(params: CertificateParams) -> Pair {
    own_with(params, KeyPair::generate().unwrap())
}

pub(crate) fn own_with(params: CertificateParams, key: KeyPair) -> Pair {
    Pair {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

pub(crate) fn localhost() -> Pair {
    own(params(&["localhost"]))
}

pub(crate) fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

/// An authority.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn params(name: &str) -> CertificateParams {
        let mut params = named(params(&[]), name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(Self::params(name), key).unwrap())
    }

    pub(crate) fn intermediate(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    pub(crate) fn issue(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert: Certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            chain: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Runs `openssl` and answers what it printed.
pub(crate) fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("openssl: {e}; scripts/install-test-tools installs it"));
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An RSA key; PKCS#8.
pub(crate) fn rsa(bits: u32) -> String {
    let bits = format!("rsa_keygen_bits:{bits}");
    openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", &bits])
}

/// The key in the form of its kind: PKCS#1 or SEC1.
pub(crate) fn traditional(key: &Path) -> String {
    openssl(&["pkey", "-traditional", "-in", key.to_str().unwrap()])
}
