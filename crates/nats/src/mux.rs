//! Replies: a lane asks many questions over one connection, and knows each answer by the
//! last token of the subject it comes on.
//!
//! The token is a slot's place and generation. A slot is used again, its generation is not:
//! an answer that comes late or twice finds another generation, and is discarded.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode, Subject};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use parking_lot::Mutex;
use thiserror::Error;
use tidegate::bus::BusError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinHandle};
use tokio::time;

use crate::call::{Asked, Encoded, Targets};
use crate::counters::Counters;
use crate::events::{self, Echo, Outbox, Told};
use crate::link::{Link, LinkState, NotSent, Subscription};
use crate::options::{MAX_IN_FLIGHT, NatsOptions};

mod slots;

pub(crate) use slots::Token;
use slots::{Slot, Slots};

/// Deadlines are kept in these.
const TICK: Duration = Duration::from_millis(100);
/// Replies to one question that may wait to be read.
const GATHERED: usize = 4_096;
/// Replies taken in one go.
const BATCH: usize = 64;
/// Digits of a token.
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const PLACE_BITS: u32 = MAX_IN_FLIGHT.trailing_zeros();

/// One connection to NATS, with the questions asked over it.
pub(crate) struct Lane {
    pub(crate) link: Link,
    /// The subjects of calls made over it.
    pub(crate) targets: Targets,
    /// The sessions that make them.
    pub(crate) encoded: Encoded,
    /// Events that wait to be sent over it.
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) counters: Arc<Counters>,
    mux: Arc<Mux>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Lane {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.mux.fail_all(u64::MAX);
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AskError {
    /// NATS cannot be reached. Nothing was sent.
    #[error("NATS cannot be reached")]
    Unavailable,
    /// Nobody listens. Nothing was delivered.
    #[error("nobody is there to answer")]
    NoResponders,
    /// The connection was lost, or the time ran out, before an answer came.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// Too many questions are open, or too much waits to be sent. Nothing was sent.
    #[error("overloaded")]
    Overloaded,
    /// The message is larger than the server takes. Nothing was sent.
    #[error("the message is too large")]
    TooLarge,
}

impl AskError {
    /// Whether the question was put, and nobody was there.
    pub(crate) fn is_of_nobody(self) -> bool {
        self == Self::NoResponders
    }
}

impl From<NotSent> for AskError {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::Down | NotSent::Subject => Self::Unavailable,
            NotSent::Full => Self::Overloaded,
            NotSent::TooLarge => Self::TooLarge,
        }
    }
}

/// What waits in a slot.
pub(crate) enum Waiting {
    Call(Asked),
    Event(Told),
    Echo(Echo),
    Ask(oneshot::Sender<Result<Message, AskError>>),
    /// Called with the answer, without any lock of the lane.
    Then(Box<dyn FnOnce(Result<Message, AskError>) + Send>),
    /// Takes many answers.
    Gather(mpsc::Sender<Result<Message, AskError>>),
}

impl Waiting {
    fn take(self, reply: Result<Message, AskError>) {
        match self {
            Self::Call(asked) => asked.take(reply),
            Self::Event(told) => told.take(reply),
            Self::Echo(echo) => echo.take(reply),
            // Who no longer waits discards it.
            Self::Ask(to) => drop(to.send(reply)),
            Self::Then(then) => then(reply),
            Self::Gather(to) => drop(to.try_send(reply)),
        }
    }
}

struct Mux {
    slots: Mutex<Slots>,
    most: usize,
    /// Of a reply's subject, all but the token.
    prefix: Box<str>,
    /// In ticks, since the lane began.
    now: AtomicU32,
    counters: Arc<Counters>,
}

impl Lane {
    /// Makes a lane of a connection; served by the runtime that this is called on.
    pub(crate) async fn new(
        link: Link,
        options: &NatsOptions,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, BusError> {
        let prefix = format!("{}.", link.inbox());
        let mux = Arc::new(Mux::new(&prefix, options.in_flight, counters.clone()));
        let replies = link
            .subscribe(Subject::from(format!("{prefix}*")), None)
            .await?;
        link.fence().await?;
        let outbox = Outbox::new(options.events);
        Ok(Arc::new_cyclic(|lane| Self {
            tasks: [
                task::spawn(run(mux.clone(), link.clone(), replies)),
                task::spawn(events::flush(lane.clone(), outbox.clone(), link.changes())),
            ],
            targets: Targets::default(),
            encoded: Encoded::default(),
            outbox,
            counters,
            link,
            mux,
        }))
    }

    /// Asks. The question is on its way when this returns; the future gives the answer.
    pub(crate) fn ask(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        body: Bytes,
        deadline: Duration,
    ) -> impl Future<Output = Result<Message, AskError>> + Send + use<> {
        let (to, answer) = oneshot::channel();
        self.send(subject, headers, body, deadline, Waiting::Ask(to));
        // A sender goes without an answer only where the lane itself is gone.
        async { answer.await.unwrap_or(Err(AskError::OutcomeUnknown)) }
    }

    /// Asks many: gives each answer, until it is dropped.
    pub(crate) fn gather(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        body: Bytes,
        deadline: Duration,
    ) -> Gather {
        let (to, replies) = mpsc::channel(GATHERED);
        let token = self.send(subject, headers, body, deadline, Waiting::Gather(to));
        Gather {
            replies,
            token,
            mux: self.mux.clone(),
        }
    }

    /// Sends a question whose answer, or why there is none, goes to `waiting`: perhaps
    /// before this returns.
    pub(crate) fn send(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        body: Bytes,
        deadline: Duration,
        waiting: Waiting,
    ) -> Option<Token> {
        self.send_to(Some(subject), headers, body, deadline, waiting)
    }

    /// Sends a message to itself: what comes of everything sent before comes before it.
    pub(crate) fn echo(&self, deadline: Duration, waiting: Waiting) {
        self.send_to(None, None, Bytes::new(), deadline, waiting);
    }

    /// Waits no more for an answer that was not needed.
    pub(crate) fn forget(&self, token: Token) {
        self.mux.slots.lock().forget(token);
    }

    fn send_to(
        &self,
        subject: Option<Subject>,
        headers: Option<HeaderMap>,
        body: Bytes,
        deadline: Duration,
        waiting: Waiting,
    ) -> Option<Token> {
        // The slot comes first: who looks for slots of a connection that was lost after this
        // finds it.
        let token = match self.mux.put(waiting, deadline, self.link.epoch()) {
            Ok(token) => token,
            Err(waiting) => {
                self.mux.counters.overloaded.fetch_add(1, Ordering::Relaxed);
                waiting.take(Err(AskError::Overloaded));
                return None;
            }
        };
        let reply = self.mux.subject(token);
        let sent = match subject {
            Some(subject) => self.link.publish(subject, Some(reply), headers, body),
            None => self.link.publish(reply, None, headers, body),
        };
        match sent {
            Ok(()) => Some(token),
            Err(not_sent) => {
                if let Some(waiting) = self.mux.remove(token) {
                    waiting.take(Err(not_sent.into()));
                }
                None
            }
        }
    }

    /// Questions that wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        let slots = self.mux.slots.lock();
        slots.slots.len() - slots.free.len()
    }
}

/// The answers to one question: a stream that ends only where none can come any more.
pub(crate) struct Gather {
    replies: mpsc::Receiver<Result<Message, AskError>>,
    token: Option<Token>,
    mux: Arc<Mux>,
}

impl Stream for Gather {
    type Item = Result<Message, AskError>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.replies.poll_recv(cx)
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.mux.remove(token);
        }
    }
}

impl Mux {
    fn new(prefix: &str, most: usize, counters: Arc<Counters>) -> Self {
        Self {
            slots: Mutex::default(),
            most: most.min(MAX_IN_FLIGHT),
            prefix: prefix.into(),
            now: AtomicU32::new(0),
            counters,
        }
    }

    #[expect(clippy::result_large_err, reason = "given back as it came, and rarely")]
    fn put(&self, waiting: Waiting, within: Duration, epoch: u64) -> Result<Token, Waiting> {
        let ticks = within.as_millis().div_ceil(TICK.as_millis());
        // One more, for the tick that is under way.
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX / 2) + 1;
        let deadline = self.now.load(Ordering::Relaxed).saturating_add(ticks);
        let mut slots = self.slots.lock();
        slots.next = slots.next.min(deadline);
        if let Some(place) = slots.free.pop() {
            let slot = &mut slots.slots[place as usize];
            slot.deadline = deadline;
            slot.epoch = epoch;
            slot.waiting = Some(waiting);
            let generation = slot.generation;
            return Ok(Token { place, generation });
        }
        if slots.slots.len() >= self.most {
            return Err(waiting);
        }
        let place = slots.slots.len() as u32;
        // Begins anywhere, so that what comes for an earlier process finds nothing.
        let generation = rand::random();
        slots.slots.push(Slot {
            generation,
            deadline,
            epoch,
            waiting: Some(waiting),
            needless: None,
        });
        Ok(Token { place, generation })
    }

    fn remove(&self, token: Token) -> Option<Waiting> {
        self.slots.lock().remove(token)
    }

    /// Takes a reply. What waits for it runs without the lock: it may ask anew.
    fn reply(&self, message: Message) {
        let token = message.subject.strip_prefix(&*self.prefix);
        let Some(token) = token.and_then(Token::parse) else {
            self.counters.malformed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let no_responders = message.status == Some(StatusCode::NO_RESPONDERS);
        let (waiting, needless) = {
            let mut slots = self.slots.lock();
            let waiting = match slots.get(token) {
                // It stays, for the answers to come.
                Some(Waiting::Gather(to)) if !no_responders => match to.try_send(Ok(message)) {
                    Ok(()) => return,
                    // An answer is lost: there must be no sum without it.
                    Err(_) => {
                        self.counters.overflowed.fetch_add(1, Ordering::Relaxed);
                        drop(slots.remove(token));
                        return;
                    }
                },
                _ => slots.remove(token),
            };
            let needless = waiting.is_none() && slots.was_needless(token);
            (waiting, needless)
        };
        match waiting {
            Some(waiting) if no_responders => waiting.take(Err(AskError::NoResponders)),
            Some(waiting) => waiting.take(Ok(message)),
            None if needless => {}
            None => {
                self.counters.late_answers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Fails what was asked over connections before this one.
    fn fail_all(&self, epoch: u64) {
        self.fail(|slot| slot.epoch < epoch);
    }

    /// Advances the clock, and fails what has waited for too long.
    fn tick(&self, now: u32) {
        self.now.store(now, Ordering::Relaxed);
        if self.slots.lock().next <= now {
            self.fail(|slot| slot.deadline <= now);
        }
    }

    fn fail(&self, is_over: impl Fn(&Slot) -> bool) {
        let mut over = Vec::new();
        {
            let mut slots = self.slots.lock();
            let mut next = u32::MAX;
            for place in 0..slots.slots.len() {
                let slot = &slots.slots[place];
                if slot.waiting.is_none() {
                    continue;
                }
                if is_over(slot) {
                    let token = Token {
                        place: place as u32,
                        generation: slot.generation,
                    };
                    over.extend(slots.remove(token));
                } else {
                    next = next.min(slot.deadline);
                }
            }
            slots.next = next;
        }
        for waiting in over {
            waiting.take(Err(AskError::OutcomeUnknown));
        }
    }

    fn subject(&self, token: Token) -> Subject {
        let mut digits = [0; 13];
        let mut rest = (u64::from(token.generation) << PLACE_BITS) | u64::from(token.place);
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = DIGITS[(rest % 36) as usize];
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        let mut subject = String::with_capacity(self.prefix.len() + digits.len() - at);
        subject.push_str(&self.prefix);
        subject.extend(digits[at..].iter().map(|&digit| digit as char));
        Subject::from(subject)
    }
}

/// Takes the replies, the news of the connection, and the time.
async fn run(mux: Arc<Mux>, link: Link, mut replies: Subscription) {
    let began = time::Instant::now();
    let mut tick = time::interval(TICK);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    let mut changes = link.changes();
    loop {
        // The replies come last: there may be no end of them.
        tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
                let LinkState { up, epoch, .. } = *changes.borrow_and_update();
                mux.fail_all(if up { epoch } else { epoch + 1 });
            }
            _ = tick.tick() => {
                let ticks = began.elapsed().as_millis() / TICK.as_millis();
                mux.tick(u32::try_from(ticks).unwrap_or(u32::MAX));
            }
            reply = replies.next() => match reply {
                Some(reply) => {
                    mux.reply(reply);
                    for _ in 0..BATCH {
                        match replies.next().now_or_never() {
                            Some(Some(reply)) => mux.reply(reply),
                            Some(None) | None => break,
                        }
                    }
                }
                None => break,
            },
        }
    }
    mux.fail_all(u64::MAX);
}

#[cfg(test)]
mod tests;
