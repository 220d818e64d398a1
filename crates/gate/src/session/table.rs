//! All sessions of a gate, and who they are: users and groups.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::Mutex;
use tidegate_protocol::{GroupName, SessionId};

use super::LocalSession;

const PARTS: usize = 64;

/// Ids are random bits made here, so they need no hashing.
fn hash(session: &LocalSession) -> u64 {
    session.id().0 as u64
}

/// Sessions by id.
pub(crate) struct Table(Box<[Mutex<HashTable<LocalSession>>]>);

impl Table {
    pub(crate) fn new() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }

    fn part(&self, id: SessionId) -> &Mutex<HashTable<LocalSession>> {
        &self.0[(id.0 >> 64) as usize % PARTS]
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<LocalSession> {
        let part = self.part(id).lock();
        part.find(id.0 as u64, |s| s.id() == id).cloned()
    }

    pub(crate) fn insert(&self, session: LocalSession) {
        let mut part = self.part(session.id()).lock();
        part.insert_unique(hash(&session), session, hash);
    }

    /// Removes this session only, not another under the same id.
    pub(crate) fn remove(&self, session: &LocalSession) {
        let mut part = self.part(session.id()).lock();
        if let Ok(entry) = part.find_entry(hash(session), |s| s.ptr_eq(session)) {
            entry.remove();
        }
    }

    /// Takes every session out.
    pub(crate) fn take_all(&self) -> Vec<LocalSession> {
        let parts = self.0.iter();
        parts
            .flat_map(|part| std::mem::take(&mut *part.lock()))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|part| part.lock().len()).sum()
    }

    /// Every session; the table is not locked while the caller works.
    pub(crate) fn all(&self) -> impl Iterator<Item = LocalSession> {
        let parts = self.0.iter();
        parts.flat_map(|part| part.lock().iter().cloned().collect::<Vec<_>>())
    }
}

fn take_out(sessions: &mut HashTable<LocalSession>, session: &LocalSession) {
    if let Ok(entry) = sessions.find_entry(hash(session), |s| s.ptr_eq(session)) {
        entry.remove();
    }
}

/// Sessions by a name that several may share: a user, a group.
pub(crate) struct Directory<K> {
    hasher: DefaultHashBuilder,
    parts: Box<[Part<K>]>,
}

type Part<K> = Mutex<HashMap<K, HashTable<LocalSession>>>;

pub(crate) type Groups = Directory<GroupName>;

impl<K: Hash + Eq + Clone> Directory<K> {
    pub(crate) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        }
    }

    fn part(&self, key: &K) -> &Part<K> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    pub(crate) fn get(&self, key: &K) -> Vec<LocalSession> {
        let part = self.part(key).lock();
        part.get(key)
            .map(|sessions| sessions.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn count(&self, key: &K) -> usize {
        self.part(key).lock().get(key).map_or(0, HashTable::len)
    }

    pub(crate) fn insert(&self, key: &K, session: &LocalSession) {
        let mut part = self.part(key).lock();
        let sessions = part.entry(key.clone()).or_default();
        sessions.insert_unique(hash(session), session.clone(), hash);
    }

    /// Takes some out and puts one in: nobody sees the one without the other.
    pub(crate) fn exchange(&self, key: &K, out: &[LocalSession], session: &LocalSession) {
        let mut part = self.part(key).lock();
        let sessions = part.entry(key.clone()).or_default();
        for session in out {
            take_out(sessions, session);
        }
        sessions.insert_unique(hash(session), session.clone(), hash);
    }

    /// Removes this session only: another under the same key stays.
    pub(crate) fn remove(&self, key: &K, session: &LocalSession) {
        let mut part = self.part(key).lock();
        let Some(sessions) = part.get_mut(key) else {
            return;
        };
        take_out(sessions, session);
        if sessions.is_empty() {
            part.remove(key);
        }
    }

    /// Takes every session out.
    pub(crate) fn clear(&self) {
        for part in &self.parts {
            let sessions = std::mem::take(&mut *part.lock());
            drop(sessions);
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<K> {
        let parts = self.parts.iter();
        let keys = parts.flat_map(|part| part.lock().keys().cloned().collect::<Vec<_>>());
        keys.collect()
    }
}
