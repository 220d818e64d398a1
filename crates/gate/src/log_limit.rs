//! Log lines that a client can cause are limited in number.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets through a number of lines each second.
#[derive(Debug)]
pub(crate) struct LogLimit {
    per_second: u32,
    state: Mutex<(Option<Instant>, u32)>,
}

impl LogLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            state: Mutex::default(),
        }
    }

    /// Whether one more line may be written now.
    pub(crate) fn allows(&self) -> bool {
        let mut state = self.state.lock();
        let now = Instant::now();
        let (since, count) = &mut *state;
        if since.is_none_or(|t| now.duration_since(t) >= Duration::from_secs(1)) {
            *since = Some(now);
            *count = 0;
        }
        *count = count.saturating_add(1);
        *count <= self.per_second
    }
}
