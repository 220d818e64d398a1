//! A link outlives its client.
//!
//! The client's task ends for good at a message that it cannot make sense of, a carriage
//! return within a header for one, and servers pass such messages on: whoever may publish to
//! a gate could stop it. So the link makes another client then, as after any lost connection,
//! and subscribes to all that was subscribed to.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use async_nats::connection::State;
use async_nats::{Client, Message, Subject, SubscribeError};
use futures_util::{Stream, StreamExt as _};
use tidegate::bus::BusError;
use tokio::sync::{Mutex, mpsc};

/// A link's client, and all that it is subscribed to.
pub(super) struct Lives {
    client: ArcSwap<Client>,
    /// The client is no more, whatever it says itself.
    dead: AtomicBool,
    /// Locked for as long as it takes to hand commands to the client, so that no subscription
    /// is made with one that goes.
    subscribed: Mutex<Vec<Subscribed>>,
}

struct Subscribed {
    subject: Subject,
    queue: Option<Box<str>>,
    again: mpsc::UnboundedSender<async_nats::Subscriber>,
}

impl Lives {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client: ArcSwap::from_pointee(client),
            dead: AtomicBool::new(false),
            subscribed: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> arc_swap::Guard<Arc<Client>> {
        self.client.load()
    }

    pub(super) fn is_up(&self) -> bool {
        let dead = self.dead.load(Ordering::Relaxed);
        !dead && self.client.load().connection_state() == State::Connected
    }

    pub(super) fn epoch(&self) -> u64 {
        let statistics = self.client.load().statistics();
        statistics.connects.load(Ordering::Relaxed)
    }

    pub(super) fn died(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(super) async fn subscribe(
        &self,
        subject: Subject,
        queue: Option<&str>,
    ) -> Result<Subscriber, SubscribeError> {
        let mut all = self.subscribed.lock().await;
        let client = Client::clone(&self.client.load());
        let current = subscribe(&client, subject.clone(), queue).await?;
        let (again, lives) = mpsc::unbounded_channel();
        all.retain(|other| !other.again.is_closed());
        all.push(Subscribed {
            subject,
            queue: queue.map(Into::into),
            again,
        });
        Ok(Subscriber { current, lives })
    }

    /// A subscription to nothing, which ends with the client.
    pub(super) async fn until_end(&self, inbox: &str) -> Result<async_nats::Subscriber, BusError> {
        let client = Client::clone(&self.client.load());
        let nothing = Subject::from(format!("{inbox}.end.client"));
        let end = client.subscribe(nothing).await;
        end.map_err(|e| BusError::Unavailable(e.to_string()))
    }

    /// Goes on with another client.
    pub(super) async fn go_on(&self, client: Client) {
        // What is counted goes on, too: connections, and what came.
        let (was, is) = (self.client.load().statistics(), client.statistics());
        for (from, to) in [
            (&was.connects, &is.connects),
            (&was.in_messages, &is.in_messages),
            (&was.in_bytes, &is.in_bytes),
            (&was.out_messages, &is.out_messages),
            (&was.out_bytes, &is.out_bytes),
        ] {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let mut all = self.subscribed.lock().await;
        all.retain(|one| !one.again.is_closed());
        for one in all.iter() {
            // One that fails fails because this client is dead already: so it is found out.
            let queue = one.queue.as_deref();
            if let Ok(current) = subscribe(&client, one.subject.clone(), queue).await {
                let _ = one.again.send(current);
            }
        }
        // Last: what is published comes after the subscriptions.
        self.client.store(Arc::new(client));
        self.dead.store(false, Ordering::Relaxed);
    }
}

async fn subscribe(
    client: &Client,
    subject: Subject,
    queue: Option<&str>,
) -> Result<async_nats::Subscriber, SubscribeError> {
    match queue {
        Some(queue) => client.queue_subscribe(subject, queue.to_owned()).await,
        None => client.subscribe(subject).await,
    }
}

/// What comes for a subscription, whichever client takes it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    current: async_nats::Subscriber,
    lives: mpsc::UnboundedReceiver<async_nats::Subscriber>,
}

impl Subscriber {
    /// As the client's.
    pub(crate) async fn unsubscribe(&mut self) -> Result<(), async_nats::UnsubscribeError> {
        self.lives.close();
        self.current.unsubscribe().await
    }

    /// As the client's.
    pub(crate) async fn unsubscribe_after(
        &mut self,
        messages: u64,
    ) -> Result<(), async_nats::UnsubscribeError> {
        self.lives.close();
        self.current.unsubscribe_after(messages).await
    }
}

impl Stream for Subscriber {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = ready!(self.current.poll_next_unpin(cx)) {
                return Poll::Ready(Some(message));
            }
            match ready!(self.lives.poll_recv(cx)) {
                Some(next) => self.current = next,
                None => return Poll::Ready(None),
            }
        }
    }
}
