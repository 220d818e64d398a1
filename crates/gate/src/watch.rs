//! Finds code that keeps a thread to itself: polls that take too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A poll that takes longer is logged with its name.
pub(crate) const SLOW_POLL: Duration = Duration::from_millis(10);

/// At most one log line in this time; those kept back are counted in the next.
const LOG_EVERY: Duration = Duration::from_secs(1);

static LIMIT: Limit = Limit::new();

/// Runs `f`, one poll of somebody's code, and logs it when it took more than
/// [`SLOW_POLL`]. `owner` and `what` name the code, such as a service and its method.
///
/// Costs two reads of the coarse clock, whose step is 1 to 10 ms: a poll just over
/// the limit may go unseen.
pub(crate) fn poll_watched<R>(owner: &str, what: &str, f: impl FnOnce() -> R) -> R {
    let before = coarse_now();
    let result = f();
    let now = coarse_now();
    if let Some(took) = now.checked_sub(before)
        && took > SLOW_POLL
    {
        report(owner, what, took, now);
    }
    result
}

#[cold]
fn report(owner: &str, what: &str, took: Duration, now: Duration) {
    if let Some(unlogged) = LIMIT.admit(now) {
        tracing::warn!(
            owner,
            what,
            took_ms = took.as_millis(),
            unlogged,
            "a poll held its thread for too long; long computations belong on spawn_blocking"
        );
    }
}

/// Lets one event through per [`LOG_EVERY`] and counts the others.
struct Limit {
    next_ms: AtomicU64,
    kept_back: AtomicU64,
}

impl Limit {
    const fn new() -> Self {
        Self {
            next_ms: AtomicU64::new(0),
            kept_back: AtomicU64::new(0),
        }
    }

    /// Whether an event at `now` is let through, and how many before it were not.
    fn admit(&self, now: Duration) -> Option<u64> {
        let now_ms = millis(now);
        let next = self.next_ms.load(Ordering::Relaxed);
        let won = now_ms >= next
            && self
                .next_ms
                .compare_exchange(
                    next,
                    now_ms + millis(LOG_EVERY),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if won {
            Some(self.kept_back.swap(0, Ordering::Relaxed))
        } else {
            self.kept_back.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Monotonic time since some fixed moment, read without a system call.
#[cfg(target_os = "linux")]
fn coarse_now() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let t = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(
        u64::try_from(t.tv_sec).unwrap_or_default(),
        u32::try_from(t.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(not(target_os = "linux"))]
fn coarse_now() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_the_rest_counted() {
        let limit = Limit::new();
        let at = |ms: u64| Duration::from_millis(50_000 + ms);
        assert_eq!(limit.admit(at(0)), Some(0));
        assert_eq!(limit.admit(at(1)), None);
        assert_eq!(limit.admit(at(999)), None);
        assert_eq!(limit.admit(at(1000)), Some(2));
        assert_eq!(limit.admit(at(2000)), Some(0));
    }

    #[test]
    fn the_result_comes_through_and_the_clock_runs_forward() {
        let before = coarse_now();
        assert_eq!(poll_watched("service", "method", || 7), 7);
        assert!(coarse_now() >= before);
    }
}
