//! The handle.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_protocol::{Packet, RouteError, Topic};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::timeout;

use crate::builder::{Builder, Settings};
use crate::calls::Calls;
use crate::error::{Cause, Closed, Error};
use crate::frames::Frames;
use crate::pushes::Pushes;
use crate::task::{Link, Task};
use crate::transport::Transport;

/// A connection to a gate. Cheap to clone; the connection is closed when the last clone
/// is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    queue: mpsc::Sender<Packet>,
    closed: watch::Receiver<Option<Closed>>,
    /// Weak: the stream of pushes ends with the connection.
    pushes: broadcast::WeakSender<Packet>,
    /// Collects from the beginning, for the first to ask.
    first_pushes: Mutex<Option<broadcast::Receiver<Packet>>>,
    next_id: AtomicU64,
    request_timeout: Duration,
    frames: Frames,
    shared: Arc<Shared>,
}

/// What handle and task share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) calls: Calls,
    /// Asks the task to close.
    pub(crate) close: Notify,
    /// Whether a handle asked for it.
    closing: AtomicBool,
    pub(crate) counters: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) late_answers: AtomicU64,
    pub(crate) unread_pushes: AtomicU64,
}

/// What a connection has counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Packets handed to the socket, keepalives included.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
    /// Answers discarded, because their request had timed out or its caller had gone.
    pub late_answers: u64,
    /// Packets discarded, because every reader of [`Client::pushes`] was gone.
    pub unread_pushes: u64,
}

impl Client {
    /// Connects to `tcp://host:port`, `tls://host:port`, `ws://host[:port]/path` or
    /// `wss://host[:port]/path` with the default options.
    ///
    /// Must be called within a Tokio runtime with I/O and time enabled.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Options first; the address as for [`connect`](Self::connect).
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) fn start(transport: impl Transport, frames: Frames, settings: Settings) -> Self {
        let (queue, queued) = mpsc::channel(settings.send_queue);
        let (pushes, first_pushes) = broadcast::channel(settings.push_buffer);
        let (closed, closed_reader) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        let handle = Handle {
            queue,
            closed: closed_reader,
            pushes: pushes.downgrade(),
            first_pushes: Mutex::new(Some(first_pushes)),
            next_id: AtomicU64::new(1),
            request_timeout: settings.request_timeout,
            frames: frames.clone(),
            shared: shared.clone(),
        };
        let task = Task {
            link: Link::new(transport, frames),
            queue: queued,
            pushes,
            closed,
            shared,
            keepalive: settings.keepalive,
            error_topic: settings.error_topic,
            close_timeout: settings.close_timeout,
        };
        tokio::spawn(task.run());
        Self {
            handle: Arc::new(handle),
        }
    }

    /// Asks `service/method` and waits for the answer's body, up to
    /// [`Builder::request_timeout`]. Any number of requests may wait at once; answers may
    /// come in another order.
    ///
    /// Dropping the future gives the request up; it may have been sent already.
    ///
    /// # Errors
    ///
    /// [`InvalidMethod`](Error::InvalidMethod) and [`TooLarge`](Error::TooLarge) before
    /// anything is sent; [`NotServed`](Error::NotServed) where the gate tells errors
    /// ([`Builder::error_topic`]), else [`RequestTimeout`](Error::RequestTimeout) for those
    /// too, for the plain protocol has no word for them;
    /// [`Closed`](Error::Closed).
    pub async fn request(&self, method: &str, body: impl Into<Bytes>) -> Result<Bytes, Error> {
        let limit = self.handle.request_timeout;
        Ok(self.request_within(method, body, limit).await?.body)
    }

    /// Like [`request`](Self::request), with a time limit of its own, and the whole packet
    /// as the answer: its topic is `service/method/<request id>`.
    pub async fn request_within(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Packet, Error> {
        let handle = &*self.handle;
        let id = handle.next_id.fetch_add(1, Relaxed);
        let topic = Topic::try_from(format!("{method}/{id}"))?;
        // The method has two segments exactly if the topic's third is the id.
        if topic.route()?.request_id.is_none() {
            return Err(RouteError::Segments.into());
        }
        let packet = Packet::new(topic.clone(), body);
        handle.frames.fits(&packet)?;

        let Some(mut call) = handle.shared.calls.begin(topic) else {
            return Err(self.ended().await);
        };
        let answered = async {
            handle.queue.send(packet).await.ok()?;
            call.sent();
            call.answer().await
        };
        match timeout(limit, answered).await {
            Ok(Some(outcome)) => Ok(outcome?),
            Ok(None) => Err(self.ended().await),
            Err(_) => Err(Error::RequestTimeout(limit)),
        }
    }

    /// Sends a one-way packet under any topic; `service/method` is what the gate's router
    /// reads. Waits for room in the queue ([`Builder::send_queue`]); `Ok` means queued,
    /// not delivered. Cancel-safe: dropped before it is ready, nothing is sent.
    ///
    /// Topics that begin with `$` belong to the protocol itself; `$hello` would change the
    /// protocol under this client.
    ///
    /// # Errors
    ///
    /// [`InvalidTopic`](Error::InvalidTopic), [`TooLarge`](Error::TooLarge),
    /// [`Closed`](Error::Closed).
    pub async fn send(&self, topic: &str, body: impl Into<Bytes>) -> Result<(), Error> {
        let packet = Packet::new(Topic::new(topic)?, body);
        self.handle.frames.fits(&packet)?;
        match self.handle.queue.send(packet).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// A reader of the packets that answer no request. The first reader gets them from
    /// the connection's beginning, each further one from now on; each gets all of them.
    /// A reader that falls behind by more than [`Builder::push_buffer`] packets is told
    /// how many it missed.
    pub fn pushes(&self) -> Pushes {
        let first = self.handle.first_pushes.lock().take();
        Pushes {
            receiver: first.or_else(|| Some(self.handle.pushes.upgrade()?.subscribe())),
        }
    }

    /// Waits until the connection has ended, and tells how. Answers at once when it has.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.handle.closed.clone();
        match closed.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(closed)) => closed.clone(),
            _ => task_gone(),
        }
    }

    /// Sends what is queued, says goodbye, and waits until the connection has ended, at
    /// most for [`Builder::close_timeout`]. Answers that arrive meanwhile are still
    /// delivered. Other handles see the connection closed.
    pub async fn close(&self) -> Closed {
        self.handle.shared.closing.store(true, Relaxed);
        self.handle.shared.close.notify_one();
        self.closed().await
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.handle.shared.counters;
        Stats {
            sent: counters.sent.load(Relaxed),
            received: counters.received.load(Relaxed),
            late_answers: counters.late_answers.load(Relaxed),
            unread_pushes: counters.unread_pushes.load(Relaxed),
        }
    }

    async fn ended(&self) -> Error {
        let known = self.handle.closed.borrow().clone();
        Error::Closed(match known {
            Some(closed) => closed,
            // Closing was asked for and goes on: no need to wait for its end.
            None if self.handle.shared.closing.load(Relaxed) => Closed::by_client(),
            // The reason is about to be told.
            None => self.closed().await,
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close.notify_one();
    }
}

/// The runtime was shut down under the connection.
fn task_gone() -> Closed {
    Closed::new(Cause::Lost, "the connection's task was stopped")
}
