//! A file system that fills up: a small one in memory, which takes root to mount.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tidegate::store::{Store, StoreError};
use tokio::time::{sleep, timeout};

use super::record::{Record, change, name};
use super::{DAY, TempDir, settings};
use crate::{Embedded, EmbeddedOptions};

struct Tmpfs(TempDir);

impl Tmpfs {
    fn new(size: &str) -> Self {
        let directory = TempDir::new();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size}"),
                "tidegate-test",
            ])
            .arg(&directory.0)
            .output()
            .expect("the program `mount` is needed");
        assert!(
            mounted.status.success(),
            "this test mounts a small tmpfs: run it as root, in a container with \
             CAP_SYS_ADMIN ({})",
            String::from_utf8_lossy(&mounted.stderr).trim()
        );
        Self(directory)
    }

    fn fill(&self) -> PathBuf {
        let path = self.0.0.join("filler");
        let mut size = 1 << 20;
        let mut filler = Vec::new();
        // What fits, down to the last page.
        while size >= 4096 {
            filler.resize(filler.len() + size, 0);
            if std::fs::write(&path, &filler).is_err() {
                filler.truncate(filler.len() - size);
                size /= 2;
            }
        }
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0.0).status();
    }
}

async fn recovers(store: &Embedded, record: &mut Record, number: u64) {
    let recovered = async {
        record.asked(0, number);
        while change(store, &name(0), number).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        record.acknowledged(0, number);
    };
    timeout(Duration::from_secs(60), recovered).await.unwrap();
}

/// Writes fail in the middle; what is there can be read, and when there is room again
/// the store goes on.
#[tokio::test]
async fn a_full_file_system_refuses_and_keeps_what_it_has() {
    let tmpfs = Tmpfs::new("4m");
    let options = EmbeddedOptions::default().keep_free(0);
    let store = Embedded::open(tmpfs.0.file(), options.clone()).unwrap();
    let mut record = Record::default();
    recovers(&store, &mut record, 1).await;
    let filler = tmpfs.fill();
    let big = settings("big", &"x".repeat(16_000));
    let (mut refused, mut full) = (0, 0);
    for who in 100..300 {
        match store.save(&name(who), &big, DAY).await {
            Ok(()) => {}
            Err(StoreError::Unavailable(_)) => refused += 1,
            Err(StoreError::Full) => full += 1,
            Err(other) => panic!("{other}"),
        }
        record.check(&store).await.unwrap();
    }
    assert!(refused > 0 && full > refused, "{refused}, {full}");
    std::fs::remove_file(filler).unwrap();
    recovers(&store, &mut record, 2).await;
    record.check(&store).await.unwrap();
    drop(store);
    let store = Embedded::open(tmpfs.0.file(), options).unwrap();
    record.check(&store).await.unwrap();
}

/// The store itself is what fills it: all but saves goes on, and deletes make room.
#[tokio::test]
async fn what_is_deleted_makes_room() {
    let tmpfs = Tmpfs::new("4m");
    let options = EmbeddedOptions::default().keep_free(1024 * 1024);
    let store = Embedded::open(tmpfs.0.file(), options).unwrap();
    let big = settings("big", &"x".repeat(16_000));
    let mut saved = Vec::new();
    loop {
        let user = name(saved.len() as u64);
        match store.save(&user, &big, DAY).await {
            Ok(()) => saved.push(user),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break;
            }
        }
    }
    assert!(saved.len() > 50, "{} users found room", saved.len());
    for user in &saved {
        assert_eq!(store.query(user).await, Ok(Some(big.clone())));
    }
    store.heartbeat(&saved, DAY).await.unwrap();
    for user in &saved {
        store.delete(user).await.unwrap();
    }
    for user in &saved[saved.len() / 4..] {
        store.save(user, &big, DAY).await.unwrap();
    }
    store.close().unwrap();
}
