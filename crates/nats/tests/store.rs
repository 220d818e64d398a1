//! The rules of stores, on a bucket of JetStream.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use tidegate::store::{Store, StoreError, conformance};
use tidegate::{Settings, UserId};
use tidegate_nats::{KvStore, KvStoreError, KvStoreOptions, NatsOptions, Prefix};
use tidegate_test_servers::{NatsCluster, NatsServer};

const DAY: Duration = Duration::from_secs(86_400);

async fn open(url: String) -> Result<KvStore, StoreError> {
    let nats = NatsOptions::new([url]);
    let store = KvStore::connect(&nats, KvStoreOptions::default()).await;
    store.map_err(StoreError::other)
}

#[tokio::test]
async fn the_rules() {
    let server = NatsServer::start().await;
    let rules = conformance::run(async || open(server.url()).await, Duration::from_secs(2));
    rules.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_rules_on_several_threads() {
    let server = NatsServer::start().await;
    let rules = conformance::run(async || open(server.url()).await, Duration::from_secs(2));
    rules.await.unwrap();
}
