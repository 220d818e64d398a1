//! The HTTP/1.1 upgrade request (RFC 6455 section 4.2.1), read strictly and bounded.
//!
//! Whatever two readers could understand differently is refused (bare line feeds, folded
//! lines, repeated headers, any body), so that no proxy in front can be made to disagree with
//! the gate about where this request ends.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// The most header lines a request may have.
pub const MAX_HEADERS: usize = 64;

/// Headers that mean something to the upgrade and may come once only.
const SINGLE: [&str; 5] = [
    "host",
    "sec-websocket-key",
    "sec-websocket-version",
    "origin",
    "content-length",
];

/// How much an upgrade request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeLimits {
    /// The longest request head, request line and closing empty line included, in bytes.
    pub max_head: usize,
}

impl Default for UpgradeLimits {
    /// 8,192 bytes.
    fn default() -> Self {
        Self { max_head: 8192 }
    }
}

/// A request that asks for a WebSocket and is well formed; whether it is let in is for
/// [`Policy::check`](super::policy::Policy::check) and the application to say.
///
/// `Debug` leaves out the query, the subprotocols and all header values: they carry cookies
/// and tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    path: String,
    query: Option<String>,
    host: String,
    origin: Option<String>,
    subprotocols: Vec<String>,
    key: String,
    headers: Vec<(String, Vec<u8>)>,
}

impl UpgradeRequest {
    /// The path as sent, not percent-decoded: visible ASCII that begins with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the first `?` of the target, as sent.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The `Host` header: a name or address, with a port if one was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The `Origin` header; browsers send it, native clients do not.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The subprotocols offered, in the client's order of preference.
    pub fn subprotocols(&self) -> &[String] {
        &self.subprotocols
    }

    /// The `Sec-WebSocket-Key` header: 16 bytes in base64.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value of the first header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All headers, names as sent, values without surrounding blanks, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("UpgradeRequest")
            .field("path", &self.path)
            .field("host", &self.host)
            .field("origin", &self.origin)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// Why a request gets no WebSocket. The text never repeats anything the client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// Longer than [`UpgradeLimits::max_head`].
    #[error("the request head is too long")]
    HeadTooLong,
    /// More header lines than [`MAX_HEADERS`].
    #[error("the request has too many headers")]
    TooManyHeaders,
    /// A line does not end in CR LF.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// A control character.
    #[error("the request head contains a control character")]
    ControlCharacter,
    /// Not HTTP, or broken in a way that needs no name of its own.
    #[error("the request is malformed")]
    Malformed,
    /// A version of HTTP that is not 1.1.
    #[error("the HTTP version must be 1.1")]
    HttpVersion,
    /// A method that is not GET.
    #[error("the method must be GET")]
    Method,
    /// A target that is not an absolute path, or has characters no URL has.
    #[error("the request target must be a path")]
    Target,
    /// A header that may come once only came twice; its name.
    #[error("the header {0} is repeated")]
    RepeatedHeader(&'static str),
    /// The request has, or may have, a body.
    #[error("an upgrade request must not have a body")]
    Body,
    /// `Host` is missing, or is not a host with an optional port.
    #[error("the header host is missing or malformed")]
    Host,
    /// `Origin` is not visible ASCII.
    #[error("the header origin is malformed")]
    Origin,
    /// `Upgrade` does not name `websocket`: an ordinary HTTP request.
    #[error("this address speaks WebSocket only")]
    NotWebSocket,
    /// `Connection` does not name `upgrade`.
    #[error("the header connection must name upgrade")]
    Connection,
    /// `Sec-WebSocket-Version` is not 13.
    #[error("the WebSocket version must be 13")]
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64.
    #[error("the header sec-websocket-key is missing or malformed")]
    Key,
    /// `Sec-WebSocket-Protocol` is not a list of tokens.
    #[error("the header sec-websocket-protocol is malformed")]
    Subprotocol,
    /// The path is not the listener's.
    #[error("no such path")]
    NotFound,
    /// The origin is not allowed here.
    #[error("the origin is not allowed")]
    Forbidden,
}

impl UpgradeError {
    /// The HTTP status of [`response`](Self::response): 400, 403, 404, 405, 426 or 431.
    pub fn status(&self) -> u16 {
        match self {
            UpgradeError::HeadTooLong | UpgradeError::TooManyHeaders => 431,
            UpgradeError::Method => 405,
            UpgradeError::NotWebSocket | UpgradeError::WebSocketVersion => 426,
            UpgradeError::NotFound => 404,
            UpgradeError::Forbidden => 403,
            UpgradeError::LineEnd
            | UpgradeError::ControlCharacter
            | UpgradeError::Malformed
            | UpgradeError::HttpVersion
            | UpgradeError::Target
            | UpgradeError::RepeatedHeader(_)
            | UpgradeError::Body
            | UpgradeError::Host
            | UpgradeError::Origin
            | UpgradeError::Connection
            | UpgradeError::Key
            | UpgradeError::Subprotocol => 400,
        }
    }

    /// The whole HTTP response, after which the connection is closed.
    pub fn response(&self) -> Vec<u8> {
        let (status, headers) = match self.status() {
            403 => ("403 Forbidden", "Connection: close\r\n"),
            404 => ("404 Not Found", "Connection: close\r\n"),
            405 => (
                "405 Method Not Allowed",
                "Allow: GET\r\nConnection: close\r\n",
            ),
            // RFC 9110 section 15.5.22 wants Upgrade, RFC 6455 section 4.4 the version.
            426 => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade, close\r\n",
            ),
            431 => (
                "431 Request Header Fields Too Large",
                "Connection: close\r\n",
            ),
            _ => ("400 Bad Request", "Connection: close\r\n"),
        };
        let body = format!("{self}\n");
        format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// Parses the request at the front of `buf`. `None`: it has not ended yet, call again with
/// all of it and more. Otherwise the request and the length of its head in bytes; what follows
/// the head is for the [`Decoder`](super::Decoder).
///
/// # Errors
/// The first thing wrong. What can be known of an unfinished head (too long, a control
/// character, a bare line feed) is told at once.
pub fn parse(
    buf: &[u8],
    limits: &UpgradeLimits,
) -> Result<Option<(UpgradeRequest, usize)>, UpgradeError> {
    let Some(end) = find_end(&buf[..buf.len().min(limits.max_head)])? else {
        return match buf.len() < limits.max_head {
            true => Ok(None),
            false => Err(UpgradeError::HeadTooLong),
        };
    };
    let head = &buf[..end];
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == end => {}
        Ok(_) => return Err(UpgradeError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(UpgradeError::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(UpgradeError::HttpVersion),
        Err(_) => return Err(UpgradeError::Malformed),
    }
    if request.method != Some("GET") {
        return Err(UpgradeError::Method);
    }
    if request.version != Some(1) {
        return Err(UpgradeError::HttpVersion);
    }
    let target = request.path.unwrap_or_default();
    if !target.starts_with('/') || !is_visible(target.as_bytes()) || target.contains('#') {
        return Err(UpgradeError::Target);
    }
    let request = read_headers(target, request.headers)?;
    Ok(Some((request, end)))
}

/// The length of the head that begins `bytes`, if its empty line is there.
fn find_end(bytes: &[u8]) -> Result<Option<usize>, UpgradeError> {
    let mut line_start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let after_cr = at > 0 && bytes[at - 1] == b'\r';
        match byte {
            b'\n' if !after_cr => return Err(UpgradeError::LineEnd),
            b'\n' if at == line_start + 1 => {
                // Not even a request line: some servers skip empty lines here, some do not.
                return match line_start {
                    0 => Err(UpgradeError::Malformed),
                    _ => Ok(Some(at + 1)),
                };
            }
            b'\n' => line_start = at + 1,
            _ if after_cr => return Err(UpgradeError::LineEnd),
            b'\r' | b'\t' => {}
            0..=0x1F | 0x7F => return Err(UpgradeError::ControlCharacter),
            _ => {}
        }
    }
    Ok(None)
}

fn read_headers(
    target: &str,
    headers: &[httparse::Header<'_>],
) -> Result<UpgradeRequest, UpgradeError> {
    for name in SINGLE {
        if values(headers, name).count() > 1 {
            return Err(UpgradeError::RepeatedHeader(name));
        }
    }
    let single = |name| values(headers, name).next();

    // httparse takes an obsolete line fold for an error, so every line here is a header.
    if single("transfer-encoding").is_some() || single("content-length").is_some_and(|v| v != b"0")
    {
        return Err(UpgradeError::Body);
    }
    let host = single("host")
        .and_then(visible_text)
        .ok_or(UpgradeError::Host)?;
    if !is_host(&host) {
        return Err(UpgradeError::Host);
    }
    let origin = match single("origin") {
        None => None,
        Some(value) => Some(visible_text(value).ok_or(UpgradeError::Origin)?),
    };
    if !list(headers, "upgrade").any(|token| token.eq_ignore_ascii_case(b"websocket")) {
        return Err(UpgradeError::NotWebSocket);
    }
    if !list(headers, "connection").any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
        return Err(UpgradeError::Connection);
    }
    if single("sec-websocket-version") != Some(b"13") {
        return Err(UpgradeError::WebSocketVersion);
    }
    let key = single("sec-websocket-key")
        .and_then(visible_text)
        .ok_or(UpgradeError::Key)?;
    if STANDARD
        .decode(&key)
        .map_or(true, |bytes| bytes.len() != 16)
    {
        return Err(UpgradeError::Key);
    }
    let subprotocols = list(headers, "sec-websocket-protocol")
        .filter(|token| !token.is_empty())
        .map(|token| match is_token(token) {
            true => visible_text(token).ok_or(UpgradeError::Subprotocol),
            false => Err(UpgradeError::Subprotocol),
        })
        .collect::<Result<_, _>>()?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    Ok(UpgradeRequest {
        path: path.to_owned(),
        query,
        host,
        origin,
        subprotocols,
        key,
        headers: headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.to_vec()))
            .collect(),
    })
}

fn values<'a>(headers: &'a [httparse::Header<'_>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// The elements of a comma-separated header, over all its lines (RFC 9110 section 5.6.1).
fn list<'a>(headers: &'a [httparse::Header<'_>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// A token of RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

fn is_visible(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic)
}

fn visible_text(bytes: &[u8]) -> Option<String> {
    is_visible(bytes).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// A name, IPv4 or bracketed IPv6 address, and perhaps a port (RFC 9110 section 7.2).
fn is_host(host: &str) -> bool {
    super::policy::split_port(host).is_some_and(|(name, _)| {
        let name = match name.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').unwrap_or_default(),
            None => name,
        };
        let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._~%:".contains(&b);
        !name.is_empty() && name.bytes().all(is_host_byte)
    })
}
