//! The way of a client's packet to the bus: route, note the call, hand it over; and
//! what becomes of packets for an instance that is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidegate_protocol::{ErrorCode, InstanceId, Name, Packet, RouteError, Snapshot};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::bus::{
    Call, CallError, CallResult, Caller, DeadInstance, Event, EventTarget, Responder,
};
use crate::metrics::calls::Timing;
use crate::session::flow::PendingCall;
use crate::session::{Attachment, Extra, LocalSession};

/// Routes one packet by its topic and hands it to the bus. Packets of one session are
/// dispatched one after the other, by its connection, which is `at`. `count` is the
/// packet's among the client's, where they are counted.
pub(crate) fn dispatch(session: &LocalSession, at: &Attachment, packet: Packet, count: u64) {
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
            return session.packet_error(&packet.topic, count, &error);
        }
    };
    let info = session.snapshot();
    let wants_answer = route.request_id.is_some();
    let call_timeout = at.endpoint.limits.call_timeout;
    let span_id = rand::random();
    let number = core.flow.lock().begin_call(PendingCall {
        number: 0,
        topic: packet.topic.clone(),
        wants_answer,
        packet: count,
        deadline: core.gate.clock.now().plus(call_timeout),
        service: core.gate.services.place(route.service),
        timing: Timing::begin(span_id),
    });
    if !core.gate.exposure.admits(route.service, route.method) {
        // What the bus answers where there is no such service.
        return session.finish_call(number, Err(ErrorCode::NOT_FOUND.into()));
    }
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
        span_id,
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
    /// What waits while the instance is gone; `None` while it is not known to be.
    held: Option<Held>,
}

/// Calls that wait for an instance, in the order of their packets.
#[derive(Debug, Default)]
struct Held {
    calls: VecDeque<HeldCall>,
    /// Tells the task that looks for an instance that it need not any more.
    over: Arc<Notify>,
}

impl Held {
    /// Puts a call in its place: of several that were on their way to an instance that
    /// is gone, the later ones may come back first.
    fn insert(&mut self, call: HeldCall) {
        let before = |c: &HeldCall| (c.number.wrapping_sub(call.number) as i32) < 0;
        let at = self.calls.partition_point(before);
        self.calls.insert(at, call);
    }
}

impl Binding {
    pub(crate) fn new(service: Name, instance: InstanceId) -> Self {
        Self {
            service,
            instance,
            held: None,
        }
    }

    /// Points to another instance; calls that wait go there.
    pub(crate) fn change(&mut self, instance: InstanceId) {
        self.instance = instance;
        if let Some(held) = &self.held {
            held.over.notify_one();
        }
    }

    /// Ends the wait for an instance. Answers the calls that waited.
    pub(crate) fn release(&mut self) -> VecDeque<HeldCall> {
        let held = self.held.take().unwrap_or_default();
        held.over.notify_one();
        held.calls
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
            Some(waiting) => {
                wait_longer(session, number, call.service);
                waiting.insert(held);
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

/// Answers the calls that waited for an instance when the wait was given up.
pub(crate) fn fail_held(session: &LocalSession, calls: impl IntoIterator<Item = HeldCall>) {
    for call in calls {
        session.finish_call(call.number, Err(ErrorCode::INSTANCE_GONE.into()));
    }
}

/// Gives a call that waits for an instance the time that its service's policy allows
/// and then its own. Answers whether it is still waited for.
fn wait_longer(session: &LocalSession, number: u32, service: &str) -> bool {
    let core = session.core();
    let call_timeout = core.at().endpoint.limits.call_timeout;
    let wait = match core.gate.bus.policy(service).dead_instance {
        DeadInstance::Hold(time) => time,
        DeadInstance::Rebind | DeadInstance::Fail => call_timeout,
    };
    let deadline = core.gate.clock.now().plus(wait + call_timeout);
    core.flow.lock().set_deadline(number, deadline)
}

/// What becomes of a call that its bound instance did not get.
enum Gone {
    /// It waits with others.
    Waits,
    /// It is the first to wait.
    First(Arc<Notify>),
    /// The session is bound to another instance already.
    Elsewhere(HeldCall),
}

/// Applies the service's policy to a call that its bound instance did not get.
fn instance_gone(session: &LocalSession, held: HeldCall, result: CallResult) {
    let core = session.core();
    let policy = core.gate.bus.policy(&held.service).dead_instance;
    let (number, service, gone) = (held.number, held.service.clone(), held.instance.clone());
    let waits = !held.again && policy != DeadInstance::Fail;
    if !waits || !wait_longer(session, number, &service) {
        return session.finish_call(number, result);
    }
    let next = session.if_extra(|extra| {
        let mut bindings = extra.bindings.iter_mut();
        let binding = bindings.find(|b| b.service == *service)?;
        Some(match &mut binding.held {
            Some(waiting) => {
                waiting.insert(held);
                Gone::Waits
            }
            None if binding.instance != held.instance => Gone::Elsewhere(HeldCall {
                instance: binding.instance.clone(),
                again: true,
                ..held
            }),
            None => {
                let waiting = binding.held.insert(Held::default());
                waiting.insert(held);
                Gone::First(waiting.over.clone())
            }
        })
    });
    match next.flatten() {
        Some(Gone::First(over)) => {
            let session = session.clone();
            core.at()
                .shard
                .spawn(recover(session, service, gone, policy, over));
        }
        Some(Gone::Elsewhere(held)) => hand_over(session, held),
        Some(Gone::Waits) => {}
        // Unbound meanwhile: the packet was for an instance that is gone.
        None => session.finish_call(number, result),
    }
}

/// Finds an instance for the calls that wait, and hands them over in order.
async fn recover(
    session: LocalSession,
    service: Box<str>,
    gone: InstanceId,
    policy: DeadInstance,
    over: Arc<Notify>,
) {
    let (found, by_hand) = tokio::select! {
        biased;
        () = over.notified() => (None, true),
        found = find(&session, &service, &gone, policy) => (found, false),
    };
    let to = session.if_extra(|extra| {
        let binding = waiting(extra, &service, &over)?;
        if by_hand || binding.instance != gone {
            return Some(Some(binding.instance.clone()));
        }
        if let Some(found) = &found {
            binding.instance = found.clone();
        }
        Some(found.clone())
    });
    // The session has ended, or was unbound.
    let Some(to) = to.flatten() else { return };
    if policy == DeadInstance::Rebind
        && let Some(new) = to.as_ref().filter(|to| Some(*to) == found.as_ref())
    {
        let target = EventTarget::Service(&service, Some(new));
        let event = Event::Rebound { from: gone };
        let bus = &session.core().gate.bus;
        bus.event(target, session.snapshot(), event);
    }
    loop {
        let next = session.if_extra(|extra| {
            let binding = waiting(extra, &service, &over)?;
            let mut call = binding.held.as_mut()?.calls.pop_front();
            match &mut call {
                None => binding.held = None,
                Some(call) => call.instance = binding.instance.clone(),
            }
            call
        });
        let Some(mut call) = next.flatten() else {
            return;
        };
        if to.is_none() {
            let code = match policy {
                DeadInstance::Rebind => ErrorCode::UNAVAILABLE,
                DeadInstance::Fail | DeadInstance::Hold(_) => ErrorCode::INSTANCE_GONE,
            };
            session.finish_call(call.number, Err(code.into()));
            continue;
        }
        let core = session.core();
        let deadline = core.gate.clock.now();
        let deadline = deadline.plus(core.at().endpoint.limits.call_timeout);
        // One that is not waited for any more has been answered as unknown.
        if core.flow.lock().set_deadline(call.number, deadline) {
            call.again = true;
            hand_over(&session, call);
        }
    }
}

/// The binding to `service`, while it is the one whose calls wait until `over`.
fn waiting<'a>(extra: &'a mut Extra, service: &str, over: &Arc<Notify>) -> Option<&'a mut Binding> {
    let mut bindings = extra.bindings.iter_mut();
    let binding = bindings.find(|b| b.service == *service)?;
    let held = binding.held.as_ref()?;
    Arc::ptr_eq(&held.over, over).then_some(binding)
}

/// An instance for a session whose own is gone, as the policy has it.
async fn find(
    session: &LocalSession,
    service: &str,
    gone: &InstanceId,
    policy: DeadInstance,
) -> Option<InstanceId> {
    let core = session.core();
    let bus = &core.gate.bus;
    if let DeadInstance::Hold(time) = policy {
        let up = timeout(time, bus.instance_up(service, gone)).await;
        return up.ok().map(|()| gone.clone());
    }
    let instances = timeout(
        core.at().endpoint.limits.call_timeout,
        bus.instances(service),
    )
    .await;
    let instances = instances.ok()?.ok()?.into_iter().map(|i| i.instance);
    // One that has come back under the same id has forgotten the session like any other.
    let (same, mut others): (Vec<_>, Vec<_>) = instances.partition(|i| i == gone);
    match others.len() {
        0 => same.into_iter().next(),
        n => Some(others.swap_remove(rand::random_range(0..n))),
    }
}
