//! Clients that are not ours, against the real binary: a plain Python socket, npm's `ws`,
//! Python's `websockets` and Chromium. `scripts/test` installs them.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::{Gate, OriginPage, Report, frame_hex, node_client, python_client, v1_client};

/// What both WebSocket clients must see alike.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    steps: &'static str,
    options: &'static str,
    /// What the client's report must contain.
    reports: &'static str,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo round trip",
        steps: r#"[{"send_hex": "FRAME"}, {"expect_hex": "FRAME"}, {"close": 1000}]"#,
        options: "{}",
        reports: r#""passed""#,
    },
    Scenario {
        name: "a ping is answered with its own bytes, also between packets",
        steps: r#"[{"ping": "00ff"}, {"send_hex": "FRAME"}, {"expect_hex": "FRAME"}, {"ping": "01"}]"#,
        options: "{}",
        reports: r#""00ff""#,
    },
    Scenario {
        name: "the client's close is answered with its own code",
        steps: r#"[{"close": 1000}]"#,
        options: "{}",
        reports: "1000",
    },
    Scenario {
        name: "a text message is refused",
        steps: r#"[{"send_text": "hello"}, {"expect_close": 1003}]"#,
        options: "{}",
        reports: "1003",
    },
    Scenario {
        name: "a frame shorter than its header is a protocol error",
        steps: r#"[{"send_hex": "0300"}, {"expect_close": 4500}]"#,
        options: "{}",
        reports: "4500",
    },
    Scenario {
        name: "an offer of compression is declined and the connection works without",
        steps: r#"[{"send_hex": "FRAME"}, {"expect_hex": "FRAME"}, {"close": 1000}]"#,
        options: r#"{"deflate": true}"#,
        reports: r#""extensions":"""#,
    },
];

fn check_all(client: fn(&str, &str, &str) -> Report) {
    let gate = Gate::start(&[]);
    let frame = frame_hex("echo/echo/1", b"hello");
    for scenario in SCENARIOS {
        let steps = scenario.steps.replace("FRAME", &frame);
        let report = client(&gate.ws_url, &steps, scenario.options);
        assert!(
            report.passed,
            "{}: {report}\n{}",
            scenario.name,
            gate.output()
        );
        // The two clients' JSON differs in blanks only.
        assert!(
            report.stdout.replace(' ', "").contains(scenario.reports),
            "{}: no {} in {report}",
            scenario.name,
            scenario.reports,
        );
    }
}

#[test]
fn npm_ws() {
    check_all(node_client);
}

#[test]
fn python_websockets() {
    check_all(python_client);
}

#[test]
fn plain_python_socket() {
    let gate = Gate::start(&[]);
    let report = v1_client(&gate.tcp_address());
    assert!(report.passed, "{report}\n{}", gate.output());
    assert_eq!(report.stdout, "echo/echo/1 hello\n");
}

/// A client that is not a browser sends no `Origin`, or one of its own making: the first is let
/// in, the second is held to the same policy as a browser.
#[test]
fn origin_header_of_a_native_client() {
    let gate = Gate::start(&[]);
    let foreign = node_client(
        &gate.ws_url,
        "[]",
        r#"{"origin": "http://foreign.example"}"#,
    );
    assert!(!foreign.passed, "{foreign}\n{}", gate.output());
    assert!(foreign.stdout.contains(r#""refused""#), "{foreign}");
    let native = node_client(&gate.ws_url, "[]", "{}");
    assert!(native.passed, "{native}\n{}", gate.output());
}

/// Cross-site WebSocket hijack: a page of another site opens a WebSocket with the visitor's
/// browser. By default only pages of the gate's own host may.
#[test]
fn browser_origin_default_is_same_host() {
    let mut browser = OriginPage::start();
    let gate = Gate::start(&[]);
    let answer = browser.try_to_open(&gate.ws_url);
    for origin in [
        browser.origin("friend.example"),
        browser.origin("foreign.example"),
    ] {
        assert!(
            answer.refused(&origin),
            "{origin}: {answer}\n{}",
            gate.output()
        );
    }
}

#[test]
fn browser_origin_allow_list() {
    let mut browser = OriginPage::start();
    let friend = browser.origin("friend.example");
    let foreign = browser.origin("foreign.example");
    let gate = Gate::start(&["--ws-origin", &friend]);
    let answer = browser.try_to_open(&gate.ws_url);
    assert!(answer.let_in(&friend), "{answer}\n{}", gate.output());
    assert!(answer.refused(&foreign), "{answer}\n{}", gate.output());
}

#[test]
fn sigterm_closes_clients_and_exits_with_0() {
    let gate = Gate::start(&[]);
    let mut client = TcpStream::connect(gate.tcp_address()).unwrap();
    client.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let hello = support::frame("echo/echo/1", b"hello");
    client.write_all(&hello).unwrap();
    let mut answer = vec![0; hello.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, hello);

    let (status, output) = gate.terminate();
    assert_eq!(status.code(), Some(0), "{output}");
    assert_eq!(
        client.read(&mut answer).unwrap(),
        0,
        "the gate left without closing the connection"
    );
}
