//! The bus within one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, FutureExt, join_all, ready};
use hashbrown::HashMap;
use parking_lot::RwLock;
use smallvec::SmallVec;
use tidegate_protocol::{ErrorCode, GateId, InstanceId, Name, SessionId, Snapshot};
use tokio::sync::watch;

use super::{
    Bus, BusError, BusStats, Call, CallError, Endpoint, Event, EventTarget, GateEndpoint,
    GateError, GateInfo, GateReply, GateRequest, InstanceInfo, MethodInfo, Policy, Registration,
    Responder, SessionOp, SessionReply,
};

/// Connects gates and services of one process: the default, nothing to install.
///
/// Calls are spread over a service's instances in turn. A call or event runs on the
/// caller's thread as far as the endpoint runs it in place.
#[derive(Default)]
pub struct LocalBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    registry: RwLock<Registry>,
    /// Told when an instance became reachable.
    changed: watch::Sender<()>,
    undelivered_events: AtomicU64,
}

#[derive(Default)]
struct Registry {
    /// A service stays known when its last instance is gone: that is what tells
    /// "unavailable" from "not found".
    services: HashMap<Name, Service>,
    gates: HashMap<GateId, (GateInfo, Arc<dyn GateEndpoint>)>,
}

struct Service {
    policy: Policy,
    wants_started: bool,
    wants_dormancy: bool,
    wants_gates: bool,
    methods: HashMap<Name, MethodInfo>,
    instances: Vec<Instance>,
    /// Counts calls, to take the instances in turn.
    turn: AtomicUsize,
}

struct Instance {
    info: InstanceInfo,
    endpoint: Arc<dyn Endpoint>,
}

impl LocalBus {
    /// A bus with nobody on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this instance of the service is on the bus, or any where none is named.
    pub fn serves(&self, service: &str, instance: Option<&InstanceId>) -> bool {
        let registry = self.shared.registry.read();
        match instance {
            Some(instance) => registry.is_live(service, instance),
            None => registry
                .services
                .get(service)
                .is_some_and(|s| !s.instances.is_empty()),
        }
    }

    /// Whether this gate is on the bus.
    pub fn holds(&self, gate: &GateId) -> bool {
        self.shared.registry.read().gates.contains_key(gate)
    }

    /// The services with an instance on the bus that asked for events of this kind.
    pub fn who_asked(&self, event: &Event) -> Vec<Name> {
        let registry = self.shared.registry.read();
        let asked = |(_, s): &(&Name, &Service)| s.wants(event) && !s.instances.is_empty();
        let services = registry.services.iter().filter(asked);
        services.map(|(name, _)| name.clone()).collect()
    }

    /// Events so far that no instance took.
    pub fn undelivered_events(&self) -> u64 {
        self.shared.undelivered_events.load(Ordering::Relaxed)
    }
}

impl Bus for LocalBus {
    fn call(&self, call: Call<'_>, responder: Responder) {
        // The lock ends with this statement: an endpoint may well use the bus.
        let found = self.shared.registry.read().endpoint(&call);
        match found {
            Ok(endpoint) => endpoint.call(call, responder),
            Err(code) => responder.answer(Err(CallError::from(code))),
        }
    }

    fn event(&self, to: EventTarget<'_>, session: Arc<Snapshot>, event: Event) {
        let mut takers = SmallVec::<[Arc<dyn Endpoint>; 4]>::new();
        let mut missed = 0;
        {
            let registry = self.shared.registry.read();
            match to {
                EventTarget::Service(service, instance) => {
                    let taker = registry.services.get(service).and_then(|service| {
                        instance
                            .and_then(|id| service.instance(id))
                            .or_else(|| service.next())
                    });
                    match taker {
                        Some(instance) => takers.push(instance.endpoint.clone()),
                        None => missed += 1,
                    }
                }
                EventTarget::WhoAsked => {
                    for service in registry.services.values().filter(|s| s.wants(&event)) {
                        match service.next() {
                            Some(instance) => takers.push(instance.endpoint.clone()),
                            None => missed += 1,
                        }
                    }
                }
            }
        }
        if missed > 0 {
            self.shared
                .undelivered_events
                .fetch_add(missed, Ordering::Relaxed);
            tracing::debug!(session = %session.id, ?to, ?event, missed, "nobody took an event");
        }
        if let Some((last, others)) = takers.split_last() {
            for endpoint in others {
                endpoint.event(session.clone(), event.clone());
            }
            last.event(session, event);
        }
    }

    fn policy(&self, service: &str) -> Policy {
        let registry = self.shared.registry.read();
        registry
            .services
            .get(service)
            .map_or_else(Policy::default, |s| s.policy)
    }

    fn register(
        &self,
        instance: InstanceInfo,
        endpoint: Arc<dyn Endpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        let (service, id) = (instance.service.clone(), instance.instance.clone());
        if let Err(error) = self.shared.registry.write().add(instance, endpoint) {
            return ready(Err(error)).boxed();
        }
        self.shared.changed.send_replace(());
        let shared = Arc::downgrade(&self.shared);
        let registration = Registration::new(move || {
            if let Some(shared) = shared.upgrade() {
                // Dropped after the lock: an endpoint's drop is somebody else's code.
                let gone = shared.registry.write().remove(&service, &id);
                drop(gone);
            }
        });
        ready(Ok(registration)).boxed()
    }

    fn instances(&self, service: &str) -> BoxFuture<'static, Result<Vec<InstanceInfo>, BusError>> {
        let registry = self.shared.registry.read();
        let instances = registry
            .services
            .get(service)
            .map(|s| s.instances.iter().map(|i| i.info.clone()).collect())
            .unwrap_or_default();
        ready(Ok(instances)).boxed()
    }

    fn instance_up(&self, service: &str, instance: &InstanceId) -> BoxFuture<'static, ()> {
        let (shared, service, instance) =
            (self.shared.clone(), service.to_owned(), instance.clone());
        async move {
            // Subscribed before looking, so that no change falls between the two.
            let mut changed = shared.changed.subscribe();
            while !shared.registry.read().is_live(&service, &instance) {
                // The sender lives in `shared`: there is no error to come.
                let _ = changed.changed().await;
            }
        }
        .boxed()
    }

    fn register_gate(
        &self,
        gate: GateInfo,
        endpoint: Arc<dyn GateEndpoint>,
    ) -> BoxFuture<'static, Result<Registration, BusError>> {
        let id = gate.id.clone();
        {
            let mut registry = self.shared.registry.write();
            if registry.gates.contains_key(&id) {
                return ready(Err(BusError::Taken(format!("gate {id}")))).boxed();
            }
            registry.gates.insert(id.clone(), (gate, endpoint));
        }
        let shared = Arc::downgrade(&self.shared);
        let registration = Registration::new(move || {
            if let Some(shared) = shared.upgrade() {
                let gone = shared.registry.write().gates.remove(&id);
                drop(gone);
            }
        });
        ready(Ok(registration)).boxed()
    }

    fn gates(&self) -> BoxFuture<'static, Result<Vec<GateInfo>, BusError>> {
        let registry = self.shared.registry.read();
        let gates = registry
            .gates
            .values()
            .map(|(info, _)| info.clone())
            .collect();
        ready(Ok(gates)).boxed()
    }

    fn session(
        &self,
        gate: &GateId,
        session: SessionId,
        op: SessionOp,
    ) -> BoxFuture<'static, Result<SessionReply, GateError>> {
        let endpoint = {
            let registry = self.shared.registry.read();
            registry
                .gates
                .get(gate)
                .map(|(_, endpoint)| endpoint.clone())
        };
        match endpoint {
            Some(endpoint) => endpoint.session(session, op),
            None => ready(Err(GateError::Unavailable)).boxed(),
        }
    }

    /// [`GateError::Unavailable`] where there is no gate. Where one of several fails, its error
    /// is the result, though the others have done their part.
    fn every_gate(&self, request: GateRequest) -> BoxFuture<'static, Result<GateReply, GateError>> {
        let endpoints: SmallVec<[Arc<dyn GateEndpoint>; 2]> = {
            let registry = self.shared.registry.read();
            registry
                .gates
                .values()
                .map(|(_, endpoint)| endpoint.clone())
                .collect()
        };
        match endpoints.as_slice() {
            [] => ready(Err(GateError::Unavailable)).boxed(),
            [only] => only.gate(request),
            several => {
                let replies = join_all(several.iter().map(|e| e.gate(request.clone())));
                replies
                    .map(|replies| {
                        let mut sum = None;
                        for reply in replies {
                            sum = Some(match sum {
                                None => reply?,
                                Some(sum) => GateReply::sum(sum, reply?)?,
                            });
                        }
                        sum.ok_or(GateError::Unavailable)
                    })
                    .boxed()
            }
        }
    }

    fn stats(&self) -> BusStats {
        BusStats {
            undelivered_events: self.undelivered_events(),
            ..BusStats::default()
        }
    }
}

impl Registry {
    /// The instance that is to serve `call`, or why there is none.
    fn endpoint(&self, call: &Call<'_>) -> Result<Arc<dyn Endpoint>, ErrorCode> {
        let service = self
            .services
            .get(call.service)
            .ok_or(ErrorCode::NOT_FOUND)?;
        service
            .methods
            .get(call.method)
            .filter(|method| method.open_to.admits(call.caller))
            .ok_or(ErrorCode::NOT_FOUND)?;
        let instance = match call.instance {
            Some(id) => service.instance(id).ok_or(ErrorCode::INSTANCE_GONE)?,
            None => service.next().ok_or(ErrorCode::UNAVAILABLE)?,
        };
        Ok(instance.endpoint.clone())
    }

    fn is_live(&self, service: &str, instance: &InstanceId) -> bool {
        self.services
            .get(service)
            .is_some_and(|s| s.instance(instance).is_some())
    }

    fn add(&mut self, info: InstanceInfo, endpoint: Arc<dyn Endpoint>) -> Result<(), BusError> {
        let new = Service::declared_by(&info)?;
        let service = match self.services.get_mut(&info.service) {
            Some(known) if !known.instances.is_empty() => {
                if known.instance(&info.instance).is_some() {
                    let taken = format!("instance {} of {}", info.instance, info.service);
                    return Err(BusError::Taken(taken));
                }
                known.agree(&new).map_err(|what| BusError::Disagrees {
                    service: info.service.clone(),
                    what,
                })?;
                known
            }
            // The last instance is gone: the next one may declare something new.
            Some(known) => {
                *known = new;
                known
            }
            None => self.services.entry(info.service.clone()).or_insert(new),
        };
        service.instances.push(Instance { info, endpoint });
        Ok(())
    }

    fn remove(&mut self, service: &Name, instance: &InstanceId) -> Option<Instance> {
        let instances = &mut self.services.get_mut(service)?.instances;
        let at = instances
            .iter()
            .position(|i| i.info.instance == *instance)?;
        Some(instances.remove(at))
    }
}

impl Service {
    fn declared_by(info: &InstanceInfo) -> Result<Self, BusError> {
        let mut methods = HashMap::with_capacity(info.methods.len());
        for method in &info.methods {
            if methods
                .insert(method.name.clone(), method.clone())
                .is_some()
            {
                return Err(BusError::Disagrees {
                    service: info.service.clone(),
                    what: format!("method {} is declared twice", method.name),
                });
            }
        }
        Ok(Self {
            policy: info.policy,
            wants_started: info.wants_started,
            wants_dormancy: info.wants_dormancy,
            wants_gates: info.wants_gates,
            methods,
            instances: Vec::new(),
            turn: AtomicUsize::new(0),
        })
    }

    /// Whether it asked for events of this kind.
    fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Started => self.wants_started,
            Event::Dormant | Event::Resumed => self.wants_dormancy,
            Event::Disconnected(_) | Event::Rebound { .. } => true,
        }
    }

    /// Instances of one service must be interchangeable for the bus.
    fn agree(&self, other: &Self) -> Result<(), String> {
        if self.policy != other.policy {
            return Err("policy".into());
        }
        let wants = |s: &Self| (s.wants_started, s.wants_dormancy, s.wants_gates);
        if wants(self) != wants(other) {
            return Err("which events it asks for".into());
        }
        if let Some(method) = other
            .methods
            .values()
            .find(|m| self.methods.get(&m.name) != Some(*m))
        {
            return Err(format!("method {}", method.name));
        }
        match self
            .methods
            .keys()
            .find(|name| !other.methods.contains_key(*name))
        {
            Some(missing) => Err(format!("method {missing}")),
            None => Ok(()),
        }
    }

    fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.instances.iter().find(|i| i.info.instance == *id)
    }

    fn next(&self) -> Option<&Instance> {
        match self.instances.as_slice() {
            // The usual case needs no turns, nor the write to memory that cores share.
            [only] => Some(only),
            [] => None,
            several => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                several.get(turn % several.len())
            }
        }
    }
}
