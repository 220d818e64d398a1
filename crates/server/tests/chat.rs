//! The demo as someone uses it: what it prints works, and two people chat.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::process::Command;

use support::Gate;
use support::person::Person;
use support::server::{http, raw_http, signal};

#[test]
fn two_people_chat_over_tcp_and_websocket() {
    let gate = Gate::start(&[]);
    let mut ada = Person::connect(&gate.tcp_url, &[]);
    ada.types("chat/login ada");
    ada.sees_line(&["chat/login", "\"room\": \"lobby\"", "\"online\": [\"ada\"]"]);
    let mut bob = Person::connect(&gate.ws_url, &[]);
    bob.types("chat/login {\"name\": \"bob\"}");
    bob.sees_line(&["chat/login", "[\"ada\", \"bob\"]"]);
    ada.sees_line(&["chat/joined", "bob"]);
    bob.types("chat/say hello, ada");
    ada.sees_line(&["chat/said", "\"from\": \"bob\"", "\"text\": \"hello, ada\""]);
    ada.types("chat/tell bob only you");
    bob.sees_line(&["chat/told", "\"from\": \"ada\"", "\"text\": \"only you\""]);
    ada.types("chat/join tea");
    bob.sees_line(&["chat/left", "ada"]);
    bob.types("chat/rooms");
    bob.sees_line(&["chat/rooms", "\"owner\": \"ada\""]);
    ada.types("chat/leave");
    ada.sees_line(&["chat/leave", "lobby"]);
    assert_eq!(ada.leaves().0, Some(0));
    bob.sees_line(&["chat/left", "ada"]);
    assert_eq!(bob.leaves().0, Some(0));
}

/// Every line that the demo offers to paste can be pasted.
#[test]
fn what_the_demo_prints_works() {
    let mut gate = Gate::start(&[]);
    let printed = gate.printed_until("python3 ");
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    let connect = lines.iter().filter(|line| line.contains(" connect "));
    let connect: Vec<_> = connect.collect();
    assert_eq!(connect.len(), 2, "{printed}");
    for line in connect {
        let line = format!("{line} -e 'echo/echo hello'");
        assert!(shell(&line).contains("hello"), "{line}");
    }
    let python = lines
        .iter()
        .find(|line| line.starts_with("python3 "))
        .unwrap();
    assert!(shell(python).contains("echo/echo/1hello"), "{python}");
}

#[test]
fn the_page_and_its_counts() {
    let mut gate = Gate::start(&[]);
    let printed = gate.printed_until("/readyz");
    let mut urls = printed
        .split_whitespace()
        .filter_map(|w| w.strip_prefix("http://"));
    let page = urls.next().unwrap().trim_end_matches('/').parse().unwrap();
    let (status, html) = http(page, "GET", "/gate").unwrap();
    assert_eq!(status, 200);
    assert!(
        html.contains(&gate.tcp_url) && html.contains(&gate.ws_url),
        "{html}"
    );
    assert!(!html.contains("{{"), "{html}");
    // Threat row 46: nothing that is written into the page can run.
    let answer = raw_http(
        page,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    let answer = answer.unwrap();
    let policy = answer
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "));
    let policy = policy.unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let port = gate
        .ws_url
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap();
    assert!(policy.contains(&format!(
        "connect-src 'self' ws://127.0.0.1:{port} ws://localhost:{port};"
    )));
    let (_, html) = http(page, "GET", "/").unwrap();
    assert!(html.contains(&format!("data-port=\"{port}\"")), "{html}");
    assert!(!html.contains("{{"), "{html}");
    for path in ["/chat/app.js", "/chat/chat.css", "/client/index.js"] {
        assert_eq!(http(page, "GET", path).unwrap().0, 200, "{path}");
    }
    assert_eq!(http(page, "GET", "/nothing").unwrap().0, 404);
    let mut ada = Person::connect(&gate.tcp_url, &[]);
    ada.types("chat/login ada");
    ada.sees_line(&["lobby"]);
    let (_, status) = http(page, "GET", "/status.json").unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["connections"], &status["sessions"]),
        (&1.into(), &1.into())
    );
    assert_eq!(status["ready"], true);
    signal(&ada.child, "TERM");
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
