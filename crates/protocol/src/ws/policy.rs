//! Which upgrade requests are let in, and the answer to those (RFC 6455 section 4.2.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use thiserror::Error;

use super::upgrade::{UpgradeError, UpgradeRequest, is_token};

/// Appended to the client's key before hashing (RFC 6455 section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a listener demands of an upgrade request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The one path that exists here, compared byte by byte; all others get 404.
    pub path: String,
    /// The pages that may connect; others get 403.
    pub origins: Origins,
    /// The subprotocols spoken here, most preferred first. A client that offers none of them
    /// is let in without one (it may then close: RFC 6455 section 4.1).
    pub subprotocols: Vec<String>,
}

impl Default for Policy {
    /// Path `/`, same host, no subprotocol.
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            origins: Origins::default(),
            subprotocols: Vec::new(),
        }
    }
}

/// The pages, by their `Origin` header, that may connect. A browser lets any page open a
/// WebSocket to any host and sends the user's cookies along (cross-site WebSocket hijacking);
/// this check is what stops it. Native clients send no `Origin` and are let in always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// `http` and `https` origins whose host and port are those of the `Host` header. The
    /// header gives no port if it is the default one, so it is taken as the default port of
    /// the origin's scheme.
    #[default]
    SameHost,
    /// All origins, `null` included. For services that trust nothing a browser adds by itself.
    Any,
    /// These origins, such as `https://example.com` or `http://localhost:8080`. Scheme and
    /// host are compared without case, default ports may be left out. `null`, which sandboxed
    /// pages and local files send, is allowed if it is listed.
    List(Vec<String>),
}

/// Why a [`Policy`] can never do what it says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The path does not begin with `/`, or has a query or characters no path has.
    #[error("not a path: {0:?}")]
    Path(String),
    /// Not an origin: `scheme://host` or `scheme://host:port`, or `null`.
    #[error("not an origin: {0:?}")]
    Origin(String),
    /// Not a token of RFC 9110.
    #[error("not a subprotocol name: {0:?}")]
    Subprotocol(String),
}

impl Policy {
    /// Checks the policy itself, to be done once when it is configured.
    ///
    /// # Errors
    /// The first entry that could never match a request.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let is_path = self.path.starts_with('/')
            && self
                .path
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"?#".contains(&b));
        if !is_path {
            return Err(PolicyError::Path(self.path.clone()));
        }
        if let Origins::List(list) = &self.origins
            && let Some(bad) = list.iter().find(|entry| !is_origin_entry(entry))
        {
            return Err(PolicyError::Origin(bad.clone()));
        }
        match self
            .subprotocols
            .iter()
            .find(|name| !is_token(name.as_bytes()))
        {
            Some(bad) => Err(PolicyError::Subprotocol(bad.clone())),
            None => Ok(()),
        }
    }

    /// Judges one request.
    ///
    /// # Errors
    /// [`UpgradeError::NotFound`] for another path, [`UpgradeError::Forbidden`] for an origin
    /// that is not allowed.
    pub fn check(&self, request: &UpgradeRequest) -> Result<Accept, UpgradeError> {
        if request.path() != self.path {
            return Err(UpgradeError::NotFound);
        }
        if let Some(origin) = request.origin()
            && !self.origins.allow(origin, request.host())
        {
            return Err(UpgradeError::Forbidden);
        }
        let offered = request.subprotocols();
        let subprotocol = self.subprotocols.iter().find(|name| offered.contains(name));
        let hash = Sha1::new()
            .chain_update(request.key())
            .chain_update(ACCEPT_GUID)
            .finalize();
        Ok(Accept {
            key: STANDARD.encode(hash),
            subprotocol: subprotocol.cloned(),
        })
    }
}

impl Origins {
    fn allow(&self, origin: &str, host: &str) -> bool {
        match self {
            Origins::Any => true,
            Origins::SameHost => Origin::parse(origin).is_some_and(|origin| origin.is_at(host)),
            Origins::List(list) if origin == "null" => list.iter().any(|entry| entry == "null"),
            Origins::List(list) => Origin::parse(origin).is_some_and(|origin| {
                list.iter()
                    .filter_map(|entry| Origin::parse(entry))
                    .any(|entry| entry == origin)
            }),
        }
    }
}

/// The answer to a request that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    key: String,
    subprotocol: Option<String>,
}

impl Accept {
    /// The subprotocol agreed on, to be spoken from now on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The whole 101 response. Extensions that were offered are declined by not being named
    /// (RFC 6455 section 9.1).
    pub fn response(&self) -> Vec<u8> {
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            self.key
        );
        if let Some(name) = &self.subprotocol {
            response.push_str("Sec-WebSocket-Protocol: ");
            response.push_str(name);
            response.push_str("\r\n");
        }
        response.push_str("\r\n");
        response.into_bytes()
    }
}

/// A serialized origin (RFC 6454 section 6.1), ready to be compared.
#[derive(PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority)?;
        if host.is_empty() || scheme.is_empty() || host.contains(['/', '@', '?', '#']) {
            return None;
        }
        let port = port.or(match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        });
        Some(Self {
            host: host.to_ascii_lowercase(),
            scheme,
            port,
        })
    }

    /// Whether this page was served, by its own account, from `host`.
    fn is_at(&self, host: &str) -> bool {
        let default = match self.scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        split_port(host).is_some_and(|(name, port)| {
            self.host.eq_ignore_ascii_case(name) && self.port == Some(port.unwrap_or(default))
        })
    }
}

fn is_origin_entry(entry: &str) -> bool {
    entry == "null" || entry.is_ascii() && Origin::parse(entry).is_some()
}

/// Splits `host[:port]`. An IPv6 address keeps its brackets, and without them has no port.
/// `None` if the port is not a decimal number up to 65535 or there is more than one colon.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let colon_from = match authority.starts_with('[') {
        true => authority.find(']')? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(colon_from);
    if port.is_empty() {
        return Some((host, None));
    }
    let port = port.strip_prefix(':')?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host, Some(port.parse().ok()?)))
}
