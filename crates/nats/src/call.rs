//! Calls of services: where each goes, and what its answer means.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Weak};

use async_nats::{Message, Subject};
use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::Mutex;
use tidegate::bus::{Bus as _, Call, CallError, CallResult, Responder};
use tidegate_protocol::{ErrorCode, InstanceId, InvalidName, Snapshot};

use crate::bus::Inner;
use crate::header::Headers;
use crate::mux::{AskError, Waiting};
use crate::subject::{Class, Prefix};
use crate::wire;

/// Sessions that a lane remembers as they are sent.
const ENCODED: usize = 1_024;
/// Longest of them that it remembers.
const MAX_ENCODED: usize = 1_024;
/// Most targets that a lane remembers: clients can name any.
const TARGETS: usize = 4_096;

impl Inner {
    /// Sends a call on its way. An instance in this process is preferred.
    pub(crate) fn call(self: &Arc<Self>, call: Call<'_>, responder: Responder) {
        if self.near.serves(call.service, call.instance) {
            return self.near.call(call, responder);
        }
        let lane = self.lane_of(call.session.as_deref());
        let target = match lane.targets.get(self, &call) {
            Ok(target) => target,
            // Not of the grammar: nobody can listen there.
            Err(_) => return responder.answer(Err(ErrorCode::NOT_FOUND.into())),
        };
        let head = |session: Option<(&str, u128)>| {
            wire::call::head(session, call.span_id, call.wants_answer)
        };
        let headers = match &call.session {
            Some(session) => lane
                .encoded
                .with(session, |json| head(Some((json, session.trace_id)))),
            None => head(None),
        };
        lane.send(
            target.subject.clone(),
            (!headers.is_empty()).then_some(headers),
            call.body,
            self.options.call_timeout,
            Waiting::Call(Asked { responder, target }),
        );
    }
}

/// A call on its way.
pub(crate) struct Asked {
    responder: Responder,
    target: Arc<Target>,
}

impl Asked {
    /// Takes what came of it.
    pub(crate) fn take(self, reply: Result<Message, AskError>) {
        let Self { responder, target } = self;
        match reply {
            Ok(message) => responder.answer(target.answer(message)),
            Err(error) => match target.bus.upgrade() {
                // What it means that nobody is there depends on the service.
                Some(bus) if error == AskError::NoResponders => {
                    let of = target.clone();
                    bus.when_known(&of.service, move || {
                        responder.answer(Err(target.failure(error)));
                    });
                }
                _ => responder.answer(Err(target.failure(error))),
            },
        }
    }
}

/// Where calls of one method go.
pub(crate) struct Target {
    class: Class,
    service: Box<str>,
    method: Box<str>,
    instance: Option<InstanceId>,
    subject: Subject,
    bus: Weak<Inner>,
}

impl Target {
    fn new(bus: &Arc<Inner>, call: &Call<'_>) -> Result<Self, InvalidName> {
        let class = Class::of(call.caller);
        Ok(Self {
            class,
            service: call.service.into(),
            method: call.method.into(),
            instance: call.instance.cloned(),
            subject: subject(&bus.prefix, class, call)?,
            bus: Arc::downgrade(bus),
        })
    }

    fn is_of(&self, call: &Call<'_>) -> bool {
        self.class == Class::of(call.caller)
            && *self.method == *call.method
            && *self.service == *call.service
            && self.instance.as_ref() == call.instance
    }

    fn answer(&self, message: Message) -> CallResult {
        let headers = Headers(message.headers.as_ref());
        match wire::call::read_answer(headers, message.payload) {
            Ok(result) => result,
            Err(malformed) => {
                if let Some(bus) = self.bus.upgrade() {
                    bus.malformed(&self.subject, &malformed);
                }
                Err(CallError::new(
                    ErrorCode::INTERNAL,
                    "the service's answer is malformed",
                ))
            }
        }
    }

    fn failure(&self, error: AskError) -> CallError {
        match error {
            AskError::Unavailable => ErrorCode::UNAVAILABLE.into(),
            AskError::OutcomeUnknown => ErrorCode::OUTCOME_UNKNOWN.into(),
            AskError::Overloaded => ErrorCode::OVERLOADED.into(),
            AskError::TooLarge => CallError::new(
                ErrorCode::BAD_BODY,
                "the packet is larger than the bus takes",
            ),
            AskError::NoResponders => self.nobody().into(),
        }
    }

    /// Nobody listens for this call.
    fn nobody(&self) -> ErrorCode {
        let Some(bus) = self.bus.upgrade() else {
            return ErrorCode::UNAVAILABLE;
        };
        match &self.instance {
            // After a reconnect of all, others may not be back yet: no reason to give up
            // what is kept in that instance.
            Some(_) if bus.is_back_lately() => ErrorCode::UNAVAILABLE,
            Some(_) => ErrorCode::INSTANCE_GONE,
            None => bus.nobody(&self.service, &self.method, self.class),
        }
    }
}

fn subject(prefix: &Prefix, class: Class, call: &Call<'_>) -> Result<Subject, InvalidName> {
    match call.instance {
        Some(instance) => prefix.instance_call(class, call.service, instance, call.method),
        None => prefix.call(class, call.service, call.method),
    }
}

/// The targets of calls made lately.
#[derive(Default)]
pub(crate) struct Targets {
    hasher: DefaultHashBuilder,
    table: Mutex<HashTable<Arc<Target>>>,
}

impl Targets {
    fn get(&self, bus: &Arc<Inner>, call: &Call<'_>) -> Result<Arc<Target>, InvalidName> {
        let class = Class::of(call.caller);
        let hash = self
            .hasher
            .hash_one((class, call.service, call.method, call.instance));
        let mut table = self.table.lock();
        if let Some(found) = table.find(hash, |target| target.is_of(call)) {
            return Ok(found.clone());
        }
        bus.heed(call.service);
        let target = Arc::new(Target::new(bus, call)?);
        if table.len() >= TARGETS {
            table.clear();
        }
        table.insert_unique(hash, target.clone(), |target| {
            self.hasher.hash_one((
                target.class,
                &*target.service,
                &*target.method,
                target.instance.as_ref(),
            ))
        });
        Ok(target)
    }
}

/// Sessions as they are sent, of those that called lately.
pub(crate) struct Encoded(Mutex<Vec<Option<Known>>>);

/// A session, and its JSON.
type Known = (Weak<Snapshot>, Box<str>);

impl Default for Encoded {
    fn default() -> Self {
        Self(Mutex::new(vec![None; ENCODED]))
    }
}

impl Encoded {
    fn with<T>(&self, session: &Arc<Snapshot>, f: impl FnOnce(&str) -> T) -> T {
        // The id is random.
        let place = session.id.0 as usize % ENCODED;
        let mut places = self.0.lock();
        if let Some((known, json)) = &places[place]
            && known.as_ptr() == Arc::as_ptr(session)
        {
            return f(json);
        }
        let json = session.encode_ascii();
        let result = f(&json);
        if json.len() <= MAX_ENCODED {
            places[place] = Some((Arc::downgrade(session), json.into()));
        }
        result
    }
}
