//! One connection to NATS, and what is known about its state.
//!
//! The client accepts messages while it is disconnected and sends them after it has
//! reconnected, however late that is. So nothing is handed to it while it is down, and what
//! had been handed to it when the connection was lost counts as of unknown outcome.
//!
//! Anybody who may publish can make the client die with one message (see [`live`]): it is made
//! anew, and to everybody else that is a connection that was lost.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{Client, HeaderMap, Subject, Subscriber};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use thiserror::Error;
use tidegate::bus::BusError;
use tokio::sync::watch;
use tokio::task::{self, JoinHandle};
use tokio::time::{self, MissedTickBehavior};

use crate::counters::Counters;
use crate::options::NatsOptions;

mod live;
mod maker;

use live::Live;
pub(crate) use live::{Arrived, Subscription};
pub use maker::ConnectError;
use maker::Maker;

/// How often the server is pinged: one that says nothing for three of these is gone.
const PING: Duration = Duration::from_secs(1);
/// Longest pause between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);
/// For how long after a reconnect others may still be missing.
const BACK: Duration = Duration::from_secs(3);
/// After a new connection, for the server to notice that the old ones of others are dead: they
/// close them when they have new ones, and try that once in a second.
const SETTLE: Duration = Duration::from_secs(2);
/// How often the client's state is looked at, beside the news it gives: those can be lost.
const LOOK: Duration = Duration::from_millis(100);

/// See the module. Cheap to clone; the connection ends with the last one.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    live: Arc<Live>,
    /// Of this connection alone: replies to another cannot arrive here.
    inbox: Box<str>,
    fences: AtomicU64,
    ask_timeout: Duration,
    state: watch::Receiver<LinkState>,
    watcher: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Whether a connection is up, and which it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkState {
    /// NATS can be reached.
    pub(crate) up: bool,
    /// Counts the connections: what was sent in one is lost, or not, in the next.
    pub(crate) epoch: u64,
    /// Since when it is so.
    since: time::Instant,
}

impl LinkState {
    /// For how long the server, which was away, may not have noticed yet whose connections
    /// are dead: it hands them messages, and they are lost.
    pub(crate) fn settling(&self) -> Duration {
        match self.epoch > 1 {
            true => SETTLE.saturating_sub(self.since.elapsed()),
            false => Duration::ZERO,
        }
    }
}

/// Why a message was not sent. Nothing of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NotSent {
    /// NATS cannot be reached.
    #[error("NATS cannot be reached")]
    Down,
    /// Too much waits to be written.
    #[error("too much waits to be sent to NATS")]
    Full,
    /// Larger than the server takes.
    #[error("the message is larger than NATS takes")]
    TooLarge,
    /// Not a subject.
    #[error("the subject is none")]
    Subject,
}

impl Link {
    /// Connects; the connection is served by the runtime that this is called on.
    pub(crate) async fn connect(
        options: &NatsOptions,
        counters: Arc<Counters>,
    ) -> Result<Self, ConnectError> {
        let maker = Maker::new(options.clone(), counters)?;
        let until = options.wait.map(|wait| time::Instant::now() + wait);
        let mut attempts = 0;
        let client = loop {
            attempts += 1;
            match maker.connect().await {
                Ok(client) => break client,
                Err(error) => {
                    let pause = pause(attempts);
                    let in_time = until.is_some_and(|until| time::Instant::now() + pause < until);
                    if !in_time || !error.is_worth_waiting() {
                        return Err(error);
                    }
                    let servers = options.servers.join(", ");
                    tracing::info!(servers, %error, "waiting for NATS");
                    time::sleep(pause).await;
                }
            }
        };
        let inbox = format!("{}.{}", options.inbox(), nonce());
        let live = Arc::new(Live::new(client));
        let canary = live.canary(&inbox).await?;
        let (state, changes) = watch::channel(live.look());
        let watcher = Watcher {
            live: live.clone(),
            maker,
            inbox: inbox.clone(),
            state,
            counted: 0,
        };
        Ok(Self(Arc::new(Inner {
            live,
            inbox: inbox.into(),
            fences: AtomicU64::new(0),
            ask_timeout: options.ask_timeout,
            state: changes,
            watcher: task::spawn(watcher.run(canary)),
        })))
    }

    /// The client itself: for what is asked of NATS (JetStream), never for publishing. It may
    /// die: there is another then, in the next epoch.
    pub(crate) fn client(&self) -> Client {
        self.0.live.client()
    }

    /// The largest message that the server takes.
    pub(crate) fn max_payload(&self) -> usize {
        self.client().max_payload()
    }

    /// Messages and bytes that have arrived over it.
    pub(crate) fn arrived(&self) -> Arrived {
        self.0.live.arrived()
    }

    /// Where this connection's replies arrive: `<inbox>.` and one token.
    pub(crate) fn inbox(&self) -> &str {
        &self.0.inbox
    }

    /// Whether NATS can be reached now.
    pub(crate) fn is_up(&self) -> bool {
        self.0.live.is_up()
    }

    /// Whether the server has others beside it.
    pub(crate) fn is_clustered(&self) -> bool {
        self.0.live.client().server_info().cluster.is_some()
    }

    /// Which connection it is.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.live.epoch()
    }

    /// Whether there is a connection again, since a moment ago: others that had lost theirs
    /// may not be back yet.
    pub(crate) fn is_back_lately(&self) -> bool {
        let epoch = self.epoch();
        let state = *self.0.state.borrow();
        epoch > 1 && (state.epoch != epoch || state.since.elapsed() < BACK)
    }

    /// Told when the connection was lost, and when there is one again.
    pub(crate) fn changes(&self) -> watch::Receiver<LinkState> {
        self.0.state.clone()
    }

    /// Hands a message over to be sent. Never blocks, and never keeps one for later.
    pub(crate) fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), NotSent> {
        let message = OutboundMessage {
            subject,
            reply,
            payload,
            headers,
        };
        // A task that has done much in its turn would be told to wait though there is room.
        let sent = self
            .0
            .live
            .if_up(|client| task::unconstrained(client.publish_message(message)).now_or_never());
        match sent {
            Some(Some(sent)) => sent.map_err(|e| not_sent(e.kind())),
            Some(None) => Err(NotSent::Full),
            None => Err(NotSent::Down),
        }
    }

    /// Like [`publish`](Self::publish), but waits for room. Never on a client's path.
    pub(crate) async fn publish_wait(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), NotSent> {
        if !self.is_up() {
            return Err(NotSent::Down);
        }
        let message = OutboundMessage {
            subject,
            reply,
            payload,
            headers,
        };
        let client = self.client();
        self.while_up(client.publish_message(message))
            .await?
            .map_err(|e| not_sent(e.kind()))
    }

    /// Awaits `future`, unless the connection is lost meanwhile.
    async fn while_up<T>(&self, future: impl Future<Output = T>) -> Result<T, NotSent> {
        let mut changes = self.changes();
        tokio::select! {
            biased;
            done = future => Ok(done),
            // The sender lives as long as the watcher.
            _ = changes.wait_for(|state| !state.up) => Err(NotSent::Down),
        }
    }

    /// Subscribes. The server knows of it once a [`fence`](Self::fence) that follows has
    /// come back. After a reconnect it is subscribed again by itself.
    pub(crate) async fn subscribe(
        &self,
        subject: Subject,
        queue: Option<&str>,
    ) -> Result<Subscription, BusError> {
        self.while_up(self.0.live.subscribe(subject, queue))
            .await
            .map_err(|e| BusError::Unavailable(e.to_string()))?
    }

    /// Comes back when the server has taken in all that was handed over before.
    pub(crate) async fn fence(&self) -> Result<(), BusError> {
        time::timeout(self.0.ask_timeout, self.echo())
            .await
            .map_err(|_| BusError::Unavailable("NATS does not answer".to_owned()))?
    }

    /// Like [`fence`](Self::fence), for who is about to end: does not wait for a connection
    /// that is lost. Nothing comes of that one any more.
    pub(crate) async fn last_fence(&self) {
        let _ = self.while_up(self.fence()).await;
    }

    /// Sends a message to itself, again where the connection was lost meanwhile.
    async fn echo(&self) -> Result<(), BusError> {
        let number = self.0.fences.fetch_add(1, Ordering::Relaxed);
        let subject = Subject::from(format!("{}.f.{number}", self.0.inbox));
        let mut changes = self.changes();
        changes
            .wait_for(|state| state.up)
            .await
            .map_err(|e| BusError::Unavailable(e.to_string()))?;
        let mut echo = self.subscribe(subject.clone(), None).await?;
        loop {
            let up = *changes.borrow_and_update();
            if up.up {
                // A failure is one of the connection, too.
                let _ = self
                    .publish_wait(subject.clone(), None, None, Bytes::new())
                    .await;
            }
            tokio::select! {
                message = echo.next() => match message {
                    Some(_) => return Ok(()),
                    None => return Err(BusError::Unavailable("the client is closed".to_owned())),
                },
                changed = changes.changed() => {
                    changed.map_err(|e| BusError::Unavailable(e.to_string()))?;
                }
            }
        }
    }
}

fn not_sent(kind: PublishErrorKind) -> NotSent {
    match kind {
        PublishErrorKind::MaxPayloadExceeded => NotSent::TooLarge,
        PublishErrorKind::InvalidSubject => NotSent::Subject,
        PublishErrorKind::Send => NotSent::Down,
    }
}

/// 96 random bits as one token.
fn nonce() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 12]>())
}

/// How long to wait before an attempt to connect: longer each time, up to a bound, and not
/// the same for all the gates that lost the same server.
fn pause(attempts: usize) -> Duration {
    let most = Duration::from_millis(10 << attempts.min(7)).min(RECONNECT);
    most.mul_f64(rand::random_range(0.5..=1.0))
}

/// Tells the state to who waits for its changes, and makes the client anew where it died.
struct Watcher {
    live: Arc<Live>,
    maker: Maker,
    inbox: String,
    state: watch::Sender<LinkState>,
    /// Lost connections that are counted.
    counted: u64,
}

impl Watcher {
    async fn run(mut self, mut canary: Subscriber) {
        let mut tick = time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.maker.news.notified() => {}
                _ = tick.tick() => {}
                message = canary.next() => if message.is_none() {
                    tracing::error!("the NATS client has died of a message; making a new one");
                    self.live.has_died();
                    self.look();
                    canary = self.revive().await;
                },
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let now = self.live.look();
        let before = *self.state.borrow();
        if (now.up, now.epoch) == (before.up, before.epoch) {
            return;
        }
        // Each but the last, and the last where it is down.
        let lost = now.epoch.saturating_sub(1) + u64::from(!now.up);
        let more = lost.saturating_sub(self.counted);
        self.counted += more;
        let disconnects = &self.maker.counters.disconnects;
        disconnects.fetch_add(more, Ordering::Relaxed);
        self.state.send_replace(now);
        match now.up {
            true => tracing::info!(connection = now.epoch, "NATS can be reached"),
            false => tracing::warn!("the connection to NATS was lost"),
        }
    }

    async fn revive(&self) -> Subscriber {
        for attempts in 1.. {
            time::sleep(pause(attempts)).await;
            let revived = async {
                let client = self.maker.connect().await?;
                Ok::<_, ConnectError>(self.live.revive(client, &self.inbox).await?)
            };
            match revived.await {
                Ok(canary) => return canary,
                Err(error) => tracing::warn!(%error, "NATS cannot be reached by a new client"),
            }
        }
        unreachable!("there is no last attempt")
    }
}

#[cfg(test)]
mod tests;
