//! What comes of token and certificate together.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::protocol::ws::upgrade::UpgradeRequest;
use tidegate::{Identity, SessionId};

use super::super::Auth;
use super::super::certificate::tests::certificate;
use super::super::settings::AuthSettings;
use super::super::source::Brought;
use super::super::source::tests::request;
use super::*;
use crate::config::model::auth::CertificateUser;

fn auth(guests: bool, certificates: bool, tokens: bool) -> Arc<Auth> {
    Auth::new(AuthSettings {
        timeout: Duration::from_secs(5),
        guests,
        client_certificate: match certificates {
            true => CertificateUser::CommonName,
            false => CertificateUser::Off,
        },
        jwt: tokens.then(|| JwtSettings {
            settings_claim: Some("set".into()),
            ..settings()
        }),
    })
    .unwrap()
}

/// Whom it takes the client for; a guest is "".
fn who(auth: &Auth, token: Option<&str>, chain: &[Bytes]) -> Result<String, String> {
    let headers: Vec<_> = token
        .iter()
        .map(|t| format!("Authorization: Bearer {t}"))
        .collect();
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    let found = auth.identify(SessionId(1), brought(&request("/", &headers)), chain);
    let name = |identity: Identity| identity.user.map_or(String::new(), String::from);
    found.map(name).map_err(|refused| refused.0)
}

#[test]
fn token_and_certificate_must_name_the_same() {
    let ada = hs256(&good_header(Algorithm::HS256), &good_claims().to_string());
    let (none, adas, bobs) = (
        vec![],
        certificate(&["ada"], vec![]),
        certificate(&["bob"], vec![]),
    );
    let nameless = certificate(&[], vec![]);
    let both = auth(true, true, true);
    assert_eq!(who(&both, None, &none).unwrap(), "");
    assert_eq!(who(&both, Some(&ada), &none).unwrap(), "ada");
    assert_eq!(who(&both, None, &bobs).unwrap(), "bob");
    assert_eq!(who(&both, Some(&ada), &adas).unwrap(), "ada");
    let different = who(&both, Some(&ada), &bobs).unwrap_err();
    assert_eq!(different, "token and certificate are for different users");
    // One that is bad is not made up for by the other, nor by there being guests.
    assert!(who(&both, Some("x"), &adas).is_err());
    assert!(who(&both, Some(&ada), &nameless).is_err());
    assert!(who(&both, None, &nameless).is_err());
    assert!(who(&both, None, &[Bytes::from_static(b"x")]).is_err());

    let strict = auth(false, true, true);
    assert!(who(&strict, None, &none).is_err());
    assert_eq!(who(&strict, None, &adas).unwrap(), "ada");
    assert_eq!(who(&strict, Some(&ada), &none).unwrap(), "ada");
    // Certificates that are not asked about, and tokens that are not, name nobody.
    assert_eq!(
        who(&auth(true, false, true), Some(&ada), &bobs).unwrap(),
        "ada"
    );
    assert_eq!(
        who(&auth(true, true, false), Some("x"), &bobs).unwrap(),
        "bob"
    );
    assert_eq!(
        who(&auth(true, false, false), Some("x"), &bobs).unwrap(),
        ""
    );
    assert!(who(&auth(false, false, true), None, &adas).is_err());
    // Plain TCP has no request.
    let tcp = both
        .identify(SessionId(1), Brought::default(), &bobs)
        .unwrap();
    assert_eq!(tcp.user.unwrap(), "bob");
    assert!(
        strict
            .identify(SessionId(1), Brought::default(), &none)
            .is_err()
    );
}

#[test]
fn the_settings_of_a_token_go_with_its_user() {
    let mut claims = good_claims();
    claims["set"] = json!({ "role": "admin" });
    let token = hs256(&good_header(Algorithm::HS256), &claims.to_string());
    let header = format!("Authorization: Bearer {token}");
    let request = request("/", &[&header]);
    let found = auth(false, false, true).identify(SessionId(1), brought(&request), &[]);
    assert_eq!(found.unwrap().settings.get("role"), Some("admin"));
}

fn brought(request: &UpgradeRequest) -> Brought<'_> {
    Brought {
        request: Some(request),
        hello: None,
    }
}

/// Clients of the extended protocol need no request to show a token.
#[test]
fn a_token_in_the_hello_names_the_user() {
    let claims = good_claims();
    let token = hs256(&good_header(Algorithm::HS256), &claims.to_string());
    let found = |auth: &str, chain: &[Bytes]| {
        let brought = Brought {
            hello: Some(auth.as_bytes()),
            request: None,
        };
        let found = self::auth(true, true, true).identify(SessionId(1), brought, chain);
        found.map(|identity| identity.user.unwrap())
    };
    let good = format!("{{\"token\": \"{token}\"}}");
    assert_eq!(found(&good, &[]).unwrap(), "ada");
    // A bad one makes nobody a guest.
    assert!(found("{\"token\": \"x.y.z\"}", &[]).is_err());
    assert!(found("7", &[]).is_err());
}
