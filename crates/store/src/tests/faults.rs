//! Disks that fail, fill up and stop answering, under a store that goes on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tidegate::store::{Store, StoreError};
use tokio::time::{sleep, timeout};

use super::disk::Disk;
use super::record::{Record, change, name};
use super::{DAY, settings, user};
use crate::embedded::clock::System;
use crate::{Embedded, EmbeddedOptions};

fn open(disk: &Disk) -> Embedded {
    let options = EmbeddedOptions::default();
    Embedded::start(Arc::new(disk.clone()), options, Arc::new(System::new())).unwrap()
}

/// Makes the next change of the user, again after each failure, which must say that the
/// store is unavailable. Answers the failures.
async fn insist(store: &Embedded, record: &mut Record, number: u64) -> usize {
    let tries = async {
        let mut failures = 0;
        record.asked(0, number);
        loop {
            match change(store, &name(0), number).await {
                Ok(()) => break failures,
                Err(StoreError::Unavailable(_) | StoreError::Full) => failures += 1,
                Err(other) => panic!("change {number}: {other}"),
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let failures = timeout(Duration::from_secs(60), tries).await.unwrap();
    record.acknowledged(0, number);
    failures
}

/// Any single write, sync or change of length may fail: who waited hears of it, the
/// store opens the database again by itself, and what it acknowledges from then on is on
/// the disk though the kernel forgot what it had not written.
#[tokio::test]
async fn each_step_may_fail() {
    // How many steps there are without a fault.
    let disk = Disk::new();
    let store = open(&disk);
    let (first, mut record) = (disk.steps(), Record::default());
    for number in 1..=12 {
        insist(&store, &mut record, number).await;
    }
    let last = disk.steps();
    drop(store);
    assert!(last > first + 24, "{first} to {last}");
    let mut failed = 0;
    for step in first..last {
        let disk = Disk::new();
        let mut record = Record::default();
        let store = open(&disk);
        disk.faults(|faults| faults.fail_at = Some(step));
        for number in 1..=12 {
            failed += usize::from(insist(&store, &mut record, number).await > 0);
        }
        assert!(disk.opened() <= 2, "opened once more, if at all");
        record.check(&store).await.unwrap();
        // Not closed: the power goes.
        let left = disk.after_power_loss(step);
        let store = open(&left);
        if let Err(wrong) = record.check(&store).await {
            panic!("fault at step {step}: {wrong}");
        }
    }
    assert!(
        failed as u64 > (last - first) / 2,
        "{failed} faults were seen"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_it_has() {
    let disk = Disk::new();
    let store = open(&disk);
    let mut record = Record::default();
    for number in 1..=20 {
        insist(&store, &mut record, number).await;
    }
    // A little more than the file has.
    let room = disk.size() + 64 * 1024;
    disk.faults(|faults| faults.room = Some(room));
    let big = settings("big", &"x".repeat(16_000));
    let mut refused = 0;
    for who in 100..200 {
        match store.save(&name(who), &big, DAY).await {
            Ok(()) => {}
            Err(StoreError::Unavailable(_) | StoreError::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 50);
    assert!(disk.opened() < 20, "not once for each save");
    record.check(&store).await.unwrap();
    disk.faults(|faults| faults.room = None);
    insist(&store, &mut record, 21).await;
    record.check(&store).await.unwrap();
    drop(store);
    record.check(&open(&disk)).await.unwrap();
}

#[tokio::test]
async fn a_read_that_fails_is_an_error_and_passes() {
    let disk = Disk::new();
    let store = open(&disk);
    let mut record = Record::default();
    insist(&store, &mut record, 1).await;
    drop(store);
    let store = open(&disk);
    disk.faults(|faults| faults.reads_fail = true);
    // Until a page is needed that is not in memory.
    let failed = async {
        for who in 1000.. {
            if store.query(&name(0)).await.is_err() {
                return;
            }
            let _ = store.save(&name(who), &settings("a", "1"), DAY).await;
        }
    };
    timeout(Duration::from_secs(60), failed).await.unwrap();
    disk.faults(|faults| faults.reads_fail = false);
    let answered = async {
        while store.query(&name(0)).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), answered).await.unwrap();
    record.check(&store).await.unwrap();
}

/// Queries wait for no sync; changes do, and nothing is said to be done meanwhile.
#[tokio::test]
async fn a_disk_that_does_not_answer_holds_up_changes_only() {
    let disk = Disk::new();
    let store = open(&disk);
    let own = settings("a", "1");
    store.save(&user("a"), &own, DAY).await.unwrap();
    let frozen = disk.freeze();
    let second = settings("a", "2");
    let who = user("a");
    let mut save = store.save(&who, &second, DAY);
    assert!(save.as_mut().now_or_never().is_none());
    disk.wait_until_stuck();
    for _ in 0..100 {
        assert_eq!(store.query(&user("a")).await, Ok(Some(own.clone())));
    }
    assert!(save.as_mut().now_or_never().is_none());
    // A deadline passes: given up before it was begun, it is not done at all.
    let third = settings("a", "3");
    assert!(store.save(&user("b"), &third, DAY).now_or_never().is_none());
    drop(frozen);
    timeout(Duration::from_secs(60), save)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.query(&user("a")).await, Ok(Some(second)));
    store.delete(&user("c")).await.unwrap();
    assert_eq!(store.query(&user("b")).await, Ok(None));
}

/// What waits for a disk is bounded.
#[tokio::test]
async fn who_finds_no_place_waits() {
    let disk = Disk::new();
    let store = open(&disk);
    let frozen = disk.freeze();
    let big = settings("big", &"x".repeat(16_000));
    let first = name(9999);
    let mut first = store.save(&first, &big, DAY);
    assert!(first.as_mut().now_or_never().is_none());
    disk.wait_until_stuck();
    let users: Vec<_> = (0..3000).map(name).collect();
    let mut saves: Vec<_> = users.iter().map(|u| store.save(u, &big, DAY)).collect();
    // Without what tokio lets one task do in a row.
    let polls = tokio::task::unconstrained(async {
        for save in &mut saves {
            assert!(save.as_mut().now_or_never().is_none());
        }
    });
    polls.await;
    let waiting = store.waiting();
    assert!((900..1100).contains(&waiting), "{waiting} wait");
    drop(frozen);
    first.await.unwrap();
    for saved in timeout(Duration::from_secs(60), join_all(saves))
        .await
        .unwrap()
    {
        saved.unwrap();
    }
}

/// Changes that wait together share their syncs.
#[tokio::test]
async fn changes_are_committed_together() {
    let disk = Disk::new();
    let store = open(&disk);
    let own = settings("a", "1");
    let users: Vec<_> = (0..10_000).map(name).collect();
    let mut saves: Vec<_> = users.iter().map(|u| store.save(u, &own, DAY)).collect();
    let frozen = disk.freeze();
    assert!(saves[0].as_mut().now_or_never().is_none());
    disk.wait_until_stuck();
    let polls = tokio::task::unconstrained(async {
        for save in &mut saves[1..] {
            assert!(save.as_mut().now_or_never().is_none());
        }
    });
    polls.await;
    let before = disk.syncs();
    drop(frozen);
    for saved in join_all(saves).await {
        saved.unwrap();
    }
    let syncs = disk.syncs() - before;
    assert!(syncs < 60, "{syncs} syncs for 10,000 saves");
}

#[tokio::test]
async fn a_store_that_closes_says_whether_it_did() {
    let disk = Disk::new();
    let store = open(&disk);
    store
        .save(&user("a"), &settings("a", "1"), DAY)
        .await
        .unwrap();
    store.close().unwrap();
    let store = open(&disk);
    disk.faults(|faults| faults.power_off_at = Some(0));
    assert!(store.close().is_err());
}
