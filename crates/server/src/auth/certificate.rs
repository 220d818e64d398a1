//! Who a client is by its certificate, which TLS has checked.

use bytes::Bytes;
use thiserror::Error;
use tidegate::UserId;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::settings::CertificateName;

/// A certificate that names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum CertificateError {
    #[error("the client's certificate cannot be read")]
    Unreadable,
    #[error("the client's certificate has no name of the kind wanted, or more than one")]
    NotOne,
    #[error("the name in the client's certificate cannot be a user id")]
    NotAUser,
}

/// The user that a chain's own certificate names; `None` without a certificate.
pub(super) fn user(
    chain: &[Bytes],
    wanted: CertificateName,
) -> Result<Option<UserId>, CertificateError> {
    let Some(own) = chain.first() else {
        return Ok(None);
    };
    let (_, certificate) =
        X509Certificate::from_der(own).map_err(|_| CertificateError::Unreadable)?;
    let names = names(&certificate, wanted)?;
    let [name] = names.as_slice() else {
        return Err(CertificateError::NotOne);
    };
    let user = UserId::new(name).map_err(|_| CertificateError::NotAUser)?;
    Ok(Some(user))
}

fn names<'a>(
    certificate: &'a X509Certificate<'_>,
    wanted: CertificateName,
) -> Result<Vec<&'a str>, CertificateError> {
    if wanted == CertificateName::CommonName {
        let names = certificate.subject().iter_common_name();
        let names = names.map(|name| name.as_str());
        return names
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::Unreadable);
    }
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|_| CertificateError::Unreadable)?;
    let Some(alternatives) = alternatives else {
        return Ok(Vec::new());
    };
    let all = alternatives.value.general_names.iter();
    Ok(all
        .filter_map(|name| match (name, wanted) {
            (GeneralName::DNSName(name), CertificateName::DnsName)
            | (GeneralName::URI(name), CertificateName::Uri)
            | (GeneralName::RFC822Name(name), CertificateName::Email) => Some(*name),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    pub(in super::super) fn certificate(
        common_name: &[&str],
        alternatives: Vec<SanType>,
    ) -> Vec<Bytes> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_name {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        vec![Bytes::copy_from_slice(certificate.der())]
    }

    #[test]
    fn each_kind_of_name() {
        use CertificateName::*;
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        let email = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
        let full = certificate(
            &["ada"],
            vec![
                dns("ada.example"),
                uri("spiffe://a/ada"),
                email("ada@a.example"),
            ],
        );
        for (wanted, name) in [
            (CommonName, "ada"),
            (DnsName, "ada.example"),
            (Uri, "spiffe://a/ada"),
            (Email, "ada@a.example"),
        ] {
            let found = user(&full, wanted).unwrap().unwrap();
            assert_eq!(found, name);
            assert_eq!(user(&[], wanted), Ok(None));
            let empty = certificate(&[], vec![]);
            assert_eq!(user(&empty, wanted), Err(CertificateError::NotOne));
            let rubbish = [Bytes::from_static(b"rubbish")];
            assert_eq!(user(&rubbish, wanted), Err(CertificateError::Unreadable));
        }
        let two = certificate(&["ada"], vec![dns("a.example"), dns("b.example")]);
        assert_eq!(user(&two, DnsName), Err(CertificateError::NotOne));
        assert_eq!(user(&two, CommonName).unwrap().unwrap(), "ada");
        let bad = certificate(&["a\nb"], vec![]);
        assert_eq!(user(&bad, CommonName), Err(CertificateError::NotAUser));
        let long = certificate(&["x".repeat(257).as_str()], vec![]);
        assert_eq!(user(&long, CommonName), Err(CertificateError::NotAUser));
    }
}
