//! The packets that wait for the client, and which of them give way to others.

use std::collections::VecDeque;

use tidegate_protocol::Packet;
use tidegate_protocol::extended::{Gap, GapReason};

use super::entry::{Delivery, Entry};
use super::flow::Flow;

/// A queue that has no room.
#[derive(Debug)]
pub(crate) struct Full;

impl Flow {
    /// Queues a push within the limits. Answers how many others gave way to it.
    pub(crate) fn push(&mut self, entry: Entry, packets: u32, bytes: u32) -> Result<u64, Full> {
        let size = entry.size();
        // A packet larger than the byte limit passes an empty queue, else it never could.
        let fits = |pushes: u32, held: u32| {
            pushes < packets && (held == 0 || held.saturating_add(size) <= bytes)
        };
        let older = match entry.delivery() {
            Delivery::Latest(key) => {
                self.position(|d| matches!(d, Delivery::Latest(other) if other == key))
            }
            _ => None,
        };
        let mut gone = 0;
        if older.is_some() || !fits(self.pushes, self.bytes) {
            gone = self.make_room(older, fits)?;
        }
        self.pushes += 1;
        self.accept(entry, size);
        Ok(gone)
    }

    /// Drops every push that may be dropped. Answers how many.
    pub(crate) fn shed_droppable(&mut self) -> u64 {
        let mut gone = 0;
        while let Some(i) = self.position(|d| *d == Delivery::Droppable) {
            self.give_way(i, GapReason::Dropped);
            gone += 1;
        }
        gone
    }

    /// Queues the answer to a call that [`finish_call`](Self::finish_call) took out.
    #[inline]
    pub(crate) fn answer(&mut self, packet: Packet) {
        let size = packet.size() as u32;
        self.answers += 1;
        self.accept(Entry::Answer(packet), size);
    }

    /// Queues a control packet: there is always room for the few there are.
    pub(crate) fn control(&mut self, packet: Packet) {
        let size = packet.size() as u32;
        self.accept(Entry::Control(packet), size);
    }

    /// Puts entries before those that are queued, in their order: they are written again.
    pub(super) fn put_back(&mut self, entries: impl DoubleEndedIterator<Item = Entry>) {
        for entry in entries.rev() {
            self.bytes = self.bytes.saturating_add(entry.size());
            match entry {
                Entry::Answer(_) => self.answers += 1,
                Entry::Push(..) | Entry::Shared(..) => self.pushes += 1,
                Entry::Gap(_) | Entry::Control(_) => {}
            }
            self.queue.push_front(entry);
        }
    }

    /// The next packet to write.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        self.bytes -= entry.size();
        match entry {
            Entry::Answer(_) => self.answers -= 1,
            Entry::Push(..) | Entry::Shared(..) => self.pushes -= 1,
            Entry::Gap(_) | Entry::Control(_) => {}
        }
        Some(entry)
    }

    /// Ends a round of [`pop`](Self::pop): tells those who wait for room, and gives
    /// the memory of an empty queue back.
    pub(crate) fn popped(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
        self.wake_room();
    }

    /// Empties the queue.
    pub(super) fn take_all(&mut self) -> VecDeque<Entry> {
        self.bytes = 0;
        self.pushes = 0;
        self.answers = 0;
        std::mem::take(&mut self.queue)
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn queued_packets(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn queued_bytes(&self) -> u32 {
        self.bytes
    }

    #[inline]
    fn accept(&mut self, entry: Entry, size: u32) {
        self.bytes = self.bytes.saturating_add(size);
        self.queue.push_back(entry);
        self.wake_if_idle();
    }

    /// Lets an older one give way, and as many as it takes of those that may be dropped; none
    /// if that is in vain. Answers how many.
    fn make_room(
        &mut self,
        older: Option<usize>,
        fits: impl Fn(u32, u32) -> bool,
    ) -> Result<u64, Full> {
        let droppable = |entry: &&Entry| *entry.delivery() == Delivery::Droppable;
        let may_go = self.queue.iter().filter(droppable);
        let may_go = may_go.chain(older.and_then(|i| self.queue.get(i)));
        let (mut pushes, mut bytes) = (self.pushes, self.bytes);
        for entry in may_go {
            pushes -= 1;
            bytes -= entry.size();
        }
        if !fits(pushes, bytes) {
            return Err(Full);
        }
        let mut gone = 0;
        if let Some(i) = older {
            self.give_way(i, GapReason::Replaced);
            gone += 1;
        }
        while !fits(self.pushes, self.bytes)
            && let Some(i) = self.position(|d| *d == Delivery::Droppable)
        {
            self.give_way(i, GapReason::Dropped);
            gone += 1;
        }
        Ok(gone)
    }

    /// The first push in the queue of this kind.
    fn position(&self, is: impl Fn(&Delivery) -> bool) -> Option<usize> {
        self.queue.iter().position(|entry| is(entry.delivery()))
    }

    /// Takes a push out of the queue. A client that can be told finds a gap in its place.
    fn give_way(&mut self, i: usize, reason: GapReason) {
        let told = self.is_extended();
        let Some(entry) = self.queue.get_mut(i) else {
            return;
        };
        self.bytes -= entry.size();
        self.pushes -= 1;
        *entry = Entry::Gap(Gap { count: 1, reason });
        let before = i.checked_sub(1).and_then(|i| self.queue.get_mut(i));
        match before {
            // As many gaps as packets at most.
            Some(Entry::Gap(gap)) if told && gap.reason == reason => gap.count += 1,
            _ if told => return,
            _ => {}
        }
        self.queue.remove(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(flow: &mut Flow, size: usize, delivery: Delivery) -> Option<u64> {
        let packet = Packet::try_new("a/a", vec![0; size - 3]).unwrap();
        flow.push(Entry::Push(packet, delivery), 10, 100).ok()
    }

    #[test]
    fn nothing_gives_way_in_vain() {
        let latest = || Delivery::Latest("key".into());
        let mut flow = Flow::new();
        assert_eq!(push(&mut flow, 50, Delivery::Critical), Some(0));
        assert_eq!(push(&mut flow, 20, Delivery::Droppable), Some(0));
        assert_eq!(push(&mut flow, 20, latest()), Some(0));
        // 90 of 100 bytes.
        assert_eq!(push(&mut flow, 60, latest()), None);
        assert_eq!(push(&mut flow, 51, Delivery::Critical), None);
        assert_eq!((flow.queued_packets(), flow.queued_bytes()), (3, 90));
        assert_eq!(push(&mut flow, 50, latest()), Some(2));
        assert_eq!((flow.queued_packets(), flow.queued_bytes()), (2, 100));
    }
}
