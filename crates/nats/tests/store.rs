//! The rules of stores, on a bucket of JetStream.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use tidegate::store::{StoreError, conformance};
use tidegate_nats::{KvStore, KvStoreOptions, NatsOptions};
use tidegate_test_servers::{NatsCluster, NatsServer};

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

/// Three replicas: what one server acknowledged, the next one reads.
#[tokio::test]
async fn the_rules_on_a_cluster() {
    let cluster = NatsCluster::start().await;
    let open = async || {
        let mut options = KvStoreOptions::default();
        options.replicas = 3;
        let nats = NatsOptions::new(cluster.urls());
        let store = KvStore::connect(&nats, options).await;
        store.map_err(StoreError::other)
    };
    let rules = conformance::run(open, Duration::from_secs(2));
    rules.await.unwrap();
}
