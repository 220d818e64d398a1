//! What has reached a connection and was not taken from it.

use async_nats::Message;

use crate::link::Arrived;

/// Bytes about a message that the server adds to it, more or less.
const AROUND: u64 = 40;
/// Most bytes that may wait.
const BYTES: u64 = 256 * 1024 * 1024;

/// Knows how much waits, though the client does not tell: the client counts what arrived,
/// and this what was taken. A message that was dropped for want of room never is taken.
#[derive(Debug)]
pub(super) struct Backlog {
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
    pub(super) fn new(capacity: usize, taken: u64, arrived: Arrived) -> Self {
        Self {
            bytes: arrived.bytes,
            most: capacity as u64 / 4 * 3,
            taken,
            lost: 0,
            before: None,
        }
    }

    /// A message was taken.
    pub(super) fn take(&mut self, message: &Message) {
        self.taken += 1;
        self.bytes += message.length as u64 + AROUND;
    }

    /// Messages that wait, at most.
    pub(super) fn waiting(&self, arrived: Arrived) -> u64 {
        arrived.messages.saturating_sub(self.taken + self.lost)
    }

    /// Whether so much waits that what comes next is to be refused.
    pub(super) fn is_long(&self, arrived: Arrived) -> bool {
        self.waiting(arrived) > self.most
            || arrived.bytes.saturating_sub(self.bytes) > BYTES / 4 * 3
    }

    /// Looks while nothing waits to be taken: how many messages were dropped since the last
    /// look. One that has arrived may be on its way still: it counts as dropped when nothing
    /// new has arrived from one look to the next.
    pub(super) fn look(&mut self, arrived: Arrived) -> u64 {
        let quiet = self.before.replace(arrived.messages) == Some(arrived.messages);
        let missing = self.waiting(arrived);
        if missing == 0 || quiet {
            // What was taken by then is everything: the estimate begins anew.
            self.bytes = arrived.bytes;
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

    fn message(length: u64) -> Message {
        Message {
            subject: Subject::from("a"),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: length as usize,
        }
    }

    fn arrived(messages: u64) -> Arrived {
        Arrived { messages, bytes: 0 }
    }

    #[test]
    fn a_message_counts_as_dropped_when_it_is_missing_and_all_is_quiet() {
        let mut backlog = Backlog::new(8, 1, arrived(1));
        assert!(!backlog.is_long(arrived(7)));
        assert!(backlog.is_long(arrived(8)));
        for _ in 0..5 {
            backlog.take(&message(1));
        }
        assert!(!backlog.is_long(arrived(8)));
        assert_eq!(backlog.look(arrived(8)), 0, "they may be on their way");
        backlog.take(&message(1));
        assert_eq!(backlog.look(arrived(8)), 1);
        assert_eq!(backlog.look(arrived(8)), 0, "it is counted once");
        assert_eq!(backlog.look(arrived(9)), 0);
        backlog.take(&message(1));
        assert_eq!(backlog.look(arrived(9)), 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let all = Arrived {
            messages: 1,
            bytes: BYTES,
        };
        let mut backlog = Backlog::new(1000, 0, arrived(0));
        assert!(backlog.is_long(all));
        backlog.take(&message(BYTES));
        assert!(!backlog.is_long(all));
    }
}
