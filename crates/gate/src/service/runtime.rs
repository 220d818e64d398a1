//! How calls are run: once in place, then as tasks, one session's in their order.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hashbrown::HashMap;
use tidegate_protocol::{ErrorCode, Name, SessionId, Snapshot};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::MAX_WAITING;
use super::extract::{CallContext, States};
use super::handler::{AnyHandler, Outcome};
use super::lanes::{Lanes, Queued};
use crate::bus::{
    Answer, Bus, Call, CallError, Caller, Endpoint, Event, GateGone, InstanceInfo, MethodKind,
    Responder,
};
use crate::watch::poll_watched;

/// Longest text of a panic in the log, in bytes.
const MAX_PANIC: usize = 1024;

/// Handlers in place within each other's polls; a service that calls a service that calls
/// back, and so on, must not use up the stack.
const MAX_DEPTH: u8 = 16;

thread_local! {
    static DEPTH: Cell<u8> = const { Cell::new(0) };
}

/// A service's instance while it is registered.
pub(super) struct Inner {
    pub(super) info: InstanceInfo,
    pub(super) methods: Vec<Method>,
    /// Places in `methods`; events are not called by name and not in here.
    pub(super) by_name: HashMap<Name, usize>,
    pub(super) events: EventHandlers,
    pub(super) states: States,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) lanes: Lanes<Job>,
    pub(super) under_way: Arc<UnderWay>,
    /// Where handlers go on that are called from outside of any runtime.
    pub(super) runtime: Option<Handle>,
}

/// A method or an event's handler.
pub(super) struct Method {
    pub(super) name: Name,
    pub(super) kind: MethodKind,
    pub(super) concurrent: bool,
    pub(super) handler: Box<dyn AnyHandler>,
}

/// Places in `methods`.
#[derive(Default, Clone, Copy)]
pub(super) struct EventHandlers {
    pub(super) started: Option<usize>,
    pub(super) disconnect: Option<usize>,
    pub(super) rebound: Option<usize>,
    pub(super) dormant: Option<usize>,
    pub(super) resumed: Option<usize>,
    pub(super) gate_gone: Option<usize>,
}

/// A call or an event from its arrival to its end. Dropped early it answers that the
/// outcome is unknown.
pub(super) struct Job {
    incoming: Incoming,
    /// None for events.
    responder: Option<Responder>,
    /// Last, so that the answer is given before the job counts as done.
    ticket: Option<Ticket>,
}

/// What a call or an event brings.
pub(super) struct Incoming {
    /// Place in `methods`.
    method: usize,
    pub(super) caller: Caller,
    pub(super) session: Option<Arc<Snapshot>>,
    pub(super) body: Bytes,
    pub(super) wants_answer: bool,
    pub(super) span_id: u64,
    /// What happened, where this is no call.
    pub(super) event: Option<Event>,
    /// Which gate died, where that is what this tells.
    pub(super) gate_gone: Option<GateGone>,
}

enum First {
    Done(Outcome),
    Pending(BoxFuture<'static, Outcome>),
}

/// What the bus is given: [`Endpoint`] for a service of the kit.
pub(super) struct Kit(pub(super) Arc<Inner>);

impl Endpoint for Kit {
    fn call(&self, call: Call<'_>, responder: Responder) {
        let inner = &self.0;
        let refuse = |responder: Responder, code: ErrorCode| responder.answer(Err(code.into()));
        // Deregistered, but the bus had looked us up before.
        if inner.under_way.is_cut() {
            return refuse(responder, ErrorCode::UNAVAILABLE);
        }
        let Some(&index) = inner.by_name.get(call.method) else {
            return refuse(responder, ErrorCode::NOT_FOUND);
        };
        let method = &inner.methods[index];
        if method.kind == MethodKind::Request && !call.wants_answer {
            return refuse(responder, ErrorCode::ID_REQUIRED);
        }
        // Lanes are for clients' packets. A service that calls on behalf of a session
        // may itself be what the session's lane waits for.
        let session = match &call.session {
            Some(s) if call.caller != Caller::Internal && !method.concurrent => Some(s.id),
            _ => None,
        };
        let job = Job {
            incoming: Incoming {
                method: index,
                caller: call.caller,
                session: call.session,
                body: call.body,
                wants_answer: call.wants_answer,
                span_id: call.span_id,
                event: None,
                gate_gone: None,
            },
            responder: Some(responder),
            ticket: None,
        };
        match session {
            None => inner.run(job, None),
            Some(session) => inner.run_in_lane(job, session, MAX_WAITING),
        }
    }

    fn event(&self, session: Arc<Snapshot>, event: Event) {
        let handlers = self.0.events;
        let handler = match event {
            Event::Started => handlers.started,
            Event::Disconnected(_) => handlers.disconnect,
            Event::Rebound { .. } => handlers.rebound,
            Event::Dormant => handlers.dormant,
            Event::Resumed => handlers.resumed,
        };
        let (Some(method), false) = (handler, self.0.under_way.is_cut()) else {
            return;
        };
        let id = session.id;
        let job = Job::of_event(method, Some(session), Some(event), None);
        // A session has few events, and none may be lost because its packets are many.
        self.0.run_in_lane(job, id, usize::MAX);
    }

    fn gate_gone(&self, gone: GateGone) {
        let handler = self.0.events.gate_gone;
        if let (Some(method), false) = (handler, self.0.under_way.is_cut()) {
            self.0
                .run(Job::of_event(method, None, None, Some(gone)), None);
        }
    }
}

impl Job {
    fn of_event(
        method: usize,
        session: Option<Arc<Snapshot>>,
        event: Option<Event>,
        gate_gone: Option<GateGone>,
    ) -> Self {
        Self {
            incoming: Incoming {
                method,
                caller: Caller::Internal,
                session,
                body: Bytes::new(),
                wants_answer: false,
                span_id: 0,
                event,
                gate_gone,
            },
            responder: None,
            ticket: None,
        }
    }
}

impl Inner {
    #[inline]
    fn run_in_lane(self: &Arc<Self>, job: Job, session: SessionId, max: usize) {
        if self.lanes.any_open() {
            self.queue_or_run(job, session, max);
        } else {
            self.run(job, Some(session));
        }
    }

    fn queue_or_run(self: &Arc<Self>, mut job: Job, session: SessionId, max: usize) {
        // Made here and not in the lane: the job counts before it can be seen.
        job.ticket = Some(Ticket::new(&self.under_way));
        match self.lanes.queue(session, job, max) {
            Queued::Waiting => {}
            Queued::NoLane(job) => self.run(job, Some(session)),
            Queued::Full(mut job) => self.answer(&mut job, Err(ErrorCode::OVERLOADED.into())),
        }
    }

    /// Polls the handler once, here; when it is not ready, it goes on as a task and has
    /// the session's lane.
    #[inline]
    fn run(self: &Arc<Self>, mut job: Job, lane: Option<SessionId>) {
        let depth = DEPTH.get();
        if depth >= MAX_DEPTH {
            return self.spawn(job, None, lane);
        }
        DEPTH.set(depth + 1);
        let mut noop = Context::from_waker(Waker::noop());
        let first = self.first_poll(&job.incoming, &mut noop);
        DEPTH.set(depth);
        match first {
            First::Done(outcome) => self.finish(&mut job, outcome),
            First::Pending(future) => self.spawn(job, Some(future), lane),
        }
    }

    fn spawn(
        self: &Arc<Self>,
        mut job: Job,
        begun: Option<BoxFuture<'static, Outcome>>,
        lane: Option<SessionId>,
    ) {
        let runtime = Handle::try_current().ok().or_else(|| self.runtime.clone());
        let Some(runtime) = runtime else {
            let method = &*self.methods[job.incoming.method].name;
            tracing::error!(
                service = &*self.info.service,
                method,
                "a handler has to wait and there is no tokio runtime to wait on"
            );
            return;
        };
        if job.ticket.is_none() {
            job.ticket = Some(Ticket::new(&self.under_way));
        }
        // A lane that is open already means that the caller broke the rule of one call
        // at a time; then this one runs beside it.
        let lane = lane
            .filter(|session| self.lanes.open(*session))
            .map(|session| OpenLane {
                inner: self.clone(),
                session,
                open: true,
            });
        let inner = self.clone();
        let under_way = self.under_way.clone();
        runtime.spawn(async move {
            let work = async move {
                match begun {
                    Some(future) => inner.rest(job, future).await,
                    None => inner.whole(job).await,
                }
                if let Some(lane) = lane {
                    lane.drive().await;
                }
            };
            under_way.until_cut(work).await;
        });
    }

    async fn whole(self: &Arc<Self>, mut job: Job) {
        match poll_fn(|cx| Poll::Ready(self.first_poll(&job.incoming, cx))).await {
            First::Done(outcome) => self.finish(&mut job, outcome),
            First::Pending(future) => self.rest(job, future).await,
        }
    }

    async fn rest(&self, mut job: Job, mut future: BoxFuture<'static, Outcome>) {
        let incoming = &job.incoming;
        let outcome = poll_fn(|cx| {
            self.guarded(incoming, || future.as_mut().poll(cx))
                .unwrap_or_else(|error| Poll::Ready(Err(error)))
        })
        .await;
        self.finish(&mut job, outcome);
    }

    /// Takes the arguments, makes the future and polls it.
    fn first_poll(self: &Arc<Self>, incoming: &Incoming, cx: &mut Context<'_>) -> First {
        let method = &self.methods[incoming.method];
        self.guarded(incoming, || {
            let call = CallContext {
                service: self,
                method,
                incoming,
            };
            match method.handler.start(&call) {
                Err(error) => First::Done(Err(error)),
                // A future that is ready is dropped in here too: its drop is the
                // handler's code.
                Ok(mut future) => match future.as_mut().poll(cx) {
                    Poll::Ready(outcome) => First::Done(outcome),
                    Poll::Pending => First::Pending(future),
                },
            }
        })
        .unwrap_or_else(|error| First::Done(Err(error)))
    }

    /// Runs the handler's code: a panic ends this call, and a long poll is reported.
    fn guarded<R>(&self, incoming: &Incoming, f: impl FnOnce() -> R) -> Result<R, CallError> {
        let name = &self.methods[incoming.method].name;
        // Nothing that a panic could leave half changed is used afterwards but what
        // handlers share among themselves, as they do between threads.
        poll_watched(&self.info.service, name, || {
            catch_unwind(AssertUnwindSafe(f))
        })
        .map_err(|panic| self.panicked(incoming, panic))
    }

    #[cold]
    fn panicked(&self, incoming: &Incoming, panic: Box<dyn Any + Send>) -> CallError {
        let text = match panic.downcast_ref::<&str>() {
            Some(text) => text,
            None => panic.downcast_ref::<String>().map_or("", String::as_str),
        };
        tracing::error!(
            service = &*self.info.service,
            instance = &*self.info.instance,
            method = &*self.methods[incoming.method].name,
            session = incoming.session.as_ref().map(|s| tracing::field::display(s.id)),
            // Debug escapes control characters: the text may quote a client.
            panic = ?&text[..text.floor_char_boundary(MAX_PANIC)],
            "a handler panicked"
        );
        // A payload's drop is the handler's code once more.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        CallError::from(ErrorCode::INTERNAL)
    }

    /// Ends a job with what its handler gave.
    fn finish(&self, job: &mut Job, outcome: Outcome) {
        self.answer(job, outcome.map_err(of_handler));
    }

    fn answer(&self, job: &mut Job, outcome: Outcome) {
        let method = &self.methods[job.incoming.method];
        let Some(responder) = job.responder.take() else {
            if let Err(error) = outcome {
                tracing::warn!(
                    service = &*self.info.service,
                    method = &*method.name,
                    session = job.incoming.session.as_ref().map(|s| tracing::field::display(s.id)),
                    error = ?error.message,
                    code = error.code.0,
                    "an event's handler failed"
                );
            }
            return;
        };
        responder.answer(outcome.map(|body| Answer {
            body: match method.kind {
                MethodKind::Request => body,
                MethodKind::OneWay => Bytes::new(),
            },
            instance: self.info.policy.sticky.then(|| self.info.instance.clone()),
        }));
    }
}

/// An error as a handler may give it. The codes that say "this call was not delivered" are
/// for those who did not deliver it: a handler has seen its call, whatever became of a call
/// that it made itself.
fn of_handler(error: CallError) -> CallError {
    match error.code {
        ErrorCode::NOT_FOUND
        | ErrorCode::ID_REQUIRED
        | ErrorCode::UNAVAILABLE
        | ErrorCode::INSTANCE_GONE
        | ErrorCode::OVERLOADED => CallError {
            code: ErrorCode::INTERNAL,
            ..error
        },
        _ => error,
    }
}

/// An open lane, held by the task that drives it.
struct OpenLane {
    inner: Arc<Inner>,
    session: SessionId,
    open: bool,
}

impl OpenLane {
    async fn drive(mut self) {
        while let Some(job) = self.inner.lanes.next(self.session) {
            self.inner.whole(job).await;
            // A long lane of handlers that never wait must not keep the thread.
            tokio::task::coop::consume_budget().await;
        }
        self.open = false;
    }
}

impl Drop for OpenLane {
    /// The task was cut off, or its runtime is gone.
    fn drop(&mut self) {
        if self.open {
            // The jobs are dropped, and so answered, without the lane's lock.
            drop(self.inner.lanes.close(self.session));
        }
    }
}

/// Counts what is pending or waits in a lane, and can cut it off.
#[derive(Default)]
pub(super) struct UnderWay {
    jobs: AtomicUsize,
    none_left: Notify,
    is_cut: AtomicBool,
    cut: Notify,
}

impl UnderWay {
    pub(super) fn count(&self) -> usize {
        self.jobs.load(Ordering::Acquire)
    }

    pub(super) async fn finished(&self) {
        loop {
            let mut none_left = pin!(self.none_left.notified());
            none_left.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            none_left.await;
        }
    }

    /// Cuts off what is under way, and refuses what comes from now on. Answers whether
    /// this was the first time.
    pub(super) fn cut_off(&self) -> bool {
        let first = !self.is_cut.swap(true, Ordering::SeqCst);
        self.cut.notify_waiters();
        first
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    async fn until_cut(&self, work: impl Future<Output = ()>) {
        let mut cut = pin!(self.cut.notified());
        cut.as_mut().enable();
        if self.is_cut() {
            return;
        }
        tokio::select! {
            biased;
            () = cut => {}
            () = work => {}
        }
    }
}

/// One job under way.
struct Ticket(Arc<UnderWay>);

impl Ticket {
    fn new(under_way: &Arc<UnderWay>) -> Self {
        under_way.jobs.fetch_add(1, Ordering::AcqRel);
        Self(under_way.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.jobs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
