//! Which gates live, as one gate sees it.
//!
//! A gate lives while its lease is renewed; whoever is not seen renewing for the time of a
//! lease is dead. Times are this process's own, and monotonic: no clock is compared with
//! another's. Who does not see even its own renewals judges nobody: NATS may be down, or the
//! watch broken. Once it sees itself again, all begin anew.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use tidegate::bus::GateInfo;
use tidegate_protocol::GateId;
use tokio::time::Instant;

use crate::record::Incarnation;

/// How long a gate is waited for beyond its lease.
const GRACE: Duration = Duration::from_millis(500);
/// Dead gates that are remembered.
const REMEMBERED: usize = 1024;

/// One life of a gate that is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Gone {
    pub(crate) gate: GateId,
    pub(crate) incarnation: Incarnation,
    /// Of its last renewal: two deaths of one life differ in it.
    pub(crate) revision: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct View {
    lease: Duration,
    me: (GateId, Incarnation),
    gates: HashMap<GateId, Seen>,
    seen_self: Instant,
    /// Sees nobody: judges nobody.
    blind: bool,
    /// The latest last.
    dead: VecDeque<(GateId, Incarnation)>,
}

#[derive(Debug)]
struct Seen {
    info: GateInfo,
    incarnation: Incarnation,
    revision: u64,
    at: Instant,
}

/// What is known of one life of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Live,
    Dead,
    /// Not heard of: it may have begun just now.
    Unknown,
}

impl View {
    pub(crate) fn new(lease: Duration, me: (GateId, Incarnation), now: Instant) -> Self {
        Self {
            lease,
            me,
            gates: HashMap::new(),
            seen_self: now,
            blind: false,
            dead: VecDeque::new(),
        }
    }

    /// A gate has renewed its lease. Answers the life that is over by that.
    pub(crate) fn renewed(
        &mut self,
        info: GateInfo,
        incarnation: Incarnation,
        revision: u64,
        now: Instant,
    ) -> Option<Gone> {
        if self.me == (info.id.clone(), incarnation) {
            self.seen_self = now;
            if std::mem::take(&mut self.blind) {
                for seen in self.gates.values_mut() {
                    seen.at = now;
                }
            }
        }
        let old = self.gates.get(&info.id);
        if old.is_some_and(|old| old.revision > revision) {
            // Read on two ways, and this one was slower.
            return None;
        }
        // It was taken for dead too soon.
        self.dead
            .retain(|(gate, i)| *i != incarnation || *gate != info.id);
        let seen = Seen {
            incarnation,
            revision,
            at: now,
            info,
        };
        let old = self.gates.insert(seen.info.id.clone(), seen)?;
        (old.incarnation != incarnation).then(|| self.bury(old))
    }

    /// A gate has ended in order.
    pub(crate) fn left(&mut self, gate: &GateId, revision: u64) {
        if self.gates.get(gate).is_some_and(|s| s.revision < revision)
            && let Some(seen) = self.gates.remove(gate)
        {
            self.bury(seen);
        }
    }

    /// Looks round. Answers those that are dead now.
    pub(crate) fn look(&mut self, now: Instant) -> Vec<Gone> {
        if now.duration_since(self.seen_self) > self.lease / 2 {
            self.blind = true;
        }
        if self.blind {
            return Vec::new();
        }
        let (until, me) = (self.lease + GRACE, &self.me.0);
        let is_dead = |s: &Seen| s.info.id != *me && now.saturating_duration_since(s.at) > until;
        let dead: Vec<_> = self.gates.extract_if(|_, seen| is_dead(seen)).collect();
        dead.into_iter().map(|(_, seen)| self.bury(seen)).collect()
    }

    /// It sees nobody, and the watch may be why.
    pub(crate) fn is_blind(&self) -> bool {
        self.blind
    }

    fn bury(&mut self, seen: Seen) -> Gone {
        if self.dead.len() >= REMEMBERED {
            self.dead.pop_front();
        }
        self.dead
            .push_back((seen.info.id.clone(), seen.incarnation));
        Gone {
            gate: seen.info.id,
            incarnation: seen.incarnation,
            revision: seen.revision,
        }
    }

    /// What is known of this life of a gate.
    pub(crate) fn life(&self, gate: &GateId, incarnation: Incarnation) -> Life {
        let is = |seen: &Seen| seen.incarnation == incarnation;
        if self.me.0 == *gate && self.me.1 == incarnation || self.gates.get(gate).is_some_and(is) {
            return Life::Live;
        }
        match self
            .dead
            .iter()
            .any(|(g, i)| *i == incarnation && g == gate)
        {
            true => Life::Dead,
            false => Life::Unknown,
        }
    }

    /// It was looked at where leases are kept, and has none.
    pub(crate) fn is_dead(&mut self, gate: &GateId, incarnation: Incarnation) {
        if self.life(gate, incarnation) == Life::Unknown {
            self.dead.push_back((gate.clone(), incarnation));
            if self.dead.len() > REMEMBERED {
                self.dead.pop_front();
            }
        }
    }

    /// The gates that live.
    pub(crate) fn gates(&self) -> impl Iterator<Item = (&GateInfo, Incarnation)> {
        let gates = self.gates.values();
        gates.map(|seen| (&seen.info, seen.incarnation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn gate(id: &str) -> GateInfo {
        GateInfo {
            id: GateId::new(id).unwrap(),
            version: String::new(),
            metadata: Default::default(),
        }
    }

    struct Seer {
        view: View,
        now: Instant,
        revision: u64,
    }

    impl Seer {
        fn new() -> Self {
            let now = Instant::now();
            let me = (GateId::new("me").unwrap(), Incarnation(1));
            Self {
                view: View::new(LEASE, me, now),
                now,
                revision: 0,
            }
        }

        fn renewed(&mut self, id: &str, incarnation: u64) -> Option<Gone> {
            self.revision += 1;
            let incarnation = Incarnation(incarnation);
            self.view
                .renewed(gate(id), incarnation, self.revision, self.now)
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn gone(&mut self) -> Vec<String> {
            let gone = self.view.look(self.now);
            gone.iter().map(|gone| gone.gate.to_string()).collect()
        }

        fn life(&self, id: &str, incarnation: u64) -> Life {
            self.view
                .life(&GateId::new(id).unwrap(), Incarnation(incarnation))
        }
    }

    #[test]
    fn who_does_not_renew_is_dead_once_its_lease_is_over() {
        let mut seer = Seer::new();
        seer.renewed("me", 1);
        seer.renewed("a", 5);
        seer.renewed("b", 6);
        for _ in 0..5 {
            seer.pass(2);
            seer.renewed("me", 1);
            seer.renewed("b", 6);
            assert_eq!(seer.gone(), [""; 0]);
            assert_eq!(seer.life("a", 5), Life::Live);
        }
        seer.pass(1);
        assert_eq!(seer.gone(), ["a"]);
        assert_eq!(seer.gone(), [""; 0], "once");
        assert_eq!(seer.life("a", 5), Life::Dead);
        assert_eq!(seer.life("b", 6), Life::Live);
        assert_eq!(seer.life("a", 6), Life::Unknown);
        // It was only cut off.
        assert_eq!(seer.renewed("a", 5), None);
        assert_eq!(seer.life("a", 5), Life::Live);
    }

    #[test]
    fn who_does_not_see_itself_judges_nobody_and_begins_anew() {
        let mut seer = Seer::new();
        seer.renewed("me", 1);
        seer.renewed("a", 5);
        seer.renewed("b", 6);
        seer.pass(60);
        assert_eq!(seer.gone(), [""; 0]);
        assert!(seer.view.is_blind());
        seer.renewed("a", 5);
        assert_eq!(seer.gone(), [""; 0]);
        seer.renewed("me", 1);
        assert!(!seer.view.is_blind());
        for _ in 0..5 {
            seer.pass(2);
            seer.renewed("me", 1);
            seer.renewed("a", 5);
            assert_eq!(seer.gone(), [""; 0]);
        }
        seer.pass(1);
        assert_eq!(seer.gone(), ["b"], "it has had a lease's time to come back");
    }

    #[test]
    fn a_gate_that_starts_again_has_died_before() {
        let mut seer = Seer::new();
        seer.renewed("a", 5);
        let gone = seer.renewed("a", 7).unwrap();
        assert_eq!((&*gone.gate, gone.incarnation), ("a", Incarnation(5)));
        assert_eq!(seer.life("a", 5), Life::Dead);
        assert_eq!(seer.life("a", 7), Life::Live);
    }

    #[test]
    fn what_is_older_changes_nothing() {
        let mut seer = Seer::new();
        seer.renewed("a", 5);
        let old = seer.revision;
        seer.renewed("a", 7);
        let now = seer.now;
        let late = seer.view.renewed(gate("a"), Incarnation(5), old, now);
        assert_eq!(late, None);
        assert_eq!(seer.life("a", 7), Life::Live);
        seer.view.left(&GateId::new("a").unwrap(), old);
        assert_eq!(seer.life("a", 7), Life::Live);
        seer.view.left(&GateId::new("a").unwrap(), 99);
        assert_eq!(seer.life("a", 7), Life::Dead);
        assert_eq!(seer.gone(), [""; 0], "who leaves in order has not died");
    }
}
