//! The store's time: wall clock at the start, then without jumps, and never backwards.
//!
//! Expiry must survive a restart, so it is counted in wall-clock time. But a wall clock
//! is set now and then. While the store runs its time goes on by the monotonic clock,
//! whatever is done to the wall clock. At the start it is the wall clock's, or the last
//! time that the file has seen where the wall clock is behind that: what was kept before
//! the clock was set back is neither lost nor renewed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer times to live are cut to this, about 30 years.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Where time comes from, in milliseconds.
pub(crate) trait Source: Send + Sync + 'static {
    /// Since 1970.
    fn wall(&self) -> u64;
    /// Since some moment.
    fn monotonic(&self) -> u64;
}

/// The machine's clocks.
pub(crate) struct System(Instant);

impl System {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Source for System {
    fn wall(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        millis(since.unwrap_or_default())
    }

    fn monotonic(&self) -> u64 {
        millis(self.0.elapsed())
    }
}

/// See the module.
pub(crate) struct Clock {
    source: Arc<dyn Source>,
    /// Time when the monotonic clock was 0.
    base: u64,
}

impl Clock {
    /// A clock that begins at `last_seen` at least.
    pub(crate) fn start(source: Arc<dyn Source>, last_seen: u64) -> Self {
        let now = source.wall().max(last_seen);
        let base = now.saturating_sub(source.monotonic());
        Self { source, base }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.base.saturating_add(self.source.monotonic())
    }
}

/// When something expires that is to live for `ttl` from `now`.
pub(crate) fn after(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(millis(ttl.min(LONGEST)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
