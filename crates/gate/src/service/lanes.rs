//! Lanes: one session's calls, one at a time.
//!
//! A session has a lane while a call of it is pending. What is handed in meanwhile waits
//! in the lane, and whoever drives the lane takes it from there. Nearly always there are
//! few lanes or none, and then a look at one counter is all that a call costs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use tidegate_protocol::SessionId;

const SHARDS: usize = 16;

/// The open lanes, with jobs `J` waiting in them.
///
/// Nothing is lost or overtaken because queueing into a lane and closing it when it is
/// empty exclude each other by the shard's lock, and because jobs of one session are
/// handed in one after the other: the one who opened the lane happened before.
pub(super) struct Lanes<J> {
    /// How many lanes are open in all shards. Changed under the shard's lock, after a
    /// lane was inserted and after it was removed.
    open: AtomicUsize,
    shards: [Mutex<HashMap<SessionId, VecDeque<J>>>; SHARDS],
}

/// What became of a job that was to wait.
pub(super) enum Queued<J> {
    /// It waits and will be given to the lane's driver.
    Waiting,
    /// There is no lane: nothing to wait for.
    NoLane(J),
    /// As many as may are waiting already.
    Full(J),
}

impl<J> Lanes<J> {
    pub(super) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Whether any session has a lane.
    pub(super) fn any_open(&self) -> bool {
        self.open.load(Ordering::Acquire) != 0
    }

    /// Lets `job` wait behind what is pending of its session, at most `max` in a lane.
    pub(super) fn queue(&self, session: SessionId, job: J, max: usize) -> Queued<J> {
        match self.shard(session).get_mut(&session) {
            None => Queued::NoLane(job),
            Some(lane) if lane.len() >= max => Queued::Full(job),
            Some(lane) => {
                lane.push_back(job);
                Queued::Waiting
            }
        }
    }

    /// Opens a lane; answers whether it was not open yet. Who opened it must drive it:
    /// call [`next`](Self::next) until it answers nothing, or [`close`](Self::close).
    pub(super) fn open(&self, session: SessionId) -> bool {
        let mut shard = self.shard(session);
        if shard.contains_key(&session) {
            return false;
        }
        // An empty queue allocates nothing.
        shard.insert(session, VecDeque::new());
        self.open.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// The job that waited longest. Closes the lane when none waits.
    pub(super) fn next(&self, session: SessionId) -> Option<J> {
        let mut shard = self.shard(session);
        let next = shard.get_mut(&session)?.pop_front();
        if next.is_none() {
            shard.remove(&session);
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        next
    }

    /// Closes the lane and gives back what waits.
    pub(super) fn close(&self, session: SessionId) -> VecDeque<J> {
        let mut shard = self.shard(session);
        let Some(waiting) = shard.remove(&session) else {
            return VecDeque::new();
        };
        self.open.fetch_sub(1, Ordering::AcqRel);
        waiting
    }

    fn shard(&self, session: SessionId) -> MutexGuard<'_, HashMap<SessionId, VecDeque<J>>> {
        // Ids are random: any bits will do.
        self.shards[session.0 as usize % SHARDS].lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_from_open_to_closed() {
        let lanes = Lanes::new();
        let (a, b) = (SessionId(1), SessionId(17));
        assert!(matches!(lanes.queue(a, 1, 2), Queued::NoLane(1)));
        assert!(lanes.open(a));
        assert!(!lanes.open(a));
        assert!(matches!(lanes.queue(b, 1, 2), Queued::NoLane(1)));
        assert!(matches!(lanes.queue(a, 1, 2), Queued::Waiting));
        assert!(matches!(lanes.queue(a, 2, 2), Queued::Waiting));
        assert!(matches!(lanes.queue(a, 3, 2), Queued::Full(3)));
        assert_eq!(
            (lanes.next(a), lanes.next(a), lanes.next(a)),
            (Some(1), Some(2), None)
        );
        assert!(matches!(lanes.queue(a, 4, 2), Queued::NoLane(4)));
        assert!(lanes.open(a));
        assert!(matches!(lanes.queue(a, 5, 2), Queued::Waiting));
        assert_eq!(lanes.close(a), [5]);
        assert_eq!(lanes.open.load(Ordering::Relaxed), 0);
        assert!(lanes.close(a).is_empty());
        assert_eq!(lanes.open.load(Ordering::Relaxed), 0);
    }
}
