//! The services protocol of NATS ("micro"): a service answers what `$SRV.PING`, `$SRV.INFO`
//! and `$SRV.STATS` ask, all services at once, one by name, or one instance by its id. The
//! instance's id is the protocol's.
//!
//! - This file: subjects, and what of Tidegate stands in metadata.
//! - [`describe`]: what an instance answers.
//! - [`read`]: what is read of another's answer.

pub(crate) mod describe;
pub(crate) mod read;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_nats::Subject;
use tidegate::bus::{DeadInstance, InstanceInfo};
use tidegate_protocol::{InstanceId, Name};

/// Metadata of an instance. Keys that begin with [`OWN`] are Tidegate's.
pub(crate) const OWN: &str = "tidegate-";
/// `1`: the instance keeps the whole of this specification, and agrees with the others of its
/// service.
pub(crate) const SPEC: &str = "tidegate-spec";
/// `any`, or `sticky` where the first answer binds a session to its instance.
pub(crate) const POLICY: &str = "tidegate-policy";
const ANY: &str = "any";
const STICKY: &str = "sticky";
/// `fail`, `rebind`, or `hold:` and milliseconds.
pub(crate) const DEAD_INSTANCE: &str = "tidegate-dead-instance";
/// Which events the service asks for: of `started`, `dormancy`, `gates`, joined by commas.
pub(crate) const WANTS: &str = "tidegate-wants";
/// The service's version where it is not of the form that the protocol asks for.
pub(crate) const VERSION: &str = "tidegate-version";
/// Which of those that claim this id at the same time it is; not there once it is claimed.
pub(crate) const CLAIM: &str = "tidegate-claim";
/// Metadata of an endpoint: `one-way` where it gives no answer.
pub(crate) const KIND: &str = "tidegate-kind";

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    pub(crate) const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }

    /// Asks every service there is.
    pub(crate) fn all(self) -> Subject {
        format!("$SRV.{}", self.as_str()).into()
    }

    /// Asks every instance of a service.
    pub(crate) fn service(self, service: &Name) -> Subject {
        format!("$SRV.{}.{service}", self.as_str()).into()
    }

    /// Asks one instance.
    pub(crate) fn instance(self, service: &Name, instance: &InstanceId) -> Subject {
        format!("$SRV.{}.{service}.{instance}", self.as_str()).into()
    }
}

fn write_dead_instance(policy: DeadInstance) -> String {
    match policy {
        DeadInstance::Fail => "fail".to_owned(),
        DeadInstance::Rebind => "rebind".to_owned(),
        DeadInstance::Hold(time) => format!("hold:{}", time.as_millis()),
    }
}

fn read_dead_instance(text: &str) -> Option<DeadInstance> {
    match text {
        "fail" => return Some(DeadInstance::Fail),
        "rebind" => return Some(DeadInstance::Rebind),
        _ => {}
    }
    let digits = text.strip_prefix("hold:")?;
    let is_number = (1..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let ms = is_number.then(|| digits.parse().ok()).flatten()?;
    Some(DeadInstance::Hold(Duration::from_millis(ms)))
}

/// Asked-for events, by their names.
fn wants(info: &InstanceInfo) -> [(&'static str, bool); 3] {
    [
        ("started", info.wants_started),
        ("dormancy", info.wants_dormancy),
        ("gates", info.wants_gates),
    ]
}

/// Whether `version` is what the protocol takes for one: three numbers, and what Semantic
/// Versioning lets follow.
fn is_semver(version: &str) -> bool {
    let number = |n: &str| {
        !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'))
    };
    let tail = |t: &str| {
        t.split('.')
            .all(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let (rest, build) = match version.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (version, None),
    };
    let (core, pre) = match rest.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (rest, None),
    };
    // A number in a pre-release has no zeros before it either.
    let pre_numbers = |p: &str| {
        p.split('.')
            .all(|id| number(id) || !id.bytes().all(|b| b.is_ascii_digit()))
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|p| tail(p) && pre_numbers(p))
        && build.is_none_or(tail)
}
