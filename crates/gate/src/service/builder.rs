//! A service as its author declares it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use thiserror::Error;
use tidegate_protocol::{InstanceId, InvalidName, Name};
use tokio::runtime::Handle;

use super::DEFAULT_TTL;
use super::extract::{Need, Requirements, States};
use super::handler::{AnyHandler, Handler, erase};
use super::lanes::Lanes;
use super::running::RunningService;
use super::runtime::{EventHandlers, Inner, Kit, Method};
use crate::bus::{
    Bus, BusError, DeadInstance, InstanceInfo, MethodInfo, MethodKind, OpenTo, Policy,
};

/// A service: a name, methods, and handlers for what happens to sessions.
///
/// [`open_to`](Self::open_to) and [`concurrent`](Self::concurrent) apply to the method
/// added last. Mistakes show in [`build`](Self::build) and [`register`](Self::register),
/// the first of them.
pub struct Service {
    name: String,
    version: String,
    instance: Option<String>,
    metadata: BTreeMap<String, String>,
    ttl: Duration,
    policy: Policy,
    methods: Vec<Declared>,
    on_started: Option<Box<dyn AnyHandler>>,
    on_disconnect: Option<Box<dyn AnyHandler>>,
    on_rebound: Option<Box<dyn AnyHandler>>,
    on_dormant: Option<Box<dyn AnyHandler>>,
    on_resumed: Option<Box<dyn AnyHandler>>,
    on_gate_gone: Option<Box<dyn AnyHandler>>,
    states: States,
    mistake: Option<BuildError>,
}

struct Declared {
    name: String,
    kind: MethodKind,
    open_to: OpenTo,
    concurrent: bool,
    handler: Box<dyn AnyHandler>,
}

impl Service {
    /// A service without methods. Its name is 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: String::new(),
            instance: None,
            metadata: BTreeMap::new(),
            ttl: DEFAULT_TTL,
            policy: Policy::default(),
            methods: Vec::new(),
            on_started: None,
            on_disconnect: None,
            on_rebound: None,
            on_dormant: None,
            on_resumed: None,
            on_gate_gone: None,
            states: States::default(),
            mistake: None,
        }
    }

    /// The service's version, for people.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// This instance's id, 1 to 64 of `A-Z a-z 0-9 _ -`; random where none is given.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// A pair for people and tools.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// After how long an instance that is no longer heard of counts as gone;
    /// [`DEFAULT_TTL`] where none is given.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// A method that answers; called without a request id it is not run. Open to bound
    /// sessions; see [`open_to`](Self::open_to).
    #[must_use]
    pub fn request<Args: 'static>(
        self,
        name: impl Into<String>,
        handler: impl Handler<Args>,
    ) -> Self {
        self.method(name.into(), MethodKind::Request, erase(handler))
    }

    /// A method that does not answer; called with a request id, its answer is empty and
    /// given when it has finished. Open to bound sessions; see
    /// [`open_to`](Self::open_to).
    #[must_use]
    pub fn one_way<Args: 'static>(
        self,
        name: impl Into<String>,
        handler: impl Handler<Args>,
    ) -> Self {
        self.method(name.into(), MethodKind::OneWay, erase(handler))
    }

    fn method(mut self, name: String, kind: MethodKind, handler: Box<dyn AnyHandler>) -> Self {
        self.methods.push(Declared {
            name,
            kind,
            open_to: OpenTo::Bound,
            concurrent: false,
            handler,
        });
        self
    }

    /// Whom the method added last is open to.
    #[must_use]
    pub fn open_to(self, open_to: OpenTo) -> Self {
        self.modify("open_to", |method| method.open_to = open_to)
    }

    /// Lets the method added last run beside other packets of the same session, and out
    /// of their order.
    #[must_use]
    pub fn concurrent(self) -> Self {
        self.modify("concurrent", |method| method.concurrent = true)
    }

    fn modify(mut self, modifier: &'static str, f: impl FnOnce(&mut Declared)) -> Self {
        match self.methods.last_mut() {
            Some(method) => f(method),
            None => self.mistake(BuildError::NoMethod { modifier }),
        }
        self
    }

    /// Runs before the first packet of each session, of whatever service, is routed.
    #[must_use]
    pub fn on_started<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.on_started = Some(erase(handler));
        self
    }

    /// Runs when a session that has used the service has ended, after the packets of the
    /// session that came before.
    #[must_use]
    pub fn on_disconnect<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.on_disconnect = Some(erase(handler));
        self
    }

    /// Runs when a session was bound to an instance that is gone and is now bound to
    /// this one, before the session's next packet. Needs
    /// [`DeadInstance::Rebind`].
    #[must_use]
    pub fn on_rebound<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.on_rebound = Some(erase(handler));
        self
    }

    /// Runs when a session, of whatever client, has lost its connection and waits for its
    /// client to come back. Packets that are not critical do not reach it now.
    #[must_use]
    pub fn on_dormant<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.on_dormant = Some(erase(handler));
        self
    }

    /// Runs when the client of a dormant session has come back.
    #[must_use]
    pub fn on_resumed<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.on_resumed = Some(erase(handler));
        self
    }

    /// Runs when a gate has died ([`GateGone`](crate::bus::GateGone)): its sessions are no
    /// more, and [`on_disconnect`](Self::on_disconnect) does not come for them. One instance
    /// of the service is told.
    #[must_use]
    pub fn on_gate_gone<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.on_gate_gone = Some(erase(handler));
        self
    }

    /// Binds a session to the instance that gave its first answer.
    #[must_use]
    pub fn sticky(mut self) -> Self {
        self.policy.sticky = true;
        self
    }

    /// What becomes of calls whose bound instance is gone.
    #[must_use]
    pub fn on_dead_instance(mut self, policy: DeadInstance) -> Self {
        self.policy.dead_instance = policy;
        self
    }

    /// Shared state for [`State`](super::State), one value per type.
    #[must_use]
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> Self {
        if !self.states.add(state) {
            self.mistake(BuildError::TwoStates(std::any::type_name::<S>()));
        }
        self
    }

    fn mistake(&mut self, mistake: BuildError) {
        self.mistake.get_or_insert(mistake);
    }

    /// Checks everything that can be checked before the service runs.
    pub fn build(self) -> Result<BuiltService, BuildError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let service = Name::new(&self.name)?;
        let instance = match &self.instance {
            Some(id) => InstanceId::new(id)?,
            None => InstanceId::new(&format!("{:016x}", rand::random::<u64>()))?,
        };
        let mut declared = Vec::with_capacity(self.methods.len());
        let mut methods = Vec::with_capacity(self.methods.len());
        let mut by_name = HashMap::with_capacity(self.methods.len());
        for method in self.methods {
            let name = Name::new(&method.name)?;
            check(&name, Place::Method, &*method.handler, &self.states)?;
            if by_name.insert(name.clone(), methods.len()).is_some() {
                return Err(BuildError::TwoMethods(name));
            }
            declared.push(MethodInfo {
                name: name.clone(),
                kind: method.kind,
                open_to: method.open_to,
            });
            methods.push(Method {
                name,
                kind: method.kind,
                concurrent: method.concurrent,
                handler: method.handler,
            });
        }
        let mut add = |name, place, handler: Option<Box<dyn AnyHandler>>| {
            let Some(handler) = handler else {
                return Ok(None);
            };
            let name = Name::new(name)?;
            check(&name, place, &*handler, &self.states)?;
            methods.push(Method {
                name,
                kind: MethodKind::OneWay,
                concurrent: false,
                handler,
            });
            Ok::<_, BuildError>(Some(methods.len() - 1))
        };
        let events = EventHandlers {
            started: add("on_started", Place::Other, self.on_started)?,
            disconnect: add("on_disconnect", Place::Disconnect, self.on_disconnect)?,
            rebound: add("on_rebound", Place::Rebound, self.on_rebound)?,
            dormant: add("on_dormant", Place::Other, self.on_dormant)?,
            resumed: add("on_resumed", Place::Other, self.on_resumed)?,
            gate_gone: add("on_gate_gone", Place::Gate, self.on_gate_gone)?,
        };
        Ok(BuiltService {
            info: InstanceInfo {
                service,
                instance,
                version: self.version,
                metadata: self.metadata,
                ttl: self.ttl,
                methods: declared,
                policy: self.policy,
                wants_started: events.started.is_some(),
                wants_dormancy: events.dormant.is_some() || events.resumed.is_some(),
                wants_gates: events.gate_gone.is_some(),
            },
            methods,
            by_name,
            events,
            states: self.states,
        })
    }

    /// [`build`](Self::build) and [`BuiltService::register`] in one.
    pub async fn register(self, bus: Arc<dyn Bus>) -> Result<RunningService, RegisterError> {
        Ok(self.build()?.register(bus).await?)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Place {
    Method,
    Other,
    Disconnect,
    Rebound,
    Gate,
}

/// Whether what the handler's arguments need is there.
fn check(
    method: &Name,
    place: Place,
    handler: &dyn AnyHandler,
    states: &States,
) -> Result<(), BuildError> {
    let mut needs = Requirements::default();
    handler.requires(&mut needs);
    for need in needs.0 {
        let (fits, what) = match need {
            Need::State(id, state) if !states.has(id) => {
                let method = method.clone();
                return Err(BuildError::NoState { method, state });
            }
            Need::State(..) => continue,
            Need::Body => (place == Place::Method, "a body"),
            Need::Ended => (place == Place::Disconnect, "the end of a session"),
            Need::Previous => (place == Place::Rebound, "the previous instance"),
            Need::GateGone => (place == Place::Gate, "a gate that died"),
            Need::Session => (place != Place::Gate, "a session"),
        };
        if !fits {
            let method = method.clone();
            return Err(BuildError::Misplaced { method, what });
        }
    }
    Ok(())
}

/// A service that has been checked.
pub struct BuiltService {
    info: InstanceInfo,
    methods: Vec<Method>,
    by_name: HashMap<Name, usize>,
    events: EventHandlers,
    states: States,
}

impl BuiltService {
    /// What will be registered.
    pub fn info(&self) -> &InstanceInfo {
        &self.info
    }

    /// Makes the service reachable on `bus`.
    ///
    /// # Errors
    /// The bus refuses an instance whose id is taken, and one that declares its service
    /// other than the live instances do.
    pub async fn register(self, bus: Arc<dyn Bus>) -> Result<RunningService, BusError> {
        let info = self.info.clone();
        let inner = Arc::new(Inner {
            info: self.info,
            methods: self.methods,
            by_name: self.by_name,
            events: self.events,
            states: self.states,
            bus: bus.clone(),
            lanes: Lanes::new(),
            under_way: Arc::default(),
            runtime: Handle::try_current().ok(),
        });
        let registration = bus.register(info, Arc::new(Kit(inner.clone()))).await?;
        Ok(RunningService::new(inner, registration))
    }
}

impl fmt::Debug for BuiltService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltService")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// A mistake in a service's declaration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A service, method or instance has a name that it cannot have.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Two methods have one name.
    #[error("method {0} is declared twice")]
    TwoMethods(Name),
    /// A modifier stands before the first method.
    #[error("{modifier} stands before the first method")]
    NoMethod {
        /// The modifier.
        modifier: &'static str,
    },
    /// A handler takes a state that the service was not given.
    #[error("{method} takes State<{state}>, and no such state was given")]
    NoState {
        /// The method or event.
        method: Name,
        /// The type that is missing.
        state: &'static str,
    },
    /// Two states of one type were given.
    #[error("two states of type {0} were given")]
    TwoStates(&'static str),
    /// A handler takes what is not there in its place.
    #[error("{method} takes {what}, which there is none of here")]
    Misplaced {
        /// The method or event.
        method: Name,
        /// What it takes.
        what: &'static str,
    },
}

/// Why a service was not registered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The service is not well declared.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The bus refused it.
    #[error(transparent)]
    Bus(#[from] BusError),
}
