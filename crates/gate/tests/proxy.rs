//! Behind proxies: who is believed about whose connection it is, and who is not. Peers are
//! told apart by the loopback's many addresses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tidegate::{
    CloseReason, ForwardedHeader, Gate, GateLimits, Identity, ListenErrorKind, StartError, Tcp,
    TrustedNetwork, WebSocket,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

mod support;

use support::files::{Dir, tls_client};
use support::ws::{read_head, request};
use support::{LONG, PEER, Rig, WsClient, assert_echo, connect_from, read_all, until, v1};

/// All of 127.1.0.0/16 is trusted, the rest of the loopback is not.
const TRUSTED: [u8; 4] = [127, 1, 0, 1];
const UNTRUSTED: [u8; 4] = [127, 0, 0, 9];

fn networks() -> [TrustedNetwork; 1] {
    ["127.1.0.0/16".parse().unwrap()]
}

/// A version 2 header.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((rest.len() as u16).to_be_bytes());
    header.extend_from_slice(rest);
    header
}

fn v2_from(client: [u8; 4], port: u16) -> Vec<u8> {
    let mut addresses = client.to_vec();
    addresses.extend([198, 51, 100, 1]);
    addresses.extend(port.to_be_bytes());
    addresses.extend(3653u16.to_be_bytes());
    v2(0x21, 0x11, &addresses)
}

fn v1_from(client: [u8; 4], port: u16) -> Vec<u8> {
    let client = IpAddr::from(client);
    format!("PROXY TCP4 {client} 198.51.100.1 {port} 3653\r\n").into_bytes()
}

/// What comes first on a connection: what it is, its bytes, and whom they name.
type Beginning = (&'static str, Vec<u8>, Option<[u8; 4]>);

fn beginnings() -> Vec<Beginning> {
    let mut inet6 = [0; 36];
    inet6[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 6]);
    vec![
        ("nothing", vec![], None),
        ("v1", v1_from([192, 0, 2, 1], 5), Some([192, 0, 2, 1])),
        ("v2", v2_from([192, 0, 2, 2], 5), Some([192, 0, 2, 2])),
        ("v2 mapped", v2(0x21, 0x21, &inet6), Some([192, 0, 2, 6])),
        (
            "v1 of a proxy",
            v1_from([127, 1, 0, 7], 5),
            Some([127, 1, 0, 7]),
        ),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".to_vec(), None),
        ("v2 local", v2(0x20, 0, b""), None),
        ("v2 unix", v2(0x21, 0x31, &[b'x'; 216]), None),
    ]
}

/// What must come of it: whom the session is from; `None` if it is refused.
fn expected(
    peer: [u8; 4],
    (what, _, named): &Beginning,
    protocol: bool,
    header: Option<[u8; 4]>,
) -> Option<IpAddr> {
    let client = match (*what, protocol && peer == TRUSTED) {
        ("nothing", false) => peer,
        ("nothing", true) => return None,
        (_, true) => named.unwrap_or(peer),
        (_, false) => return None,
    };
    let believes = client[..2] == TRUSTED[..2];
    Some(header.filter(|_| believes).unwrap_or(client).into())
}

#[tokio::test]
async fn the_spoof_matrix_over_tcp() {
    for protocol in [false, true] {
        let (tell, mut told) = unbounded_channel();
        let mut rig = Rig::with(|gate| {
            gate.listen(
                Tcp::bind("127.0.0.1:0")
                    .trusted_proxies(networks())
                    .proxy_protocol(protocol),
            )
            .on_authenticate(LONG, move |credentials| {
                tell.send(credentials.peer).unwrap();
                async { Ok(Identity::guest()) }
            })
        })
        .await;
        let mut refused = 0;
        for peer in [TRUSTED, UNTRUSTED] {
            for beginning in beginnings() {
                let (what, bytes, named) = &beginning;
                let what = format!("{what}, peer {peer:?}, protocol {protocol}");
                let mut client = connect_from(peer, rig.address(0)).await;
                let own = client.local_addr().unwrap();
                // In one piece: what follows the header is not lost with it.
                let all = [&bytes[..], &v1("echo/echo/1", b"hello")].concat();
                client.write_all(&all).await.unwrap();
                match expected(peer, &beginning, protocol, None) {
                    Some(ip) => {
                        let session = rig.session().await;
                        assert_eq!(session.ip(), ip, "{what}");
                        let seen = told.recv().await.unwrap();
                        let port = match named.filter(|_| ip != own.ip()) {
                            Some([192, 0, 2, 6]) => 0,
                            Some(_) => 5,
                            None => own.port(),
                        };
                        assert_eq!(seen, SocketAddr::new(ip, port), "{what}");
                        let (topic, body) = support::read_v1(&mut client).await.unwrap();
                        assert_eq!((&*topic, &body[..]), ("echo/echo/1", &b"hello"[..]));
                        assert_echo(&mut client).await;
                        drop(client);
                        assert_eq!(rig.reason().await, CloseReason::ClientLeft, "{what}");
                    }
                    None if protocol && peer == TRUSTED => {
                        assert!(read_all(&mut client).await.is_empty(), "{what}");
                        refused += 1;
                    }
                    // Ordinary bytes of an ordinary client, and no frame.
                    None => {
                        assert_eq!(rig.session().await.ip(), IpAddr::from(peer), "{what}");
                        assert_eq!(told.recv().await.unwrap(), own);
                        assert!(read_all(&mut client).await.is_empty(), "{what}");
                        drop(client);
                        assert_eq!(rig.reason().await, CloseReason::BadFrame, "{what}");
                    }
                }
            }
        }
        rig.settled().await;
        assert_eq!(refused, u64::from(protocol));
        assert_eq!(rig.gate().closed(CloseReason::Handshake), refused);
        assert_eq!(rig.gate().stats().handshake_failures, refused);
        assert!(rig.started.try_recv().is_err() && told.try_recv().is_err());
    }
}

#[tokio::test]
async fn the_spoof_matrix_over_websocket() {
    let kinds = [
        ForwardedHeader::Off,
        ForwardedHeader::XForwardedFor,
        ForwardedHeader::Forwarded,
    ];
    // Forged at the left, a trusted proxy's at the right.
    let headers = [
        (ForwardedHeader::Off, "X-Real-IP: 6.6.6.6", [0; 4]),
        (
            ForwardedHeader::XForwardedFor,
            "X-Forwarded-For: 6.6.6.6, 127.1.0.8, 192.0.2.3, 127.1.2.3",
            [192, 0, 2, 3],
        ),
        (
            ForwardedHeader::Forwarded,
            "Forwarded: for=6.6.6.6, for=\"192.0.2.4:80\";proto=https, for=127.1.2.3",
            [192, 0, 2, 4],
        ),
    ];
    for protocol in [false, true] {
        let mut rig = Rig::with(|mut gate| {
            for kind in kinds {
                gate = gate.listen(
                    WebSocket::bind("127.0.0.1:0")
                        // Its clients are silent, and there are many one after the other.
                        .protocol(tidegate::Protocol::V1)
                        .trusted_proxies(networks())
                        .proxy_protocol(protocol)
                        .forwarded(kind),
                );
            }
            gate
        })
        .await;
        let mut refused = 0;
        for (i, kind) in kinds.into_iter().enumerate() {
            for (sent, header, tells) in headers {
                let tells = (sent == kind && kind != ForwardedHeader::Off).then_some(tells);
                for peer in [TRUSTED, UNTRUSTED] {
                    for beginning in beginnings() {
                        let what = format!(
                            "{}, {header}, peer {peer:?}, protocol {protocol}, {kind:?}",
                            beginning.0
                        );
                        let mut client = connect_from(peer, rig.address(i)).await;
                        client.write_all(&beginning.1).await.unwrap();
                        let Some(ip) = expected(peer, &beginning, protocol, tells) else {
                            // It may be refused before all is sent.
                            let _ = client.write_all(&request("/", &[header])).await;
                            let answer = read_all(&mut client).await;
                            let answer = String::from_utf8(answer).unwrap();
                            let is_plain = !(protocol && peer == TRUSTED);
                            assert_eq!(answer.starts_with("HTTP/1.1 400 "), is_plain, "{what}");
                            assert!(is_plain || answer.is_empty(), "{what}");
                            refused += 1;
                            continue;
                        };
                        let (mut client, _) = WsClient::upgrade_with(client, "/", &[header]).await;
                        assert_eq!(rig.session().await.ip(), ip, "{what}");
                        client.assert_echo().await;
                        drop(client);
                        rig.end().await;
                    }
                }
            }
        }
        rig.settled().await;
        assert_eq!(rig.gate().closed(CloseReason::Handshake), refused);
        assert!(rig.started.try_recv().is_err());
    }
}

#[tokio::test]
async fn lists_over_several_lines_and_ones_that_cannot_be_read() {
    let mut rig = Rig::with(|gate| {
        gate.listen(
            WebSocket::bind("127.0.0.1:0")
                .trusted_proxies(networks())
                .forwarded(ForwardedHeader::XForwardedFor),
        )
    })
    .await;
    for (headers, expected) in [
        (
            &["X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 192.0.2.3"][..],
            "192.0.2.3",
        ),
        (
            &["X-Forwarded-For: 192.0.2.3", "X-FORWARDED-FOR: 127.1.0.8"],
            "192.0.2.3",
        ),
        (&["X-Forwarded-For: 2001:db8::3"], "2001:db8::3"),
        (&["X-Forwarded-For: 192.0.2.3, garbage"], "127.1.0.1"),
        (&["X-Forwarded-For: \u{fffd}, 192.0.2.3"], "192.0.2.3"),
        (&["X-Forwarded-For: unknown"], "127.1.0.1"),
        (&["X-Forwarded-For:"], "127.1.0.1"),
        (&[], "127.1.0.1"),
    ] {
        let client = connect_from(TRUSTED, rig.address(0)).await;
        let (mut client, _) = WsClient::upgrade_with(client, "/", headers).await;
        let ip = rig.session().await.ip().to_string();
        assert_eq!(ip, expected, "{headers:?}");
        client.assert_echo().await;
    }
    rig.settled().await;
}

// --- places

#[tokio::test]
async fn places_count_for_the_client_and_not_for_its_proxy() {
    let mut limits = GateLimits::default();
    limits.max_connections_per_address = 2;
    let listener = WebSocket::bind("127.0.0.1:0")
        .trusted_proxies(networks())
        .forwarded(ForwardedHeader::XForwardedFor);
    let rig = Rig::with(|gate| {
        gate.gate_limits(limits)
            .listen(
                Tcp::bind("127.0.0.1:0")
                    .trusted_proxies(networks())
                    .proxy_protocol(true),
            )
            .listen(listener.clone())
            .listen(listener.proxy_protocol(true))
    })
    .await;
    let gate = rig.gate().clone();
    // In set-up, their clients not known yet: more than one address may have.
    let mut all = Vec::new();
    for i in [0, 0, 1, 1, 2, 2] {
        all.push(connect_from(TRUSTED, rig.address(i)).await);
    }
    until("they are there", || gate.connection_count() == 6).await;
    let tcp = async |client| {
        let mut socket = connect_from(TRUSTED, rig.address(0)).await;
        let bytes = [v1_from(client, 1), v1("echo/echo/1", b"")].concat();
        socket.write_all(&bytes).await.unwrap();
        support::read_v1(&mut socket).await.map(|_| socket)
    };
    // By X-Forwarded-For; behind a PROXY header that names a proxy, one that is of the client.
    let ws = async |i, beginning: &[u8], client: [u8; 4]| {
        let mut socket = connect_from(TRUSTED, rig.address(i)).await;
        let header = format!("X-Forwarded-For: {}", IpAddr::from(client));
        socket.write_all(beginning).await.unwrap();
        let _ = socket.write_all(&request("/", &[&header])).await;
        let (head, rest) = read_head(&mut socket).await;
        if head.starts_with("HTTP/1.1 101 ") {
            return Some(socket);
        }
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        let after = head
            .lines()
            .find_map(|line| line.strip_prefix("Retry-After: "));
        let after: u32 = after.unwrap().parse().unwrap();
        assert!((1..=30).contains(&after), "{after}");
        assert_eq!(
            rest.len() + read_all(&mut socket).await.len(),
            21,
            "the text"
        );
        None
    };
    let proxy = v1_from([127, 1, 0, 8], 1);
    let mut turned_away = 0;
    for last in 1..=5 {
        let client = [192, 0, 2, last];
        all.push(tcp(client).await.expect("one"));
        all.push(match last % 2 {
            0 => ws(1, b"", client).await.expect("two"),
            _ => ws(2, &proxy, client).await.expect("two"),
        });
        assert!(tcp(client).await.is_none(), "three");
        assert!(ws(1, b"", client).await.is_none());
        assert!(ws(2, &proxy, client).await.is_none());
        assert!(ws(2, &v2_from(client, 1), [192, 0, 2, 99]).await.is_none());
        turned_away += 4;
        assert_eq!(gate.stats().turned_away, turned_away);
    }
    assert_eq!(gate.closed(CloseReason::TooManyConnections), turned_away);
    assert_eq!(gate.stats().handshake_failures, 0);
    // A place given back.
    drop(all.remove(6));
    until("its place is free", || gate.connection_count() == 15).await;
    all.push(tcp([192, 0, 2, 1]).await.expect("again"));
    drop(all);
    rig.settled().await;
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_is_counted_and_one_that_only_looks_is_no_failure() {
    let mut limits = GateLimits::default();
    limits.max_connections_per_address = 1;
    let mut rig = Rig::with(|gate| {
        gate.gate_limits(limits).listen(
            Tcp::bind("127.0.0.1:0")
                .trusted_proxies(networks())
                .proxy_protocol(true),
        )
    })
    .await;
    let local = v2(0x20, 0, b"");
    let mut check = connect_from(TRUSTED, rig.address(0)).await;
    check.write_all(&local).await.unwrap();
    assert_eq!(rig.session().await.ip(), IpAddr::from(TRUSTED));
    let mut second = connect_from(TRUSTED, rig.address(0)).await;
    second.write_all(&local).await.unwrap();
    assert!(read_all(&mut second).await.is_empty());
    assert_eq!(rig.gate().stats().turned_away, 1);
    drop(check);
    assert_eq!(rig.reason().await, CloseReason::ClientLeft);
    for n in 2..5 {
        drop(connect_from(TRUSTED, rig.address(0)).await);
        until("it is seen", || {
            rig.gate().closed(CloseReason::ClientLeft) == n
        })
        .await;
    }
    assert_eq!(rig.gate().stats().handshake_failures, 0);
    rig.settled().await;
}

// --- the header's place and time

#[tokio::test]
async fn the_header_comes_before_tls() {
    let dir = Dir::new();
    let (cert, key, trusted) = dir.localhost("localhost");
    let mut rig = Rig::with(|gate| {
        let tcp = Tcp::bind("127.0.0.1:0").tls(&cert, &key);
        let ws = WebSocket::bind("127.0.0.1:0").tls(&cert, &key);
        gate.listen(tcp.trusted_proxies(networks()).proxy_protocol(true))
            .listen(ws.trusted_proxies(networks()).proxy_protocol(true))
    })
    .await;
    let connector = tls_client(&trusted);
    let name = ServerName::try_from("localhost").unwrap();
    let client = IpAddr::from([192, 0, 2, 1]);
    for header in [v1_from([192, 0, 2, 1], 5), v2_from([192, 0, 2, 1], 5)] {
        for i in 0..2 {
            let mut socket = connect_from(TRUSTED, rig.address(i)).await;
            socket.write_all(&header).await.unwrap();
            let mut tls = connector.connect(name.clone(), socket).await.unwrap();
            match i {
                0 => {
                    assert_echo(&mut tls).await;
                    drop(tls);
                }
                _ => WsClient::upgrade(tls, "/").await.assert_echo().await,
            }
            assert_eq!(rig.session().await.ip(), client);
            rig.end().await;
        }
    }
    // TLS first, the header inside: neither a proxy's nor anyone's.
    let socket = connect_from(TRUSTED, rig.address(0)).await;
    assert!(connector.connect(name.clone(), socket).await.is_err());
    let socket = connect_from(UNTRUSTED, rig.address(0)).await;
    let mut tls = connector.connect(name, socket).await.unwrap();
    tls.write_all(&v1_from([192, 0, 2, 1], 5)).await.unwrap();
    assert!(read_all(&mut tls).await.is_empty());
    assert_eq!(rig.session().await.ip(), IpAddr::from(UNTRUSTED));
    drop(tls);
    assert_eq!(rig.reason().await, CloseReason::BadFrame);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_end_has_the_set_up_deadline() {
    let rig = Rig::new().await;
    let trusted = [TrustedNetwork::from(PEER.ip())];
    let listener = Tcp::bind("pipe")
        .trusted_proxies(trusted)
        .proxy_protocol(true);
    for header in [v1_from([192, 0, 2, 1], 5), v2(0x21, 0x11, &[0; 2000])] {
        let before = rig.gate().closed(CloseReason::SetupTimeout);
        let mut client = rig.tcp_on(listener.clone());
        let began = Instant::now();
        for byte in &header[..header.len() - 1] {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        assert!(read_all(&mut client).await.is_empty());
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(10), "{took:?}");
        assert_eq!(rig.gate().closed(CloseReason::SetupTimeout), before + 1);
    }
    // A header in single bytes, in time.
    let mut client = rig.tcp_on(listener);
    for byte in v2_from([192, 0, 2, 1], 5) {
        client.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_echo(&mut client).await;
    drop(client);
    rig.settled().await;
    assert_eq!(rig.gate().stats().sessions_started, 1);
}

#[tokio::test]
async fn bytes_that_are_no_header_are_refused_at_once() {
    let rig = Rig::with(|gate| {
        gate.listen(
            Tcp::bind("127.0.0.1:0")
                .trusted_proxies(networks())
                .proxy_protocol(true),
        )
    })
    .await;
    let mut wrong = v2_from([192, 0, 2, 1], 5);
    wrong[13] = 0x55;
    let corpus: [&[u8]; 7] = [
        b"G",
        b"PROXY TCP9 ",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 5 3653\n",
        &[b'P'; 200],
        &v2(0x20, 0, &[0; 5000]),
        &wrong,
        &v2(0x11, 0x11, &[0; 12]),
    ];
    for (n, bytes) in corpus.into_iter().enumerate() {
        let mut client: TcpStream = connect_from(TRUSTED, rig.address(0)).await;
        client.write_all(bytes).await.unwrap();
        assert!(read_all(&mut client).await.is_empty());
        assert_eq!(
            rig.gate().closed(CloseReason::Handshake),
            n as u64 + 1,
            "{bytes:x?}"
        );
    }
    assert_eq!(rig.gate().stats().sessions_started, 0);
    rig.settled().await;
}

// --- what cannot be meant

#[tokio::test]
async fn believing_without_anyone_to_believe_stops_the_start() {
    let start = async |listener: tidegate::Listener| match Gate::builder()
        .shards(0)
        .listen(listener)
        .start()
        .await
    {
        Err(StartError::Listen(error)) => error.why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it started"),
    };
    let why = start(Tcp::bind("127.0.0.1:0").proxy_protocol(true).into()).await;
    assert!(
        matches!(why, ListenErrorKind::NobodyTrusted("proxy_protocol")),
        "{why:?}"
    );
    let listener = WebSocket::bind("127.0.0.1:0").forwarded(ForwardedHeader::Forwarded);
    let why = start(listener.into()).await;
    assert!(
        matches!(why, ListenErrorKind::NobodyTrusted("forwarded")),
        "{why:?}"
    );
}
