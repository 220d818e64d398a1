//! The handle.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::{Packet, RouteError, Topic};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::builder::{Builder, Settings};
use crate::calls::Call;
use crate::dial::Dialer;
use crate::error::{Cause, Closed, Error};
use crate::extended::{self, First};
use crate::frames::Frames;
use crate::options::Options;
use crate::outbox::{NotQueued, Outbox, Outgoing};
use crate::pushes::Pushes;
use crate::shared::{Shared, Stats};
use crate::states::{Events, Opened, State, States};
use crate::task::{Link, Task};
use crate::transport::Transport;

/// A client of a gate. Cheap to clone; it ends, and its connection is closed, when the last
/// clone is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    way: Way,
    closed: watch::Receiver<Option<Closed>>,
    next_id: AtomicU64,
    request_timeout: Duration,
    shared: Arc<Shared>,
}

/// The way of packets to the task.
#[derive(Debug)]
enum Way {
    V1(mpsc::Sender<Packet>),
    /// By [`Shared::outbox`].
    Extended,
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

    /// A client of version 1, on its connection.
    pub(crate) fn start(transport: impl Transport, frames: Frames, settings: Settings) -> Self {
        let (queue, queued) = mpsc::channel(settings.send_queue);
        let (closed, closed_reader) = watch::channel(None);
        let shared = Shared::new(&settings, frames.clone(), Options::default().bounds);
        shared.happenings.set(State::Open(Opened::default()));
        let task = Task {
            link: Link::new(transport, frames),
            queue: queued,
            closed,
            shared: shared.clone(),
            keepalive: settings.keepalive,
            error_topic: settings.error_topic,
            close_timeout: settings.close_timeout,
        };
        tokio::spawn(task.run());
        let way = Way::V1(queue);
        Self::of(way, closed_reader, shared, settings.request_timeout)
    }

    /// A client of the extended protocol, that connects. With `first` the first attempt is
    /// the only one until there was a connection, and what comes of it is told there.
    pub(crate) fn extended(dialer: Dialer, options: Options, first: Option<First>) -> Self {
        let (closed, closed_reader) = watch::channel(None);
        let settings = &dialer.plan.settings;
        let request_timeout = settings.request_timeout;
        let shared = Shared::new(settings, dialer.plan.frames.clone(), options.bounds);
        let task = extended::Task::new(dialer, options, shared.clone(), closed);
        tokio::spawn(task.run(first));
        Self::of(Way::Extended, closed_reader, shared, request_timeout)
    }

    fn of(
        way: Way,
        closed: watch::Receiver<Option<Closed>>,
        shared: Arc<Shared>,
        request_timeout: Duration,
    ) -> Self {
        let handle = Handle {
            way,
            closed,
            next_id: AtomicU64::new(1),
            request_timeout,
            shared,
        };
        Self {
            handle: Arc::new(handle),
        }
    }

    /// Asks `service/method` and waits for the answer's body, up to
    /// [`Builder::request_timeout`]. Any number of requests may wait at once; answers may
    /// come in another order.
    ///
    /// With the extended protocol a request outlives its connection: its answer comes when
    /// the session has been resumed. Dropping the future gives the request up; it may have
    /// been sent already.
    ///
    /// # Errors
    ///
    /// [`InvalidMethod`](Error::InvalidMethod), [`TooLarge`](Error::TooLarge) and
    /// [`QueueFull`](Error::QueueFull) before anything is sent;
    /// [`NotServed`](Error::NotServed) if the gate says so, which with version 1 it does only
    /// where [`Builder::error_topic`] is set; [`RequestTimeout`](Error::RequestTimeout);
    /// [`NotSent`](Error::NotSent) if there was no connection for so long;
    /// [`OutcomeUnknown`](Error::OutcomeUnknown) if the session was lost;
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
        let id = self.handle.next_id.fetch_add(1, Relaxed);
        let topic = Topic::try_from(format!("{method}/{id}"))?;
        self.ask(Packet::new(topic, body), limit).await
    }

    /// Like [`request_within`](Self::request_within), under a topic with a request id of the
    /// caller's: `service/method/id`. Of two requests under one topic the first gets the
    /// answer that comes first; errors of the extended protocol find the one they are about.
    pub async fn request_under(
        &self,
        topic: &str,
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Packet, Error> {
        self.ask(Packet::try_new(topic, body)?, limit).await
    }

    async fn ask(&self, packet: Packet, limit: Duration) -> Result<Packet, Error> {
        let handle = &*self.handle;
        let shared = &handle.shared;
        // Two segments before the id.
        if packet.topic.route()?.request_id.is_none() {
            return Err(RouteError::Segments.into());
        }
        shared.fits(&packet)?;
        let Some(call) = shared.calls.begin(packet.topic.clone()) else {
            return Err(self.ended().await);
        };
        let mut asking = Asking { call, outbox: None };
        let answered = async {
            match &handle.way {
                Way::V1(queue) => {
                    if queue.send(packet).await.is_err() {
                        return Ok(None);
                    }
                    asking.call.sent();
                }
                Way::Extended => {
                    let outgoing = Outgoing {
                        packet,
                        call: Some(asking.call.id()),
                    };
                    match shared.outbox.push(outgoing).await {
                        Ok(()) => asking.outbox = Some(&shared.outbox),
                        Err(NotQueued::Full(full)) => return Err(full.into()),
                        Err(NotQueued::Closed) => return Ok(None),
                    }
                }
            }
            Ok::<_, Error>(asking.call.answer().await)
        };
        let answered = timeout(limit, answered).await;
        let Ok(outcome) = answered else {
            let extended = matches!(handle.way, Way::Extended);
            let not_sent = extended && (asking.outbox.is_none() || asking.withdraw());
            return Err(match not_sent {
                true => Error::NotSent(limit),
                false => Error::RequestTimeout(limit),
            });
        };
        asking.outbox = None;
        match outcome? {
            Some(outcome) => outcome,
            None => Err(self.ended().await),
        }
    }

    /// Sends a one-way packet under any topic; `service/method` is what the gate's router
    /// reads. `Ok` means queued, not delivered. While there is a connection this waits for
    /// room in the queue ([`Builder::max_queued`]; with version 1 [`Builder::send_queue`]).
    /// Cancel-safe: dropped before it is ready, nothing is sent.
    ///
    /// Topics that begin with `$` belong to the protocol itself. They are refused; with
    /// version 1 the gate does that.
    ///
    /// # Errors
    ///
    /// [`InvalidTopic`](Error::InvalidTopic), [`InvalidMethod`](Error::InvalidMethod) for a
    /// reserved topic, [`TooLarge`](Error::TooLarge),
    /// [`QueueFull`](Error::QueueFull) where there is no connection,
    /// [`Closed`](Error::Closed).
    pub async fn send(&self, topic: &str, body: impl Into<Bytes>) -> Result<(), Error> {
        let packet = Packet::try_new(topic, body)?;
        let handle = &*self.handle;
        handle.shared.fits(&packet)?;
        let queued = match &handle.way {
            Way::V1(queue) => queue.send(packet).await.map_err(|_| NotQueued::Closed),
            Way::Extended if packet.topic.is_reserved() => {
                return Err(RouteError::Reserved.into());
            }
            Way::Extended => {
                let outgoing = Outgoing { packet, call: None };
                handle.shared.outbox.push(outgoing).await
            }
        };
        match queued {
            Ok(()) => Ok(()),
            Err(NotQueued::Full(full)) => Err(full.into()),
            Err(NotQueued::Closed) => Err(self.ended().await),
        }
    }

    /// A reader of the packets that answer no request. The first reader gets them from
    /// the client's beginning, each further one from now on; each gets all of them.
    /// A reader that falls behind by more than [`Builder::push_buffer`] packets is told
    /// how many it missed.
    pub fn pushes(&self) -> Pushes {
        self.handle.shared.readers.all()
    }

    /// A reader of the packets under one topic, or, if `topic` ends with `/`, under every
    /// topic that begins so. From now on; beside [`pushes`](Self::pushes), which get them
    /// too. A reader that falls behind is told how many of its packets it missed.
    pub fn subscribe(&self, topic: &str) -> Pushes {
        self.handle.shared.readers.some(topic)
    }

    /// How the client stands with its gate. With version 1 that is open, with nothing known
    /// of the session, until it is closed.
    pub fn state(&self) -> State {
        self.handle.shared.happenings.state()
    }

    /// A reader of the client's states: the one there is, then each change.
    pub fn states(&self) -> States {
        self.handle.shared.happenings.states()
    }

    /// A reader of what concerns no request: gaps, one-way packets that were not served or
    /// were lost with their session, a gate that is going to close. From now on; version 1
    /// tells none.
    pub fn events(&self) -> Events {
        self.handle.shared.happenings.events()
    }

    /// Waits until the client has ended, and tells how. Answers at once when it has. A
    /// connection that is lost and made again is no end.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.handle.closed.clone();
        match closed.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(closed)) => closed.clone(),
            _ => task_gone(),
        }
    }

    /// Sends what is queued, says goodbye, and waits until the connection has ended, at
    /// most for [`Builder::close_timeout`]. The session ends with that. Where there is no
    /// connection, none is made for it, and what is queued is not sent
    /// ([`Closed::unsent`]). Other handles see the client closed.
    pub async fn close(&self) -> Closed {
        self.handle.shared.closing.store(true, Relaxed);
        self.handle.shared.close.notify_one();
        self.closed().await
    }

    /// Gives the connection up as if the network had lost it; the client connects again as it
    /// does then. To see how that goes, or where the caller knows that the network has
    /// changed. Without effect where there is no connection, and with version 1.
    pub fn cut(&self) {
        if matches!(self.handle.way, Way::Extended) && matches!(self.state(), State::Open(_)) {
            self.handle.shared.cut.notify_one();
        }
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        let shared = &self.handle.shared;
        Stats {
            waiting: shared.outbox.len() as u64,
            ..shared.counters.stats()
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

/// A request that is being made. Dropped before its packet was written, that is not written.
struct Asking<'a> {
    call: Call<'a>,
    /// Where the packet may wait.
    outbox: Option<&'a Outbox>,
}

impl Asking<'_> {
    /// Takes the packet back. Answers whether it still waited.
    fn withdraw(&mut self) -> bool {
        let Some(outbox) = self.outbox.take() else {
            return false;
        };
        !self.call.is_written() && outbox.withdraw(self.call.id())
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The runtime was shut down under the client.
fn task_gone() -> Closed {
    Closed::new(Cause::Lost, "the client's task was stopped")
}
