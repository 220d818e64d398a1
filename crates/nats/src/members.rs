//! The memberships of this process's gates, and what they need of the rest of the bus.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all, ready};
use parking_lot::RwLock;
use tidegate::bus::{GateError, GateGone, KeptLogins, SessionOp, SessionReply};
use tidegate_protocol::{GateId, SessionId, UserId};
use tokio::time::{sleep, timeout};

use crate::bus::Inner;
use crate::membership::{Membership, Reach};
use crate::subject::{AllEvent, GateVerb};
use crate::wire::gate::LiveGate;
use crate::wire::{event, read_json};

/// For a gate that has the same id to say so.
const CLAIM: Duration = Duration::from_secs(1);
/// For the other gates to know one that starts; between two questions.
const KNOWN: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// Attempts to tell of a death; between two.
const ATTEMPTS: usize = 20;
const AGAIN: Duration = Duration::from_millis(500);

/// The memberships of this process's gates.
#[derive(Default)]
pub(crate) struct Members(RwLock<Vec<Arc<Membership>>>);

impl Members {
    pub(crate) fn add(&self, member: Arc<Membership>) {
        self.0.write().push(member);
    }

    pub(crate) fn remove(&self, member: &Arc<Membership>) {
        self.0.write().retain(|m| !Arc::ptr_eq(m, member));
    }

    /// One that can speak for all.
    fn any(&self) -> Option<Arc<Membership>> {
        self.0.read().first().cloned()
    }

    /// Where a gate's logins are kept.
    pub(crate) fn users(&self, gate: &GateId) -> Option<Arc<dyn KeptLogins>> {
        let members = self.0.read();
        let member = members.iter().find(|member| member.gate() == gate)?;
        Some(member.users())
    }

    /// The gates that live; none where no gate of this process knows.
    pub(crate) fn live_gates(&self) -> Option<Vec<LiveGate>> {
        Some(self.any()?.live_gates())
    }

    /// The gates on which users have sessions; none where that cannot be known now.
    pub(crate) async fn gates_of(&self, users: &[UserId]) -> Option<BTreeMap<GateId, Vec<usize>>> {
        self.any()?.gates_of(users).await.ok()
    }
}

impl Inner {
    /// Waits until the other gates know this one: what is put to all gates must reach the
    /// sessions that it is going to have.
    pub(crate) async fn be_known(&self, member: &Membership) {
        let others = member.live_gates().into_iter().map(|live| live.gate);
        let others = others.filter(|gate| gate != member.gate());
        let known = others.map(|gate| async move {
            while !self.is_known_to(&gate, member).await {
                sleep(ASK_AGAIN).await;
            }
        });
        // One that does not answer is dead, or will know in a moment.
        let _ = timeout(KNOWN, join_all(known)).await;
    }

    async fn is_known_to(&self, gate: &GateId, member: &Membership) -> bool {
        let gates = self.prefix.node(gate, GateVerb::Gates);
        let asked = self.home.ask(gates, None, Default::default(), KNOWN);
        let Ok(answer) = asked.await else {
            return false;
        };
        let live: Vec<LiveGate> = read_json(&answer.payload).unwrap_or_default();
        let is_it = |live: &LiveGate| {
            live.gate == *member.gate() && live.incarnation == member.incarnation()
        };
        live.iter().any(is_it)
    }
}

/// The bus, as a gate's membership sees it.
pub(crate) struct OverBus(pub(crate) Weak<Inner>);

impl Reach for OverBus {
    fn is_used(&self, gate: &GateId) -> BoxFuture<'static, bool> {
        let Some(bus) = self.0.upgrade() else {
            return ready(false).boxed();
        };
        let ping = bus.prefix.node(gate, GateVerb::Ping);
        let asked = bus.home.ask(ping, None, Default::default(), CLAIM);
        asked.map(|answer| answer.is_ok()).boxed()
    }

    fn gate_gone(&self, gone: GateGone) -> BoxFuture<'static, ()> {
        let bus = self.0.clone();
        async move {
            for _ in 0..ATTEMPTS {
                let Some(bus) = bus.upgrade() else { return };
                let envelope = event::gate_gone(&gone.gate, gone.incarnation);
                let subject = bus.prefix.all(AllEvent::GateGone);
                let link = &bus.home.link;
                let sent = link.publish_wait(subject, None, envelope.headers, envelope.body);
                if sent.await.is_ok() {
                    return;
                }
                sleep(AGAIN).await;
            }
            tracing::warn!(gate = %gone.gate, "the services could not be told that a gate has died");
        }
        .boxed()
    }

    fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        match self.0.upgrade() {
            Some(bus) => bus.session(gate, session, op),
            None => ready(Err(GateError::Unavailable)).boxed(),
        }
    }
}
