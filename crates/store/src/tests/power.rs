//! The power goes: what was acknowledged is there, what was not is there whole or not at
//! all.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::Disk;
use super::record::{Record, change, name};
use crate::embedded::clock::System;
use crate::embedded::{Embedded, EmbeddedOptions, OpenError};

/// Users that change at the same time.
const USERS: u64 = 6;

fn open(disk: &Disk) -> Result<Embedded, OpenError> {
    let options = EmbeddedOptions::default();
    Embedded::start(Arc::new(disk.clone()), options, Arc::new(System::new()))
}

/// Each user makes changes until one fails or `last` is done.
async fn work(store: &Embedded, record: &mut Record, first: u64, last: u64) {
    let record = parking_lot::Mutex::new(record);
    let users = (0..USERS).map(async |who| {
        for number in first..=last {
            record.lock().asked(who, number);
            if change(store, &name(who), number).await.is_err() {
                return;
            }
            record.lock().acknowledged(who, number);
        }
    });
    futures_util::future::join_all(users).await;
}

/// One life of a disk: work, power loss at a random step, torn writes; again while the
/// store opens; then the check, and more work.
async fn round(seed: u64) -> Result<u64, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut record = Record::default();
    let mut disk = Disk::new();
    let mut first = 1;
    for life in 0..2 {
        let off = disk.steps() + random.random_range(0..400);
        disk.faults(|faults| faults.power_off_at = Some(off));
        let store = match open(&disk) {
            Ok(store) => store,
            Err(OpenError::Io { .. }) => {
                disk = disk.after_power_loss(random.random());
                continue;
            }
            Err(error) => return Err(format!("life {life}: {error}")),
        };
        work(&store, &mut record, first, first + 60).await;
        drop(store);
        disk = disk.after_power_loss(random.random());
        // The power goes again while the store is opened, and repaired.
        let off = disk.steps() + random.random_range(0..12);
        disk.faults(|faults| faults.power_off_at = Some(off));
        if let Ok(store) = open(&disk) {
            drop(store);
        }
        disk = disk.after_power_loss(random.random());
        let store = open(&disk).map_err(|error| format!("life {life}: {error}"))?;
        record.check(&store).await?;
        first += 100;
    }
    let store = open(&disk).map_err(|error| error.to_string())?;
    work(&store, &mut record, first, first + 3).await;
    record.check(&store).await?;
    Ok(record.count())
}

/// `TIDEGATE_STORE_SEEDS=10000` tries more of them.
#[tokio::test]
async fn torn_writes_lose_nothing_acknowledged() {
    let seeds = std::env::var("TIDEGATE_STORE_SEEDS");
    let seeds = seeds.map_or(100, |seeds| seeds.parse::<u64>().unwrap());
    for seed in 0..seeds {
        if let Err(wrong) = round(seed).await {
            panic!("seed {seed}: {wrong}");
        }
    }
}
