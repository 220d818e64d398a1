//! What a certificate chain must be: in order, whole between its ends, valid now.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use super::TlsError;

/// What the gate wants to know of a chain.
pub(super) struct Facts {
    /// The DNS names that the first certificate is for, in lower case.
    pub(super) names: Vec<String>,
    /// When the first of them all expires.
    pub(super) expires: SystemTime,
}

/// The certificates in a PEM file; at least one.
pub(super) fn read(
    what: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |why: String| TlsError::File {
        what,
        path: path.to_owned(),
        why,
    };
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| error(e.to_string()))?;
    if chain.is_empty() {
        return Err(error("no certificate in it".into()));
    }
    Ok(chain)
}

/// Checks a server's chain.
pub(super) fn check(chain: &[CertificateDer<'_>], path: &Path) -> Result<Facts, TlsError> {
    let chain = parse("certificate", chain, path)?;
    for (i, pair) in chain.windows(2).enumerate() {
        check_issued(&pair[0], &pair[1], i, path)?;
    }
    let expires = check_valid(&chain, path)?;
    let names = chain.first().map(dns_names).unwrap_or_default();
    Ok(Facts { names, expires })
}

/// Checks authorities that clients' certificates may come from: a set, not a chain.
pub(super) fn check_authorities(
    certificates: &[CertificateDer<'_>],
    path: &Path,
) -> Result<(), TlsError> {
    let certificates = parse("client CA", certificates, path)?;
    check_valid(&certificates, path)?;
    Ok(())
}

fn parse<'a>(
    what: &'static str,
    chain: &'a [CertificateDer<'_>],
    path: &Path,
) -> Result<Vec<X509Certificate<'a>>, TlsError> {
    let parse = |(i, cert): (usize, &'a CertificateDer<'_>)| {
        let parsed = x509_parser::parse_x509_certificate(cert);
        parsed.map(|(_, cert)| cert).map_err(|e| TlsError::File {
            what,
            path: path.to_owned(),
            why: format!("certificate {} in it: {e}", i + 1),
        })
    };
    chain.iter().enumerate().map(parse).collect()
}

fn check_issued(
    cert: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    i: usize,
    path: &Path,
) -> Result<(), TlsError> {
    let error = |why| TlsError::Chain {
        path: path.to_owned(),
        why,
    };
    if cert.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(error(format!(
            "certificate {} in it ({}) is not the issuer of certificate {} ({}), which is {}; \
             the server's own comes first, then each one's issuer, none left out",
            i + 2,
            name(issuer),
            i + 1,
            name(cert),
            cert.issuer().to_string().escape_debug(),
        )));
    }
    match cert.verify_signature(Some(issuer.public_key())) {
        // An algorithm that only clients need to know.
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => Ok(()),
        Err(_) => Err(error(format!(
            "certificate {} in it ({}) is not signed by certificate {} ({}), which only has \
             the issuer's name",
            i + 1,
            name(cert),
            i + 2,
            name(issuer),
        ))),
    }
}

/// Answers when the first of them expires.
fn check_valid(chain: &[X509Certificate<'_>], path: &Path) -> Result<SystemTime, TlsError> {
    let now = ASN1Time::now();
    let mut first = i64::MAX;
    for (i, cert) in chain.iter().enumerate() {
        let validity = cert.validity();
        first = first.min(validity.not_after.timestamp());
        let wrong = if now > validity.not_after {
            "has expired"
        } else if now < validity.not_before {
            "is not valid yet"
        } else {
            continue;
        };
        let which = match i {
            0 => "it".to_owned(),
            _ => format!("certificate {} in it ({})", i + 1, name(cert)),
        };
        return Err(TlsError::Validity {
            path: path.to_owned(),
            why: format!("{which} {wrong}"),
        });
    }
    let seconds = u64::try_from(first).unwrap_or_default();
    // Years of X.509 have four digits; what cannot be counted does not expire.
    Ok(UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH + Duration::from_secs(u32::MAX.into())))
}

fn dns_names(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = cert.subject_alternative_name() else {
        return Vec::new();
    };
    let names = alternative.value.general_names.iter();
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

fn name(cert: &X509Certificate<'_>) -> String {
    cert.subject().to_string().escape_debug().to_string()
}
