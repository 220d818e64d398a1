//! Who clients are: the real binary with tokens from another library, PyJWT, and the tokens
//! of `tidegate token` under its eyes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a panic is the report"
)]

mod login;
mod reload;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod token;
mod ws;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use serde_json::{Value, json};
use support::server::Scratch;

/// Exactly as long as HS512 needs.
pub(crate) const SECRET: &str = "a secret of the tests: 64 bytes, which is what HS512 asks for...";

/// Key files for every kind of algorithm.
pub(crate) struct Keys {
    /// Lives as long as the keys are needed.
    files: Scratch,
}

/// A kind of key: its name, and its algorithms.
pub(crate) const KINDS: [(&str, &[&str]); 5] = [
    ("secret", &["HS256", "HS384", "HS512"]),
    (
        "rsa",
        &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
    ),
    ("p256", &["ES256"]),
    ("p384", &["ES384"]),
    ("ed25519", &["EdDSA"]),
];

impl Keys {
    pub(crate) fn new() -> Self {
        let files = Scratch::new();
        files.write("secret.key", SECRET);
        files.write("rsa.key", include_str!("../data/rsa-2048.test-only.pem"));
        files.write(
            "rsa.pub",
            include_str!("../data/rsa-2048.test-only.pub.pem"),
        );
        for (name, algorithm) in [
            ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            files.write(&format!("{name}.key"), &pair.serialize_pem());
            files.write(&format!("{name}.pub"), &pair.public_key_pem());
        }
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        files.write("ed25519.key", &ed25519_pem(&pair));
        files.write("ed25519.pub", &pair.public_key_pem());
        Self { files }
    }

    /// A file to sign with.
    pub(crate) fn signing(&self, kind: &str) -> String {
        self.path(&format!("{kind}.key"))
    }

    /// A file to check with.
    pub(crate) fn checking(&self, kind: &str) -> String {
        match kind {
            "secret" => self.signing(kind),
            _ => self.path(&format!("{kind}.pub")),
        }
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    /// The line of `[auth.jwt]` that names the key.
    pub(crate) fn setting(&self, kind: &str) -> String {
        match kind {
            "secret" => format!("secret_file = {:?}", self.checking(kind)),
            _ => format!("public_key_file = {:?}", self.checking(kind)),
        }
    }

    /// A token by PyJWT: HS256 for `user`, for ten minutes, with these changes of its claims.
    pub(crate) fn token(&self, user: &str, changes: Value) -> String {
        let mut claims = json!({ "sub": user });
        let from_now = changes.get("from_now").cloned();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().remove("from_now");
        let job = json!({
            "alg": "HS256",
            "key": self.signing("secret"),
            "claims": claims,
            "from_now": from_now.unwrap_or_else(|| json!({ "exp": 600, "iat": 0 })),
        });
        support::jwt_tool("mint", &json!([job])).remove(0)
    }
}

/// PKCS#8 without the public key behind it (RFC 8410), as openssl writes and reads it.
fn ed25519_pem(pair: &KeyPair) -> String {
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    let der = [prefix, &pair.serialize_der()[16..48]].concat();
    let text = STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

/// A TCP and a WebSocket listener that tell errors, every service, and this in `[auth]`.
pub(crate) fn config(top: &str, auth: &str) -> String {
    format!(
        "services = [\"echo\", \"chat\", \"auth\"]\n{top}\n\
         [[tcp]]\naddress = \"127.0.0.1:0\"\nv1_error_topic = \"error\"\n\
         [[websocket]]\naddress = \"127.0.0.1:0\"\nv1_error_topic = \"error\"\n\
         {auth}\n"
    )
}
