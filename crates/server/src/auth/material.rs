//! Keys by themselves: what they are made of, which algorithms they are for, and how they
//! are read from PEM (RFC 7468).

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::provider::hmac_of;

/// RSA keys of other sizes are not used, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a signature is checked with.
#[derive(Clone)]
pub(super) enum Material {
    Secret(Vec<u8>),
    /// Modulus and exponent, without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Material {
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, String> {
        let trim = |number: &[u8]| {
            let zeros = number.iter().take_while(|b| **b == 0).count();
            number[zeros..].to_vec()
        };
        let (n, e) = (trim(n), trim(e));
        let bits = n
            .first()
            .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!(
                "an RSA key of {bits} bits; 2048 to 8192 are accepted"
            ));
        }
        // Larger exponents than 33 bits are of no use, and ring takes none.
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if !is_odd(&n) || !is_odd(&e) || e == [1] || e.len() > 4 {
            return Err("not an RSA key: modulus or exponent cannot be".into());
        }
        Ok(Self::Rsa(n, e))
    }

    /// An uncompressed point of P-256 or P-384, by its length.
    pub(super) fn point(point: &[u8]) -> Result<Self, String> {
        match (point.first(), point.len()) {
            (Some(4), 65) => Ok(Self::P256(point.to_vec())),
            (Some(4), 97) => Ok(Self::P384(point.to_vec())),
            _ => Err("an EC key that is not an uncompressed point of P-256 or P-384".into()),
        }
    }

    pub(super) fn ed25519(point: &[u8]) -> Result<Self, String> {
        match point.len() {
            32 => Ok(Self::Ed25519(point.to_vec())),
            _ => Err("not an Ed25519 key".into()),
        }
    }

    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Secret(_) => algorithm.family() == AlgorithmFamily::Hmac,
            Self::Rsa(..) => algorithm.family() == AlgorithmFamily::Rsa,
            Self::P256(_) => algorithm == Algorithm::ES256,
            Self::P384(_) => algorithm == Algorithm::ES384,
            Self::Ed25519(_) => algorithm == Algorithm::EdDSA,
        }
    }

    /// The usual one.
    pub(super) fn default_algorithm(&self) -> Algorithm {
        match self {
            Self::Secret(_) => Algorithm::HS256,
            Self::Rsa(..) => Algorithm::RS256,
            Self::P256(_) => Algorithm::ES256,
            Self::P384(_) => Algorithm::ES384,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Secret(_) => "a secret",
            Self::Rsa(..) => "an RSA key",
            Self::P256(_) => "a P-256 key",
            Self::P384(_) => "a P-384 key",
            Self::Ed25519(_) => "an Ed25519 key",
        }
    }

    pub(super) fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Secret(secret) => DecodingKey::from_secret(secret),
            Self::Rsa(n, e) => DecodingKey::from_rsa_raw_components(n, e),
            Self::P256(point) | Self::P384(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(point) => DecodingKey::from_ed_der(point),
        }
    }
}

/// Whether an HMAC secret may be used with an algorithm (RFC 7518 section 3.2).
pub(super) fn check_secret(secret: &[u8], algorithm: Algorithm) -> Result<(), String> {
    let Some(hash) = hmac_of(algorithm) else {
        return Err(format!("{algorithm:?} needs a public key, not a secret"));
    };
    // Whoever has it could sign: the classic confusion of algorithms.
    if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err("a PEM file is no secret; a public key goes into public_key_file".into());
    }
    let least = hash.digest_algorithm().output_len();
    match secret.len() {
        length if length < least => Err(format!(
            "{algorithm:?} needs a secret of at least {least} bytes, this one has {length}"
        )),
        _ => Ok(()),
    }
}

/// The only block of a PEM file.
fn only_block(pem: &[u8]) -> Result<Pem, String> {
    let mut blocks = Pem::iter_from_buffer(pem);
    let block = match blocks.next() {
        Some(Ok(block)) => block,
        Some(Err(_)) | None => return Err("not a PEM file".into()),
    };
    match blocks.next() {
        None => Ok(block),
        Some(_) => Err("more than one key in it; several go into a JWKS file".into()),
    }
}

/// Reads a public key, `-----BEGIN PUBLIC KEY-----`.
pub(super) fn public_key(pem: &[u8]) -> Result<Material, String> {
    let block = only_block(pem)?;
    match block.label.as_str() {
        "PUBLIC KEY" => {}
        label if label.ends_with("PRIVATE KEY") => {
            return Err(
                "a private key, which the gate needs not and should not have; \
                 openssl pkey -in FILE -pubout writes the public one"
                    .into(),
            );
        }
        "RSA PUBLIC KEY" => {
            return Err(
                "a PKCS#1 key; openssl rsa -RSAPublicKey_in -in FILE -pubout \
                 writes it as it is wanted"
                    .into(),
            );
        }
        "CERTIFICATE" => {
            return Err("a certificate; openssl x509 -in FILE -noout -pubkey \
                 writes its public key"
                .into());
        }
        _ => return Err("no PUBLIC KEY in it".into()),
    }
    let not_a_key = |_| "not a public key".to_owned();
    let (rest, info) =
        SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| "not a public key")?;
    if !rest.is_empty() {
        return Err("not a public key".into());
    }
    let oid = &info.algorithm.algorithm;
    let bits = &info.subject_public_key.data;
    if *oid == OID_SIG_ED25519 {
        return Material::ed25519(bits);
    }
    if *oid != OID_PKCS1_RSAENCRYPTION && *oid != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err("neither RSA, nor P-256, P-384 or Ed25519".into());
    }
    match info.parsed().map_err(not_a_key)? {
        PublicKey::RSA(rsa) => Material::rsa(rsa.modulus, rsa.exponent),
        PublicKey::EC(point) => Material::point(point.data()),
        _ => Err("neither RSA, nor P-256, P-384 or Ed25519".into()),
    }
}

/// Reads a private key for signing with this algorithm: PKCS#8, or PKCS#1 for RSA.
pub(super) fn private_key(pem: &[u8], algorithm: Algorithm) -> Result<EncodingKey, String> {
    let block = only_block(pem)?;
    match (block.label.as_str(), algorithm.family()) {
        ("PRIVATE KEY", _) | ("RSA PRIVATE KEY", AlgorithmFamily::Rsa) => {}
        ("RSA PRIVATE KEY", _) => {
            return Err(format!("an RSA key, which is not for {algorithm:?}"));
        }
        ("EC PRIVATE KEY", _) => {
            return Err("a SEC1 key; openssl pkcs8 -topk8 -nocrypt -in FILE \
                 writes it as it is wanted"
                .into());
        }
        ("ENCRYPTED PRIVATE KEY", _) => {
            return Err("it is encrypted; openssl pkcs8 -in FILE writes it in the clear".into());
        }
        ("PUBLIC KEY", _) => return Err("a public key, which signs nothing".into()),
        _ => return Err("no PRIVATE KEY in it".into()),
    }
    Ok(match algorithm.family() {
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_der(&block.contents),
        AlgorithmFamily::Ec => EncodingKey::from_ec_der(&block.contents),
        AlgorithmFamily::Ed => EncodingKey::from_ed_der(&block.contents),
        AlgorithmFamily::Hmac => {
            return Err(format!(
                "{algorithm:?} signs with a secret, not with a private key"
            ));
        }
    })
}
