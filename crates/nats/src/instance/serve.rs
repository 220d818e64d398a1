//! What becomes of a message for an instance, and of its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use async_nats::{Message, Subject};
use tidegate::bus::{Call, CallError, CallResult, Caller, Endpoint, GateGone, Responder};
use tidegate_protocol::ErrorCode;
use tokio::runtime::Handle;

use super::intake::Kind;
use crate::counters::{Counters, LogLimit};
use crate::header::{Headers, Malformed};
use crate::link::{Link, NotSent};
use crate::micro::describe::{Described, Place};
use crate::subject::{AllEvent, Class, Prefix, ServiceEvent, ToService};
use crate::wire::{self, Envelope};

/// An instance, from the subscription's end.
pub(super) struct Server {
    pub(super) link: Link,
    pub(super) prefix: Prefix,
    pub(super) counters: Arc<Counters>,
    pub(super) described: Arc<Described>,
    pub(super) endpoint: Arc<dyn Endpoint>,
    /// Where answers wait for room.
    pub(super) runtime: Handle,
    pub(super) lines: LogLimit,
    /// What is for this instance alone is not served any more.
    pub(super) leaving: AtomicBool,
    /// Calls that were told so.
    pub(super) told: AtomicU64,
}

impl Server {
    /// Serves a message. Never blocks.
    pub(super) fn serve(self: &Arc<Self>, message: Message) {
        if let Err(malformed) = self.try_serve(&message) {
            self.counters.malformed.fetch_add(1, Ordering::Relaxed);
            self.log(&message, &malformed);
            let error = CallError::new(ErrorCode::BAD_BODY, malformed.to_string());
            self.reply(message.reply, wire::call::answer(Err(error)));
        }
    }

    /// Calls for this instance alone are answered that it is gone: the sessions bound to it
    /// go elsewhere, or wait, as its policy has it.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Calls that were answered so.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// There is no room for a message.
    pub(super) fn refuse(self: &Arc<Self>, kind: Kind, message: &Message) {
        match kind {
            Kind::Call => self.counters.overloaded.fetch_add(1, Ordering::Relaxed),
            Kind::Event => self.counters.overflowed.fetch_add(1, Ordering::Relaxed),
        };
        self.log(message, &"too many wait");
        let error = CallError::from(ErrorCode::OVERLOADED);
        self.reply(message.reply.clone(), wire::call::answer(Err(error)));
    }

    fn try_serve(self: &Arc<Self>, message: &Message) -> Result<(), Malformed> {
        let subject = self.prefix.to_service(&message.subject);
        let headers = Headers(message.headers.as_ref());
        match subject.ok_or(Malformed::new("subject", "is none of this system"))? {
            ToService::All(AllEvent::GateGone) => {
                let (gate, incarnation) = wire::event::read_gate_gone(&message.payload)?;
                if self.described.info().wants_gates {
                    self.endpoint.gate_gone(GateGone { gate, incarnation });
                }
            }
            ToService::All(name) => {
                let session = headers.session()?;
                let session = session.ok_or(Malformed::new("Tidegate-Session", "is missing"))?;
                let info = self.described.info();
                // Where its gate serves the service in its own process, it has told it there.
                let wanted = !headers.is_near(&info.service)?
                    && match name {
                        AllEvent::Started => info.wants_started,
                        _ => info.wants_dormancy,
                    };
                if let (true, Some(event)) = (wanted, wire::event::decode_all(name)) {
                    self.endpoint.event(session, event);
                }
            }
            ToService::One {
                class: Class::Event,
                name,
                ..
            } => {
                let name = ServiceEvent::from_token(name);
                let name = name.ok_or(Malformed::new("subject", "names no event"))?;
                let session = headers.session()?;
                let session = session.ok_or(Malformed::new("Tidegate-Session", "is missing"))?;
                let event = wire::event::decode(name, &message.payload)?;
                self.endpoint.event(session, event);
            }
            ToService::One {
                class,
                instance,
                name,
                ..
            } => {
                let caller = class.caller().unwrap_or(Caller::Guest);
                return self.call(message, caller, instance.is_some(), name);
            }
        }
        // That it has been taken is worth an answer, too.
        self.reply(message.reply.clone(), Envelope::default());
        Ok(())
    }

    fn call(
        self: &Arc<Self>,
        message: &Message,
        caller: Caller,
        to_this_instance: bool,
        method: &str,
    ) -> Result<(), Malformed> {
        let Some(place) = self.described.method(method, caller) else {
            let error = CallError::from(ErrorCode::NOT_FOUND);
            self.reply(message.reply.clone(), wire::call::answer(Err(error)));
            return Ok(());
        };
        if to_this_instance && self.leaving.load(Ordering::Relaxed) {
            self.told.fetch_add(1, Ordering::Relaxed);
            let error = CallError::from(ErrorCode::INSTANCE_GONE);
            self.reply(message.reply.clone(), wire::call::answer(Err(error)));
            return Ok(());
        }
        let head = wire::call::read_head(Headers(message.headers.as_ref()))?;
        if caller != Caller::Internal && head.session.is_none() {
            return Err(Malformed::new("Tidegate-Session", "is missing"));
        }
        let info = self.described.info();
        let (server, reply, began) = (self.clone(), message.reply.clone(), Instant::now());
        let responder = Responder::new(move |result| server.answer(place, began, reply, result));
        let call = Call {
            service: &info.service,
            method,
            caller,
            session: head.session,
            body: message.payload.clone(),
            instance: to_this_instance.then_some(&info.instance),
            wants_answer: head.wants_answer,
            span_id: head.span.unwrap_or_else(rand::random),
        };
        self.endpoint.call(call, responder);
        Ok(())
    }

    fn answer(&self, at: Place, began: Instant, reply: Option<Subject>, result: CallResult) {
        self.described
            .count(at, began.elapsed(), result.as_ref().err());
        self.reply(reply, wire::call::answer(result));
    }

    /// Sends an answer. Where it cannot be sent, whoever asked knows that the outcome is
    /// unknown.
    fn reply(&self, to: Option<Subject>, envelope: Envelope) {
        let Some(to) = to else { return };
        let Envelope { headers, body } = envelope;
        let sent = self
            .link
            .publish(to.clone(), None, headers.clone(), body.clone());
        match sent {
            Ok(()) => {}
            Err(NotSent::Full) => {
                // As many as there are calls under way, and those have their bounds.
                let link = self.link.clone();
                self.runtime.spawn(async move {
                    if let Err(error) = link.publish_wait(to, None, headers, body).await {
                        tracing::debug!(%error, "an answer was not sent");
                    }
                });
            }
            Err(NotSent::TooLarge) => {
                let error = CallError::from(ErrorCode::ANSWER_TOO_LARGE);
                let Envelope { headers, body } = wire::call::answer(Err(error));
                let _ = self.link.publish(to, None, headers, body);
            }
            Err(error) => tracing::debug!(%error, "an answer was not sent"),
        }
    }

    fn log(&self, message: &Message, why: &dyn std::fmt::Display) {
        if let Some(unlogged) = self.lines.admit() {
            let info = self.described.info();
            tracing::warn!(
                service = &*info.service,
                instance = &*info.instance,
                // Debug escapes what a foreign subject may hold.
                subject = ?message.subject.as_str(),
                %why,
                unlogged,
                "a message was not served"
            );
        }
    }
}
