//! The way out: the session's queue, coded when it is drained, many packets in one
//! write.

use std::pin::Pin;
use std::task::{Context, Poll};

use tidegate_protocol::CloseReason;
use tidegate_protocol::ws::encode_ping;
use tokio::io::AsyncWrite;

use super::{Connection, Pause, State, Step, scratch};
use crate::clock::Tick;
use crate::session::flow::Entry;

/// A write takes packets from the queue until it has this many bytes.
const CHUNK: usize = 16 * 1024;

impl Connection {
    /// Writes until the queue is empty or the socket takes no more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Step {
        self.heartbeat_ping();
        loop {
            match self.write_kept(cx) {
                Step::More => {}
                stop => return stop,
            }
            let step = scratch::with_write(|chunk| {
                let mut ends = Vec::new();
                self.drain(chunk, &mut ends);
                if chunk.is_empty() {
                    return None;
                }
                Some(self.write_chunk(cx, chunk, ends))
            });
            match step {
                Some(Step::More) => {}
                Some(stop) => return stop,
                None => return self.flush(cx),
            }
        }
    }

    /// Takes control frames, then packets from the queue, until a chunk is full.
    fn drain(&mut self, chunk: &mut Vec<u8>, ends: &mut Vec<(u32, u32)>) {
        if let Some(kept) = &mut self.kept {
            chunk.append(&mut kept.control);
        }
        let core = self.session.core();
        let codec = &core.endpoint.codec;
        let mut flow = core.flow.lock();
        let mut took = false;
        while chunk.len() < CHUNK {
            let Some(entry) = flow.pop() else { break };
            took = true;
            match &entry {
                Entry::Answer(packet) | Entry::Push(packet) => {
                    self.wire.encode(&**codec, packet, chunk);
                }
                Entry::Shared(shared) => self.wire.append(&shared.frame(codec), chunk),
            }
            ends.push((chunk.len() as u32, entry.packet().size() as u32));
        }
        if took {
            flow.popped();
            let bytes = flow.queued_bytes();
            core.gate.budget.publish(&mut flow.published, bytes);
        }
    }

    /// Writes a chunk; what the socket does not take is kept.
    fn write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &[u8],
        mut ends: Vec<(u32, u32)>,
    ) -> Step {
        let mut written = 0;
        while written < chunk.len() {
            match self.write(cx, &chunk[written..]) {
                Ok(Some(n)) => written += n,
                Ok(None) => {
                    let done = ends.partition_point(|(end, _)| *end as usize <= written);
                    self.count_out(done as u64, written);
                    ends.drain(..done);
                    for (end, _) in &mut ends {
                        *end -= written as u32;
                    }
                    let kept = self.kept();
                    kept.output = chunk[written..].to_vec();
                    kept.ends = ends;
                    self.account();
                    return Step::Blocked;
                }
                Err(step) => return self.broken(step, chunk, written, ends),
            }
        }
        self.count_out(ends.len() as u64, written);
        Step::More
    }

    /// Keeps the account of what was not written when a connection breaks.
    fn broken(&mut self, step: Step, chunk: &[u8], written: usize, ends: Vec<(u32, u32)>) -> Step {
        let done = ends.partition_point(|(end, _)| *end as usize <= written);
        self.count_out(done as u64, written);
        let kept = self.kept();
        kept.output = chunk[written..].to_vec();
        kept.ends = ends[done..].to_vec();
        step
    }

    /// Writes what an earlier write left over.
    fn write_kept(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(kept) = self.kept.as_mut().filter(|kept| !kept.output.is_empty()) else {
            return Step::More;
        };
        let output = std::mem::take(&mut kept.output);
        let ends = std::mem::take(&mut kept.ends);
        let step = self.write_chunk(cx, &output, ends);
        if step == Step::More {
            self.account();
        }
        step
    }

    /// One write. `None`: the socket takes nothing now.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<Option<usize>, Step> {
        match Pin::new(&mut self.io).poll_write(cx, bytes) {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.blocked_since = Tick::NEVER;
                Ok(Some(n))
            }
            Poll::Ready(result) => {
                let text = match result {
                    Ok(_) => "the socket takes no more bytes".to_owned(),
                    Err(error) => error.to_string(),
                };
                self.session
                    .with_extra(|extra| extra.last_error = Some(text));
                Err(Step::Broken(CloseReason::ConnectionLost))
            }
            Poll::Pending => {
                self.note_blocked();
                Ok(None)
            }
        }
    }

    fn note_blocked(&mut self) {
        if self.blocked_since == Tick::NEVER {
            self.blocked_since = self.now();
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Step {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.blocked_since = Tick::NEVER;
                Step::More
            }
            Poll::Ready(Err(_)) => Step::Broken(CloseReason::ConnectionLost),
            Poll::Pending => {
                self.note_blocked();
                Step::Blocked
            }
        }
    }

    fn count_out(&self, packets: u64, bytes: usize) {
        let core = self.session.core();
        core.sent
            .fetch_add(packets, std::sync::atomic::Ordering::Relaxed);
        core.counters().packets_out.add(packets);
        core.counters().bytes_out.add(bytes as u64);
    }

    /// On WebSocket the gate asks a silent client for a sign of life at half the
    /// heartbeat timeout.
    fn heartbeat_ping(&mut self) {
        if self.state != State::Open
            || self.paused != Pause::No
            || !self.wire.is_ws()
            || self.pinged
        {
            return;
        }
        let half = self.session.core().endpoint.limits.heartbeat_timeout / 2;
        if self.last_read.plus(half) <= self.now() {
            self.pinged = true;
            encode_ping(&mut self.kept().control, b"");
        }
    }
}
