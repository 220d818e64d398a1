//! What has reached a connection and was not taken from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::{Message, Statistics};

/// Bytes about a message that the server adds to it, more or less.
const AROUND: u64 = 40;
/// Most bytes that may wait.
const BYTES: u64 = 256 * 1024 * 1024;

/// Knows how much waits, though the client does not tell: the client counts what arrived,
/// and this what was taken. A message that was dropped for want of room never is taken.
pub(super) struct Backlog {
    /// The client's, which may be another one later that counts on.
    statistics: Box<dyn Fn() -> Arc<Statistics> + Send + Sync>,
    /// Most messages that may wait: of one subscription, so that none is full before.
    most: u64,
    /// Messages taken.
    taken: u64,
    /// Bytes taken, more or less.
    bytes: u64,
    /// Messages known to be dropped.
    lost: u64,
    /// What had arrived at the last look.
    before: Option<u64>,
}

impl Backlog {
    /// For a connection with subscriptions for `capacity` messages each, of which nobody else
    /// takes anything from now on, and of which `taken` messages were taken before.
    pub(super) fn new(
        statistics: impl Fn() -> Arc<Statistics> + Send + Sync + 'static,
        capacity: usize,
        taken: u64,
    ) -> Self {
        Self {
            bytes: statistics().in_bytes.load(Ordering::Relaxed),
            statistics: Box::new(statistics),
            most: capacity as u64 / 4 * 3,
            taken,
            lost: 0,
            before: None,
        }
    }

    fn arrived(&self) -> u64 {
        (self.statistics)().in_messages.load(Ordering::Relaxed)
    }

    /// A message was taken.
    pub(super) fn take(&mut self, message: &Message) {
        self.taken += 1;
        self.bytes += message.length as u64 + AROUND;
    }

    /// Whether so much waits that what comes next is to be refused.
    pub(super) fn is_long(&self) -> bool {
        let messages = self.arrived().saturating_sub(self.taken + self.lost);
        let bytes = (self.statistics)().in_bytes.load(Ordering::Relaxed);
        messages > self.most || bytes.saturating_sub(self.bytes) > BYTES / 4 * 3
    }

    /// Looks while nothing waits to be taken: how many messages were dropped since the last
    /// look. One that has arrived may be on its way still: it counts as dropped when nothing
    /// new has arrived from one look to the next.
    pub(super) fn look(&mut self) -> u64 {
        let arrived = self.arrived();
        let quiet = self.before.replace(arrived) == Some(arrived);
        let missing = arrived.saturating_sub(self.taken + self.lost);
        if missing == 0 || quiet {
            // What was taken by then is everything: the estimate begins anew.
            self.bytes = (self.statistics)().in_bytes.load(Ordering::Relaxed);
        }
        if !quiet {
            return 0;
        }
        self.lost += missing;
        missing
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use bytes::Bytes;

    use super::*;

    fn message() -> Message {
        Message {
            subject: Subject::from("a"),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 1,
        }
    }

    fn backlog(statistics: &Arc<Statistics>, capacity: usize) -> Backlog {
        let statistics = statistics.clone();
        Backlog::new(move || statistics.clone(), capacity, 0)
    }

    #[test]
    fn a_message_counts_as_dropped_when_it_is_missing_and_all_is_quiet() {
        let statistics = Arc::new(Statistics::default());
        let mut backlog = backlog(&statistics, 8);
        let arrive = |n| statistics.in_messages.fetch_add(n, Ordering::Relaxed);
        arrive(6);
        assert!(!backlog.is_long());
        arrive(1);
        assert!(backlog.is_long());
        for _ in 0..5 {
            backlog.take(&message());
        }
        assert!(!backlog.is_long());
        assert_eq!(backlog.look(), 0, "they may be on their way");
        backlog.take(&message());
        assert_eq!(backlog.look(), 1);
        assert_eq!(backlog.look(), 0, "it is counted once");
        arrive(1);
        assert_eq!(backlog.look(), 0);
        backlog.take(&message());
        assert_eq!(backlog.look(), 0);
        assert_eq!(backlog.look(), 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let statistics = Arc::new(Statistics::default());
        let mut backlog = backlog(&statistics, 1000);
        statistics.in_messages.fetch_add(1, Ordering::Relaxed);
        statistics.in_bytes.fetch_add(BYTES, Ordering::Relaxed);
        assert!(backlog.is_long());
        backlog.take(&Message {
            length: BYTES as usize,
            ..message()
        });
        assert!(!backlog.is_long());
    }
}
