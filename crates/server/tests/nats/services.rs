//! Services in processes of their own.

use std::io::Write;

use tidegate_test_servers::{NatsServer, eventually};

use super::support::frame;
use super::support::person::Person;
use super::support::server::{Server, client, packet};
use super::{config, gate, service};

fn tcp(server: &Server) -> String {
    format!("tcp://{}", server.listeners[0])
}

fn ws(server: &Server) -> String {
    format!("ws://{}/", server.listeners[1])
}

#[tokio::test]
async fn people_at_two_gates_chat() {
    let nats = NatsServer::start().await;
    let url = nats.url();
    let (first, second) = (gate("gate-1", &url), gate("gate-2", &url));
    let mut chat = service(&["chat", "--nats", &url]).await;
    let mut ada = Person::connect(&tcp(&first), &[]);
    ada.types("chat/login ada");
    ada.sees_line(&["chat/login", "\"online\": [\"ada\"]"]);
    let mut bob = Person::connect(&ws(&second), &[]);
    bob.types("chat/login bob");
    bob.sees_line(&["chat/login", "[\"ada\", \"bob\"]"]);
    ada.sees_line(&["chat/joined", "bob"]);
    bob.types("chat/say hello, ada");
    ada.sees_line(&["chat/said", "\"from\": \"bob\"", "hello, ada"]);
    ada.types("chat/tell bob only you");
    bob.sees_line(&["chat/told", "\"from\": \"ada\"", "only you"]);
    // The service dies, and one that is started anew knows them.
    chat.kill();
    let chat = service(&["chat", "--nats", &url]).await;
    ada.types("chat/say once more");
    bob.sees_line(&["chat/said", "\"from\": \"ada\"", "once more"]);
    bob.types("chat/who");
    bob.sees_line(&["chat/who", "\"name\": \"bob\""]);
    // Who leaves, and who was at a gate that dies, is seen to leave.
    let mut carol = Person::connect(&tcp(&second), &[]);
    carol.types("chat/login carol");
    ada.sees_line(&["chat/joined", "carol"]);
    assert_eq!(carol.leaves().0, Some(0));
    ada.sees_line(&["chat/left", "carol"]);
    second.signal("KILL");
    ada.sees_line(&["chat/left", "bob"]);
    drop(chat);
}

/// Nothing is lost when a service is told to stop: what it has is answered, what it does not
/// take any more goes to another instance.
#[tokio::test]
async fn a_service_that_stops() {
    let nats = NatsServer::start().await;
    let url = nats.url();
    let server = gate("gate-1", &url);
    let mut echo = service(&["echo", "--nats", &url, "--instance", "echo-1"]).await;
    assert!(
        echo.output().contains("instance echo-1"),
        "{}",
        echo.output()
    );
    let mut stream = client(server.listeners[0]);
    reached(&mut stream).await;
    stream
        .write_all(&frame("echo/after/2", b"1s done"))
        .unwrap();
    // Comes after it on the same way.
    stream.write_all(&frame("echo/echo/3", b"x")).unwrap();
    assert_eq!(packet(&mut stream).0, "echo/echo/3");
    echo.terminate();
    assert_eq!(
        packet(&mut stream),
        ("echo/after/2".to_owned(), b"done".to_vec())
    );
    assert!(echo.ended().await.success(), "{}", echo.output());
    let _again = service(&["echo", "--nats", &url, "--instance", "echo-1"]).await;
    reached(&mut stream).await;
}

/// A gate that stops waits for what its clients have asked for elsewhere.
#[tokio::test]
async fn a_gate_that_stops() {
    let nats = NatsServer::start().await;
    let url = nats.url();
    let mut server = gate("gate-1", &url);
    let _echo = service(&["echo", "--nats", &url]).await;
    let mut stream = client(server.listeners[0]);
    reached(&mut stream).await;
    stream
        .write_all(&frame("echo/after/2", b"1s done"))
        .unwrap();
    stream.write_all(&frame("echo/echo/3", b"x")).unwrap();
    assert_eq!(packet(&mut stream).0, "echo/echo/3");
    server.signal("TERM");
    assert_eq!(
        packet(&mut stream),
        ("echo/after/2".to_owned(), b"done".to_vec())
    );
    assert_eq!(server.ended().code(), Some(0));
}

/// Two installations on one NATS do not see each other.
#[tokio::test]
async fn another_prefix_is_another_world() {
    let nats = NatsServer::start().await;
    let url = nats.url();
    let first = gate("gate-1", &url);
    let other = config("gate-1", &url) + "prefix = \"staging.eu\"\n";
    let second = Server::start(&other, &[]);
    let echo = ["echo", "--nats", &url, "--set", "nats.prefix=staging.eu"];
    let _echo = service(&echo).await;
    reached(&mut client(second.listeners[0])).await;
    let mut stream = client(first.listeners[0]);
    stream.write_all(&frame("echo/echo/1", b"x")).unwrap();
    assert_eq!(packet(&mut stream).0, "error");
}

/// Until a call is answered: a service that has just begun may not be known to a gate yet.
async fn reached(stream: &mut std::net::TcpStream) {
    eventually("echo answers", async || {
        stream.write_all(&frame("echo/echo/1", b"x")).ok()?;
        let (topic, _) = packet(stream);
        (topic == "echo/echo/1").then_some(())
    })
    .await;
}
