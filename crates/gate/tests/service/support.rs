//! What the tests of the kit have in common.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate::bus::OpenTo::Guests;
use tidegate::bus::local::LocalBus;
use tidegate::bus::*;
use tidegate::service::*;
use tidegate_protocol::{CloseReason, ErrorCode, GateId, Network, SessionId, Settings, Snapshot};
use tokio::sync::{Semaphore, oneshot};

pub(crate) fn session(id: u128) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        id: SessionId(id),
        gate: GateId::new("g").unwrap(),
        user: None,
        device: None,
        settings: Settings::new(),
        ip: "127.0.0.1".parse().unwrap(),
        network: Network::Ws,
        trace_id: 9,
    })
}

pub(crate) type Waiting = oneshot::Receiver<CallResult>;

/// Hands in a guest's packet of session `id` for service `s`.
pub(crate) fn packet(bus: &LocalBus, id: u128, method: &str, body: impl Into<Bytes>) -> Waiting {
    call(
        bus,
        Caller::Guest,
        Some(session(id)),
        method,
        body.into(),
        true,
    )
}

pub(crate) fn call(
    bus: &LocalBus,
    caller: Caller,
    session: Option<Arc<Snapshot>>,
    method: &str,
    body: Bytes,
    wants_answer: bool,
) -> Waiting {
    let (responder, answer) = Responder::channel();
    let call = Call {
        service: "s",
        method,
        caller,
        session,
        body,
        instance: None,
        wants_answer,
        span_id: 3,
    };
    bus.call(call, responder);
    answer
}

/// The answer, if it was given before the call returned.
pub(crate) fn at_once(mut answer: Waiting) -> Option<Result<Bytes, ErrorCode>> {
    let result = answer.try_recv().ok()?;
    Some(result.map(|a| a.body).map_err(|e| e.code))
}

pub(crate) async fn answer(answer: Waiting) -> Result<Bytes, ErrorCode> {
    let answer = answer.await.expect("a responder always answers");
    answer.map(|a| a.body).map_err(|e| e.code)
}

pub(crate) async fn run(service: Service) -> (Arc<LocalBus>, RunningService) {
    let bus = Arc::new(LocalBus::new());
    let running = service.register(bus.clone()).await.unwrap();
    (bus, running)
}

/// Lets a handler go on for each permit, and notes what it served.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) served: Arc<Mutex<Vec<String>>>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(0)),
            served: Arc::default(),
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.served.lock())
    }
}

async fn step(session: Session, text: String, State(steps): State<Steps>) -> String {
    if text.starts_with("wait") {
        steps.permits.acquire().await.unwrap().forget();
    }
    assert!(!text.ends_with("panic"), "told to \u{1b}[31m");
    steps
        .served
        .lock()
        .push(format!("{} {text}", session.id().0));
    text
}

async fn left(session: Session, ended: Ended, State(steps): State<Steps>) {
    let text = format!("{} left {}", session.id().0, ended.reason.code());
    steps.served.lock().push(text);
}

pub(crate) fn stepped(steps: &Steps) -> Service {
    Service::new("s")
        .request("step", step)
        .open_to(Guests)
        .request("free", step)
        .open_to(Guests)
        .concurrent()
        .on_disconnect(left)
        .state(steps.clone())
}

pub(crate) const ENDED: Event = Event::Disconnected(Ended {
    reason: CloseReason::ClientLeft,
    undelivered_packets: 0,
    undelivered_bytes: 0,
});
