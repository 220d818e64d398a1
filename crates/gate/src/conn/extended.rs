//! What a connection does for a client that speaks the extended protocol: its control
//! packets, acknowledgements, heartbeats, and the last word.

use std::time::Duration;

use tidegate_protocol::extended::{ClientControl, Close, ControlError, GateControl};
use tidegate_protocol::{CloseReason, ErrorCode, Packet};

use super::{Connection, State, Step};
use crate::clock::Tick;
use crate::session::flow::Phase;
use crate::session::{Attachment, LocalSession};

/// Milliseconds that a client is asked to wait before it connects again, from and to: each
/// is told another time, so that they do not all come at once.
const RETRY_AFTER: (u64, u64) = (500, 2000);

impl Connection {
    /// Takes a control packet.
    pub(super) fn control(&mut self, packet: &Packet) -> Result<(), Step> {
        let control = match ClientControl::read(packet) {
            Ok(control) => control,
            Err(ControlError::Topic) => {
                // Of a later version, perhaps. It is not counted.
                let error = ErrorCode::RESERVED_TOPIC.into();
                self.session.packet_error(&packet.topic, 0, &error);
                return Ok(());
            }
            Err(error) => return Err(self.violation(&error.to_string())),
        };
        match control {
            ClientControl::Hello(_) => Err(self.violation("a second $hello")),
            ClientControl::Ping(n) => {
                self.at.shard.counters.pings.add(1);
                self.write_control(&GateControl::Pong(n));
                Ok(())
            }
            ClientControl::Pong(_) => Ok(()),
            ClientControl::Ack(count) => {
                let core = self.session.core();
                let mut flow = core.flow.lock();
                let taken = flow.acknowledged(self.epoch, count);
                flow.publish(&core.gate.budget);
                drop(flow);
                taken.map_err(|error| self.violation(&error.to_string()))
            }
            ClientControl::Bye => {
                // From now on there is nothing to come back to.
                self.session.close(CloseReason::ClientLeft);
                Err(Step::Close(CloseReason::ClientLeft))
            }
        }
    }

    /// The first packet came: the client has what it was told.
    pub(super) fn confirm(&mut self) {
        let core = self.session.core();
        let accused = core.flow.lock().confirm(self.epoch);
        if let Some(accused) = accused {
            core.gate.end_stolen(accused);
        }
    }

    pub(super) fn violation(&self, what: &str) -> Step {
        let what = what.to_owned();
        self.session
            .with_extra(|extra| extra.last_error = Some(what));
        Step::Close(CloseReason::ExtendedProtocol)
    }

    /// Lays a control packet ready for the next write, before what is queued.
    pub(super) fn write_control(&mut self, control: &GateControl) {
        let codec = self.at.endpoint.codec.clone();
        let mut out = std::mem::take(&mut self.kept().control);
        self.wire.encode(&*codec, &control.packet(), &mut out);
        self.kept().control = out;
    }

    /// Acknowledges, and is heard, as far as that is due.
    pub(super) fn keep_up(&mut self) {
        if self.state != State::Open {
            return;
        }
        let now = self.now();
        let (ack, ping) = {
            let mut flow = self.session.core().flow.lock();
            if !flow.is_attached(self.epoch) {
                return;
            }
            let ack = flow.ack_due(now);
            let interval = flow.extended().map(|extended| extended.gate_interval());
            (
                ack,
                interval.is_some_and(|i| self.last_written.plus(i) <= now),
            )
        };
        if let Some(count) = ack {
            self.write_control(&GateControl::Ack(count));
        }
        if ping && ack.is_none() && self.blocked_since == Tick::NEVER {
            // Counts as written from now on, else it would be written again and again.
            self.last_written = now;
            self.write_control(&GateControl::Ping(u64::from(now.0)));
        }
    }

    /// How long the client may be silent, and when the gate has something to say.
    pub(super) fn extended_deadlines(&self) -> Option<(Duration, Tick)> {
        let mut flow = self.session.core().flow.lock();
        let extended = flow.extended()?;
        let ping = self.last_written.plus(extended.gate_interval());
        Some((extended.silence(), ping.min(extended.ack_at())))
    }

    /// The gate's last word.
    pub(super) fn say_close(&mut self, reason: CloseReason) {
        if matches!(
            reason,
            CloseReason::ConnectionLost | CloseReason::ClientLeft
        ) {
            return;
        }
        let taken = {
            let mut flow = self.session.core().flow.lock();
            flow.is_attached(self.epoch)
                .then(|| flow.ack_now())
                .flatten()
        };
        // So that the client knows what was taken, should it not come back.
        if let Some(count) = taken {
            self.write_control(&GateControl::Ack(count));
        }
        self.write_control(&last_word(reason));
    }

    // --- the session stays

    /// Whether the session waits for its client when its connection ends so.
    pub(super) fn may_leave(&self, reason: CloseReason) -> bool {
        let mut flow = self.session.core().flow.lock();
        flow.is_resumable() && flow.phase == Phase::Open && reason.keeps_session()
    }

    /// Lets a hook that is at work on a packet finish without the connection: the packet
    /// was accepted.
    pub(super) fn leave_hook(&mut self) {
        let hook = self.kept.as_mut().and_then(|kept| kept.hook.take());
        if let Some(hook) = hook {
            let (session, at) = (self.session.clone(), self.at.clone());
            self.at.shard.spawn(async move {
                if let Some(passed) = hook.await {
                    passed.dispatch(&session, &at);
                }
            });
        }
    }
}

/// What a client is told for whom the gate closes.
pub(crate) fn last_word(reason: CloseReason) -> GateControl {
    let (from, to) = RETRY_AFTER;
    let close = Close::new(reason, Some(rand::random_range(from..=to)));
    GateControl::Close(close)
}

/// A packet that has passed the hooks, or was handled by them.
pub(super) struct Passed {
    pub(super) packet: Packet,
    /// The packet's count among the client's.
    pub(super) count: u64,
    /// Held until the packet is on its way: packets of a session that is resumed meanwhile
    /// come behind it.
    pub(super) turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Passed {
    pub(super) fn dispatch(self, session: &LocalSession, at: &Attachment) {
        crate::dispatch::dispatch(session, at, self.packet, self.count);
        drop(self.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_when_to_come_back() {
        let (from, to) = RETRY_AFTER;
        let phrase = format!("`retry_after_ms` is between {from} and {to}");
        assert!(include_str!("../../../../docs/protocol.md").contains(&phrase));
    }
}
