//! A session that outlives its connection: how it waits for its client, and how the
//! client comes back.

use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::extended::{
    Drain, GateControl, Heartbeat, ResumeRefusal, ResumeRequest, TokenHash,
};
use tidegate_protocol::{CloseReason, ErrorCode, SessionId, UserId};

use super::extended::Resumed;
use super::flow::Phase;
use super::{Attachment, LocalSession};
use crate::bus::{Event, EventTarget};
use crate::clock::Tick;
use crate::gate::GateInner;
use crate::token::{self, NewToken};

/// Who comes back, with what.
pub(crate) struct Claim<'a> {
    pub(crate) request: &'a ResumeRequest,
    /// As whom the client authenticated just now.
    pub(crate) user: Option<&'a UserId>,
    pub(crate) heartbeat: Heartbeat,
}

/// A session that its client has come back for.
pub(crate) struct Taken {
    pub(crate) session: LocalSession,
    pub(crate) resumed: Resumed,
    pub(crate) token: NewToken,
}

impl LocalSession {
    /// The connection of this epoch is lost. Answers whether the session waits for its
    /// client to come back.
    pub(crate) fn wait_for_client(&self, epoch: u32) -> bool {
        let core = self.core();
        let gate = &core.gate;
        if gate.is_stopping() || !gate.dormant.has_room(gate.limits.max_dormant) {
            return false;
        }
        let now = gate.clock.now();
        {
            let mut flow = core.flow.lock();
            if !flow.detach(epoch, now) {
                return false;
            }
            flow.held = 0;
            flow.publish(&gate.budget);
            if let Some(at) = flow.next_look() {
                gate.dormant.entered(at, self.id());
            }
        }
        core.counters().dormant.add(1);
        self.tell(Event::Dormant);
        true
    }

    /// Looks after a session that is dormant: its calls, and itself, may have expired.
    pub(crate) fn look_after(&self, now: Tick) {
        let core = self.core();
        let (until, expired) = {
            let mut flow = core.flow.lock();
            let Some(until) = flow.dormant_until() else {
                // It was resumed, or has ended.
                return;
            };
            (until, flow.expire_calls(now))
        };
        for call in expired {
            let error = ErrorCode::OUTCOME_UNKNOWN.into();
            self.packet_error(&call.topic, call.packet, &error);
        }
        if until <= now {
            self.close(CloseReason::NotResumed);
            return;
        }
        let mut flow = core.flow.lock();
        if let (Some(before), Some(at)) = (flow.waited(), flow.next_look()) {
            core.gate.dormant.moved(before, at, self.id());
        }
    }

    /// Tells the services that ask for it. In its place between the client's packets,
    /// whichever connection took them.
    fn tell(&self, event: Event) {
        let _turn = self.core().turn.lock();
        let bus = &self.core().gate.bus;
        bus.event(EventTarget::WhoAsked, self.snapshot(), event);
    }
}

impl GateInner {
    /// Gives a client its session back, on a connection at `at`. The one that it had
    /// before, if it is still there, has lost the session then.
    pub(crate) fn resume(
        &self,
        claim: &Claim<'_>,
        at: &Arc<Attachment>,
    ) -> Result<Taken, ResumeRefusal> {
        let (id, secret) = token::parse(&claim.request.token).ok_or(ResumeRefusal::Unknown)?;
        let Some(session) = self.sessions.get(id) else {
            return Err(self.dormant.why_gone(id));
        };
        let next = NewToken::new(id);
        let resumed = session.take_up(claim, &secret, next.hash, at);
        match resumed {
            Ok(resumed) => {
                if resumed.waited.is_some() {
                    session.tell(Event::Resumed);
                }
                Ok(Taken {
                    session,
                    resumed,
                    token: next,
                })
            }
            Err(ResumeRefusal::Ended) => Err(match self.dormant.why_gone(id) {
                // It has not got to being remembered.
                ResumeRefusal::Unknown => ResumeRefusal::Ended,
                why => why,
            }),
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether there is a session that this token is for, be it right or wrong.
    pub(crate) fn is_here(&self, token: &str) -> bool {
        token::parse(token).is_some_and(|(id, _)| self.sessions.get(id).is_some())
    }

    /// Whether the session that this token is for lost its place to a newer login.
    pub(crate) fn was_replaced(&self, token: &str) -> bool {
        let Some((id, _)) = token::parse(token) else {
            return false;
        };
        let closing = |session: LocalSession| match session.core().flow.lock().phase {
            Phase::Closing(closing) => Some(closing.reason),
            Phase::Open | Phase::Ended => None,
        };
        let reason = self.sessions.get(id).and_then(closing);
        reason.or_else(|| self.dormant.reason(id)) == Some(CloseReason::Replaced)
    }

    /// Ends a session of which a spent token was presented, by somebody who is there.
    pub(crate) fn end_stolen(&self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        tracing::warn!(session = %id, "a resume token was presented again after it was replaced; the session is ended");
        self.dormant.remember(id, CloseReason::TokenStolen);
        session.close(CloseReason::TokenStolen);
    }
}

impl LocalSession {
    /// Tells a client of the extended protocol that the gate is going to close. Each is told
    /// to wait for another time, up to half of it, so that they do not all leave at once.
    pub(crate) fn tell_drain(&self, until: Duration) {
        let deadline_ms = until.as_millis() as u64;
        let drain = Drain {
            deadline_ms,
            retry_after_ms: rand::random_range(0..=deadline_ms / 2),
        };
        let mut flow = self.core().flow.lock();
        if flow.is_extended() && flow.phase == Phase::Open && !flow.is_dormant() {
            flow.control(GateControl::Drain(drain).packet());
        }
    }

    fn take_up(
        &self,
        claim: &Claim<'_>,
        secret: &TokenHash,
        next: TokenHash,
        at: &Arc<Attachment>,
    ) -> Result<Resumed, ResumeRefusal> {
        let core = self.core();
        let user = self.user();
        let mut flow = core.flow.lock();
        let resumed = flow.resume_with(
            secret,
            claim.user,
            user.as_ref(),
            claim.request.received,
            next,
            claim.heartbeat,
        )?;
        if let Some(looked_at) = resumed.waited {
            core.gate.dormant.left(looked_at, self.id());
        }
        core.at.store(at.clone());
        let endpoint = &at.endpoint;
        let unfit = flow.refit(&*endpoint.codec, endpoint.limits.max_packet_size);
        flow.publish(&core.gate.budget);
        drop(flow);
        core.counters().dropped.add(unfit);
        core.counters().resumed.add(1);
        Ok(resumed)
    }
}
