//! Whether a JSON Web Token is accepted (RFC 7519, 7515, 8725).
//!
//! jsonwebtoken decides on the signature and on time, issuer and audience. What is decided
//! here comes on top of that: before it the header, of which nothing is believed that the
//! settings do not allow, and after it the claims.

use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;
use tidegate::{DeviceId, Settings, UserId};

use super::json::Object;
use super::keys::Keys;
use super::provider;
use super::settings::{AuthError, JwtSettings};

/// Longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// Why a token is not accepted. Never shows any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("not a token: {0}")]
    Malformed(&'static str),
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    #[error("the token has extensions (crit, b64, zip or enc)")]
    Extension,
    #[error("the token is of a type that is not accepted")]
    Type,
    #[error("the token names an unknown key")]
    UnknownKey,
    #[error("the token names a key that is not for its algorithm")]
    WrongKey,
    #[error("there is no key for the token's algorithm")]
    NoKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token's issuer is wrong or missing")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token's claim {0} is missing or not as it must be")]
    Claim(&'static str),
}

/// Who a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) user: UserId,
    /// Where the settings name a claim for it.
    pub(super) device: Option<DeviceId>,
    pub(super) settings: Settings,
    /// When it ends, in seconds since 1970; may be accepted for the leeway longer.
    pub(super) expires: u64,
}

/// Checks tokens with the keys of the moment.
pub(super) struct Verifier {
    pub(super) settings: JwtSettings,
    keys: ArcSwap<Keys>,
    validation: Validation,
}

impl Verifier {
    pub(super) fn new(settings: JwtSettings, keys: Keys) -> Self {
        provider::install();
        let mut required = vec!["exp"];
        let mut validation = Validation {
            validate_nbf: true,
            leeway: settings.leeway.as_secs(),
            ..Validation::default()
        };
        // Without an audience of ours a token that has one is for somebody else.
        if !settings.audience.is_empty() {
            required.push("aud");
            validation.set_audience(&settings.audience);
        }
        if !settings.issuer.is_empty() {
            required.push("iss");
            validation.set_issuer(&settings.issuer);
        }
        validation.set_required_spec_claims(&required);
        Self {
            settings,
            keys: ArcSwap::from_pointee(keys),
            validation,
        }
    }

    /// With the keys that the settings name.
    pub(super) fn load(settings: JwtSettings) -> Result<(Self, Vec<u8>), AuthError> {
        let content = Keys::read(&settings.key)?;
        let keys = Keys::parse(&settings.key, &content, &settings.algorithms)?;
        Ok((Self::new(settings, keys), content))
    }

    /// From now on tokens are checked with these keys.
    pub(super) fn change_keys(&self, keys: Keys) {
        self.keys.store(keys.into());
    }

    /// Accepts a token or says why not.
    pub(super) fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let keys = self.keys.load();
        let header = Header::read(token)?;
        let algorithm = header.algorithm(&keys.algorithms)?;
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        for key in keys.candidates(algorithm, header.key_id()?)? {
            match decode::<Object<Box<RawValue>>>(token, &key.decoding, &validation) {
                Ok(token) => return self.check_claims(&token.claims),
                Err(error) => match judge(error.kind()) {
                    TokenError::Signature => {}
                    other => return Err(other),
                },
            }
        }
        Err(TokenError::Signature)
    }

    fn check_claims(&self, claims: &Object<Box<RawValue>>) -> Result<Verified, TokenError> {
        let claim = |name: &str| claims.0.get(name).map(|raw| raw.get());
        let parsed = |name: &str| claim(name).map(serde_json::from_str::<Value>);
        let expires = match parsed("exp") {
            Some(Ok(Value::Number(number))) => seconds(&number),
            _ => None,
        };
        let expires = expires.ok_or(TokenError::Claim("exp"))?;
        match parsed("iat") {
            None => {}
            Some(Ok(Value::Number(number))) => {
                let issued = seconds(&number).ok_or(TokenError::Claim("iat"))?;
                if issued > now().saturating_add(self.settings.leeway.as_secs()) {
                    return Err(TokenError::NotYet);
                }
            }
            Some(_) => return Err(TokenError::Claim("iat")),
        }
        // A list of issuers is for other protocols; here it would be one too many.
        if !self.settings.issuer.is_empty() && !matches!(parsed("iss"), Some(Ok(Value::String(_))))
        {
            return Err(TokenError::Issuer);
        }
        let user = match parsed(&self.settings.user_claim) {
            Some(Ok(Value::String(text))) => UserId::new(&text).ok(),
            Some(Ok(Value::Number(number))) => number.as_u64().map(UserId::from),
            _ => None,
        };
        let device = match &self.settings.device_claim {
            None => None,
            // One without would be on any device that its client invents.
            Some(name) => match parsed(name) {
                Some(Ok(Value::String(text))) => {
                    let device = DeviceId::new(&text);
                    Some(device.map_err(|_| TokenError::Claim("of the device"))?)
                }
                _ => return Err(TokenError::Claim("of the device")),
            },
        };
        Ok(Verified {
            device,
            user: user.ok_or(TokenError::Claim("of the user"))?,
            settings: self.settings_of(claim)?,
            expires,
        })
    }

    fn settings_of<'a>(
        &self,
        claim: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Settings, TokenError> {
        let claim = self.settings.settings_claim.as_deref().and_then(claim);
        let Some(claim) = claim else {
            return Ok(Settings::new());
        };
        let pairs: Object<String> =
            serde_json::from_str(claim).map_err(|_| TokenError::Claim("of the settings"))?;
        Settings::try_from(pairs.0).map_err(|_| TokenError::Claim("of the settings"))
    }
}

/// What a token says about itself.
struct Header(Object<Value>);

impl Header {
    fn read(token: &str) -> Result<Self, TokenError> {
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        let json = URL_SAFE_NO_PAD.decode(header);
        let json = json.map_err(|_| TokenError::Malformed("its header is not base64url"))?;
        let header = serde_json::from_slice(&json);
        let header = Self(header.map_err(|_| TokenError::Malformed("its header is not JSON"))?);
        // An extension that is not understood must not be passed over, and none is.
        if ["crit", "b64", "zip", "enc"]
            .iter()
            .any(|name| header.0.0.contains_key(*name))
        {
            return Err(TokenError::Extension);
        }
        header.check_type()?;
        Ok(header)
    }

    /// Tokens that are signed with the same key for other purposes say so (RFC 8725 section
    /// 3.11); access tokens may (RFC 9068).
    fn check_type(&self) -> Result<(), TokenError> {
        let accepted = |text: &str| {
            let text = text.to_ascii_lowercase();
            ["jwt", "at+jwt"].contains(&text.strip_prefix("application/").unwrap_or(&text))
        };
        match self.0.0.get("typ") {
            None => Ok(()),
            Some(Value::String(text)) if accepted(text) => Ok(()),
            Some(_) => Err(TokenError::Type),
        }
    }

    /// The algorithm, if it is one of those that are accepted.
    fn algorithm(&self, accepted: &[Algorithm]) -> Result<Algorithm, TokenError> {
        let named = match self.0.0.get("alg") {
            Some(Value::String(name)) => name.parse().ok(),
            _ => None,
        };
        named
            .filter(|algorithm| accepted.contains(algorithm))
            .ok_or(TokenError::Algorithm)
    }

    fn key_id(&self) -> Result<Option<&str>, TokenError> {
        match self.0.0.get("kid") {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(id)),
            Some(_) => Err(TokenError::UnknownKey),
        }
    }
}

/// What jsonwebtoken found.
fn judge(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYet,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            match claim.as_str() {
                "exp" => TokenError::Claim("exp"),
                "nbf" => TokenError::Claim("nbf"),
                "iss" => TokenError::Issuer,
                _ => TokenError::Audience,
            }
        }
        ErrorKind::Json(_) => TokenError::Malformed("its claims are not JSON as they must be"),
        ErrorKind::Base64(_) => TokenError::Malformed("it is not base64url"),
        _ => TokenError::Malformed("it cannot be read"),
    }
}

/// A time in a claim: seconds since 1970, perhaps with a fraction.
fn seconds(number: &serde_json::Number) -> Option<u64> {
    let whole = |f: f64| (0.0..=u64::MAX as f64).contains(&f).then_some(f as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(whole))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
