//! Rate limits: token buckets that are kept by not reading.

use crate::clock::{TICK, Tick};
use crate::limits::Rate;

/// A token bucket that may be overdrawn by one read, and then makes its owner wait.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: i64,
    filled: Tick,
}

impl Bucket {
    pub(super) fn new(rate: Option<Rate>, now: Tick) -> Self {
        let rate = rate.unwrap_or(Rate {
            per_second: u32::MAX,
            burst: u32::MAX,
        });
        Self {
            rate,
            tokens: i64::from(rate.burst),
            filled: now,
        }
    }

    fn refill(&mut self, now: Tick) {
        let millis = u128::from(now.0.saturating_sub(self.filled.0)) * TICK.as_millis();
        let new = (millis * u128::from(self.rate.per_second) / 1000) as i64;
        if new > 0 {
            self.tokens = (self.tokens + new).min(i64::from(self.rate.burst));
            self.filled = now;
        }
    }

    /// Takes `n` tokens out, more than there are if need be.
    pub(super) fn take(&mut self, n: u32) {
        self.tokens -= i64::from(n);
    }

    /// Whether there is a token.
    pub(super) fn has_some(&mut self, now: Tick) -> bool {
        self.refill(now);
        self.tokens > 0
    }

    /// Whether there was no token when last looked.
    pub(super) fn is_spent(&self) -> bool {
        self.tokens <= 0
    }

    /// When there will be a token.
    pub(super) fn next(&self) -> Tick {
        let missing = (1 - self.tokens).max(0) as u128;
        let millis = (missing * 1000).div_ceil(u128::from(self.rate.per_second));
        let wait = std::time::Duration::from_millis(millis as u64).max(TICK);
        self.filled.plus(wait)
    }

    /// Whether forgetting the bucket would change nothing.
    pub(super) fn is_full(&self) -> bool {
        self.tokens >= i64::from(self.rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flooder_gets_its_rate_and_no_more() {
        let rate = Rate {
            per_second: 10,
            burst: 20,
        };
        let start = Tick(1);
        let mut bucket = Bucket::new(Some(rate), start);
        let mut now = start;
        let mut taken = 0;
        let end = start.plus(Duration::from_secs(60));
        while now < end {
            while bucket.has_some(now) {
                bucket.take(1);
                taken += 1;
            }
            let next = bucket.next();
            assert!(next > now, "waiting makes progress");
            now = next;
        }
        assert!((600..=625).contains(&taken), "{taken}");
    }

    #[test]
    fn an_overdrawn_bucket_waits_for_what_it_owes() {
        let mut bucket = Bucket::new(Some(Rate::per_second(100)), Tick(1));
        bucket.take(300);
        assert!(!bucket.has_some(Tick(1)));
        assert_eq!(bucket.next(), Tick(1).plus(Duration::from_millis(2010)));
        assert!(bucket.has_some(bucket.next()));
    }
}
