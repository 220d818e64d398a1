//! Work that waits for a thread, bounded by weight: who brings more waits for a place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tidegate::store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module. First come, first served.
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Condvar,
    room: Arc<Semaphore>,
    weight: usize,
}

struct Waiting<T> {
    items: VecDeque<Taken<T>>,
    closed: bool,
    woken: bool,
}

/// An item with its place, which is free when this is dropped.
pub(crate) struct Taken<T> {
    pub(crate) item: T,
    _room: OwnedSemaphorePermit,
}

/// The queue takes nothing more.
#[derive(Debug)]
pub(crate) struct Closed;

impl From<Closed> for StoreError {
    fn from(_: Closed) -> Self {
        Self::Unavailable("it is closed".into())
    }
}

impl<T> Queue<T> {
    /// A queue for items that weigh `weight` together, those taken but not finished
    /// among them.
    pub(crate) fn new(weight: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                items: VecDeque::new(),
                closed: false,
                woken: false,
            }),
            arrived: Condvar::new(),
            room: Arc::new(Semaphore::new(weight)),
            weight,
        }
    }

    /// Queues `item` when there is room. Dropped before that, nothing was queued.
    pub(crate) async fn push(&self, item: T, weight: usize) -> Result<(), Closed> {
        // An item heavier than the whole queue has it for itself.
        let weight = u32::try_from(weight.min(self.weight)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(weight).await;
        let room = room.map_err(|_| Closed)?;
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Closed);
        }
        waiting.items.push_back(Taken { item, _room: room });
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for items, but not beyond `until`, nor after [`wake`](Self::wake), and
    /// takes `most` of those that are there. `None`: closed and empty.
    pub(crate) fn take(&self, most: usize, until: Option<Instant>) -> Option<Vec<Taken<T>>> {
        let mut waiting = self.waiting.lock();
        while waiting.items.is_empty() && !waiting.closed && !waiting.woken {
            match until {
                None => self.arrived.wait(&mut waiting),
                Some(until) => {
                    if self.arrived.wait_until(&mut waiting, until).timed_out() {
                        break;
                    }
                }
            }
        }
        waiting.woken = false;
        if waiting.closed && waiting.items.is_empty() {
            return None;
        }
        let count = waiting.items.len().min(most);
        Some(waiting.items.drain(..count).collect())
    }

    /// Ends a wait in [`take`](Self::take), or the next one. For a queue with one taker.
    pub(crate) fn wake(&self) {
        self.waiting.lock().woken = true;
        self.arrived.notify_all();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().items.len()
    }

    /// What is queued can still be taken.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }
}
