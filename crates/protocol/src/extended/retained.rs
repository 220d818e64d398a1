//! Packets that were written and not acknowledged: they are written again when the
//! session is resumed.

use std::collections::VecDeque;

use thiserror::Error;

/// What one side wrote and the other has not acknowledged, in order.
///
/// An item counts one, or, as a gap notice does, several.
#[derive(Debug, Clone)]
pub struct Retained<T> {
    items: VecDeque<Item<T>>,
    /// Count that the other side has acknowledged.
    acknowledged: u64,
    /// Count of everything written.
    written: u64,
    /// Bytes of all items.
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Item<T> {
    item: T,
    /// The count once this item has been taken.
    until: u64,
    /// Bytes it is charged for.
    bytes: u32,
}

/// A count that the other side cannot have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the count is {count}, possible are {least} to {most}")]
pub struct BadCount {
    /// As said by the other side.
    pub count: u64,
    /// What it has acknowledged already.
    pub least: u64,
    /// All that was written.
    pub most: u64,
}

impl<T> Default for Retained<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            acknowledged: 0,
            written: 0,
            bytes: 0,
        }
    }
}

impl<T> Retained<T> {
    /// Count of everything that was written since the session began.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Count that the other side has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Items that are kept.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether everything written has been acknowledged.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of all items.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes an item that is being written. `count` is how many packets it stands for,
    /// `bytes` what it is charged for. Answers the count with it.
    pub fn write(&mut self, item: T, count: u64, bytes: u32) -> u64 {
        self.written += count;
        self.bytes += bytes as usize;
        self.items.push_back(Item {
            item,
            until: self.written,
            bytes,
        });
        self.written
    }

    /// Takes an acknowledgement: what it covers is forgotten. An item of several that is
    /// covered in part is kept.
    pub fn acknowledge(&mut self, count: u64) -> Result<(), BadCount> {
        if count < self.acknowledged || count > self.written {
            return Err(BadCount {
                count,
                least: self.acknowledged,
                most: self.written,
            });
        }
        self.acknowledged = count;
        while self.items.front().is_some_and(|item| item.until <= count) {
            let item = self.items.pop_front();
            self.bytes -= item.map_or(0, |item| item.bytes as usize);
        }
        if self.items.is_empty() {
            // One that is idle holds nothing.
            self.items = VecDeque::new();
        }
        Ok(())
    }

    /// All that was not acknowledged, oldest first.
    pub fn into_items(self) -> impl Iterator<Item = T> {
        self.items.into_iter().map(|item| item.item)
    }

    /// The other side has taken `count` packets, and will take the next ones on a new
    /// connection: hands back all items after that, oldest first, to be written again.
    /// They are not retained any more until they are.
    pub fn rewind(&mut self, count: u64) -> Result<impl Iterator<Item = T> + use<T>, BadCount> {
        self.acknowledge(count)?;
        self.written = count;
        self.bytes = 0;
        let items = std::mem::take(&mut self.items);
        Ok(items.into_iter().map(|item| item.item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(items: &[(&'static str, u64)]) -> Retained<&'static str> {
        let mut retained = Retained::default();
        for (item, count) in items {
            retained.write(*item, *count, 10);
        }
        retained
    }

    #[test]
    fn an_acknowledgement_forgets_what_it_covers() {
        let mut retained = with(&[("a", 1), ("b", 1), ("gap", 3), ("c", 1)]);
        assert_eq!((retained.written(), retained.bytes()), (6, 40));
        retained.acknowledge(2).unwrap();
        assert_eq!((retained.len(), retained.bytes()), (2, 20));
        retained.acknowledge(2).unwrap();
        retained.acknowledge(4).unwrap();
        assert_eq!(retained.len(), 2, "a gap that is covered in part is kept");
        retained.acknowledge(6).unwrap();
        assert!(retained.is_empty());
        assert_eq!(retained.bytes(), 0);
    }

    #[test]
    fn counts_that_cannot_be_are_refused_and_change_nothing() {
        let mut retained = with(&[("a", 1), ("b", 1)]);
        retained.acknowledge(1).unwrap();
        for count in [0, 3, u64::MAX] {
            let bad = BadCount {
                count,
                least: 1,
                most: 2,
            };
            assert_eq!(retained.acknowledge(count), Err(bad));
            assert_eq!(retained.rewind(count).err(), Some(bad));
        }
        assert_eq!((retained.len(), retained.acknowledged()), (1, 1));
    }

    #[test]
    fn a_rewind_hands_back_what_was_not_taken() {
        let mut retained = with(&[("a", 1), ("b", 1), ("c", 1)]);
        retained.acknowledge(1).unwrap();
        let again: Vec<_> = retained.rewind(2).unwrap().collect();
        assert_eq!(again, ["c"]);
        assert_eq!((retained.written(), retained.bytes()), (2, 0));
        assert_eq!(retained.write("c", 1, 10), 3, "the count goes on");
    }
}
