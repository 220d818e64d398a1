//! The last revision seen of each user: a change need not ask for it first.

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::entry::Key;

/// Users in one generation, of which two are kept.
const GENERATION: usize = 32_768;

/// Bounded: users not seen for long are forgotten. A revision that is not the last any
/// more is no harm: NATS refuses the change, and then it is asked for.
#[derive(Default)]
pub(super) struct Revisions(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, u64>,
    old: HashMap<Key, u64>,
}

impl Revisions {
    pub(super) fn get(&self, key: &Key) -> Option<u64> {
        let all = self.0.lock();
        all.young.get(key).or_else(|| all.old.get(key)).copied()
    }

    pub(super) fn put(&self, key: Key, revision: u64) {
        let mut all = self.0.lock();
        if all.young.len() >= GENERATION && !all.young.contains_key(&key) {
            all.old = std::mem::take(&mut all.young);
        }
        all.young.insert(key, revision);
    }
}
