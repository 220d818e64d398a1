//! Connections: one task each, polled on its shard.
//!
//! - This file: what a connection holds, and the order of one poll: read, write, timers.
//! - [`read`]: bytes in, packets to [`dispatch`](crate::dispatch).
//! - [`write`]: the session's queue, encoded, out.
//! - [`close`]: flush, say why, close, linger.
//! - [`extended`]: what clients of the extended protocol get beside.
//! - [`timers`]: everything that has a deadline.
//! - [`wire`]: frames of a stream or of a WebSocket.
//!
//! An idle connection holds the socket, a reference to its session and a few numbers.
//! Bytes are read into a buffer shared by the thread; only what must be kept until the
//! next poll (a partial frame, bytes that the socket did not take) lives in [`Kept`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tidegate_protocol::CloseReason;

use crate::admission::Place;
use crate::clock::Tick;
use crate::listener::Protocol;
use crate::session::flow::{Closing, Phase};
use crate::session::{Attachment, LocalSession};
use crate::transport::Transport;

mod close;
pub(crate) mod extended;
mod rate;
mod read;
pub(crate) mod scratch;
#[cfg(test)]
mod tests;
mod timers;
pub(crate) mod wire;
mod write;

use extended::Passed;
use rate::Bucket;
use wire::Wire;
use write::End;

/// Rounds of reading and writing before other connections get their turn.
const ROUNDS: usize = 8;

/// Which protocol a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// Version 1, as is supposed of a client that has not been heard.
    Nothing,
    V1,
    /// The extended protocol, by a client that has not been heard since its `$welcome`.
    Welcomed,
    Extended,
}

/// See the module.
pub(crate) struct Connection {
    io: Transport,
    wire: Wire,
    session: LocalSession,
    at: Arc<Attachment>,
    /// Ours among the session's connections: the latest drains its queue.
    epoch: u32,
    kept: Option<Box<Kept>>,
    state: State,
    /// When the last byte came in, and went out.
    last_read: Tick,
    last_written: Tick,
    /// Since when the socket takes nothing.
    blocked_since: Tick,
    /// When the shard will wake us.
    armed: Tick,
    /// Our place in the shard's index.
    slot: u32,
    /// Why reading is suspended, if it is. The heartbeat clock stands still meanwhile.
    paused: Pause,
    /// Pinged since the last byte came in.
    pinged: bool,
    speaks: Speaks,
    /// The session's end has been handed over.
    finished: bool,
    /// Since when the session is a guest, where the listener has a bind deadline.
    guest_since: Tick,
    _place: Place,
}

/// What a connection keeps from one poll to the next, while there is something to keep.
#[derive(Default)]
struct Kept {
    /// Received, not yet decoded: a partial frame, or frames read before a pause.
    input: Vec<u8>,
    /// Since when `input` or the WebSocket decoder holds a part of a frame.
    partial_since: Option<Tick>,
    /// Encoded, not yet written.
    output: Vec<u8>,
    /// Where packets end in `output`.
    ends: Vec<End>,
    /// Control frames that wait for the next write.
    control: Vec<u8>,
    /// A receive or route hook at work on a packet.
    hook: Option<BoxFuture<'static, Option<Passed>>>,
    /// The code of the client's close frame: goes back to it.
    reply_code: Option<u16>,
    /// Rate limits, where the listener has some.
    buckets: Option<Box<[Bucket; 2]>>,
    /// Bytes last told to the gate's budget.
    published: u32,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.input.is_empty()
            && self.output.is_empty()
            && self.control.is_empty()
            && self.partial_since.is_none()
            && self.hook.is_none()
            && self.reply_code.is_none()
            && self.buckets.is_none()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Writes what is queued, then says why.
    Flushing(CloseReason, Tick),
    /// The close frame is on its way.
    Saying(CloseReason, Tick),
    /// Our side is being closed.
    ShuttingDown(CloseReason, Tick),
    /// Waits for the peer's side, so that what was written is not taken back.
    Lingering(CloseReason, Tick),
    Done(CloseReason),
}

/// Why nothing is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    No,
    /// Calls in flight and answers queued have reached the limit.
    Tasks,
    /// A hook is at work, a rate limit has no token, pongs wait to be written, or the gate
    /// is short of memory.
    Other,
}

/// What one step of a poll came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing more can be done until something wakes us.
    Blocked,
    /// There may be more.
    More,
    /// The connection is to be closed.
    Close(CloseReason),
    /// The connection is broken.
    Broken(CloseReason),
}

impl Connection {
    /// A connection that is ready, and that has the session at this epoch; `early` came
    /// in behind the set-up.
    pub(crate) fn attached(
        io: Transport,
        session: LocalSession,
        at: Arc<Attachment>,
        epoch: u32,
        early: Vec<u8>,
        place: Place,
    ) -> Self {
        let now = at.shard.clock.now();
        let extended = session.core().flow.lock().is_extended();
        let speaks = match at.endpoint.protocol {
            _ if extended => Speaks::Welcomed,
            Protocol::Any => Speaks::Nothing,
            Protocol::V1 | Protocol::Extended => Speaks::V1,
        };
        let mut connection = Self {
            io,
            wire: Wire::new(&at.endpoint),
            slot: at.shard.attach(session.clone()),
            last_read: now,
            last_written: now,
            guest_since: session.core().began,
            session,
            at,
            epoch,
            kept: None,
            state: State::Open,
            blocked_since: Tick::NEVER,
            armed: Tick::NEVER,
            paused: Pause::No,
            pinged: false,
            speaks,
            finished: false,
            _place: place,
        };
        if !early.is_empty() {
            let counters = &connection.at.shard.counters;
            counters.bytes_in.add(early.len() as u64);
            connection.charge(early.len());
            connection.kept().input = early;
            connection.account();
        }
        connection
    }

    fn speaks_extended(&self) -> bool {
        matches!(self.speaks, Speaks::Welcomed | Speaks::Extended)
    }

    fn count_in(&self, packets: u64) {
        if !self.speaks_extended() {
            self.session.core().flow.lock().count_received(packets);
        }
        self.at.shard.counters.packets_in.add(packets);
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    fn now(&self) -> Tick {
        self.at.shard.clock.now()
    }

    /// One poll: takes a close request, reads and writes in turns, looks at the timers.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let Some(phase) = self.session.core().flow.lock().begin(self.epoch) else {
                self.superseded();
                return Poll::Ready(());
            };
            self.take_close_request(phase);
            let read = match self.state {
                State::Open => self.poll_read(cx),
                _ => Step::Blocked,
            };
            self.take(read);
            let write = match self.state {
                State::Open | State::Flushing(..) | State::Saying(..) => self.poll_write(cx),
                _ => Step::Blocked,
            };
            self.take(write);
            self.poll_close(cx);
            self.check_timers();
            if let State::Done(reason) = self.state {
                self.finish(reason);
                return Poll::Ready(());
            }
            if read == Step::More || self.may_resume() {
                continue;
            }
            self.account();
            self.arm();
            if self.fall_asleep(cx, phase) {
                return Poll::Pending;
            }
        }
        // Others get their turn; deadlines hold for a client that never pauses too.
        self.arm();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_close_request(&mut self, phase: Phase) {
        if let (State::Open, Phase::Closing(closing)) = (self.state, phase) {
            self.begin_close(closing.reason);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            // The session is another connection's: this one can end nothing but itself.
            Step::Close(reason) if !self.has_session() => self.state = State::Done(reason),
            Step::Blocked | Step::More => {}
            Step::Close(reason) if self.state == State::Open && self.may_leave(reason) => {
                self.begin_leave(reason);
            }
            Step::Close(reason) => {
                if self.state == State::Open {
                    let closing = Closing {
                        reason,
                        finish_calls: false,
                    };
                    self.session.core().flow.lock().close(closing);
                    self.begin_close(reason);
                }
            }
            Step::Broken(reason) => self.state = State::Done(self.reason_or(reason)),
        }
    }

    /// The reason a close began with, if one did.
    fn reason_or(&self, reason: CloseReason) -> CloseReason {
        match self.state {
            State::Open => reason,
            State::Flushing(first, _)
            | State::Saying(first, _)
            | State::ShuttingDown(first, _)
            | State::Lingering(first, _)
            | State::Done(first) => first,
        }
    }

    /// Goes to sleep unless something happened meanwhile that needs another look.
    fn fall_asleep(&mut self, cx: &Context<'_>, seen: Phase) -> bool {
        let core = self.session.core();
        let waits_for_task = self.paused == Pause::Tasks;
        let open = matches!(self.state, State::Open | State::Flushing(..));
        let blocked = !open || self.blocked_since != Tick::NEVER;
        let limit = self.at.endpoint.limits.concurrent_tasks;
        let mut flow = core.flow.lock();
        if !flow.is_attached(self.epoch) {
            return false;
        }
        if self.armed <= self.at.shard.clock.now() {
            // The shard may have come to wake us while we were awake.
            return false;
        }
        let seen = if open { seen } else { flow.phase };
        flow.sleep(cx.waker(), blocked, waits_for_task, limit, seen)
    }

    // --- the end

    /// Tells the gate's budget what is kept, and drops the box if nothing is.
    fn account(&mut self) {
        let budget = &self.session.core().gate.budget;
        let decoding = self.wire.buffered();
        if let Some(kept) = &mut self.kept {
            let held = kept.input.len() + kept.output.len() + kept.control.len() + decoding;
            let before = kept.published;
            budget.publish(&mut kept.published, held as u32);
            if kept.published != before {
                let mut flow = self.session.core().flow.lock();
                if flow.is_attached(self.epoch) {
                    flow.held = kept.published;
                }
            }
            if kept.is_empty() && kept.published == 0 {
                self.kept = None;
            }
        }
    }

    /// Whether no other connection has taken the session over.
    fn has_session(&self) -> bool {
        self.session.core().flow.lock().is_attached(self.epoch)
    }

    /// Another connection has taken the session over: this one goes, the session stays.
    fn superseded(&mut self) {
        self.finished = true;
        self.leave_hook();
        self.at.shard.detach(self.slot);
    }

    fn finish(&mut self, reason: CloseReason) {
        self.finished = true;
        self.at.shard.detach(self.slot);
        if reason.keeps_session() && self.session.wait_for_client(self.epoch) {
            self.leave_hook();
            return;
        }
        let core = self.session.core();
        {
            let mut flow = core.flow.lock();
            if !flow.is_attached(self.epoch) {
                // It was taken over since this poll began.
                drop(flow);
                return self.leave_hook();
            }
            // Nobody drains the queue from now on: it takes nothing more.
            flow.close(Closing {
                reason,
                finish_calls: false,
            });
        }
        let mut unwritten = (0, 0);
        let mut hook = None;
        if let Some(kept) = &mut self.kept {
            core.gate.budget.publish(&mut kept.published, 0);
            unwritten.0 = kept.ends.len() as u64;
            unwritten.1 = kept.ends.iter().map(|end| u64::from(end.size)).sum();
            hook = kept.hook.take();
        }
        let (session, at) = (self.session.clone(), self.at.clone());
        self.at.shard.spawn(async move {
            // A packet that a hook has at hand was accepted: it is served before the
            // services hear of the end.
            if let Some(hook) = hook
                && let Some(passed) = hook.await
            {
                passed.dispatch(&session, &at);
            }
            session.end(reason, unwritten).await;
        });
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.step(cx)
    }
}

impl Drop for Connection {
    /// A codec that panics ends the session; a gate that is dropped sees to it itself.
    fn drop(&mut self) {
        if !self.finished && std::thread::panicking() {
            self.finish(self.reason_or(CloseReason::Internal));
        } else if let Some(kept) = &mut self.kept {
            let budget = &self.session.core().gate.budget;
            budget.publish(&mut kept.published, 0);
        }
    }
}
