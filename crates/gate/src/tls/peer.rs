//! Who a client's certificate says it is.

use std::fmt::Write;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::load::sha256;
use crate::hooks::Credentials;

/// A client's own certificate. That it comes from an authority which the listener trusts
/// has been checked. Its texts are as the authority wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PeerCertificate {
    /// The subject's common name; `None` unless there is exactly one.
    pub common_name: Option<String>,
    /// DNS names of the subjectAltName.
    pub dns_names: Vec<String>,
    /// URIs of the subjectAltName, such as a SPIFFE id.
    pub uris: Vec<String>,
    /// E-mail addresses of the subjectAltName.
    pub emails: Vec<String>,
    /// The serial number, in lower-case hexadecimal without leading zero bytes. Unique
    /// for one issuer only.
    pub serial: String,
    /// The certificate's SHA-256, in lower-case hexadecimal.
    pub fingerprint_sha256: String,
}

impl PeerCertificate {
    /// Reads a certificate, DER. `None` if it is not one.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
        let mut peer = Self {
            common_name: common_name(&cert),
            serial: serial(&cert),
            fingerprint_sha256: hex(&sha256(der)),
            ..Self::default()
        };
        let alternative = cert.subject_alternative_name().ok()?;
        let names = alternative.map(|names| &names.value.general_names);
        for name in names.into_iter().flatten() {
            match name {
                GeneralName::DNSName(name) => peer.dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => peer.uris.push((*uri).to_owned()),
                GeneralName::RFC822Name(email) => peer.emails.push((*email).to_owned()),
                _ => {}
            }
        }
        Some(peer)
    }
}

impl Credentials {
    /// The client's own certificate, taken apart. `None` for a client that showed none.
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        PeerCertificate::from_der(self.certificates.first()?)
    }
}

fn common_name(cert: &X509Certificate<'_>) -> Option<String> {
    let mut names = cert.subject().iter_common_name();
    let name = names.next()?;
    match names.next() {
        None => Some(name.as_str().ok()?.to_owned()),
        Some(_) => None,
    }
}

fn serial(cert: &X509Certificate<'_>) -> String {
    let bytes = cert.raw_serial();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    hex(&bytes[zeros..])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
