//! Which requests wait for which answers.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use tidegate_protocol::{Packet, Topic};
use tokio::sync::oneshot;

use crate::error::PacketError;

/// Requests given up whose late answers are still known for what they are.
pub(crate) const ABANDONED: usize = 4096;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: HashMap<Topic, oneshot::Sender<Outcome>>,
    /// Sent, then given up: by timeout, or because the caller went away. An answer to
    /// one of these is late, not a push. Bounded: the oldest is forgotten first.
    abandoned: HashSet<Topic>,
    abandoned_order: VecDeque<Topic>,
}

/// What comes of a request: its answer, or why there is none.
pub(crate) type Outcome = Result<Packet, PacketError>;

/// What a packet from the gate is.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The answer of a request that waited for it.
    Answer,
    /// The answer of a request that was given up.
    Late,
    /// Neither.
    Push(Packet),
}

/// A request that waits. Dropped before the answer came, it is given up.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    topic: Topic,
    answer: oneshot::Receiver<Outcome>,
    sent: bool,
}

impl Calls {
    /// Begins to wait for the packet of this topic; `None` when the connection has ended.
    pub(crate) fn begin(&self, topic: Topic) -> Option<Call<'_>> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if state.closed {
            return None;
        }
        state.waiting.insert(topic.clone(), sender);
        Some(Call {
            calls: self,
            topic,
            answer,
            sent: false,
        })
    }

    /// Hands an arrived packet to the request that waits for it, if there is one.
    pub(crate) fn arrived(&self, packet: Packet) -> Arrival {
        let mut state = self.0.lock();
        if let Some(waiting) = state.waiting.remove(&packet.topic) {
            return match waiting.send(Ok(packet)) {
                Ok(()) => Arrival::Answer,
                Err(_) => Arrival::Late,
            };
        }
        // The place in `abandoned_order` stays until its turn comes: the set decides.
        if state.abandoned.remove(&packet.topic) {
            return Arrival::Late;
        }
        Arrival::Push(packet)
    }

    /// Tells the request of this topic that it was not served; `false` if none waits.
    pub(crate) fn refused(&self, topic: &Topic, error: PacketError) -> bool {
        let waiting = self.0.lock().waiting.remove(topic);
        waiting.is_some_and(|waiting| waiting.send(Err(error)).is_ok())
    }

    /// Ends all waiting; none begins any more.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
    }
}

impl Call<'_> {
    /// The request is on its way: from now on its answer may come.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// What came of it; `None` when the connection ended first.
    pub(crate) async fn answer(&mut self) -> Option<Outcome> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.calls.0.lock();
        if state.waiting.remove(&self.topic).is_none() || !self.sent {
            return;
        }
        if state.abandoned_order.len() >= ABANDONED
            && let Some(oldest) = state.abandoned_order.pop_front()
        {
            state.abandoned.remove(&oldest);
        }
        state.abandoned.insert(self.topic.clone());
        state.abandoned_order.push_back(self.topic.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(i: usize) -> Topic {
        Topic::new(&format!("a/b/{i}")).unwrap()
    }

    #[test]
    fn abandoned_calls_are_remembered_up_to_a_bound() {
        let calls = Calls::default();
        for i in 0..=ABANDONED {
            calls.begin(topic(i)).unwrap().sent();
        }
        let arrived = |i| calls.arrived(Packet::new(topic(i), ""));
        assert!(matches!(arrived(0), Arrival::Push(_)), "forgotten");
        assert!(matches!(arrived(1), Arrival::Late));
        assert!(matches!(arrived(1), Arrival::Push(_)), "only one is late");
        assert_eq!(calls.0.lock().abandoned_order.len(), ABANDONED);
    }

    #[test]
    fn a_call_that_was_never_sent_leaves_nothing() {
        let calls = Calls::default();
        drop(calls.begin(topic(0)));
        assert!(matches!(
            calls.arrived(Packet::new(topic(0), "")),
            Arrival::Push(_)
        ));
        calls.close();
        assert!(calls.begin(topic(1)).is_none());
    }
}
