//! The way an answer takes back.

use std::fmt;

use tidegate_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::{CallError, CallResult};
use crate::dispatch::{self, HeldCall};
use crate::session::LocalSession;

/// Takes the answer to one call.
///
/// Dropped without an answer it answers [`ErrorCode::OUTCOME_UNKNOWN`]: whoever held
/// it had received the call.
#[must_use = "dropping a responder answers that the outcome is unknown"]
pub struct Responder(Option<Inner>);

enum Inner {
    Channel(oneshot::Sender<CallResult>),
    Session(LocalSession, u32, Option<Box<HeldCall>>),
    Boxed(Box<dyn FnOnce(CallResult) + Send>),
}

impl Responder {
    /// A responder, and where its answer arrives.
    pub fn channel() -> (Self, oneshot::Receiver<CallResult>) {
        let (tx, rx) = oneshot::channel();
        (Self(Some(Inner::Channel(tx))), rx)
    }

    /// A responder for call `number` of a session; `bound` if it goes to a bound instance.
    pub(crate) fn session(
        session: LocalSession,
        number: u32,
        bound: Option<Box<HeldCall>>,
    ) -> Self {
        Self(Some(Inner::Session(session, number, bound)))
    }

    /// A responder that hands the answer to `f`.
    pub fn new(f: impl FnOnce(CallResult) + Send + 'static) -> Self {
        Self(Some(Inner::Boxed(Box::new(f))))
    }

    /// Gives the answer. A caller that no longer waits discards it.
    pub fn answer(mut self, result: CallResult) {
        self.give(result);
    }

    fn give(&mut self, result: CallResult) {
        match self.0.take() {
            // A receiver that is gone has stopped waiting: a late answer is discarded.
            Some(Inner::Channel(tx)) => drop(tx.send(result)),
            Some(Inner::Session(session, number, bound)) => {
                dispatch::finish(&session, number, bound, result);
            }
            Some(Inner::Boxed(f)) => f(result),
            None => {}
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.give(Err(CallError::from(ErrorCode::OUTCOME_UNKNOWN)));
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}
