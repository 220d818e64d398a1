//! Expiry: what the tables hold, and clocks that jump.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidegate::Settings;
use tidegate::store::Store;
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::record::name;
use super::{Hands, settings, user};
use crate::{Embedded, EmbeddedOptions};

const HOUR: Duration = Duration::from_secs(3600);

fn open(disk: &Disk, hands: &Arc<Hands>) -> Embedded {
    let options = EmbeddedOptions::default();
    Embedded::start(Arc::new(disk.clone()), options, hands.clone()).unwrap()
}

async fn until_rows(store: &Embedded, rows: u64) {
    let wait = async {
        while store.rows() != [rows; 3] {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "{:?} rows, not {rows}", store.rows());
}

/// More than one sweep's worth, and users that a heartbeat keeps in between.
#[tokio::test]
async fn what_expired_leaves_the_file() {
    let hands = Hands::new();
    let store = open(&Disk::new(), &hands);
    let own = settings("a", "1");
    let saves = (0..2000).map(|who| {
        let (store, own) = (&store, &own);
        async move { store.save(&name(who), own, HOUR).await }
    });
    for saved in futures_util::future::join_all(saves).await {
        saved.unwrap();
    }
    let kept: Vec<_> = (0..2000).step_by(100).map(name).collect();
    store.heartbeat(&kept, HOUR * 3).await.unwrap();
    assert_eq!(store.rows(), [2000; 3]);
    hands.pass(HOUR * 2);
    // The store's thread looks when it thinks that something is due, or when asked.
    store.delete(&user("nobody")).await.unwrap();
    until_rows(&store, 20).await;
    for user in &kept {
        assert_eq!(store.query(user).await, Ok(Some(own.clone())));
    }
    hands.pass(HOUR * 2);
    store.delete(&user("nobody")).await.unwrap();
    until_rows(&store, 0).await;
}

/// The tables agree with each other and with a model, whatever is done.
#[tokio::test]
async fn as_a_model_has_it() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let (disk, hands) = (Disk::new(), Hands::new());
        let mut store = open(&disk, &hands);
        let mut model: BTreeMap<u64, (String, Duration)> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for step in 0..150 {
            let who = random.random_range(0..12);
            let ttl = Duration::from_secs(random.random_range(0..20));
            let is_there = |model: &BTreeMap<_, (_, Duration)>, who: &u64| {
                model.get(who).is_some_and(|(_, expires)| *expires > now)
            };
            match random.random_range(0..12) {
                0..4 => {
                    let text = format!("{step}");
                    let own = settings("step", &text);
                    store.save(&name(who), &own, ttl).await.unwrap();
                    model.insert(who, (text, now + ttl));
                }
                4 => {
                    store.delete(&name(who)).await.unwrap();
                    model.remove(&who);
                }
                5..8 => {
                    let users = [who, (who + 1) % 12, (who + 5) % 12];
                    store.heartbeat(&users.map(name), ttl).await.unwrap();
                    for who in users {
                        if is_there(&model, &who) {
                            model.get_mut(&who).unwrap().1 = now + ttl;
                        }
                    }
                }
                8..11 => {
                    let time = Duration::from_secs(random.random_range(0..8));
                    hands.pass(time);
                    now += time;
                }
                _ => {
                    drop(store);
                    store = open(&disk, &hands);
                }
            }
            for who in 0..12 {
                let wanted = model.get(&who).filter(|(_, expires)| *expires > now);
                let wanted = wanted.map(|(text, _)| settings("step", text));
                let found = store.query(&name(who)).await.unwrap();
                assert_eq!(found, wanted, "seed {seed}, step {step}, user {who}");
            }
            let [settings, expiry, due] = store.rows();
            assert!(
                settings == expiry && expiry == due,
                "seed {seed}, step {step}: {settings} settings, {expiry} expiries, {due} due"
            );
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_store_runs_changes_nothing() {
    let hands = Hands::new();
    let store = open(&Disk::new(), &hands);
    let own = settings("a", "1");
    let gives = async |wanted: Option<&Settings>, what: &str| {
        let found = store.query(&user("a")).await.unwrap();
        assert_eq!(found.as_ref(), wanted, "{what}");
    };
    store.save(&user("a"), &own, HOUR).await.unwrap();
    hands.jump(-30 * 24 * 3600);
    gives(Some(&own), "set back").await;
    hands.jump(365 * 24 * 3600);
    gives(Some(&own), "set forward").await;
    store.heartbeat(&[user("a")], HOUR).await.unwrap();
    hands.pass(HOUR / 2);
    gives(Some(&own), "half its time").await;
    hands.pass(HOUR / 2);
    gives(None, "its time").await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_while_the_store_was_closed_loses_nothing() {
    let (disk, hands) = (Disk::new(), Hands::new());
    let store = open(&disk, &hands);
    let own = settings("a", "1");
    store.save(&user("a"), &own, HOUR).await.unwrap();
    drop(store);
    hands.jump(-365 * 24 * 3600);
    let store = open(&disk, &hands);
    store.save(&user("b"), &own, HOUR).await.unwrap();
    hands.pass(HOUR / 2);
    for who in ["a", "b"] {
        assert_eq!(
            store.query(&user(who)).await,
            Ok(Some(own.clone())),
            "{who}"
        );
    }
    drop(store);
    // And set right again: what was kept meanwhile had its time from where it was.
    hands.jump(365 * 24 * 3600);
    let store = open(&disk, &hands);
    for who in ["a", "b"] {
        assert_eq!(
            store.query(&user(who)).await,
            Ok(Some(own.clone())),
            "{who}"
        );
    }
    hands.pass(HOUR / 2);
    assert_eq!(store.query(&user("a")).await, Ok(None));
}

/// It cannot be told from time that went by; that is where the bound is.
#[tokio::test]
async fn a_clock_that_was_set_forward_while_the_store_was_closed_expires() {
    let (disk, hands) = (Disk::new(), Hands::new());
    let store = open(&disk, &hands);
    let own = settings("a", "1");
    store.save(&user("short"), &own, HOUR).await.unwrap();
    store.save(&user("long"), &own, HOUR * 3).await.unwrap();
    drop(store);
    hands.jump(2 * 3600);
    let store = open(&disk, &hands);
    assert_eq!(store.query(&user("short")).await, Ok(None));
    assert_eq!(store.query(&user("long")).await, Ok(Some(own)));
}

#[tokio::test]
async fn the_longest_and_the_shortest_time() {
    let store = open(&Disk::new(), &Hands::new());
    let (none, users) = (Settings::new(), [user("a"), user("b")]);
    store.save(&users[0], &none, Duration::MAX).await.unwrap();
    store.save(&users[1], &none, Duration::ZERO).await.unwrap();
    store.heartbeat(&users, Duration::MAX).await.unwrap();
    assert_eq!(store.query(&users[0]).await, Ok(Some(none)));
    assert_eq!(store.query(&users[1]).await, Ok(None));
}
