//! `tls`, `gate.tls_watch`, and `auth.client_certificate` with and without tokens.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};

use crate::support::PATIENCE;
use crate::support::server::{Scratch, Server, raw_http};
use crate::{connect, token};

/// What an authority signs, written as `NAME.pem` and `NAME.key`; the authority's own
/// certificate as `ca.pem`.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(files: &Scratch, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        files.write(&format!("{name}.pem"), &ca.pem());
        Self(ca)
    }

    fn sign(&self, files: &Scratch, name: &str, dns: &str, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([dns.to_owned()]).unwrap();
        params.distinguished_name = common_name(name);
        params.not_after = date_time_ymd(until, 1, 1);
        let cert = params.signed_by(&key, &self.0).unwrap();
        files.write(&format!("{name}.pem"), &cert.pem());
        files.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// The subject of what is served to those who ask for this name.
fn served(server: &Server, i: usize, name: &str) -> String {
    let address = server.listeners[i].to_string();
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", name])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("openssl: {e}; scripts/install-test-tools installs it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = text.lines().find_map(|line| line.strip_prefix("subject="));
    subject.unwrap_or_else(|| panic!("{text}")).replace(' ', "")
}

#[test]
fn the_certificate_for_the_name_and_new_ones_without_a_signal() {
    let files = Scratch::new();
    let ca = Authority::new(&files, "ca");
    ca.sign(&files, "first", "a.example", 2060);
    ca.sign(&files, "second", "b.example", 2050);
    let config = r#"
services = ["echo"]
[[tcp]]
address = "127.0.0.1:0"
name = "secure"
tls = { cert = "first.pem", key = "first.key", certificates = [{ cert = "second.pem", key = "second.key" }] }
[gate]
tls_watch = "100ms"
[admin]
address = "127.0.0.1:0"
token = "a token of this test"
"#;
    let server = Server::start_in(files, config, &[]);
    let expiry = || {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                       Authorization: Bearer a token of this test\r\n\r\n";
        let page = raw_http(server.admin.unwrap(), request).unwrap();
        let start = "tidegate_tls_certificate_expiry_timestamp_seconds{listener=\"secure\"} ";
        let found = page.lines().find_map(|line| line.strip_prefix(start));
        let seconds: f64 = found.expect(&page).parse().unwrap();
        seconds as i64
    };
    assert_eq!(served(&server, 0, "a.example"), "CN=first");
    assert_eq!(served(&server, 0, "b.example"), "CN=second");
    assert_eq!(served(&server, 0, "c.example"), "CN=first");
    assert_eq!(expiry(), date_time_ymd(2050, 1, 1).unix_timestamp());

    // One that does not look beside it: what it has not seen was not the default's doing.
    let path = |name: &str| server.path(name);
    let unwatched = format!(
        "[[tcp]]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = {:?}, key = {:?} }}\n\
         [gate]\ntls_watch = \"off\"\n",
        path("second.pem"),
        path("second.key")
    );
    let unwatched = Server::start(&unwatched, &[]);
    for name in ["other", "third"] {
        let new = Scratch::new();
        ca.sign(&new, name, "b.example", 2070);
        for kind in ["pem", "key"] {
            let from = new.path().join(format!("{name}.{kind}"));
            fs::rename(from, path(&format!("second.{kind}"))).unwrap();
        }
        server.line_with("TLS reloaded");
    }
    assert_eq!(served(&unwatched, 0, "b.example"), "CN=second");
    assert_eq!(served(&server, 0, "b.example"), "CN=third");
    let deadline = Instant::now() + PATIENCE;
    while expiry() != date_time_ymd(2060, 1, 1).unix_timestamp() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How it ends, and what is said, with a certificate and a token for these users.
fn tried(
    server: &Server,
    i: usize,
    certificate: Option<&str>,
    user: Option<&str>,
    say: &str,
) -> (Option<i32>, String) {
    let scheme = if i < 2 { "tls" } else { "wss" };
    let url = format!("{scheme}://localhost:{}", server.listeners[i].port());
    let ca = server.path("ca.pem");
    let mut arguments: Vec<String> = ["--ca", &ca, "-e", say].map(str::to_owned).into();
    if let Some(name) = certificate {
        let file = |kind: &str| server.path(&format!("{name}.{kind}"));
        arguments.extend([
            "--cert".into(),
            file("pem"),
            "--cert-key".into(),
            file("key"),
        ]);
    }
    if let Some(user) = user {
        arguments.extend(["--token".into(), token(server, user, &[])]);
    }
    connect(
        &url,
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

#[test]
fn clients_are_whom_their_certificates_and_tokens_name() {
    let files = Scratch::new();
    let ca = Authority::new(&files, "ca");
    ca.sign(&files, "gate", "localhost", 2060);
    ca.sign(&files, "ada", "ada.example", 2060);
    Authority::new(&files, "other-ca").sign(&files, "eve", "eve.example", 2060);
    let mut config = String::from("services = [\"auth\", \"echo\"]\n");
    for kind in ["tcp", "websocket"] {
        for asked in ["optional", "required"] {
            config += &format!(
                "[[{kind}]]\naddress = \"127.0.0.1:0\"\nv1_error_topic = \"error\"\n\
                 tls = {{ cert = \"gate.pem\", key = \"gate.key\", client_auth = \"{asked}\", \
                 client_ca = \"ca.pem\" }}\n"
            );
        }
    }
    config += "[auth]\nclient_certificate = \"common-name\"\nguests = GUESTS\n\
               [auth.jwt]\nsecret = \"a secret of the tests, of at least 32 bytes\"\n";
    let without_guests = config.replace("GUESTS", "false");
    let server = Server::start_in(files, &without_guests, &[]);
    let login = |user: &str| format!("auth/login {}", token(&server, user, &[]));
    let [as_ada, as_bob] = ["ada", "bob"].map(login);
    let echo = "echo/echo hi".to_owned();
    let (optional_tcp, required_tcp, optional_ws, required_ws) = (0, 1, 2, 3);
    for (at, certificate, user, say, wanted) in [
        // The certificate's user is the session's: a login as another is refused.
        (
            optional_tcp,
            Some("ada"),
            None,
            &as_ada,
            Ok("\"user\": \"ada\""),
        ),
        (
            required_tcp,
            Some("ada"),
            None,
            &as_ada,
            Ok("\"user\": \"ada\""),
        ),
        (optional_tcp, Some("ada"), None, &as_bob, Err("1003")),
        (required_ws, Some("ada"), None, &as_bob, Err("1003")),
        // Token and certificate for the same user, for two, and either alone.
        (
            optional_ws,
            Some("ada"),
            Some("ada"),
            &as_ada,
            Ok("\"user\": \"ada\""),
        ),
        (
            required_ws,
            Some("ada"),
            Some("ada"),
            &as_ada,
            Ok("\"user\": \"ada\""),
        ),
        (optional_ws, Some("ada"), Some("bob"), &echo, Err("")),
        (required_ws, Some("ada"), Some("bob"), &echo, Err("")),
        (
            optional_ws,
            None,
            Some("bob"),
            &as_bob,
            Ok("\"user\": \"bob\""),
        ),
        (required_ws, None, Some("bob"), &echo, Err("")),
        // Nothing, and a certificate of somebody else's.
        (optional_tcp, None, None, &echo, Err("")),
        (optional_ws, None, None, &echo, Err("")),
        (required_tcp, None, None, &echo, Err("")),
        (optional_tcp, Some("eve"), None, &echo, Err("")),
        (optional_ws, Some("eve"), Some("bob"), &echo, Err("")),
    ] {
        let (code, said) = tried(&server, at, certificate, user, say);
        let as_wanted = match wanted {
            Ok(text) => code == Some(0) && said.contains(text),
            Err(text) => code != Some(0) && said.contains(text) && !said.contains("panic"),
        };
        assert!(
            as_wanted,
            "{at} {certificate:?} {user:?}: {code:?} {said}{}",
            server.log()
        );
    }
    assert!(
        server
            .log()
            .contains("token and certificate are for different users")
    );

    let server = server.killed_and_restarted(&config.replace("GUESTS", "true"));
    let (code, said) = tried(&server, optional_tcp, None, None, &echo);
    assert_eq!(code, Some(0), "{said}");
    let (code, _) = tried(&server, required_tcp, None, None, &echo);
    assert_ne!(
        code,
        Some(0),
        "guests need a certificate where it is required"
    );
}
