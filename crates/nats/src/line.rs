//! Things done one after the other for each user, in the order in which they were asked for.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// See the module. `B` is what many things asked for one after the other become together.
pub(crate) struct Lines<K, B>(Mutex<HashMap<K, Line<B>>>);

struct Line<B> {
    /// Completes when the last in line is done.
    last: oneshot::Receiver<()>,
    number: u64,
    /// What the last in line is to do, if it has not begun.
    batch: Option<Arc<Mutex<B>>>,
}

/// A place in a line. Who is behind waits until it is dropped.
pub(crate) struct Place<K: Hash + Eq, B> {
    lines: Arc<Lines<K, B>>,
    key: K,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

/// A batch that was begun, and its place.
pub(crate) type Begun<K, B> = (Place<K, B>, Arc<Mutex<B>>);

impl<K: Hash + Eq + Clone, B> Lines<K, B> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(HashMap::new())))
    }

    /// Takes a place at the end of the line.
    pub(crate) fn join(self: &Arc<Self>, key: &K) -> Place<K, B> {
        self.join_with(&mut self.0.lock(), key, None)
    }

    /// Adds to what the last in line is to do; or takes a place, for a batch that `add` began.
    pub(crate) fn add(self: &Arc<Self>, key: &K, add: impl FnOnce(&mut B)) -> Option<Begun<K, B>>
    where
        B: Default,
    {
        let mut lines = self.0.lock();
        if let Some(batch) = lines.get(key).and_then(|line| line.batch.clone()) {
            add(&mut batch.lock());
            return None;
        }
        let batch = Arc::new(Mutex::new(B::default()));
        add(&mut batch.lock());
        let place = self.join_with(&mut lines, key, Some(batch.clone()));
        Some((place, batch))
    }

    fn join_with(
        self: &Arc<Self>,
        lines: &mut HashMap<K, Line<B>>,
        key: &K,
        batch: Option<Arc<Mutex<B>>>,
    ) -> Place<K, B> {
        let (done, last) = oneshot::channel();
        let number = lines.get(key).map_or(0, |line| line.number) + 1;
        let line = Line {
            last,
            number,
            batch,
        };
        let before = lines.insert(key.clone(), line).map(|line| line.last);
        Place {
            lines: self.clone(),
            key: key.clone(),
            number,
            before,
            _done: done,
        }
    }

    /// Lines that somebody is in.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl<K: Hash + Eq, B> Place<K, B> {
    /// Waits until all before it are done. Nothing is added to its batch from then on.
    pub(crate) async fn turn(&mut self) {
        if let Some(before) = self.before.take() {
            // It is dropped when it is done.
            let _ = before.await;
        }
        let mut lines = self.lines.0.lock();
        if let Some(line) = lines.get_mut(&self.key)
            && line.number == self.number
        {
            line.batch = None;
        }
    }
}

impl<K: Hash + Eq, B> Drop for Place<K, B> {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        let is_last = lines
            .get(&self.key)
            .is_some_and(|l| l.number == self.number);
        if is_last {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn each_waits_for_those_before_it_in_the_order_they_came() {
        let lines = Lines::<&str, Vec<u32>>::new();
        let done = Arc::new(Mutex::new(Vec::new()));
        let first = lines.join(&"ann");
        let (mut second, batch) = lines.add(&"ann", |b| b.push(1)).unwrap();
        assert!(lines.add(&"ann", |b| b.push(2)).is_none(), "together");
        let mut third = lines.join(&"ann");
        let (_fourth, other) = lines.add(&"ann", |b| b.push(3)).unwrap();
        assert_eq!((&*batch.lock(), &*other.lock()), (&vec![1, 2], &vec![3]));
        let (on_second, on_third) = (done.clone(), done.clone());
        let last = tokio::spawn(async move {
            third.turn().await;
            on_third.lock().push("third");
        });
        let middle = tokio::spawn(async move {
            second.turn().await;
            on_second.lock().push("second");
        });
        let mut other = lines.join(&"bob");
        other.turn().await;
        drop(first);
        tokio::time::timeout(Duration::from_secs(60), async {
            middle.await.unwrap();
            last.await.unwrap();
        })
        .await
        .unwrap();
        assert_eq!(*done.lock(), ["second", "third"]);
        drop((other, _fourth));
        assert_eq!(lines.len(), 0);
    }

    #[tokio::test]
    async fn nothing_is_added_to_what_has_begun() {
        let lines = Lines::<&str, Vec<u32>>::new();
        let (mut first, _) = lines.add(&"ann", |b| b.push(1)).unwrap();
        first.turn().await;
        assert!(lines.add(&"ann", |b| b.push(2)).is_some());
    }
}
