//! Keys that are not taken, and keys that change.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Auth;
use super::super::settings::{AuthError, AuthSettings};
use super::*;

/// A file that is removed when dropped.
struct File(PathBuf);

impl File {
    fn new(content: impl AsRef<[u8]>) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-auth-{}-{number}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(content);
        file
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        std::fs::write(&self.0, content).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn load(key: KeySource, algorithms: &[Algorithm]) -> Result<Verifier, AuthError> {
    let mut settings = JwtSettings::new(key);
    settings.algorithms = algorithms.to_vec();
    Verifier::load(settings).map(|(verifier, _)| verifier)
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::engine::general_purpose::STANDARD;
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

#[test]
fn secrets() {
    use Algorithm::*;
    let secret = |n: usize| KeySource::Secret(Secret::new("s".repeat(n)));
    for (n, algorithms, taken) in [
        (32, &[][..], true),
        (31, &[], false),
        (0, &[], false),
        (32, &[HS256], true),
        (47, &[HS384], false),
        (48, &[HS384], true),
        (63, &[HS512], false),
        (64, &[HS512], true),
        (32, &[HS256, HS512], false),
        (64, &[RS256], false),
        (64, &[HS256, ES256], false),
    ] {
        assert_eq!(
            load(secret(n), algorithms).is_ok(),
            taken,
            "{n} {algorithms:?}"
        );
    }
    let error = load(secret(31), &[]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "auth.jwt.secret: HS256 needs a secret of at least 32 bytes, this one has 31"
    );
    // A line end is no part of a secret, a blank is.
    for (content, taken) in [
        ("s".repeat(32) + "\n", true),
        ("s".repeat(32) + "\r\n", true),
        ("s".repeat(31) + "\n", false),
        ("s".repeat(31) + " \n", true),
        (String::from_utf8(RSA_PUBLIC.to_vec()).unwrap(), false),
        (
            format!("\n {}", String::from_utf8(RSA_PUBLIC.to_vec()).unwrap()),
            false,
        ),
    ] {
        let file = File::new(&content);
        let loaded = load(KeySource::SecretFile(file.0.clone()), &[]);
        assert_eq!(loaded.is_ok(), taken, "{content}");
        if let Err(error) = loaded {
            assert_eq!(error.key, "jwt.secret_file");
            assert!(!error.why.contains("sss"), "{error}");
        }
    }
    let missing = load(KeySource::SecretFile("/nowhere/at/all".into()), &[]);
    assert!(
        missing
            .err()
            .unwrap()
            .to_string()
            .contains("/nowhere/at/all")
    );
}

#[test]
fn public_key_files() {
    use Algorithm::*;
    let rsa = std::str::from_utf8(RSA_PUBLIC).unwrap();
    let private = std::str::from_utf8(RSA).unwrap();
    let weak = std::str::from_utf8(RSA_WEAK).unwrap();
    for (content, algorithms, expected) in [
        (rsa.to_owned(), &[][..], Ok(())),
        (rsa.to_owned(), &[RS256, PS512], Ok(())),
        (
            rsa.to_owned(),
            &[HS256],
            Err("HS256 does not go with an RSA key"),
        ),
        (
            rsa.to_owned(),
            &[RS256, ES256],
            Err("ES256 does not go with an RSA key"),
        ),
        (
            weak.to_owned(),
            &[],
            Err("an RSA key of 1024 bits; 2048 to 8192 are accepted"),
        ),
        (
            private.to_owned(),
            &[],
            Err("a private key, which the gate needs not"),
        ),
        (format!("{rsa}{rsa}"), &[], Err("more than one key")),
        (String::new(), &[], Err("not a PEM file")),
        ("rubbish".into(), &[], Err("not a PEM file")),
        (pem("PUBLIC KEY", b"rubbish"), &[], Err("not a public key")),
        (pem("RSA PUBLIC KEY", b"x"), &[], Err("PKCS#1")),
        (pem("CERTIFICATE", b"x"), &[], Err("a certificate")),
        (pem("OTHER", b"x"), &[], Err("no PUBLIC KEY")),
    ] {
        let file = File::new(&content);
        let loaded = load(KeySource::PublicKeyFile(file.0.clone()), algorithms);
        match (loaded.map(|_| ()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(text)) => assert!(error.why.contains(text), "{error}"),
            (got, expected) => panic!("{got:?} in place of {expected:?} for {content}"),
        }
    }
}

fn jwks(keys: Value) -> Result<(), String> {
    let content = json!({ "keys": keys }).to_string();
    read_jwks(&content)
}

fn read_jwks(content: &str) -> Result<(), String> {
    let file = File::new(content);
    let algorithms = [
        Algorithm::HS256,
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ];
    load(KeySource::JwksFile(file.0.clone()), &algorithms)
        .map(|_| ())
        .map_err(|error| error.why)
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk(kid: &str) -> Value {
    let Material::Rsa(n, e) = pair(Algorithm::RS256, false).material else {
        unreachable!()
    };
    json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(&n), "e": b64(&e) })
}

fn ec_jwk(kid: &str) -> Value {
    let Material::P256(point) = pair(Algorithm::ES256, false).material else {
        unreachable!()
    };
    json!({ "kty": "EC", "kid": kid, "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
}

fn ed_jwk() -> Value {
    let Material::Ed25519(point) = pair(Algorithm::EdDSA, false).material else {
        unreachable!()
    };
    json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(&point) })
}

fn changed(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn key_sets() {
    let oct = json!({ "kty": "oct", "k": b64(&[7; 32]) });
    let all = json!([rsa_jwk("a"), ec_jwk("b"), ed_jwk(), oct]);
    assert_eq!(jwks(all), Ok(()));
    // What is for others is left out, and what is left must be enough.
    for other in [
        changed(rsa_jwk("a"), "use", json!("enc")),
        changed(rsa_jwk("a"), "alg", json!("RSA-OAEP")),
        changed(rsa_jwk("a"), "kty", json!("RSB")),
        changed(rsa_jwk("a"), "key_ops", json!(["encrypt"])),
        changed(ec_jwk("a"), "crv", json!("P-521")),
        changed(ec_jwk("a"), "crv", json!("secp256k1")),
        changed(ed_jwk(), "crv", json!("X25519")),
    ] {
        assert_eq!(jwks(json!([ec_jwk("b"), other])), Ok(()), "{other}");
        let alone = jwks(json!([other])).unwrap_err();
        assert!(alone.contains("no key in it is for"), "{alone}");
    }
    for (keys, expected) in [
        (json!([]), "no key in it is for"),
        (
            json!([rsa_jwk("a"), ec_jwk("a")]),
            "two keys have the id \"a\"",
        ),
        (
            json!([changed(rsa_jwk("a"), "use", json!("enc")), ec_jwk("a")]),
            "two keys have the id",
        ),
        (
            json!([changed(rsa_jwk("a"), "d", json!("x"))]),
            "key \"a\" is a private key",
        ),
        (
            json!([changed(rsa_jwk("a"), "n", json!("AQAB"))]),
            "key \"a\": an RSA key of 17 bits",
        ),
        (
            json!([changed(rsa_jwk("a"), "e", json!("AQ"))]),
            "modulus or exponent cannot be",
        ),
        (
            json!([changed(rsa_jwk("a"), "e", json!("Ag"))]),
            "modulus or exponent cannot be",
        ),
        (
            json!([changed(rsa_jwk("a"), "n", json!(null))]),
            "n is missing",
        ),
        (
            json!([changed(rsa_jwk("a"), "n", json!("a+b/"))]),
            "n is not base64url",
        ),
        (
            json!([changed(rsa_jwk("a"), "alg", json!("HS256"))]),
            "an RSA key is not for HS256",
        ),
        (
            json!([changed(rsa_jwk("a"), "alg", json!("ES256"))]),
            "an RSA key is not for ES256",
        ),
        (
            json!([changed(ec_jwk("a"), "x", json!("AAAA"))]),
            "x and y of P-256 have 32 bytes",
        ),
        (
            json!([changed(ec_jwk("a"), "crv", json!("P-384"))]),
            "x and y of P-384 have 48 bytes",
        ),
        (
            json!([changed(ed_jwk(), "x", json!("AAAA"))]),
            "key 1: not an Ed25519 key",
        ),
        (
            json!([{ "kty": "oct", "k": b64(&[7; 31]) }]),
            "at least 32 bytes",
        ),
        (json!([{ "kid": "a" }]), "not a JWKS file"),
        (
            json!((0..65).map(|i| ec_jwk(&i.to_string())).collect::<Vec<_>>()),
            "more than 64 keys",
        ),
    ] {
        let error = jwks(keys.clone()).unwrap_err();
        assert!(error.contains(expected), "{error} for {keys}");
    }
    for rubbish in [
        "",
        "[]",
        "{}",
        "null",
        "{\"keys\":{}}",
        "{\"keys\":[],\"keys\":[]}",
        "-----BEGIN",
    ] {
        let error = read_jwks(rubbish).unwrap_err();
        assert!(error.contains("not a JWKS file"), "{error}");
    }
    let twice = format!(
        "{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{0}\",\"k\":\"{0}\"}}]}}",
        b64(&[7; 32])
    );
    let error = read_jwks(&twice).unwrap_err();
    assert!(
        error.contains("not a JWKS file") && !error.contains(&b64(&[7; 32])),
        "{error}"
    );
    let file = File::new(json!({ "keys": [rsa_jwk("a")] }).to_string());
    let unnamed = load(KeySource::JwksFile(file.0.clone()), &[])
        .err()
        .unwrap();
    assert_eq!(unnamed.key, "jwt.algorithms");
}

#[test]
fn keys_are_read_again_and_bad_ones_leave_the_old_in_place() {
    let (first, second) = ("f".repeat(32), "n".repeat(32));
    let signed = |secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let header = good_header(Algorithm::HS256);
        token(&header, &good_claims().to_string(), Algorithm::HS256, &key)
    };
    let file = File::new(&first);
    let auth = Auth::new(AuthSettings {
        timeout: Duration::from_secs(5),
        guests: false,
        client_certificate: None,
        jwt: Some(JwtSettings::new(KeySource::SecretFile(file.0.clone()))),
    })
    .unwrap();
    let accepted = |secret: &str| auth.verify(&signed(secret)).is_ok();
    assert!(accepted(&first) && !accepted(&second));
    for bad in ["", "short", "-----BEGIN PUBLIC KEY-----"] {
        file.write(bad);
        auth.look();
        auth.reload();
        assert!(accepted(&first), "{bad}");
    }
    std::fs::remove_file(&file.0).unwrap();
    auth.look();
    auth.reload();
    assert!(accepted(&first));
    // Seen by looking, without being told.
    file.write(&second);
    auth.look();
    assert!(accepted(&second) && !accepted(&first));
    file.write(&first);
    auth.reload();
    assert!(accepted(&first) && !accepted(&second));
}
