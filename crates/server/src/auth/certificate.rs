//! Who a client is by its certificate, which TLS has checked.

use bytes::Bytes;
use thiserror::Error;
use tidegate::{PeerCertificate, UserId};

use crate::config::model::auth::CertificateUser;

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

/// The user that a chain's own certificate names; `None` without a certificate, or where
/// certificates name nobody.
pub(super) fn user(
    chain: &[Bytes],
    wanted: CertificateUser,
) -> Result<Option<UserId>, CertificateError> {
    let read = |own: &Bytes| PeerCertificate::from_der(own).ok_or(CertificateError::Unreadable);
    let own = match (wanted, chain.first()) {
        (CertificateUser::Off, _) | (_, None) => return Ok(None),
        (_, Some(own)) => read(own)?,
    };
    let names = match wanted {
        CertificateUser::Off => &[][..],
        CertificateUser::CommonName => own.common_name.as_slice(),
        CertificateUser::DnsName => &own.dns_names,
        CertificateUser::Uri => &own.uris,
        CertificateUser::Email => &own.emails,
    };
    let [name] = names else {
        return Err(CertificateError::NotOne);
    };
    let user = UserId::new(name).map_err(|_| CertificateError::NotAUser)?;
    Ok(Some(user))
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
        use CertificateUser::*;
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
        assert_eq!(user(&full, Off), Ok(None));
        let two = certificate(&["ada"], vec![dns("a.example"), dns("b.example")]);
        assert_eq!(user(&two, DnsName), Err(CertificateError::NotOne));
        assert_eq!(user(&two, CommonName).unwrap().unwrap(), "ada");
        let bad = certificate(&["a\nb"], vec![]);
        assert_eq!(user(&bad, CommonName), Err(CertificateError::NotAUser));
        let long = certificate(&["x".repeat(257).as_str()], vec![]);
        assert_eq!(user(&long, CommonName), Err(CertificateError::NotAUser));
    }
}
