//! The task that owns a connection of version 1: it alone reads and writes the socket.

use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::{Packet, Topic};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{Cause, Closed, PacketError};
use crate::frames::Frames;
use crate::shared::Shared;
use crate::transport::{Incoming, Transport};

/// Above this many unwritten bytes no more packets are taken from the queue.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// A connection.
pub(crate) struct Task<T> {
    pub(crate) link: Link<T>,
    pub(crate) queue: mpsc::Receiver<Packet>,
    pub(crate) closed: watch::Sender<Option<Closed>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) keepalive: Option<(Topic, Duration)>,
    pub(crate) error_topic: Option<Topic>,
    pub(crate) close_timeout: Duration,
}

/// How far a connection is on its way out.
enum Phase {
    Open,
    /// Closing was asked for: what is queued is sent, then the goodbye.
    Closing {
        deadline: Instant,
    },
    /// Nothing can be written any more. What the gate still said is worth reading: it
    /// tells why.
    Broken {
        deadline: Instant,
        closed: Closed,
    },
}

impl Phase {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::Closing { deadline } | Self::Broken { deadline, .. } => Some(*deadline),
        }
    }
}

impl<T: Transport> Task<T> {
    /// Runs until the connection has ended.
    pub(crate) async fn run(mut self) {
        let mut closed = self.serve().await;
        // No packet is taken from here on.
        self.queue.close();
        closed.unsent = self.link.unflushed;
        while self.queue.try_recv().is_ok() {
            closed.unsent += 1;
        }
        // The reason stands before anybody is woken to ask for it.
        self.closed.send_replace(Some(closed.clone()));
        drop(self.queue);
        self.shared.end(closed);
        if self.link.lingers {
            // The goodbye is answered; the gate closes the socket first.
            let _ = timeout(self.close_timeout, self.link.linger()).await;
        }
    }

    async fn serve(&mut self) -> Closed {
        let mut phase = Phase::Open;
        let mut drained = false;
        loop {
            let writable = !drained && !matches!(phase, Phase::Broken { .. });
            let room = writable && self.link.queued < HIGH_WATER;
            let keepalive = match (&self.keepalive, &phase) {
                (Some((_, interval)), Phase::Open) if room => Some(self.link.last_sent + *interval),
                _ => None,
            };
            let link = &mut self.link;
            tokio::select! {
                happened = poll_fn(|cx| link.poll(cx)) => match happened {
                    Happened::Flushed => {}
                    Happened::Read(Incoming::Packet(packet)) => self.arrived(packet),
                    Happened::Read(Incoming::Goodbye(closed)) => {
                        match phase {
                            // The answer to our own goodbye, unless it says otherwise.
                            Phase::Closing { .. } if !says_more(&closed) => {}
                            _ => {
                                self.link.lingers = true;
                                return closed;
                            }
                        }
                    }
                    Happened::Read(Incoming::Ended(closed)) => return match phase {
                        Phase::Open => closed,
                        Phase::Closing { .. } => Closed::by_client(),
                        Phase::Broken { closed: broken, .. } if closed.cause == Cause::Lost => broken,
                        Phase::Broken { .. } => closed,
                    },
                    Happened::CannotWrite(e) => phase = self.broken(phase, &e),
                },
                packet = self.queue.recv(), if room => match packet {
                    Some(packet) => {
                        if let Err(e) = self.take(packet) {
                            phase = self.broken(phase, &e);
                        }
                    }
                    None => {
                        drained = true;
                        if let Err(e) = self.link.close() {
                            phase = self.broken(phase, &e);
                        }
                    }
                },
                () = self.shared.close.notified(), if matches!(phase, Phase::Open) => {
                    self.queue.close();
                    phase = Phase::Closing { deadline: Instant::now() + self.close_timeout };
                },
                () = at(phase.deadline()) => return match phase {
                    Phase::Broken { closed, .. } => closed,
                    Phase::Open | Phase::Closing { .. } => Closed::by_client(),
                },
                () = at(keepalive) => {
                    if let Some((topic, _)) = &self.keepalive {
                        let packet = Packet::new(topic.clone(), Bytes::new());
                        if let Err(e) = self.link.queue(&packet, &self.shared) {
                            phase = self.broken(phase, &e);
                        }
                    }
                },
            }
        }
    }

    /// Queues a packet, and those behind it as far as there is room: one write for all.
    fn take(&mut self, packet: Packet) -> io::Result<()> {
        self.link.queue(&packet, &self.shared)?;
        while self.link.queued < HIGH_WATER
            && let Ok(packet) = self.queue.try_recv()
        {
            self.link.queue(&packet, &self.shared)?;
        }
        Ok(())
    }

    fn arrived(&self, packet: Packet) {
        self.shared.counters.received.fetch_add(1, Relaxed);
        if self.error_topic.as_ref() == Some(&packet.topic)
            && let Some((topic, error)) = PacketError::read(&packet.body)
            && self.shared.calls.refused(&topic, error)
        {
            return;
        }
        self.shared.arrived(packet);
    }

    fn broken(&self, phase: Phase, error: &io::Error) -> Phase {
        let limit = Instant::now() + self.close_timeout;
        Phase::Broken {
            deadline: phase.deadline().unwrap_or(limit),
            closed: match phase {
                Phase::Open => Closed::lost(error),
                Phase::Closing { .. } => Closed::by_client(),
                Phase::Broken { closed, .. } => closed,
            },
        }
    }
}

/// Whether a close frame says more than the answer to a goodbye does.
fn says_more(closed: &Closed) -> bool {
    closed.code.is_some_and(|code| code != 1000)
}

pub(crate) async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// The socket, and what is on its way into it.
pub(crate) struct Link<T> {
    transport: T,
    frames: Frames,
    /// Bytes queued since all was last written.
    pub(crate) queued: usize,
    /// Packets queued since all was last written.
    unflushed: u64,
    dirty: bool,
    write_failed: bool,
    /// The gate's end is yet to come.
    pub(crate) lingers: bool,
    pub(crate) last_sent: Instant,
}

pub(crate) enum Happened {
    /// All is written: there is room again.
    Flushed,
    CannotWrite(io::Error),
    Read(Incoming),
}

impl<T: Transport> Link<T> {
    pub(crate) fn new(transport: T, frames: Frames) -> Self {
        Self {
            transport,
            frames,
            queued: 0,
            unflushed: 0,
            dirty: false,
            write_failed: false,
            lingers: false,
            last_sent: Instant::now(),
        }
    }

    pub(crate) fn queue(&mut self, packet: &Packet, shared: &Shared) -> io::Result<()> {
        self.unflushed += 1;
        self.transport
            .queue(packet)
            .inspect_err(|_| self.write_failed = true)?;
        self.queued += self.frames.codec().encoded_len(packet);
        self.dirty = true;
        self.last_sent = Instant::now();
        shared.counters.sent.fetch_add(1, Relaxed);
        Ok(())
    }

    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.dirty = true;
        self.transport
            .start_close()
            .inspect_err(|_| self.write_failed = true)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        if self.dirty && !self.write_failed {
            match self.transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.dirty = false;
                    self.queued = 0;
                    self.unflushed = 0;
                    return Poll::Ready(Happened::Flushed);
                }
                Poll::Ready(Err(e)) => {
                    self.write_failed = true;
                    return Poll::Ready(Happened::CannotWrite(e));
                }
                Poll::Pending => {}
            }
        }
        self.transport.poll_read(cx).map(Happened::Read)
    }

    /// Reads until the gate has closed, and answers its goodbye meanwhile.
    pub(crate) async fn linger(&mut self) {
        poll_fn(|cx| {
            let _ = self.transport.poll_flush(cx);
            while !matches!(ready!(self.transport.poll_read(cx)), Incoming::Ended(_)) {}
            Poll::Ready(())
        })
        .await;
    }
}
