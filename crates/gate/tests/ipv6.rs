//! IPv6 listeners, with and without IPv4 clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tidegate::{
    Gate, GateLimits, Identity, ListenErrorKind, StartError, Tcp, TrustedNetwork, WebSocket,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;

mod support;

use support::{LONG, Rig, WsClient, assert_echo, read_all};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[tokio::test]
async fn every_address_takes_ipv4_too_and_shows_it_as_such() {
    let (tell, mut told) = unbounded_channel();
    let mut rig = Rig::with(|gate| {
        gate.listen(Tcp::bind("[::]:0").ipv6_only(false))
            .listen(Tcp::bind("[::]:0"))
            .on_authenticate(LONG, move |credentials| {
                tell.send(credentials.peer).unwrap();
                async { Ok(Identity::guest()) }
            })
    })
    .await;
    let default = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap();
    for (i, is_dual) in [(0, true), (1, default.trim() == "0")] {
        let port = rig.address(i).port();
        assert_eq!(rig.address(i).ip(), IpAddr::from(Ipv6Addr::UNSPECIFIED));
        for ip in [V4, V6] {
            let client = TcpStream::connect((ip, port)).await;
            if ip == V4 && !is_dual {
                assert_eq!(client.unwrap_err().kind(), ErrorKind::ConnectionRefused);
                continue;
            }
            let mut client = client.unwrap();
            assert_echo(&mut client).await;
            assert_eq!(rig.session().await.ip(), ip);
            assert_eq!(told.recv().await.unwrap(), client.local_addr().unwrap());
        }
    }
    rig.settled().await;
}

#[tokio::test]
async fn ipv6_only_leaves_the_port_to_ipv4() {
    let rig = Rig::with(|gate| gate.listen(Tcp::bind("[::]:0").ipv6_only(true))).await;
    let port = rig.address(0).port();
    let refused = TcpStream::connect((V4, port)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_echo(&mut TcpStream::connect((V6, port)).await.unwrap()).await;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string();
    let other = Rig::with(|gate| gate.listen(WebSocket::bind(address))).await;
    let client = TcpStream::connect((V4, port)).await.unwrap();
    WsClient::upgrade(client, "/").await.assert_echo().await;
    rig.settled().await;
    other.settled().await;
}

#[tokio::test]
async fn addresses_with_a_scope() {
    for address in ["[::1%1]:0", "[::1%lo]:0"] {
        let rig = Rig::with(|gate| gate.listen(Tcp::bind(address))).await;
        let mut client = TcpStream::connect((V6, rig.address(0).port()))
            .await
            .unwrap();
        assert_echo(&mut client).await;
        drop(client);
        rig.settled().await;
    }
    for (listener, expected) in [
        (
            Tcp::bind("[fe80::1%absent0]:0"),
            "there is no interface \"absent0\"",
        ),
        (
            Tcp::bind("127.0.0.1:0").ipv6_only(true),
            "ipv6_only is for IPv6 addresses only",
        ),
        (
            Tcp::bind("unix:/tmp/x").ipv6_only(true),
            "ipv6_only is for IPv6 addresses only",
        ),
    ] {
        let started = Gate::builder().shards(0).listen(listener).start().await;
        let Err(StartError::Listen(error)) = started else {
            panic!("{started:?}", started = started.map(|_| ()));
        };
        let kinds = matches!(
            error.why,
            ListenErrorKind::NoInterface(_) | ListenErrorKind::WrongKind { .. }
        );
        assert!(kinds && error.why.to_string() == expected, "{error:?}");
    }
}

#[tokio::test]
async fn an_ipv4_client_of_an_ipv6_listener_is_trusted_and_counted_as_itself() {
    let mut limits = GateLimits::default();
    limits.max_connections_per_address = 1;
    let trusted: [TrustedNetwork; 1] = ["127.1.0.0/16".parse().unwrap()];
    let mut rig = Rig::with(|gate| {
        gate.gate_limits(limits).listen(
            Tcp::bind("[::]:0")
                .ipv6_only(false)
                .trusted_proxies(trusted)
                .proxy_protocol(true),
        )
    })
    .await;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, rig.address(0).port()));
    let header = b"PROXY TCP6 2001:db8::7 2001:db8::1 5 6\r\n";
    let mut client = support::connect_from([127, 1, 0, 1], to).await;
    client.write_all(header).await.unwrap();
    assert_echo(&mut client).await;
    assert_eq!(
        rig.session().await.ip(),
        "2001:db8::7".parse::<IpAddr>().unwrap()
    );
    // Its neighbour in the same /64.
    let mut neighbour = support::connect_from([127, 1, 0, 1], to).await;
    neighbour
        .write_all(b"PROXY TCP6 2001:db8::8 2001:db8::1 5 6\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut neighbour).await.is_empty());
    let mut own = support::connect_from([127, 0, 0, 1], to).await;
    assert_echo(&mut own).await;
    let mut again = support::connect_from([127, 0, 0, 1], to).await;
    assert!(
        read_all(&mut again).await.is_empty(),
        "one for each address"
    );
    let mut v6 = TcpStream::connect((V6, to.port())).await.unwrap();
    assert_echo(&mut v6).await;
    drop((client, own, v6));
    rig.settled().await;
    assert_eq!(rig.gate().stats().turned_away, 2);
}
