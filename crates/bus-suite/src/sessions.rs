//! What services do to sessions.

use std::time::Duration;

use tidegate::bus::{Connected, GateError};
use tidegate::protocol::Settings;
use tidegate::service::Clients;
use tidegate::{Delivery, GateId, GateLimits, Limits, SessionId, Tcp};

use tokio::io::AsyncWriteExt;

use crate::World;
use crate::stage::*;

fn settings(key: &str, value: &str) -> Settings {
    let mut settings = Settings::new();
    settings.merge([(key, value)]).unwrap();
    settings
}

pub async fn each_operation(world: &impl World) {
    let gate = gate(world, "a").await;
    let (desk, _running) = desk(world).await;
    let (client, session) = meet(&gate, &desk).await;
    let there = || gate.gate().session(session.id()).unwrap().snapshot();
    assert_eq!(session.gate().as_str(), "a");

    session.set("name", "Ada").await.unwrap();
    session.set_batch([("a", "1"), ("b", "2")]).await.unwrap();
    assert_eq!(
        session.get("name").as_deref(),
        Some("Ada"),
        "the copy follows"
    );
    session.del("a").await.unwrap();
    session.del("none").await.unwrap();
    let pairs: Vec<_> = there()
        .settings
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(pairs, ["b=2", "name=Ada"]);
    session.replace(settings("only", "this")).await.unwrap();
    assert_eq!(there().settings.len(), 1);
    session.set_local("local", "x").unwrap();
    assert_eq!(there().settings.len(), 1);
    session.push().await.unwrap();
    assert_eq!(there().settings.get("local"), Some("x"));

    session.bind_device("ada", "phone").await.unwrap();
    assert_eq!(there().user.as_ref().map(|u| u.as_str()), Some("ada"));
    assert_eq!(there().device.as_ref().map(|d| d.as_str()), Some("phone"));
    assert_eq!(
        session.user().map(|u| u.to_string()).as_deref(),
        Some("ada")
    );
    session.bind("ada").await.unwrap();
    session.unbind().await.unwrap();
    assert!(session.is_guest() && there().user.is_none());
    gate.gate()
        .session(session.id())
        .unwrap()
        .set(settings("by", "the gate"))
        .await
        .unwrap();
    assert_eq!(session.get("by"), None);
    session.update().await.unwrap();
    assert_eq!(session.get("by").as_deref(), Some("the gate"));

    let mut pushes = client.pushes();
    session.send("news", "1").await.unwrap();
    session.send_wait("news", "2", LONG).await.unwrap();
    session
        .send_as("news", "3", Delivery::Droppable)
        .await
        .unwrap();
    let latest = Delivery::Latest("key \u{e9}".into());
    session
        .send_as("news/\u{1f600}", "4", latest)
        .await
        .unwrap();
    for expected in [
        ("news", "1"),
        ("news", "2"),
        ("news", "3"),
        ("news/\u{1f600}", "4"),
    ] {
        let (topic, body) = push(&mut pushes).await;
        assert_eq!((&*topic, &*body), expected);
    }
    assert_eq!(session.connected().await, Ok(Connected::Attached));
    session.join("room").await.unwrap();
    session.leave("room").await.unwrap();
    session.leave("room").await.unwrap();
    session.bind_instance("desk", "x").await.unwrap();
    session.unbind_instance("desk").await.unwrap();
    session.close().await.unwrap();
    assert_eq!(
        client.closed().await.code,
        Some(tidegate::CloseReason::Kicked.code())
    );
    let gone = || async { session.connected().await };
    becomes("it is gone", Ok(Connected::Gone), gone).await;
}

pub async fn refused_operations(world: &impl World) {
    let mut limits = GateLimits::default();
    limits.max_groups_per_session = 1;
    limits.max_instance_bindings = 1;
    let mut small = Limits::default();
    small.max_packet_size = 4096;
    let bus = world.bus().await;
    let gate = builder(bus, "a")
        .gate_limits(limits)
        .listen(Tcp::bind("127.0.0.1:0").limits(small))
        .on_outbound(|_, packet| match packet.topic.as_str() {
            "refuse" => Err(tidegate::Refused::new("no")),
            _ => Ok(packet),
        })
        .start()
        .await
        .unwrap();
    let (desk, _running) = desk(world).await;
    let url = format!("tcp://{}", gate.address(1).unwrap());
    let client = tidegate_client::Client::connect(&url).await.unwrap();
    hello(&client).await;
    let session = desk.last();

    session.bind("ada").await.unwrap();
    assert_eq!(session.bind("bob").await, Err(GateError::BoundToAnother));
    let long = "x".repeat(300);
    assert!(matches!(
        session.bind(&*long).await,
        Err(GateError::Name(_))
    ));
    let big = "x".repeat(17_000);
    assert!(matches!(
        session.set("k", &*big).await,
        Err(GateError::Settings(_))
    ));
    assert!(matches!(
        session.send("", "x").await,
        Err(GateError::Topic(_))
    ));
    assert!(matches!(
        session.send("t", big).await,
        Err(GateError::TooLarge(_))
    ));
    assert_eq!(session.send("refuse", "x").await, Err(GateError::Refused));
    assert_eq!(session.send("$close", "x").await, Err(GateError::Refused));
    session.join("one").await.unwrap();
    assert_eq!(session.join("two").await, Err(GateError::TooMany("groups")));
    session.bind_instance("s", "i").await.unwrap();
    let bound = session.bind_instance("t", "i").await;
    assert_eq!(bound, Err(GateError::TooMany("instance bindings")));
    // None of that did any harm.
    session.send("news", "x").await.unwrap();
    assert_eq!(push(&mut client.pushes()).await.0, "news");
}

pub async fn send_then_close(world: &impl World) {
    let gate = gate(world, "a").await;
    let (desk, _running) = desk(world).await;
    for _ in 0..20 {
        let (client, session) = meet(&gate, &desk).await;
        let mut pushes = client.pushes();
        // Made one after the other, waited for later.
        let sends: Vec<_> = (0..10)
            .map(|i| {
                let session = session.clone();
                let mut send = Box::pin(async move { session.send("n", i.to_string()).await });
                assert!(!matches!(
                    futures_util::FutureExt::now_or_never(&mut send),
                    Some(Err(_))
                ));
                send
            })
            .collect();
        session.close().await.unwrap();
        drop(sends);
        for i in 0..10 {
            assert_eq!(push(&mut pushes).await.1, i.to_string());
        }
        assert_eq!(pushes.recv().await, None);
    }
}

pub async fn sends_in_order(world: &impl World) {
    let gate = gate(world, "a").await;
    let (desk, _running) = desk(world).await;
    let (client, session) = meet(&gate, &desk).await;
    let mut pushes = client.pushes();
    let reader = tokio::spawn(async move {
        for i in 0..5_000 {
            assert_eq!(push(&mut pushes).await.1, i.to_string());
        }
    });
    for i in 0..5_000 {
        session.send_wait("n", i.to_string(), LONG).await.unwrap();
    }
    reader.await.unwrap();
}

pub async fn settings_of_all_kinds(world: &impl World) {
    let gate = gate(world, "a").await;
    let (desk, _running) = desk(world).await;
    let (client, session) = meet(&gate, &desk).await;
    let wild = "é\u{1f600}\u{7f}\u{0}\r\n\t\"\\ . * > $";
    session.set(wild, wild).await.unwrap();
    session.set("", "").await.unwrap();
    session.set("k", "\u{1}".repeat(16_000)).await.unwrap();
    // They go with the next call.
    hello(&client).await;
    let seen = desk.last();
    assert_eq!(seen.get(wild).as_deref(), Some(wild));
    assert_eq!(seen.get("").as_deref(), Some(""));
    assert_eq!(seen.get("k").map(|v| v.len()), Some(16_000));
    // Users may be anything without control characters.
    let wild = "é\u{1f600} \"\\ . * > $";
    session.bind(wild).await.unwrap();
    let sent = Clients::new(world.bus().await)
        .to_user(wild)
        .send("n", "x")
        .await
        .unwrap();
    assert_eq!(sent.taken(), 1);
}

pub async fn the_end_is_told_to_all_who_served(world: &impl World) {
    let gate = gate(world, "a").await;
    let (desk, _running) = desk(world).await;
    let (client, session) = meet(&gate, &desk).await;
    let (_other, quiet) = meet(&gate, &desk).await;
    client.close().await;
    let lines = desk.log.wait_for(1).await;
    assert_eq!(lines, [format!("{} left: ClientLeft", session.id())]);
    quiet.close().await.unwrap();
    let lines = desk.log.wait_for(1).await;
    assert_eq!(lines, [format!("{} left: Kicked", quiet.id())]);
}

pub async fn a_session_that_is_gone(world: &impl World) {
    let gate = gate(world, "a").await;
    let clients = Clients::new(world.bus().await);
    let nobody = clients.session(gate.gate().id().clone(), SessionId(5));
    assert_eq!(nobody.send("n", "x").await, Err(GateError::SessionGone));
    assert_eq!(nobody.load().await, Err(GateError::SessionGone));
    assert_eq!(nobody.close().await, Err(GateError::SessionGone));
    assert_eq!(nobody.connected().await, Ok(Connected::Gone));
    let nowhere = clients.session(GateId::new("nowhere").unwrap(), SessionId(5));
    assert_eq!(nowhere.send("n", "x").await, Err(GateError::Unavailable));
    assert_eq!(nowhere.connected().await, Err(GateError::Unavailable));
}

/// A client that reads nothing: what its queue took and what it did not adds up.
pub async fn a_full_queue_is_told(world: &impl World) {
    let mut limits = Limits::default();
    limits.send_queue_packets = 10;
    let gate = builder(world.bus().await, "a")
        .listen(
            Tcp::bind("127.0.0.1:0")
                .limits(limits)
                .protocol(tidegate::Protocol::V1),
        )
        .start()
        .await
        .unwrap();
    let (desk, _running) = desk(world).await;
    let mut socket = tokio::net::TcpStream::connect(gate.address(1).unwrap())
        .await
        .unwrap();
    let frame = b"\x10\0\x0c\0desk/hello/1";
    socket.write_all(frame).await.unwrap();
    let met = desk.sessions.clone();
    until("it said hello", || !met.lock().is_empty()).await;
    let session = desk.last();
    let body = vec![7; 60_000];
    // The system's buffers take some, until they are full too.
    while session
        .send_wait("n", body.clone(), Duration::from_millis(100))
        .await
        .is_ok()
    {}
    assert_eq!(
        session.send("n", body.clone()).await,
        Err(GateError::QueueFull)
    );
    let late = session
        .send_wait("n", body, Duration::from_millis(100))
        .await;
    assert_eq!(late, Err(GateError::QueueFull));
    drop(socket);
}
