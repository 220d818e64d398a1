//! The way in: bytes to packets to [`dispatch`], within limits that are kept by not
//! reading.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tidegate_protocol::extended::{HELLO, MAX_HELLO, hello_too_long};
use tidegate_protocol::ws::encode_pong;
use tidegate_protocol::{CloseReason, ErrorCode, Packet};
use tokio::io::{AsyncRead, ReadBuf};

use super::extended::Passed;
use super::rate::Bucket;
use super::scratch;
use super::wire::Item;
use super::{Connection, Pause, Speaks, State, Step};
use crate::clock::Tick;
use crate::dispatch::dispatch;
use crate::hooks::{Inbound, guarded};
use crate::session::LocalSession;

/// Bytes of pongs that may wait for a socket that takes nothing; then the client is
/// not answered until it reads.
const MAX_CONTROL: usize = 2048;

/// While the gate's byte budget is spent, a client for whom more bytes wait than this is
/// not read.
const FAIR_SHARE: u32 = 32 * 1024;

impl Connection {
    /// Reads once and serves what came. [`Step::More`] if there may be more to read.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Step {
        self.poll_hook(cx);
        if self.has_input() {
            let mut input = std::mem::take(&mut self.kept().input);
            let result = self.serve(cx, &mut input);
            let step = self.keep(input, result);
            if step != Step::More {
                return step;
            }
        }
        if self.is_paused() {
            return Step::Blocked;
        }
        let len = self.at.endpoint.limits.read_buffer;
        scratch::with_read(len, |buffer| {
            let mut target = ReadBuf::new(buffer);
            match Pin::new(&mut self.io).poll_read(cx, &mut target) {
                Poll::Pending => Step::Blocked,
                Poll::Ready(Err(error)) => {
                    let text = error.to_string();
                    self.session
                        .with_extra(|extra| extra.last_error = Some(text));
                    Step::Broken(CloseReason::ConnectionLost)
                }
                Poll::Ready(Ok(())) => {
                    let n = target.filled().len();
                    match n {
                        0 => self.end_of_input(),
                        n => self.take_bytes(cx, &mut buffer[..n]),
                    }
                }
            }
        })
    }

    /// The client has closed its side. Between two frames of a stream that is a
    /// goodbye; in the middle of one, or without a close frame, it is a loss.
    pub(super) fn end_of_input(&mut self) -> Step {
        let whole = self.partial_since().is_none() && !self.wire.is_ws();
        Step::Close(match whole {
            true => CloseReason::ClientLeft,
            false => CloseReason::ConnectionLost,
        })
    }

    fn take_bytes(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Step {
        self.last_read = self.now();
        self.pinged = false;
        self.at.shard.counters.bytes_in.add(bytes.len() as u64);
        self.charge(bytes.len());
        let kept = self.kept.as_deref_mut();
        if let Some(kept) = kept.filter(|kept| !kept.input.is_empty()) {
            // The rest of a frame that has begun.
            let mut input = std::mem::take(&mut kept.input);
            input.extend_from_slice(bytes);
            let result = self.serve(cx, &mut input);
            return self.keep(input, result);
        }
        match self.serve(cx, bytes) {
            Ok(used) => {
                if used < bytes.len() {
                    self.kept().input = bytes[used..].to_vec();
                }
                self.account();
                self.after_read()
            }
            Err(step) => step,
        }
    }

    /// Charges the client for bytes that came.
    pub(super) fn charge(&mut self, bytes: usize) {
        if self.at.endpoint.limits.byte_rate.is_some() {
            self.buckets()[1].take(bytes as u32);
        }
    }

    /// Puts back what was not served of an input that is kept.
    fn keep(&mut self, mut input: Vec<u8>, result: Result<usize, Step>) -> Step {
        match result {
            Ok(used) => {
                if used > 0 {
                    // The room of what was served is not kept for what was not.
                    input = input[used..].to_vec();
                }
                if !input.is_empty() {
                    self.kept().input = input;
                }
                self.account();
                self.after_read()
            }
            Err(step) => step,
        }
    }

    fn after_read(&self) -> Step {
        match self.paused {
            Pause::No => Step::More,
            Pause::Tasks | Pause::Other => Step::Blocked,
        }
    }

    /// Serves frames from `input` until it is used up or reading must pause. Answers
    /// how many bytes were used.
    fn serve(&mut self, cx: &mut Context<'_>, input: &mut [u8]) -> Result<usize, Step> {
        let mut used = 0;
        let endpoint = self.at.endpoint.clone();
        let mut served = 0;
        let result = loop {
            if used == input.len() {
                self.note_partial(self.wire.in_progress());
                break Ok(used);
            }
            if self.is_paused() {
                break Ok(used);
            }
            match self.wire.next(&endpoint, &mut input[used..]) {
                Ok((n, item)) => {
                    used += n;
                    match item {
                        Item::Packet(packet) => {
                            served += 1;
                            self.note_partial(false);
                            if let Err(step) = self.serve_packet(cx, packet) {
                                break Err(step);
                            }
                        }
                        Item::Ping(payload) => {
                            self.pong(&payload);
                            self.note_partial(self.wire.in_progress());
                        }
                        Item::Quiet => self.note_partial(self.wire.in_progress()),
                        Item::Close(code) => {
                            self.kept().reply_code = Some(code);
                            break Err(Step::Close(CloseReason::ClientLeft));
                        }
                        Item::Partial => {
                            self.note_partial(true);
                            if n == 0 {
                                break Ok(used);
                            }
                        }
                    }
                }
                Err(reason) => break Err(Step::Close(reason)),
            }
        };
        if served > 0 {
            self.count_in(served);
        }
        result
    }

    fn note_partial(&mut self, partial: bool) {
        match (partial, self.kept.as_deref_mut()) {
            (true, _) => {
                let now = self.now();
                self.kept().partial_since.get_or_insert(now);
            }
            (false, Some(kept)) => kept.partial_since = None,
            (false, None) => {}
        }
    }

    fn serve_packet(&mut self, cx: &mut Context<'_>, packet: Packet) -> Result<(), Step> {
        if self.at.endpoint.limits.packet_rate.is_some() {
            self.buckets()[0].take(1);
        }
        self.first_packet(&packet)?;
        if self.speaks_extended() && packet.topic.is_reserved() {
            return self.control(&packet);
        }
        let core = self.session.core();
        // Held until the packet is handed on: a connection that takes the session over
        // does not overtake it.
        let extended = self.speaks_extended().then(|| self.session.clone());
        let _turn = extended.as_ref().map(|session| session.core().turn.lock());
        let mut count = 0;
        if self.speaks_extended() {
            let taken = core.flow.lock().take_packet(self.epoch, self.now());
            // Another connection has the session: the client sends it again there.
            count = taken.ok_or(Step::Blocked)?;
        }
        let hooks = &core.gate.hooks;
        if hooks.receive.is_none() && hooks.route.is_none() {
            dispatch(&self.session, &self.at, packet, count);
            return Ok(());
        }
        let hook = inbound(self.session.clone(), packet, count).boxed();
        self.kept().hook = Some(hook);
        self.poll_hook(cx);
        Ok(())
    }

    /// What a connection's first packet tells.
    fn first_packet(&mut self, packet: &Packet) -> Result<(), Step> {
        match self.speaks {
            Speaks::V1 | Speaks::Extended => {}
            Speaks::Welcomed => {
                self.speaks = Speaks::Extended;
                self.confirm();
            }
            Speaks::Nothing => {
                self.speaks = Speaks::V1;
                if packet.topic.as_str() == HELLO {
                    if self.at.endpoint.codec.encoded_len(packet) > MAX_HELLO {
                        return Err(self.violation(&hello_too_long()));
                    }
                    // It was held up. Nothing answers it any more; the client comes again.
                    return Err(Step::Close(CloseReason::SetupTimeout));
                }
            }
        }
        Ok(())
    }

    /// Lets a hook that is at work on a packet go on.
    pub(super) fn poll_hook(&mut self, cx: &mut Context<'_>) {
        let Some(hook) = self.kept.as_mut().and_then(|kept| kept.hook.as_mut()) else {
            return;
        };
        if let Poll::Ready(passed) = hook.as_mut().poll(cx) {
            self.kept().hook = None;
            if let Some(passed) = passed {
                passed.dispatch(&self.session, &self.at);
            }
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        self.at.shard.counters.pings.add(1);
        if self.at.endpoint.limits.packet_rate.is_some() {
            self.buckets()[0].take(1);
        }
        encode_pong(&mut self.kept().control, payload);
    }

    // --- pausing

    /// Whether what reading waited for has come, by what was written since.
    pub(super) fn may_resume(&mut self) -> bool {
        self.state == State::Open && self.paused != Pause::No && !self.is_paused()
    }

    /// Whether reading must wait, for a reason found out now. Nothing is read, and the
    /// heartbeat clock stands still, until it need not any more.
    fn is_paused(&mut self) -> bool {
        let core = self.session.core();
        let limit = self.at.endpoint.limits.concurrent_tasks;
        let mut flow = core.flow.lock();
        flow.note_under_way();
        let full = flow.free_tasks(limit) == 0;
        // The gate closes those who hold most; meanwhile no more is taken from those for
        // whom something is kept. A frame that fits one read is served as ever.
        let (budget, queued) = (&core.gate.budget, flow.queued_bytes());
        let greedy = (queued > FAIR_SHARE && budget.is_spent())
            || ((queued > 0 || self.partial_since().is_some()) && budget.is_overrun());
        drop(flow);
        // First, so that the buckets are as of now.
        let has_tokens = self.has_tokens();
        let pause = if full {
            Pause::Tasks
        } else if greedy || !has_tokens || self.has_other_pause() {
            Pause::Other
        } else {
            Pause::No
        };
        if self.paused != Pause::No && pause == Pause::No {
            let now = self.now();
            self.last_read = now;
            if let Some(since) = self.kept.as_mut().and_then(|k| k.partial_since.as_mut()) {
                *since = now;
            }
        }
        self.paused = pause;
        pause != Pause::No
    }

    fn has_other_pause(&self) -> bool {
        self.kept
            .as_deref()
            .is_some_and(|kept| kept.hook.is_some() || kept.control.len() > MAX_CONTROL)
    }

    fn has_tokens(&mut self) -> bool {
        let now = self.now();
        let kept = self.kept.as_deref_mut();
        let buckets = kept.and_then(|kept| kept.buckets.as_deref_mut());
        buckets.is_none_or(|buckets| buckets.iter_mut().all(|b| b.has_some(now)))
    }

    /// When a rate limit lets reading go on.
    pub(super) fn refill_at(&self) -> Option<Tick> {
        let buckets = self.kept.as_ref()?.buckets.as_deref()?;
        let waits = buckets.iter().filter(|b| b.is_spent()).map(Bucket::next);
        waits.max()
    }

    /// When the rate limits may be forgotten.
    pub(super) fn full_at(&self) -> Option<Tick> {
        let buckets = self.kept.as_ref()?.buckets.as_deref()?;
        buckets.iter().map(Bucket::full_at).max()
    }

    /// Forgets the rate limits of a client that has been quiet for long enough.
    pub(super) fn refill(&mut self, now: Tick) {
        let Some(kept) = &mut self.kept else { return };
        let buckets = kept.buckets.as_deref_mut();
        if buckets.is_some_and(|buckets| buckets.iter_mut().all(|b| b.is_full(now))) {
            kept.buckets = None;
        }
    }

    fn buckets(&mut self) -> &mut [Bucket; 2] {
        let now = self.now();
        let limits = &self.at.endpoint.limits;
        let (packets, bytes) = (limits.packet_rate, limits.byte_rate);
        self.kept()
            .buckets
            .get_or_insert_with(|| Box::new([Bucket::new(packets, now), Bucket::new(bytes, now)]))
    }

    pub(super) fn has_input(&self) -> bool {
        self.kept
            .as_ref()
            .is_some_and(|kept| !kept.input.is_empty())
    }
}

/// Runs the receive and route hooks on a packet; answers what is left for the router.
async fn inbound(session: LocalSession, packet: Packet, count: u64) -> Option<Passed> {
    let turn = session.core().flow.lock().hook_turn();
    let turn = match turn {
        Some(turn) => Some(turn.lock_owned().await),
        None => None,
    };
    let gate = &session.core().gate;
    let mut packet = packet;
    let hooks = [
        ("receive", &gate.hooks.receive),
        ("route", &gate.hooks.route),
    ];
    for (what, hook) in hooks {
        let Some(hook) = hook else { continue };
        // The route hook sees topics of the router's grammar only.
        if what == "route" && packet.topic.route().is_err() {
            continue;
        }
        let topic = packet.topic.clone();
        match guarded(what, gate, || hook(session.clone(), packet)).await {
            Some(Ok(Inbound::Pass(passed))) => packet = passed,
            Some(Ok(Inbound::Answer(answer))) => {
                session.send_answer(answer, count);
                return None;
            }
            Some(Ok(Inbound::Handled)) => return None,
            Some(Err(error)) => {
                session.packet_error(&topic, count, &error);
                return None;
            }
            None => {
                session.packet_error(&topic, count, &ErrorCode::INTERNAL.into());
                return None;
            }
        }
    }
    Some(Passed {
        packet,
        count,
        turn,
    })
}
