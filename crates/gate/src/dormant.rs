//! Sessions without a connection: how long they wait, and what is remembered of those
//! that waited in vain.

use std::collections::{BTreeSet, HashMap, VecDeque};

use parking_lot::Mutex;
use tidegate_protocol::extended::ResumeRefusal;
use tidegate_protocol::{CloseReason, SessionId};

use crate::clock::Tick;
use crate::session::LocalSession;
use crate::session::table::Table;

/// Ended sessions that are remembered, so that a client that comes back late is told why
/// its session is gone.
const REMEMBERED: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Dormant {
    /// Each session that is dormant, once, by when it is looked after: it may have expired
    /// then, or a call of it. Changed under the lock of the session's flow.
    waiting: Mutex<BTreeSet<(Tick, SessionId)>>,
    ended: Mutex<Ended>,
}

#[derive(Default)]
struct Ended {
    why: HashMap<SessionId, CloseReason>,
    order: VecDeque<SessionId>,
}

impl Dormant {
    /// Whether one more may wait.
    pub(crate) fn has_room(&self, max: usize) -> bool {
        self.count() < max
    }

    /// Sessions that wait.
    pub(crate) fn count(&self) -> usize {
        self.waiting.lock().len()
    }

    /// A session has become dormant, and is looked after at `at`.
    pub(crate) fn entered(&self, at: Tick, session: SessionId) {
        self.waiting.lock().insert((at, session));
    }

    /// A session that was looked after at `before` is looked after again at `at`.
    pub(crate) fn moved(&self, before: Tick, at: Tick, session: SessionId) {
        let mut waiting = self.waiting.lock();
        waiting.remove(&(before, session));
        waiting.insert((at, session));
    }

    /// A session that was to be looked after at `at` is not dormant any more.
    pub(crate) fn left(&self, at: Tick, session: SessionId) {
        self.waiting.lock().remove(&(at, session));
    }

    /// The sessions to be looked after now.
    pub(crate) fn due(&self, now: Tick, sessions: &Table) -> Vec<LocalSession> {
        let waiting = self.waiting.lock();
        let due = waiting.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.map(|(_, id)| *id).collect();
        drop(waiting);
        due.into_iter().filter_map(|id| sessions.get(id)).collect()
    }

    /// All sessions that are dormant.
    pub(crate) fn sessions(&self, sessions: &Table) -> Vec<LocalSession> {
        let waiting: Vec<_> = self.waiting.lock().iter().map(|(_, id)| *id).collect();
        let waiting = waiting.into_iter().filter_map(|id| sessions.get(id));
        waiting.filter(LocalSession::is_dormant).collect()
    }

    /// Remembers why a session that could be resumed ended.
    pub(crate) fn remember(&self, session: SessionId, why: CloseReason) {
        let mut ended = self.ended.lock();
        if ended.why.insert(session, why).is_none() {
            ended.order.push_back(session);
        }
        if ended.order.len() > REMEMBERED
            && let Some(oldest) = ended.order.pop_front()
        {
            ended.why.remove(&oldest);
        }
    }

    /// What a client is told that comes back for a session that is gone.
    pub(crate) fn why_gone(&self, session: SessionId) -> ResumeRefusal {
        self.reason(session).map_or(ResumeRefusal::Unknown, refusal)
    }

    /// Why a session ended, as far as that is known.
    pub(crate) fn reason(&self, session: SessionId) -> Option<CloseReason> {
        self.ended.lock().why.get(&session).copied()
    }
}

/// What a client is told that comes back for a session that ended, or is ending, so.
pub(crate) fn refusal(reason: CloseReason) -> ResumeRefusal {
    match reason {
        CloseReason::NotResumed => ResumeRefusal::Expired,
        CloseReason::ResumeOverflow => ResumeRefusal::Overflowed,
        CloseReason::TokenStolen => ResumeRefusal::Spent,
        _ => ResumeRefusal::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_remembered() {
        let dormant = Dormant::default();
        for n in 0..REMEMBERED as u128 + 5 {
            dormant.remember(SessionId(n), CloseReason::NotResumed);
            dormant.remember(SessionId(n), CloseReason::Kicked);
        }
        assert_eq!(dormant.why_gone(SessionId(4)), ResumeRefusal::Unknown);
        assert_eq!(dormant.why_gone(SessionId(5)), ResumeRefusal::Ended);
        assert_eq!(dormant.ended.lock().why.len(), REMEMBERED);
    }
}
