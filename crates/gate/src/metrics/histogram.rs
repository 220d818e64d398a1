//! Times, by how long they were.

use std::time::Duration;

use crate::stats::Counter;

/// Upper bounds, in seconds. What is longer than the last counts in total only.
pub(crate) const BOUNDS: [f64; 16] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last one is for what is longer than all bounds.
    buckets: [Counter; BOUNDS.len() + 1],
    nanos: Counter,
}

impl Histogram {
    /// `times` times `took`.
    pub(crate) fn add(&self, took: Duration, times: u64) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].add(times);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.add(nanos.saturating_mul(times));
    }

    pub(crate) fn add_to(&self, sum: &Self) {
        for (sum, n) in sum.buckets.iter().zip(&self.buckets) {
            sum.add(n.get());
        }
        sum.nanos.add(self.nanos.get());
    }

    /// How many were at most as long as each bound, and how many there were in all.
    pub(crate) fn cumulative(&self) -> ([u64; BOUNDS.len()], u64) {
        let mut sum = 0;
        let mut counts = [0; BOUNDS.len()];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            sum += bucket.get();
            *count = sum;
        }
        (counts, sum + self.buckets[BOUNDS.len()].get())
    }

    /// All times together, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.nanos.get() as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_on_a_bound_is_within_it() {
        let histogram = Histogram::default();
        for (millis, times) in [(0, 1), (1, 16), (1000, 1), (10_000, 1), (10_001, 1)] {
            histogram.add(Duration::from_millis(millis), times);
        }
        let (counts, all) = histogram.cumulative();
        let at_most = |bound| counts[BOUNDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!(at_most(0.000_01), 1);
        assert_eq!(at_most(0.000_5), 1);
        assert_eq!(at_most(0.001), 17);
        assert_eq!(at_most(1.0), 18);
        assert_eq!(at_most(10.0), 19);
        assert_eq!(all, 20);
        assert!((histogram.seconds() - 21.017).abs() < 1e-9);
    }
}
