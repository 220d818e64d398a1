//! Slots: where questions wait for their answers.

use super::{PLACE_BITS, Waiting};

#[derive(Default)]
pub(super) struct Slots {
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    /// No slot's deadline is before this tick.
    pub(super) next: u32,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) deadline: u32,
    pub(super) epoch: u64,
    pub(super) waiting: Option<Waiting>,
    /// The last generation whose question needed no answer: one that comes is no news.
    pub(super) needless: Option<u32>,
}

/// Where a question waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl Token {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 12 {
            return None;
        }
        let number = text.bytes().try_fold(0_u64, |number, b| {
            let digit = match b {
                b'0'..=b'9' => b - b'0',
                b'a'..=b'z' => b - b'a' + 10,
                _ => return None,
            };
            number.checked_mul(36)?.checked_add(u64::from(digit))
        })?;
        Some(Self {
            place: (number & ((1 << PLACE_BITS) - 1)) as u32,
            generation: u32::try_from(number >> PLACE_BITS).ok()?,
        })
    }
}

impl Slots {
    pub(super) fn get(&self, token: Token) -> Option<&Waiting> {
        let slot = self.slots.get(token.place as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        slot.waiting.as_ref()
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Waiting> {
        let slot = self.slots.get_mut(token.place as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        let waiting = slot.waiting.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.place);
        Some(waiting)
    }

    /// Waits no more: an answer may come, and was not needed.
    pub(super) fn forget(&mut self, token: Token) {
        if self.remove(token).is_some()
            && let Some(slot) = self.slots.get_mut(token.place as usize)
        {
            slot.needless = Some(token.generation);
        }
    }

    /// Whether the answer was not needed. It is, another time.
    pub(super) fn was_needless(&mut self, token: Token) -> bool {
        let slot = self.slots.get_mut(token.place as usize);
        slot.is_some_and(|s| s.needless.take_if(|of| *of == token.generation).is_some())
    }
}
