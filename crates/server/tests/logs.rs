//! Nothing that a client sends can forge a line of the log, or command a terminal.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::io::{Read, Write};

use support::frame;
use support::server::{Server, client, packet, raw_http};

const CONFIG: &str = r#"
services = ["echo", "chat"]
[[tcp]]
address = "127.0.0.1:0"
[[websocket]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
"#;

/// What a forged line would begin with.
const MARK: &str = "FORGED";

/// Attacks through every text of a client's that may come into the log.
fn attack(server: &Server) {
    // Topics with control characters are refused as such, each with its connection.
    for control in [
        "\r\n",
        "\n",
        "\r",
        "\x1b[2K\x1b[1A",
        "\0",
        "\u{9b}2J",
        "\x08",
    ] {
        let mut stream = client(server.listeners[0]);
        let topic = format!("echo/x{control}{MARK} level=INFO");
        stream.write_all(&frame(&topic, b"")).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    // Topics that are legal, and reach the log as what was not served; bodies that errors
    // and panics might quote.
    let mut stream = client(server.listeners[0]);
    for (i, topic) in [
        "nobody/\u{202e}x/1",
        "nobody/\u{2028}FORGED/1",
        "a/b/c/\u{2066}d",
        "\"},{\"level\":\"INFO\",\"message\":\"FORGED\"}",
        "$hello\u{202e}",
    ]
    .iter()
    .enumerate()
    {
        stream
            .write_all(&frame(topic, b"\r\nFORGED\x1b[31m"))
            .unwrap();
        let body = "{\"name\": \"a\r\nFORGED\x1b[31m\"";
        let login = format!("chat/login/{i}");
        stream.write_all(&frame(&login, body.as_bytes())).unwrap();
        stream
            .write_all(&frame("echo/after/1", b"\r\nFORGED\x1b[31m x"))
            .unwrap();
    }
    stream.write_all(&frame("echo/echo/last", b"")).unwrap();
    while packet(&mut stream).0 != "echo/echo/last" {}

    // Upgrades, and what is none.
    for path in ["/\x1b[31m", "/%0d%0aFORGED", "/\u{202e}"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\x1b[31m\r\nOrigin: \x1b]0;FORGED\x07\r\n\
             User-Agent: \x1b[31mFORGED\r\n\tFORGED\r\nUpgrade: websocket\r\n\
             Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        raw_http(server.listeners[1], &request).ok();
        raw_http(server.admin.unwrap(), &request).ok();
    }
}

/// Each line is one of ours, and none holds a control character.
fn check(log: &str) {
    for line in log.lines() {
        let bad = line.chars().find(|c| {
            c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert_eq!(bad, None, "{line:?}");
        assert!(!line.trim_start().starts_with(MARK), "{line}");
    }
}

#[test]
fn json_lines_cannot_be_forged() {
    let mut server = Server::start(CONFIG, &["--log-level", "trace"]);
    attack(&server);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let log = server.log();
    check(&log);
    let mut not_served = 0;
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string());
        assert_ne!(line["message"], MARK);
        not_served += u32::from(line["message"] == "a client's packet was not served");
    }
    assert!(not_served > 0, "the attack was seen:\n{log}");
    assert!(log.contains(r"\\u{202e}"), "escaped twice:\n{log}");
}

#[test]
fn human_lines_cannot_be_forged() {
    let mut server = Server::start_human(CONFIG, &["--log-level", "trace"]);
    attack(&server);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let log = server.log();
    check(&log);
    for line in log.lines() {
        // 2026-01-02T03:04:05.678901Z  INFO ...
        let mut words = line.split_whitespace();
        let time = words.next().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        let level = words.next().unwrap();
        assert!(
            ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level),
            "{line}"
        );
    }
    assert!(log.contains("a client's packet was not served"), "{log}");
    assert!(log.contains(r"\u{202e}"), "escaped:\n{log}");
}
