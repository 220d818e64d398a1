//! What services of this process ask of sessions on the gates of others.
//!
//! A question is on its way when the bus is called, so that the questions of one caller reach
//! the gate in order. Each gate has a window: of so many questions it has not answered yet.
//! Those beyond it wait here, in order, so that no service of the kit can flood a gate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate::bus::{GateError, SessionOp, SessionReply};
use tidegate_protocol::{GateId, SessionId, TooLarge};
use tokio::sync::oneshot;

use crate::header::Headers;
use crate::mux::{AskError, Lane, Waiting};
use crate::subject::Prefix;
use crate::wire::session;

/// Questions that one gate has not answered, at most.
const WINDOW: usize = 1_024;
/// Questions that wait for room in a gate's window, at most.
const WAITING: usize = 262_144;
/// Windows from which on those without questions are forgotten.
const MANY: usize = 256;
/// For operations that may have to wait for a store or for other gates, at least.
const SLOW: Duration = Duration::from_secs(10);

/// The windows of all gates.
pub(crate) struct Asks {
    windows: Mutex<HashMap<GateId, Arc<Window>>>,
    prefix: Prefix,
    /// For an answer to an operation that needs nobody but the gate.
    timeout: Duration,
}

impl Asks {
    pub(crate) fn new(prefix: Prefix, timeout: Duration) -> Self {
        Self {
            windows: Mutex::default(),
            prefix,
            timeout,
        }
    }

    /// Asks for an operation on a session, over `lane`.
    pub(crate) fn session(
        &self,
        lane: &Arc<Lane>,
        gate: &GateId,
        id: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        let size = match &op {
            SessionOp::Send(packet, _) | SessionOp::SendWait(packet, _) => packet.body.len(),
            _ => 0,
        };
        let deadline = self.time_for(&op);
        let (verb, envelope) = match session::encode(op) {
            Ok(encoded) => encoded,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let (to, reply) = oneshot::channel();
        let max = lane.link.max_payload();
        self.window(gate).ask(Question {
            lane: lane.clone(),
            subject: self.prefix.session(gate, verb, id),
            headers: envelope.headers,
            body: envelope.body,
            deadline,
            to,
        });
        async move {
            // No question is dropped without a reply.
            match reply.await.unwrap_or(Err(AskError::OutcomeUnknown)) {
                Ok(Message {
                    headers, payload, ..
                }) => session::decode_result(verb, Headers(headers.as_ref()), &payload),
                Err(AskError::Unavailable | AskError::NoResponders) => Err(GateError::Unavailable),
                Err(AskError::OutcomeUnknown) => Err(GateError::OutcomeUnknown),
                Err(AskError::Overloaded) => Err(GateError::Overloaded),
                Err(AskError::TooLarge) => Err(GateError::TooLarge(TooLarge { len: size, max })),
            }
        }
        .boxed()
    }

    fn time_for(&self, op: &SessionOp) -> Duration {
        match op {
            SessionOp::SendWait(_, deadline) => *deadline + self.timeout,
            SessionOp::Bind(..)
            | SessionOp::Unbind
            | SessionOp::Set(_)
            | SessionOp::Del(_)
            | SessionOp::Replace(_) => self.timeout.max(SLOW),
            _ => self.timeout,
        }
    }

    fn window(&self, gate: &GateId) -> Arc<Window> {
        let mut windows = self.windows.lock();
        if let Some(window) = windows.get(gate) {
            return window.clone();
        }
        if windows.len() >= MANY {
            windows.retain(|_, window| Arc::strong_count(window) > 1 || !window.is_idle());
        }
        let window = Arc::new(Window {
            state: Mutex::new(State {
                in_flight: 0,
                sending: false,
                waiting: VecDeque::new(),
                heard: Instant::now(),
            }),
            patience: self.timeout,
        });
        windows.insert(gate.clone(), window.clone());
        window
    }
}

/// One gate's questions.
struct Window {
    state: Mutex<State>,
    /// A gate that says nothing for this long is not there: what waits for it is given up.
    patience: Duration,
}

struct State {
    in_flight: usize,
    /// Somebody sends what waits. One at a time, for the order; and without the lock, for
    /// a question that cannot be sent is answered on the spot.
    sending: bool,
    waiting: VecDeque<Question>,
    /// When the gate last answered.
    heard: Instant,
}

struct Question {
    lane: Arc<Lane>,
    subject: Subject,
    headers: Option<HeaderMap>,
    body: Bytes,
    deadline: Duration,
    to: oneshot::Sender<Result<Message, AskError>>,
}

impl Window {
    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.in_flight == 0 && state.waiting.is_empty()
    }

    fn ask(self: Arc<Self>, question: Question) {
        {
            let mut state = self.state.lock();
            if state.in_flight == 0 && state.waiting.is_empty() {
                // It was not asked before: there was nothing to hear.
                state.heard = Instant::now();
            }
            if state.waiting.len() >= WAITING {
                drop(state);
                let _ = question.to.send(Err(AskError::Overloaded));
                return;
            }
            state.waiting.push_back(question);
        }
        self.send();
    }

    /// Sends what waits, as far as there is room.
    fn send(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.sending {
            return;
        }
        state.sending = true;
        while state.in_flight < WINDOW {
            let Some(question) = state.waiting.pop_front() else {
                break;
            };
            state.in_flight += 1;
            drop(state);
            let (window, to) = (self.clone(), question.to);
            question.lane.send(
                question.subject,
                question.headers,
                question.body,
                question.deadline,
                Waiting::Then(Box::new(move |reply| window.answered(to, reply))),
            );
            state = self.state.lock();
        }
        state.sending = false;
    }

    fn answered(
        self: Arc<Self>,
        to: oneshot::Sender<Result<Message, AskError>>,
        reply: Result<Message, AskError>,
    ) {
        let mut given_up = VecDeque::new();
        {
            let mut state = self.state.lock();
            state.in_flight -= 1;
            match reply {
                Err(AskError::OutcomeUnknown) if state.heard.elapsed() >= self.patience => {
                    given_up = std::mem::take(&mut state.waiting);
                }
                Err(AskError::OutcomeUnknown) => {}
                _ => state.heard = Instant::now(),
            }
        }
        // Who no longer waits discards it.
        let _ = to.send(reply);
        for question in given_up {
            let _ = question.to.send(Err(AskError::Unavailable));
        }
        self.send();
    }
}
