//! What a gate's address may be.

use thiserror::Error;
use tokio_tungstenite::tungstenite::http::Uri;

/// A gate's address, checked.
#[derive(Debug, Clone)]
pub(crate) struct GateUrl {
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// Whether WebSocket is spoken.
    pub(crate) websocket: bool,
    /// Name or address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The whole, for the WebSocket request.
    pub(crate) uri: Uri,
}

/// Why text is not the address of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not a URL with scheme and host.
    #[error("the address is not a URL such as ws://host:port/")]
    Malformed,
    /// A scheme that no gate speaks.
    #[error("the scheme is not one of tcp, tls, ws, wss")]
    Scheme,
    /// `tcp` and `tls` have no default port.
    #[error("a tcp or tls address needs a port")]
    NoPort,
    /// `tcp` and `tls` have no path.
    #[error("a tcp or tls address has no path")]
    Path,
    /// User name and password have no meaning here.
    #[error("an address must not contain a user name or password")]
    Credentials,
}

impl GateUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        // Schemes have no case; the WebSocket handshake knows the lower one only.
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Malformed)?;
        let uri: Uri = format!("{}://{rest}", scheme.to_ascii_lowercase())
            .parse()
            .map_err(|_| UrlError::Malformed)?;
        let (tls, websocket, default_port) = match uri.scheme_str() {
            Some("tcp") => (false, false, None),
            Some("tls") => (true, false, None),
            Some("ws") => (false, true, Some(80)),
            Some("wss") => (true, true, Some(443)),
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(UrlError::Malformed),
        };
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(UrlError::Malformed);
        }
        // A port that is no number from 0 to 65535 reads as none: do not fall back then.
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str().len() != authority.host().len() => {
                return Err(UrlError::Malformed);
            }
            None => default_port.ok_or(UrlError::NoPort)?,
        };
        if !websocket && !matches!(uri.path(), "" | "/") {
            return Err(UrlError::Path);
        }
        Ok(Self {
            tls,
            websocket,
            host: host.to_owned(),
            port,
            uri,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(bool, bool, String, u16), UrlError> {
        GateUrl::parse(text).map(|u| (u.tls, u.websocket, u.host, u.port))
    }

    #[test]
    fn addresses() {
        let ok = |tls, ws, host: &str, port| Ok((tls, ws, host.to_owned(), port));
        assert_eq!(
            parts("tcp://127.0.0.1:3653"),
            ok(false, false, "127.0.0.1", 3653)
        );
        assert_eq!(parts("tls://gate.test:1/"), ok(true, false, "gate.test", 1));
        assert_eq!(parts("ws://[::1]:3654/x?y=z"), ok(false, true, "::1", 3654));
        assert_eq!(parts("ws://h"), ok(false, true, "h", 80));
        assert_eq!(parts("wss://h/"), ok(true, true, "h", 443));
        assert_eq!(parts("WS://h/"), ok(false, true, "h", 80));
    }

    #[test]
    fn no_addresses() {
        for (text, error) in [
            ("", UrlError::Malformed),
            ("localhost:3653", UrlError::Malformed),
            ("127.0.0.1", UrlError::Malformed),
            ("ws://", UrlError::Malformed),
            ("ws://h:99999/", UrlError::Malformed),
            ("ws://h:/", UrlError::Malformed),
            ("ws://:80/", UrlError::Malformed),
            ("http://h/", UrlError::Scheme),
            ("tcp://h", UrlError::NoPort),
            ("tcp://h:1/path", UrlError::Path),
            ("ws://user:secret@h/", UrlError::Credentials),
        ] {
            assert_eq!(parts(text), Err(error), "{text:?}");
        }
    }
}
