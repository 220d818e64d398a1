//! What a store must still have: changes with numbers, those acknowledged and those
//! that were only asked for.

use std::collections::BTreeMap;

use tidegate::store::Store;
use tidegate::{Settings, UserId};

use super::user;

/// A user's settings after change `number`: every part of them says which it is.
/// Between a few bytes and some 12 KiB.
pub(super) fn settings_of(number: u64) -> Option<Settings> {
    // Every eleventh change is a delete.
    if number.is_multiple_of(11) {
        return None;
    }
    let text = number.to_string();
    let length = match number % 7 {
        0 => 12_000,
        1 => 3_000,
        n => 40 * n as usize,
    };
    let mut filler = text.repeat(length / text.len() + 1);
    filler.truncate(length);
    let pairs = BTreeMap::from([
        ("a".to_owned(), text.clone()),
        ("m".to_owned(), filler),
        ("z".to_owned(), text),
    ]);
    Some(Settings::try_from(pairs).unwrap())
}

/// Makes change `number` of the user.
pub(super) async fn change(
    store: &impl Store,
    user: &UserId,
    number: u64,
) -> Result<(), tidegate::store::StoreError> {
    match settings_of(number) {
        Some(settings) => store.save(user, &settings, super::DAY).await,
        None => store.delete(user).await,
    }
}

/// Changes asked for and acknowledged, by the user's number; one after the other for
/// each user, from 1.
#[derive(Debug, Default, Clone)]
pub(super) struct Record(BTreeMap<u64, (u64, u64)>);

impl Record {
    pub(super) fn asked(&mut self, who: u64, number: u64) {
        self.0.entry(who).or_default().0 = number;
    }

    /// The user's first change was asked for at least.
    pub(super) fn started(&mut self, who: u64) {
        self.0.entry(who).or_insert((1, 0));
    }

    pub(super) fn acknowledged(&mut self, who: u64, number: u64) {
        self.0.entry(who).or_default().1 = number;
    }

    pub(super) fn count(&self) -> u64 {
        self.0.values().map(|(_, acknowledged)| acknowledged).sum()
    }

    /// Whether each user has its last acknowledged change, or a later one that was asked
    /// for, whole. From then on that one counts as acknowledged, and as the last asked.
    pub(super) async fn check(&mut self, store: &impl Store) -> Result<(), String> {
        for (who, (asked, acknowledged)) in &mut self.0 {
            let found = store.query(&name(*who)).await.map_err(|e| e.to_string())?;
            let mut possible = *acknowledged..=*asked;
            let is = |number| settings_of_or_none(number) == found;
            let Some(number) = possible.find(|number| is(*number)) else {
                let found = found.map(|s| (s.get("a").map(str::to_owned), s.size()));
                return Err(format!(
                    "user {who} has {found:?}; change {acknowledged} was acknowledged, {asked} asked for"
                ));
            };
            (*asked, *acknowledged) = (number, number);
        }
        Ok(())
    }
}

fn settings_of_or_none(number: u64) -> Option<Settings> {
    match number {
        0 => None,
        number => settings_of(number),
    }
}

pub(super) fn name(who: u64) -> UserId {
    user(format!("user-{who}"))
}
