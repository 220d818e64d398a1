//! A room that is open: who is in it, whose it is, and what was said last.

use std::collections::{BTreeMap, VecDeque};

use serde_json::value::RawValue;
use tidegate::SessionId;

use super::name::ChatName;

/// Most messages that a room remembers.
const MAX_KEPT: usize = 50;
/// Most bytes in them, as JSON: one answer holds them all, and must fit a frame.
const MAX_KEPT_BYTES: usize = 48 * 1024;

/// A room.
#[derive(Debug)]
pub(super) struct OpenRoom {
    pub(super) name: ChatName,
    /// Who may send others out of it.
    owner: Option<SessionId>,
    /// In the order in which they came.
    members: BTreeMap<u64, SessionId>,
    said: VecDeque<Box<RawValue>>,
    said_bytes: usize,
}

impl OpenRoom {
    /// A room that nobody owns, ever.
    pub(super) fn common(name: ChatName) -> Self {
        Self {
            name,
            owner: None,
            members: BTreeMap::new(),
            said: VecDeque::new(),
            said_bytes: 0,
        }
    }

    /// A room of whoever opens it.
    pub(super) fn opened_by(owner: SessionId, name: ChatName) -> Self {
        Self {
            owner: Some(owner),
            ..Self::common(name)
        }
    }

    pub(super) fn owner(&self) -> Option<SessionId> {
        self.owner
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes someone in, whose `turn` is later than everyone's before.
    pub(super) fn enter(&mut self, turn: u64, id: SessionId) {
        self.members.insert(turn, id);
    }

    /// Whoever entered at `turn` has left. If the room was theirs, it is now that of who has
    /// been in it for longest: answers who that is.
    pub(super) fn leave(&mut self, turn: u64) -> Option<SessionId> {
        let left = self.members.remove(&turn)?;
        if self.owner != Some(left) {
            return None;
        }
        self.owner = self.members.values().next().copied();
        self.owner
    }

    /// Remembers what was said, and forgets what was said long ago.
    pub(super) fn keep(&mut self, said: Box<RawValue>) {
        self.said_bytes += said.get().len();
        self.said.push_back(said);
        while self.said.len() > MAX_KEPT || self.said_bytes > MAX_KEPT_BYTES {
            let Some(oldest) = self.said.pop_front() else {
                break;
            };
            self.said_bytes -= oldest.get().len();
        }
    }

    /// What was said last, the oldest first.
    pub(super) fn said(&self) -> Vec<Box<RawValue>> {
        self.said.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_little() {
        let mut room = OpenRoom::common(ChatName::new("tea").unwrap());
        let raw = |text: String| RawValue::from_string(text).unwrap();
        for i in 0..1000 {
            room.keep(raw(i.to_string()));
        }
        let said: Vec<_> = room.said().iter().map(|s| s.get().to_owned()).collect();
        assert_eq!((said.len(), said[0].as_str()), (MAX_KEPT, "950"));
        let long = format!("\"{}\"", "x".repeat(12_000));
        for _ in 0..100 {
            room.keep(raw(long.clone()));
        }
        let bytes: usize = room.said().iter().map(|s| s.get().len()).sum();
        assert!(bytes > 24_000 && bytes <= MAX_KEPT_BYTES, "{bytes}");
        assert_eq!(bytes, room.said_bytes);
    }
}
