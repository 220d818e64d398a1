//! Who is let in: path, origin, subprotocol.

// The helpers of tests may fail a test.
#![allow(clippy::unwrap_used)]

use tidegate_protocol::ws::policy::{Accept, Origins, Policy, PolicyError};
use tidegate_protocol::ws::upgrade::{UpgradeError, UpgradeLimits, UpgradeRequest, parse};

/// A good request with these lines among its own ones.
fn request_to(host: &str, target: &str, lines: &str) -> UpgradeRequest {
    let head = format!(
        "GET {target} HTTP/1.1\r\n{lines}Host: {host}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    );
    let parsed = parse(head.as_bytes(), &UpgradeLimits::default()).unwrap();
    parsed.unwrap().0
}

fn request(target: &str, lines: &str) -> UpgradeRequest {
    request_to("gate.example", target, lines)
}

#[test]
fn path_is_exact() {
    let policy = Policy {
        path: "/gate".into(),
        ..Policy::default()
    };
    for target in [
        "/",
        "/gate/",
        "/Gate",
        "/gate/../gate",
        "/%67ate",
        "/gatex",
        "//gate",
    ] {
        assert_eq!(
            policy.check(&request(target, "")),
            Err(UpgradeError::NotFound),
            "{target}"
        );
    }
    assert!(policy.check(&request("/gate", "")).is_ok());
    assert!(policy.check(&request("/gate?room=1", "")).is_ok());
}

/// Whether a page with this origin is let in, by `origins`, at this host.
fn allowed(origins: &Origins, origin: &str, host: &str) -> bool {
    let request = request_to(host, "/", &format!("Origin: {origin}\r\n"));
    let policy = Policy {
        origins: origins.clone(),
        ..Policy::default()
    };
    match policy.check(&request) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, UpgradeError::Forbidden);
            false
        }
    }
}

#[test]
fn origins_same_host() {
    let table = [
        ("https://gate.example", "gate.example", true),
        ("HTTPS://Gate.Example", "gATE.example", true),
        ("https://gate.example", "gate.example:443", true),
        ("https://gate.example:443", "gate.example", true),
        ("http://gate.example:80", "gate.example", true),
        ("http://gate.example", "gate.example:80", true),
        ("http://gate.example:8080", "gate.example:8080", true),
        ("http://[::1]:3654", "[::1]:3654", true),
        ("http://gate.example", "gate.example:443", false),
        ("http://gate.example:8080", "gate.example", false),
        ("http://gate.example:8080", "gate.example:8081", false),
        ("https://evil.example", "gate.example", false),
        ("https://gate.example.evil.example", "gate.example", false),
        ("https://evilgate.example", "gate.example", false),
        ("https://gate.example@evil.example", "gate.example", false),
        ("https://gate.example/", "gate.example", false),
        ("https://gate.example:443:1", "gate.example", false),
        ("https://gate.example:", "gate.example", false),
        ("chrome-extension://gate.example", "gate.example", false),
        ("gate.example", "gate.example", false),
        ("://gate.example", "gate.example", false),
        ("null", "null", false),
        ("null", "gate.example", false),
    ];
    for (origin, host, expected) in table {
        assert_eq!(
            allowed(&Origins::SameHost, origin, host),
            expected,
            "{origin} at {host}"
        );
        assert!(allowed(&Origins::Any, origin, host));
    }
    assert!(
        Policy::default().check(&request("/", "")).is_ok(),
        "native client"
    );
}

#[test]
fn origins_listed() {
    let list = Origins::List(vec![
        "https://App.example".into(),
        "http://localhost:8080".into(),
    ]);
    for good in [
        "https://app.example",
        "https://APP.example:443",
        "http://localhost:8080",
    ] {
        assert!(allowed(&list, good, "gate.example"), "{good}");
    }
    for bad in [
        "http://app.example",
        "https://app.example:8443",
        "http://localhost",
        "null",
        "https://gate.example",
        "https://app.example.evil",
        "https://x.app.example",
    ] {
        assert!(!allowed(&list, bad, "gate.example"), "{bad}");
    }
    assert!(allowed(
        &Origins::List(vec!["null".into()]),
        "null",
        "gate.example"
    ));
    assert!(!allowed(&Origins::List(vec![]), "null", "gate.example"));
}

#[test]
fn subprotocols() {
    let policy = Policy {
        subprotocols: vec!["tidegate.2".into(), "tidegate.1".into()],
        ..Policy::default()
    };
    let chosen = |lines: &str| {
        let accept: Accept = policy.check(&request("/", lines)).unwrap();
        let response = String::from_utf8(accept.response()).unwrap();
        assert_eq!(
            response.contains("Sec-WebSocket-Protocol"),
            accept.subprotocol().is_some()
        );
        accept.subprotocol().map(str::to_owned)
    };
    let offer = "Sec-WebSocket-Protocol: tidegate.1, tidegate.2\r\n";
    assert_eq!(chosen(offer).as_deref(), Some("tidegate.2"));
    let lines = "Sec-WebSocket-Protocol: x\r\nsec-websocket-protocol: ,tidegate.1,\r\n";
    assert_eq!(chosen(lines).as_deref(), Some("tidegate.1"));
    assert_eq!(chosen("Sec-WebSocket-Protocol: TIDEGATE.1\r\n"), None);
    assert_eq!(chosen(""), None);
}

#[test]
fn a_policy_that_can_not_work_is_told() {
    let default = Policy::default;
    assert_eq!(default().validate(), Ok(()));
    for path in ["", "gate", "/a b", "/a?b", "/a#b", "/é"] {
        let policy = Policy {
            path: path.into(),
            ..default()
        };
        assert_eq!(policy.validate(), Err(PolicyError::Path(path.into())));
    }
    let origins = |entry: &str| Policy {
        origins: Origins::List(vec![entry.into()]),
        ..default()
    };
    for entry in [
        "",
        "*",
        "app.example",
        "https://app.example/",
        "https://a:b",
    ] {
        assert_eq!(
            origins(entry).validate(),
            Err(PolicyError::Origin(entry.into()))
        );
    }
    for entry in [
        "null",
        "https://app.example",
        "http://[::1]:8080",
        "app://local",
    ] {
        assert_eq!(origins(entry).validate(), Ok(()));
    }
    let policy = Policy {
        subprotocols: vec!["a\r\nb".into()],
        ..default()
    };
    assert_eq!(
        policy.validate(),
        Err(PolicyError::Subprotocol("a\r\nb".into()))
    );
}
