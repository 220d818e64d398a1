//! Who tried resume tokens that were wrong: guessing gets nobody far, and is not served.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::admission::network_of;
use crate::clock::Tick;

/// Wrong tokens, for sessions that are here, from one address (IPv6: one /64) after which no more are looked at for a
/// while.
const ALLOWED: u32 = 10;
/// How long wrong tokens are remembered.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const REMEMBERED: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(crate) struct WrongTokens(Mutex<HashMap<IpAddr, Tries>>);

struct Tries {
    wrong: u32,
    until: Tick,
}

impl WrongTokens {
    /// Whether a token that comes from here is looked at.
    pub(crate) fn may_try(&self, ip: IpAddr, now: Tick) -> bool {
        let tries = self.0.lock();
        let tries = tries.get(&network_of(ip));
        tries.is_none_or(|tries| tries.until <= now || tries.wrong < ALLOWED)
    }

    /// A token from here was wrong.
    pub(crate) fn failed(&self, ip: IpAddr, now: Tick) {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED {
            all.retain(|_, tries| tries.until > now);
        }
        if all.len() >= REMEMBERED {
            // So many at once: whom it is forgotten of first does not matter.
            all.clear();
        }
        let fresh = Tries {
            wrong: 0,
            until: now.plus(WINDOW),
        };
        let tries = all.entry(network_of(ip)).or_insert(fresh);
        if tries.until <= now {
            *tries = Tries {
                wrong: 0,
                until: now.plus(WINDOW),
            };
        }
        tries.wrong += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_is_not_served_for_a_while() {
        let tokens = WrongTokens::default();
        let (guesser, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let now = Tick(100);
        for _ in 0..ALLOWED {
            assert!(tokens.may_try(guesser, now));
            tokens.failed(guesser, now);
        }
        assert!(!tokens.may_try(guesser, now));
        assert!(tokens.may_try(other, now));
        let later = now.plus(WINDOW);
        assert!(tokens.may_try(guesser, later));
        tokens.failed(guesser, later);
        assert!(tokens.may_try(guesser, later), "counted anew");
    }

    #[test]
    fn the_page_says_how_many() {
        let page = include_str!("../../../docs/protocol.md");
        let page: Vec<_> = page.split_whitespace().collect();
        let seconds = WINDOW.as_secs();
        let phrase = format!(
            "After {ALLOWED} wrong tokens from one address (IPv6: one /64) within {seconds} s"
        );
        assert!(page.join(" ").contains(&phrase), "{phrase}");
    }

    #[test]
    fn memory_is_bounded() {
        let tokens = WrongTokens::default();
        for n in 0..3 * REMEMBERED as u32 {
            tokens.failed(IpAddr::from(n.to_be_bytes()), Tick(1));
        }
        assert!(tokens.0.lock().len() <= REMEMBERED);
    }
}
