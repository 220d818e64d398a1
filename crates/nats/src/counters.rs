//! What the bus counts, and how often it may say so.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Of all connections together; see [`BusStats`](tidegate::bus::BusStats).
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) disconnects: AtomicU64,
    pub(crate) late_answers: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) forbidden: AtomicU64,
    pub(crate) undelivered_events: AtomicU64,
    pub(crate) lost_events: AtomicU64,
}

/// Lets through a number of log lines each second.
#[derive(Debug)]
pub(crate) struct LogLimit {
    per_second: u32,
    /// When the second began, the lines written in it, and those kept back.
    state: Mutex<(Option<Instant>, u32, u64)>,
}

impl LogLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            state: Mutex::default(),
        }
    }

    /// Whether one more line may be written now, and how many before it were not.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let (since, written, unlogged) = &mut *state;
        let now = Instant::now();
        if since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *since = Some(now);
            *written = 0;
        }
        if *written >= self.per_second {
            *unlogged += 1;
            return None;
        }
        *written += 1;
        Some(std::mem::take(unlogged))
    }
}
