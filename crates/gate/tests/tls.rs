//! TLS: what stops the start, who is served, and who gets a close only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ProtocolVersion;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::{CertificateDer, ServerName};
use tidegate::{CloseReason, Gate, ListenErrorKind, StartError, Tcp, TlsError, WebSocket};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

mod support;

use support::files::{Dir, tls_client_of};
use support::{Rig, WsClient, assert_echo, packet, read_all, read_v1, until, v1};

/// A certificate for `localhost`, valid in these years, and its key; PEM.
fn certificate(years: (i32, i32)) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    (params.self_signed(&key).unwrap(), key)
}

async fn start_error(cert: &Path, key: &Path) -> TlsError {
    let listener = WebSocket::bind("127.0.0.1:0").tls(cert, key);
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
async fn what_cannot_be_loaded_stops_the_start_and_is_named() {
    let dir = Dir::new();
    let (good, key) = certificate((2020, 2090));
    let cert = dir.write("cert.pem", &good.pem());
    let key_path = dir.write("key.pem", &key.serialize_pem());

    for (years, name) in [((2000, 2001), "expired.pem"), ((2089, 2090), "early.pem")] {
        let key = key_path.clone();
        let (bad, own_key) = certificate(years);
        let bad = dir.write(name, &bad.pem());
        let own_key = dir.write("own.pem", &own_key.serialize_pem());
        let error = start_error(&bad, &own_key).await;
        assert!(
            matches!(&error, TlsError::Validity { path, .. } if *path == bad),
            "{error:?}"
        );
        drop(key);
    }
    let other_key = dir.write("other.pem", &certificate((2020, 2090)).1.serialize_pem());
    let error = start_error(&cert, &other_key).await;
    let named = |cert_in: &Path, key_in: &Path| *cert_in == *cert && *key_in == *other_key;
    assert!(
        matches!(&error, TlsError::Unusable { cert, key, .. } if named(cert, key)),
        "{error:?}"
    );
    let absent = dir.path("absent.pem");
    let empty = dir.write("empty.pem", "");
    let garbage = dir.write("garbage.pem", "-----BEGIN CERTIFICATE-----\n!!!\n");
    for (cert, key, wrong) in [
        (&absent, &key_path, &absent),
        (&empty, &key_path, &empty),
        (&garbage, &key_path, &garbage),
        (&cert, &absent, &absent),
        (&cert, &empty, &empty),
        (&key_path, &key_path, &key_path),
        (&cert, &cert, &cert),
    ] {
        let error = start_error(cert, key).await;
        assert!(
            matches!(&error, TlsError::File { path, .. } if path == wrong),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.contains(&*wrong.to_string_lossy()), "{text}");
    }
    // The permitted neighbour.
    let listener = WebSocket::bind("127.0.0.1:0").tls(&cert, &key_path);
    let gate = Gate::builder().shards(0).listen(listener).start().await;
    gate.unwrap().stop().await;
}

/// A gate with TLS on both kinds of listener, and what a client must trust.
async fn rig(dir: &Dir) -> (Rig, CertificateDer<'static>) {
    let (cert, key, trusted) = dir.localhost("localhost");
    let rig = Rig::with(|gate| {
        let mut limits = tidegate::Limits::default();
        limits.write_timeout = Duration::from_millis(500);
        gate.limits(limits)
            .listen(Tcp::bind("127.0.0.1:0").tls(&cert, &key))
            .listen(WebSocket::bind("127.0.0.1:0").tls(&cert, &key))
    })
    .await;
    (rig, trusted)
}

async fn connect(
    socket: TcpStream,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tls_client_of(trusted, &[version]);
    connector.connect(name, socket).await.unwrap()
}

#[tokio::test]
async fn tls_1_2_and_1_3_over_tcp_and_websocket() {
    let dir = Dir::new();
    let (mut rig, trusted) = rig(&dir).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let socket = TcpStream::connect(rig.address(0)).await.unwrap();
        let mut tcp = connect(socket, &trusted, version).await;
        let expected = match version.version {
            ProtocolVersion::TLSv1_2 => ProtocolVersion::TLSv1_2,
            _ => ProtocolVersion::TLSv1_3,
        };
        assert_eq!(tcp.get_ref().1.protocol_version(), Some(expected));
        assert_echo(&mut tcp).await;
        // Larger than what TLS keeps back, both ways.
        let frame = v1("echo/echo/1", &[5; 60_000]);
        for _ in 0..10 {
            tcp.write_all(&frame).await.unwrap();
            assert_eq!(read_v1(&mut tcp).await.unwrap().1.len(), 60_000);
        }
        tcp.shutdown().await.unwrap();
        assert!(read_all(&mut tcp).await.is_empty());
        assert_eq!(rig.reason().await, CloseReason::ClientLeft);

        let socket = TcpStream::connect(rig.address(1)).await.unwrap();
        let tls = connect(socket, &trusted, version).await;
        let mut ws = WsClient::upgrade(tls, "/").await;
        ws.assert_echo().await;
        ws.send_frame(0x88, &1000u16.to_be_bytes()).await;
        assert_eq!(ws.closed().await, Some(1000));
        drop(ws);
        assert_eq!(rig.reason().await, CloseReason::ClientLeft);
    }
    rig.settled().await;
}

#[tokio::test]
async fn tls_1_1_is_not_offered_and_plain_text_gets_a_close() {
    let dir = Dir::new();
    let (rig, trusted) = rig(&dir).await;
    let mut hello = vec![0x16, 3, 1, 0, 49, 1, 0, 0, 45, 3, 2];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 4, 0, 0x2f, 0, 0x35, 1, 0]);
    hello.extend_from_slice(&[0, 0]);
    let upgrade = support::ws::request("/", &[]);
    for (i, bytes) in [
        (0, hello.clone()),
        (1, hello),
        (0, v1("echo/echo/1", b"hello")),
        (1, upgrade),
    ] {
        let mut client = TcpStream::connect(rig.address(i)).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        let got = read_all(&mut client).await;
        // At most the alert that TLS has for this: content type 21, two bytes.
        assert!(
            got.is_empty() || (got[0] == 21 && got.len() == 7),
            "{got:x?}"
        );
    }
    until("all are counted", || {
        rig.gate().stats().handshake_failures == 4
    })
    .await;
    assert_eq!(rig.gate().stats().sessions_started, 0);
    let socket = TcpStream::connect(rig.address(0)).await.unwrap();
    let mut client = connect(socket, &trusted, &rustls::version::TLS13).await;
    assert_echo(&mut client).await;
    drop(client);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_hello_has_ten_seconds_in_all() {
    let dir = Dir::new();
    let (rig, _) = rig(&dir).await;
    let silent = TcpStream::connect(rig.address(0)).await.unwrap();
    let mut dripping = TcpStream::connect(rig.address(1)).await.unwrap();
    dripping.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    until("they are there", || rig.gate().connection_count() == 2).await;
    let began = Instant::now();
    let drip = async {
        while dripping.write_all(&[0]).await.is_ok() && rig.gate().connection_count() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    drip.await;
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(12),
        "{took:?}"
    );
    drop((silent, dripping));
    rig.settled().await;
    assert_eq!(rig.gate().closed(CloseReason::SetupTimeout), 2);
}

#[tokio::test]
async fn a_tls_client_that_does_not_read_is_closed_as_slow_within_bounds() {
    let dir = Dir::new();
    let (mut rig, trusted) = rig(&dir).await;
    let socket = support::connect_small(rig.address(0), 4096).await;
    let mut client = connect(socket, &trusted, &rustls::version::TLS13).await;
    let session = rig.session().await;
    let mut accepted = 0;
    until("the queue stays full", || {
        let mut took = false;
        while session.send(packet("news", 5000)).is_ok() {
            accepted += 1;
            took = true;
        }
        !took
    })
    .await;
    let ended = rig.end().await;
    assert_eq!(ended.reason, CloseReason::Slow);
    let received = support::frames_in(&read_all(&mut client).await).len() as u64;
    let lost = accepted - received - ended.undelivered_packets;
    // What TLS held back, about a record, counts as written.
    assert!(lost <= 16_384 / 5000 + 2, "{lost} of {accepted}");
    rig.settled().await;
}
