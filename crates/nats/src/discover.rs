//! What is known of services: how their calls are routed, and which of their methods are open
//! to whom. Learnt from what their instances answer to `$SRV.INFO`: when a service is called
//! for the first time, and every now and then.
//!
//! What is known of a service stays known when its last instance is gone: that is what tells
//! "unavailable" from "not found", and what becomes of a session bound to that instance.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use futures_util::{FutureExt as _, StreamExt as _};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tidegate::bus::{Bus as _, BusError, InstanceInfo, Policy};
use tidegate_protocol::{ErrorCode, InstanceId, Name};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::bus::Inner;
use crate::micro::Verb;
use crate::micro::read::{self, Found, Open};
use crate::subject::Class;

/// Services that are remembered: others are asked for each time.
const MAX_SERVICES: usize = 4_096;
/// Services asked for at the same time: clients name them.
const MAX_ASKING: usize = 64;
/// Instances of a service that are told of.
const MAX_INSTANCES: usize = 4_096;
/// Who has not answered after this silence is not there.
const SILENCE: Duration = Duration::from_millis(200);
/// For the first answer, and for all of them.
const LONGEST: Duration = Duration::from_secs(1);
/// How often all services are asked, where any is called.
const AGAIN: Duration = Duration::from_secs(15);
/// How often an instance that is waited for is looked for.
const LOOK: Duration = Duration::from_millis(250);

type Waiting = BoxFuture<'static, ()>;
/// What many wait for.
type Waited = Shared<Waiting>;

/// What is known of services.
pub(crate) struct Discovery {
    known: RwLock<HashMap<Name, Known>>,
    /// Services that are asked for now.
    asking: Mutex<HashMap<Name, Waited>>,
    /// Instances that are waited for now.
    awaited: Mutex<HashMap<(Name, InstanceId), WeakShared<Waiting>>>,
    runtime: Handle,
    /// Set when all services are asked every now and then.
    runs: Mutex<bool>,
}

struct Known {
    policy: Policy,
    open: Open,
    /// When it was learnt; instances that answer at the same time count together.
    round: Instant,
}

impl Discovery {
    /// Knows nothing. Asks on this runtime.
    pub(crate) fn new() -> Self {
        Self {
            known: RwLock::default(),
            asking: Mutex::default(),
            awaited: Mutex::default(),
            runtime: Handle::current(),
            runs: Mutex::new(false),
        }
    }

    /// How calls of a service are routed.
    pub(crate) fn policy(&self, service: &str) -> Policy {
        let known = self.known.read();
        known.get(service).map(|k| k.policy).unwrap_or_default()
    }

    fn knows(&self, service: &str) -> bool {
        self.known.read().contains_key(service)
    }

    fn learn(&self, found: &Found, round: Instant) {
        let Found { info, open, .. } = found;
        let new = Known {
            policy: info.policy,
            open: open.clone(),
            round,
        };
        let mut known = self.known.write();
        let is_room = known.len() < MAX_SERVICES;
        match known.get_mut(&info.service) {
            Some(known) if known.round == round => {
                known.policy = info.policy;
                known.open.add(open);
            }
            Some(known) => *known = new,
            None if is_room => {
                known.insert(info.service.clone(), new);
            }
            None => tracing::debug!(service = &*info.service, "too many services to know"),
        }
    }
}

impl Inner {
    /// A service is called, perhaps for the first time.
    pub(crate) fn heed(self: &Arc<Self>, service: &str) {
        if let Ok(service) = Name::new(service)
            && !self.discovery.knows(&service)
        {
            self.ask_for(&service);
        }
        let mut runs = self.discovery.runs.lock();
        if !*runs {
            *runs = true;
            let bus = Arc::downgrade(self);
            self.discovery.runtime.spawn(ask_again(bus));
        }
    }

    /// What is registered here is known here.
    pub(crate) fn learn_own(&self, info: &InstanceInfo) {
        let found = Found::own(info.clone());
        self.discovery.learn(&found, Instant::now());
    }

    /// Runs `f` when it is known what there is to know of a service: at once where it is.
    pub(crate) fn when_known(self: &Arc<Self>, service: &str, f: impl FnOnce() + Send + 'static) {
        let name = Name::new(service).ok();
        let unknown = name.filter(|name| !self.discovery.knows(name));
        match unknown.and_then(|name| self.ask_for(&name)) {
            Some(asked) => drop(self.discovery.runtime.spawn(asked.map(|()| f()))),
            None => f(),
        }
    }

    /// What it means that nobody takes a call.
    pub(crate) fn nobody(&self, service: &str, method: &str, class: Class) -> ErrorCode {
        let known = self.discovery.known.read();
        let open = known.get(service).map(|known| &known.open);
        match (open, class.caller()) {
            (Some(open), Some(caller)) if open.admits(method, caller) => ErrorCode::UNAVAILABLE,
            _ => ErrorCode::NOT_FOUND,
        }
    }

    /// Asks for a service; none where too much is asked already. Completes with the first
    /// answer, or when there is none to come.
    fn ask_for(self: &Arc<Self>, service: &Name) -> Option<Waited> {
        let mut asking = self.discovery.asking.lock();
        if let Some(asked) = asking.get(service) {
            return Some(asked.clone());
        }
        if asking.len() >= MAX_ASKING {
            return None;
        }
        let (first, answered) = oneshot::channel::<()>();
        // Whoever asks and is gone has no answer.
        let asked = answered.map(drop).boxed().shared();
        asking.insert(service.clone(), asked.clone());
        let (bus, service) = (self.clone(), service.clone());
        self.discovery.runtime.spawn(async move {
            let round = Instant::now();
            let mut first = Some(first);
            bus.ask(Some(&service), SILENCE, |found| {
                bus.discovery.learn(&found, round);
                drop(first.take());
            })
            .await;
            bus.discovery.asking.lock().remove(&service);
        });
        Some(asked)
    }

    /// Asks the instances of a service, or all there are, and hands over what they answer.
    /// Whether anybody could be asked.
    async fn ask(
        &self,
        service: Option<&Name>,
        silence: Duration,
        mut take: impl FnMut(Found),
    ) -> bool {
        let subject = match service {
            Some(service) => Verb::Info.service(service),
            None => Verb::Info.all(),
        };
        let until = Instant::now() + LONGEST;
        let mut answers = self.home.gather(subject, None, Bytes::new(), LONGEST);
        let mut pause = LONGEST;
        loop {
            let next = timeout_at(until, timeout(pause, answers.next())).await;
            let message = match next {
                Ok(Ok(Some(Ok(message)))) => message,
                // Nobody is there; or there is no connection.
                Ok(Ok(Some(Err(error)))) => return error.is_of_nobody(),
                _ => return true,
            };
            pause = silence;
            match read::read_info(&self.prefix, &message.payload) {
                Ok(Some(found)) if service.is_none_or(|s| *s == found.info.service) => {
                    // One that is not there yet is not told of.
                    if found.claim.is_none() {
                        take(found);
                    }
                }
                Ok(_) => {}
                Err(malformed) => self.malformed(&message.subject, &malformed),
            }
        }
    }

    /// The live instances of a service.
    pub(crate) async fn instances(
        self: Arc<Self>,
        service: String,
    ) -> Result<Vec<InstanceInfo>, BusError> {
        let Ok(name) = Name::new(&service) else {
            return Ok(Vec::new());
        };
        // Those of this process are there without NATS, too.
        let mut instances = self.near.instances(&service).await?;
        let round = Instant::now();
        let asked = self
            .ask(Some(&name), SILENCE, |found| {
                self.discovery.learn(&found, round);
                let is_new = instances.iter().all(|i| i.instance != found.info.instance);
                if is_new && instances.len() < MAX_INSTANCES {
                    instances.push(found.info);
                }
            })
            .await;
        match asked || !instances.is_empty() {
            true => Ok(instances),
            false => Err(BusError::Unavailable("NATS cannot be reached".to_owned())),
        }
    }

    /// Completes when the instance is there. However many wait for it, one looks.
    pub(crate) fn instance_up(
        self: &Arc<Self>,
        service: &str,
        instance: &InstanceId,
    ) -> BoxFuture<'static, ()> {
        let Ok(service) = Name::new(service) else {
            return std::future::pending().boxed();
        };
        let key = (service, instance.clone());
        let mut awaited = self.discovery.awaited.lock();
        if let Some(waited) = awaited.get(&key).and_then(WeakShared::upgrade) {
            return waited.boxed();
        }
        awaited.retain(|_, waited| waited.upgrade().is_some());
        let look = look_for(Arc::downgrade(self), key.clone()).boxed().shared();
        if let Some(waited) = look.downgrade() {
            awaited.insert(key, waited);
        }
        look.boxed()
    }
}

/// Looks for an instance until it is there.
async fn look_for(bus: Weak<Inner>, (service, instance): (Name, InstanceId)) {
    let subject = Verb::Info.instance(&service, &instance);
    loop {
        let Some(bus) = bus.upgrade() else {
            return std::future::pending().await;
        };
        if bus.near.serves(&service, Some(&instance)) {
            return;
        }
        let asked = bus.home.ask(subject.clone(), None, Bytes::new(), LONGEST);
        if let Ok(message) = asked.await
            && let Ok(Some(found)) = read::read_info(&bus.prefix, &message.payload)
            && found.claim.is_none()
        {
            return;
        }
        drop(bus);
        sleep(LOOK).await;
    }
}

/// Asks all services every now and then.
async fn ask_again(bus: Weak<Inner>) {
    loop {
        {
            let Some(bus) = bus.upgrade() else { return };
            let round = Instant::now();
            let learn = |found: Found| bus.discovery.learn(&found, round);
            bus.ask(None, LONGEST, learn).await;
        }
        sleep(AGAIN.mul_f64(rand::random_range(0.8..=1.2))).await;
    }
}
