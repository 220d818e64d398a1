//! The bus seam: how gates and services reach each other.
//!
//! Everything that a client's packet does to a service, and everything that a service
//! does to a session, goes through [`Bus`]. Its semantics are those of a network, in one
//! process too: a session in a service is a [`Snapshot`] plus a handle, a call can end with
//! [`ErrorCode::OUTCOME_UNKNOWN`], and an instance can be gone.
//!
//! - This file: the trait and what travels from gates to services.
//! - [`gate`]: what travels from services to gates.
//! - [`responder`]: the way an answer takes back.
//! - [`registration`]: what keeps something reachable.
//! - [`users`]: logins that are known beyond one gate.
//! - [`local`]: the bus within one process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use thiserror::Error;
use tidegate_protocol::{CloseReason, ErrorCode, GateId, InstanceId, Name, Snapshot};

pub mod gate;
pub mod local;
pub mod registration;
pub mod responder;
pub mod users;

pub use gate::{
    Connected, GateEndpoint, GateError, GateReply, GateRequest, Sent, SessionOp, SessionReply,
};

pub use local::LocalBus;
pub use registration::Registration;
pub use responder::Responder;
pub use users::{GateStanding, GiveWay, JudgeLogins, KeptLogin, KeptLogins, MAX_KEPT_LOGINS};

/// How gates and services reach each other.
pub trait Bus: Send + Sync + 'static {
    /// Hands `call` to one instance of its service, and `responder` to whoever answers.
    ///
    /// The order in which calls of one session are handed in is the order in which
    /// they reach an instance. Never blocks; the answer may come before this returns.
    fn call(&self, call: Call<'_>, responder: Responder);

    /// Tells a service (one of its instances) what happened to a session. An event
    /// that nobody takes is counted and logged by the bus.
    fn event(&self, to: EventTarget<'_>, session: Arc<Snapshot>, event: Event);

    /// How calls of `service` are routed; the default for a service nobody knows.
    fn policy(&self, service: &str) -> Policy;

    /// Makes an instance reachable until the registration is dropped.
    fn register(
        &self,
        instance: InstanceInfo,
        endpoint: Arc<dyn Endpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>>;

    /// The live instances of a service.
    fn instances(&self, service: &str) -> BoxFuture<'static, Result<Vec<InstanceInfo>, BusError>>;

    /// Completes when the instance is reachable: at once where it is.
    fn instance_up(&self, service: &str, instance: &InstanceId) -> BoxFuture<'static, ()>;

    /// Makes a gate reachable until the registration is dropped. Refused while a live
    /// gate has the same id.
    fn register_gate(
        &self,
        gate: GateInfo,
        endpoint: Arc<dyn GateEndpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>>;

    /// The live gates.
    fn gates(&self) -> BoxFuture<'static, Result<Vec<GateInfo>, BusError>>;

    /// Applies `op` to one session of a gate. Operations on one session are applied in
    /// the order they were handed in.
    fn session(
        &self,
        gate: &GateId,
        session: tidegate_protocol::SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>>;

    /// Puts `request` to every gate and sums up the replies. Those of which no reply came
    /// count in [`Sent::unknown`]; other requests fail then.
    ///
    /// Each gate is asked, for groups too: only who has been asked and has answered makes the
    /// sum true, and a member that joined a moment ago is not missed.
    fn every_gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>>;

    /// Where the logins of `gate`, which is registered, are kept beyond it. `None`: the gate
    /// keeps them itself, and they count on it alone.
    fn users(&self, gate: &GateId) -> Option<Arc<dyn KeptLogins>> {
        let _ = gate;
        None
    }

    /// Prepares for the calls and events of the sessions born on shard `number` of `gate`
    /// ([`SessionId::lane`](tidegate_protocol::SessionId::lane)), until the registration is dropped. Called once, on the shard's
    /// runtime, before the gate is registered. A bus within the process needs none of it.
    fn attach_shard(
        &self,
        gate: &GateId,
        number: usize,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        let _ = (gate, number);
        ready(Ok(Registration::new(|| {}))).boxed()
    }

    /// Completes when what was handed to the bus before has left this process, or cannot: for
    /// those about to end it.
    fn flush(&self) -> BoxFuture<'static, ()> {
        ready(()).boxed()
    }

    /// How the bus is, and what it has counted since it began: a metric for each.
    fn stats(&self) -> BusStats {
        BusStats::default()
    }
}

/// How a bus is, and what it has counted since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusStats {
    /// It does not reach the others now: calls are answered
    /// [`ErrorCode::UNAVAILABLE`], unless this process serves them.
    pub down: bool,
    /// Times that a connection to the others was lost.
    pub disconnects: u64,
    /// Calls handed to it whose answers are waited for now.
    pub calls_in_flight: u64,
    /// Answers that came late, twice or to no question: discarded.
    pub late_answers: u64,
    /// Messages that reached this process and were dropped for want of room. Whoever sent one
    /// gets no answer, and knows that its outcome is unknown.
    pub overflowed: u64,
    /// Messages refused because they were not what the bus's specification says.
    pub malformed: u64,
    /// Requests refused because this process had too many under way.
    pub overloaded: u64,
    /// Things that this process wanted to do and the bus's permissions forbid.
    pub forbidden: u64,
    /// Events that no instance took.
    pub undelivered_events: u64,
    /// Events given up because the bus was down for too long.
    pub lost_events: u64,
}

/// A service's instance as the bus sees it.
pub trait Endpoint: Send + Sync + 'static {
    /// Serves a call. Must not block; the answer may be given before this returns.
    ///
    /// The bus has checked that the method exists and is open to the caller. The bus
    /// never hands in two calls of one session at the same time.
    fn call(&self, call: Call<'_>, responder: Responder);

    /// Takes an event. Must not block.
    fn event(&self, session: Arc<Snapshot>, event: Event);

    /// Takes the news that a gate died. Must not block. Only who asked
    /// ([`InstanceInfo::wants_gates`]) gets it.
    fn gate_gone(&self, gone: GateGone) {
        let _ = gone;
    }
}

/// A call to a method.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The service called.
    pub service: &'a str,
    /// Its method.
    pub method: &'a str,
    /// On whose behalf.
    pub caller: Caller,
    /// The caller's session; none when a service calls without one.
    pub session: Option<Arc<Snapshot>>,
    /// The packet's body.
    pub body: Bytes,
    /// Only this instance will do.
    pub instance: Option<&'a InstanceId>,
    /// Whether the client gave a request id.
    pub wants_answer: bool,
    /// This call in traces (W3C Trace Context parent-id).
    pub span_id: u64,
}

/// On whose behalf a call is made: decides which methods it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A client whose session has no user.
    Guest,
    /// A client whose session is bound to a user.
    Bound,
    /// A service or the gate's own code.
    Internal,
}

/// Whom a method is open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpenTo {
    /// Services and the gate's own code only.
    Internal,
    /// Sessions bound to a user, and those above.
    Bound,
    /// Every session, and those above.
    Guests,
}

impl OpenTo {
    /// Whether a call on behalf of `caller` is let in.
    pub fn admits(self, caller: Caller) -> bool {
        match caller {
            Caller::Internal => true,
            Caller::Bound => self >= Self::Bound,
            Caller::Guest => self == Self::Guests,
        }
    }
}

/// What a method does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// Answers; needs a request id.
    Request,
    /// Does not answer; called with a request id its answer is empty.
    OneWay,
}

/// A method as its service declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodInfo {
    /// The method.
    pub name: Name,
    /// Request or one-way.
    pub kind: MethodKind,
    /// Whom it is open to.
    pub open_to: OpenTo,
}

/// How calls of a service are routed among its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// The first answer binds the session to the instance that gave it.
    pub sticky: bool,
    /// What becomes of a call whose bound instance is gone.
    pub dead_instance: DeadInstance,
}

/// What becomes of calls whose bound instance is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeadInstance {
    /// Each is an error ([`ErrorCode::INSTANCE_GONE`]) until a service binds anew.
    #[default]
    Fail,
    /// The session is bound to another instance, which is told ([`Event::Rebound`])
    /// before it gets the call.
    Rebind,
    /// Calls wait, in order, for the instance to come back, at most this long each.
    Hold(Duration),
}

/// An instance of a service, as registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// The service.
    pub service: Name,
    /// This instance.
    pub instance: InstanceId,
    /// The service's version, for people.
    pub version: String,
    /// Free pairs, for people and tools.
    pub metadata: BTreeMap<String, String>,
    /// After how long an instance that is no longer heard of counts as gone. The local
    /// bus needs none: it knows.
    pub ttl: Duration,
    /// What it serves.
    pub methods: Vec<MethodInfo>,
    /// How its service wants to be routed to. Instances of one service must agree.
    pub policy: Policy,
    /// Whether it asks for [`Event::Started`].
    pub wants_started: bool,
    /// Whether it asks for [`Event::Dormant`] and [`Event::Resumed`].
    pub wants_dormancy: bool,
    /// Whether it asks for [`GateGone`].
    pub wants_gates: bool,
}

/// A gate, as registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateInfo {
    /// The gate.
    pub id: GateId,
    /// Its version, for people.
    pub version: String,
    /// Free pairs, for people and tools.
    pub metadata: BTreeMap<String, String>,
}

/// A gate died, and its sessions with it. No [`Event::Disconnected`] comes for them.
///
/// On the bus within one process no gate dies alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GateGone {
    /// The gate. It may have come back since, without those sessions.
    pub gate: GateId,
    /// Which of the gates that have had this id.
    pub incarnation: u64,
}

/// Which services get an event.
#[derive(Debug, Clone, Copy)]
pub enum EventTarget<'a> {
    /// One service: this instance if it lives, else one of its instances.
    Service(&'a str, Option<&'a InstanceId>),
    /// Every service that asked for this kind of event.
    WhoAsked,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The session began; no packet of it has been routed yet.
    Started,
    /// The session lost its connection, and waits for its client.
    Dormant,
    /// The client of a dormant session came back.
    Resumed,
    /// The session ended.
    Disconnected(Ended),
    /// The session was bound to an instance that is gone and is now bound to this one.
    Rebound {
        /// The instance that is gone.
        from: InstanceId,
    },
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: CloseReason,
    /// Packets accepted for the client that were not written to its socket.
    /// Of a session that could be resumed, also those written that the client did not acknowledge.
    pub undelivered_packets: u64,
    /// Bytes of topic and body in them.
    pub undelivered_bytes: u64,
}

/// What a call gave.
pub type CallResult = Result<Answer, CallError>;

/// A successful answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Goes to the client under the request's topic.
    pub body: Bytes,
    /// The instance that answered, where its service is sticky.
    pub instance: Option<InstanceId>,
}

/// A call that failed: a numbered code, and text for humans.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} ({})", code.0)]
pub struct CallError {
    /// The number.
    pub code: ErrorCode,
    /// Shown to the client's developer; must not hold secrets.
    pub message: Cow<'static, str>,
}

impl CallError {
    /// An error with a text of its own. Services number theirs from
    /// [`ErrorCode::FIRST_OF_SERVICES`].
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A service's own error, numbered from 1000.
    pub fn service(number: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode(number), message)
    }
}

impl From<ErrorCode> for CallError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.text())
    }
}

/// A bus that cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BusError {
    /// A live gate or instance has the same id.
    #[error("{0} is registered already")]
    Taken(String),
    /// Instances of one service differ in policy or in a method's declaration.
    #[error("instance of {service} disagrees with those registered: {what}")]
    Disagrees {
        /// The service.
        service: Name,
        /// In what.
        what: String,
    },
    /// The bus cannot be reached.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
}
