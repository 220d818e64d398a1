//! Open connections by listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_protocol::Network;

/// Listeners that are told apart: a gate that is brought connections may name as many as
/// it likes.
const MAX_LISTENERS: usize = 64;
/// What the connections of further ones are counted under.
const OTHER: &str = "(other)";

/// See the module.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Vec<Arc<OpenConnections>>>);

/// The open connections of one listener, those in set-up too.
pub(crate) struct OpenConnections {
    pub(crate) listener: Arc<str>,
    pub(crate) network: Network,
    count: AtomicUsize,
}

impl Listeners {
    /// What counts the connections of a listener.
    pub(crate) fn open(&self, name: &Arc<str>, network: Network) -> Arc<OpenConnections> {
        let mut all = self.0.lock();
        let same = |open: &&Arc<OpenConnections>, name: &str| {
            *open.listener == *name && open.network == network
        };
        let name = match all.iter().find(|open| same(open, name)) {
            Some(open) => return open.clone(),
            None if all.len() < MAX_LISTENERS => name.clone(),
            None => match all.iter().find(|open| same(open, OTHER)) {
                Some(open) => return open.clone(),
                None => OTHER.into(),
            },
        };
        let open = Arc::new(OpenConnections {
            listener: name,
            network,
            count: AtomicUsize::new(0),
        });
        all.push(open.clone());
        open
    }

    pub(crate) fn all(&self) -> Vec<Arc<OpenConnections>> {
        self.0.lock().clone()
    }
}

impl OpenConnections {
    pub(crate) fn begin(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_count_and_names_are_bounded() {
        let listeners = Listeners::default();
        let open = |name: &str, network| listeners.open(&name.into(), network);
        open("a", Network::Tcp).begin();
        open("a", Network::Tcp).begin();
        open("a", Network::Ws).begin();
        assert_eq!(open("a", Network::Tcp).count(), 2);
        assert_eq!(open("a", Network::Ws).count(), 1);
        for i in 0..1000 {
            open(&format!("tcp-{i}"), Network::Tcp).begin();
            open(&format!("ws-{i}"), Network::Ws).begin();
        }
        let all = listeners.all();
        assert_eq!(all.len(), MAX_LISTENERS + 2);
        assert_eq!(all.iter().map(|open| open.count()).sum::<usize>(), 2003);
    }
}
