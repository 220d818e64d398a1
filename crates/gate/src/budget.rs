//! The gate's byte budget: outbound queues and partial frames together.

use std::sync::atomic::{AtomicI64, Ordering};

/// Who holds how much is told in steps, so that a packet costs no shared write.
const STEP: u32 = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicI64,
    limit: i64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            used: AtomicI64::new(0),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        }
    }

    /// Brings what is accounted for one holder to what it holds, in coarse steps.
    pub(crate) fn publish(&self, published: &mut u32, now: u32) {
        if now.abs_diff(*published) >= STEP || (now == 0 && *published != 0) {
            self.used
                .fetch_add(i64::from(now) - i64::from(*published), Ordering::Relaxed);
            *published = now;
        }
    }

    /// Bytes held, but for less than a step for each holder.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed).max(0) as u64
    }

    /// Whether nothing more may be taken.
    pub(crate) fn is_spent(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether little more is to be taken in: a sixteenth more than the limit is held.
    pub(crate) fn is_overrun(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit.saturating_add(self.limit / 16)
    }

    /// Bytes to be given back before the gate is at ease again (nine tenths).
    pub(crate) fn excess(&self) -> u64 {
        if !self.is_spent() {
            return 0;
        }
        self.used().saturating_sub(self.limit as u64 / 10 * 9)
    }
}
