//! The client that lives now, and the subscriptions that outlive it.
//!
//! The client checks the text of headers that come as it does those that go, and panics: one
//! header with a carriage return in it, which no library writes but any socket can, ends the
//! task that serves the connection. The client is useless then and does not say so: only its
//! subscriptions end. A canary among them tells, and all are made anew with a new client.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use async_nats::connection::State;
use async_nats::{Client, Message, Subject, SubscribeError, Subscriber, UnsubscribeError};
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tidegate::bus::BusError;
use tokio::time;

use super::LinkState;

/// See the module.
pub(super) struct Live {
    now: ArcSwap<Now>,
    /// Every subscription; of those that are gone, some.
    slots: Mutex<Vec<Weak<Slot>>>,
    /// Held while subscriptions are made: a new one is not to be made anew meanwhile.
    making: tokio::sync::Mutex<()>,
}

struct Now {
    client: Client,
    is_dead: AtomicBool,
    /// What its forerunners counted.
    before: Arrived,
    connects: u64,
}

/// What has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Arrived {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Live {
    pub(super) fn new(client: Client) -> Self {
        Self {
            now: ArcSwap::from_pointee(Now {
                client,
                is_dead: AtomicBool::new(false),
                before: Arrived::default(),
                connects: 0,
            }),
            slots: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> Client {
        self.now.load().client.clone()
    }

    /// Does something with the client, if NATS can be reached.
    pub(super) fn if_up<T>(&self, f: impl FnOnce(&Client) -> T) -> Option<T> {
        let now = self.now.load();
        now.is_up().then(|| f(&now.client))
    }

    pub(super) fn is_up(&self) -> bool {
        self.now.load().is_up()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.now.load().epoch()
    }

    pub(super) fn arrived(&self) -> Arrived {
        self.now.load().arrived()
    }

    pub(super) fn look(&self) -> LinkState {
        let now = self.now.load();
        LinkState {
            up: now.is_up(),
            epoch: now.epoch(),
            since: time::Instant::now(),
        }
    }

    /// A subscription that nobody publishes to: it ends when the client dies.
    pub(super) async fn canary(&self, inbox: &str) -> Result<Subscriber, BusError> {
        canary(&self.client(), inbox).await
    }

    pub(super) fn has_died(&self) {
        self.now.load().is_dead.store(true, Ordering::Relaxed);
    }

    pub(super) async fn subscribe(
        &self,
        subject: Subject,
        queue: Option<&str>,
    ) -> Result<Subscription, BusError> {
        let _making = self.making.lock().await;
        let slot = Arc::new(Slot {
            subject,
            queue: queue.map(Into::into),
            next: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        let inner = slot.subscribe(&self.client()).await?;
        let mut slots = self.slots.lock();
        if slots.len() == slots.capacity() {
            slots.retain(|slot| slot.strong_count() > 0);
        }
        slots.push(Arc::downgrade(&slot));
        Ok(Subscription { inner, slot })
    }

    /// Goes on with this client. Answers its canary.
    pub(super) async fn revive(&self, client: Client, inbox: &str) -> Result<Subscriber, BusError> {
        let _making = self.making.lock().await;
        let canary = canary(&client, inbox).await?;
        let mut new = Vec::new();
        let slots: Vec<_> = self.slots.lock().iter().filter_map(Weak::upgrade).collect();
        for slot in slots {
            if !slot.has_ended.load(Ordering::Relaxed) {
                new.push((slot.subscribe(&client).await?, slot));
            }
        }
        let dead = self.now.load();
        self.now.store(Arc::new(Now {
            client,
            is_dead: AtomicBool::new(false),
            before: dead.arrived(),
            connects: dead.epoch(),
        }));
        for (subscriber, slot) in new {
            slot.go_on(subscriber);
        }
        Ok(canary)
    }
}

async fn canary(client: &Client, inbox: &str) -> Result<Subscriber, BusError> {
    let canary = client.subscribe(format!("{inbox}.c.canary")).await;
    canary.map_err(unavailable)
}

fn unavailable(error: SubscribeError) -> BusError {
    BusError::Unavailable(error.to_string())
}

impl Drop for Live {
    fn drop(&mut self) {
        for slot in self.slots.get_mut().drain(..) {
            if let Some(slot) = slot.upgrade() {
                slot.end();
            }
        }
    }
}

impl Now {
    fn is_up(&self) -> bool {
        let is_dead = self.is_dead.load(Ordering::Relaxed);
        !is_dead && self.client.connection_state() == State::Connected
    }

    fn epoch(&self) -> u64 {
        self.connects + self.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn arrived(&self) -> Arrived {
        let counted = self.client.statistics();
        Arrived {
            messages: self.before.messages + counted.in_messages.load(Ordering::Relaxed),
            bytes: self.before.bytes + counted.in_bytes.load(Ordering::Relaxed),
        }
    }
}

/// A subscription; it goes on when the client has died.
pub(crate) struct Subscription {
    inner: Subscriber,
    slot: Arc<Slot>,
}

struct Slot {
    subject: Subject,
    queue: Option<Box<str>>,
    next: Mutex<Next>,
    /// Nothing is to come after what is there.
    has_ended: AtomicBool,
}

/// What comes after a subscriber that has ended, and who waits for it.
#[derive(Default)]
struct Next {
    subscriber: Option<Subscriber>,
    waker: Option<Waker>,
}

impl Slot {
    async fn subscribe(&self, client: &Client) -> Result<Subscriber, BusError> {
        let subject = self.subject.clone();
        let subscribed = match &self.queue {
            Some(queue) => client.queue_subscribe(subject, queue.to_string()).await,
            None => client.subscribe(subject).await,
        };
        subscribed.map_err(unavailable)
    }

    fn go_on(&self, subscriber: Subscriber) {
        let mut next = self.next.lock();
        next.subscriber = Some(subscriber);
        if let Some(waker) = next.waker.take() {
            waker.wake();
        }
    }

    fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        if let Some(waker) = self.next.lock().waker.take() {
            waker.wake();
        }
    }
}

impl Subscription {
    /// Ends it after so many messages.
    pub(crate) async fn unsubscribe_after(
        &mut self,
        messages: u64,
    ) -> Result<(), UnsubscribeError> {
        self.slot.end();
        self.inner.unsubscribe_after(messages).await
    }
}

impl Stream for Subscription {
    type Item = Message;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            match self.inner.poll_next_unpin(cx) {
                Poll::Ready(None) => {}
                other => return other,
            }
            let next = {
                let mut next = self.slot.next.lock();
                if next.subscriber.is_none() && !self.slot.has_ended.load(Ordering::Relaxed) {
                    next.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                next.subscriber.take()
            };
            match next {
                Some(next) => self.inner = next,
                None => return Poll::Ready(None),
            }
        }
    }
}
