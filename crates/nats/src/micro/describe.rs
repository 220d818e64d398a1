//! What an instance answers about itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use serde::Serialize;
use tidegate::bus::{CallError, Caller, InstanceInfo, MethodInfo, MethodKind};
use tidegate_protocol::Name;

use super::{ANY, STICKY};
use super::{CLAIM, DEAD_INSTANCE, KIND, OWN, POLICY, SPEC, VERSION, Verb, WANTS};
use crate::header::one_line;
use crate::subject::{Class, Prefix, QUEUE};

/// Longest last error, in bytes.
const MAX_LAST_ERROR: usize = 256;
/// What stands for a version where there is none of the form asked for.
const NO_VERSION: &str = "0.0.0";

/// An instance, as the protocol tells of it.
pub(crate) struct Described {
    info: InstanceInfo,
    version: String,
    metadata: BTreeMap<String, String>,
    endpoints: Vec<Endpoint>,
    /// The places in `endpoints` of each method's: for guests, bound sessions, services.
    by_method: HashMap<Name, [Option<usize>; 3]>,
    started: String,
    /// While others may be claiming the same id: which of them this is.
    claim: u64,
    race: Mutex<Race>,
    claimed: AtomicBool,
}

struct Endpoint {
    name: Name,
    subject: String,
    kind: MethodKind,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last_error: Mutex<String>,
}

/// A method that a caller may call: where what becomes of it is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    id: &'a str,
    version: &'a str,
    metadata: Cow<'a, BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    description: &'a str,
    endpoints: Vec<EndpointInfo<'a>>,
}

#[derive(Serialize)]
struct EndpointInfo<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'static str,
    metadata: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    started: &'a str,
    endpoints: Vec<EndpointStats<'a>>,
}

#[derive(Serialize)]
struct EndpointStats<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'static str,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
}

/// Of those that claim one id at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Race {
    Open,
    Won,
    Lost,
}

impl Described {
    /// An instance that claims its id as number `claim`.
    pub(crate) fn new(prefix: &Prefix, info: InstanceInfo, claim: u64) -> Self {
        let mut endpoints = Vec::new();
        let mut by_method = HashMap::with_capacity(info.methods.len());
        for method in &info.methods {
            let places = CALLERS.map(|caller| {
                method.open_to.admits(caller).then(|| {
                    endpoints.push(Endpoint::new(prefix, &info.service, method, caller));
                    endpoints.len() - 1
                })
            });
            by_method.insert(method.name.clone(), places);
        }
        let semver = super::is_semver(&info.version);
        Self {
            version: match semver {
                true => info.version.clone(),
                false => NO_VERSION.to_owned(),
            },
            metadata: metadata(&info, semver),
            endpoints,
            by_method,
            started: rfc3339(SystemTime::now()),
            claim,
            race: Mutex::new(Race::Open),
            claimed: AtomicBool::new(false),
            info,
        }
    }

    pub(crate) fn info(&self) -> &InstanceInfo {
        &self.info
    }

    /// Which of those that claim the id this is.
    pub(crate) fn claim(&self) -> u64 {
        self.claim
    }

    /// What one says of itself who asks while it claims an id.
    pub(crate) fn question(&self) -> String {
        format!("{} {:016x}", self.info.instance, self.claim)
    }

    /// Somebody asks who may claim the same id: of those that do at the same time the smallest
    /// number gets it. Called before the question is answered.
    pub(crate) fn asked_by(&self, question: &[u8]) {
        let rival = str::from_utf8(question).ok().and_then(|text| {
            let (instance, claim) = text.split_once(' ')?;
            let claim = u64::from_str_radix(claim, 16).ok()?;
            (instance == &*self.info.instance && claim < self.claim).then_some(())
        });
        let mut race = self.race.lock();
        if rival.is_some() && *race == Race::Open {
            *race = Race::Lost;
        }
    }

    /// Whether the id is this instance's: from then on every other that claims it is told so.
    pub(crate) fn wins(&self) -> bool {
        let mut race = self.race.lock();
        if *race == Race::Open {
            *race = Race::Won;
        }
        *race == Race::Won
    }

    /// It takes calls.
    pub(crate) fn set_claimed(&self) {
        self.claimed.store(true, Ordering::Release);
    }

    /// The method, if it is there and open to the caller.
    pub(crate) fn method(&self, name: &str, caller: Caller) -> Option<Place> {
        self.by_method.get(name)?[index(caller)].map(Place)
    }

    /// Counts a call by what came of it.
    pub(crate) fn count(&self, at: Place, took: Duration, error: Option<&CallError>) {
        let counts = &self.endpoints[at.0].counts;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counts.nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(error) = error {
            counts.errors.fetch_add(1, Ordering::Relaxed);
            let text = format!("{}:{}", error.code.0, error.message);
            *counts.last_error.lock() = one_line(&text, MAX_LAST_ERROR);
        }
    }

    /// The answer to what is asked.
    pub(crate) fn answer(&self, verb: Verb) -> Bytes {
        let json = match verb {
            Verb::Ping => serde_json::to_vec(&self.head("io.nats.micro.v1.ping_response")),
            Verb::Info => serde_json::to_vec(&Info {
                head: self.head("io.nats.micro.v1.info_response"),
                description: "",
                endpoints: self.endpoints.iter().map(Endpoint::info).collect(),
            }),
            Verb::Stats => serde_json::to_vec(&Stats {
                head: self.head("io.nats.micro.v1.stats_response"),
                started: &self.started,
                endpoints: self.endpoints.iter().map(Endpoint::stats).collect(),
            }),
        };
        // Texts and numbers always serialize.
        json.unwrap_or_default().into()
    }

    fn head(&self, kind: &'static str) -> Head<'_> {
        let mut metadata = Cow::Borrowed(&self.metadata);
        if !self.claimed.load(Ordering::Acquire) {
            let won = *self.race.lock() == Race::Won;
            // Nobody's number is smaller then.
            let claim = format!("{:016x}", if won { 0 } else { self.claim });
            metadata.to_mut().insert(CLAIM.to_owned(), claim);
        }
        Head {
            kind,
            name: &self.info.service,
            id: &self.info.instance,
            version: &self.version,
            metadata,
        }
    }
}

impl Endpoint {
    fn new(prefix: &Prefix, service: &Name, method: &MethodInfo, caller: Caller) -> Self {
        let class = Class::of(caller).as_str();
        Self {
            name: method.name.clone(),
            subject: format!("{prefix}.{class}.{service}.{}", method.name),
            kind: method.kind,
            counts: Counts::default(),
        }
    }

    fn info(&self) -> EndpointInfo<'_> {
        let kind = match self.kind {
            MethodKind::Request => "request",
            MethodKind::OneWay => "one-way",
        };
        EndpointInfo {
            name: &self.name,
            subject: &self.subject,
            queue_group: QUEUE,
            metadata: BTreeMap::from([(KIND, kind)]),
        }
    }

    fn stats(&self) -> EndpointStats<'_> {
        let counts = &self.counts;
        let requests = counts.requests.load(Ordering::Relaxed);
        let nanos = counts.nanos.load(Ordering::Relaxed);
        EndpointStats {
            name: &self.name,
            subject: &self.subject,
            queue_group: QUEUE,
            num_requests: requests,
            num_errors: counts.errors.load(Ordering::Relaxed),
            last_error: counts.last_error.lock().clone(),
            processing_time: nanos,
            average_processing_time: nanos.checked_div(requests).unwrap_or(0),
        }
    }
}

const CALLERS: [Caller; 3] = [Caller::Guest, Caller::Bound, Caller::Internal];

fn index(caller: Caller) -> usize {
    match caller {
        Caller::Guest => 0,
        Caller::Bound => 1,
        Caller::Internal => 2,
    }
}

/// What the author gave, and what Tidegate tells.
fn metadata(info: &InstanceInfo, semver: bool) -> BTreeMap<String, String> {
    let own = info.metadata.iter().filter(|(k, _)| !k.starts_with(OWN));
    let mut metadata: BTreeMap<_, _> = own.map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    put(SPEC, "1".to_owned());
    let policy = if info.policy.sticky { STICKY } else { ANY };
    put(POLICY, policy.to_owned());
    let dead = super::write_dead_instance(info.policy.dead_instance);
    put(DEAD_INSTANCE, dead);
    let wants: Vec<_> = super::wants(info)
        .iter()
        .filter_map(|(name, wanted)| wanted.then_some(*name))
        .collect();
    if !wants.is_empty() {
        put(WANTS, wants.join(","));
    }
    if !semver && !info.version.is_empty() {
        put(VERSION, info.version.clone());
    }
    metadata
}

/// A time as RFC 3339 has it, in UTC.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days are counted from 1 March of year 0: the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = |seconds: u64| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00.000Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }
}
