//! One connection to NATS, and what is known about its state.
//!
//! The client accepts messages while it is disconnected and sends them after it has
//! reconnected, however late that is. So nothing is handed to it while it is down, and what
//! had been handed to it when the connection was lost counts as of unknown outcome.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::client::traits::Publisher as _;
use async_nats::message::OutboundMessage;
use async_nats::{Client, ConnectErrorKind, Event, HeaderMap, ServerError, Subject};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use thiserror::Error;
use tidegate::bus::BusError;
use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinHandle};
use tokio::time::{self, MissedTickBehavior};

use crate::counters::{Counters, LogLimit};
use crate::options::{Credentials, NatsOptions, OptionsError, read_auth};

mod lives;

use lives::Lives;
pub(crate) use lives::Subscriber;

/// How often the server is pinged: one that says nothing for three of these is gone.
const PING: Duration = Duration::from_secs(1);
/// Longest pause between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(1);
/// For how long after a reconnect others may still be missing.
const BACK: Duration = Duration::from_secs(3);
/// How often the client's state is looked at, beside the news it gives: those can be lost.
const LOOK: Duration = Duration::from_millis(100);

/// See the module. Cheap to clone; the connection ends with the last one.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    lives: Arc<Lives>,
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
        let news = Arc::new(Notify::new());
        let until = options.wait.map(|wait| time::Instant::now() + wait);
        let mut attempts = 0;
        let client = loop {
            attempts += 1;
            match connect(options, &counters, &news).await {
                Ok(client) => break client,
                Err(error) => {
                    let pause = pause(attempts);
                    let in_time = until.is_some_and(|until| time::Instant::now() + pause < until);
                    if !in_time || !error.is_worth_waiting() {
                        return Err(error);
                    }
                    tracing::info!(%error, "waiting for NATS");
                    time::sleep(pause).await;
                }
            }
        };
        if !client.server_info().headers {
            return Err(ConnectError::Server("it has no headers"));
        }
        let lives = Arc::new(Lives::new(client));
        let inbox = format!("{}.{}", options.inbox(), nonce());
        let (state, changes) = watch::channel(look(&lives));
        let watcher = Watcher {
            end: lives.until_end(&inbox).await?,
            lives: lives.clone(),
            inbox: inbox.clone(),
            options: options.clone(),
            news,
            state,
            counters,
        };
        let watcher = task::spawn(watcher.run());
        Ok(Self(Arc::new(Inner {
            lives,
            inbox: inbox.into(),
            fences: AtomicU64::new(0),
            ask_timeout: options.ask_timeout,
            state: changes,
            watcher,
        })))
    }

    /// The client itself: for what is asked of NATS (JetStream), never for publishing.
    /// It may be another one later: a link outlives its client.
    pub(crate) fn client(&self) -> Client {
        Client::clone(&self.0.lives.client())
    }

    /// Where this connection's replies arrive: `<inbox>.` and one token.
    pub(crate) fn inbox(&self) -> &str {
        &self.0.inbox
    }

    /// Whether NATS can be reached now.
    pub(crate) fn is_up(&self) -> bool {
        self.0.lives.is_up()
    }

    /// Which connection it is.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.lives.epoch()
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
        if !self.is_up() {
            return Err(NotSent::Down);
        }
        let client = self.0.lives.client();
        let sent = client.publish_message(OutboundMessage {
            subject,
            reply,
            payload,
            headers,
        });
        // A task that has done much in its turn would be told to wait though there is room.
        match task::unconstrained(sent).now_or_never() {
            Some(sent) => sent.map_err(|e| not_sent(e.kind())),
            None => Err(NotSent::Full),
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
        self.while_up(self.client().publish_message(message))
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
    /// come back. After a reconnect the client subscribes again by itself.
    pub(crate) async fn subscribe(
        &self,
        subject: Subject,
        queue: Option<&str>,
    ) -> Result<Subscriber, BusError> {
        self.while_up(self.0.lives.subscribe(subject, queue))
            .await
            .map_err(|e| BusError::Unavailable(e.to_string()))?
            .map_err(|e| BusError::Unavailable(e.to_string()))
    }

    /// Comes back when the server has taken in all that was handed over before.
    pub(crate) async fn fence(&self) -> Result<(), BusError> {
        time::timeout(self.0.ask_timeout, self.echo())
            .await
            .map_err(|_| BusError::Unavailable("NATS does not answer".to_owned()))?
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

fn look(lives: &Lives) -> LinkState {
    LinkState {
        up: lives.is_up(),
        epoch: lives.epoch(),
        since: time::Instant::now(),
    }
}

/// One attempt.
async fn connect(
    options: &NatsOptions,
    counters: &Arc<Counters>,
    news: &Arc<Notify>,
) -> Result<Client, ConnectError> {
    let client = client_options(options, counters.clone(), news.clone());
    let client = client.connect(options.addresses()?).await;
    client.map_err(|error| ConnectError::of(&error))
}

/// Tells the state to who waits for its changes, and makes another client where one has ended.
struct Watcher {
    lives: Arc<Lives>,
    /// Ends with the client.
    end: async_nats::Subscriber,
    inbox: String,
    options: NatsOptions,
    news: Arc<Notify>,
    state: watch::Sender<LinkState>,
    counters: Arc<Counters>,
}

impl Watcher {
    async fn run(mut self) {
        let mut counted = 0;
        let mut tick = time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                _ = tick.tick() => {}
                None = self.end.next() => {
                    self.lives.died();
                    self.tell(&mut counted);
                    self.go_on().await;
                }
            }
            self.tell(&mut counted);
        }
    }

    fn tell(&self, counted: &mut u64) {
        // Lost connections: each but the last, and the last where it is down.
        let lost = |state: LinkState| state.epoch.saturating_sub(1) + u64::from(!state.up);
        let now = look(&self.lives);
        let before = *self.state.borrow();
        if (now.up, now.epoch) == (before.up, before.epoch) {
            return;
        }
        let more = lost(now).saturating_sub(*counted);
        *counted += more;
        self.counters.disconnects.fetch_add(more, Ordering::Relaxed);
        self.state.send_replace(now);
        match now.up {
            true => tracing::info!(connection = now.epoch, "NATS can be reached"),
            false => tracing::warn!("the connection to NATS was lost"),
        }
    }

    /// Makes another client.
    async fn go_on(&mut self) {
        let mut attempts = 0;
        loop {
            attempts += 1;
            if attempts == 1 {
                tracing::error!("the client of NATS has failed at a message; making another");
            }
            match connect(&self.options, &self.counters, &self.news).await {
                Ok(client) => {
                    self.lives.go_on(client).await;
                    if let Ok(end) = self.lives.until_end(&self.inbox).await {
                        self.end = end;
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "no connection to NATS"),
            }
            time::sleep(pause(attempts)).await;
        }
    }
}

/// Lines a second about what the server refuses.
const LINES: u32 = 1;

fn client_options(
    options: &NatsOptions,
    counters: Arc<Counters>,
    news: Arc<Notify>,
) -> async_nats::ConnectOptions {
    let auth = options.auth.clone();
    let client = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let auth = auth.clone();
        async move {
            // Files are read: not on a thread that serves connections.
            task::spawn_blocking(move || sign(&auth, &nonce))
                .await
                .map_err(async_nats::AuthError::new)?
        }
    });
    let lines = LogLimit::new(LINES);
    let events = move |event: Event| {
        match event {
            Event::Connected | Event::Disconnected | Event::Closed => news.notify_one(),
            Event::SlowConsumer(subscription) => {
                counters.overflowed.fetch_add(1, Ordering::Relaxed);
                if let Some(unlogged) = lines.admit() {
                    tracing::warn!(
                        subscription,
                        unlogged,
                        "a message from NATS was dropped: too many wait to be read"
                    );
                }
            }
            Event::ServerError(error) => {
                if is_violation(&error) {
                    counters.forbidden.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(unlogged) = lines.admit() {
                    tracing::warn!(%error, unlogged, "NATS refused something");
                }
            }
            Event::LameDuckMode => tracing::info!("a server of NATS is about to stop"),
            Event::ClientError(error) => tracing::warn!(%error, "NATS client failed"),
            Event::Draining => {}
        }
        std::future::ready(())
    };
    let tls = &options.tls;
    let mut client = client
        .name(options.name.clone())
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.ask_timeout))
        .ping_interval(PING)
        .client_capacity(options.outbound)
        .subscription_capacity(options.inbound)
        .custom_inbox_prefix(options.inbox())
        .reconnect_delay_callback(|attempts| match attempts {
            // The first attempt after a loss.
            0 | 1 => Duration::from_millis(rand::random_range(0..=50)),
            more => pause(more),
        })
        .require_tls(tls.required || tls.first)
        .event_callback(events);
    if tls.first {
        client = client.tls_first();
    }
    if let Some(ca) = &tls.ca {
        client = client.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        client = client.add_client_certificate(cert.clone(), key.clone());
    }
    client
}

/// The server tells it only as text; a miscount is no worse than a wrong line in a log.
fn is_violation(error: &ServerError) -> bool {
    matches!(error, ServerError::Other(text) if text.starts_with("Permissions Violation"))
        || *error == ServerError::AuthorizationViolation
}

fn sign(
    auth: &crate::options::Auth,
    nonce: &[u8],
) -> Result<async_nats::Auth, async_nats::AuthError> {
    let mut told = async_nats::Auth::new();
    match read_auth(auth).map_err(async_nats::AuthError::new)? {
        Credentials::None => {}
        Credentials::UserPassword(user, password) => {
            told.username = Some(user);
            told.password = Some(password);
        }
        Credentials::Token(token) => told.token = Some(token),
        Credentials::Key { key, jwt } => {
            told.signature = Some(key.sign(nonce).map_err(async_nats::AuthError::new)?);
            match jwt {
                Some(jwt) => told.jwt = Some(jwt),
                None => told.nkey = Some(key.public_key()),
            }
        }
    }
    Ok(told)
}

/// Why there is no connection to NATS.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No server can be reached, or none answered in time.
    #[error("no NATS server can be reached: {0}")]
    Unreachable(String),
    /// The credentials are refused.
    #[error("NATS refuses the credentials")]
    Refused,
    /// TLS failed.
    #[error("TLS to NATS failed: {0}")]
    Tls(String),
    /// A server that cannot be used.
    #[error("the NATS server cannot be used: {0}")]
    Server(&'static str),
    /// NATS was reached and does not do what is needed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl ConnectError {
    fn of(error: &async_nats::ConnectError) -> Self {
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                Self::Refused
            }
            ConnectErrorKind::Tls => Self::Tls(error.to_string()),
            _ => Self::Unreachable(error.to_string()),
        }
    }

    /// Whether it may be another time: options do not change by themselves.
    fn is_worth_waiting(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

#[cfg(test)]
mod tests;
