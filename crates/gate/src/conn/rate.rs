//! Rate limits: token buckets that are kept by not reading.

use std::time::Duration;

use crate::clock::{TICK, Tick};
use crate::limits::Rate;

/// A token bucket that may be overdrawn by one read, and then makes its owner wait.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// In thousandths: what a tick brings may be a fraction of a token.
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
            tokens: i64::from(rate.burst) * 1000,
            filled: now,
        }
    }

    fn full(&self) -> i64 {
        i64::from(self.rate.burst) * 1000
    }

    fn refill(&mut self, now: Tick) {
        let millis = u128::from(now.0.saturating_sub(self.filled.0)) * TICK.as_millis();
        let new = millis * u128::from(self.rate.per_second);
        let new = i64::try_from(new).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(new).min(self.full());
        self.filled = now;
    }

    /// Takes `n` tokens out, more than there are if need be.
    pub(super) fn take(&mut self, n: u32) {
        self.tokens -= i64::from(n) * 1000;
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
        self.at(1)
    }

    /// When forgetting the bucket will change nothing.
    pub(super) fn full_at(&self) -> Tick {
        self.at(self.full())
    }

    fn at(&self, tokens: i64) -> Tick {
        let missing = (tokens - self.tokens).max(0) as u64;
        let millis = missing.div_ceil(self.rate.per_second.into());
        self.filled.plus(Duration::from_millis(millis))
    }

    /// Whether forgetting the bucket would change nothing.
    pub(super) fn is_full(&mut self, now: Tick) -> bool {
        self.refill(now);
        self.tokens == self.full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(bucket.next(), Tick(1).plus(Duration::from_millis(2001)));
        assert!(bucket.has_some(bucket.next()));
    }

    #[test]
    fn fractions_of_a_token_are_not_lost() {
        let mut bucket = Bucket::new(Some(Rate::per_second(30)), Tick(1));
        let mut taken = 0;
        for tick in 1..=1200 {
            while bucket.has_some(Tick(tick)) {
                bucket.take(1);
                taken += 1;
            }
        }
        assert!((30 * 60..30 * 61 + 1).contains(&taken), "{taken}");
    }

    #[test]
    fn a_bucket_is_full_again_when_it_says_so() {
        for rate in [1, 3, 7, 1000, u32::MAX] {
            let mut bucket = Bucket::new(Some(Rate::per_second(rate)), Tick(1));
            assert!(bucket.is_full(Tick(1)));
            bucket.take(5);
            let full = bucket.full_at();
            assert!(!bucket.is_full(Tick(full.0 - 1)) && bucket.is_full(full));
        }
    }
}
