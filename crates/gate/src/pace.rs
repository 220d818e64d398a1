//! How fast connections are accepted: one token bucket for all listeners of a gate.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::limits::Rate;

/// Lets those through who wait their turn. Without a rate nobody waits.
pub(crate) struct Pace {
    /// Between two turns, and how far turns may be ahead of time: a bucket's tokens as time.
    step: Duration,
    burst: Duration,
    /// When the next turn would be, if there were no burst.
    next: Option<Mutex<Instant>>,
}

impl Pace {
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        let Some(rate) = rate else {
            return Self {
                step: Duration::ZERO,
                burst: Duration::ZERO,
                next: None,
            };
        };
        let step = Duration::from_secs(1) / rate.per_second.max(1);
        Self {
            step,
            burst: step * rate.burst.saturating_sub(1),
            next: Some(Mutex::new(Instant::now())),
        }
    }

    /// Waits for a turn. Who stops waiting has used it up all the same.
    pub(crate) async fn turn(&self) {
        let Some(next) = &self.next else {
            return;
        };
        let at = {
            let mut next = next.lock();
            let now = Instant::now();
            let at = (*next).max(now);
            *next = at + self.step;
            // Not before the gate's own beginning, where time may begin, too.
            at.checked_sub(self.burst).unwrap_or(now)
        };
        if at > Instant::now() {
            sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let rate = Rate {
            per_second: 100,
            burst: 20,
        };
        let pace = Pace::new(Some(rate));
        let began = Instant::now();
        for _ in 0..20 {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..300 {
            pace.turn().await;
        }
        let took = began.elapsed();
        assert!((2990..=3010).contains(&took.as_millis()), "{took:?}");
        // The bucket holds no more than its burst.
        tokio::time::sleep(Duration::from_secs(100)).await;
        let began = Instant::now();
        for _ in 0..20 {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        pace.turn().await;
        assert!(began.elapsed() >= Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_at_different_listeners_share_the_rate() {
        let pace = Pace::new(Some(Rate::per_second(10)));
        let began = Instant::now();
        let many = async || {
            for _ in 0..20 {
                pace.turn().await;
            }
        };
        tokio::join!(many(), many(), many());
        let took = began.elapsed();
        assert!((4900..=5100).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nobody_waits() {
        let pace = Pace::new(None);
        let began = Instant::now();
        for _ in 0..100_000 {
            pace.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
