//! Events: what services are told of sessions.
//!
//! An event is not answered, but whether there was somebody to take it is seen. What cannot
//! be sent now waits, in order and up to a bound; what was on its way when the connection was
//! lost is sent once more: an event may come twice, none is lost in silence.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use parking_lot::Mutex;
use tidegate::bus::{Bus as _, Event, EventTarget};
use tidegate_protocol::{InstanceId, Snapshot};
use tokio::sync::{Notify, watch};
use tokio::time;

use crate::bus::Inner;
use crate::header;
use crate::link::{LinkState, NotSent};
use crate::mux::{AskError, Lane, Token, Waiting};
use crate::subject::Class;
use crate::wire;
use crate::wire::event::EventName;

/// For how long to look whether nobody takes an event, if nothing else tells: longer than it
/// takes to notice that a connection is lost.
const LOOK: Duration = Duration::from_secs(10);
/// While NATS can be reached so many times more may wait: it takes them soon.
const WHILE_UP: usize = 10;
/// How often an event is sent at most, if the connection is lost each time.
const ATTEMPTS: u8 = 3;
/// Events sent in one go.
const BATCH: usize = 256;
/// How often it is looked whether all are sent.
const FLUSH: Duration = Duration::from_millis(10);
/// Before those that came back are sent again.
const AGAIN: Duration = Duration::from_millis(200);

impl Inner {
    /// Sends an event on its way. Takers in this process are preferred.
    pub(crate) fn event(
        self: &Arc<Self>,
        to: EventTarget<'_>,
        session: Arc<Snapshot>,
        event: Event,
    ) {
        let near = match to {
            EventTarget::Service(service, instance) => {
                if self.near.serves(service, instance) {
                    return self.near.event(to, session, event);
                }
                Vec::new()
            }
            EventTarget::WhoAsked => {
                let near = self.near.who_asked(&event);
                if !near.is_empty() {
                    self.near.event(to, session.clone(), event.clone());
                }
                near
            }
        };
        let Some((name, body)) = wire::event::encode(&event) else {
            return;
        };
        let mut headers = wire::call::head(
            Some((&session.encode_ascii(), session.trace_id)),
            rand::random(),
            false,
        );
        if !near.is_empty() {
            header::put_near(&mut headers, &near);
        }
        let (subject, otherwise) = match (to, name) {
            (EventTarget::Service(service, instance), EventName::Service(name)) => {
                let any = self.prefix.call(Class::Event, service, name.as_str());
                let this = |id: &InstanceId| {
                    self.prefix
                        .instance_call(Class::Event, service, id, name.as_str())
                };
                match (any, instance.map(this)) {
                    (Ok(any), None) => (any, None),
                    (Ok(any), Some(Ok(this))) => (this, Some(any)),
                    _ => return,
                }
            }
            (EventTarget::WhoAsked, EventName::All(name)) => (self.prefix.all(name), None),
            // Events of either kind have the target of their kind.
            _ => return,
        };
        let is_for_one = matches!(to, EventTarget::Service(..));
        let lane = self.lane_of(Some(&session));
        let packed = Packed {
            subject,
            otherwise,
            headers,
            body: body.into(),
            is_for_one,
            attempts: 0,
            number: lane.outbox.numbers.fetch_add(1, Ordering::Relaxed),
        };
        lane.tell(packed);
    }
}

/// An event as it is sent.
pub(crate) struct Packed {
    subject: Subject,
    /// Where it goes if nobody is there.
    otherwise: Option<Subject>,
    headers: HeaderMap,
    body: Bytes,
    /// There should be somebody to take it.
    is_for_one: bool,
    attempts: u8,
    /// Its place among the events of its lane.
    number: u64,
}

impl Packed {
    fn parts(&self) -> (Subject, HeaderMap, Bytes) {
        let Self {
            subject,
            headers,
            body,
            ..
        } = self;
        (subject.clone(), headers.clone(), body.clone())
    }
}

/// An event on its way.
pub(crate) struct Told {
    packed: Packed,
    lane: Weak<Lane>,
    epoch: u64,
}

impl Told {
    /// Takes what came of it.
    pub(crate) fn take(self, reply: Result<Message, AskError>) {
        let Some(lane) = self.lane.upgrade() else {
            return;
        };
        let Self {
            mut packed, epoch, ..
        } = self;
        match reply {
            Ok(_) => {}
            // Others may not be back yet, after the connections of all were lost.
            Err(AskError::NoResponders) if lane.link.is_back_lately() => {
                lane.outbox.back.fetch_add(1, Ordering::Relaxed);
                lane.keep(packed);
            }
            Err(AskError::NoResponders) => match packed.otherwise.take() {
                Some(subject) => {
                    packed.subject = subject;
                    lane.tell(packed);
                }
                None => {
                    lane.counters
                        .undelivered_events
                        .fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(subject = %packed.subject, "nobody took an event");
                }
            },
            // It was sent, and nobody said that there was nobody.
            Err(AskError::OutcomeUnknown) if lane.link.epoch() == epoch && lane.link.is_up() => {}
            Err(AskError::OutcomeUnknown) => {
                packed.attempts += 1;
                match packed.attempts < ATTEMPTS {
                    true => lane.keep(packed),
                    false => lane.lose(&packed),
                }
            }
            Err(AskError::Unavailable) => lane.keep(packed),
            // There is no room to look whether anybody takes it.
            Err(AskError::Overloaded) => lane.tell_blindly(packed),
            Err(AskError::TooLarge) => lane.lose(&packed),
        }
    }
}

/// A message to itself behind events: when it comes back, the server has passed these on, or
/// said that nobody takes them.
pub(crate) struct Echo {
    lane: Weak<Lane>,
    behind: Vec<Token>,
}

impl Echo {
    /// Takes what came of it.
    pub(crate) fn take(self, reply: Result<Message, AskError>) {
        let Some(lane) = self.lane.upgrade() else {
            return;
        };
        if reply.is_err() {
            let mut sent = lane.outbox.sent.lock();
            sent.echo = false;
            // For the next one. What is lost with a connection is told one by one.
            return sent.tokens.extend(self.behind);
        }
        for token in self.behind {
            lane.forget(token);
        }
        lane.outbox.sent.lock().echo = false;
        lane.echo_behind_events();
    }
}

/// Events of which it is not known yet that the server has passed them on.
#[derive(Default)]
struct Sent {
    tokens: Vec<Token>,
    /// An echo is on its way; the next one will be behind these.
    echo: bool,
}

#[derive(Default)]
struct Waiters {
    events: VecDeque<Packed>,
    /// Some were taken and are being sent: none may overtake them.
    sending: bool,
}

/// Events that wait to be sent, in order.
pub(crate) struct Outbox {
    waiting: Mutex<Waiters>,
    most: usize,
    more: Notify,
    numbers: AtomicU64,
    sent: Mutex<Sent>,
    /// How often one came back because its taker was not there yet.
    back: AtomicU64,
}

impl Outbox {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            most,
            more: Notify::new(),
            numbers: AtomicU64::new(0),
            sent: Mutex::default(),
            back: AtomicU64::new(0),
        })
    }

    fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.events.is_empty() && !waiting.sending
    }

    /// Puts an event in its place; answers it where there is no room.
    #[expect(clippy::result_large_err, reason = "given back as it came, and rarely")]
    fn put(&self, packed: Packed, most: usize) -> Result<(), Packed> {
        let events = &mut self.waiting.lock().events;
        if events.len() >= most {
            return Err(packed);
        }
        let at = events.partition_point(|other| other.number < packed.number);
        events.insert(at, packed);
        Ok(())
    }

    /// Takes those to be sent next. Until there are none, others wait.
    fn take_some(&self) -> Vec<Packed> {
        let mut waiting = self.waiting.lock();
        let some = waiting.events.len().min(BATCH);
        waiting.sending = some > 0;
        waiting.events.drain(..some).collect()
    }
}

impl Lane {
    /// Sends an event, or keeps it behind those that wait.
    fn tell(self: &Arc<Self>, packed: Packed) {
        let is_settled = || self.link.changes().borrow().settling().is_zero();
        match self.link.is_up() && self.outbox.is_empty() && is_settled() {
            true => self.tell_now(packed),
            false => self.keep(packed),
        }
    }

    fn tell_now(self: &Arc<Self>, packed: Packed) {
        if !packed.is_for_one {
            return self.tell_blindly(packed);
        }
        let (subject, headers, body) = packed.parts();
        let told = Told {
            packed,
            lane: Arc::downgrade(self),
            epoch: self.link.epoch(),
        };
        let token = self.send(subject, Some(headers), body, LOOK, Waiting::Event(told));
        if let Some(token) = token {
            self.outbox.sent.lock().tokens.push(token);
            self.echo_behind_events();
        }
    }

    /// Sends an echo behind the events sent so far, if none is on its way.
    fn echo_behind_events(self: &Arc<Self>) {
        let behind = {
            let mut sent = self.outbox.sent.lock();
            if sent.echo || sent.tokens.is_empty() {
                return;
            }
            sent.echo = true;
            std::mem::take(&mut sent.tokens)
        };
        let lane = Arc::downgrade(self);
        self.echo(LOOK, Waiting::Echo(Echo { lane, behind }));
    }

    fn tell_blindly(&self, packed: Packed) {
        let (subject, headers, body) = packed.parts();
        match self.link.publish(subject, None, Some(headers), body) {
            Ok(()) => {}
            Err(NotSent::Down | NotSent::Full) => self.keep(packed),
            Err(NotSent::TooLarge | NotSent::Subject) => self.lose(&packed),
        }
    }

    fn keep(&self, packed: Packed) {
        let most = match self.link.is_up() {
            true => self.outbox.most.saturating_mul(WHILE_UP),
            false => self.outbox.most,
        };
        match self.outbox.put(packed, most) {
            Ok(()) => self.outbox.more.notify_one(),
            Err(packed) => self.lose(&packed),
        }
    }

    /// Comes back when what was handed over before has been sent, or cannot be.
    pub(crate) async fn flush(&self) {
        loop {
            self.link.last_fence().await;
            if self.outbox.is_empty() || !self.link.is_up() {
                return;
            }
            time::sleep(FLUSH).await;
        }
    }

    fn lose(&self, packed: &Packed) {
        self.counters.lost_events.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(subject = %packed.subject, "an event was given up");
    }
}

/// Sends what waits, when NATS can be reached.
pub(crate) async fn flush(
    lane: Weak<Lane>,
    outbox: Arc<Outbox>,
    mut changes: watch::Receiver<LinkState>,
) {
    loop {
        outbox.more.notified().await;
        loop {
            if changes.wait_for(|state| state.up).await.is_err() {
                return;
            }
            let settling = changes.borrow().settling();
            if !settling.is_zero() {
                time::sleep(settling).await;
                continue;
            }
            let Some(lane) = lane.upgrade() else { return };
            let back = outbox.back.load(Ordering::Relaxed);
            let some = outbox.take_some();
            if some.is_empty() {
                break;
            }
            for packed in some {
                lane.tell_now(packed);
            }
            // Until all that was sent is on its way; a failure is one of the connection, and
            // those that were on their way are back.
            let _ = lane.link.fence().await;
            lane.echo_behind_events();
            if outbox.back.load(Ordering::Relaxed) != back {
                time::sleep(AGAIN).await;
            }
        }
    }
}
