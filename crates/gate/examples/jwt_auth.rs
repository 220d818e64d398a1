//! Clients that come with a JSON Web Token (HS256), in the `Authorization` header of the
//! WebSocket upgrade or, for browsers, which cannot set one, as `?token=` in its address.
//!
//! `cargo run -p tidegate --example jwt_auth`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use tidegate::{
    Credentials, Gate, Identity, Refused, Service, Session, Settings, StartError, UserId, WebSocket,
};

/// A real program reads it from where its secrets are.
const SECRET: &[u8] = b"an example's secret, known to everyone";

#[derive(Serialize, Deserialize)]
struct Claims {
    /// The user.
    sub: String,
    /// When the token ends, in seconds since 1970; checked by `decode`.
    exp: u64,
    /// Becomes a setting of the session.
    name: String,
}

async fn authenticate(who: Credentials) -> Result<Identity, Refused> {
    let token = token(&who).ok_or_else(|| Refused::new("no token"))?;
    // One algorithm, ours: never the one that the token names.
    let validation = Validation::new(Algorithm::HS256);
    let token = decode::<Claims>(&token, &DecodingKey::from_secret(SECRET), &validation)
        .map_err(|error| Refused::new(error.to_string()))?;
    let user = UserId::new(&token.claims.sub).map_err(|e| Refused::new(e.to_string()))?;
    let mut settings = Settings::new();
    settings
        .merge([("name", token.claims.name)])
        .map_err(|e| Refused::new(e.to_string()))?;
    let mut identity = Identity::user(user);
    identity.settings = settings;
    Ok(identity)
}

fn token(who: &Credentials) -> Option<String> {
    let request = who.upgrade.as_ref()?;
    if let Some(header) = request.header("authorization") {
        let header = std::str::from_utf8(header).ok()?;
        return header.strip_prefix("Bearer ").map(str::to_owned);
    }
    // A token has no character that an address would escape.
    let mut pairs = request.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("token=").map(str::to_owned))
}

/// Open to bound sessions only, as every method is unless it says otherwise.
async fn who_am_i(session: Session) -> String {
    let (user, name) = (session.user(), session.get("name"));
    format!(
        "{} ({})",
        name.unwrap_or_default(),
        user.as_deref().unwrap_or("nobody")
    )
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    // The only way this can fail is that another provider is there already.
    let _ = hmac::PROVIDER.install_default();
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let claims = Claims {
        sub: "4711".into(),
        exp: in_an_hour
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        name: "Ada".into(),
    };
    match encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET),
    ) {
        Ok(token) => println!(
            "try: cargo run -- connect 'ws://127.0.0.1:3654/?token={token}' -e account/who_am_i\n\
             and without the token, or with another: closed with 4503"
        ),
        Err(error) => println!("no token to try with: {error}"),
    }
    Gate::builder()
        .listen(WebSocket::bind("127.0.0.1:3654"))
        .service(Service::new("account").request("who_am_i", who_am_i))
        .on_authenticate(Duration::from_secs(5), authenticate)
        .run_until(tokio::signal::ctrl_c())
        .await
}

/// HS256 for jsonwebtoken, by the library that the gate's TLS uses. With its feature
/// `aws_lc_rs` or `rust_crypto` you need none of this, and get the other algorithms too.
mod hmac {
    use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
    use jsonwebtoken::errors::{ErrorKind, Result};
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
    use ring::hmac::{HMAC_SHA256, Key, sign, verify};
    use signature::{Error, Signer, Verifier};

    pub(super) static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: signer,
        verifier_factory: verifier,
        key_utils: KeyUtils::new_unimplemented(),
    };

    struct Hs256(Key);

    fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
        Ok(Box::new(Hs256::new(algorithm, key.as_bytes())?))
    }

    fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
        Ok(Box::new(Hs256::new(algorithm, key.try_get_as_bytes()?)?))
    }

    impl Hs256 {
        fn new(algorithm: &Algorithm, secret: &[u8]) -> Result<Self> {
            match algorithm {
                Algorithm::HS256 => Ok(Self(Key::new(HMAC_SHA256, secret))),
                _ => Err(ErrorKind::InvalidAlgorithm.into()),
            }
        }
    }

    impl Signer<Vec<u8>> for Hs256 {
        fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
            Ok(sign(&self.0, message).as_ref().to_vec())
        }
    }

    impl JwtSigner for Hs256 {
        fn algorithm(&self) -> Algorithm {
            Algorithm::HS256
        }
    }

    impl Verifier<Vec<u8>> for Hs256 {
        fn verify(&self, message: &[u8], tag: &Vec<u8>) -> std::result::Result<(), Error> {
            verify(&self.0, message, tag).map_err(|_| Error::new())
        }
    }

    impl JwtVerifier for Hs256 {
        fn algorithm(&self) -> Algorithm {
            Algorithm::HS256
        }
    }
}
