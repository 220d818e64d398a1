//! Where a token is: in a `$hello`, or in an upgrade request.

use std::borrow::Cow;

use serde::Deserialize;
use thiserror::Error;
use tidegate::protocol::ws::upgrade::UpgradeRequest;

use super::settings::TokenSource;

/// What stands before a token among the subprotocols. Tokens have only characters that a
/// subprotocol may have.
const BEARER: &str = "bearer.";

/// What a client brought that may hold a token.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Brought<'a> {
    /// The `auth` of its `$hello`: JSON.
    pub(super) hello: Option<&'a [u8]>,
    pub(super) request: Option<&'a UpgradeRequest>,
}

/// What a `$hello` may have as `auth`. Other fields mean nothing.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shown<'a> {
    Named {
        #[serde(borrow)]
        token: Cow<'a, str>,
    },
    #[serde(borrow)]
    Bare(Cow<'a, str>),
}

/// A client whose token cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum SourceError {
    #[error("the authorization header is not a bearer token")]
    NotBearer,
    #[error("the auth of its $hello is no token")]
    NotToken,
    #[error("two different tokens")]
    Several,
}

/// The token that a client brought. It may be there more than once, but two different ones
/// are an error: whoever added the second meant to be somebody else.
pub(super) fn find<'a>(
    brought: Brought<'a>,
    sources: &[TokenSource],
) -> Result<Option<Cow<'a, str>>, SourceError> {
    let mut found: Option<Cow<'a, str>> = None;
    for source in sources {
        for token in all(brought, source)? {
            match &found {
                Some(known) if *known != token => return Err(SourceError::Several),
                _ => found = Some(token),
            }
        }
    }
    Ok(found)
}

fn all<'a>(brought: Brought<'a>, source: &TokenSource) -> Result<Vec<Cow<'a, str>>, SourceError> {
    let tokens = match (source, brought) {
        (TokenSource::Hello, Brought { hello, .. }) => {
            return hello.map(shown).transpose().map(Vec::from_iter);
        }
        (_, Brought { request: None, .. }) => Vec::new(),
        (
            source,
            Brought {
                request: Some(request),
                ..
            },
        ) => requested(request, source)?,
    };
    Ok(tokens.into_iter().map(Cow::Borrowed).collect())
}

/// The token that is shown in a `$hello`.
fn shown(auth: &[u8]) -> Result<Cow<'_, str>, SourceError> {
    match serde_json::from_slice(auth) {
        Ok(Shown::Named { token } | Shown::Bare(token)) => Ok(token),
        Err(_) => Err(SourceError::NotToken),
    }
}

fn requested<'a>(
    request: &'a UpgradeRequest,
    source: &TokenSource,
) -> Result<Vec<&'a str>, SourceError> {
    Ok(match source {
        TokenSource::Hello => Vec::new(),
        TokenSource::Authorization => headers(request, "authorization")
            .map(|value| bearer(value).ok_or(SourceError::NotBearer))
            .collect::<Result<_, _>>()?,
        TokenSource::Query(name) => named(request.query().unwrap_or_default().split('&'), name),
        TokenSource::Cookie(name) => {
            let cookies = headers(request, "cookie");
            // What is not text is no token, and so is none of ours.
            let cookies = cookies.filter_map(|value| std::str::from_utf8(value).ok());
            let pairs = cookies.flat_map(|line| line.split(';')).map(str::trim);
            named(pairs, name)
                .into_iter()
                .map(|value| {
                    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
                    inner.unwrap_or(value)
                })
                .collect()
        }
        TokenSource::Subprotocol => request
            .subprotocols()
            .iter()
            .filter_map(|offered| offered.strip_prefix(BEARER))
            .collect(),
    })
}

fn headers<'a>(request: &'a UpgradeRequest, wanted: &str) -> impl Iterator<Item = &'a [u8]> {
    request
        .headers()
        .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value)
}

/// `Bearer TOKEN` (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// The values of `name=value`.
fn named<'a>(pairs: impl Iterator<Item = &'a str>, name: &str) -> Vec<&'a str> {
    pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value)
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use tidegate::protocol::ws::upgrade::{UpgradeLimits, parse};

    use super::*;

    pub(in super::super) fn request(target: &str, headers: &[&str]) -> UpgradeRequest {
        let mut text = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for header in headers {
            text += &format!("{header}\r\n");
        }
        text += "\r\n";
        parse(text.as_bytes(), &UpgradeLimits::default())
            .unwrap()
            .unwrap()
            .0
    }

    fn found(
        target: &str,
        headers: &[&str],
        sources: &[&str],
    ) -> Result<Option<String>, SourceError> {
        let sources: Vec<_> = sources.iter().map(|s| s.parse().unwrap()).collect();
        let request = request(target, headers);
        let brought = Brought {
            request: Some(&request),
            hello: None,
        };
        find(brought, &sources).map(|token| token.map(Cow::into_owned))
    }

    #[test]
    fn each_source() {
        for (target, header, source) in [
            ("/", "Authorization: Bearer t.o-k", "authorization"),
            ("/", "authorization: bEARER   t.o-k ", "authorization"),
            ("/?token=t.o-k", "X: y", "query:token"),
            ("/?a=b&token=t.o-k&c", "X: y", "query:token"),
            ("/", "Cookie: token=t.o-k", "cookie:token"),
            ("/", "Cookie: a=b; token=\"t.o-k\"; c=d", "cookie:token"),
            (
                "/",
                "Sec-WebSocket-Protocol: tidegate, bearer.t.o-k",
                "subprotocol",
            ),
        ] {
            let one = found(target, &[header], &[source]);
            assert_eq!(one, Ok(Some("t.o-k".into())), "{target} {header}");
            let none: Vec<_> = [
                "authorization",
                "query:token",
                "cookie:token",
                "subprotocol",
            ]
            .into_iter()
            .filter(|other| *other != source)
            .collect();
            assert_eq!(
                found(target, &[header], &none),
                Ok(None),
                "{target} {header}"
            );
        }
        assert_eq!(
            found(
                "/?tokens=x&Token=x&token",
                &["Cookie: atoken=x"],
                &["query:token", "cookie:token"]
            ),
            Ok(None)
        );
        // An empty token is a token, and a bad one.
        assert_eq!(
            found("/?token=", &[], &["query:token"]),
            Ok(Some(String::new()))
        );
    }

    #[test]
    fn several_tokens_must_be_the_same() {
        let sources = [
            "authorization",
            "query:token",
            "cookie:token",
            "subprotocol",
        ];
        let same = ["Authorization: Bearer x", "Cookie: token=x"];
        assert_eq!(found("/?token=x", &same, &sources), Ok(Some("x".into())));
        for (target, headers) in [
            ("/?token=y", &["Authorization: Bearer x"][..]),
            ("/?token=x&token=y", &[]),
            ("/?token=&token=y", &[]),
            ("/", &["Authorization: Bearer x", "Authorization: Bearer y"]),
            ("/", &["Cookie: token=x", "Cookie: token=y"]),
            ("/", &["Cookie: token=x; token=y"]),
            ("/", &["Sec-WebSocket-Protocol: bearer.x, bearer.y"]),
            (
                "/",
                &["Cookie: token=x", "Sec-WebSocket-Protocol: bearer.y"],
            ),
        ] {
            assert_eq!(
                found(target, headers, &sources),
                Err(SourceError::Several),
                "{target} {headers:?}"
            );
        }
        // Where it is not looked for, it does not matter.
        assert_eq!(
            found("/?token=y", &same, &["authorization"]),
            Ok(Some("x".into()))
        );
    }

    fn in_hello(auth: &str, headers: &[&str]) -> Result<Option<String>, SourceError> {
        let request = request("/", headers);
        let brought = Brought {
            hello: Some(auth.as_bytes()),
            request: (!headers.is_empty()).then_some(&request),
        };
        let sources = [TokenSource::Authorization, TokenSource::Hello];
        find(brought, &sources).map(|token| token.map(Cow::into_owned))
    }

    #[test]
    fn a_hello_has_a_token_by_name_or_is_one() {
        for auth in [
            "{\"token\": \"t.o-k\", \"more\": [1]}",
            "\"t.o-k\"",
            "\"t\\u002eo-k\"",
        ] {
            assert_eq!(in_hello(auth, &[]), Ok(Some("t.o-k".into())), "{auth}");
            let same = in_hello(auth, &["Authorization: Bearer t.o-k"]);
            assert_eq!(same, Ok(Some("t.o-k".into())));
            let other = in_hello(auth, &["Authorization: Bearer other"]);
            assert_eq!(other, Err(SourceError::Several));
        }
        for auth in [
            "null",
            "{}",
            "7",
            "[\"x\"]",
            "{\"Token\": \"x\"}",
            "{\"token\": null}",
            "{\"token\": \"x\", \"token\": \"y\"}",
        ] {
            assert_eq!(in_hello(auth, &[]), Err(SourceError::NotToken), "{auth}");
        }
        // Where it is not looked for, it does not matter.
        let brought = Brought {
            hello: Some(b"7"),
            request: None,
        };
        assert_eq!(find(brought, &[TokenSource::Authorization]), Ok(None));
    }

    #[test]
    fn other_authorization_is_no_guest() {
        for header in [
            "Authorization: Basic YTpi",
            "Authorization: x",
            "Authorization: ",
            "Authorization: Bearer",
        ] {
            assert_eq!(
                found("/", &[header], &["authorization"]),
                Err(SourceError::NotBearer),
                "{header}"
            );
        }
    }
}
