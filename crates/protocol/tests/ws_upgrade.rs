//! The upgrade request: RFC 6455's own example, a raw corpus of what must be refused
//! (smuggling, header bombs).

// The helpers of tests may fail a test.
#![allow(clippy::unwrap_used)]

use tidegate_protocol::ws::policy::{Origins, Policy};
use tidegate_protocol::ws::upgrade::{UpgradeError, UpgradeLimits, UpgradeRequest, parse};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn read(head: &str) -> Result<Option<(UpgradeRequest, usize)>, UpgradeError> {
    parse(head.as_bytes(), &UpgradeLimits::default())
}

/// A good request with these lines put before its own ones.
fn with(target: &str, lines: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\n{lines}Host: gate.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

fn request(target: &str, lines: &str) -> UpgradeRequest {
    read(&with(target, lines)).unwrap().unwrap().0
}

/// A good request with `from` replaced, which must be there.
fn changed(from: &str, to: &str) -> String {
    let good = with("/", "");
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1)
}

#[test]
fn the_example_of_rfc_section_1_3() {
    let head = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    let (request, used) = read(head).unwrap().unwrap();
    assert_eq!(used, head.len());
    assert_eq!((request.path(), request.query()), ("/chat", None));
    assert_eq!(request.host(), "server.example.com");
    assert_eq!(request.origin(), Some("http://example.com"));
    assert_eq!(request.subprotocols(), ["chat", "superchat"]);
    let policy = Policy {
        path: "/chat".into(),
        origins: Origins::List(vec!["http://example.com".into()]),
        subprotocols: vec!["chat".into()],
    };
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
        Sec-WebSocket-Protocol: chat\r\n\r\n";
    let accept = policy.check(&request).unwrap();
    assert_eq!(String::from_utf8(accept.response()).unwrap(), expected);
}

#[test]
fn what_real_clients_send_is_accepted() {
    let cases = [
        // Firefox: a list in Connection, an extension offer.
        changed("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        changed(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        ),
        changed("Upgrade: websocket", "upgrade: WebSocket"),
        changed(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade",
        ),
        changed("Host: gate.example", "host:gate.example:3654"),
        changed("Host: gate.example", "Host: [::1]:3654"),
        changed(
            "Host: gate.example",
            "Content-Length: 0\r\nHost: gate.example",
        ),
        changed(
            "\r\n\r\n",
            "\r\nX-Any: caf\u{e9}\r\nX-Empty:\r\nX-Tab: a\tb\r\n\r\n",
        ),
        changed("Version: 13", "Version:   13  "),
    ];
    for head in cases {
        let (request, used) = read(&head).expect(&head).expect(&head);
        assert_eq!(used, head.len());
        assert!(
            !String::from_utf8_lossy(&Policy::default().check(&request).unwrap().response())
                .contains("Extensions")
        );
    }
}

#[test]
fn corpus_of_bad_requests() {
    use UpgradeError as E;
    let many = "X: y\r\n".repeat(60);
    let cases: Vec<(String, E)> = vec![
        // Methods, versions, targets.
        (changed("GET", "POST"), E::Method),
        (changed("GET", "get"), E::Method),
        (changed("GET", "HEAD"), E::Method),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), E::HttpVersion),
        (changed("HTTP/1.1", "HTTP/1.0"), E::HttpVersion),
        (changed("HTTP/1.1", "HTTP/2.0"), E::HttpVersion),
        (changed("HTTP/1.1", "HTTP/1.10"), E::Malformed),
        (changed(" HTTP/1.1", ""), E::Malformed),
        (changed("GET / ", "GET  / "), E::Malformed),
        (with("http://gate.example/", ""), E::Target),
        (with("//gate.example\u{e9}/", ""), E::Target),
        (with("*", ""), E::Target),
        (with("gate.example:80", ""), E::Target),
        (with("/#fragment", ""), E::Target),
        // Line ends, folds, blanks, control characters.
        (with("/", "").replace("\r\n", "\n"), E::LineEnd),
        (
            changed("Upgrade: websocket\r\n", "Upgrade: websocket\n"),
            E::LineEnd,
        ),
        (
            changed("Upgrade: websocket", "X: a\rb\r\nUpgrade: websocket"),
            E::LineEnd,
        ),
        (changed("\r\n\r\n", "\r\n\n"), E::LineEnd),
        (changed("\r\n\r\n", "\r\r\n\r\n"), E::LineEnd),
        (format!("\r\n{}", with("/", "")), E::Malformed),
        (with("/", "X: a\r\n b\r\n"), E::Malformed),
        (with("/", " X: a\r\n"), E::Malformed),
        (with("/", "X : a\r\n"), E::Malformed),
        (with("/", "X\r\n"), E::Malformed),
        (with("/", ": a\r\n"), E::Malformed),
        (with("/", "X\u{e9}: a\r\n"), E::Malformed),
        (with("/", "X: a\0b\r\n"), E::ControlCharacter),
        (with("/", "X: a\x1bb\r\n"), E::ControlCharacter),
        (with("/", "X: a\x7f\r\n"), E::ControlCharacter),
        (with("/\0", ""), E::ControlCharacter),
        ("\x16\x03\x01\x02\0\x01\0".into(), E::ControlCharacter),
        // Repeated headers.
        (
            with("/", "Host: gate.example\r\n"),
            E::RepeatedHeader("host"),
        ),
        (with("/", "hOST: other\r\n"), E::RepeatedHeader("host")),
        (
            with("/", "Origin: a\r\norigin: b\r\n"),
            E::RepeatedHeader("origin"),
        ),
        (
            with("/", &format!("Sec-WebSocket-Key: {KEY}\r\n")),
            E::RepeatedHeader("sec-websocket-key"),
        ),
        (
            with("/", "Sec-WebSocket-Version: 13\r\n"),
            E::RepeatedHeader("sec-websocket-version"),
        ),
        (
            with("/", "Content-Length: 0\r\nContent-Length: 0\r\n"),
            E::RepeatedHeader("content-length"),
        ),
        // Bodies, and what two readers would understand differently.
        (with("/", "Content-Length: 5\r\n"), E::Body),
        (with("/", "Content-Length: +0\r\n"), E::Body),
        (with("/", "Content-Length: 0, 5\r\n"), E::Body),
        (with("/", "Content-Length:\r\n"), E::Body),
        (with("/", "Transfer-Encoding: chunked\r\n"), E::Body),
        (
            with("/", "Transfer-Encoding: identity\r\nContent-Length: 0\r\n"),
            E::Body,
        ),
        (with("/", "Transfer-Encoding : chunked\r\n"), E::Malformed),
        // Missing or wrong.
        (changed("Host: gate.example\r\n", ""), E::Host),
        (changed("gate.example", ""), E::Host),
        (changed("gate.example", "gate.example/path"), E::Host),
        (changed("gate.example", "user@gate.example"), E::Host),
        (changed("gate.example", "gate.example:99999"), E::Host),
        (changed("gate.example", "a, b"), E::Host),
        (changed("gate.example", "[::1"), E::Host),
        (with("/", "Origin: caf\u{e9}\r\n"), E::Origin),
        (with("/", "Origin:\r\n"), E::Origin),
        (changed("Upgrade: websocket\r\n", ""), E::NotWebSocket),
        (changed("websocket", "h2c"), E::NotWebSocket),
        (changed("websocket", "websocketx"), E::NotWebSocket),
        (
            changed("Connection: Upgrade", "Connection: close"),
            E::Connection,
        ),
        (changed("Connection: Upgrade", "X: y"), E::Connection),
        (changed("Version: 13", "Version: 8"), E::WebSocketVersion),
        (
            changed("Version: 13", "Version: 13, 8"),
            E::WebSocketVersion,
        ),
        (
            changed("Sec-WebSocket-Version: 13\r\n", ""),
            E::WebSocketVersion,
        ),
        (
            changed(&format!("Sec-WebSocket-Key: {KEY}\r\n"), ""),
            E::Key,
        ),
        (changed(KEY, ""), E::Key),
        (changed(KEY, "dG9vIHNob3J0"), E::Key),
        (changed(KEY, "dGhlIHNhbXBsZSBub25jZQ"), E::Key),
        (changed(KEY, "!!!!IHNhbXBsZSBub25jZQ=="), E::Key),
        (changed(KEY, "dGhlIHNhbXBsZSBub25jZSB0b28gbG9uZw=="), E::Key),
        (with("/", "Sec-WebSocket-Protocol: a b\r\n"), E::Subprotocol),
        (
            with("/", "Sec-WebSocket-Protocol: a, \"b\"\r\n"),
            E::Subprotocol,
        ),
        // Bombs.
        (with("/", &many), E::TooManyHeaders),
        (
            with("/", &format!("X: {}\r\n", "y".repeat(8192))),
            E::HeadTooLong,
        ),
        (with(&format!("/{}", "y".repeat(8192)), ""), E::HeadTooLong),
        ("G".repeat(8192), E::HeadTooLong),
    ];
    for (head, error) in cases {
        assert_eq!(read(&head), Err(error), "{head:?}");
        // Byte by byte: never accepted, and refused in the end.
        let found = (1..=head.len())
            .find_map(|len| read(&head[..head.floor_char_boundary(len)]).transpose());
        assert!(matches!(found, Some(Err(_))), "{head:?}: {found:?}");
        let response = String::from_utf8(error.response()).unwrap();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {} ", error.status())),
            "{response}"
        );
        assert!(
            response.ends_with(&format!("\r\n\r\n{error}\n")),
            "{response}"
        );
    }
}

#[test]
fn limits_are_exact() {
    let base = with("/", &"X: y\r\n".repeat(59));
    assert!(read(&base).unwrap().is_some(), "64 headers");
    let exact = UpgradeLimits {
        max_head: base.len(),
    };
    let short = UpgradeLimits {
        max_head: base.len() - 1,
    };
    assert!(parse(base.as_bytes(), &exact).unwrap().is_some());
    assert_eq!(
        parse(base.as_bytes(), &short),
        Err(UpgradeError::HeadTooLong)
    );
    // Frames that follow at once are neither judged nor counted.
    let followed = [base.as_bytes(), &[0x82, 0x80, 0, 0, 0, 0, b'\n']].concat();
    let (_, used) = parse(&followed, &exact).unwrap().unwrap();
    assert_eq!(used, base.len());
    // Incomplete at every point but the last.
    for len in 0..base.len() {
        assert_eq!(parse(&base.as_bytes()[..len], &exact), Ok(None));
    }
}

#[test]
fn responses() {
    let text = |error: UpgradeError| String::from_utf8(error.response()).unwrap();
    assert_eq!(
        text(UpgradeError::NotFound),
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nno such path\n"
    );
    assert!(text(UpgradeError::WebSocketVersion).contains("\r\nSec-WebSocket-Version: 13\r\n"));
    assert!(text(UpgradeError::NotWebSocket).contains("\r\nUpgrade: websocket\r\n"));
    assert!(text(UpgradeError::Method).contains("\r\nAllow: GET\r\n"));
    let statuses = [
        (UpgradeError::Method, 405),
        (UpgradeError::Forbidden, 403),
        (UpgradeError::WebSocketVersion, 426),
        (UpgradeError::TooManyHeaders, 431),
        (UpgradeError::Body, 400),
    ];
    for (error, status) in statuses {
        assert_eq!(error.status(), status);
        assert!(text(error).contains("close\r\n"));
    }
}

#[test]
fn the_request_shows_what_an_authentication_needs_and_no_secret_is_debugged() {
    let lines = "Cookie: a=canary\r\nAuthorization: Bearer canary\r\ncookie: b=2\r\n";
    let mut request = request("/?token=canary&x=?y", lines);
    assert_eq!(
        (request.path(), request.query()),
        ("/", Some("token=canary&x=?y"))
    );
    assert_eq!(request.header("COOKIE"), Some(&b"a=canary"[..]));
    assert_eq!(request.header("authorization"), Some(&b"Bearer canary"[..]));
    assert_eq!(request.header("none"), None);
    assert_eq!(
        request
            .headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
            .count(),
        2
    );
    assert_eq!(request.key(), KEY);
    assert!(!format!("{request:?}").contains("canary"));
    request = request.clone();
    assert!(Policy::default().check(&request).is_ok());
}
