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
        let mut gone = 0;
        if let Delivery::Latest(key) = entry.delivery()
            && let Some(i) = self.position(|d| matches!(d, Delivery::Latest(k) if k == key))
        {
            self.give_way(i, GapReason::Replaced);
            gone += 1;
        }
        loop {
            // A packet larger than the byte limit passes an empty queue, else it never could.
            let fits = self.bytes == 0 || self.bytes.saturating_add(size) <= bytes;
            if self.pushes < packets && fits {
                break;
            }
            match self.position(|d| *d == Delivery::Droppable) {
                Some(i) => self.give_way(i, GapReason::Dropped),
                None => return Err(Full),
            }
            gone += 1;
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
