//! Threat row 41, of a gate that runs: what clients and the configuration hold in confidence
//! is in no line of the log.

use std::fs;

use rcgen::{CertificateParams, KeyPair};

use crate::support::server::{Scratch, Server, raw_http};
use crate::{connect, token};

const CONFIG: &str = r#"
services = ["auth", "echo"]
[[tcp]]
address = "127.0.0.1:0"
v1_error_topic = "error"
[[tcp]]
address = "127.0.0.1:0"
cipher = "aes-ecb"
encryption_key = "canary of the old clients"
[[tcp]]
address = "127.0.0.1:0"
tls = { cert = "gate.pem", key = "gate.key" }
[[websocket]]
address = "127.0.0.1:0"
[auth]
guests = true
[auth.jwt]
secret = "canary of the tokens, of at least 32 bytes"
sources = ["authorization", "query:token", "cookie:id", "subprotocol"]
[admin]
address = "127.0.0.1:0"
token = "canary of the admin"
"#;

#[test]
fn a_gate_that_runs_logs_no_secret() {
    let files = Scratch::new();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["localhost".to_owned()]).unwrap();
    files.write("gate.pem", &cert.self_signed(&key).unwrap().pem());
    files.write("gate.key", &key.serialize_pem());
    let mut server = Server::start_in(files, CONFIG, &["--log-level", "trace"]);
    let good = token(&server, "ada", &[]);
    let bad = format!("{good}AAAA");
    let [tcp, cipher, _, ws] = server.listeners[..] else {
        panic!("{:?}", server.listeners)
    };
    let tcp = format!("tcp://{tcp}");
    let ws = format!("ws://{ws}/");
    let echo = "echo/echo hi";
    let mut refused = 0;
    for (token, is_good) in [(&good, true), (&bad, false)] {
        for (url, arguments) in [
            (&tcp, vec!["-e".to_owned(), format!("auth/login {token}")]),
            (
                &ws,
                vec!["-e".into(), echo.into(), "--token".into(), token.clone()],
            ),
            (
                &format!("{ws}?token={token}"),
                vec!["-e".into(), echo.into()],
            ),
            (
                &ws,
                vec![
                    "-e".into(),
                    echo.into(),
                    "--header".into(),
                    format!("Cookie: id={token}"),
                ],
            ),
        ] {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let (code, said) = connect(url, &arguments);
            assert_eq!(code == Some(0), is_good, "{url} {said}");
            refused += usize::from(!is_good);
        }
    }
    assert_eq!(refused, 4);
    let key = [
        "--cipher",
        "aes-ecb",
        "--key",
        "canary of the old clients",
        "-e",
        echo,
    ];
    assert_eq!(connect(&format!("tcp://{cipher}"), &key).0, Some(0));
    for secret in ["canary of the admin", "canary of somebody"] {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {secret}\r\n\r\n"
        );
        raw_http(server.admin.unwrap(), &request).unwrap();
    }
    let private = fs::read_to_string(server.path("gate.key")).unwrap();
    server.signal("HUP");
    server.line_with("TLS not reloaded: its files are the same");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let log = server.log();
    assert!(log.contains("authentication refused"), "{log}");
    let signature = good.rsplit('.').next().unwrap();
    for secret in ["canary", signature, private.lines().nth(1).unwrap()] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
