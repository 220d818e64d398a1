//! What is read of an answer to `$SRV.INFO`: of whoever it is, so everything has a bound.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Deserialize;
use tidegate::bus::{Caller, InstanceInfo, MethodInfo, MethodKind, OpenTo, Policy};
use tidegate::service::DEFAULT_TTL;
use tidegate_protocol::{InstanceId, Name};

use super::{CLAIM, DEAD_INSTANCE, KIND, OWN, POLICY, SPEC, STICKY, VERSION, WANTS};
use crate::header::Malformed;
use crate::subject::{Class, Prefix, ToService};

/// Longest answer that is read, in bytes.
pub(crate) const MAX_INFO: usize = 1024 * 1024;
/// Endpoints of an instance that are looked at.
pub(crate) const MAX_ENDPOINTS: usize = 4_096;
/// Pairs of metadata that are kept.
const MAX_PAIRS: usize = 64;
/// Longest key, value or version that is kept, in bytes.
const MAX_TEXT: usize = 1024;

/// An instance, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) info: InstanceInfo,
    /// By whom its methods can be called.
    pub(crate) open: Open,
    /// Whether it keeps the whole specification.
    pub(crate) keeps_spec: bool,
    /// Set while it claims its id.
    pub(crate) claim: Option<u64>,
}

impl Found {
    /// One that is registered here.
    pub(crate) fn own(info: InstanceInfo) -> Self {
        let mut open = Open::default();
        for method in &info.methods {
            let callers = open.methods.entry(method.name.clone()).or_default();
            for class in Class::ALL {
                let caller = class.caller().filter(|c| method.open_to.admits(*c));
                caller.into_iter().for_each(|c| callers.add(c));
            }
        }
        Self {
            info,
            open,
            keeps_spec: true,
            claim: None,
        }
    }
}

/// Which callers reach which methods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Open {
    methods: HashMap<Name, Callers>,
    /// Of whatever method: those that listen on a wildcard.
    any: Callers,
}

/// A set of [`Caller`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Callers(u8);

impl Callers {
    fn bit(caller: Caller) -> u8 {
        match caller {
            Caller::Guest => 1,
            Caller::Bound => 2,
            Caller::Internal => 4,
        }
    }

    fn add(&mut self, caller: Caller) {
        self.0 |= Self::bit(caller);
    }

    fn has(self, caller: Caller) -> bool {
        self.0 & Self::bit(caller) != 0
    }

    /// For people: the classes of a method are told one by one, and need not include each
    /// other.
    fn open_to(self) -> OpenTo {
        match () {
            () if self.has(Caller::Guest) => OpenTo::Guests,
            () if self.has(Caller::Bound) => OpenTo::Bound,
            () => OpenTo::Internal,
        }
    }
}

impl Open {
    /// Adds what another instance lets in.
    pub(crate) fn add(&mut self, other: &Self) {
        self.any.0 |= other.any.0;
        for (method, callers) in &other.methods {
            self.methods.entry(method.clone()).or_default().0 |= callers.0;
        }
    }

    /// Whether a call of `method` on behalf of `caller` reaches somebody.
    pub(crate) fn admits(&self, method: &str, caller: Caller) -> bool {
        let of_method = self.methods.get(method).copied().unwrap_or_default();
        of_method.has(caller) || self.any.has(caller)
    }
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(borrow, default)]
    endpoints: Option<Vec<Endpoint<'a>>>,
}

#[derive(Deserialize)]
struct Endpoint<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// Reads an answer; none for a service that has nothing to do with Tidegate.
pub(crate) fn read_info(prefix: &Prefix, body: &[u8]) -> Result<Option<Found>, Malformed> {
    const WHAT: &str = "$SRV.INFO";
    if body.len() > MAX_INFO {
        return Err(Malformed::new(WHAT, "is too long"));
    }
    let read: Info<'_> = serde_json::from_slice(body).map_err(|e| Malformed::because(WHAT, &e))?;
    if read.kind != "io.nats.micro.v1.info_response" {
        return Err(Malformed::new(WHAT, "is of another type"));
    }
    let mut metadata = read.metadata.unwrap_or_default();
    let keeps_spec = metadata.get(SPEC).is_some_and(|v| v == "1");
    let (open, methods) = endpoints(prefix, &read.name, read.endpoints.unwrap_or_default());
    if !keeps_spec && open == Open::default() {
        return Ok(None);
    }
    let name = |e| Malformed::because(WHAT, &e);
    let service = Name::new(&read.name).map_err(name)?;
    let instance = InstanceId::new(&read.id).map_err(name)?;
    let policy = Policy {
        sticky: metadata.get(POLICY).is_some_and(|v| v == STICKY),
        dead_instance: match metadata.get(DEAD_INSTANCE) {
            None => Default::default(),
            Some(text) => super::read_dead_instance(text)
                .ok_or(Malformed::new(DEAD_INSTANCE, "is not a policy"))?,
        },
    };
    let claim = match metadata.get(CLAIM) {
        None => None,
        Some(claim) => Some(
            u64::from_str_radix(claim, 16)
                .map_err(|_| Malformed::new(CLAIM, "is not a hexadecimal number"))?,
        ),
    };
    let wants = metadata.remove(WANTS).unwrap_or_default();
    let wants = |what: &str| wants.split(',').any(|w| w.trim() == what);
    let version = metadata.remove(VERSION);
    let mut version = version.unwrap_or_else(|| read.version.into_owned());
    version.truncate(version.floor_char_boundary(MAX_TEXT));
    metadata.retain(|k, v| !k.starts_with(OWN) && k.len() <= MAX_TEXT && v.len() <= MAX_TEXT);
    while metadata.len() > MAX_PAIRS {
        metadata.pop_last();
    }
    Ok(Some(Found {
        info: InstanceInfo {
            service,
            instance,
            version,
            metadata,
            ttl: DEFAULT_TTL,
            methods,
            policy,
            wants_started: wants("started"),
            wants_dormancy: wants("dormancy"),
            wants_gates: wants("gates"),
        },
        open,
        keeps_spec,
        claim,
    }))
}

/// Who is let in to what, by the subjects that the instance listens on.
fn endpoints(
    prefix: &Prefix,
    service: &str,
    endpoints: Vec<Endpoint<'_>>,
) -> (Open, Vec<MethodInfo>) {
    let mut open = Open::default();
    let mut one_way = Vec::new();
    for endpoint in endpoints.into_iter().take(MAX_ENDPOINTS) {
        let Some((callers, method)) = of_subject(prefix, service, &endpoint.subject) else {
            continue;
        };
        let to = match method {
            None => &mut open.any,
            Some(method) => {
                if endpoint
                    .metadata
                    .is_some_and(|m| m.get(KIND).is_some_and(|kind| kind == "one-way"))
                {
                    one_way.push(method.clone());
                }
                open.methods.entry(method).or_default()
            }
        };
        to.0 |= callers.0;
    }
    let mut methods: Vec<_> = open
        .methods
        .iter()
        .map(|(name, callers)| MethodInfo {
            name: name.clone(),
            kind: match one_way.contains(name) {
                true => MethodKind::OneWay,
                false => MethodKind::Request,
            },
            open_to: callers.open_to(),
        })
        .collect();
    methods.sort_by(|a, b| a.name.cmp(&b.name));
    (open, methods)
}

/// Who calls on a subject, and which method: none for all of them.
fn of_subject(prefix: &Prefix, service: &str, subject: &str) -> Option<(Callers, Option<Name>)> {
    let mut callers = Callers::default();
    match prefix.to_service(subject) {
        Some(ToService::One {
            class,
            service: of,
            instance: None,
            name,
        }) if of == service => {
            callers.add(class.caller()?);
            Some((callers, Some(Name::new(name).ok()?)))
        }
        Some(_) => None,
        None => {
            let rest = subject.strip_prefix(prefix.as_str())?.strip_prefix('.')?;
            let (class, rest) = rest.split_once('.')?;
            let (of, method) = rest.split_once('.')?;
            if of != service {
                return None;
            }
            match class {
                "*" => {
                    let all = Class::ALL.iter().filter_map(|class| class.caller());
                    all.for_each(|caller| callers.add(caller));
                }
                class => callers.add(Class::from_token(class)?.caller()?),
            }
            let method = match method {
                "*" | ">" => None,
                method => Some(Name::new(method).ok()?),
            };
            Some((callers, method))
        }
    }
}

/// In what an instance differs from another of its service, where it does.
pub(crate) fn disagreement(new: &InstanceInfo, live: &InstanceInfo) -> Option<String> {
    if new.policy != live.policy {
        return Some("policy".to_owned());
    }
    if super::wants(new) != super::wants(live) {
        return Some("which events it asks for".to_owned());
    }
    let differs = |a: &InstanceInfo, b: &InstanceInfo| {
        let missing = a.methods.iter().find(|m| !b.methods.contains(m))?;
        Some(format!("method {}", missing.name))
    };
    differs(new, live).or_else(|| differs(live, new))
}
