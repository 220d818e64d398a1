//! Calls by service and outcome, and how long they took.
//!
//! Counting is exact. Times are not taken of every call: most are answered in place, in
//! less time than reading the clock twice takes a noticeable part of. One in
//! [`SAMPLE`] of those is timed, by chance, and counts for all of them; a call that is not
//! answered in place is timed each.

use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_protocol::{ErrorCode, Topic};

use super::histogram::Histogram;
use crate::stats::{ByCode, Counter};

/// Of calls answered in place, one in so many is timed. A power of two.
pub(crate) const SAMPLE: u64 = 16;

/// Services that are told apart; calls of further ones are counted together.
pub(crate) const MAX_SERVICES: usize = 64;

/// What the calls of one service are counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServicePlace(u8);

impl ServicePlace {
    /// For services that do not exist: their names come from clients.
    const NONE: Self = Self(0);
    /// For services beyond [`MAX_SERVICES`].
    const OTHER: Self = Self(1);
    const FIRST: usize = 2;
    const COUNT: usize = Self::FIRST + MAX_SERVICES;

    fn of(known: usize) -> Self {
        Self((Self::FIRST + known) as u8)
    }

    /// Whether it is that of a service that exists.
    pub(crate) fn is_known(self) -> bool {
        self != Self::NONE
    }
}

/// The services that calls are counted by: those of this process, and those that have
/// answered a call. No client adds to them.
#[derive(Debug)]
pub(crate) struct Services {
    names: [OnceLock<Box<str>>; MAX_SERVICES],
    grow: Mutex<()>,
}

impl Services {
    pub(crate) fn new() -> Self {
        Self {
            names: [const { OnceLock::new() }; MAX_SERVICES],
            grow: Mutex::new(()),
        }
    }

    /// The places that are taken, with the names that they are published under.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ServicePlace, &str)> {
        let known = self.known().enumerate();
        let known = known.map(|(i, name)| (ServicePlace::of(i), name));
        let others = [
            (ServicePlace::NONE, "(none)"),
            (ServicePlace::OTHER, "(other)"),
        ];
        others.into_iter().chain(known)
    }

    /// The place of a service that a client has named.
    pub(crate) fn place(&self, service: &str) -> ServicePlace {
        let known = self.known().position(|name| *name == *service);
        known.map_or(ServicePlace::NONE, ServicePlace::of)
    }

    /// The place of the service of a topic whose call was answered: it exists.
    #[cold]
    pub(crate) fn learn(&self, topic: &Topic) -> ServicePlace {
        match topic.route() {
            Ok(route) => self.add(route.service),
            Err(_) => ServicePlace::NONE,
        }
    }

    /// The place of a service that exists.
    pub(crate) fn add(&self, service: &str) -> ServicePlace {
        if self.names[MAX_SERVICES - 1].get().is_some() {
            return match self.place(service) {
                ServicePlace::NONE => ServicePlace::OTHER,
                known => known,
            };
        }
        let _grow = self.grow.lock();
        match self.place(service) {
            ServicePlace::NONE => {}
            known => return known,
        }
        let free = self.names.iter().position(|name| name.get().is_none());
        let Some(i) = free else {
            return ServicePlace::OTHER;
        };
        // Set by nobody else: they would hold the lock.
        let _ = self.names[i].set(service.into());
        ServicePlace::of(i)
    }

    fn known(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map_while(|name| Some(&**name.get()?))
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Error(ErrorCode),
    /// The session ended before the answer came.
    SessionEnded,
}

impl Outcome {
    const FIXED: usize = 2;
    pub(crate) const COUNT: usize = Self::FIXED + ErrorCode::ALL.len() + 1;

    fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::SessionEnded => 1,
            Self::Error(code) => Self::FIXED + ByCode::index(code),
        }
    }

    /// The labels of all of them, by index.
    pub(crate) fn labels() -> impl Iterator<Item = String> {
        let codes = ErrorCode::ALL.iter().map(|code| code.name());
        let service = ErrorCode(ErrorCode::FIRST_OF_SERVICES).name();
        let codes = codes.chain([service]).map(str::to_ascii_lowercase);
        ["ok", "session_ended"]
            .into_iter()
            .map(str::to_owned)
            .chain(codes)
    }
}

/// What is known of a call's time: since when, an even number of nanoseconds, and in
/// the lowest bit whether it was not answered in place. Zero: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing(u64);

impl Timing {
    const NONE: Self = Self(0);
    const EACH: u64 = 1;

    /// Decides by random bits whether this is the one of [`SAMPLE`] that is timed.
    pub(crate) fn begin(random: u64) -> Self {
        match random % SAMPLE {
            0 => Self(now()),
            _ => Self::NONE,
        }
    }

    /// The call was not answered in place. Answers whether that is news.
    pub(crate) fn not_in_place(&mut self) -> bool {
        if self.0 & Self::EACH != 0 {
            return false;
        }
        if *self == Self::NONE {
            self.0 = now();
        }
        self.0 |= Self::EACH;
        true
    }

    /// How long it took, and how many calls it stands for.
    fn end(self) -> (Duration, u64) {
        let took = now().saturating_sub(self.0 & !Self::EACH);
        let calls = match self.0 & Self::EACH {
            0 => SAMPLE,
            _ => 1,
        };
        (Duration::from_nanos(took), calls)
    }
}

/// Nanoseconds since some moment, rounded down to an even number; not zero.
#[cold]
fn now() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let nanos = BEGAN.elapsed().as_nanos() as u64;
    (nanos & !1) + 2
}

/// One shard's counts.
#[derive(Debug)]
pub(crate) struct Calls([OnceLock<Box<OfService>>; ServicePlace::COUNT]);

impl Default for Calls {
    fn default() -> Self {
        Self([const { OnceLock::new() }; ServicePlace::COUNT])
    }
}

/// What is counted of one service.
#[derive(Debug, Default)]
pub(crate) struct OfService {
    outcomes: [Counter; Outcome::COUNT],
    times: Histogram,
}

impl Calls {
    pub(crate) fn add(&self, place: ServicePlace, outcome: Outcome, timing: Timing) {
        let of = self.0[usize::from(place.0)].get_or_init(Box::default);
        of.outcomes[outcome.index()].add(1);
        if timing != Timing::NONE {
            let (took, calls) = timing.end();
            of.times.add(took, calls);
        }
    }

    /// Adds what this shard has counted.
    pub(crate) fn add_to(&self, place: ServicePlace, sum: &OfService) {
        if let Some(of) = self.0[usize::from(place.0)].get() {
            for (sum, n) in sum.outcomes.iter().zip(&of.outcomes) {
                sum.add(n.get());
            }
            of.times.add_to(&sum.times);
        }
    }
}

impl OfService {
    /// By index.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = u64> {
        self.outcomes.iter().map(Counter::get)
    }

    pub(crate) fn times(&self) -> &Histogram {
        &self.times
    }
}
