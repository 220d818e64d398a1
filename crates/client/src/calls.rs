//! Which requests wait for which answers.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use tidegate_protocol::{Packet, Topic};
use tokio::sync::oneshot;

use crate::error::{Error, PacketError};

/// Requests given up whose late answers are still known for what they are.
pub(crate) const ABANDONED: usize = 4096;

/// The requests of one client.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    closed: bool,
    next: u64,
    /// By topic, and under one topic in the order in which they began.
    waiting: HashMap<Topic, VecDeque<Waiting>>,
    /// Those of them that were written, by the packet's count in its session.
    written: HashMap<u64, (Topic, CallId)>,
    /// Sent, then given up: by timeout, or because the caller went away. An answer to
    /// one of these is late, not a push. Bounded: the oldest is forgotten first.
    abandoned: HashMap<Topic, usize>,
    abandoned_order: VecDeque<Topic>,
}

/// Tells the requests of a client apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId(u64);

#[derive(Debug)]
struct Waiting {
    id: CallId,
    /// The packet's count, once it was written and where packets are counted.
    packet: Option<u64>,
    sender: oneshot::Sender<Outcome>,
}

/// What comes of a request: its answer, or why there is none.
pub(crate) type Outcome = Result<Packet, Error>;

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

/// What an error of the gate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A request that waited.
    Call,
    /// A request that was given up.
    Late,
    /// Neither.
    Other,
}

/// A request that waits. Dropped before the answer came, it is given up.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    calls: &'a Calls,
    topic: Topic,
    id: CallId,
    answer: oneshot::Receiver<Outcome>,
    sent: bool,
}

impl Calls {
    /// Begins to wait for a packet of this topic; `None` when the client has ended.
    pub(crate) fn begin(&self, topic: Topic) -> Option<Call<'_>> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if state.closed {
            return None;
        }
        let id = CallId(state.next);
        state.next += 1;
        let waiting = Waiting {
            id,
            packet: None,
            sender,
        };
        let waiters = state.waiting.entry(topic.clone()).or_default();
        waiters.push_back(waiting);
        Some(Call {
            calls: self,
            topic,
            id,
            answer,
            sent: false,
        })
    }

    /// Lets `write` write the packet of a request, unless it was given up. The packet's
    /// count is what `write` answers.
    pub(crate) fn write(&self, topic: &Topic, id: CallId, write: impl FnOnce() -> Option<u64>) {
        let mut state = self.0.lock();
        let waiters = state.waiting.get_mut(topic).into_iter().flatten();
        let Some(waiting) = waiters.into_iter().find(|w| w.id == id) else {
            return;
        };
        waiting.packet = write();
        if let Some(packet) = waiting.packet {
            state.written.insert(packet, (topic.clone(), id));
        }
    }

    /// Fails a request that was not written.
    pub(crate) fn fail(&self, topic: &Topic, id: CallId, error: Error) {
        if let Some(waiting) = self.0.lock().take(topic, Some(id)) {
            let _ = waiting.sender.send(Err(error));
        }
    }

    /// Hands an arrived packet to the request that waits for it, if there is one.
    pub(crate) fn arrived(&self, packet: Packet) -> Arrival {
        let mut state = self.0.lock();
        if let Some(waiting) = state.take(&packet.topic, None) {
            return match waiting.sender.send(Ok(packet)) {
                Ok(()) => Arrival::Answer,
                Err(_) => Arrival::Late,
            };
        }
        match state.is_late(&packet.topic) {
            true => Arrival::Late,
            false => Arrival::Push(packet),
        }
    }

    /// Tells the first request of this topic that it was not served; `false` if none waits.
    pub(crate) fn refused(&self, topic: &Topic, error: PacketError) -> bool {
        let waiting = self.0.lock().take(topic, None);
        waiting.is_some_and(|waiting| waiting.sender.send(Err(error.into())).is_ok())
    }

    /// Tells the request that was the packet of this count that it was not served.
    pub(crate) fn refused_packet(&self, packet: u64, topic: &str, error: &PacketError) -> Refused {
        let mut state = self.0.lock();
        if let Some((topic, id)) = state.written.get(&packet).cloned()
            && let Some(waiting) = state.take(&topic, Some(id))
        {
            return match waiting.sender.send(Err(error.clone().into())) {
                Ok(()) => Refused::Call,
                Err(_) => Refused::Late,
            };
        }
        match Topic::new(topic).is_ok_and(|topic| state.is_late(&topic)) {
            true => Refused::Late,
            false => Refused::Other,
        }
    }

    /// The session in which requests were written is gone: what came of them is not known.
    /// Those that were not written go on waiting. Answers the counts of the others.
    pub(crate) fn lose_written(&self) -> HashSet<u64> {
        let mut state = self.0.lock();
        let written = std::mem::take(&mut state.written);
        let counts = written.keys().copied().collect();
        for (topic, id) in written.into_values() {
            if let Some(waiting) = state.take(&topic, Some(id)) {
                let _ = waiting.sender.send(Err(Error::OutcomeUnknown));
            }
        }
        // Answers to them will not come.
        state.abandoned = HashMap::new();
        state.abandoned_order = VecDeque::new();
        counts
    }

    /// Whether a request that was written waits for its answer.
    pub(crate) fn any_written(&self) -> bool {
        !self.0.lock().written.is_empty()
    }

    /// Ends all waiting; none begins any more.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
        state.written.clear();
    }
}

impl State {
    /// Takes out a request of this topic: the given one, or the first.
    fn take(&mut self, topic: &Topic, id: Option<CallId>) -> Option<Waiting> {
        let waiters = self.waiting.get_mut(topic)?;
        let at = match id {
            Some(id) => waiters.iter().position(|w| w.id == id)?,
            None => 0,
        };
        let waiting = waiters.remove(at)?;
        if waiters.is_empty() {
            self.waiting.remove(topic);
        }
        if let Some(packet) = waiting.packet {
            self.written.remove(&packet);
        }
        Some(waiting)
    }

    /// Whether a packet of this topic answers a request that was given up. Once for each.
    fn is_late(&mut self, topic: &Topic) -> bool {
        // The place in `abandoned_order` stays until its turn comes: this decides.
        let Some(count) = self.abandoned.get_mut(topic) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.abandoned.remove(topic);
        }
        true
    }

    fn abandon(&mut self, topic: Topic) {
        if self.abandoned_order.len() >= ABANDONED
            && let Some(oldest) = self.abandoned_order.pop_front()
        {
            self.is_late(&oldest);
        }
        *self.abandoned.entry(topic.clone()).or_default() += 1;
        self.abandoned_order.push_back(topic);
    }
}

impl Call<'_> {
    pub(crate) fn id(&self) -> CallId {
        self.id
    }

    /// The request is on its way: from now on its answer may come.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// Whether its packet was written, where packets are counted.
    pub(crate) fn is_written(&self) -> bool {
        let state = self.calls.0.lock();
        let mut waiters = state.waiting.get(&self.topic).into_iter().flatten();
        waiters.any(|w| w.id == self.id && w.packet.is_some())
    }

    /// What came of it; `None` when the client ended first.
    pub(crate) async fn answer(&mut self) -> Option<Outcome> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.calls.0.lock();
        if let Some(waiting) = state.take(&self.topic, Some(self.id))
            && (self.sent || waiting.packet.is_some())
        {
            state.abandon(self.topic.clone());
        }
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

    #[tokio::test]
    async fn calls_under_one_topic_are_told_apart_by_their_packets() {
        let calls = Calls::default();
        let error = PacketError::new(3, "no", Some(8));
        let mut asked: Vec<_> = (0..3).map(|_| calls.begin(topic(0)).unwrap()).collect();
        for (packet, call) in (7..).zip(&asked) {
            calls.write(&topic(0), call.id(), || Some(packet));
        }
        assert_eq!(calls.refused_packet(8, "a/b/0", &error), Refused::Call);
        assert_eq!(calls.refused_packet(8, "a/b/0", &error), Refused::Other);
        calls.arrived(Packet::new(topic(0), "first"));
        assert_eq!(asked[0].answer().await.unwrap().unwrap().body, "first");
        let refused = asked[1].answer().await.unwrap();
        assert!(matches!(refused, Err(Error::NotServed(e)) if e == error));
        // Given up: its error is late, and nobody else's.
        drop(asked);
        assert_eq!(calls.refused_packet(9, "a/b/0", &error), Refused::Late);
        assert_eq!(calls.refused_packet(9, "a/b/0", &error), Refused::Other);
        assert!(!calls.any_written());
    }

    #[tokio::test]
    async fn of_those_that_were_written_the_outcome_is_unknown() {
        let calls = Calls::default();
        let mut written = calls.begin(topic(0)).unwrap();
        let waits = calls.begin(topic(1)).unwrap();
        calls.write(&topic(0), written.id(), || Some(1));
        assert_eq!(calls.lose_written(), [1].into());
        let outcome = written.answer().await.unwrap();
        assert!(matches!(outcome, Err(Error::OutcomeUnknown)));
        assert!(!waits.is_written());
        calls.write(&topic(1), waits.id(), || Some(1));
        assert!(waits.is_written());
    }
}
