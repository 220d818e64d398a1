//! Who clients are.

use clap::ValueEnum;

use super::limits::SHORTEST;
use crate::config::key::section;
use crate::config::value::OneOrMore;
use crate::config::value::choice::choices;
use crate::config::value::file::FilePath;
use crate::config::value::text::{Text, TokenSource};
use crate::config::value::time::Time;
use crate::secret::Secret;

section! {
    /// Who clients are. Without tokens and client certificates they all are guests, until a
    /// service binds them.
    AuthConfig {
        /// How long telling who a client is may take, within `limits.setup_timeout`.
        timeout: Time = Time::secs(5) => range(SHORTEST, 3_600_000),

        /// Whether clients without a token or certificate are let in, as guests.
        guests: Option<bool> = None
            => unset("yes where there are no tokens and no client certificates, else no").example("true"),

        /// What of a client's certificate is its user id.
        client_certificate: CertificateUser = CertificateUser::Off,

        /// Tokens (JWT) that say who a client is. Without this table there are none.
        jwt: Option<JwtConfig> = None => unset("no tokens"),
    }
}

section! {
    /// Tokens (JWT) that say who a client is. Exactly one key, or set of keys, checks them.
    JwtConfig {
        /// Algorithms that are accepted, whatever a token says. None: the one that the key is
        /// for (HS256 for a secret), which a JWKS document does not tell.
        algorithms: Vec<Algorithm> = Vec::new() => example("[\"ES256\"]"),

        /// The key of HS256, HS384 and HS512.
        secret: Option<Secret> = None => range(32, 1024),

        /// A file that holds the key of HS256, HS384 and HS512.
        secret_file: Option<FilePath> = None => example("\"jwt-secret\""),

        /// A public key (RSA, EC or Ed25519), as PEM.
        public_key_file: Option<FilePath> = None => example("\"jwt.pem\""),

        /// Public keys by their ids, as a JWKS document.
        jwks_file: Option<FilePath> = None => example("\"jwks.json\""),

        /// Whom a token must come from (`iss`): one of these. None: it does not matter.
        issuer: OneOrMore<Text> = OneOrMore::default() => example("\"https://login.example\""),

        /// Whom a token must be for (`aud`): one of these. None: tokens for somebody are refused.
        audience: OneOrMore<Text> = OneOrMore::default() => example("[\"gate\"]"),

        /// By how much clocks may differ.
        leeway: Time = Time::secs(30) => range(0, 600_000),

        /// The claim that is the user id.
        user_claim: Text = text("sub"),

        /// The claim, an object of texts, that becomes the session's settings.
        settings_claim: Option<Text> = None => example("\"settings\""),

        /// Where a token may be: in the `$hello` of the extended protocol, or in a WebSocket
        /// request. Two different ones are refused.
        sources: Vec<TokenSource> = sources()
            => example("[\"hello\", \"authorization\", \"query:token\", \"cookie:id\", \"subprotocol\"]"),

        /// Whether a session ends when its token does.
        close_on_expiry: bool = false,
    }
}

/// A text that is known to be one.
fn text(text: &str) -> Text {
    Text::new(text).unwrap_or_default()
}

fn sources() -> Vec<TokenSource> {
    let both = ["authorization", "hello"].map(TokenSource::new);
    both.into_iter().flatten().collect()
}

/// What of a client's certificate is its user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab")]
pub(crate) enum CertificateUser {
    /// Nothing
    Off,
    /// The subject's common name
    CommonName,
    /// The only DNS name
    DnsName,
    /// The only URI
    Uri,
    /// The only e-mail address
    Email,
}

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    #[value(name = "HS256")]
    Hs256,
    #[value(name = "HS384")]
    Hs384,
    #[value(name = "HS512")]
    Hs512,
    #[value(name = "RS256")]
    Rs256,
    #[value(name = "RS384")]
    Rs384,
    #[value(name = "RS512")]
    Rs512,
    #[value(name = "PS256")]
    Ps256,
    #[value(name = "PS384")]
    Ps384,
    #[value(name = "PS512")]
    Ps512,
    #[value(name = "ES256")]
    Es256,
    #[value(name = "ES384")]
    Es384,
    #[value(name = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Whether its key is a secret.
    pub(crate) fn is_hmac(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// Bytes that its secret must have: those of its hash (RFC 7518 section 3.2).
    pub(crate) fn shortest_secret(self) -> usize {
        match self {
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 32,
        }
    }
}

choices!(CertificateUser, Algorithm);
