//! Figures of the store, for `docs/stores.md`:
//! `cargo test --release -p tidegate-nats --test store_figures -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tidegate::store::Store;
use tidegate::{Settings, UserId};
use tidegate_nats::{KvStore, KvStoreOptions, NatsOptions};
use tidegate_test_servers::{NatsCluster, NatsServer};

const DAY: Duration = Duration::from_secs(86_400);
const USERS: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tells figures, and proves nothing"]
async fn figures() {
    let server = NatsServer::start().await;
    println!("one server:");
    let nats = NatsOptions::new([server.url()]);
    let options = KvStoreOptions::default();
    tell(&KvStore::connect(&nats, options.clone()).await.unwrap()).await;
    drop(server);
    let cluster = NatsCluster::start().await;
    println!("three replicas:");
    let nats = NatsOptions::new(cluster.urls());
    let mut options = options;
    options.replicas = 3;
    tell(&KvStore::connect(&nats, options).await.unwrap()).await;
}

async fn tell(store: &KvStore) {
    let mut own = Settings::new();
    own.merge([("name", "ada"), ("room", "7"), ("note", &"x".repeat(200))])
        .unwrap();
    let users: Vec<_> = (0..USERS)
        .map(|i| UserId::new(&format!("user {i}")).unwrap())
        .collect();
    let mut alone: Vec<Duration> = Vec::new();
    for user in &users[..1000] {
        let began = Instant::now();
        store.save(user, &own, DAY).await.unwrap();
        alone.push(began.elapsed());
    }
    alone.sort();
    println!(
        "save, one at a time: p50 {:?}, p99 {:?}",
        alone[500], alone[990]
    );
    let mut alone: Vec<Duration> = Vec::new();
    for user in &users[..1000] {
        let began = Instant::now();
        store.query(user).await.unwrap();
        alone.push(began.elapsed());
    }
    alone.sort();
    println!(
        "query, one at a time: p50 {:?}, p99 {:?}",
        alone[500], alone[990]
    );
    for round in ["new users", "known users"] {
        let began = Instant::now();
        let saves = users.iter().map(|user| store.save(user, &own, DAY));
        let mut saves = stream::iter(saves).buffer_unordered(100);
        while let Some(saved) = saves.next().await {
            saved.unwrap();
        }
        println!(
            "save, 100 at once, {round}: {:.0}/s",
            USERS as f64 / began.elapsed().as_secs_f64()
        );
    }
    let began = Instant::now();
    let queries = users.iter().map(|user| store.query(user));
    let mut queries = stream::iter(queries).buffer_unordered(100);
    while let Some(found) = queries.next().await {
        assert!(found.unwrap().is_some());
    }
    println!(
        "query, 100 at once: {:.0}/s",
        USERS as f64 / began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    for batch in users.chunks(1000) {
        store.heartbeat(batch, DAY).await.unwrap();
    }
    println!(
        "heartbeat of 1000 users: {:?}",
        began.elapsed() / (USERS / 1000) as u32
    );
}
