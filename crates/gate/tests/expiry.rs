//! How long the store keeps what it was given: heartbeats, expiry, deletion.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use std::time::Duration;

use harness::*;
use tidegate::StartError;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn heartbeats_go_out_every_third_of_the_expiry() {
    let store = TestStore::default();
    let gate = builder()
        .store(store.clone())
        .store_ttl(Duration::from_secs(30))
        .start()
        .await
        .unwrap();
    let (_a, a) = join(&gate).await;
    let (_b, b) = join(&gate).await;
    let (c_client, c) = join(&gate).await;
    let (_guest, _) = join(&gate).await;
    for (session, user) in [(&a, "u1"), (&b, "u1"), (&c, "u2")] {
        as_service(&gate, session).bind(user).await.unwrap();
    }
    store.log.clear();
    sleep(Duration::from_millis(9_900)).await;
    assert!(store.log.all().is_empty());
    // One for all users, each named once.
    sleep(Duration::from_millis(200)).await;
    assert_eq!(store.log.all(), ["heartbeat u1 u2"]);
    drop(c_client);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(store.log.all()[1..], ["heartbeat u1"]);
    // A store that fails, or panics, is asked again.
    store.mood("u1", Some(Mood::Panics));
    sleep(Duration::from_secs(10)).await;
    store.mood("u1", Some(Mood::Fails));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(gate.gate().stats().store_errors, 2);
    assert_eq!(store.log.all().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_out_each_second_at_most() {
    let store = TestStore::default();
    let gate = builder()
        .store(store.clone())
        .store_ttl(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let (_client, local) = join(&gate).await;
    as_service(&gate, &local).bind("u1").await.unwrap();
    store.log.clear();
    sleep(Duration::from_millis(3_500)).await;
    assert_eq!(store.log.all(), ["heartbeat u1"; 3]);
    let too_short = builder().store_ttl(Duration::from_millis(1_999));
    let refused = too_short.start().await.err();
    assert!(matches!(refused, Some(StartError::Limit(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn settings_outlive_a_session_until_they_expire_or_are_forgotten() {
    let gate = builder()
        .store_ttl(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    let bind = async |expected: Option<&str>| {
        let (client, local) = join(&gate).await;
        as_service(&gate, &local).bind("u1").await.unwrap();
        assert_eq!(local.get("k").as_deref(), expected);
        (client, local)
    };
    let (client, local) = bind(None).await;
    as_service(&gate, &local).set("k", "v").await.unwrap();
    // Attached for longer than the expiry.
    let mut client = client;
    for _ in 0..5 {
        sleep(Duration::from_secs(20)).await;
        client.ask("echo/echo/1", "x").await;
    }
    drop(client);
    sleep(Duration::from_secs(39)).await;
    drop(bind(Some("v")).await);
    gate.gate().forget(&user("u1")).await.unwrap();
    let (client, local) = bind(None).await;
    as_service(&gate, &local).set("k", "w").await.unwrap();
    drop(client);
    until("it has ended", || gate.gate().session_count() == 0).await;
    sleep(Duration::from_secs(61)).await;
    bind(None).await;
}
