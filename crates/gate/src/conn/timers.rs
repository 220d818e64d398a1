//! Deadlines: a connection has one entry in its shard's wheel, and looks what is really
//! due when that fires.

use std::time::Duration;

use tidegate_protocol::{CloseReason, ErrorCode};

use super::{Connection, Pause, State, Step};
use crate::clock::{TICK, Tick};
use crate::metrics::calls::Outcome;
use crate::transport::Peer;

/// How often a peer is looked after while its bytes are not read, and a bucket that
/// fills.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Connection {
    /// Acts on every deadline that has passed.
    pub(super) fn check_timers(&mut self) {
        let now = self.now();
        if now < self.armed {
            // Nothing is due before the tick that the shard will wake us at.
            return;
        }
        self.armed = Tick::NEVER;
        self.expire_calls(now);
        self.refill(now);
        let heartbeat = self.allowed_silence();
        let limits = &self.at.endpoint.limits;
        let (partial, write) = (limits.partial_frame_timeout, limits.write_timeout);
        if self.blocked_since != Tick::NEVER && self.blocked_since.plus(write) <= now {
            self.state = State::Done(self.reason_or(CloseReason::Slow));
        }
        match self.state {
            State::Open if self.paused != Pause::No => match self.io.look() {
                Peer::There => {}
                Peer::Left if self.has_input() => {}
                Peer::Left => {
                    let step = self.end_of_input();
                    self.take(step);
                }
                Peer::Lost => self.take(Step::Broken(CloseReason::ConnectionLost)),
            },
            State::Open => {
                if self.last_read.plus(heartbeat) <= now {
                    self.take(Step::Close(CloseReason::HeartbeatTimeout));
                } else if self.partial_since().is_some_and(|t| t.plus(partial) <= now) {
                    self.take(Step::Close(CloseReason::PartialFrameTimeout));
                }
            }
            State::Flushing(reason, deadline)
            | State::Saying(reason, deadline)
            | State::ShuttingDown(reason, deadline)
            | State::Lingering(reason, deadline) => {
                if deadline <= now {
                    self.state = State::Done(reason);
                }
            }
            State::Done(_) => {}
        }
        if self.state == State::Open && self.bind_deadline().is_some_and(|t| t <= now) {
            self.take(Step::Close(CloseReason::BindDeadline));
        }
    }

    /// Answers calls whose time has passed: what came of them is not known.
    fn expire_calls(&mut self, now: Tick) {
        let core = self.session.core();
        let expired = {
            let mut flow = core.flow.lock();
            match flow.first_deadline() <= now {
                true => flow.expire_calls(now),
                false => return,
            }
        };
        for call in expired {
            let outcome = Outcome::Error(ErrorCode::OUTCOME_UNKNOWN);
            let calls = &self.at.shard.counters.calls;
            calls.add(call.service, outcome, call.timing);
            self.session
                .packet_error(&call.topic, call.packet, &ErrorCode::OUTCOME_UNKNOWN.into());
        }
    }

    /// How long the client may be silent.
    fn allowed_silence(&self) -> Duration {
        let agreed = match self.speaks_extended() {
            true => self.extended_deadlines(),
            false => None,
        };
        agreed.map_or(self.at.endpoint.limits.heartbeat_timeout, |(silence, _)| {
            silence
        })
    }

    fn bind_deadline(&mut self) -> Option<Tick> {
        let deadline = self.at.endpoint.limits.bind_deadline?;
        if !self.session.is_guest() {
            self.guest_since = Tick::NEVER;
            return None;
        }
        if self.guest_since == Tick::NEVER {
            // It has logged out, and has its time to log in again.
            self.guest_since = self.now();
        }
        Some(self.guest_since.plus(deadline))
    }

    pub(super) fn partial_since(&self) -> Option<Tick> {
        self.kept.as_ref()?.partial_since
    }

    /// The first tick at which something may have to be done.
    fn next_deadline(&mut self) -> Tick {
        let bind_deadline = self.bind_deadline();
        let agreed = match self.speaks_extended() && self.state == State::Open {
            true => self.extended_deadlines(),
            false => None,
        };
        let core = self.session.core();
        let limits = &self.at.endpoint.limits;
        let mut next = core.flow.lock().first_deadline();
        let mut sooner = |at: Tick| next = next.min(at);
        if let Some((_, speak)) = agreed {
            sooner(speak);
        }
        if self.blocked_since != Tick::NEVER {
            sooner(self.blocked_since.plus(limits.write_timeout));
        }
        match self.state {
            State::Open if self.paused != Pause::No => {
                let look = match core.gate.budget.is_spent() {
                    true => TICK * 2,
                    false => LOOK_EVERY,
                };
                sooner(self.now().plus(look));
                if let Some(refill) = self.refill_at() {
                    sooner(refill);
                }
            }
            State::Open => {
                let half = limits.heartbeat_timeout / 2;
                sooner(match agreed {
                    Some((silence, _)) => self.last_read.plus(silence),
                    None if self.wire.is_ws() && !self.pinged => self.last_read.plus(half),
                    None => self.last_read.plus(limits.heartbeat_timeout),
                });
                if let Some(since) = self.partial_since() {
                    sooner(since.plus(limits.partial_frame_timeout));
                }
            }
            State::Flushing(_, at)
            | State::Saying(_, at)
            | State::ShuttingDown(_, at)
            | State::Lingering(_, at) => sooner(at),
            State::Done(_) => {}
        }
        if self.state == State::Open
            && let Some(at) = bind_deadline
        {
            sooner(at);
        }
        if let Some(full) = self.full_at() {
            // Not at each packet: a bucket is looked after now and then.
            sooner(full.max(self.now().plus(LOOK_EVERY)));
        }
        next
    }

    pub(super) fn arm(&mut self) {
        let now = self.now();
        // What came due since the timers were looked at is seen to at the next tick.
        let next = self.next_deadline().max(now.plus(TICK));
        // An entry that the shard has passed will not wake us any more.
        if next < self.armed || self.armed <= now {
            self.armed = next;
            self.at.shard.wake_at(next, self.slot);
        }
    }
}
