//! Packets that wait to be written, for a client of the extended protocol: bounded, and kept
//! while there is no connection.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tidegate_protocol::Packet;
use tokio::sync::Notify;

use crate::calls::CallId;
use crate::error::QueueFull;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) packets: usize,
    /// Of topic and body. A packet that is larger than all of it may wait alone.
    pub(crate) bytes: usize,
}

impl Bounds {
    /// Whether so many packets of so many bytes leave room for another of `size`.
    pub(crate) fn allow(&self, packets: usize, bytes: usize, size: usize) -> bool {
        packets == 0 || (packets < self.packets && bytes.saturating_add(size) <= self.bytes)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    bounds: Bounds,
    state: Mutex<State>,
    /// Tells the task that something waits.
    filled: Notify,
    /// Tells those who wait for room to look again.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    /// A connection takes from here: there will be room.
    drained: bool,
    closed: bool,
}

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) packet: Packet,
    /// The request that it makes, if it makes one.
    pub(crate) call: Option<CallId>,
}

/// Why a packet does not wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotQueued {
    Full(QueueFull),
    Closed,
}

/// What came of trying.
enum Tried {
    Queued,
    /// A connection makes room: worth waiting.
    Later(Outgoing),
    Not(NotQueued),
}

impl Outbox {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
            filled: Notify::new(),
            room: Notify::new(),
        }
    }

    // --- for the handles

    /// Queues a packet. While a connection takes from the queue it waits for room; while
    /// there is none, a full queue is an error. Cancel-safe: dropped before it is ready,
    /// nothing is queued.
    pub(crate) async fn push(&self, mut outgoing: Outgoing) -> Result<(), NotQueued> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Before looking, so that nothing that happens meanwhile is missed.
            room.as_mut().enable();
            outgoing = match self.try_push(outgoing) {
                Tried::Queued => return Ok(()),
                Tried::Not(why) => return Err(why),
                Tried::Later(outgoing) => outgoing,
            };
            room.await;
        }
    }

    fn try_push(&self, outgoing: Outgoing) -> Tried {
        let size = outgoing.packet.size();
        let mut state = self.state.lock();
        if state.closed {
            return Tried::Not(NotQueued::Closed);
        }
        if !self.bounds.allow(state.waiting.len(), state.bytes, size) {
            return match state.drained {
                true => Tried::Later(outgoing),
                false => Tried::Not(NotQueued::Full(QueueFull {
                    packets: state.waiting.len(),
                    bytes: state.bytes,
                })),
            };
        }
        state.bytes += size;
        state.waiting.push_back(outgoing);
        drop(state);
        self.filled.notify_one();
        Tried::Queued
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Takes a request back that was given up before it was written. Answers whether it
    /// still waited.
    pub(crate) fn withdraw(&self, call: CallId) -> bool {
        let mut state = self.state.lock();
        let at = state.waiting.iter().position(|o| o.call == Some(call));
        let taken = at.and_then(|at| state.waiting.remove(at));
        if let Some(taken) = &taken {
            self.removed(state, taken);
        }
        taken.is_some()
    }

    // --- for the task

    /// The next packet to write.
    pub(crate) fn pop(&self) -> Option<Outgoing> {
        let mut state = self.state.lock();
        let taken = state.waiting.pop_front()?;
        self.removed(state, &taken);
        Some(taken)
    }

    fn removed(&self, mut state: parking_lot::MutexGuard<'_, State>, taken: &Outgoing) {
        state.bytes -= taken.packet.size();
        let empty = state.waiting.is_empty();
        if empty {
            state.waiting = VecDeque::new();
        }
        drop(state);
        match empty {
            // Whoever waits for more room than one packet leaves finds it now.
            true => self.room.notify_waiters(),
            false => self.room.notify_one(),
        }
    }

    /// Waits until a packet may have been queued since this was last asked.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// A connection begins to take from the queue, or ceases to.
    pub(crate) fn set_drained(&self, drained: bool) {
        self.state.lock().drained = drained;
        self.room.notify_waiters();
    }

    /// Takes nothing any more; what waits can still be taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        packets: 3,
        bytes: 20,
    };

    fn packet(len: usize) -> Outgoing {
        Outgoing {
            packet: Packet::try_new("a", vec![0; len - 1]).unwrap(),
            call: None,
        }
    }

    fn queued(outbox: &Outbox, len: usize) -> Result<(), NotQueued> {
        match outbox.try_push(packet(len)) {
            Tried::Queued => Ok(()),
            Tried::Later(_) => panic!("would wait"),
            Tried::Not(why) => Err(why),
        }
    }

    #[test]
    fn without_a_connection_a_full_queue_is_an_error() {
        let outbox = Outbox::new(BOUNDS);
        let full = |packets, bytes| Err(NotQueued::Full(QueueFull { packets, bytes }));
        queued(&outbox, 8).unwrap();
        queued(&outbox, 8).unwrap();
        assert_eq!(queued(&outbox, 5), full(2, 16), "bytes");
        queued(&outbox, 4).unwrap();
        outbox.pop();
        queued(&outbox, 1).unwrap();
        assert_eq!(queued(&outbox, 1), full(3, 13), "packets");
        while outbox.pop().is_some() {}
        queued(&outbox, 100).unwrap();
        assert_eq!(queued(&outbox, 1), full(1, 100), "alone");
        outbox.close();
        assert_eq!(queued(&outbox, 1), Err(NotQueued::Closed));
        assert!(outbox.pop().is_some(), "what waits can still be taken");
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_connection_it_waits_for_room() {
        let outbox = Outbox::new(BOUNDS);
        outbox.set_drained(true);
        queued(&outbox, 15).unwrap();
        queued(&outbox, 5).unwrap();
        let (large, small) = (outbox.push(packet(15)), outbox.push(packet(10)));
        let take = async {
            for len in [15, 5, 15, 10] {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                assert_eq!(outbox.pop().unwrap().packet.size(), len);
            }
        };
        let (large, small, ()) = tokio::join!(large, small, take);
        assert_eq!((large, small), (Ok(()), Ok(())));
        // The connection is lost while somebody waits.
        queued(&outbox, 20).unwrap();
        let lost = async { outbox.set_drained(false) };
        let (waited, ()) = tokio::join!(outbox.push(packet(1)), lost);
        assert!(matches!(waited, Err(NotQueued::Full(_))));
    }
}
