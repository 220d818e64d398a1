//! Each option of River's gate, by its name there, enforced in a running gate: one value
//! that is not the default, and both of its sides. What more there is to each is tested
//! where it belongs: `flow.rs`, `framing.rs`, `delivery.rs`, `tls.rs`, `deadlines.rs`,
//! `legacy.rs`, `local_bus.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidegate::bus::local::LocalBus;
use tidegate::bus::{Bus, BusError, GateError};
use tidegate::protocol::Legacy;
use tidegate::service::Service;
use tidegate::{
    Cipher, CloseReason, Codec, Gate, Limits, ListenErrorKind, Listener, Network, StartError, Tcp,
    TlsError, WebSocket,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

mod support;

use support::{PEER, Rig, WsClient, assert_echo, packet, quiet, read_all, read_v1, v1};

const SECOND: Duration = Duration::from_secs(1);

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

// --- what one connection may

#[tokio::test(start_paused = true)]
async fn concurrent_tasks() {
    let mut rig = Rig::new().await;
    let mut client = rig.tcp(limits(|l| l.concurrent_tasks = 3));
    let session = rig.session().await;
    client
        .write_all(&v1("echo/hang/1", b"").repeat(10))
        .await
        .unwrap();
    quiet().await;
    assert_eq!(session.backlog().calls, 3);
    assert_eq!(session.packets_received(), 3, "the others wait unread");
}

/// Notes the most that the gate asked for in one read.
struct Noting(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.1.fetch_max(buf.remaining(), Ordering::Relaxed);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn buf_size() {
    let rig = Rig::new().await;
    // The buffer is the thread's: a smaller one comes after a larger one, too.
    for size in [2048, 5000, 64] {
        let most = Arc::new(AtomicUsize::new(0));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let listener = Tcp::bind("pipe").limits(limits(|l| l.read_buffer = size));
        rig.running
            .serve(Noting(server, most.clone()), listener, PEER)
            .unwrap();
        let frame = v1("echo/echo/1", &[7; 20_000]);
        client.write_all(&frame).await.unwrap();
        assert_eq!(read_v1(&mut client).await.unwrap().1.len(), 20_000);
        assert_eq!(most.load(Ordering::Relaxed), size);
    }
}

#[tokio::test(start_paused = true)]
async fn max_pack_size() {
    let mut rig = Rig::new().await;
    let limits = limits(|l| l.max_packet_size = 100);
    let (fits, too_large) = (v1("echo/echo/1", &[0; 85]), v1("echo/echo/1", &[0; 86]));
    assert_eq!((fits.len(), too_large.len()), (100, 101));

    let mut tcp = rig.tcp(limits.clone());
    let session = rig.session().await;
    tcp.write_all(&fits).await.unwrap();
    assert_eq!(read_v1(&mut tcp).await.unwrap().1.len(), 85);
    // To the client too.
    session.send(packet("t", 95)).unwrap();
    let refused = session.send(packet("t", 96));
    assert!(
        matches!(refused, Err(GateError::TooLarge(_))),
        "{refused:?}"
    );
    assert_eq!(read_v1(&mut tcp).await.unwrap().1.len(), 95);
    tcp.write_all(&too_large).await.unwrap();
    assert!(read_all(&mut tcp).await.is_empty());
    assert_eq!(rig.reason().await, CloseReason::FrameTooLarge);

    let mut ws = rig.ws(limits).await;
    ws.send("echo/echo/1", &[0; 85]).await;
    assert_eq!(ws.packet().await.1.len(), 85);
    ws.send("echo/echo/1", &[0; 86]).await;
    assert_eq!(ws.closed().await, Some(CloseReason::MessageTooBig.code()));
}

#[tokio::test(start_paused = true)]
async fn send_pack_buff_num() {
    let mut rig = Rig::new().await;
    let mut client = rig.tcp(limits(|l| l.send_queue_packets = 2));
    let session = rig.session().await;
    quiet().await;
    // One thread: nothing is written between these.
    session.send(packet("a", 1)).unwrap();
    session.send(packet("b", 1)).unwrap();
    assert_eq!(session.send(packet("c", 1)), Err(GateError::QueueFull));
    for topic in ["a", "b"] {
        assert_eq!(read_v1(&mut client).await.unwrap().0, topic);
    }
    session.send(packet("d", 1)).unwrap();
    assert_eq!(read_v1(&mut client).await.unwrap().0, "d");
}

// --- clocks

#[tokio::test(start_paused = true)]
async fn over_time() {
    let rig = Rig::new().await;
    let (mut client, server) = tokio::io::duplex(4096);
    let listener = WebSocket::bind("pipe").limits(limits(|l| l.setup_timeout = 3 * SECOND));
    let began = Instant::now();
    rig.running.serve(server, listener.clone(), PEER).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(read_all(&mut client).await.is_empty());
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(rig.gate().closed(CloseReason::SetupTimeout), 1);
    // One that is done in time is not held to it afterwards.
    let mut quick = rig.ws_on(listener).await;
    sleep(10 * SECOND).await;
    quick.assert_echo().await;
}

#[tokio::test(start_paused = true)]
async fn heart_over_timer() {
    let mut rig = Rig::new().await;
    let limits = limits(|l| l.heartbeat_timeout = 7 * SECOND);
    let mut lively = rig.tcp(limits.clone());
    let mut silent = rig.tcp(limits);
    let began = Instant::now();
    let closes = async {
        assert!(read_all(&mut silent).await.is_empty());
        began.elapsed().as_secs()
    };
    let lives = async {
        for _ in 0..4 {
            sleep(6 * SECOND).await;
            assert_echo(&mut lively).await;
        }
    };
    let (after, ()) = tokio::join!(closes, lives);
    assert_eq!(after, 7);
    assert_eq!(rig.reason().await, CloseReason::HeartbeatTimeout);
    assert!(rig.ended.try_recv().is_err(), "the lively one is there");
}

// --- addresses

/// Serves on that address of the loopback, and on no other.
async fn only_there(listener: Listener, network: Network) {
    let mut rig = Rig::with(|gate| gate.listen(listener)).await;
    let address = rig.address(0);
    assert_eq!(address.ip().to_string(), "127.0.0.9");
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], address.port()));
    assert!(TcpStream::connect(elsewhere).await.is_err());
    let mut socket = TcpStream::connect(address).await.unwrap();
    match network {
        Network::Ws => WsClient::upgrade(socket, "/").await.assert_echo().await,
        _ => assert_echo(&mut socket).await,
    }
    assert_eq!(rig.session().await.snapshot().network, network);
}

#[tokio::test]
async fn tcp_addr() {
    only_there(Tcp::bind("127.0.0.9:0").into(), Network::Tcp).await;
}

#[tokio::test]
async fn ws_addr() {
    only_there(WebSocket::bind("127.0.0.9:0").into(), Network::Ws).await;
}

// --- TLS

/// Certificates and keys in files, gone with it.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let name = format!("tidegate-options-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A certificate for `localhost` that signs itself, and its key: the files' paths.
    fn pair(&self, name: &str) -> (PathBuf, PathBuf, CertificateDer<'static>) {
        let names = vec!["localhost".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        let (cert, key) = (self.0.join(name), self.0.join(format!("{name}.key")));
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        (cert, key, pair.cert.der().clone())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // In the system's directory for what may be lost.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A TLS client that trusts this certificate only.
async fn handshake(
    to: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(to).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

/// Why a gate with these files does not start.
async fn start_error(cert: &Path, key: &Path) -> TlsError {
    let listener = Tcp::bind("127.0.0.1:0").tls(cert, key);
    match Gate::builder().shards(0).listen(listener).start().await {
        Err(StartError::Listen(error)) => match error.why {
            ListenErrorKind::Tls(error) => error,
            other => panic!("{other:?}"),
        },
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn tls() {
    let files = Files::new("tls");
    let (cert, key, der) = files.pair("cert.pem");
    // To a gate without TLS a client's hello looks like a frame that has begun.
    let soon = limits(|l| l.partial_frame_timeout = SECOND / 10);
    let rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("127.0.0.1:0").tls(&cert, &key))
            .listen(WebSocket::bind("127.0.0.1:0").tls(&cert, &key))
            .listen(Tcp::bind("127.0.0.1:0").limits(soon))
    })
    .await;
    let mut tcp = handshake(rig.address(0), &der).await.unwrap();
    assert_echo(&mut tcp).await;
    let ws = handshake(rig.address(1), &der).await.unwrap();
    WsClient::upgrade(ws, "/").await.assert_echo().await;
    // There is no way round it, and none where it is off.
    let mut plain = TcpStream::connect(rig.address(0)).await.unwrap();
    plain.write_all(&v1("echo/echo/1", b"plain")).await.unwrap();
    let answer = read_all(&mut plain).await;
    assert!(
        !answer.windows(5).any(|part| part == b"plain"),
        "{answer:?}"
    );
    assert!(handshake(rig.address(2), &der).await.is_err());
}

#[tokio::test]
async fn cert_file() {
    let files = Files::new("cert");
    let (cert, key, der) = files.pair("cert.pem");
    let (_, _, other) = files.pair("other.pem");
    let rig = Rig::with(|gate| gate.listen(Tcp::bind("127.0.0.1:0").tls(&cert, &key))).await;
    let shown = handshake(rig.address(0), &der).await.unwrap();
    assert_eq!(shown.get_ref().1.peer_certificates().unwrap()[0], der);
    assert!(handshake(rig.address(0), &other).await.is_err());
    let absent = files.0.join("absent.pem");
    let error = start_error(&absent, &key).await;
    assert!(error.to_string().contains("absent.pem"), "{error}");
}

#[tokio::test]
async fn key_file() {
    let files = Files::new("key");
    let (cert, _, _) = files.pair("cert.pem");
    let (_, other_key, _) = files.pair("other.pem");
    let error = start_error(&cert, &other_key).await;
    assert!(matches!(error, TlsError::Unusable { .. }), "{error:?}");
    let error = start_error(&cert, &files.0.join("absent.key")).await;
    assert!(error.to_string().contains("absent.key"), "{error}");
}

// --- the rest

#[tokio::test(start_paused = true)]
async fn encrypt_key() {
    let mut rig = Rig::new().await;
    let frame = |key: &str| {
        let codec = Legacy::new(&Cipher::aes_cbc(key).unwrap());
        let mut frame = Vec::new();
        codec.encode(&support::packet("echo/echo/1", 5), &mut frame);
        frame
    };
    let (right, wrong) = (frame("0123456789abcdef"), frame("0123456789abcdeF"));
    for (frame, served) in [
        (&right, true),
        (&wrong, false),
        (&v1("echo/echo/1", b"xxxxx"), false),
    ] {
        let cipher = Cipher::aes_cbc("0123456789abcdef").unwrap();
        let mut client = rig.tcp_on(Tcp::bind("pipe").cipher(cipher));
        client.write_all(frame).await.unwrap();
        client.shutdown().await.unwrap();
        let expected = if served { &frame[..] } else { b"" };
        assert_eq!(read_all(&mut client).await, expected);
        let reason = match served {
            true => CloseReason::ClientLeft,
            false => CloseReason::BadFrame,
        };
        assert_eq!(rig.reason().await, reason);
    }
}

/// What modules register with: here the gate's id, and each service's name, instance,
/// version, metadata and TTL.
#[tokio::test]
async fn opts() {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let service = Service::new("lobby")
        .instance("lobby-7")
        .version("2.1")
        .metadata("zone", "north")
        .ttl(Duration::from_secs(9));
    let builder = |id: &str| Gate::builder().shards(0).bus(bus.clone()).id(id);
    let gate = builder("gate-7").service(service).start().await.unwrap();
    // Others on the bus see all of it while the gate runs.
    let gates = bus.gates().await.unwrap();
    assert_eq!(gates[0].id.as_str(), "gate-7");
    let instances = bus.instances("lobby").await.unwrap();
    let [lobby] = &instances[..] else {
        panic!("one instance")
    };
    assert_eq!(lobby.instance.as_str(), "lobby-7");
    assert_eq!(&*lobby.version, "2.1");
    assert_eq!(&*lobby.metadata["zone"], "north");
    assert_eq!(lobby.ttl, Duration::from_secs(9));
    // An id is one gate's.
    let taken = builder("gate-7").start().await.err();
    assert!(matches!(taken, Some(StartError::Bus(BusError::Taken(_)))));
    gate.stop().await;
    assert!(bus.gates().await.unwrap().is_empty());
    assert!(bus.instances("lobby").await.unwrap().is_empty());
    builder("gate-7").start().await.unwrap().stop().await;
}
