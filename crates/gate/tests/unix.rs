//! Unix-domain listeners: their files, and who comes through them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tidegate::{
    CloseReason, ForwardedHeader, Gate, GateLimits, Limits, ListenErrorKind, Listener, RunningGate,
    StartError, Tcp, TrustedNetwork, WebSocket,
};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

mod support;

use support::{Rig, WsClient, assert_echo, read_all, until, v1};

/// A directory of this test's own, gone with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("tidegate-unix-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // In the system's directory for what may be lost.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(listener: impl Into<Listener>) -> Result<RunningGate, ListenErrorKind> {
    match Gate::builder().shards(0).listen(listener).start().await {
        Ok(gate) => Ok(gate),
        Err(StartError::Listen(error)) => Err(error.why),
        Err(other) => panic!("{other:?}"),
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

// --- the file

#[tokio::test]
async fn the_file_has_its_mode_and_goes_with_the_gate() {
    let dir = Dir::new("file");
    let path = dir.path("gate.sock");
    for (listener, expected) in [
        (Tcp::bind(dir.address("gate.sock")), 0o660),
        (Tcp::bind(dir.address("gate.sock")).unix_mode(0o600), 0o600),
        (Tcp::bind(dir.address("gate.sock")).unix_mode(0o777), 0o777),
    ] {
        let gate = start(listener.clone()).await.unwrap();
        assert!(is_socket(&path));
        assert_eq!(mode(&path), expected);
        assert_eq!(gate.address(0), None);
        let (name, _) = gate.listeners().next().unwrap();
        assert_eq!(name, dir.address("gate.sock"));
        gate.stop().await;
        assert!(!path.exists(), "removed at stop");
        drop(start(listener).await.unwrap());
        assert!(!path.exists(), "removed when dropped");
    }
}

#[tokio::test]
async fn a_dead_gates_file_is_replaced_and_a_live_ones_is_not() {
    let dir = Dir::new("stale");
    let path = dir.path("gate.sock");
    let listener = || Tcp::bind(dir.address("gate.sock"));
    // Closed without removing the file, as a process leaves it that is killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let gate = start(listener()).await.unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"\0\0").await.unwrap();
    let why = start(listener()).await.err().unwrap();
    assert!(matches!(why, ListenErrorKind::InUse), "{why:?}");
    assert!(why.to_string().contains("in use"), "{why}");
    assert!(is_socket(&path), "the refused one removes nothing");
    UnixStream::connect(&path).await.unwrap();
    gate.stop().await;
    // Of whatever program.
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let why = start(listener()).await.err().unwrap();
    assert!(matches!(why, ListenErrorKind::InUse), "{why:?}");
    drop(other);
    // A file that another has put in the place is not this gate's to remove.
    let gate = start(listener()).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    gate.stop().await;
    assert!(is_socket(&path));
}

#[tokio::test]
async fn gates_that_start_together_do_not_take_each_others_file() {
    let dir = Dir::new("race");
    let path = dir.path("gate.sock");
    for _ in 0..20 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let address = dir.address("gate.sock");
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let started = runtime.block_on(start(Tcp::bind(address)));
                    started.ok().map(|gate| (runtime, gate))
                })
            })
            .collect();
        let started: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(started.iter().flatten().count(), 1);
        UnixStream::connect(&path).await.unwrap();
        for (runtime, gate) in started.into_iter().flatten() {
            std::thread::spawn(move || runtime.block_on(gate.stop()))
                .join()
                .unwrap();
        }
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn what_cannot_be_a_socket_stops_the_start_and_stays() {
    let dir = Dir::new("wrong");
    let file = dir.path("notes.txt");
    std::fs::write(&file, "kept").unwrap();
    let why = start(Tcp::bind(dir.address("notes.txt")))
        .await
        .err()
        .unwrap();
    assert!(matches!(why, ListenErrorKind::NotASocket), "{why:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    let why = start(Tcp::bind("unix:gate.sock")).await.err().unwrap();
    assert!(matches!(why, ListenErrorKind::RelativePath), "{why:?}");
    for path in ["absent/gate.sock", &"long".repeat(40)] {
        let why = start(Tcp::bind(dir.address(path))).await.err().unwrap();
        assert!(matches!(why, ListenErrorKind::Io(_)), "{why:?}");
    }
    let why = start(Tcp::bind("127.0.0.1:0").unix_mode(0o600)).await;
    let why = why.err().unwrap();
    let option = "unix_mode";
    assert!(
        matches!(why, ListenErrorKind::WrongKind { option: o, .. } if o == option),
        "{why:?}"
    );
}

// --- the clients

#[tokio::test]
async fn both_protocols_with_and_without_tls() {
    let dir = Dir::new("serve");
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let (cert_path, key_path) = (dir.path("cert.pem"), dir.path("key.pem"));
    std::fs::write(&cert_path, cert.pem()).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let mut rig = Rig::with(|gate| {
        gate.listen(Tcp::bind(dir.address("tcp")))
            .listen(WebSocket::bind(dir.address("ws")))
            .listen(Tcp::bind(dir.address("tls")).tls(&cert_path, &key_path))
            .listen(WebSocket::bind(dir.address("wss")).tls(&cert_path, &key_path))
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let connect = async |name: &str| UnixStream::connect(dir.path(name)).await.unwrap();
    for round in 0..2 {
        let large = v1("echo/echo/1", &[5; 60_000]);
        let mut tcp = connect("tcp").await;
        assert_echo(&mut tcp).await;
        let mut ws = WsClient::upgrade(connect("ws").await, "/").await;
        ws.assert_echo().await;
        let tls = connector.connect(name.clone(), connect("tls").await).await;
        let mut tls = tls.unwrap();
        assert_echo(&mut tls).await;
        let wss = connector.connect(name.clone(), connect("wss").await).await;
        let mut wss = WsClient::upgrade(wss.unwrap(), "/").await;
        wss.assert_echo().await;
        for _ in 0..4 {
            let session = rig.session().await;
            assert_eq!(session.ip(), IpAddr::from([127, 0, 0, 1]));
        }
        let (mut reader, mut writer) = tokio::io::split(tls);
        let (written, read) = tokio::join!(writer.write_all(&large), support::read_v1(&mut reader));
        written.unwrap();
        assert_eq!(read.unwrap().1.len(), 60_000);
        if round == 0 {
            // The client's end is heard on each of them.
            drop((tcp, ws, reader, writer, wss));
        } else {
            // And the gate's on theirs.
            rig.gate().close_all(CloseReason::Kicked);
            assert!(read_all(&mut tcp).await.is_empty());
            assert_eq!(ws.closed().await, Some(4504));
            assert_eq!(wss.closed().await, Some(4504));
            assert!(read_all(&mut reader).await.is_empty());
        }
        for _ in 0..4 {
            rig.end().await;
        }
    }
    rig.settled().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_not_read_is_missed() {
    let dir = Dir::new("look");
    let mut limits = Limits::default();
    limits.concurrent_tasks = 1;
    limits.call_timeout = support::LONG;
    let mut rig = Rig::with(|gate| gate.limits(limits).listen(Tcp::bind(dir.address("tcp")))).await;
    let mut client = UnixStream::connect(dir.path("tcp")).await.unwrap();
    client.write_all(&v1("echo/hang/1", b"")).await.unwrap();
    let session = rig.session().await;
    until("its call is under way", || session.packets_received() == 1).await;
    drop(client);
    assert_eq!(rig.reason().await, CloseReason::ClientLeft);
    rig.settled().await;
}

#[tokio::test]
async fn local_processes_are_not_counted_by_address() {
    let dir = Dir::new("places");
    let mut limits = GateLimits::default();
    limits.max_connections_per_address = 1;
    limits.max_connections = 5;
    let rig = Rig::with(|gate| {
        gate.gate_limits(limits)
            .listen(Tcp::bind(dir.address("tcp")))
            .listen(WebSocket::bind(dir.address("ws")))
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = UnixStream::connect(dir.path("tcp")).await.unwrap();
        assert_echo(&mut client).await;
        clients.push(client);
    }
    let mut sixth = UnixStream::connect(dir.path("ws")).await.unwrap();
    let (head, _) = support::ws::read_head(&mut sixth).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    drop((sixth, clients));
    rig.settled().await;
}

#[tokio::test]
async fn local_proxies_are_believed_where_unix_is_trusted() {
    let dir = Dir::new("proxies");
    let mut limits = GateLimits::default();
    limits.max_connections_per_address = 1;
    let mut rig = Rig::with(|mut gate| {
        for (name, networks) in [
            ("trusted", [TrustedNetwork::UNIX]),
            ("other", ["127.0.0.0/8".parse().unwrap()]),
        ] {
            let tcp = Tcp::bind(dir.address(&format!("{name}.tcp")));
            let ws = WebSocket::bind(dir.address(&format!("{name}.ws")));
            gate = gate
                .listen(tcp.trusted_proxies(networks).proxy_protocol(true))
                .listen(
                    ws.trusted_proxies(networks)
                        .forwarded(ForwardedHeader::XForwardedFor),
                );
        }
        gate.gate_limits(limits)
    })
    .await;
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.1 5 6\r\n";
    let client = IpAddr::from([192, 0, 2, 1]);
    let local = IpAddr::from([127, 0, 0, 1]);
    let connect = async |name: &str| UnixStream::connect(dir.path(name)).await.unwrap();

    let mut tcp = connect("trusted.tcp").await;
    tcp.write_all(header).await.unwrap();
    assert_echo(&mut tcp).await;
    assert_eq!(rig.session().await.ip(), client);
    let mut second = connect("trusted.tcp").await;
    second.write_all(header).await.unwrap();
    assert!(
        read_all(&mut second).await.is_empty(),
        "one for each client"
    );
    drop(tcp);
    assert_eq!(rig.reason().await, CloseReason::ClientLeft);
    let forged = ["X-Forwarded-For: 6.6.6.6, 192.0.2.1"];
    let (ws, _) = WsClient::upgrade_with(connect("trusted.ws").await, "/", &forged).await;
    assert_eq!(rig.session().await.ip(), client);
    drop(ws);
    rig.end().await;

    let mut tcp = connect("other.tcp").await;
    tcp.write_all(header).await.unwrap();
    assert!(read_all(&mut tcp).await.is_empty());
    drop(tcp);
    assert_eq!(rig.session().await.ip(), local);
    assert_eq!(rig.reason().await, CloseReason::BadFrame);
    let (ws, _) = WsClient::upgrade_with(connect("other.ws").await, "/", &forged).await;
    assert_eq!(rig.session().await.ip(), local);
    drop(ws);
    rig.settled().await;
}
