//! A coarse clock, and timers that cost a connection eight bytes.
//!
//! Each shard has a [`Clock`] that a task of its advances every [`TICK`], and a
//! [`Wheel`] in which a connection has, as a rule, one entry. Activity only moves a
//! deadline inside the connection; when the entry fires the connection looks what is
//! really due and arms the next one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The clock's step.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A point in time, in steps of [`TICK`] since the gate began. Zero means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    pub(crate) const NEVER: Tick = Tick(u32::MAX);

    /// The first tick at which `after` has passed since this one began. Counted from the
    /// current tick that is up to one step less than `after` from now.
    pub(crate) fn plus(self, after: Duration) -> Tick {
        let ticks = after.as_millis().div_ceil(TICK.as_millis());
        Tick(
            self.0
                .saturating_add(ticks.min(u128::from(u32::MAX - 1)) as u32)
                .min(u32::MAX - 1),
        )
    }
}

/// Follows tokio's clock, so that tests can pause it.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    now: AtomicU32,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            now: AtomicU32::new(1),
        }
    }

    /// The current tick: a load.
    pub(crate) fn now(&self) -> Tick {
        Tick(self.now.load(Ordering::Relaxed))
    }

    /// Reads the time and moves on.
    pub(crate) fn advance(&self) -> Tick {
        let ticks = self.began.elapsed().as_millis() / TICK.as_millis() + 1;
        let now = ticks.min(u128::from(u32::MAX - 1)) as u32;
        self.now.store(now, Ordering::Relaxed);
        Tick(now)
    }

    /// How long ago `tick` began, by the time and not by the last step.
    pub(crate) fn since(&self, tick: Tick) -> Duration {
        let began = TICK * (tick.0.saturating_sub(1));
        self.began.elapsed().saturating_sub(began)
    }

    /// When the tick after the current one begins.
    pub(crate) fn next(&self) -> Instant {
        self.began + TICK * self.now().0
    }
}

const SLOTS: usize = 1024;

/// Which connection to wake at which tick.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Box<[Vec<(Tick, u32)>]>,
    done: Tick,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            done: Tick(1),
        }
    }

    /// Wakes `key` at `at`, or at the next tick if that has passed.
    pub(crate) fn insert(&mut self, at: Tick, key: u32) {
        let at = Tick(at.0.max(self.done.0 + 1));
        self.slots[at.0 as usize % SLOTS].push((at, key));
    }

    /// Takes out what is due by `now`.
    pub(crate) fn expire(&mut self, now: Tick, due: &mut Vec<u32>) {
        // After a long pause each slot is looked at once.
        let steps = (now.0.saturating_sub(self.done.0) as usize).min(SLOTS);
        for i in 1..=steps {
            let slot = &mut self.slots[(self.done.0 as usize + i) % SLOTS];
            slot.retain(|&(at, key)| {
                let is_due = at <= now;
                if is_due {
                    due.push(key);
                }
                !is_due
            });
            if slot.is_empty() && slot.capacity() > 64 {
                *slot = Vec::new();
            }
        }
        self.done = Tick(self.done.0.max(now.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_and_not_early() {
        let mut wheel = Wheel::new();
        for at in [2, 3, 900, 1026, 5000] {
            wheel.insert(Tick(at), at);
        }
        let mut due = Vec::new();
        for now in 2..6000 {
            due.clear();
            wheel.expire(Tick(now), &mut due);
            let expected: Vec<u32> = [2, 3, 900, 1026, 5000]
                .into_iter()
                .filter(|at| *at == now)
                .collect();
            assert_eq!(due, expected, "at {now}");
        }
    }

    #[test]
    fn catches_up_after_a_pause_and_takes_the_past_as_next() {
        let mut wheel = Wheel::new();
        for at in 2..4000 {
            wheel.insert(Tick(at), at);
        }
        let mut due = Vec::new();
        wheel.expire(Tick(3000), &mut due);
        assert_eq!(due.len(), 2999);
        due.clear();
        wheel.insert(Tick(5), 7);
        wheel.expire(Tick(3001), &mut due);
        due.sort_unstable();
        assert_eq!(due, [7, 3001]);
    }

    #[test]
    fn a_tick_is_never_early() {
        assert_eq!(Tick(10).plus(Duration::from_millis(1)), Tick(11));
        assert_eq!(Tick(10).plus(Duration::from_millis(50)), Tick(11));
        assert_eq!(Tick(10).plus(Duration::from_millis(51)), Tick(12));
        assert!(Tick(10).plus(Duration::MAX) < Tick::NEVER);
    }
}
