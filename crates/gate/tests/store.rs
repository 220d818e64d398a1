//! The store in memory against the rules of stores, and a broken store against the suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate::store::{MemoryStore, Store, StoreError, conformance};
use tidegate_protocol::{Settings, UserId};
use tokio::time::{Instant, sleep};

const TTL: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_store_in_memory_keeps_the_rules() {
    conformance::run(async || Ok(MemoryStore::new()), TTL)
        .await
        .unwrap();
    let began = Instant::now();
    conformance::run(async || Ok(MemoryStore::with_max_users(100)), TTL)
        .await
        .unwrap();
    assert!(began.elapsed() <= TTL * 16, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_full_store_in_memory_keeps_the_rules() {
    conformance::run_full(async || Ok(MemoryStore::with_max_users(3)), 3)
        .await
        .unwrap();
    let never_full = conformance::run_full(async || Ok(MemoryStore::new()), 3);
    let broken = never_full
        .await
        .expect_err("a store that is never full passed");
    assert!(broken.rule.contains("full"), "{broken}");
    let small = conformance::run_full(async || Ok(MemoryStore::with_max_users(2)), 3);
    small.await.expect_err("a store with less room passed");
}

/// What a broken store does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    SaveMerges,
    EmptyIsNothing,
    HeartbeatForgets,
    HeartbeatNeverEnds,
    NothingExpires,
    QueryRenews,
    IdsFoldCase,
    HeartbeatSkips,
    HeartbeatMakes,
    GivenUpComesLate,
    Down,
}

struct Broken(MemoryStore, Fault);

const FOREVER: Duration = Duration::from_secs(1_000_000);

impl Store for Broken {
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        settings: &'a Settings,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match self.1 {
                Fault::SaveMerges => {
                    let mut all = settings.clone();
                    if let Some(old) = self.0.query(user).await? {
                        all.import(&old).map_err(StoreError::other)?;
                    }
                    self.0.save(user, &all, ttl).await
                }
                Fault::NothingExpires => self.0.save(user, settings, FOREVER).await,
                Fault::IdsFoldCase => {
                    let user = UserId::new(&user.to_lowercase()).unwrap();
                    self.0.save(&user, settings, ttl).await
                }
                Fault::GivenUpComesLate => {
                    let mut late = Late(user, settings, true);
                    tokio::task::yield_now().await;
                    self.0.save(user, settings, ttl).await?;
                    late.2 = false;
                    Ok(())
                }
                _ => self.0.save(user, settings, ttl).await,
            }
        })
    }

    fn delete<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.delete(user)
    }

    fn query<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<Settings>, StoreError>> {
        Box::pin(async move {
            for (user, settings) in LATE.take() {
                self.0.save(&user, &settings, FOREVER).await?;
            }
            match self.1 {
                Fault::Down => return Err(StoreError::Unavailable("down".into())),
                Fault::QueryRenews => self.0.heartbeat(std::slice::from_ref(user), TTL).await?,
                _ => {}
            }
            let found = self.0.query(user).await?;
            Ok(found.filter(|s| !(s.is_empty() && matches!(self.1, Fault::EmptyIsNothing))))
        })
    }

    fn heartbeat<'a>(
        &'a self,
        users: &'a [UserId],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        match self.1 {
            Fault::HeartbeatForgets => self.0.heartbeat(&[], ttl),
            Fault::HeartbeatSkips => self.0.heartbeat(&users[..users.len().min(100)], ttl),
            Fault::HeartbeatMakes => Box::pin(async move {
                for user in users {
                    if self.0.query(user).await?.is_none() {
                        self.0.save(user, &Settings::new(), ttl).await?;
                    }
                }
                self.0.heartbeat(users, ttl).await
            }),
            Fault::HeartbeatNeverEnds => self.0.heartbeat(users, FOREVER),
            _ => self.0.heartbeat(users, ttl),
        }
    }
}

/// Saves what was given up, later.
struct Late<'a>(&'a UserId, &'a Settings, bool);

impl Drop for Late<'_> {
    fn drop(&mut self) {
        if self.2 {
            LATE.with_borrow_mut(|late| late.push((self.0.clone(), self.1.clone())));
        }
    }
}

thread_local! {
    static LATE: std::cell::RefCell<Vec<(UserId, Settings)>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[tokio::test(start_paused = true)]
async fn the_suite_finds_each_fault() {
    for (fault, rule) in [
        (Fault::SaveMerges, "a save replaces"),
        (Fault::EmptyIsNothing, "exactly what was saved"),
        (Fault::HeartbeatForgets, "a heartbeat extends"),
        (Fault::HeartbeatNeverEnds, "a heartbeat extends"),
        (Fault::NothingExpires, "gone after"),
        (Fault::QueryRenews, "a query does not extend"),
        (Fault::IdsFoldCase, "users do not touch each other"),
        (Fault::HeartbeatSkips, "a heartbeat reaches all"),
        (Fault::HeartbeatMakes, "a heartbeat does not bring back"),
        (Fault::GivenUpComesLate, "an operation that was given up"),
        (Fault::Down, "never saved"),
    ] {
        let suite = conformance::run(async || Ok(Broken(MemoryStore::new(), fault)), TTL);
        let Err(broken) = suite.await else {
            panic!("a store that breaks {fault:?} passed");
        };
        assert!(
            broken.rule.contains(rule),
            "{fault:?} was found by: {broken}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_expired_leaves_memory_and_makes_room() {
    let store = MemoryStore::with_max_users(500);
    let none = Settings::new();
    for i in 0..500u64 {
        store.save(&UserId::from(i), &none, TTL).await.unwrap();
    }
    let other = UserId::from(9999);
    assert_eq!(store.save(&other, &none, TTL).await, Err(StoreError::Full));
    store.save(&UserId::from(7), &none, TTL).await.unwrap();
    assert_eq!(store.len(), 500, "who is there already needs no room");
    sleep(TTL).await;
    store.save(&other, &none, TTL).await.unwrap();
    for _ in 0..8 {
        store.query(&other).await.unwrap();
    }
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_longest_and_the_shortest_time() {
    let store = MemoryStore::new();
    let (a, b) = (UserId::from(1), UserId::from(2));
    store
        .save(&a, &Settings::new(), Duration::MAX)
        .await
        .unwrap();
    store
        .save(&b, &Settings::new(), Duration::ZERO)
        .await
        .unwrap();
    store
        .heartbeat(&[a.clone(), b.clone()], Duration::MAX)
        .await
        .unwrap();
    assert!(store.query(&a).await.unwrap().is_some());
    assert!(store.query(&b).await.unwrap().is_none());
}
