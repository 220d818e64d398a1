//! How long to wait before connecting again.

use std::time::Duration;

/// Waits between attempts to connect: each is drawn evenly between zero and a ceiling,
/// which begins at `base` and doubles with each attempt up to `cap`. So many clients that
/// lost one gate do not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling of the first wait. Default 500 ms.
    pub base: Duration,
    /// Ceiling of all. Default 30 s.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The ceiling of the wait after so many attempts in a row, 1 and up.
    pub(super) fn ceiling(&self, attempt: u32) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
        self.base.saturating_mul(doubled).min(self.cap)
    }

    /// How long to wait after so many attempts in a row. What the gate asks for comes
    /// first, and the jitter on top of it.
    pub(super) fn delay(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let ceiling = self.ceiling(attempt);
        let jitter = ceiling.mul_f64(rand::random::<f64>());
        asked.unwrap_or_default() + jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_below_a_ceiling_that_doubles() {
        let ms = Duration::from_millis;
        let backoff = Backoff {
            base: ms(100),
            cap: ms(450),
        };
        let ceilings: Vec<_> = (1..=5).map(|n| backoff.ceiling(n)).collect();
        assert_eq!(ceilings, [ms(100), ms(200), ms(400), ms(450), ms(450)]);
        assert_eq!(backoff.ceiling(u32::MAX), ms(450));
        let waits: Vec<_> = (0..1000).map(|_| backoff.delay(3, None)).collect();
        assert!(waits.iter().all(|w| *w <= ms(400)));
        for quarter in 0..4 {
            let part = ms(100 * quarter)..ms(100 * (quarter + 1));
            let here = waits.iter().filter(|w| part.contains(w)).count();
            assert!((150..350).contains(&here), "{quarter}: {here} of 1000");
        }
        let asked = backoff.delay(1, Some(ms(1000)));
        assert!((ms(1000)..=ms(1100)).contains(&asked), "{asked:?}");
    }
}
