//! Whole gates on one Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::GateError;
use tidegate::{Gate, GateLimits, Guests, RunningGate, Service, Session, Tcp, UserId};
use tidegate_client::Client;
use tidegate_redis::{RedisOptions, RedisStore};
use tidegate_test_servers::{RedisServer, eventually};

async fn gate(server: &RedisServer) -> RunningGate {
    let service = Service::new("me")
        .request("bind", bind)
        .open_to(Guests)
        .request("echo", async |_: Session, text: String| Bytes::from(text))
        .open_to(Guests)
        .request("set", set);
    let mut limits = GateLimits::default();
    limits.store_timeout = Duration::from_secs(1);
    let store = RedisStore::connect(RedisOptions::new([server.url()])).await;
    Gate::builder()
        .listen(Tcp::bind("127.0.0.1:0"))
        .service(service)
        .gate_limits(limits)
        .store(store.unwrap())
        .start()
        .await
        .unwrap()
}

async fn bind(session: Session, user: String) -> Result<Bytes, GateError> {
    session.bind(UserId::new(&user).unwrap()).await?;
    Ok(session.get("n").unwrap_or_else(|| "nothing".into()).into())
}

async fn set(session: Session, number: String) -> Result<Bytes, GateError> {
    session.set("n", number).await?;
    Ok(session.get("n").unwrap_or_default().into())
}

async fn client(gate: &RunningGate) -> Client {
    Client::builder(&format!("tcp://{}", gate.address(0).unwrap()))
        .request_timeout(Duration::from_secs(60))
        .connect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_follow_a_user_to_another_gate() {
    let server = RedisServer::start().await;
    let (a, b) = (gate(&server).await, gate(&server).await);
    let on_a = client(&a).await;
    assert_eq!(on_a.request("me/bind", "ada").await.unwrap(), "nothing");
    assert_eq!(on_a.request("me/set", "1").await.unwrap(), "1");
    drop(on_a);
    let on_b = client(&b).await;
    assert_eq!(on_b.request("me/bind", "ada").await.unwrap(), "1");
    assert_eq!(on_b.request("me/set", "2").await.unwrap(), "2");
    drop(on_b);
    let on_a = client(&a).await;
    assert_eq!(on_a.request("me/bind", "ada").await.unwrap(), "2");
}

/// While Redis hangs, changes are refused within the gate's deadline, and everything
/// else goes on; after it, changes work again.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_outlives_a_redis_that_hangs() {
    let server = RedisServer::start().await;
    let gate = gate(&server).await;
    let (ada, guest) = (client(&gate).await, client(&gate).await);
    ada.request("me/bind", "ada").await.unwrap();
    assert_eq!(ada.request("me/set", "1").await.unwrap(), "1");
    server.pause();
    for _ in 0..3 {
        assert!(ada.request("me/set", "2").await.is_err());
        assert_eq!(
            ada.request("me/echo", "still here").await.unwrap(),
            "still here"
        );
        assert_eq!(guest.request("me/echo", "me too").await.unwrap(), "me too");
    }
    assert!(guest.request("me/bind", "bob").await.is_err());
    server.resume();
    eventually("changes work again", async || {
        ada.request("me/set", "3").await.ok()
    })
    .await;
    assert_eq!(guest.request("me/bind", "bob").await.unwrap(), "nothing");
    drop(ada);
    let ada = client(&gate).await;
    assert_eq!(ada.request("me/bind", "ada").await.unwrap(), "3");
}
