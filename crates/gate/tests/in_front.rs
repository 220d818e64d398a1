//! Real proxies in front of the gate, with the configurations of `docs/deployment.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tidegate::{CloseReason, ForwardedHeader, Tcp, TrustedNetwork, WebSocket};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

mod support;

use support::{Rig, WsClient, assert_echo, connect_from, packet, read_all};

/// The proxies come from here; clients do not.
fn proxies() -> [TrustedNetwork; 1] {
    ["127.0.0.1".parse().unwrap()]
}

const CLIENT: [u8; 4] = [127, 0, 0, 77];

/// A directory of this test's own, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("tidegate-front-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // In the system's directory for what may be lost.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A proxy that runs, until it is dropped.
struct Proxy {
    child: Child,
    /// Where clients come in.
    address: SocketAddr,
    /// The connection that showed that it listens.
    first: Option<TcpStream>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Starts a proxy that `command` makes for a free port, and waits until it listens there
    /// itself; another process may have taken the port in between.
    async fn start(dir: &Dir, mut command: impl FnMut(SocketAddr) -> Command) -> Self {
        let log = dir.0.join("proxy.log");
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let output = std::fs::File::create(&log).unwrap();
            let child = command(address)
                .stdin(Stdio::null())
                .stdout(output.try_clone().unwrap())
                .stderr(output)
                .spawn()
                .unwrap();
            let mut proxy = Self {
                child,
                address,
                first: None,
            };
            loop {
                proxy.first = TcpStream::connect(address).await.ok();
                if proxy.child.try_wait().unwrap().is_some() {
                    break;
                }
                if proxy.first.is_some() {
                    return proxy;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("it does not run: {}", std::fs::read_to_string(log).unwrap());
    }

    /// HAProxy, as documented, but for these addresses and options of its server.
    async fn haproxy(dir: &Dir, gate: &str, options: &str) -> Self {
        let program = tool("TIDEGATE_TEST_HAPROXY", "/usr/sbin/haproxy");
        let text = documented("haproxy");
        Self::start(dir, |address| {
            let text = replace(&text, "0.0.0.0:13653", &address.to_string());
            let text = replace(&text, "127.0.0.1:3653", gate);
            let text = replace(&text, "send-proxy-v2 proxy-v2-options crc32c", options);
            let config = dir.write("haproxy.cfg", &text);
            let mut command = Command::new(&program);
            command.arg("-db").arg("-f").arg(config);
            command
        })
        .await
    }

    /// nginx, as documented, but for these addresses.
    async fn nginx(dir: &Dir, gate: &str) -> Self {
        let program = tool("TIDEGATE_TEST_NGINX", "/usr/sbin/nginx");
        let server = documented("nginx");
        Self::start(dir, |address| {
            let server = replace(&server, "0.0.0.0:18080", &address.to_string());
            let server = replace(&server, "http://127.0.0.1:3654", gate);
            let path = dir.0.display();
            let config = format!(
                "daemon off; master_process off; pid {path}/nginx.pid; error_log stderr;\n\
                 events {{}}\n\
                 http {{ access_log off; client_body_temp_path {path}; proxy_temp_path {path};\n\
                 fastcgi_temp_path {path}; uwsgi_temp_path {path}; scgi_temp_path {path};\n\
                 {server}}}\n"
            );
            let config = dir.write("nginx.conf", &config);
            let mut command = Command::new(&program);
            command.arg("-e").arg("stderr").arg("-c").arg(config);
            command
        })
        .await
    }
}

fn tool(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing; scripts/install-test-tools installs it",
        path.display()
    );
    path
}

/// The one block of this kind in the documentation.
fn documented(kind: &str) -> String {
    let page = include_str!("../../../docs/deployment.md");
    let start = format!("```{kind}\n");
    let (_, rest) = page.split_once(&start).expect("a block of that kind");
    assert!(!rest.contains(&start), "one block");
    rest.split_once("```").unwrap().0.to_owned()
}

fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to)
}

/// What a TLS client must trust, and where the gate finds its certificate.
fn certificate(dir: &Dir) -> (TlsConnector, PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        TlsConnector::from(Arc::new(config)),
        dir.write("cert.pem", &cert.pem()),
        dir.write("key.pem", &key.serialize_pem()),
    )
}

/// The next session is this client's, and not its proxy's.
async fn assert_from(rig: &mut Rig, client: &TcpStream) {
    let ip = client.local_addr().unwrap().ip();
    assert_eq!(ip, IpAddr::from(CLIENT));
    assert_eq!(rig.session().await.ip(), ip);
}

#[tokio::test]
async fn haproxy_in_front_of_tcp_by_both_versions() {
    for (i, options) in [
        "send-proxy-v2 proxy-v2-options crc32c",
        "send-proxy-v2 proxy-v2-options authority,unique-id",
        "send-proxy-v2",
        "send-proxy",
    ]
    .into_iter()
    .enumerate()
    {
        let dir = Dir::new(&format!("haproxy-{i}"));
        let tcp = Tcp::bind("127.0.0.1:0").trusted_proxies(proxies());
        let mut rig = Rig::with(|gate| gate.listen(tcp.proxy_protocol(true))).await;
        let mut proxy = Proxy::haproxy(&dir, &rig.address(0).to_string(), options).await;
        let mut first = proxy.first.take().unwrap();
        assert_echo(&mut first).await;
        rig.session().await;
        drop(first);
        rig.end().await;
        let mut client = connect_from(CLIENT, proxy.address).await;
        assert_echo(&mut client).await;
        assert_from(&mut rig, &client).await;
        // To the client, too.
        let session = rig.gate().sessions().next().unwrap();
        session.send(packet("news", 40_000)).unwrap();
        let (topic, body) = support::read_v1(&mut client).await.unwrap();
        assert_eq!((&*topic, body.len()), ("news", 40_000));
        drop(client);
        assert_eq!(rig.reason().await, CloseReason::ClientLeft);
        // A header of the client's own is behind the proxy's, and no frame.
        let mut forger = connect_from(CLIENT, proxy.address).await;
        let forged = b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n";
        forger.write_all(forged).await.unwrap();
        assert!(read_all(&mut forger).await.is_empty());
        assert_from(&mut rig, &forger).await;
        drop(forger);
        assert_eq!(rig.reason().await, CloseReason::BadFrame);
        assert_eq!(rig.gate().stats().handshake_failures, 0);
        drop(proxy);
        rig.settled().await;
    }
}

#[tokio::test]
async fn haproxy_in_front_of_tls_and_of_a_unix_socket() {
    let dir = Dir::new("haproxy-tls");
    let (connector, cert, key) = certificate(&dir);
    let unix = dir.0.join("gate.sock");
    let mut rig = Rig::with(|gate| {
        let tls = Tcp::bind("127.0.0.1:0").tls(&cert, &key);
        let unix = Tcp::bind(format!("unix:{}", unix.display())).tls(&cert, &key);
        gate.listen(tls.trusted_proxies(proxies()).proxy_protocol(true))
            .listen(
                unix.trusted_proxies([TrustedNetwork::UNIX])
                    .proxy_protocol(true)
                    .unix_mode(0o666),
            )
    })
    .await;
    let tcp = rig.address(0).to_string();
    let unix = format!("unix@{}", unix.display());
    for gate in [&tcp, &unix] {
        for options in ["send-proxy-v2 proxy-v2-options crc32c", "send-proxy"] {
            let proxy = Proxy::haproxy(&dir, gate, options).await;
            let client = connect_from(CLIENT, proxy.address).await;
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = connector.connect(name, client).await.unwrap();
            assert_echo(&mut tls).await;
            assert_from(&mut rig, tls.get_ref().0).await;
            tls.shutdown().await.unwrap();
            drop(tls);
            assert_eq!(rig.reason().await, CloseReason::ClientLeft);
        }
    }
    rig.settled().await;
}

#[tokio::test]
async fn nginx_in_front_of_websocket() {
    let dir = Dir::new("nginx");
    let unix = dir.0.join("ws.sock");
    let mut rig = Rig::with(|gate| {
        let ws = WebSocket::bind("127.0.0.1:0").trusted_proxies(proxies());
        let unix = WebSocket::bind(format!("unix:{}", unix.display()))
            .trusted_proxies([TrustedNetwork::UNIX])
            .unix_mode(0o666);
        gate.listen(ws.forwarded(ForwardedHeader::XForwardedFor))
            .listen(unix.forwarded(ForwardedHeader::XForwardedFor))
    })
    .await;
    let tcp = format!("http://{}", rig.address(0));
    let unix = format!("http://unix:{}:", unix.display());
    for gate in [tcp, unix] {
        let proxy = Proxy::nginx(&dir, &gate).await;
        for headers in [
            &[][..],
            // A forger's: nginx adds to it.
            &["X-Forwarded-For: 6.6.6.6"],
            &[
                "X-Forwarded-For: 6.6.6.6, 127.0.0.1",
                "Forwarded: for=6.6.6.6",
            ],
            &["X-Forwarded-For: \"", "X-Forwarded-For: garbage"],
        ] {
            let client = connect_from(CLIENT, proxy.address).await;
            let (mut ws, _) = WsClient::upgrade_with(client, "/", headers).await;
            ws.assert_echo().await;
            assert_from(&mut rig, &ws.io).await;
            ws.send_frame(0x88, &1000u16.to_be_bytes()).await;
            assert_eq!(ws.closed().await, Some(1000));
            drop(ws);
            assert_eq!(rig.reason().await, CloseReason::ClientLeft);
        }
        // A page of the proxy's own host may connect, one of another may not.
        let origin = ["Origin: http://gate.example"];
        let client = connect_from(CLIENT, proxy.address).await;
        let (mut ws, _) = WsClient::upgrade_with(client, "/", &origin).await;
        ws.assert_echo().await;
        rig.session().await;
        drop(ws);
        rig.end().await;
        let mut client = connect_from(CLIENT, proxy.address).await;
        let request = support::ws::request("/", &["Origin: http://evil.example"]);
        client.write_all(&request).await.unwrap();
        let (head, _) = support::ws::read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    // Past the proxy, from an address that is none.
    let client = connect_from(CLIENT, rig.address(0)).await;
    let forged = ["X-Forwarded-For: 6.6.6.6"];
    let (ws, _) = WsClient::upgrade_with(client, "/", &forged).await;
    assert_from(&mut rig, &ws.io).await;
    drop(ws);
    rig.settled().await;
}
