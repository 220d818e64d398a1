//! The way of a packet into a session's queue: hook, size, room, queue.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate_protocol::extended::{ErrorPacket, GateControl};
use tidegate_protocol::{CloseReason, ErrorCode, Packet, TooLarge, Topic};

use super::LocalSession;
use super::entry::{Delivery, Entry};
use super::flow::Phase;
use crate::bus::{CallError, CallResult, GateError};
use crate::hooks::guarded_now;
use crate::metrics::calls::Outcome;
use crate::session::Attachment;
use crate::shared_packet::SharedPacket;
use crate::stats::Refusal;

impl LocalSession {
    /// Queues a packet for the client; answers at once, and truthfully.
    ///
    /// Errors: [`GateError::SessionGone`], [`QueueFull`](GateError::QueueFull),
    /// [`Refused`](GateError::Refused) by the outbound hook or because the topic is
    /// reserved, [`TooLarge`](GateError::TooLarge). After an error nothing is queued.
    pub fn send(&self, packet: Packet) -> Result<(), GateError> {
        self.send_as(packet, Delivery::Critical)
    }

    /// Like [`send`](Self::send), for a packet that may give way to others. While the
    /// session is dormant only critical packets are queued;
    /// [`Dormant`](GateError::Dormant) is the answer for others.
    pub fn send_as(&self, packet: Packet, delivery: Delivery) -> Result<(), GateError> {
        let packet = self.checked(packet)?;
        self.enqueue(Entry::Push(packet, delivery))
    }

    /// Like [`send`](Self::send), but waits for room in the queue, at most `deadline`.
    pub async fn send_wait(&self, packet: Packet, deadline: Duration) -> Result<(), GateError> {
        let packet = self.checked(packet)?;
        let queued = async {
            loop {
                let room = self.core().flow.lock().room();
                let changed = room.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match self.enqueue(Entry::Push(packet.clone(), Delivery::Critical)) {
                    Err(GateError::QueueFull) => changed.await,
                    done => return done,
                }
            }
        };
        match tokio::time::timeout(deadline, queued).await {
            Ok(done) => done,
            Err(_) => Err(GateError::QueueFull),
        }
    }

    /// Queues a packet that went through no hook of this session and is shared.
    pub(crate) fn send_shared(
        &self,
        shared: &Arc<SharedPacket>,
        delivery: &Delivery,
    ) -> Result<(), GateError> {
        self.fits(&self.core().at(), shared.packet())?;
        self.enqueue(Entry::Shared(shared.clone(), delivery.clone()))
    }

    /// Asks the outbound hook. Reserved topics are the protocol's own: neither a service
    /// nor a hook sends under them.
    fn outbound(&self, packet: Packet) -> Result<Packet, GateError> {
        let core = self.core();
        if packet.topic.is_reserved() {
            return Err(GateError::Refused);
        }
        let Some(hook) = &core.gate.hooks.outbound else {
            return Ok(packet);
        };
        let verdict = guarded_now("outbound", &core.gate, || hook(self, packet));
        let allowed = verdict.and_then(Result::ok);
        allowed.filter(|p| !p.topic.is_reserved()).ok_or_else(|| {
            core.counters().refused.add(Refusal::Hook);
            GateError::Refused
        })
    }

    fn fits(&self, at: &Attachment, packet: &Packet) -> Result<(), TooLarge> {
        let max = at.endpoint.limits.max_packet_size;
        let len = at.endpoint.codec.encoded_len(packet);
        if len > max {
            at.shard.counters.refused.add(Refusal::TooLarge);
            return Err(TooLarge { len, max });
        }
        Ok(())
    }

    fn enqueue(&self, entry: Entry) -> Result<(), GateError> {
        let core = self.core();
        let at = core.at();
        let limits = &at.endpoint.limits;
        let mut flow = core.flow.lock();
        if flow.phase != Phase::Open {
            return Err(GateError::SessionGone);
        }
        let (packets, bytes) = match flow.is_dormant() {
            false => (limits.send_queue_packets, limits.send_queue_bytes),
            true if *entry.delivery() != Delivery::Critical => return Err(GateError::Dormant),
            true if flow.would_overflow(entry.size()) => {
                drop(flow);
                self.close(CloseReason::ResumeOverflow);
                return Err(GateError::SessionGone);
            }
            // The bounds are those of what is kept for resume.
            true => (u32::MAX, u32::MAX),
        };
        let room = !core.gate.budget.is_spent();
        let queued = match room {
            true => flow.push(entry, packets, bytes).ok(),
            false => None,
        };
        let Some(gave_way) = queued else {
            drop(flow);
            core.counters().refused.add(match room {
                true => Refusal::QueueFull,
                false => Refusal::Memory,
            });
            return Err(GateError::QueueFull);
        };
        flow.publish(&core.gate.budget);
        drop(flow);
        if gave_way > 0 {
            core.counters().dropped.add(gave_way);
        }
        Ok(())
    }

    /// Takes what came of call `number`: queues the answer or reports the error.
    pub(crate) fn finish_call(&self, number: u32, result: CallResult) {
        let core = self.core();
        let at = core.at();
        let waits = core.flow.lock().call(number).map(|call| {
            let topic = call.topic.clone();
            (topic, call.wants_answer, call.packet)
        });
        let Some((topic, wants_answer, of)) = waits else {
            return at.shard.counters.late_answers.add(1);
        };
        let delivered = !matches!(&result, Err(e) if !was_delivered(e.code));
        let exists = match &result {
            Ok(_) => true,
            Err(error) => error.code.is_service(),
        };
        let result = match result {
            Ok(answer) if wants_answer => self
                .checked_at(&at, Packet::new(topic.clone(), answer.body))
                .map(Some)
                .map_err(refused_answer),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        let (packet, error) = match result {
            Ok(packet) => (packet, None),
            Err(error) => (self.error_packet(&topic, of, &error), Some(error)),
        };
        // Hooks have run by now: whoever waits until no call is left, to close, finds
        // the call or its answer.
        let mut flow = core.flow.lock();
        let Some((service, timing)) = flow.finish_call(number) else {
            drop(flow);
            return at.shard.counters.late_answers.add(1);
        };
        if delivered {
            flow.note_used(&topic);
        }
        if let Some(packet) = packet {
            flow.answer(packet);
            flow.publish(&core.gate.budget);
        }
        drop(flow);
        let service = match exists && !service.is_known() {
            true => core.gate.services.learn(&topic),
            false => service,
        };
        match error {
            None => at.shard.counters.calls.add(service, Outcome::Ok, timing),
            Some(error) => {
                let outcome = Outcome::Error(error.code);
                at.shard.counters.calls.add(service, outcome, timing);
                self.report(&topic, &error);
            }
        }
    }

    /// Queues an answer that a hook gave to the client's packet of this count; it waits in
    /// no line, whatever else is queued.
    pub(crate) fn send_answer(&self, packet: Packet, of: u64) {
        let topic = packet.topic.clone();
        match self.checked(packet) {
            Ok(packet) => self.queue_answer(packet),
            Err(error) => self.packet_error(&topic, of, &refused_answer(error)),
        }
    }

    /// Drops what may be dropped, for want of memory.
    pub(crate) fn shed_droppable(&self) {
        let core = self.core();
        let mut flow = core.flow.lock();
        let gone = flow.shed_droppable();
        flow.publish(&core.gate.budget);
        drop(flow);
        if gone > 0 {
            core.counters().dropped.add(gone);
        }
    }

    fn queue_answer(&self, packet: Packet) {
        let core = self.core();
        let mut flow = core.flow.lock();
        if flow.phase == Phase::Ended {
            drop(flow);
            core.counters().undelivered.add(1);
            return;
        }
        flow.answer(packet);
        flow.publish(&core.gate.budget);
    }

    /// Asks the outbound hook, and looks whether what it leaves can be sent.
    fn checked(&self, packet: Packet) -> Result<Packet, GateError> {
        self.checked_at(&self.core().at(), packet)
    }

    fn checked_at(&self, at: &Attachment, packet: Packet) -> Result<Packet, GateError> {
        let packet = self.outbound(packet)?;
        self.fits(at, &packet)?;
        Ok(packet)
    }

    /// Tells whoever can be told that the client's packet of this count was not served:
    /// counter, log, hook, and the client, by an error packet or, on version 1, under the
    /// listener's error topic where it has one.
    pub(crate) fn packet_error(&self, topic: &Topic, of: u64, error: &CallError) {
        self.report(topic, error);
        match self.error_packet(topic, of, error) {
            // Kept as answers are: the client counts on it.
            Some(packet) if packet.topic.is_reserved() => self.queue_answer(packet),
            // Refused by a full queue it is counted there; the client does not read.
            Some(packet) => _ = self.enqueue(Entry::Push(packet, Delivery::Critical)),
            None => {}
        }
    }

    fn report(&self, topic: &Topic, error: &CallError) {
        let core = self.core();
        core.counters().errors.add(error.code);
        if let Some(unlogged) = core.gate.error_log.admit() {
            tracing::info!(
                session = %core.id,
                ip = %self.ip(),
                topic = ?cut(topic.as_str()),
                code = error.code.0,
                error = ?cut(&error.message),
                unlogged,
                "a client's packet was not served"
            );
        }
        if let Some(hook) = &core.gate.hooks.packet_error {
            guarded_now("packet_error", &core.gate, || hook(self, topic, error));
        }
    }

    /// What the client is told: a packet of the extended protocol, or one of the
    /// listener's error topic.
    fn error_packet(&self, topic: &Topic, of: u64, error: &CallError) -> Option<Packet> {
        if self.core().flow.lock().is_extended() {
            let error = ErrorPacket {
                topic: topic.as_str().to_owned(),
                packet: of,
                code: error.code.0,
                message: error.message.clone().into_owned(),
            };
            return Some(self.fitting(error));
        }
        let error_topic = self.core().at().endpoint.v1_error_topic.clone()?;
        let body = json!({
            "topic": topic.as_str(),
            "code": error.code.0,
            "message": error.message,
        });
        // Refused or too large it is counted as that.
        self.checked(Packet::new(error_topic, body.to_string()))
            .ok()
    }
}

impl LocalSession {
    /// The packet of an error, its text left out where it does not fit the frame.
    fn fitting(&self, mut error: ErrorPacket) -> Packet {
        let packet = GateControl::Error(error.clone()).packet();
        let at = self.core().at();
        if at.endpoint.codec.encoded_len(&packet) <= at.endpoint.limits.max_packet_size {
            return packet;
        }
        error.message = String::new();
        error.topic = cut(&error.topic).to_owned();
        GateControl::Error(error).packet()
    }
}

/// What the client is told of an answer that was not sent to it.
fn refused_answer(error: GateError) -> CallError {
    match error {
        GateError::TooLarge(_) => ErrorCode::ANSWER_TOO_LARGE.into(),
        _ => ErrorCode::REFUSED.into(),
    }
}

/// As much of a client's text as a line of the log needs.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}

/// Whether an error can mean that a service has seen the packet.
fn was_delivered(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::NOT_FOUND
            | ErrorCode::ID_REQUIRED
            | ErrorCode::UNAVAILABLE
            | ErrorCode::INSTANCE_GONE
            | ErrorCode::OVERLOADED
    )
}
