//! The cryptography of JSON Web Tokens, by ring.
//!
//! jsonwebtoken leaves it to a provider. Of the two that it brings one needs a C library of
//! its own, and the other an RSA whose private operations leak through their timing
//! (RUSTSEC-2023-0071); ring is in the tree for TLS already.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    self as ring_signature, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding,
    RsaKeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{error::KeyRejected, hmac};
use signature::{Signer, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // For making JSON Web Keys, which is not done here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Must have been called before a token is read or written. Calling it again does no harm.
pub(super) fn install() {
    // It fails only where it has been done.
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    let bytes = key.as_bytes();
    let pair = match hmac_of(*algorithm) {
        Some(hash) => Pair::Hmac(hmac::Key::new(hash, bytes)),
        None => match scheme(*algorithm)? {
            Scheme::Rsa(_, encoding) => Pair::Rsa(rsa_pair(bytes)?, encoding),
            Scheme::Ecdsa(_, signing) => {
                let pair = EcdsaKeyPair::from_pkcs8(signing, bytes, &SystemRandom::new());
                Pair::Ecdsa(pair.map_err(rejected)?)
            }
            Scheme::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes);
                Pair::Ed25519(pair.map_err(rejected)?)
            }
        },
    };
    let algorithm = *algorithm;
    Ok(Box::new(RingSigner { algorithm, pair }))
}

/// Whether a key can sign like this.
pub(super) fn check_signing_key(algorithm: Algorithm, key: &EncodingKey) -> Result<()> {
    signer(&algorithm, key).map(drop)
}

/// PKCS#8, or PKCS#1.
fn rsa_pair(bytes: &[u8]) -> Result<RsaKeyPair> {
    RsaKeyPair::from_pkcs8(bytes)
        .or_else(|error| RsaKeyPair::from_der(bytes).map_err(|_| error))
        .map_err(rejected)
}

fn rejected(error: KeyRejected) -> Error {
    new_error(ErrorKind::Provider(error.to_string()))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

/// The hash of an HMAC algorithm.
pub(super) fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// How ring names the signatures with a key pair.
enum Scheme {
    Rsa(&'static RsaParameters, &'static dyn RsaEncoding),
    Ecdsa(
        &'static dyn VerificationAlgorithm,
        &'static EcdsaSigningAlgorithm,
    ),
    Ed25519,
}

fn scheme(algorithm: Algorithm) -> Result<Scheme> {
    use ring_signature::*;
    Ok(match algorithm {
        Algorithm::RS256 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_SHA256),
        Algorithm::RS384 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA384, &RSA_PKCS1_SHA384),
        Algorithm::RS512 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA512, &RSA_PKCS1_SHA512),
        Algorithm::PS256 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA256, &RSA_PSS_SHA256),
        Algorithm::PS384 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA384, &RSA_PSS_SHA384),
        Algorithm::PS512 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA512, &RSA_PSS_SHA512),
        Algorithm::ES256 => {
            Scheme::Ecdsa(&ECDSA_P256_SHA256_FIXED, &ECDSA_P256_SHA256_FIXED_SIGNING)
        }
        Algorithm::ES384 => {
            Scheme::Ecdsa(&ECDSA_P384_SHA384_FIXED, &ECDSA_P384_SHA384_FIXED_SIGNING)
        }
        Algorithm::EdDSA => Scheme::Ed25519,
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    })
}

struct RingSigner {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .map_err(|_| signature::Error::new())?;
                signature
            }
            Pair::Ecdsa(pair) => pair
                .sign(&random, message)
                .map_err(|_| signature::Error::new())?
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Of the key's family: the factory has looked.
struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl RingVerifier {
    /// `None`: not signed with this key, or not by this algorithm.
    fn check(&self, message: &[u8], signature: &[u8]) -> Option<()> {
        debug_assert_eq!(self.key.family(), self.algorithm.family());
        match (self.key.family(), self.key.kind()) {
            (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                let key = hmac::Key::new(hmac_of(self.algorithm)?, secret);
                hmac::verify(&key, message, signature).ok()
            }
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let Scheme::Rsa(parameters, _) = scheme(self.algorithm).ok()? else {
                    return None;
                };
                let key = RsaPublicKeyComponents { n, e };
                key.verify(parameters, message, signature).ok()
            }
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
                let Scheme::Ecdsa(verification, _) = scheme(self.algorithm).ok()? else {
                    return None;
                };
                let key = UnparsedPublicKey::new(verification, point);
                key.verify(message, signature).ok()
            }
            (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(point)) => {
                let key = UnparsedPublicKey::new(&ring_signature::ED25519, point);
                key.verify(message, signature).ok()
            }
            _ => None,
        }
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        self.check(message, signature)
            .ok_or_else(signature::Error::new)
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
