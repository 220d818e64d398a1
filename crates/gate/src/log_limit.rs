//! Log lines that a client can cause are limited in number, and those kept back counted.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets through a number of lines each second.
#[derive(Debug)]
pub(crate) struct LogLimit {
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    written: u32,
    unlogged: u64,
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
        let now = Instant::now();
        let is_over = |since| now.duration_since(since) >= Duration::from_secs(1);
        if state.since.is_none_or(is_over) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written >= self.per_second {
            state.unlogged += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_kept_back_are_told_with_the_next() {
        let limit = LogLimit::new(2);
        let take = |n: usize| (0..n).map(|_| limit.admit()).collect::<Vec<_>>();
        assert_eq!(take(5), [Some(0), Some(0), None, None, None]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take(3), [Some(3), Some(0), None]);
    }
}
