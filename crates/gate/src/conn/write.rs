//! The way out: the session's queue, coded when it is drained, many packets in one
//! write.

use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tidegate_protocol::CloseReason;
use tidegate_protocol::ws::encode_ping;
use tokio::io::AsyncWrite;

use super::{Connection, Pause, State, Step, scratch};
use crate::clock::Tick;
use crate::session::entry::Entry;

/// A write takes packets from the queue until it has this many bytes.
const CHUNK: usize = 16 * 1024;

/// Where a packet ends in what is written, and what it counts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    at: u32,
    /// Bytes of topic and body.
    pub(super) size: u32,
}

impl End {
    /// The same after so many bytes have gone.
    fn less(self, written: usize) -> Self {
        Self {
            at: self.at - written as u32,
            ..self
        }
    }
}

type Ends = SmallVec<[End; 16]>;

impl Connection {
    /// Writes until the queue is empty or the socket takes no more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Step {
        match self.speaks_extended() {
            true => self.keep_up(),
            false => self.heartbeat_ping(),
        }
        loop {
            match self.write_kept(cx) {
                Step::More => {}
                stop => return stop,
            }
            let step = scratch::with_write(|chunk| {
                let mut ends = Ends::new();
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
    fn drain(&mut self, chunk: &mut Vec<u8>, ends: &mut Ends) {
        if let Some(kept) = &mut self.kept {
            chunk.append(&mut kept.control);
        }
        if matches!(self.state, State::Saying(..)) {
            // Nothing follows the close frame.
            return;
        }
        let core = self.session.core();
        let codec = &self.at.endpoint.codec;
        let mut flow = core.flow.lock();
        if !flow.is_attached(self.epoch) {
            return;
        }
        let mut took = false;
        while chunk.len() < CHUNK {
            let Some(entry) = flow.pop() else { break };
            took = true;
            match &entry {
                Entry::Shared(shared, _) => self.wire.append(&shared.frame(codec), chunk),
                other => self.wire.encode(&**codec, &other.packet(), chunk),
            }
            ends.push(End {
                at: chunk.len() as u32,
                size: entry.size(),
            });
            if self.speaks_extended() {
                flow.wrote(entry);
            }
        }
        if took {
            flow.popped();
            flow.publish(&core.gate.budget);
        }
    }

    /// Writes a chunk; what the socket does not take is kept.
    fn write_chunk(&mut self, cx: &mut Context<'_>, chunk: &[u8], ends: Ends) -> Step {
        let (written, step) = self.write_some(cx, chunk);
        let done = self.count_written(&ends, written);
        if step != Step::More {
            let kept = self.kept();
            kept.output = chunk[written..].to_vec();
            kept.ends = ends[done..].iter().map(|e| e.less(written)).collect();
        }
        step
    }

    /// Writes what an earlier write left over.
    fn write_kept(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(kept) = self.kept.as_mut().filter(|kept| !kept.output.is_empty()) else {
            return Step::More;
        };
        let mut output = std::mem::take(&mut kept.output);
        let mut ends = std::mem::take(&mut kept.ends);
        let (written, step) = self.write_some(cx, &output);
        if step != Step::More {
            if written > 0 {
                let done = self.count_written(&ends, written);
                ends.drain(..done);
                ends.iter_mut().for_each(|e| *e = e.less(written));
                output.drain(..written);
            }
            let kept = self.kept();
            (kept.output, kept.ends) = (output, ends);
            return step;
        }
        self.count_written(&ends, written);
        step
    }

    /// Writes as much as the socket takes. Answers how much, and [`Step::More`] if that
    /// was all.
    fn write_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> (usize, Step) {
        let mut written = 0;
        while written < bytes.len() {
            match self.write(cx, &bytes[written..]) {
                Ok(Some(n)) => written += n,
                Ok(None) => return (written, Step::Blocked),
                Err(step) => return (written, step),
            }
        }
        (written, Step::More)
    }

    /// Counts what was written; answers how many packets that completed.
    fn count_written(&self, ends: &[End], written: usize) -> usize {
        let done = ends.partition_point(|e| e.at as usize <= written);
        self.count_out(done as u64, written);
        done
    }

    /// One write. `None`: the socket takes nothing now.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<Option<usize>, Step> {
        match Pin::new(&mut self.io).poll_write(cx, bytes) {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.blocked_since = Tick::NEVER;
                self.last_written = self.now();
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
                if self.io.take_progress() {
                    self.blocked_since = Tick::NEVER;
                }
                self.note_blocked();
                Step::Blocked
            }
        }
    }

    fn count_out(&self, packets: u64, bytes: usize) {
        let core = self.session.core();
        core.sent
            .fetch_add(packets, std::sync::atomic::Ordering::Relaxed);
        self.at.shard.counters.packets_out.add(packets);
        self.at.shard.counters.bytes_out.add(bytes as u64);
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
        let half = self.at.endpoint.limits.heartbeat_timeout / 2;
        if self.last_read.plus(half) <= self.now() {
            self.pinged = true;
            encode_ping(&mut self.kept().control, b"");
        }
    }
}
