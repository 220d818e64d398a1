//! The settings that the configuration's `[auth]` stands for.

use jsonwebtoken::Algorithm;

use super::settings::{AuthSettings, JwtSettings, KeySource, TokenSource};
use crate::config::model::auth::{Algorithm as Named, AuthConfig, CertificateUser, JwtConfig};

impl AuthConfig {
    /// `None` where everyone is a guest. The configuration has been checked.
    pub(crate) fn settings(&self) -> Option<AuthSettings> {
        let client_certificate = self.client_certificate;
        let jwt = self.jwt.as_ref().and_then(JwtConfig::settings);
        let proves = jwt.is_some() || client_certificate != CertificateUser::Off;
        // Whoever sets up proofs wants them.
        let guests = self.guests.unwrap_or(!proves);
        (proves || !guests).then(|| AuthSettings {
            timeout: self.timeout.into(),
            guests,
            client_certificate,
            jwt,
        })
    }
}

impl JwtConfig {
    fn settings(&self) -> Option<JwtSettings> {
        // A secret that was read from a file is read again when that changes.
        let key = match (
            &self.secret_file,
            &self.secret,
            &self.public_key_file,
            &self.jwks_file,
        ) {
            (Some(file), ..) => KeySource::SecretFile(file.0.clone()),
            (_, Some(secret), ..) => KeySource::Secret(secret.clone()),
            (_, _, Some(file), _) => KeySource::PublicKeyFile(file.0.clone()),
            (_, _, _, Some(file)) => KeySource::JwksFile(file.0.clone()),
            (None, None, None, None) => return None,
        };
        let texts = |texts: &[_]| {
            texts
                .iter()
                .map(crate::config::value::text::Text::as_str)
                .map(str::to_owned)
                .collect()
        };
        Some(JwtSettings {
            algorithms: self.algorithms.iter().copied().map(algorithm).collect(),
            key,
            issuer: texts(&self.issuer.0),
            audience: texts(&self.audience.0),
            leeway: self.leeway.into(),
            user_claim: self.user_claim.as_str().to_owned(),
            settings_claim: self
                .settings_claim
                .as_ref()
                .map(|claim| claim.as_str().to_owned()),
            device_claim: self
                .device_claim
                .as_ref()
                .map(|claim| claim.as_str().to_owned()),
            sources: self
                .sources
                .iter()
                .filter_map(|source| source.as_str().parse::<TokenSource>().ok())
                .collect(),
            close_on_expiry: self.close_on_expiry,
        })
    }
}

fn algorithm(named: Named) -> Algorithm {
    match named {
        Named::Hs256 => Algorithm::HS256,
        Named::Hs384 => Algorithm::HS384,
        Named::Hs512 => Algorithm::HS512,
        Named::Rs256 => Algorithm::RS256,
        Named::Rs384 => Algorithm::RS384,
        Named::Rs512 => Algorithm::RS512,
        Named::Ps256 => Algorithm::PS256,
        Named::Ps384 => Algorithm::PS384,
        Named::Ps512 => Algorithm::PS512,
        Named::Es256 => Algorithm::ES256,
        Named::Es384 => Algorithm::ES384,
        Named::EdDsa => Algorithm::EdDSA,
    }
}
