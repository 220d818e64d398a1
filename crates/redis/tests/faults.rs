//! Redis stops, hangs, is killed, has no memory, becomes a replica: operations are
//! answered with the kind that fits, nothing is damaged, and all is well again by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use futures_util::FutureExt;
use tidegate::store::{Store, StoreError};
use tidegate::{Settings, UserId};
use tidegate_redis::{RedisOptions, RedisStore};
use tidegate_test_servers::{Proxy, RedisServer, eventually};
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

async fn connect(options: RedisOptions) -> RedisStore {
    let options = options.answer_timeout(Duration::from_millis(500));
    let options = options.connect_timeout(Duration::from_millis(500));
    RedisStore::connect(options).await.unwrap()
}

/// All operations are answered with `Unavailable`, by the store itself.
async fn is_unavailable(store: &RedisStore) {
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
async fn is_well(store: &RedisStore, own: &Settings) {
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
    let server = RedisServer::start().await;
    let store = connect(RedisOptions::new([server.url()])).await;
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    server.pause();
    is_unavailable(&store).await;
    is_unavailable(&store).await;
    server.resume();
    is_well(&store, &own).await;
}

#[tokio::test]
async fn stopped_and_started() {
    let mut server = RedisServer::start().await;
    let store = connect(RedisOptions::new([server.url()])).await;
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
    let mut server = RedisServer::start().await;
    let store = connect(RedisOptions::new([server.url()])).await;
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
        let (written, ()) = timeout(PATIENCE, futures_util::future::join(writers, kill))
            .await
            .unwrap();
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
    let memory = "maxmemory 4mb\nmaxmemory-policy noeviction";
    let server = RedisServer::options().config(memory).start().await;
    let store = connect(RedisOptions::new([server.url()])).await;
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
    let another = user(&format!("big {}", saved.len()));
    assert_eq!(store.query(&another).await, Ok(None));
    // Everything else goes on, over a new connection too.
    let second = connect(RedisOptions::new([server.url()])).await;
    for store in [&store, &second] {
        assert_eq!(store.save(&another, &big, DAY).await, Err(StoreError::Full));
        for user in &saved {
            assert_eq!(store.query(user).await.as_ref(), Ok(&Some(big.clone())));
        }
        store.heartbeat(&saved, DAY).await.unwrap();
    }
    for user in saved.drain(..) {
        store.delete(&user).await.unwrap();
    }
    store.save(&another, &big, DAY).await.unwrap();
    is_well(&store, &own).await;
}

/// A connection that was closed while nobody needed it is not told to the next one who
/// does.
#[tokio::test]
async fn closed_while_idle() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.address());
    let store = connect(RedisOptions::new([format!("redis://{}", proxy.address())])).await;
    let own = settings("1");
    // One that ends at once would not count as idle.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    proxy.cut();
    store.save(&user("ada"), &own, DAY).await.unwrap();
    assert_eq!(store.query(&user("ada")).await, Ok(Some(own)));
}

/// What was given up on a connection that then was lost, and comes out of the network
/// later, does not undo what was done after it.
#[tokio::test]
async fn late_changes_are_refused() {
    let server = RedisServer::start().await;
    let proxies = [(); 2].map(|()| Proxy::start(server.address()));
    let urls = proxies
        .each_ref()
        .map(|p| format!("redis://{}", p.address()));
    for delete in [false, true] {
        let store = connect(RedisOptions::new(urls.clone())).await;
        let (ada, own) = (user("ada"), settings("later"));
        proxies[0].hold();
        {
            let given_up = settings("given up");
            let mut save = store.save(&ada, &given_up, DAY);
            // It is written while it is waited for.
            for _ in 0..100 {
                assert!((&mut save).now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        }
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
        proxies[0].release();
        // Long enough for what was held to arrive.
        for _ in 0..50 {
            assert_eq!(store.query(&ada).await.as_ref(), Ok(&expected));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The first Redis that takes writes is used, and looked for again when it does not any
/// more.
#[tokio::test]
async fn replicas_are_passed_over() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    let become_replica = async |server: &RedisServer, of: &str| {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut words = of.split(' ');
        let mut command = redis::cmd("REPLICAOF");
        command.arg(words.next()).arg(words.next());
        let () = command.query_async(&mut connection).await.unwrap();
    };
    let second_address = format!("127.0.0.1 {}", second.address().port());
    become_replica(&first, &second_address).await;
    let store = connect(RedisOptions::new([first.url(), second.url()])).await;
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    eventually("it is replicated", async || {
        let client = redis::Client::open(first.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut get = redis::cmd("GET");
        get.arg("tidegate:settings:ada");
        let found: Option<String> = get.query_async(&mut connection).await.ok()?;
        found.map(drop)
    })
    .await;
    become_replica(&first, "NO ONE").await;
    let first_address = format!("127.0.0.1 {}", first.address().port());
    become_replica(&second, &first_address).await;
    eventually("the other one is used", async || {
        store.save(&user("bob"), &own, DAY).await.ok()
    })
    .await;
    is_well(&store, &own).await;
}

/// What somebody else wrote is told, and does no harm.
#[tokio::test]
async fn foreign_values() {
    let server = RedisServer::start().await;
    let store = connect(RedisOptions::new([server.url()])).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let key = "tidegate:settings:ada";
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(300_000));
    let too_much = format!("{{\"a\":\"{}\"}}", "x".repeat(16_384));
    let values = [
        "",
        "x",
        "{",
        "[]",
        "{\"a\":1}",
        "\u{1f431}",
        &long,
        &too_much,
    ];
    for value in values {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value);
        let () = set.query_async(&mut raw).await.unwrap();
        let found = store.query(&user("ada")).await;
        assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
        let text = found.unwrap_err().to_string();
        assert!(text.len() < 100, "{text}");
        store.heartbeat(&[user("ada")], DAY).await.unwrap();
    }
    let mut list = redis::pipe();
    list.cmd("DEL").arg(key).ignore();
    list.cmd("RPUSH").arg(key).arg("x").ignore();
    let () = list.query_async(&mut raw).await.unwrap();
    let found = store.query(&user("ada")).await;
    assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
    let own = settings("1");
    store.save(&user("ada"), &own, DAY).await.unwrap();
    is_well(&store, &own).await;
}
