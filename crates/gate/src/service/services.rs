//! Calls from a service to other services.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::name::is_token;
use tidegate_protocol::{ErrorCode, InstanceId, Snapshot};

use super::CALL_DEADLINE;
use super::session::Session;
use crate::bus::{Bus, Call, CallError, Caller, Responder};

/// The services on the bus. An argument of handlers; cheap to clone.
///
/// Calls are made as [`Caller::Internal`]: every method is open to them, and they run
/// beside the session's packets, never behind them.
#[derive(Clone)]
pub struct Services {
    bus: Arc<dyn Bus>,
    session: Option<Arc<Snapshot>>,
    instance: Option<InstanceId>,
    deadline: Duration,
}

impl Services {
    /// The services on `bus`.
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            bus,
            session: None,
            instance: None,
            deadline: CALL_DEADLINE,
        }
    }

    /// Passes `session` on with the calls.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> Self {
        self.session = Some(session.snapshot());
        self
    }

    /// Calls this instance and no other.
    #[must_use]
    pub fn on_instance(mut self, instance: InstanceId) -> Self {
        self.instance = Some(instance);
        self
    }

    /// Waits this long for the outcome instead of [`CALL_DEADLINE`].
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Calls a request method and waits for its answer.
    ///
    /// # Errors
    /// What the bus or the method answered; [`ErrorCode::OUTCOME_UNKNOWN`] when the
    /// deadline passed or the instance stopped on the way.
    pub async fn request(
        &self,
        service: &str,
        method: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, CallError> {
        self.call(service, method, body.into(), true).await
    }

    /// Calls a one-way method and waits until it was served. Errors are as in
    /// [`request`](Self::request).
    pub async fn send(
        &self,
        service: &str,
        method: &str,
        body: impl Into<Bytes>,
    ) -> Result<(), CallError> {
        self.call(service, method, body.into(), false).await?;
        Ok(())
    }

    async fn call(
        &self,
        service: &str,
        method: &str,
        body: Bytes,
        wants_answer: bool,
    ) -> Result<Bytes, CallError> {
        // A name may come from a client, and a bus may build a subject of it.
        if !is_token(service) || !is_token(method) {
            return Err(CallError::from(ErrorCode::NOT_FOUND));
        }
        let (responder, answer) = Responder::channel();
        let call = Call {
            service,
            method,
            caller: Caller::Internal,
            session: self.session.clone(),
            body,
            instance: self.instance.as_ref(),
            wants_answer,
            span_id: rand::random(),
        };
        self.bus.call(call, responder);
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(result)) => result.map(|answer| answer.body),
            // Too late, or a bus that dropped its end.
            Ok(Err(_)) | Err(_) => Err(CallError::from(ErrorCode::OUTCOME_UNKNOWN)),
        }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("session", &self.session.as_ref().map(|s| s.id))
            .field("instance", &self.instance)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
