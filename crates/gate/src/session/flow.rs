//! What is under way in a session: the outbound queue and the calls in flight.
//!
//! One lock guards both, because answers reserve their place: calls in flight plus
//! answers queued are what the concurrent-task limit bounds. Nothing here waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;
use tidegate_protocol::{CloseReason, Topic};
use tokio::sync::Notify;

use super::entry::Entry;
use super::extended::Extended;
use crate::budget::Budget;
use crate::clock::Tick;
use crate::metrics::calls::{ServicePlace, Timing};

/// A call whose answer has not come.
#[derive(Debug, Clone)]
pub(crate) struct PendingCall {
    /// Distinguishes it from the session's other calls.
    pub(crate) number: u32,
    /// When its outcome counts as unknown.
    pub(crate) deadline: Tick,
    /// The topic as called.
    pub(crate) topic: Topic,
    /// Whether the client asked for an answer.
    pub(crate) wants_answer: bool,
    /// Its count among the client's packets, where they are counted.
    pub(crate) packet: u64,
    /// What it is counted under.
    pub(crate) service: ServicePlace,
    pub(crate) timing: Timing,
}

/// Why and how a session is being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) reason: CloseReason,
    /// Calls under way are finished first.
    pub(crate) finish_calls: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Takes no more packets; what is queued is still written.
    Closing(Closing),
    /// The queue is gone.
    Ended,
}

/// When the connection's task wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// It runs, and will look again before it sleeps.
    Awake,
    /// By a push too.
    Idle,
    /// Not by a push: its socket takes nothing now.
    WriteBlocked,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(super) queue: VecDeque<Entry>,
    calls: Vec<PendingCall>,
    /// Services that took a packet of this session: they hear of its end.
    used: SmallVec<[Box<str>; 1]>,
    waker: Option<Waker>,
    rare: Option<Box<Rare>>,
    /// Packets of the client that were taken.
    pub(super) received: u64,
    /// Bytes of topics and bodies in the queue, and pushes and answers there.
    pub(super) bytes: u32,
    pub(super) pushes: u32,
    /// Bytes last told to the gate's budget.
    published: u32,
    /// Bytes that the connection holds: a partial frame, what its socket did not take.
    pub(crate) held: u32,
    next_call: u32,
    /// How many connections have been attached, one after the other, or have gone.
    epoch: u32,
    pub(super) answers: u16,
    sleep: Sleep,
    pub(crate) phase: Phase,
    /// The connection stopped reading because of the concurrent-task limit.
    paused: bool,
    /// No connection is attached: the session waits to be resumed.
    pub(super) dormant: bool,
}

/// What few sessions have.
#[derive(Debug, Default)]
struct Rare {
    /// Those who wait for room.
    room: Option<Arc<Notify>>,
    /// The client speaks the extended protocol.
    extended: Option<Extended>,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            calls: Vec::new(),
            used: SmallVec::new(),
            waker: None,
            rare: None,
            received: 0,
            bytes: 0,
            pushes: 0,
            published: 0,
            held: 0,
            next_call: 0,
            epoch: 0,
            answers: 0,
            sleep: Sleep::Awake,
            phase: Phase::Open,
            paused: false,
            dormant: false,
        }
    }

    /// What a session has whose client speaks the extended protocol.
    pub(crate) fn extended(&mut self) -> Option<&mut Extended> {
        self.rare.as_mut()?.extended.as_mut()
    }

    /// Whether it waits to be resumed.
    pub(crate) fn is_dormant(&self) -> bool {
        self.dormant
    }

    /// Packets of the client that were taken.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Counts packets of a client to whom nobody tells the count.
    pub(crate) fn count_received(&mut self, packets: u64) {
        self.received += packets;
    }

    pub(crate) fn is_extended(&self) -> bool {
        let rare = self.rare.as_deref();
        rare.is_some_and(|rare| rare.extended.is_some())
    }

    pub(crate) fn set_extended(&mut self, extended: Extended) {
        self.rare.get_or_insert_default().extended = Some(extended);
    }

    // --- what others do to a session

    /// Something was queued.
    #[inline]
    pub(super) fn wake_if_idle(&mut self) {
        if self.sleep == Sleep::Idle {
            self.wake();
        }
    }

    /// Takes a call out, and answers how it is counted; none if its answer is no longer
    /// waited for.
    #[inline]
    pub(crate) fn finish_call(&mut self, number: u32) -> Option<(ServicePlace, Timing)> {
        let i = self.calls.iter().rposition(|c| c.number == number)?;
        let counted = (self.calls[i].service, self.calls[i].timing);
        drop(self.calls.remove(i));
        let finishing = matches!(self.phase, Phase::Closing(c) if c.finish_calls);
        if self.paused || finishing {
            self.wake_unless_awake();
        }
        Some(counted)
    }

    /// Asks the connection to close; the first reason stays, but a close that
    /// waits for nothing overrides one that waits for calls.
    pub(crate) fn close(&mut self, closing: Closing) -> bool {
        match &mut self.phase {
            Phase::Open => {
                self.phase = Phase::Closing(closing);
                self.wake_room();
                self.wake_unless_awake();
                true
            }
            Phase::Closing(now) => {
                if now.finish_calls && !closing.finish_calls {
                    now.finish_calls = false;
                    self.wake_unless_awake();
                }
                false
            }
            Phase::Ended => false,
        }
    }

    /// Wakes the connection's task, for a timer.
    pub(crate) fn wake_unless_awake(&mut self) {
        if self.sleep != Sleep::Awake {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.sleep = Sleep::Awake;
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Notified whenever the queue got shorter.
    pub(crate) fn room(&mut self) -> Arc<Notify> {
        let rare = self.rare.get_or_insert_default();
        rare.room.get_or_insert_default().clone()
    }

    pub(super) fn wake_room(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        if let Some(room) = &rare.room {
            room.notify_waiters();
            if Arc::strong_count(room) == 1 {
                rare.room = None;
            }
        }
        if rare.room.is_none() && rare.extended.is_none() {
            self.rare = None;
        }
    }

    // --- what the connection does

    /// A connection takes over, unless another has since `epoch`. The one before is
    /// woken to find out. Answers the new epoch: only its connection drains the queue.
    pub(crate) fn attach(&mut self, epoch: u32) -> Option<u32> {
        if self.epoch != epoch || self.phase == Phase::Ended {
            return None;
        }
        self.wake_unless_awake();
        self.dormant = false;
        Some(self.next_epoch())
    }

    /// Whoever was attached is not any more.
    pub(super) fn next_epoch(&mut self) -> u32 {
        self.epoch += 1;
        self.waker = None;
        self.sleep = Sleep::Awake;
        self.paused = false;
        self.epoch
    }

    /// Whether the connection of `epoch` still is the one that drains the queue.
    pub(crate) fn is_attached(&self, epoch: u32) -> bool {
        self.epoch == epoch
    }

    /// The connection's task begins to run: pushes need not wake it. `None` if another
    /// connection has taken over.
    pub(crate) fn begin(&mut self, epoch: u32) -> Option<Phase> {
        if !self.is_attached(epoch) {
            return None;
        }
        self.sleep = Sleep::Awake;
        Some(self.phase)
    }

    /// Calls noted so far that have no answer are not answered in place: they are timed.
    pub(crate) fn note_under_way(&mut self) {
        for call in self.calls.iter_mut().rev() {
            if !call.timing.not_in_place() {
                break;
            }
        }
    }

    /// The connection's task is about to sleep. Answers `false` if it must look again.
    pub(crate) fn sleep(
        &mut self,
        waker: &Waker,
        write_blocked: bool,
        paused: bool,
        limit: u16,
        seen: Phase,
    ) -> bool {
        let missed = self.phase != seen
            || (!write_blocked && !self.queue.is_empty())
            || (paused && self.has_room(limit));
        if missed {
            return false;
        }
        self.note_under_way();
        if self.calls.is_empty() {
            // An idle session holds nothing; one that is busy does not come here.
            self.calls = Vec::new();
        }
        self.paused = paused;
        self.sleep = if write_blocked {
            Sleep::WriteBlocked
        } else {
            Sleep::Idle
        };
        if !self.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        true
    }

    /// How many more packets may be read now.
    pub(crate) fn free_tasks(&self, limit: u16) -> usize {
        usize::from(limit).saturating_sub(self.calls.len() + usize::from(self.answers))
    }

    fn has_room(&self, limit: u16) -> bool {
        self.free_tasks(limit) > 0
    }

    /// Notes a call, and gives it its number, which goes with the responder.
    pub(crate) fn begin_call(&mut self, call: PendingCall) -> u32 {
        let number = self.next_call;
        self.next_call = self.next_call.wrapping_add(1);
        self.calls.push(PendingCall { number, ..call });
        number
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The topic of a call in flight.
    pub(crate) fn topic_of(&self, number: u32) -> Option<Topic> {
        Some(self.call(number)?.topic.clone())
    }

    /// A call in flight.
    pub(crate) fn call(&self, number: u32) -> Option<&PendingCall> {
        self.calls.iter().rfind(|c| c.number == number)
    }

    /// When the first call in flight times out.
    pub(crate) fn first_deadline(&self) -> Tick {
        let deadlines = self.calls.iter().map(|c| c.deadline);
        deadlines.min().unwrap_or(Tick::NEVER)
    }

    /// Takes out the calls whose time has passed. Their services may have taken them.
    pub(crate) fn expire_calls(&mut self, now: Tick) -> Vec<PendingCall> {
        let expired: Vec<_> = self.calls.extract_if(.., |c| c.deadline <= now).collect();
        for call in &expired {
            self.note_used(&call.topic);
        }
        expired
    }

    /// Gives a call that waits for its instance until `deadline`. Answers whether the
    /// call is still waited for.
    pub(crate) fn set_deadline(&mut self, number: u32, deadline: Tick) -> bool {
        let call = self.calls.iter_mut().find(|c| c.number == number);
        call.map(|c| c.deadline = deadline).is_some()
    }

    /// Remembers the service that took a packet of this topic.
    pub(crate) fn note_used(&mut self, topic: &Topic) {
        let names = |service: &str| {
            let rest = topic.as_str().strip_prefix(service);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if !self.used.iter().any(|service| names(service))
            && let Ok(route) = topic.route()
        {
            self.used.push(route.service.into());
        }
    }

    /// The services that took a packet of this session, or may have, and the calls that
    /// nobody waits for any more.
    pub(crate) fn take_used(&mut self) -> (SmallVec<[Box<str>; 1]>, Vec<PendingCall>) {
        let calls = std::mem::take(&mut self.calls);
        for call in &calls {
            self.note_used(&call.topic);
        }
        (std::mem::take(&mut self.used), calls)
    }

    /// Ends the flow. Answers packets and bytes that were still queued.
    pub(crate) fn end(&mut self) -> (u64, u64) {
        self.phase = Phase::Ended;
        self.sleep = Sleep::Awake;
        self.waker = None;
        self.wake_room();
        let packets: u64 = self.queue.iter().map(Entry::count).sum();
        let (more, more_bytes) = self.unacknowledged();
        let left = (packets + more, u64::from(self.bytes) + more_bytes);
        drop(self.take_all());
        self.calls = Vec::new();
        self.rare = None;
        left
    }

    /// Tells the gate's budget what is held here.
    #[inline]
    pub(crate) fn publish(&mut self, budget: &Budget) {
        let bytes = self.kept_bytes();
        budget.publish(&mut self.published, bytes);
    }

    /// Bytes of packets that are queued, or kept until they are acknowledged.
    fn kept_bytes(&self) -> u32 {
        let rare = self.rare.as_deref();
        let extended = rare.and_then(|rare| rare.extended.as_ref());
        let retained = extended.map_or(0, Extended::retained_bytes);
        self.bytes.saturating_add(retained)
    }

    /// Bytes that closing the session would free, and that do not free themselves: a
    /// queue that is being written does.
    pub(crate) fn weight(&self) -> u32 {
        let queued = match self.sleep {
            _ if self.dormant => self.kept_bytes(),
            Sleep::WriteBlocked => self.kept_bytes(),
            Sleep::Awake | Sleep::Idle => 0,
        };
        queued.saturating_add(self.held)
    }
}
