//! What a gate answers to a `$hello`: version, capabilities, heartbeats.

use std::time::Duration;

use super::control::{Heartbeat, Hello};
use super::{MIN_HEARTBEAT, RESUME, VERSION};

/// What a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Longest silence of a client that is allowed; heartbeat intervals are at most half of
    /// it.
    pub heartbeat_timeout: Duration,
    /// Whether sessions can be resumed.
    pub resume: bool,
}

/// What both sides keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The highest version that both speak.
    pub version: u16,
    /// Whether the session can be resumed.
    pub resume: bool,
    /// How often each side is heard.
    pub heartbeat: Heartbeat,
}

impl Offer {
    /// Finds what both sides can keep to; `None` if they have no version in common.
    pub fn answer(&self, hello: &Hello) -> Option<Terms> {
        if !hello.versions.contains(&VERSION) {
            return None;
        }
        let longest = milliseconds(self.heartbeat_timeout / 2);
        let shortest = milliseconds(MIN_HEARTBEAT).min(longest);
        let wanted = hello.heartbeat.unwrap_or(Heartbeat {
            client_ms: longest,
            gate_ms: longest,
        });
        Some(Terms {
            version: VERSION,
            resume: self.resume && hello.wants(RESUME),
            heartbeat: Heartbeat {
                client_ms: wanted.client_ms.clamp(shortest, longest),
                gate_ms: wanted.gate_ms.clamp(shortest, longest),
            },
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer {
        heartbeat_timeout: Duration::from_secs(60),
        resume: true,
    };

    fn answer(offer: Offer, hello: &str) -> Option<Terms> {
        offer.answer(&Hello::read(hello.as_bytes()).unwrap())
    }

    #[test]
    fn a_version_in_common_is_needed() {
        assert_eq!(answer(OFFER, r#"{"versions":[]}"#), None);
        assert_eq!(answer(OFFER, r#"{"versions":[0,2]}"#), None);
        let terms = answer(OFFER, r#"{"versions":[3,1,2]}"#).unwrap();
        assert_eq!(terms.version, 1);
    }

    #[test]
    fn resume_takes_two() {
        for (offered, hello, resume) in [
            (true, r#"{"versions":[1],"capabilities":["resume"]}"#, true),
            (true, r#"{"versions":[1],"capabilities":["x"]}"#, false),
            (true, r#"{"versions":[1]}"#, false),
            (
                false,
                r#"{"versions":[1],"capabilities":["resume"]}"#,
                false,
            ),
        ] {
            let offer = Offer {
                resume: offered,
                ..OFFER
            };
            assert_eq!(answer(offer, hello).unwrap().resume, resume, "{hello}");
        }
    }

    #[test]
    fn heartbeats_stay_within_what_the_gate_allows() {
        for (wanted, client_ms, gate_ms) in [
            ("", 30_000, 30_000),
            (
                r#","heartbeat":{"client_ms":5000,"gate_ms":7000}"#,
                5_000,
                7_000,
            ),
            (
                r#","heartbeat":{"client_ms":0,"gate_ms":99999999}"#,
                1_000,
                30_000,
            ),
        ] {
            let terms = answer(OFFER, &format!(r#"{{"versions":[1]{wanted}}}"#)).unwrap();
            assert_eq!(terms.heartbeat, Heartbeat { client_ms, gate_ms });
        }
        // A listener with a very short timeout wins over the shortest interval.
        let short = Offer {
            heartbeat_timeout: Duration::from_millis(100),
            ..OFFER
        };
        let terms = answer(short, r#"{"versions":[1]}"#).unwrap();
        assert_eq!(terms.heartbeat.client_ms, 50);
    }
}
