//! NATS stops, hangs, is killed, is full, loses the bucket: operations on the store are
//! answered with the kind that fits, nothing is damaged, and all is well again by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use futures_util::FutureExt as _;
use tidegate::store::{Store, StoreError};
use tidegate::{Settings, UserId};
use tidegate_nats::{KvStore, KvStoreOptions, NatsOptions};
use tidegate_test_servers::{NatsCluster, NatsServer, Proxy, eventually};
use tokio::time::timeout;

const DAY: Duration = Duration::from_secs(86_400);
/// Turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn settings(value: &str) -> Settings {
    let mut settings = Settings::new();
    settings.merge([("key", value)]).unwrap();
    settings
}

async fn connect(server: &NatsServer) -> KvStore {
    let nats = NatsOptions::new([server.url()]);
    KvStore::connect(&nats, KvStoreOptions::default())
        .await
        .unwrap()
}

/// All operations are answered with `Unavailable`, by the store itself.
async fn is_unavailable(store: &KvStore) {
    let (ada, own) = (user("ada"), settings("not to be seen"));
    let all = async {
        let unavailable = |error| matches!(error, Err(StoreError::Unavailable(_)));
        assert!(unavailable(store.save(&user("bob"), &own, DAY).await));
        assert!(unavailable(store.delete(&user("bob")).await));
        assert!(unavailable(store.query(&ada).await.map(drop)));
        assert!(unavailable(store.heartbeat(&[ada], DAY).await));
    };
    timeout(PATIENCE, all).await.unwrap();
}

/// The store works again, and has what was acknowledged.
async fn is_well(store: &KvStore, own: &Settings) {
    let found = eventually("the store works again", async || {
        store.query(&user("ada")).await.ok()
    });
    assert_eq!(found.await.as_ref(), Some(own));
    let next = settings("next");
    store.save(&user("next"), &next, DAY).await.unwrap();
    assert_eq!(store.query(&user("next")).await, Ok(Some(next)));
    store.heartbeat(&[user("next")], DAY).await.unwrap();
    store.delete(&user("next")).await.unwrap();
    assert_eq!(store.query(&user("next")).await, Ok(None));
}

#[tokio::test]
async fn paused() {
    let server = NatsServer::start().await;
    let store = connect(&server).await;
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    server.pause();
    is_unavailable(&store).await;
    server.resume();
    is_well(&store, &own).await;
}

#[tokio::test]
async fn stopped_and_started() {
    let mut server = NatsServer::start().await;
    let store = connect(&server).await;
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    server.stop().await;
    is_unavailable(&store).await;
    server.restart().await;
    is_well(&store, &own).await;
}

/// Killed among changes: each user has what was acknowledged last, or what was asked for
/// after it.
#[tokio::test]
async fn killed_and_started() {
    let mut server = NatsServer::start().await;
    let store = connect(&server).await;
    for round in 0..3 {
        let started = tokio::sync::Notify::new();
        let writers = (0..8).map(async |i| {
            let user = user(&format!("{round}-{i}"));
            for n in 0.. {
                if store
                    .save(&user, &settings(&n.to_string()), DAY)
                    .await
                    .is_err()
                {
                    return (user, n);
                }
                if n == 20 {
                    started.notify_one();
                }
            }
            unreachable!()
        });
        let kill = async {
            started.notified().await;
            server.kill();
        };
        let writers = futures_util::future::join_all(writers);
        let both = timeout(PATIENCE, futures_util::future::join(writers, kill));
        let (written, ()) = both.await.unwrap();
        server.restart().await;
        for (user, failed) in written {
            let found = eventually("it works again", async || store.query(&user).await.ok());
            let found = found.await.expect("something was acknowledged");
            let found: i32 = found.get("key").unwrap().parse().unwrap();
            assert!((failed - 1..=failed).contains(&found), "{found}, {failed}");
        }
    }
}

#[tokio::test]
async fn full() {
    let server = NatsServer::start().await;
    let nats = NatsOptions::new([server.url()]);
    let mut options = KvStoreOptions::default();
    options.max_bytes = Some(1 << 20);
    let store = KvStore::connect(&nats, options).await.unwrap();
    fills(&store).await;
}

/// The account has no more, and the bucket no bound of its own.
#[tokio::test]
async fn account_full() {
    let limits = "accounts { A { jetstream { max_file: 1MB }, users: [{ user: a, password: a }] } }\nno_auth_user: a";
    let server = NatsServer::options().config(limits).start().await;
    let store = connect(&server).await;
    fills(&store).await;
}

async fn fills(store: &KvStore) {
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    let big = settings(&"x".repeat(16_000));
    let mut saved = Vec::new();
    let refused = loop {
        let user = user(&format!("big {}", saved.len()));
        match store.save(&user, &big, DAY).await {
            Ok(()) => saved.push(user),
            Err(error) => break error,
        }
        assert!(saved.len() < 1000);
    };
    assert_eq!(refused, StoreError::Full);
    assert!(saved.len() > 30, "{}", saved.len());
    let another = user(&format!("big {}", saved.len()));
    assert_eq!(store.query(&another).await, Ok(None));
    assert_eq!(store.save(&another, &big, DAY).await, Err(StoreError::Full));
    for user in &saved {
        assert_eq!(store.query(user).await.as_ref(), Ok(&Some(big.clone())));
    }
    for user in saved.drain(..) {
        store.delete(&user).await.unwrap();
    }
    store.save(&another, &big, DAY).await.unwrap();
    is_well(store, &own).await;
}

/// What was given up on a connection that then was lost, and comes out of the network
/// later, does not undo what was done after it.
#[tokio::test]
async fn late_changes_are_refused() {
    let server = NatsServer::start().await;
    let proxies = [(); 2].map(|()| Proxy::start(server.address()));
    let urls = proxies
        .each_ref()
        .map(|p| format!("nats://{}", p.address()));
    for (first, delete) in [(true, false), (false, false), (true, true), (false, true)] {
        let nats = NatsOptions::new(urls.clone());
        let before = proxies.each_ref().map(Proxy::connections);
        let store = KvStore::connect(&nats, KvStoreOptions::default())
            .await
            .unwrap();
        let proxy = &proxies[usize::from(proxies[0].connections() == before[0])];
        let (ada, own) = (user(&format!("ada {first} {delete}")), settings("later"));
        if !first {
            store.save(&ada, &settings("first"), DAY).await.unwrap();
        } else {
            assert_eq!(store.query(&ada).await, Ok(None));
        }
        proxy.hold();
        assert!(
            store
                .save(&ada, &settings("given up"), DAY)
                .now_or_never()
                .is_none()
        );
        // What is asked for meanwhile is held behind it; what counts comes later.
        let other = user("bob");
        eventually("another connection", async || {
            store.query(&other).await.ok()
        })
        .await;
        match delete {
            false => store.save(&ada, &own, DAY).await.unwrap(),
            true => store.delete(&ada).await.unwrap(),
        }
        let expected = (!delete).then_some(own);
        assert_eq!(store.query(&ada).await.as_ref(), Ok(&expected));
        let count = async || server.monitor("/varz").await["in_msgs"].as_u64().unwrap();
        let before = count().await;
        proxy.release();
        eventually("what was held arrives", async || {
            (count().await > before).then_some(())
        })
        .await;
        assert_eq!(store.query(&ada).await.as_ref(), Ok(&expected));
    }
}

/// Somebody deletes the bucket: it is made again. Settings in it are gone.
#[tokio::test]
async fn the_bucket_is_gone() {
    let server = NatsServer::start().await;
    let store = connect(&server).await;
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let gone = async || {
        let stream = jetstream.delete_stream("KV_tidegate-settings").await;
        stream.unwrap();
    };
    gone().await;
    assert_eq!(store.query(&user("ada")).await, Ok(None));
    store.save(&user("ada"), &own, DAY).await.unwrap();
    gone().await;
    store.save(&user("ada"), &own, DAY).await.unwrap();
    is_well(&store, &own).await;
}

/// What somebody else wrote is told, and does no harm.
#[tokio::test]
async fn foreign_values() {
    let server = NatsServer::start().await;
    let store = connect(&server).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let bucket = jetstream.get_key_value("tidegate-settings").await.unwrap();
    let own = settings("1");
    store.save(&user("bob"), &own, DAY).await.unwrap();
    let bobs = bucket.keys().await.unwrap();
    let bobs: Vec<_> = futures_util::TryStreamExt::try_collect(bobs).await.unwrap();
    let bobs = bucket.get(&bobs[0]).await.unwrap().unwrap();
    let key = key_of_ada(&store, &bucket).await;
    let values = [
        "x".to_owned(),
        "{}".to_owned(),
        "{\"user\":\"ada\",\"ttl_ms\":1,\"settings\":{\"a\":1}}".to_owned(),
        format!(
            "{{\"user\":\"ada\",\"ttl_ms\":99999,\"settings\":{{\"a\":\"{}\"}}}}",
            "x".repeat(16_384)
        ),
        String::from_utf8(bobs.to_vec()).unwrap(),
    ];
    for value in values {
        bucket.put(&key, value.clone().into()).await.unwrap();
        let found = store.query(&user("ada")).await;
        assert!(
            matches!(found, Err(StoreError::Corrupt(_))),
            "{value} {found:?}"
        );
        let text = found.unwrap_err().to_string();
        assert!(text.len() < 150, "{text}");
        store.heartbeat(&[user("ada")], DAY).await.unwrap();
    }
    store.save(&user("ada"), &own, DAY).await.unwrap();
    is_well(&store, &own).await;
    // People's tools see it, and what they delete is deleted.
    bucket.delete(&key).await.unwrap();
    assert_eq!(store.query(&user("ada")).await, Ok(None));
    store.save(&user("ada"), &own, DAY).await.unwrap();
    bucket.purge(&key).await.unwrap();
    assert_eq!(store.query(&user("ada")).await, Ok(None));
}

/// What has expired and NATS has not removed yet is not there, and does not come back.
#[tokio::test]
async fn expired_and_not_removed() {
    let server = NatsServer::start().await;
    let store = connect(&server).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let bucket = jetstream.get_key_value("tidegate-settings").await.unwrap();
    let key = key_of_ada(&store, &bucket).await;
    // Without a time to live for NATS.
    let entry = async |ttl_ms: u64| {
        let entry = format!("{{\"user\":\"ada\",\"ttl_ms\":{ttl_ms},\"settings\":{{}}}}");
        bucket.put(&key, entry.into()).await.unwrap();
    };
    entry(60_000).await;
    assert_eq!(store.query(&user("ada")).await, Ok(Some(Settings::new())));
    entry(1).await;
    eventually("it expires", async || {
        let found = store.query(&user("ada")).await.unwrap();
        found.is_none().then_some(())
    })
    .await;
    store.heartbeat(&[user("ada")], DAY).await.unwrap();
    assert_eq!(store.query(&user("ada")).await, Ok(None));
    store.save(&user("ada"), &settings("1"), DAY).await.unwrap();
    is_well(&store, &settings("1")).await;
}

/// The key of `ada`: the one that is new when they are saved.
async fn key_of_ada(store: &KvStore, bucket: &async_nats::jetstream::kv::Store) -> String {
    let keys = async || -> Vec<String> {
        let keys = bucket.keys().await.unwrap();
        futures_util::TryStreamExt::try_collect(keys).await.unwrap()
    };
    let before = keys().await;
    store.save(&user("ada"), &settings("1"), DAY).await.unwrap();
    let after = keys().await;
    let new = after.into_iter().find(|key| !before.contains(key));
    new.unwrap()
}

/// A node of a cluster is killed, the one that leads the bucket: what was acknowledged
/// is there, and the store goes on with the others.
#[tokio::test]
async fn the_leader_is_killed() {
    let mut cluster = NatsCluster::start().await;
    let nats = NatsOptions::new(cluster.urls());
    let mut options = KvStoreOptions::default();
    options.replicas = 3;
    let store = KvStore::connect(&nats, options).await.unwrap();
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    let leader = cluster.leader_of("KV_tidegate-settings", 0).await;
    cluster.nodes[leader].kill();
    is_well(&store, &own).await;
    cluster.nodes[leader].restart().await;
    cluster.nodes[(leader + 1) % 3].kill();
    is_well(&store, &own).await;
    // Without a majority nothing is acknowledged.
    cluster.nodes[(leader + 2) % 3].kill();
    is_unavailable(&store).await;
    cluster.nodes[(leader + 2) % 3].restart_at_once();
    is_well(&store, &own).await;
}
