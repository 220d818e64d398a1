//! The rules of stores, on a Redis server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use tidegate::store::{Store, StoreError, conformance};
use tidegate::{Settings, UserId};
use tidegate_redis::{RedisOptions, RedisStore};
use tidegate_test_servers::RedisServer;

async fn open(url: String) -> Result<RedisStore, StoreError> {
    let options = RedisOptions::new([url]);
    RedisStore::connect(options)
        .await
        .map_err(StoreError::other)
}

#[tokio::test]
async fn the_rules() {
    let server = RedisServer::start().await;
    let rules = conformance::run(async || open(server.url()).await, Duration::from_secs(1));
    rules.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_rules_on_several_threads() {
    let server = RedisServer::start().await;
    let rules = conformance::run(async || open(server.url()).await, Duration::from_secs(1));
    rules.await.unwrap();
}

/// Installations that share a Redis do not meet, whatever their users are called.
#[tokio::test]
async fn prefixes_are_apart() {
    let server = RedisServer::start().await;
    let prefixes = ["a", "a.b", "settings", "a-settings"];
    let users = ["x", "settings:x", "b:settings:x", ":x"];
    let user = |name: &str| UserId::new(name).unwrap();
    let mut stores = Vec::new();
    for prefix in prefixes {
        let options = RedisOptions::new([server.url()]).prefix(prefix);
        let store = RedisStore::connect(options).await.unwrap();
        for name in users {
            let mut own = Settings::new();
            own.merge([(prefix, name)]).unwrap();
            let day = Duration::from_secs(86_400);
            store.save(&user(name), &own, day).await.unwrap();
        }
        stores.push((prefix, store));
    }
    for (prefix, store) in &stores {
        for name in users {
            let found = store.query(&user(name)).await.unwrap().unwrap();
            assert_eq!(found.get(prefix), Some(name));
            assert_eq!(found.len(), 1);
        }
    }
}
