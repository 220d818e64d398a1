//! What a handler's arguments are taken from, and how.

use std::any::{Any, TypeId, type_name};
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tidegate_protocol::{ErrorCode, InstanceId, Name, Snapshot};

use super::clients::Clients;
use super::runtime::{Incoming, Inner, Method};
use super::services::Services;
use super::session::Session;
use crate::bus::{Bus, CallError, Caller, Ended, Event, GateGone};

/// Longest text of serde's in an error answer, in bytes.
const MAX_DETAIL: usize = 200;

/// Something that a handler can have as an argument.
///
/// The kit's own: [`Session`], `Option<Session>`, [`Bytes`], [`String`] (the body as
/// text), [`Json`], [`State`], [`Clients`], [`Services`], [`CallInfo`]; for
/// `on_disconnect` [`Ended`], for `on_rebound` [`Previous`], for `on_gate_gone`
/// [`GateGone`]. Write your own for what several methods take from their calls in the same
/// way:
///
/// ```
/// # use tidegate::bus::CallError;
/// # use tidegate::service::{CallContext, FromCall};
/// # use tidegate_protocol::{ErrorCode, UserId};
/// struct User(UserId);
///
/// impl FromCall for User {
///     fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
///         let user = call.session().and_then(|s| s.user.clone());
///         user.map(Self).ok_or_else(|| CallError::from(ErrorCode::REFUSED))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's argument",
    note = "arguments are Session, Option<Session>, Bytes, String, Json<T>, State<S>, Clients, \
            Services, CallInfo, Ended, Previous, GateGone, or a type of yours that implements FromCall"
)]
pub trait FromCall: Sized {
    /// Takes the argument. An error is the call's answer; the handler does not run.
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError>;

    /// Declares what the argument needs, so that a lack of it is found when the service
    /// is built and not when it is called.
    fn requires(needs: &mut Requirements) {
        let _ = needs;
    }
}

/// A call or an event on its way into a handler.
pub struct CallContext<'a> {
    pub(super) service: &'a Arc<Inner>,
    pub(super) method: &'a Method,
    pub(super) incoming: &'a Incoming,
}

impl<'a> CallContext<'a> {
    /// The service called.
    pub fn service(&self) -> &'a Name {
        &self.service.info.service
    }

    /// The instance that serves the call.
    pub fn instance(&self) -> &'a InstanceId {
        &self.service.info.instance
    }

    /// The method; for events `on_started`, `on_disconnect` and so on.
    pub fn method(&self) -> &'a Name {
        &self.method.name
    }

    /// On whose behalf the call is made; events are [`Caller::Internal`].
    pub fn caller(&self) -> Caller {
        self.incoming.caller
    }

    /// The caller's session; none when a service calls without one.
    pub fn session(&self) -> Option<&'a Arc<Snapshot>> {
        self.incoming.session.as_ref()
    }

    /// The packet's body; empty for events.
    pub fn body(&self) -> &'a Bytes {
        &self.incoming.body
    }

    /// Whether the caller gave a request id.
    pub fn wants_answer(&self) -> bool {
        self.incoming.wants_answer
    }

    /// The call in traces (W3C Trace Context parent-id).
    pub fn span_id(&self) -> u64 {
        self.incoming.span_id
    }

    /// What happened, where this is no call.
    pub fn event(&self) -> Option<&'a Event> {
        self.incoming.event.as_ref()
    }

    /// The gate that died, where that is what happened.
    pub fn gate_gone(&self) -> Option<&'a GateGone> {
        self.incoming.gate_gone.as_ref()
    }

    /// The bus that the service is registered on.
    pub fn bus(&self) -> &'a Arc<dyn Bus> {
        &self.service.bus
    }

    /// The service's shared state of that type. Declare it in
    /// [`FromCall::requires`] and it is there.
    pub fn state<S: Send + Sync + 'static>(&self) -> Option<&'a S> {
        self.service.states.get()
    }
}

/// The shared state of a service: one value per type.
#[derive(Default)]
pub(super) struct States(Vec<(TypeId, Box<dyn Any + Send + Sync>)>);

impl States {
    /// Answers whether there was none of that type.
    pub(super) fn add<S: Send + Sync + 'static>(&mut self, state: S) -> bool {
        let id = TypeId::of::<S>();
        let new = !self.has(id);
        self.0.push((id, Box::new(state)));
        new
    }

    pub(super) fn has(&self, id: TypeId) -> bool {
        self.0.iter().any(|(of, _)| *of == id)
    }

    fn get<S: 'static>(&self) -> Option<&S> {
        let id = TypeId::of::<S>();
        let (_, state) = self.0.iter().find(|(of, _)| *of == id)?;
        state.downcast_ref()
    }
}

/// What a handler's arguments need; see [`FromCall::requires`].
#[derive(Debug, Default)]
pub struct Requirements(pub(super) Vec<Need>);

#[derive(Debug)]
pub(super) enum Need {
    State(TypeId, &'static str),
    /// A call's body: events have none.
    Body,
    /// The end of a session.
    Ended,
    /// An instance that is gone.
    Previous,
    /// A gate that is gone.
    GateGone,
    /// A session: where there can be none, the handler could never run.
    Session,
}

impl Requirements {
    /// Shared state of this type.
    pub fn state<S: 'static>(&mut self) {
        self.0
            .push(Need::State(TypeId::of::<S>(), type_name::<S>()));
    }

    /// A body: the argument is for methods, not for events.
    pub fn body(&mut self) {
        self.0.push(Need::Body);
    }
}

impl FromCall for Session {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        Option::<Self>::from_call(call)?.ok_or_else(|| {
            CallError::new(
                ErrorCode::INTERNAL,
                "the method was called without a session",
            )
        })
    }

    fn requires(needs: &mut Requirements) {
        needs.0.push(Need::Session);
    }
}

impl FromCall for Option<Session> {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        Ok(call
            .session()
            .map(|s| Session::new(call.bus().clone(), s.clone(), call.span_id())))
    }
}

impl FromCall for Bytes {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        Ok(call.body().clone())
    }

    fn requires(needs: &mut Requirements) {
        needs.body();
    }
}

impl FromCall for String {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        std::str::from_utf8(call.body())
            .map(str::to_owned)
            .map_err(|_| CallError::new(ErrorCode::BAD_BODY, "the body is not UTF-8"))
    }

    fn requires(needs: &mut Requirements) {
        needs.body();
    }
}

/// A body as JSON, in and out. A body that is not what `T` wants is answered with
/// [`ErrorCode::BAD_BODY`] and serde's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromCall for Json<T> {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        serde_json::from_slice(call.body())
            .map(Self)
            .map_err(|error| {
                // Serde quotes the body: the text is as long as a client likes.
                let mut detail = error.to_string();
                detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
                CallError::new(ErrorCode::BAD_BODY, detail)
            })
    }

    fn requires(needs: &mut Requirements) {
        needs.body();
    }
}

/// The service's shared state of type `S`, cloned: make it an `Arc` or a handle. A
/// service that was not given one does not build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<S>(pub S);

impl<S: Clone + Send + Sync + 'static> FromCall for State<S> {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        let state = call.state::<S>().cloned();
        // Checked when the service was built.
        state
            .map(Self)
            .ok_or_else(|| CallError::from(ErrorCode::INTERNAL))
    }

    fn requires(needs: &mut Requirements) {
        needs.state::<S>();
    }
}

impl FromCall for Clients {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        Ok(Self::new(call.bus().clone()))
    }
}

impl FromCall for Services {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        Ok(Self::new(call.bus().clone()))
    }
}

/// What is being called, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallInfo {
    /// The service.
    pub service: Name,
    /// Its method; for events `on_started`, `on_disconnect` and so on.
    pub method: Name,
    /// The instance that serves the call.
    pub instance: InstanceId,
    /// On whose behalf the call is made.
    pub caller: Caller,
    /// Whether the caller gave a request id.
    pub wants_answer: bool,
    /// The session's calls in traces (W3C Trace Context trace-id); 0 without a session.
    pub trace_id: u128,
    /// This call in traces (W3C Trace Context parent-id).
    pub span_id: u64,
}

impl FromCall for CallInfo {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        Ok(Self {
            service: call.service().clone(),
            method: call.method().clone(),
            instance: call.instance().clone(),
            caller: call.caller(),
            wants_answer: call.wants_answer(),
            trace_id: call.session().map_or(0, |s| s.trace_id),
            span_id: call.span_id(),
        })
    }
}

impl FromCall for Ended {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        match call.event() {
            Some(Event::Disconnected(ended)) => Ok(*ended),
            _ => Err(CallError::from(ErrorCode::INTERNAL)),
        }
    }

    fn requires(needs: &mut Requirements) {
        needs.0.push(Need::Ended);
    }
}

/// For `on_rebound`: the instance that is gone, which the session was bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous(pub InstanceId);

impl FromCall for Previous {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        match call.event() {
            Some(Event::Rebound { from }) => Ok(Self(from.clone())),
            _ => Err(CallError::from(ErrorCode::INTERNAL)),
        }
    }

    fn requires(needs: &mut Requirements) {
        needs.0.push(Need::Previous);
    }
}

impl FromCall for GateGone {
    fn from_call(call: &CallContext<'_>) -> Result<Self, CallError> {
        call.gate_gone()
            .cloned()
            .ok_or_else(|| CallError::from(ErrorCode::INTERNAL))
    }

    fn requires(needs: &mut Requirements) {
        needs.0.push(Need::GateGone);
    }
}
