//! Closing: write what is queued, say why where a frame can carry it, close our side,
//! and wait for the peer's so that nothing written is taken back.

use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_protocol::CloseReason;
use tidegate_protocol::ws::encode_close;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, Pause, State, scratch};
use crate::clock::Tick;
use crate::session::flow::Phase;

/// How long the peer may take to close its side once ours is closed.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

impl Connection {
    /// Begins to close, within a deadline: a client that has gone silent, or reads
    /// nothing, gets no more time than any other.
    pub(super) fn begin_close(&mut self, reason: CloseReason) {
        self.paused = Pause::No;
        self.wire.forget();
        if let Some(kept) = &mut self.kept {
            kept.input = Vec::new();
            kept.partial_since = None;
        }
        let core = self.session.core();
        if reason == CloseReason::MemoryPressure {
            // What it holds is wanted now; what is queued is not written.
            let told = self.now().plus(LINGER);
            self.state = match self.is_mid_frame() {
                true => State::Done(reason),
                false => self.say(reason, told),
            };
            return;
        }
        let until_stopped = core.gate.time_until_stopped();
        let timeout = match self.calls_to_finish() {
            true => until_stopped,
            false => self.at.endpoint.limits.close_timeout.min(until_stopped),
        };
        self.state = State::Flushing(reason, self.now().plus(timeout));
    }

    /// Goes on with closing, as far as the socket lets.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) {
        if let State::Flushing(reason, deadline) = self.state {
            self.poll_hook(cx);
            if self.calls_to_finish() || self.has_unwritten() {
                return;
            }
            // Only whole frames are before it, and nothing comes after it.
            self.state = self.say(reason, deadline);
            let step = self.poll_write(cx);
            self.take(step);
        }
        if let State::Saying(reason, deadline) = self.state {
            if self.is_mid_frame() || self.kept.as_ref().is_some_and(|k| !k.control.is_empty()) {
                return;
            }
            self.state = State::ShuttingDown(reason, deadline);
        }
        if let State::ShuttingDown(reason, deadline) = self.state {
            match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    let deadline = deadline.min(self.now().plus(LINGER));
                    self.state = State::Lingering(reason, deadline);
                }
                Poll::Ready(Err(_)) => self.state = State::Done(reason),
            }
        }
        if let State::Lingering(reason, _) = self.state {
            self.discard_input(cx, reason);
        }
    }

    /// Begins to close the connection, not the session: its client may come back for it.
    /// What is queued waits with it.
    pub(super) fn begin_leave(&mut self, reason: CloseReason) {
        self.paused = Pause::No;
        self.wire.forget();
        let deadline = self.now().plus(LINGER);
        self.state = match self.is_mid_frame() {
            true => State::Done(reason),
            false => self.say(reason, deadline),
        };
    }

    /// Lays the last word ready: a packet of the extended protocol, and a close frame
    /// where the transport has one.
    fn say(&mut self, reason: CloseReason, deadline: Tick) -> State {
        if self.speaks_extended() {
            self.say_close(reason);
        }
        if self.wire.is_ws() && reason != CloseReason::ConnectionLost {
            let code = self.kept().reply_code.unwrap_or(reason.code());
            let text = match code == reason.code() {
                true => reason.text(),
                false => "",
            };
            encode_close(&mut self.kept().control, code, text);
        }
        State::Saying(reason, deadline)
    }

    /// Whether the socket has not taken all of what was begun.
    fn is_mid_frame(&self) -> bool {
        let kept = self.kept.as_deref();
        self.blocked_since != Tick::NEVER || kept.is_some_and(|k| !k.output.is_empty())
    }

    /// Whether calls under way are to be finished before the close; a packet that a hook
    /// has at hand is one.
    fn calls_to_finish(&self) -> bool {
        let hook = self.kept.as_deref().is_some_and(|k| k.hook.is_some());
        let flow = self.session.core().flow.lock();
        matches!(flow.phase, Phase::Closing(c) if c.finish_calls) && (hook || flow.calls() > 0)
    }

    fn has_unwritten(&self) -> bool {
        let kept = self.kept.as_deref();
        let output = kept.is_some_and(|k| !k.output.is_empty() || !k.control.is_empty());
        output || !self.session.core().flow.lock().is_drained()
    }

    fn discard_input(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        scratch::with_read(4096, |buffer| {
            // As much as a poll may read; the deadline bounds the rest.
            for _ in 0..16 {
                let mut target = ReadBuf::new(buffer);
                match Pin::new(&mut self.io).poll_read(cx, &mut target) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(())) if !target.filled().is_empty() => {}
                    Poll::Ready(_) => {
                        self.state = State::Done(reason);
                        return;
                    }
                }
            }
            cx.waker().wake_by_ref();
        });
    }
}
