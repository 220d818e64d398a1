//! Sessions that end when their tokens do (`close_on_expiry`).

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use tidegate::{CloseReason, Gate, SessionId};

/// When which session ends.
#[derive(Default)]
pub(super) struct Expiries(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_session: HashMap<SessionId, u64>,
    /// In the order in which they end.
    by_time: BTreeSet<(u64, SessionId)>,
    /// Sessions that were not there when last looked for: in set-up still, or gone.
    missing: Vec<SessionId>,
}

impl Expiries {
    /// The session ends at `at`, in seconds since 1970, whatever was said before.
    pub(super) fn set(&self, session: SessionId, at: u64) {
        let mut table = self.0.lock();
        table.remove(session);
        table.by_session.insert(session, at);
        table.by_time.insert((at, session));
    }

    /// The session does not end by itself any more.
    pub(super) fn remove(&self, session: SessionId) {
        self.0.lock().remove(session);
    }

    /// Whoever was looked at as `attempt` is this session: what holds for it is what was said
    /// then.
    pub(super) fn resumed(&self, session: SessionId, attempt: SessionId) {
        let mut table = self.0.lock();
        table.remove(session);
        if let Some(at) = table.by_session.get(&attempt).copied() {
            table.remove(attempt);
            table.by_session.insert(session, at);
            table.by_time.insert((at, session));
        }
    }

    /// Closes those whose time has come. Answers how many it closed.
    pub(super) fn close_due(&self, gate: &Gate, now: u64) -> usize {
        let mut due = Vec::new();
        {
            let mut table = self.0.lock();
            while let Some((at, session)) = table.by_time.first().copied()
                && at <= now
            {
                table.remove(session);
                due.push(session);
            }
        }
        let sessions = due.into_iter().filter_map(|id| gate.session(id));
        sessions
            .filter(|session| session.close(CloseReason::AuthenticationRefused))
            .count()
    }

    /// Forgets sessions that have ended: those missing now as they were the last time.
    pub(super) fn forget_ended(&self, gate: &Gate) {
        let all: Vec<_> = self.0.lock().by_session.keys().copied().collect();
        let missing = |id: &SessionId| gate.session(*id).is_none();
        let missing: Vec<_> = all.into_iter().filter(missing).collect();
        let mut table = self.0.lock();
        let before: std::collections::HashSet<_> =
            std::mem::take(&mut table.missing).into_iter().collect();
        for session in missing {
            match before.contains(&session) {
                true => table.remove(session),
                false => table.missing.push(session),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let table = self.0.lock();
        assert_eq!(table.by_session.len(), table.by_time.len());
        table.by_session.len()
    }
}

impl Table {
    fn remove(&mut self, session: SessionId) {
        if let Some(at) = self.by_session.remove(&session) {
            self.by_time.remove(&(at, session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_resumes_has_the_time_of_the_newest_token() {
        let expiries = Expiries::default();
        let [session, attempt, other] = [1, 2, 3].map(SessionId);
        expiries.set(session, 10);
        expiries.set(attempt, 20);
        expiries.set(other, 30);
        expiries.resumed(session, attempt);
        assert_eq!(expiries.0.lock().by_session[&session], 20);
        assert_eq!(expiries.len(), 2);
        // By something that does not expire.
        expiries.resumed(session, attempt);
        assert_eq!(expiries.len(), 1);
    }

    #[tokio::test]
    async fn ended_sessions_are_forgotten_and_those_in_set_up_are_not() {
        let gate = Gate::builder().shards(0).start().await.unwrap();
        let expiries = Expiries::default();
        expiries.set(SessionId(1), 10);
        expiries.set(SessionId(1), 20);
        expiries.set(SessionId(2), 30);
        assert_eq!(expiries.len(), 2);
        expiries.forget_ended(gate.gate());
        assert_eq!(expiries.len(), 2, "they may be in set-up");
        expiries.set(SessionId(3), 40);
        expiries.forget_ended(gate.gate());
        assert_eq!(expiries.len(), 1);
        assert_eq!(expiries.close_due(gate.gate(), 40), 0);
        assert_eq!(expiries.len(), 0);
        expiries.set(SessionId(4), 50);
        expiries.remove(SessionId(4));
        expiries.remove(SessionId(5));
        assert_eq!(expiries.len(), 0);
    }
}
