//! Packets that came, and when to acknowledge them.

/// Counts the packets of one direction, for the side that takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    count: u64,
    acknowledged: u64,
}

impl Received {
    /// Packets taken since the session began.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A packet, or a gap of several, has been taken. One that would wrap the count
    /// leaves it at its end; a peer that says so is not to be believed.
    pub fn take(&mut self, count: u64) {
        self.count = self.count.saturating_add(count);
    }

    /// How many have been taken that the other side has not been told of.
    pub fn unacknowledged(&self) -> u64 {
        self.count - self.acknowledged
    }

    /// The count to acknowledge, if there is something to acknowledge.
    pub fn acknowledge(&mut self) -> Option<u64> {
        if self.unacknowledged() == 0 {
            return None;
        }
        self.acknowledged = self.count;
        Some(self.count)
    }

    /// The other side has been told the count by other means: `$hello` or `$welcome`.
    pub fn told(&mut self) -> u64 {
        self.acknowledged = self.count;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_acknowledged_once() {
        let mut received = Received::default();
        assert_eq!(received.acknowledge(), None);
        received.take(1);
        received.take(3);
        assert_eq!(received.unacknowledged(), 4);
        assert_eq!(received.acknowledge(), Some(4));
        assert_eq!(received.acknowledge(), None);
        received.take(1);
        assert_eq!(received.told(), 5);
        assert_eq!(received.acknowledge(), None);
        received.take(u64::MAX);
        assert_eq!(received.count(), u64::MAX);
    }
}
