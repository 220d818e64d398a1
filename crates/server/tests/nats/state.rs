//! A gate while NATS comes and goes.

use std::io::Write;

use tidegate_test_servers::{NatsServer, eventually};

use super::support::frame;
use super::support::server::{Server, client, packet};
use super::{config, gate, service};

async fn readiness(server: &Server, wanted: u16) -> String {
    let what = format!("/readyz is {wanted}");
    eventually(&what, async || {
        let (status, body) = server.admin("/readyz")?;
        (status == wanted).then_some(body)
    })
    .await
}

/// Clients stay, and the services of the gate's own process serve them; what is elsewhere is
/// unavailable. All is well again by itself.
#[tokio::test]
async fn nats_goes_and_comes_back() {
    let mut nats = NatsServer::start().await;
    let text = format!("services = [\"echo\"]\n{}", config("gate-1", &nats.url()));
    let server = Server::start(&text, &[]);
    let chat = service(&["chat", "--nats", &nats.url()]).await;
    readiness(&server, 200).await;
    let mut stream = client(server.listeners[0]);
    nats.kill();
    assert_eq!(
        readiness(&server, 503).await,
        "not ready: the bus is down\n"
    );
    server.counts("tidegate_bus_up", 0);
    assert_eq!(server.admin("/healthz").unwrap().0, 200);
    stream
        .write_all(&frame("echo/echo/1", b"still here"))
        .unwrap();
    assert_eq!(
        packet(&mut stream),
        ("echo/echo/1".to_owned(), b"still here".to_vec())
    );
    nats.restart().await;
    readiness(&server, 200).await;
    server.counts("tidegate_bus_up", 1);
    eventually("the chat is back", async || {
        stream.write_all(&frame("chat/login/2", b"ada")).unwrap();
        let (topic, body) = packet(&mut stream);
        (topic == "chat/login/2" && body.starts_with(b"{\"name\"")).then_some(())
    })
    .await;
    drop(chat);
}

#[tokio::test]
async fn a_gate_that_stops_is_not_ready() {
    let nats = NatsServer::start().await;
    let mut server = gate("gate-1", &nats.url());
    readiness(&server, 200).await;
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
}
