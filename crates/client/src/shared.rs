//! What the handles of a client and its task share.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use tidegate_protocol::{Packet, TooLarge, V1};
use tokio::sync::Notify;

use crate::builder::Settings;
use crate::calls::{Arrival, Calls};
use crate::error::Closed;
use crate::frames::Frames;
use crate::outbox::{Bounds, Outbox};
use crate::pushes::Readers;
use crate::states::{Happenings, State};

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) calls: Calls,
    pub(crate) readers: Readers,
    pub(crate) happenings: Happenings,
    pub(crate) outbox: Outbox,
    pub(crate) frames: Frames,
    /// Largest frame that can be sent, in bytes.
    pub(crate) max_frame: AtomicUsize,
    /// Asks the task to close.
    pub(crate) close: Notify,
    /// Asks the task to give the connection up.
    pub(crate) cut: Notify,
    /// Whether a handle asked for it.
    pub(crate) closing: AtomicBool,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn new(settings: &Settings, frames: Frames, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            calls: Calls::default(),
            readers: Readers::new(settings.push_buffer),
            happenings: Happenings::default(),
            outbox: Outbox::new(bounds),
            frames,
            max_frame: V1::MAX_FRAME.into(),
            close: Notify::new(),
            cut: Notify::new(),
            closing: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    /// Ends whatever waits.
    pub(crate) fn end(&self, closed: Closed) {
        self.outbox.close();
        self.happenings.set(State::Closed(closed));
        self.calls.close();
        self.readers.close();
    }

    /// Gives a packet of the gate to whoever waits for it.
    pub(crate) fn arrived(&self, packet: Packet) {
        match self.calls.arrived(packet) {
            Arrival::Answer => {}
            Arrival::Late => {
                self.counters.late_answers.fetch_add(1, Relaxed);
            }
            Arrival::Push(packet) => {
                if !self.readers.publish(packet) {
                    self.counters.unread_pushes.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Checks that a packet fits a frame.
    pub(crate) fn fits(&self, packet: &Packet) -> Result<(), TooLarge> {
        let (len, max) = (
            self.frames.codec().encoded_len(packet),
            self.max_frame.load(Relaxed),
        );
        match len > max {
            true => Err(TooLarge { len, max }),
            false => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) late_answers: AtomicU64,
    pub(crate) unread_pushes: AtomicU64,
    pub(crate) unacknowledged: AtomicU64,
}

/// What a client has counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Packets handed to the socket, with those of the protocol itself, and those that were
    /// sent again.
    pub sent: u64,
    /// Packets received, with those of the protocol itself.
    pub received: u64,
    /// Answers discarded, because their request had timed out or its caller had gone.
    pub late_answers: u64,
    /// Packets discarded, because nobody reads them any more.
    pub unread_pushes: u64,
    /// Packets written that the gate has not acknowledged; with version 1 it never does, and
    /// this is 0.
    pub unacknowledged: u64,
    /// Packets that wait to be written. With version 1 this is 0.
    pub waiting: u64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            sent: self.sent.load(Relaxed),
            received: self.received.load(Relaxed),
            late_answers: self.late_answers.load(Relaxed),
            unread_pushes: self.unread_pushes.load(Relaxed),
            unacknowledged: self.unacknowledged.load(Relaxed),
            waiting: 0,
        }
    }
}
