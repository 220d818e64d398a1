//! Certificates for servers and their clients.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};

use crate::TempDir;

/// An authority, and what it signed: a certificate of `localhost` and `127.0.0.1` for a server,
/// and one for a client. All PEM files.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes new ones.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        let dir = TempDir::new();
        let mut params = params("Test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        dir.write("ca.pem", ca.pem());
        for (name, hosts) in [
            ("server", &["localhost", "127.0.0.1"][..]),
            ("client", &["client.test"][..]),
        ] {
            let key = KeyPair::generate().unwrap();
            let signed = self::params(name, hosts).signed_by(&key, &ca).unwrap();
            dir.write(&format!("{name}.pem"), signed.pem());
            dir.write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { dir }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.dir.join("server.pem")
    }

    /// The server's key.
    pub fn server_key(&self) -> PathBuf {
        self.dir.join("server.key")
    }

    /// The client's certificate.
    pub fn client(&self) -> PathBuf {
        self.dir.join("client.pem")
    }

    /// The client's key.
    pub fn client_key(&self) -> PathBuf {
        self.dir.join("client.key")
    }

    /// The directory they are in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}
