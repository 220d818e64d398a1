//! The servers start, fail as told and come back.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tidegate_test_servers::{
    Certificates, NatsCluster, NatsServer, Process, Proxy, RedisServer, Site, with_namespaces,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The first line that a NATS server sends.
async fn hello(address: std::net::SocketAddr) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    line
}

#[tokio::test]
async fn a_nats_server_comes_back_on_its_port() {
    let mut nats = NatsServer::start().await;
    let first = hello(nats.address()).await;
    assert!(first.starts_with("INFO {"), "{first}");
    assert!(first.contains(r#""jetstream":true"#), "{first}");
    nats.kill();
    assert!(TcpStream::connect(nats.address()).await.is_err());
    nats.restart().await;
    assert!(hello(nats.address()).await.starts_with("INFO {"));
    nats.stop().await;
    assert!(TcpStream::connect(nats.address()).await.is_err());
}

#[tokio::test]
async fn a_nats_server_with_tls_and_users() {
    let certificates = Certificates::new();
    let nats = NatsServer::options()
        .tls(&certificates, true)
        .config("authorization { user: a, password: b }")
        .start()
        .await;
    let hello = hello(nats.address()).await;
    for part in ["auth_required", "tls_required", "tls_verify"] {
        assert!(hello.contains(&format!(r#""{part}":true"#)), "{hello}");
    }
    assert!(nats.url_for("a", "b").starts_with("tls://a:b@127.0.0.1:"));
}

#[tokio::test]
async fn three_nats_servers_are_one_cluster() {
    let mut cluster = NatsCluster::start().await;
    assert_eq!(cluster.urls().len(), 3);
    let varz = cluster.nodes[0].monitor("/jsz").await;
    assert_eq!(varz["meta_cluster"]["cluster_size"], 3, "{varz}");
    cluster.nodes[1].kill();
    cluster.nodes[1].restart().await;
}

#[tokio::test]
async fn a_redis_server_keeps_what_was_written_when_killed() {
    let mut redis = RedisServer::options().config("requirepass s").start().await;
    let ask = async |address, text: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("AUTH s\r\n{text}\r\nQUIT\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask(redis.address(), "SET k v").await;
    assert_eq!(answer, "+OK\r\n+OK\r\n+OK\r\n");
    redis.kill();
    redis.restart().await;
    let answer = ask(redis.address(), "GET k").await;
    assert_eq!(answer, "+OK\r\n$1\r\nv\r\n+OK\r\n");
}

#[tokio::test]
async fn a_redis_server_with_tls() {
    let certificates = Certificates::new();
    let redis = RedisServer::options().tls(&certificates, false);
    let redis = redis.start().await;
    assert!(redis.url().starts_with("rediss://127.0.0.1:"));
}

#[tokio::test]
async fn a_proxy_holds_and_cuts() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut byte = [0];
    client.write_all(b"1").await.unwrap();
    server.read_exact(&mut byte).await.unwrap();
    proxy.hold();
    client.write_all(b"2").await.unwrap();
    let wait = Duration::from_millis(100);
    let held = tokio::time::timeout(wait, server.read_exact(&mut byte)).await;
    assert!(held.is_err(), "held");
    proxy.release();
    server.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"2");
    proxy.cut();
    assert_eq!(client.read(&mut byte).await.unwrap_or(0), 0);
    assert_eq!(server.read(&mut byte).await.unwrap_or(0), 0);
    proxy.refuse(true);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(client.read(&mut byte).await.unwrap_or(0), 0);
    assert_eq!(proxy.connections(), 2);
}

/// A program at the site prints a byte as it gets it from us.
#[tokio::test]
async fn a_site_is_cut_off() {
    if !with_namespaces("a_site_is_cut_off") {
        return;
    }
    let mut site = Site::new().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let mut address = listener.local_addr().unwrap();
    address.set_ip([127, 0, 0, 1].into());
    let way = site.way_to(address);
    let mut command = site.command("bash");
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; while read -r -u 3 line; do echo \"got $line\"; done",
        way.ip(),
        way.port()
    );
    command.args(["-c", &script]);
    let mut there = Process::start("there", command);
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"1\n").await.unwrap();
    there.line_with("got 1").await;
    site.cut();
    stream.write_all(b"2\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!there.output().contains("got 2"));
    site.mend();
    there.line_with("got 2").await;
    assert!(there.is_running());
}
