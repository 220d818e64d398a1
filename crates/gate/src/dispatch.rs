//! The way of a client's packet to the bus: route, note the call, hand it over; and
//! what becomes of packets for an instance that is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidegate_protocol::{ErrorCode, InstanceId, Name, Packet, RouteError, Snapshot};

use crate::bus::{
    Call, CallError, CallResult, Caller, DeadInstance, Event, EventTarget, Responder,
};
use crate::session::LocalSession;

/// Routes one packet by its topic and hands it to the bus. Packets of one session are
/// dispatched one after the other, by its connection.
pub(crate) fn dispatch(session: &LocalSession, packet: Packet) {
    let core = session.core();
    let route = match packet.topic.route() {
        Ok(route) => route,
        Err(error) => {
            let code = match error {
                RouteError::Reserved => ErrorCode::RESERVED_TOPIC,
                RouteError::Segments | RouteError::Name | RouteError::RequestId => {
                    ErrorCode::BAD_TOPIC
                }
            };
            let error = CallError::new(code, error.to_string());
            return session.packet_error(&packet.topic, &error);
        }
    };
    let info = session.snapshot();
    let wants_answer = route.request_id.is_some();
    let deadline = core
        .shard
        .clock
        .now()
        .plus(core.endpoint.limits.call_timeout);
    let number = core
        .flow
        .lock()
        .begin_call(packet.topic.clone(), wants_answer, deadline);
    let call = Call {
        service: route.service,
        method: route.method,
        caller: match info.is_guest() {
            true => Caller::Guest,
            false => Caller::Bound,
        },
        session: Some(info),
        body: packet.body,
        instance: None,
        wants_answer,
        span_id: rand::random(),
    };
    if core.has_bindings.load(Ordering::Relaxed) && call_bound(session, number, &call) {
        return;
    }
    let responder = Responder::session(session.clone(), number, None);
    core.gate.bus.call(call, responder);
}

/// A session's binding to one instance of a service.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) service: Name,
    pub(crate) instance: InstanceId,
    /// Calls that wait while the instance is gone; `None` while it is not known to be.
    held: Option<VecDeque<HeldCall>>,
}

impl Binding {
    pub(crate) fn new(service: Name, instance: InstanceId) -> Self {
        Self {
            service,
            instance,
            held: None,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }
}

/// A call that can be made again, because its instance was gone when it was made.
#[derive(Debug)]
pub(crate) struct HeldCall {
    number: u32,
    service: Box<str>,
    method: Box<str>,
    caller: Caller,
    info: Arc<Snapshot>,
    body: Bytes,
    instance: InstanceId,
    wants_answer: bool,
    span_id: u64,
    /// Handed over again once: an instance that comes and goes is not chased.
    again: bool,
}

/// Hands a call to the instance the session is bound to, or queues it behind those
/// that wait for that instance. Answers whether there is such a binding.
fn call_bound(session: &LocalSession, number: u32, call: &Call<'_>) -> bool {
    let Some(info) = call.session.clone() else {
        return false;
    };
    let held = session.if_extra(|extra| {
        let mut bindings = extra.bindings.iter_mut();
        let binding = bindings.find(|b| b.service == *call.service)?;
        let held = HeldCall {
            number,
            service: call.service.into(),
            method: call.method.into(),
            caller: call.caller,
            info,
            body: call.body.clone(),
            instance: binding.instance.clone(),
            wants_answer: call.wants_answer,
            span_id: call.span_id,
            again: false,
        };
        Some(match &mut binding.held {
            Some(queue) => {
                queue.push_back(held);
                None
            }
            None => Some(held),
        })
    });
    match held.flatten() {
        None => false,
        Some(None) => true,
        Some(Some(held)) => {
            hand_over(session, held);
            true
        }
    }
}

fn hand_over(session: &LocalSession, held: HeldCall) {
    let (service, method, instance) = (
        held.service.clone(),
        held.method.clone(),
        held.instance.clone(),
    );
    let call = Call {
        service: &service,
        method: &method,
        caller: held.caller,
        session: Some(held.info.clone()),
        body: held.body.clone(),
        instance: Some(&instance),
        wants_answer: held.wants_answer,
        span_id: held.span_id,
    };
    let responder = Responder::session(session.clone(), held.number, Some(Box::new(held)));
    session.core().gate.bus.call(call, responder);
}

/// Takes what came of a call; `bound` if it was made to a bound instance.
pub(crate) fn finish(
    session: &LocalSession,
    number: u32,
    bound: Option<Box<HeldCall>>,
    result: CallResult,
) {
    match (&result, bound) {
        (Err(error), Some(held)) if error.code == ErrorCode::INSTANCE_GONE => {
            return instance_gone(session, *held, result);
        }
        (Ok(answer), _) => {
            if let Some(instance) = &answer.instance {
                stick(session, number, instance);
            }
        }
        _ => {}
    }
    session.finish_call(number, result);
}

/// The first answer of a sticky service binds the session.
fn stick(session: &LocalSession, number: u32, instance: &InstanceId) {
    let Some(topic) = session.core().flow.lock().topic_of(number) else {
        return;
    };
    let service = topic.route().ok().and_then(|r| Name::new(r.service).ok());
    if let Some(service) = service
        && session.bound_instance(&service).is_none()
    {
        // A session that just ended, or has too many bindings, stays unbound.
        let _ = session.bind_instance(service, instance.clone());
    }
}

/// Applies the service's policy to a call that its bound instance did not get.
fn instance_gone(session: &LocalSession, held: HeldCall, result: CallResult) {
    let core = session.core();
    let policy = core.gate.bus.policy(&held.service).dead_instance;
    let wait = match policy {
        _ if held.again => return session.finish_call(held.number, result),
        DeadInstance::Fail => return session.finish_call(held.number, result),
        DeadInstance::Rebind => core.endpoint.limits.call_timeout,
        DeadInstance::Hold(time) => time,
    };
    let deadline = core
        .shard
        .clock
        .now()
        .plus(wait + core.endpoint.limits.call_timeout);
    if !core.flow.lock().set_deadline(held.number, deadline) {
        return;
    }
    let service = held.service.clone();
    let gone = held.instance.clone();
    let number = held.number;
    let first = session.if_extra(|extra| {
        let mut bindings = extra.bindings.iter_mut();
        let binding = bindings.find(|b| b.service == *service)?;
        let first = binding.held.is_none();
        binding.held.get_or_insert_default().push_back(held);
        Some(first)
    });
    match first.flatten() {
        Some(true) => core
            .shard
            .spawn(recover(session.clone(), service, gone, policy)),
        Some(false) => {}
        // Unbound meanwhile: the packet was for an instance that is gone.
        None => session.finish_call(number, result),
    }
}

/// Finds an instance for the calls that wait, and hands them over in order.
async fn recover(session: LocalSession, service: Box<str>, gone: InstanceId, policy: DeadInstance) {
    let bus = &session.core().gate.bus;
    let found = match policy {
        DeadInstance::Hold(time) => {
            let up = tokio::time::timeout(time, bus.instance_up(&service, &gone)).await;
            up.ok().map(|()| gone)
        }
        DeadInstance::Rebind | DeadInstance::Fail => {
            let instances = bus.instances(&service).await.unwrap_or_default();
            let others = instances.into_iter().map(|i| i.instance);
            let others: Vec<_> = others.filter(|i| *i != gone).collect();
            let pick = (!others.is_empty()).then(|| rand::random_range(0..others.len()));
            let new = pick.map(|i| others[i].clone());
            if let Some(new) = &new {
                let to = EventTarget::Service(&service, Some(new));
                bus.event(to, session.snapshot(), Event::Rebound { from: gone });
            }
            new
        }
    };
    loop {
        let next = session.if_extra(|extra| {
            let i = extra.bindings.iter().position(|b| b.service == *service)?;
            let binding = &mut extra.bindings[i];
            if let Some(instance) = &found {
                binding.instance = instance.clone();
            }
            let next = binding.held.as_mut()?.pop_front();
            if next.is_none() {
                binding.held = None;
                // No instance took over: the next packet finds its own.
                if found.is_none() && policy == DeadInstance::Rebind {
                    extra.bindings.swap_remove(i);
                }
            }
            next
        });
        let Some(mut held) = next.flatten() else {
            return;
        };
        let deadline = session.core().shard.clock.now();
        let deadline = deadline.plus(session.core().endpoint.limits.call_timeout);
        let waited_for = session
            .core()
            .flow
            .lock()
            .set_deadline(held.number, deadline);
        match &found {
            Some(instance) if waited_for => {
                held.instance = instance.clone();
                held.again = true;
                hand_over(&session, held);
            }
            Some(_) => {}
            None => {
                let code = match policy {
                    DeadInstance::Rebind => ErrorCode::UNAVAILABLE,
                    DeadInstance::Fail | DeadInstance::Hold(_) => ErrorCode::INSTANCE_GONE,
                };
                session.finish_call(held.number, Err(code.into()));
            }
        }
    }
}
