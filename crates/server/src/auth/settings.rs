//! What can be set about authentication. The configuration has checked it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use thiserror::Error;

use crate::config::model::auth::CertificateUser;
use crate::secret::Secret;

/// The subprotocol that is agreed on with clients that send a token as another.
pub(crate) const SUBPROTOCOL: &str = "tidegate";

/// How clients prove who they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AuthSettings {
    /// How long one decision may take.
    pub(crate) timeout: Duration,
    /// Whether those who bring no proof are let in, as guests.
    pub(crate) guests: bool,
    pub(crate) client_certificate: CertificateUser,
    /// None: tokens are not looked at.
    pub(crate) jwt: Option<JwtSettings>,
}

/// Which JSON Web Tokens are accepted, and from where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JwtSettings {
    /// The signatures accepted, whatever a token says. None given: the one that the key is
    /// for (HS256 for a secret), which a JWKS file does not tell.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) key: KeySource,
    /// Where given, `iss` must be one of these.
    pub(crate) issuer: Vec<String>,
    /// Where given, `aud` must hold one of these; where not, there must be no `aud`.
    pub(crate) audience: Vec<String>,
    /// How much the clocks of issuer and gate may differ.
    pub(crate) leeway: Duration,
    /// The claim that names the user: text, or a number.
    pub(crate) user_claim: String,
    /// A claim whose object of strings becomes settings of the session.
    pub(crate) settings_claim: Option<String>,
    /// Where a token may be.
    pub(crate) sources: Vec<TokenSource>,
    /// Whether a session ends when its token does.
    pub(crate) close_on_expiry: bool,
}

/// Where the keys are. Relative paths have been resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KeySource {
    /// An HMAC secret.
    Secret(Secret),
    /// A file that holds one; a line end behind it does not count.
    SecretFile(PathBuf),
    /// A PEM file with one RSA, EC (P-256, P-384) or Ed25519 public key.
    PublicKeyFile(PathBuf),
    /// A JSON Web Key Set (RFC 7517).
    JwksFile(PathBuf),
}

impl JwtSettings {
    /// As the configuration has it where nothing but the keys is set.
    #[cfg(test)]
    pub(crate) fn new(key: KeySource) -> Self {
        Self {
            algorithms: Vec::new(),
            key,
            issuer: Vec::new(),
            audience: Vec::new(),
            leeway: Duration::from_secs(30),
            user_claim: "sub".into(),
            settings_claim: None,
            sources: vec![TokenSource::Authorization, TokenSource::Hello],
            close_on_expiry: false,
        }
    }
}

impl KeySource {
    /// The key that sets it, below `auth`.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Secret(_) => "jwt.secret",
            Self::SecretFile(_) => "jwt.secret_file",
            Self::PublicKeyFile(_) => "jwt.public_key_file",
            Self::JwksFile(_) => "jwt.jwks_file",
        }
    }
}

/// Where a token may be: in the `$hello` of the extended protocol, or in a WebSocket upgrade
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// `Authorization: Bearer TOKEN`
    Authorization,
    /// `"auth": {"token": TOKEN}`, or `"auth": TOKEN`
    Hello,
    /// `?NAME=TOKEN`
    Query(String),
    /// `Cookie: NAME=TOKEN`
    Cookie(String),
    /// `Sec-WebSocket-Protocol: tidegate, bearer.TOKEN`
    Subprotocol,
}

impl FromStr for TokenSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A token of RFC 9110: what a cookie may be named, and what no address escapes.
        let named = |name: &str| {
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$'*^`|".contains(&b);
            match !name.is_empty() && name.bytes().all(fine) {
                true => Ok(name.to_owned()),
                false => Err(format!("{name:?} cannot be the name of a token")),
            }
        };
        match text.split_once(':') {
            None if text == "authorization" => Ok(Self::Authorization),
            None if text == "hello" => Ok(Self::Hello),
            None if text == "subprotocol" => Ok(Self::Subprotocol),
            Some(("query", name)) => named(name).map(Self::Query),
            Some(("cookie", name)) => named(name).map(Self::Cookie),
            _ => Err(format!(
                "{text:?} is none of \"authorization\", \"hello\", \"query:NAME\", \"cookie:NAME\", \"subprotocol\""
            )),
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => f.write_str("authorization"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Hello => f.write_str("hello"),
            Self::Subprotocol => f.write_str("subprotocol"),
        }
    }
}

/// Authentication that cannot be had as it is set. Never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("auth.{key}: {why}")]
pub(crate) struct AuthError {
    /// The key at fault, below `auth`.
    pub(crate) key: &'static str,
    pub(crate) why: String,
}

impl AuthError {
    pub(crate) fn new(key: &'static str, why: impl fmt::Display) -> Self {
        Self {
            key,
            why: why.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_written_as_they_are_read() {
        for text in [
            "authorization",
            "query:token",
            "cookie:__Host-t",
            "subprotocol",
        ] {
            assert_eq!(text.parse::<TokenSource>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "Authorization",
            "query",
            "query:",
            "cookie:a b",
            "query:a=b",
            "query:a&b",
            "cookie:a;b",
            "header:x",
            "query:ä",
            "query:%41",
        ] {
            assert!(wrong.parse::<TokenSource>().is_err(), "{wrong}");
        }
    }
}
