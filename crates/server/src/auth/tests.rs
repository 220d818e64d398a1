//! Forged tokens, wrong keys, and keys that change.

mod claims;
mod headers;
mod identity;
mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::keys::{Key, Keys};
use super::material::Material;
use super::provider;
use super::settings::{JwtSettings, KeySource};
use super::verify::{TokenError, Verified, Verifier, now};
use crate::secret::Secret;

pub(super) const RSA: &[u8] = include_bytes!("../../tests/data/rsa-2048.test-only.pem");
pub(super) const RSA_OTHER: &[u8] = include_bytes!("../../tests/data/rsa-2048-other.test-only.pem");
pub(super) const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/data/rsa-2048.test-only.pub.pem");
pub(super) const RSA_WEAK: &[u8] = include_bytes!("../../tests/data/rsa-1024.test-only.pub.pem");

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A key to sign with, and what its signatures are checked with.
struct Pair {
    signing: EncodingKey,
    material: Material,
}

/// A new pair for an algorithm; of RSA there are two.
fn pair(algorithm: Algorithm, other: bool) -> Pair {
    provider::install();
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            let secret = [if other { b'o' } else { b's' }; 64].to_vec();
            Pair {
                signing: EncodingKey::from_secret(&secret),
                material: Material::Secret(secret),
            }
        }
        Algorithm::ES256 | Algorithm::ES384 => {
            let kind = match algorithm {
                Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
            };
            let der = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(kind, der.as_ref(), &random).unwrap();
            Pair {
                signing: EncodingKey::from_ec_der(der.as_ref()),
                material: Material::point(pair.public_key().as_ref()).unwrap(),
            }
        }
        Algorithm::EdDSA => {
            let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
            Pair {
                signing: EncodingKey::from_ed_der(der.as_ref()),
                material: Material::ed25519(pair.public_key().as_ref()).unwrap(),
            }
        }
        _ => {
            let pem = if other { RSA_OTHER } else { RSA };
            let signing = super::material::private_key(pem, algorithm).unwrap();
            let pair = RsaKeyPair::from_pkcs8(signing.as_bytes()).unwrap();
            let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
            Pair {
                material: Material::rsa(&public.n, &public.e).unwrap(),
                signing,
            }
        }
    }
}

/// Header and claims as they are written, signed.
fn token(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    provider::install();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn good_header(algorithm: Algorithm) -> String {
    json!({ "alg": format!("{algorithm:?}"), "typ": "JWT" }).to_string()
}

fn good_claims() -> Value {
    json!({ "sub": "ada", "exp": now() + 600 })
}

const SECRET: &str = "a secret of the tests, longer than any hash needs: 64 bytes at least";

/// What is accepted where a secret is all that is set.
fn settings() -> JwtSettings {
    JwtSettings::new(KeySource::Secret(Secret::new(SECRET)))
}

fn verifier(settings: JwtSettings) -> Verifier {
    Verifier::load(settings).unwrap().0
}

/// One that has these keys, and accepts these algorithms.
fn verifier_with(keys: Vec<Key>, algorithms: &[Algorithm], has_ids: bool) -> Verifier {
    let keys = Keys::of(keys, algorithms, has_ids);
    Verifier::new(settings(), keys)
}

/// HS256 with the secret.
fn hs256(header: &str, claims: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    token(header, claims, Algorithm::HS256, &key)
}

fn check(header: &str, claims: &str, settings: JwtSettings) -> Result<Verified, TokenError> {
    verifier(settings).verify(&hs256(header, claims))
}

#[test]
fn each_algorithm_is_accepted_where_it_is_allowed_and_signed_with_the_key() {
    let claims = good_claims().to_string();
    for algorithm in ALL {
        let Pair { signing, material } = pair(algorithm, false);
        let good = token(&good_header(algorithm), &claims, algorithm, &signing);
        let key = || vec![Key::new(material.clone(), None, None)];
        let verifier = verifier_with(key(), &[algorithm], false);
        assert_eq!(verifier.verify(&good).unwrap().user, "ada", "{algorithm:?}");

        let other = pair(algorithm, true);
        let forged = token(&good_header(algorithm), &claims, algorithm, &other.signing);
        assert_eq!(
            verifier.verify(&forged),
            Err(TokenError::Signature),
            "{algorithm:?}"
        );

        // Any bit of the signature, one byte less, one more, none, and zeros.
        let (message, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut wrong: Vec<Vec<u8>> = vec![
            Vec::new(),
            signature[1..].to_vec(),
            signature[..signature.len() - 1].to_vec(),
            [&signature[..], &[0]].concat(),
            [&[0][..], &signature].concat(),
            vec![0; signature.len()],
        ];
        for bit in (0..signature.len() * 8).step_by(37) {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            wrong.push(flipped);
        }
        for signature in wrong {
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(
                verifier.verify(&forged),
                Err(TokenError::Signature),
                "{algorithm:?}"
            );
        }

        // Not allowed, though the key would do; and not what the key is for.
        for another in ALL.into_iter().filter(|other| *other != algorithm) {
            let verifier = verifier_with(key(), &[another], false);
            assert_eq!(
                verifier.verify(&good),
                Err(TokenError::Algorithm),
                "{algorithm:?}"
            );
            let both = verifier_with(key(), &[algorithm, another], false);
            let header = good_header(another);
            let relabeled = token(&header, &claims, algorithm, &signing);
            let refused = both.verify(&relabeled).unwrap_err();
            let expected = match material.is_for(another) {
                true => TokenError::Signature,
                false => TokenError::NoKey,
            };
            assert_eq!(refused, expected, "{algorithm:?} relabeled {another:?}");
        }
    }
}

#[test]
fn every_change_of_a_token_is_seen() {
    let verifier = verifier(settings());
    let good = hs256(&good_header(Algorithm::HS256), &good_claims().to_string());
    assert!(verifier.verify(&good).is_ok());
    for at in 0..good.len() {
        assert!(verifier.verify(&good[..at]).is_err(), "cut at {at}");
        for replacement in ["A", "z", "-", ".", "=", " ", "\n", "é", ""] {
            let changed = format!("{}{replacement}{}", &good[..at], &good[at + 1..]);
            if changed != good {
                assert!(
                    verifier.verify(&changed).is_err(),
                    "{replacement:?} at {at}"
                );
            }
        }
    }
    for around in [
        format!("{good}."),
        format!(".{good}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}.{good}"),
    ] {
        assert!(verifier.verify(&around).is_err(), "{around}");
    }
    assert!(matches!(verifier.verify(""), Err(TokenError::Malformed(_))));
    assert!(matches!(
        verifier.verify(".."),
        Err(TokenError::Malformed(_))
    ));
    // Longest first, so that nothing of it is even decoded.
    let padded = |n: usize| {
        let claims = json!({ "sub": "ada", "exp": now() + 600, "x": "x".repeat(n) });
        hs256(&good_header(Algorithm::HS256), &claims.to_string())
    };
    assert_eq!(verifier.verify(&padded(8 * 1024)), Err(TokenError::TooLong));
    assert!(verifier.verify(&padded(5 * 1024)).is_ok());
    assert_eq!(
        verifier.verify(&"x".repeat(100_000_000)),
        Err(TokenError::TooLong)
    );
}

#[test]
fn a_public_key_is_no_secret() {
    // Whoever has the public key (everyone) signs with its bytes as an HMAC secret.
    let Material::Rsa(n, e) = pair(Algorithm::RS256, false).material else {
        unreachable!()
    };
    let der = x509_parser::pem::parse_x509_pem(RSA_PUBLIC)
        .unwrap()
        .1
        .contents;
    let pem = std::str::from_utf8(RSA_PUBLIC)
        .unwrap()
        .trim_end()
        .as_bytes();
    let (rsa, hmac) = (pair(Algorithm::RS256, false), pair(Algorithm::HS256, false));
    for known in [RSA_PUBLIC, pem, &der, &n, &e] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(known);
            for kid in ["", ", \"kid\": \"rsa\"", ", \"kid\": \"hmac\""] {
                let header = format!("{{\"alg\": \"{algorithm:?}\"{kid}}}");
                let forged = token(&header, &good_claims().to_string(), algorithm, &key);
                let only_rsa = verifier_with(
                    vec![Key::new(rsa.material.clone(), None, None)],
                    &[Algorithm::RS256],
                    false,
                );
                assert_eq!(only_rsa.verify(&forged), Err(TokenError::Algorithm));
                // Even where HMAC is allowed beside it, with a secret of its own.
                let both = verifier_with(
                    vec![
                        Key::new(rsa.material.clone(), Some("rsa".into()), None),
                        Key::new(hmac.material.clone(), Some("hmac".into()), None),
                    ],
                    &[Algorithm::RS256, algorithm],
                    true,
                );
                let expected = match kid.contains("rsa") {
                    true => TokenError::WrongKey,
                    false => TokenError::Signature,
                };
                assert_eq!(both.verify(&forged), Err(expected));
            }
        }
    }
}
