//! The service stops and is started again, while people are there.

use std::sync::Arc;

use serde_json::json;
use tidegate::bus::{Bus, LocalBus};
use tidegate::{Gate, Tcp};

use super::super::service;
use super::{ERRORS, Person};

#[tokio::test]
async fn who_was_there_goes_on() {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    let gate = Gate::builder()
        .listen(Tcp::bind("127.0.0.1:0").v1_error_topic(ERRORS))
        .bus(bus.clone())
        .shards(0)
        .start()
        .await
        .unwrap();
    let first = service().register(bus.clone()).await.unwrap();
    let (mut ada, mut bob) = (
        Person::named(&gate, "Ada").await,
        Person::named(&gate, "bob").await,
    );
    ada.hears("chat/joined", json!({"room": "lobby", "name": "bob"}))
        .await;
    ada.ask("chat/rename", "Countess").await;
    let renamed = json!({"room": "lobby", "name": "Countess", "was": "Ada"});
    ada.hears("chat/renamed", renamed.clone()).await;
    bob.hears("chat/renamed", renamed).await;
    ada.ask("chat/join", "Tea").await;
    bob.hears("chat/left", json!({"room": "lobby", "name": "Countess"}))
        .await;
    ada.hears("chat/left", json!({"room": "lobby", "name": "Countess"}))
        .await;
    first.stop().await;

    let _second = service().register(bus).await.unwrap();
    // Where and who they are is in their sessions.
    let me = ada.ask("chat/me", "").await;
    assert_eq!(me, json!({"name": "Countess", "room": "Tea"}));
    assert_eq!(ada.error("chat/login", "Ada").await, 1008);
    ada.ask("chat/say", "still here").await;
    let said = json!({"room": "Tea", "from": "Countess", "text": "still here"});
    ada.hears("chat/said", said).await;
    // They leave the rooms that they were in: nobody hears what is said elsewhere.
    bob.ask("chat/join", "tea").await;
    bob.hears("chat/left", json!({"room": "lobby", "name": "bob"}))
        .await;
    ada.hears("chat/joined", json!({"room": "Tea", "name": "bob"}))
        .await;
    ada.ask("chat/leave", "").await;
    ada.hears("chat/left", json!({"room": "Tea", "name": "Countess"}))
        .await;
    bob.hears("chat/left", json!({"room": "Tea", "name": "Countess"}))
        .await;
    ada.hears("chat/owner", json!({"room": "Tea", "name": "bob"}))
        .await;
    bob.hears("chat/owner", json!({"room": "Tea", "name": "bob"}))
        .await;
    bob.ask("chat/say", "alone").await;
    bob.hears(
        "chat/said",
        json!({"room": "Tea", "from": "bob", "text": "alone"}),
    )
    .await;
    ada.hears_nothing().await;
    gate.stop().await;
}
