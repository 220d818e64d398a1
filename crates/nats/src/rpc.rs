//! What a gate serves to services: one loop over all that is asked of it.
//!
//! The loop hands each request to the gate as it comes, polls it once, and answers in place
//! what is done by then: so the operations on one session take effect in the order in which
//! they came. What waits for a store or for room goes on as a task of its own and delays
//! nobody else. The loop itself waits for one thing only: room for its replies.
//!
//! It has a connection of its own, so that what reached the connection and was not taken
//! from it is known: too much of it is refused without work, and a message that was dropped
//! for want of room is counted, never missed in silence.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Message, Subject};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tidegate::bus::{BusError, GateEndpoint, GateError, SessionOp};
use tidegate_protocol::SessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{self, JoinHandle};
use tokio::time::{self, MissedTickBehavior};

use crate::counters::{Counters, LogLimit};
use crate::header::{Headers, Malformed, one_line};
use crate::instance::end;
use crate::link::{Link, Subscription};
use crate::subject::{GateVerb, Prefix, QUEUE, ToGate};
use crate::wire::gate::{Asked, LiveGate};
use crate::wire::{Envelope, error, gate, session};

mod backlog;
mod many;
mod replies;

use backlog::Backlog;
use replies::{Replies, ReplyTo};

/// Requests of one gate that may wait for something at a time.
const WAITING: usize = 10_000;
/// For what waits when the gate ends.
const LAST: Duration = Duration::from_secs(5);
/// How often the backlog is looked at while there is nothing to do.
const LOOK: Duration = Duration::from_millis(250);
/// Messages that came to the connection before the loop began: its fence.
const FENCES: u64 = 1;
/// Lines a second about requests that are none.
const LINES: u32 = 1;

/// Serves a request that any gate may serve, on behalf of all: gives the parts of its reply.
pub(crate) type ServeAny = Arc<dyn Fn(Asked) -> BoxFuture<'static, Vec<Envelope>> + Send + Sync>;

/// What is served, and for whom.
pub(crate) struct Served {
    pub(crate) prefix: Prefix,
    pub(crate) gate: LiveGate,
    pub(crate) endpoint: Arc<dyn GateEndpoint>,
    pub(crate) any: ServeAny,
    /// Most messages that wait to be read, for each subscription.
    pub(crate) inbound: usize,
    /// Of the whole process.
    pub(crate) counters: Arc<Counters>,
    /// Of the loop's connection alone.
    pub(crate) connection: Arc<Counters>,
}

/// A loop that runs.
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Ends it: takes no more, and serves what had come.
    pub(crate) async fn end(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Serves over `link`, which nobody else uses. Requests reach it when this returns.
pub(crate) async fn serve(link: Link, served: Served) -> Result<Serving, BusError> {
    let (prefix, id) = (&served.prefix, &served.gate.gate);
    let own = link.subscribe(prefix.gate_calls(id), None).await?;
    let gates = link.subscribe(prefix.gates_calls(), None).await?;
    let any = link.subscribe(prefix.any_calls(), Some(QUEUE)).await?;
    link.fence().await?;
    let (stop, stopped) = oneshot::channel();
    let backlog = Backlog::new(served.inbound, FENCES, link.arrived());
    let server = Server {
        replies: Replies::new(link),
        waiting: Arc::new(Semaphore::new(WAITING)),
        lines: LogLimit::new(LINES),
        backlog,
        fence: prefix.gates(GateVerb::Fence),
        served,
    };
    let task = task::spawn(server.run(Sources { own, gates, any }, stopped));
    Ok(Serving { stop, task })
}

/// Where requests come from. One asker's requests to one of them come in order.
struct Sources {
    /// For this gate alone.
    own: Subscription,
    /// For every gate.
    gates: Subscription,
    /// For any of the gates.
    any: Subscription,
}

struct Server {
    served: Served,
    replies: Replies,
    /// One permit for each request that may wait.
    waiting: Arc<Semaphore>,
    lines: LogLimit,
    backlog: Backlog,
    /// The subject of what is answered after all that came before it.
    fence: Subject,
}

impl Server {
    async fn run(mut self, mut from: Sources, mut stopped: oneshot::Receiver<()>) {
        let mut look = time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // In this order: requests of few messages are not to wait behind a flood of others,
            // and the backlog is looked at when there is nothing else.
            let message = tokio::select! {
                biased;
                _ = &mut stopped => break,
                message = from.gates.next() => message,
                message = from.any.next() => message,
                message = from.own.next() => message,
                _ = look.tick() => {
                    self.look();
                    continue;
                }
            };
            match message {
                Some(message) => self.take(message, &mut from.own).await,
                None => break,
            }
        }
        for source in [&mut from.own, &mut from.gates, &mut from.any] {
            end(source).await;
        }
        // It comes after all that the server has sent, and from then on the server tells
        // askers that nobody is there.
        self.replies.link().last_fence().await;
        for source in [&mut from.own, &mut from.gates, &mut from.any] {
            while let Some(Some(message)) = task::unconstrained(source.next()).now_or_never() {
                self.serve(message).await;
            }
        }
        // What still waits is answered, before the connection goes.
        let _ = time::timeout(LAST, self.waiting.acquire_many(WAITING as u32)).await;
        self.replies.link().last_fence().await;
    }

    /// Counts what was dropped.
    fn look(&mut self) {
        let (own, all) = (&self.served.connection, &self.served.counters);
        for (from, to) in [
            (&own.disconnects, &all.disconnects),
            (&own.forbidden, &all.forbidden),
        ] {
            to.fetch_add(from.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        let lost = self.backlog.look(self.replies.link().arrived());
        if lost > 0 {
            all.overflowed.fetch_add(lost, Ordering::Relaxed);
            tracing::error!(
                lost,
                "requests to this gate were dropped: more came than could be served"
            );
        }
    }

    async fn take(&mut self, message: Message, own: &mut Subscription) {
        self.backlog.take(&message);
        if message.subject == self.fence {
            // It is answered after all that came before it, on whatever subject.
            for _ in 0..self.backlog.waiting(self.replies.link().arrived()) {
                let Some(Some(before)) = task::unconstrained(own.next()).now_or_never() else {
                    break;
                };
                self.backlog.take(&before);
                self.serve(before).await;
            }
        }
        self.serve(message).await;
    }

    async fn serve(&mut self, message: Message) {
        let Message {
            subject,
            reply,
            payload,
            headers,
            ..
        } = message;
        let to = match ReplyTo::new(&self.served.prefix, reply) {
            Ok(to) => to,
            // Nothing is done of which the asker could not be told.
            Err(wrong) => return self.refuse(ReplyTo::NOBODY, &subject, &wrong).await,
        };
        // A fence is no work.
        let is_long = self.backlog.is_long(self.replies.link().arrived());
        if is_long && subject != self.fence {
            return self.overloaded(to).await;
        }
        let headers = Headers(headers.as_ref());
        let id = &self.served.gate.gate;
        let asked = match self.served.prefix.to_gate(id, &subject) {
            Some(ToGate::Session(verb, id)) => match session::decode(verb, headers, &payload) {
                Ok(op) => return self.session(id, op, to).await,
                Err(wrong) => Err(wrong),
            },
            Some(ToGate::Many(verb)) => {
                let read = || {
                    Ok((
                        headers.sessions()?,
                        session::decode(verb, headers, &payload)?,
                    ))
                };
                match read() {
                    Ok((ids, op)) => return self.many(ids, op, to).await,
                    Err(wrong) => Err(wrong),
                }
            }
            Some(ToGate::Node(verb) | ToGate::Gates(verb)) => {
                gate::decode(verb, headers, &payload).map(|asked| (asked, false))
            }
            Some(ToGate::Any(verb)) => {
                gate::decode(verb, headers, &payload).map(|asked| (asked, true))
            }
            None => Err(Malformed::new("subject", "is none of a gate's")),
        };
        match asked {
            Ok((Asked::Ping, _)) => {
                self.replies
                    .send(to, Envelope::json(&self.served.gate))
                    .await;
            }
            Ok((Asked::Fence, _)) => self.replies.send(to, Envelope::default()).await,
            Ok((Asked::Request(request), false)) => {
                let Some(permit) = self.permits(1) else {
                    return self.overloaded(to).await;
                };
                let done = self.served.endpoint.gate(request);
                let done = done.map(|result| gate::encode_result(&result));
                self.finish(done.boxed(), to, Some(permit)).await;
            }
            // A gate that starts asks each whether it is known there.
            Ok((asked @ Asked::Gates, _) | (asked, true)) => {
                let Some(permit) = self.permits(1) else {
                    return self.overloaded(to).await;
                };
                let done = (self.served.any)(asked);
                self.finish(done, to, Some(permit)).await;
            }
            Ok((Asked::Locate(_), false)) => {
                let wrong = Malformed::new("subject", "asks one gate for what any of them knows");
                self.refuse(to, &subject, &wrong).await;
            }
            Err(wrong) => self.refuse(to, &subject, &wrong).await,
        }
    }

    /// One operation on one session.
    async fn session(&self, id: SessionId, op: SessionOp, to: ReplyTo) {
        let permit = match may_wait(&op) {
            false => None,
            // Taken before it begins: what has begun cannot be refused.
            true => match self.permits(1) {
                Some(permit) => Some(permit),
                None => return self.overloaded(to).await,
            },
        };
        let done = self.served.endpoint.session(id, op);
        let done = done.map(|result| vec![session::encode_result(&result)]);
        self.finish(done.boxed(), to, permit).await;
    }

    /// Answers at once what is done, and later what is not.
    async fn finish(
        &self,
        mut done: BoxFuture<'static, Vec<Envelope>>,
        to: ReplyTo,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        // However much this task has done in its turn: what is done is answered in its order.
        if let Some(parts) = task::unconstrained(&mut done).now_or_never() {
            return self.replies.send_parts(to, parts).await;
        }
        let permit = match permit {
            Some(permit) => permit,
            // No gate of this process makes what need not wait wait; whoever does is
            // waited for.
            None => match self.waiting.clone().acquire_owned().await {
                Ok(permit) => permit,
                Err(_) => return,
            },
        };
        let replies = self.replies.clone();
        task::spawn(async move {
            let parts = done.await;
            replies.send_parts(to, parts).await;
            drop(permit);
        });
    }

    fn permits(&self, requests: usize) -> Option<OwnedSemaphorePermit> {
        let requests = u32::try_from(requests).ok()?;
        self.waiting.clone().try_acquire_many_owned(requests).ok()
    }

    async fn overloaded(&self, to: ReplyTo) {
        self.served
            .counters
            .overloaded
            .fetch_add(1, Ordering::Relaxed);
        self.replies
            .send(to, error::encode(&GateError::Overloaded))
            .await;
    }

    /// Answers a request that is not what the specification says.
    async fn refuse(&self, to: ReplyTo, subject: &Subject, wrong: &Malformed) {
        self.served
            .counters
            .malformed
            .fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.lines.admit() {
            let subject = one_line(subject, 200);
            tracing::warn!(?subject, %wrong, unlogged, "a request to this gate is malformed");
        }
        self.replies.send(to, error::malformed(wrong)).await;
    }
}

/// Whether an operation may take longer than a moment.
fn may_wait(op: &SessionOp) -> bool {
    match op {
        SessionOp::Bind(..)
        | SessionOp::Unbind
        | SessionOp::Set(_)
        | SessionOp::Del(_)
        | SessionOp::Replace(_)
        | SessionOp::SendWait(..) => true,
        SessionOp::Load
        | SessionOp::Send(..)
        | SessionOp::Connected
        | SessionOp::Close
        | SessionOp::Join(_)
        | SessionOp::Leave(_)
        | SessionOp::BindInstance(..)
        | SessionOp::UnbindInstance(_)
        | SessionOp::GiveWay(..) => false,
    }
}
