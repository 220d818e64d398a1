//! TLS of the binary: what a scanner finds, and new certificates at SIGHUP.

#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use support::server::{Scratch, Server, client, packet};
use support::{frame, tls_scan};

/// Runs `openssl`, and answers what it printed.
fn openssl(arguments: &[&str]) -> String {
    let output = spawn_openssl(arguments, Stdio::null()).wait_with_output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

fn spawn_openssl(arguments: &[&str], input: Stdio) -> Child {
    Command::new("openssl")
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("openssl: {e}; scripts/install-test-tools installs it"))
}

/// A certificate for `localhost` that signs itself, and its key; PEM.
fn certificate(key: &KeyPair) -> (String, String) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.self_signed(key).unwrap().pem(), key.serialize_pem())
}

fn new_certificate() -> (String, String) {
    certificate(&KeyPair::generate().unwrap())
}

#[test]
fn a_scanner_finds_no_weakness() {
    let files = Scratch::new();
    let rsa = openssl(&[
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]);
    for (name, key) in [
        ("ecdsa", KeyPair::generate().unwrap()),
        ("rsa", KeyPair::from_pem(&rsa).unwrap()),
    ] {
        let (cert, key) = certificate(&key);
        files.write(&format!("{name}.pem"), &cert);
        files.write(&format!("{name}.key"), &key);
    }
    let config = r#"
[[tcp]]
address = "127.0.0.1:0"
tls = { cert = "ecdsa.pem", key = "ecdsa.key" }
[[tcp]]
address = "127.0.0.1:0"
tls = { cert = "rsa.pem", key = "rsa.key" }
[[websocket]]
address = "127.0.0.1:0"
tls = { cert = "ecdsa.pem", key = "ecdsa.key" }
"#;
    let mut server = Server::start_in(files, config, &[]);
    for (i, kind) in [(0, "ECDSA"), (1, "RSA"), (2, "ECDSA")] {
        let report = tls_scan(server.listeners[i]);
        assert!(report.passed, "{report}\n{}", server.log());
        let mut found: Value = serde_json::from_str(&report.stdout).unwrap();
        let suites = found["suites"].take();
        for old in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
            assert_eq!(suites[old], json!([]), "{old}");
        }
        for (version, own) in [
            ("TLSv1.2", format!("TLS_ECDHE_{kind}_WITH_")),
            ("TLSv1.3", "TLS_".into()),
        ] {
            let suites = suites[version].as_array().unwrap();
            assert_eq!(suites.len(), 3, "{version}: {suites:?}");
            for suite in suites {
                let suite = suite.as_str().unwrap();
                let aead = suite.contains("_GCM_") || suite.contains("_CHACHA20_POLY1305");
                assert!(aead && suite.starts_with(&own), "{version}: {suite}");
            }
        }
        let curves = found["curves"].take();
        for curve in curves.as_array().unwrap() {
            let good = ["X25519", "secp256r1", "secp384r1"];
            assert!(good.contains(&curve.as_str().unwrap()), "{curve}");
        }
        let wanted = json!({
            "suites": null,
            "curves": null,
            "compression": false,
            "early_data": false,
            "ccs_injection": false,
            "heartbleed": false,
            "robot": "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
            "secure_renegotiation": true,
            "client_renegotiation": false,
            // The gate keeps nothing for clients that are gone.
            "resumed_by_id": "NOT_SUPPORTED",
            "fallback_scsv": true,
        });
        assert_eq!(found, wanted, "{kind}");
    }
    let log = server.log();
    assert!(!log.contains("panic"), "{log}");
    // Clients cannot make the TLS library write lines of its own, past the gate's limit.
    assert!(!log.contains("rustls::"), "{log}");
    for listener in &server.listeners {
        let address = listener.to_string();
        // sslyze does not see it where each resumption brings a new ticket.
        let told = openssl(&["s_client", "-tls1_2", "-reconnect", "-connect", &address]);
        assert_eq!(told.matches("Reused, TLSv1.2").count(), 5, "{told}");
        assert!(told.contains("BEGIN CERTIFICATE"));
    }
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

/// What `openssl s_client` says of a listener, its certificate too.
fn shown(port: u16) -> String {
    openssl(&["s_client", "-connect", &format!("127.0.0.1:{port}")])
}

/// A client whose connection is TLS.
struct Held(Child);

impl Held {
    fn connect(port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let arguments = ["s_client", "-quiet", "-no_ign_eof", "-connect", &address];
        Self(spawn_openssl(&arguments, Stdio::piped()))
    }

    fn echo(&mut self, text: &str) {
        let call = frame("echo/echo/1", text.as_bytes());
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(&call).unwrap();
        input.flush().unwrap();
        let mut answer = vec![0; call.len()];
        let output = self.0.stdout.as_mut().unwrap();
        output.read_exact(&mut answer).unwrap();
        assert_eq!(answer, call);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn sighup_serves_the_new_certificate_and_drops_nobody() {
    let files = Scratch::new();
    let path = |name: &str| -> PathBuf { files.path().join(name) };
    let (cert_path, key_path) = (path("a.pem"), path("a.key"));
    let write = |cert: &str, key: &str| {
        fs::write(&cert_path, cert).unwrap();
        fs::write(&key_path, key).unwrap();
    };
    let (first, second) = (new_certificate(), new_certificate());
    write(&first.0, &first.1);
    let config = r#"
services = ["echo"]
[[tcp]]
address = "127.0.0.1:0"
name = "secure"
tls = { cert = "a.pem", key = "a.key" }
"#;
    let mut server = Server::start_in(files, config, &[]);
    let port = server.listeners[0].port();
    let mut held = Held::connect(port);
    held.echo("before");
    assert!(shown(port).contains(first.0.trim()));

    server.signal("HUP");
    server.line_with("its files are the same");
    // A bad one keeps the old and says so.
    write(&second.0, &first.1);
    server.signal("HUP");
    let line = server.line_with("TLS not reloaded");
    assert!(
        line.contains("a.pem") && line.contains("the key is not that"),
        "{line}"
    );
    assert!(shown(port).contains(first.0.trim()));
    held.echo("meanwhile");

    write(&second.0, &second.1);
    server.signal("HUP");
    server.line_with("TLS reloaded");
    assert!(shown(port).contains(second.0.trim()));
    held.echo("after");
    drop(held);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[test]
fn sighup_does_not_end_a_gate_without_tls() {
    let config = "services = [\"echo\"]\n[[tcp]]\naddress = \"127.0.0.1:0\"\n";
    let mut server = Server::start(config, &[]);
    for _ in 0..2 {
        server.signal("HUP");
        server.line_with("no listener has TLS");
    }
    let mut stream = client(server.listeners[0]);
    stream.write_all(&frame("echo/echo/1", b"x")).unwrap();
    assert_eq!(packet(&mut stream).0, "echo/echo/1");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
}
