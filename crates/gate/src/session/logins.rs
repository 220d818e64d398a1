//! How many sessions a user may have at a time, and which one goes where one more comes.
//!
//! - What is allowed: [`Logins`]. What that means for one more login: `judge`, a pure function.
//! - [`Places`]: the logins there are; each change is decided and made under one lock.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_protocol::{DeviceId, UserId};

const PARTS: usize = 64;

/// How many sessions may be bound to one user at a time.
///
/// A login is a session that is bound to a user, with a connection or dormant, from the bind
/// until it is unbound, closes or is taken for lost. It counts on the gate that it is on, or on
/// all gates where the bus keeps logins for them ([`Bus::users`](crate::bus::Bus::users)).
/// By default there may be any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logins {
    /// How many; `None`: any number.
    pub limit: Option<NonZeroU32>,
    /// What they are counted by.
    pub per: LoginsPer,
    /// What becomes of one more.
    pub over: LoginsOver,
}

impl Logins {
    /// Any number.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// At most so many for each user; one more takes the place of the oldest.
    pub fn limit(limit: NonZeroU32) -> Self {
        Self {
            limit: Some(limit),
            ..Self::default()
        }
    }

    /// The limit holds for each device of a user. Sessions of which the device is not known
    /// count as one device's.
    pub fn per_device(mut self) -> Self {
        self.per = LoginsPer::UserAndDevice;
        self
    }

    /// One more is refused.
    pub fn refuse(mut self) -> Self {
        self.over = LoginsOver::Refuse;
        self
    }
}

/// What logins are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginsPer {
    /// All of a user together.
    #[default]
    User,
    /// Those on each of a user's devices. Without a device: as one device.
    UserAndDevice,
}

/// What becomes of a login for which there is no place.
///
/// Either way a dormant session of the same device gives its place up first: its client has
/// lost the token, or would have come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginsOver {
    /// It is refused ([`CloseReason::TooManyLogins`](crate::CloseReason::TooManyLogins)).
    Refuse,
    /// The oldest is closed ([`CloseReason::Replaced`](crate::CloseReason::Replaced)).
    #[default]
    Replace,
}

/// How a login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Attached,
    Dormant,
    /// It has ended, or is closing.
    Over,
}

/// A login that has a place, as one more is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) standing: Standing,
    /// The one more is on the same device.
    pub(crate) same_device: bool,
}

/// What becomes of one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is a place.
    Free,
    /// It gets the place of this one.
    Replace(usize),
    Refuse,
}

/// Judges one more login, beside those that have a place, the oldest first. Whoever keeps
/// the logins makes what comes of it true in one step with having looked.
pub(crate) fn judge(limit: NonZeroU32, over: LoginsOver, held: &[Held]) -> Verdict {
    if held.len() < limit.get() as usize {
        return Verdict::Free;
    }
    let gone = held.iter().position(|h| h.standing == Standing::Over);
    let own = |h: &Held| h.standing == Standing::Dormant && h.same_device;
    match (gone.or_else(|| held.iter().position(own)), over) {
        (Some(i), _) => Verdict::Replace(i),
        (None, LoginsOver::Replace) => Verdict::Replace(0),
        (None, LoginsOver::Refuse) => Verdict::Refuse,
    }
}

/// What can have a place: a session.
pub(crate) trait Login: Clone {
    fn is(&self, other: &Self) -> bool;

    fn standing(&self) -> Standing;

    /// Closes it, because another has its place, if it stands like this still. Must not take
    /// the lock of the places.
    fn give_way(&self, standing: Standing) -> bool;
}

/// Whose login it is: what is counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Account {
    user: UserId,
    /// Where devices are counted apart.
    device: Option<DeviceId>,
}

#[derive(Debug)]
struct Place<L> {
    login: L,
    device: Option<DeviceId>,
}

/// There is no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoPlace;

/// Logins that others have the places of now.
pub(crate) type Replaced<L> = SmallVec<[L; 1]>;

/// The logins of a gate, where their number is limited.
pub(crate) struct Places<L> {
    limit: NonZeroU32,
    per: LoginsPer,
    hasher: DefaultHashBuilder,
    parts: Box<[Part<L>]>,
}

/// The oldest login is the first.
type Part<L> = Mutex<HashMap<Account, SmallVec<[Place<L>; 1]>>>;

impl<L: Login> Places<L> {
    /// `None` where there may be any number.
    pub(crate) fn new(logins: Logins) -> Option<Self> {
        Some(Self {
            limit: logins.limit?,
            per: logins.per,
            hasher: DefaultHashBuilder::default(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        })
    }

    fn account(&self, user: &UserId, device: Option<&DeviceId>) -> Account {
        let device = match self.per {
            LoginsPer::User => None,
            LoginsPer::UserAndDevice => device.cloned(),
        };
        let user = user.clone();
        Account { user, device }
    }

    fn part(&self, account: &Account) -> &Part<L> {
        &self.parts[self.hasher.hash_one(account) as usize % PARTS]
    }

    /// Gives `login` a place, or none. Before anybody can see the places again those whose
    /// place it has are closed, and `exchange` is called with all that lost theirs. Answers
    /// those that were closed.
    pub(crate) fn take(
        &self,
        (user, device): (&UserId, Option<&DeviceId>),
        login: &L,
        over: LoginsOver,
        exchange: impl FnOnce(&[L]),
    ) -> Result<Replaced<L>, NoPlace> {
        let account = self.account(user, device);
        let mut part = self.part(&account).lock();
        let places = part.entry(account).or_default();
        let (mut out, mut closed) = (Replaced::new(), Replaced::new());
        loop {
            let held: SmallVec<[Held; 4]> = places.iter().map(|p| p.held(device)).collect();
            let i = match judge(self.limit, over, &held) {
                Verdict::Free => break,
                Verdict::Refuse => return Err(NoPlace),
                Verdict::Replace(i) => i,
            };
            let (Some(held), Some(place)) = (held.get(i), places.get(i)) else {
                return Err(NoPlace);
            };
            if held.standing != Standing::Over {
                if !place.login.give_way(held.standing) {
                    // It stands differently by now: its client came back, or it ended.
                    continue;
                }
                closed.push(place.login.clone());
            }
            out.push(places.remove(i).login);
        }
        places.push(Place {
            login: login.clone(),
            device: device.cloned(),
        });
        exchange(&out);
        Ok(closed)
    }

    /// Frees the place of this login only. One that has lost it has none to free.
    pub(crate) fn leave(&self, user: &UserId, device: Option<&DeviceId>, login: &L) {
        let account = self.account(user, device);
        let mut part = self.part(&account).lock();
        let Some(places) = part.get_mut(&account) else {
            return;
        };
        places.retain(|place| !place.login.is(login));
        if places.is_empty() {
            part.remove(&account);
        }
    }

    /// Frees every place.
    pub(crate) fn clear(&self) {
        for part in &self.parts {
            let places = std::mem::take(&mut *part.lock());
            drop(places);
        }
    }

    /// Users, or devices of users, that have logins.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len()).sum()
    }
}

impl<L: Login> Place<L> {
    fn held(&self, device: Option<&DeviceId>) -> Held {
        Held {
            standing: self.login.standing(),
            same_device: self.device.as_ref() == device,
        }
    }
}

#[cfg(test)]
mod tests;
