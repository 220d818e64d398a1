//! The embedded store on disks that fail, and on real files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate::{Settings, UserId};

use crate::embedded::clock::Source;

mod conformance;
mod disk;
mod expiry;
mod faults;
mod kill;
mod opening;
mod power;
mod record;
mod room;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn user(name: impl AsRef<str>) -> UserId {
    UserId::new(name.as_ref()).unwrap()
}

fn settings(key: &str, value: &str) -> Settings {
    let mut settings = Settings::new();
    settings.merge([(key, value)]).unwrap();
    settings
}

/// A directory that goes when this is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let name = format!("tidegate-store-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("settings.db")
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Clocks that a test sets.
#[derive(Default)]
struct Hands {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl Hands {
    /// Some time in 2025.
    fn new() -> Arc<Self> {
        let hands = Self::default();
        hands.wall.store(1_750_000_000_000, Ordering::Relaxed);
        Arc::new(hands)
    }

    /// Time goes by.
    fn pass(&self, time: Duration) {
        let millis = time.as_millis() as u64;
        self.wall.fetch_add(millis, Ordering::Relaxed);
        self.monotonic.fetch_add(millis, Ordering::Relaxed);
    }

    /// The wall clock is set, by so many seconds.
    fn jump(&self, seconds: i64) {
        self.wall
            .fetch_add((seconds * 1000) as u64, Ordering::Relaxed);
    }
}

impl Source for Hands {
    fn wall(&self) -> u64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> u64 {
        self.monotonic.load(Ordering::Relaxed)
    }
}
