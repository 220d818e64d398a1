//! The admin interface: who is told what, under which name, and what never comes out.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::net::SocketAddr;

use support::Gate;
use support::server::{Scratch, Server, http, raw_http};

const WITHOUT_TOKEN: &str = r#"
services = ["echo"]
[[tcp]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
"#;

/// Status, head and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(at: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    let answer = raw_http(at, &(request + "\r\n")).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(
        !head.contains("access-control"),
        "no page of another origin may read: {head}"
    );
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: body.to_owned(),
    }
}

#[test]
fn health_is_for_everybody_and_the_rest_for_the_token() {
    let mut gate = Gate::start(&[]);
    let (admin, token) = gate.admin();
    let bearer = format!("Authorization: Bearer {token}");
    let status = |path, headers: &[&str]| ask(admin, "GET", path, headers).status;
    for host in ["Host: localhost", "Host: 127.0.0.1", "Host: evil.example"] {
        for path in ["/healthz", "/readyz", "/healthz?full"] {
            assert_eq!(status(path, &[host]), 200, "{path} {host}");
        }
        assert_eq!(status("/healthz", &[host, "Authorization: Bearer x"]), 200);
    }
    for path in ["/metrics", "/metrics?x=1", "/", "/nothing", "/healthz/"] {
        let refused = ask(admin, "GET", path, &["Host: localhost"]);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{path}");
        let wrong = ["Host: localhost", "Authorization: Bearer wrong"];
        assert_eq!(status(path, &wrong), 401, "{path}");
        // With the token too: a browser that was led here by name may have it.
        for host in [
            "evil.example",
            "evil.example:3656",
            "localhost.evil.example",
        ] {
            let host = format!("Host: {host}");
            assert_eq!(status(path, &[&host, &bearer]), 421, "{path} {host}");
        }
        assert_eq!(status(path, &[&bearer, "Host:"]), 421, "{path}");
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]", "192.0.2.1"] {
        let host = format!("Host: {host}");
        let answer = ask(admin, "GET", "/metrics", &[&host, &bearer]);
        assert_eq!(answer.status, 200, "{host}");
        assert!(
            answer
                .head
                .contains("content-type: text/plain; version=0.0.4")
        );
        assert!(answer.body.contains("\ntidegate_ready 1\n"));
    }
    let ours = ["Host: localhost", &bearer];
    assert_eq!(status("/metrics?match[]=x", &ours), 200);
    assert_eq!(status("/nothing", &ours), 404);
    let head = ask(admin, "HEAD", "/metrics", &ours);
    assert_eq!((head.status, &*head.body), (200, ""));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        for path in ["/metrics", "/healthz", "/nothing"] {
            let refused = ask(admin, method, path, &ours);
            assert_eq!(refused.status, 405, "{method} {path}");
            assert!(refused.head.contains("allow: get, head"), "{method} {path}");
        }
    }
}

#[test]
fn without_a_token_nobody_sees_metrics_and_the_log_says_so() {
    let server = Server::start(WITHOUT_TOKEN, &[]);
    let admin = server.admin.unwrap();
    assert_eq!(http(admin, "GET", "/healthz").unwrap().0, 200);
    for header in ["Authorization: Bearer", "Authorization: Bearer x", "X: y"] {
        let refused = ask(admin, "GET", "/metrics", &["Host: localhost", header]);
        assert_eq!(refused.status, 403);
        assert!(refused.body.contains("admin.token"), "{}", refused.body);
    }
    assert!(server.log().contains("the admin interface has no token"));
}

#[test]
fn the_configured_token_and_names_open() {
    const TOKEN: &str = "a-token-of-our-own";
    let config = |token: &str| format!("{WITHOUT_TOKEN}hosts = [\"gate.example\"]\n{token}\n");
    let files = Scratch::new();
    files.write("admin-token", &format!("{TOKEN}\n"));
    let in_file = Server::start_in(files, &config("token_file = \"admin-token\""), &[]);
    let in_place = Server::start(&config(&format!("token = \"{TOKEN}\"")), &[]);
    for server in [in_file, in_place] {
        let admin = server.admin.unwrap();
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let status = |headers: &[&str]| ask(admin, "GET", "/metrics", headers).status;
        assert_eq!(status(&["Host: gate.example:3656", &bearer]), 200);
        assert_eq!(status(&["Host: other.example", &bearer]), 421);
        let wrong = "Authorization: Bearer another-token-of-ours";
        assert_eq!(status(&["Host: gate.example", wrong]), 401);
        assert!(!server.log().contains(TOKEN));
        assert!(!server.log().contains("has no token"));
    }
}

#[test]
fn the_token_is_printed_once_and_never_logged() {
    const CANARY: &str = "canary-6f1d2c";
    let mut gate = Gate::start(&["--log-level", "trace", "--log-format", "json"]);
    let (admin, token) = gate.admin();
    for value in [
        format!("Bearer {token}"),
        format!("Bearer {token}x"),
        format!("Basic {token}"),
        format!("Bearer {CANARY}"),
        format!("{CANARY} {CANARY}"),
    ] {
        for path in ["/metrics", "/healthz"] {
            let header = format!("Authorization: {value}");
            let answer = ask(admin, "GET", path, &["Host: localhost", &header]);
            assert!(!answer.body.contains(&token) && !answer.head.contains(&token));
        }
        let evil = format!("Authorization: {value}");
        ask(admin, "GET", "/metrics", &["Host: evil.example", &evil]);
        ask(
            admin,
            "GET",
            &format!("/metrics?token={token}"),
            &["Host: localhost"],
        );
    }
    let (_, output) = gate.terminate();
    assert!(output.contains("a request to the admin interface was refused"));
    assert_eq!(output.matches(&token).count(), 1, "{output}");
    assert!(!output.contains(CANARY), "{output}");
}

#[test]
fn each_run_of_the_demo_has_its_own_token() {
    let (mut one, mut two) = (Gate::start(&[]), Gate::start(&[]));
    let ((_, one_token), (at_two, _)) = (one.admin(), two.admin());
    assert!(one_token.len() >= 32);
    let bearer = format!("Authorization: Bearer {one_token}");
    let answer = ask(at_two, "GET", "/metrics", &["Host: localhost", &bearer]);
    assert_eq!(answer.status, 401);
}
