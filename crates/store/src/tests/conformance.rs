//! The rules of stores.

use std::sync::Arc;
use std::time::Duration;

use tidegate::store::{Store, conformance};
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::{DAY, Hands, TempDir, settings, user};
use crate::embedded::file::FileStorage;
use crate::{Embedded, EmbeddedOptions};

const TTL: Duration = Duration::from_secs(60);

/// On one file, opened again for each rule.
#[tokio::test]
async fn the_rules_on_a_file() {
    let directory = TempDir::new();
    let hands = Hands::new();
    let open = async || {
        let storage = FileStorage::new(&directory.file());
        storage.create_if_missing().unwrap();
        let options = EmbeddedOptions::default();
        Ok(Embedded::start(Arc::new(storage), options, hands.clone()).unwrap())
    };
    let rules = conformance::run_timed(open, TTL, async |time| hands.pass(time));
    rules.await.unwrap();
}

#[tokio::test]
async fn the_rules_of_a_full_store() {
    let open = async || {
        let options = EmbeddedOptions::default().max_users(Some(30));
        Ok(Embedded::start(Arc::new(Disk::new()), options, Hands::new()).unwrap())
    };
    conformance::run_full(open, 30).await.unwrap();
}

/// Without a clock that the test keeps.
#[tokio::test]
async fn real_time_goes_by() {
    let directory = TempDir::new();
    let store = Embedded::open(directory.file(), EmbeddedOptions::default()).unwrap();
    let own = settings("a", "1");
    let (short, long) = (user("short"), user("long"));
    store.save(&long, &own, DAY).await.unwrap();
    store
        .save(&short, &own, Duration::from_millis(200))
        .await
        .unwrap();
    let gone = async {
        while store.query(&short).await.unwrap().is_some() || store.rows() != [1; 3] {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    assert_eq!(store.query(&long).await, Ok(Some(own)));
}

/// Expired users do not count against the bound.
#[tokio::test]
async fn what_expired_makes_room() {
    let hands = Hands::new();
    let options = EmbeddedOptions::default().max_users(Some(2));
    let store = Embedded::start(Arc::new(Disk::new()), options, hands.clone()).unwrap();
    let own = settings("a", "1");
    store.save(&user("a"), &own, TTL).await.unwrap();
    store.save(&user("b"), &own, TTL).await.unwrap();
    hands.pass(TTL);
    store.save(&user("c"), &own, TTL).await.unwrap();
    assert_eq!(store.query(&user("c")).await, Ok(Some(own)));
}
