//! What came for an instance, in the order in which it is to be served.
//!
//! Each subscription has a queue of its own, so the order between them is lost. What a gate
//! relies on is brought back:
//!
//! - that a session began is told before its packets;
//! - what came for whichever instance is served before what came for this one: a session is
//!   bound to an instance after it has used the service;
//! - that a session ended is told after its packets.
//!
//! Within a subscription, and so for all methods of a session that is not bound anew, the
//! order is that of arrival.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use async_nats::Message;
use futures_util::{Stream, StreamExt as _};

use crate::link::Subscription;
use crate::subject::{AllEvent, Class, ServiceEvent};

/// Most calls that wait to be served; further ones are refused.
const MAX_CALLS: usize = 16_384;
/// Most bytes of them.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most events that wait beside the calls: they cannot be refused, only lost.
const MAX_EVENTS: usize = 16 * MAX_CALLS;

/// The subscriptions of an instance.
pub(super) struct Sources<S = Subscription> {
    /// Events for all who ask.
    pub(super) all: Option<S>,
    /// What is for this instance.
    pub(super) own: S,
    /// What is for one of the service's instances.
    pub(super) calls: S,
}

/// What a message is, as far as the order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    /// Cannot be refused: nobody waits for an answer.
    Event,
}

/// What came.
pub(super) struct Intake<S = Subscription> {
    pub(super) sources: Sources<S>,
    waiting: VecDeque<Message>,
    /// Of `waiting`.
    bytes: usize,
    /// Events for all that came after what else was taken in at that time.
    later: Vec<Message>,
    /// What a subscription can hold: as much is read of it at once.
    most: usize,
}

impl<S: Stream<Item = Message> + Unpin> Intake<S> {
    pub(super) fn new(sources: Sources<S>, most: usize) -> Self {
        Self {
            sources,
            waiting: VecDeque::new(),
            bytes: 0,
            later: Vec::new(),
            most,
        }
    }

    /// The next to be served.
    pub(super) fn next(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.payload.len();
        Some(message)
    }

    /// Takes in what there is.
    pub(super) fn take(&mut self, refuse: impl FnMut(Kind, Message)) {
        let _ = self.poll_take(&mut Context::from_waker(Waker::noop()), refuse);
    }

    /// Takes in what there is; pending where there is nothing. There is no room for what is
    /// handed to `refuse`.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        mut refuse: impl FnMut(Kind, Message),
    ) -> Poll<()> {
        let sources = &mut self.sources;
        let mut all = std::mem::take(&mut self.later);
        // In this order: whatever came before a message that is read here is read here too.
        read(sources.all.as_mut(), cx, self.most, &mut all);
        let mut own = Vec::new();
        read(Some(&mut sources.own), cx, self.most, &mut own);
        let mut calls = Vec::new();
        read(Some(&mut sources.calls), cx, self.most, &mut calls);
        let mut later = Vec::new();
        read(sources.all.as_mut(), cx, self.most, &mut later);
        if all.is_empty() && own.is_empty() && calls.is_empty() && later.is_empty() {
            return Poll::Pending;
        }
        let started = |m: &Message| from_end(m, 0) == Some(AllEvent::Started.as_str());
        let (began, all): (Vec<_>, Vec<_>) = all.into_iter().partition(started);
        let (began_too, later): (Vec<_>, Vec<_>) = later.into_iter().partition(started);
        self.later = later;
        for message in began.into_iter().chain(began_too) {
            self.push(Kind::Event, message, &mut refuse);
        }
        // `….<class>.<service>.<name>`.
        let mut ended = Vec::new();
        for message in calls {
            if from_end(&message, 2) != Some(Class::Event.as_str()) {
                self.push(Kind::Call, message, &mut refuse);
            } else if from_end(&message, 0) == Some(ServiceEvent::Disconnected.as_str()) {
                ended.push(message);
            } else {
                self.push(Kind::Event, message, &mut refuse);
            }
        }
        // `….<class>.<name>`.
        for message in own {
            let kind = match from_end(&message, 1) == Some(Class::Event.as_str()) {
                true => Kind::Event,
                false => Kind::Call,
            };
            self.push(kind, message, &mut refuse);
        }
        for message in ended.into_iter().chain(all) {
            self.push(Kind::Event, message, &mut refuse);
        }
        Poll::Ready(())
    }

    fn push(&mut self, kind: Kind, message: Message, refuse: &mut impl FnMut(Kind, Message)) {
        let (waiting, len) = (self.waiting.len(), message.payload.len());
        let full = match kind {
            Kind::Call => waiting >= MAX_CALLS || self.bytes + len > MAX_BYTES,
            Kind::Event => waiting >= MAX_CALLS + MAX_EVENTS,
        };
        if full {
            return refuse(kind, message);
        }
        self.bytes += len;
        self.waiting.push_back(message);
    }
}

/// Reads a subscription until it is empty.
fn read<S: Stream<Item = Message> + Unpin>(
    from: Option<&mut S>,
    cx: &mut Context<'_>,
    most: usize,
    to: &mut Vec<Message>,
) {
    let Some(from) = from else { return };
    for _ in 0..most {
        match from.poll_next_unpin(cx) {
            Poll::Ready(Some(message)) => to.push(message),
            Poll::Ready(None) | Poll::Pending => return,
        }
    }
    // There may be more, of which nobody would tell.
    cx.waker().wake_by_ref();
}

/// A token of the message's subject.
fn from_end(message: &Message, n: usize) -> Option<&str> {
    message.subject.rsplit('.').nth(n)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A subscription.
    #[derive(Default)]
    struct Fake(VecDeque<Message>);

    impl Stream for Fake {
        type Item = Message;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Message>> {
            self.0
                .pop_front()
                .map_or(Poll::Pending, |m| Poll::Ready(Some(m)))
        }
    }

    fn message(subject: &str, len: usize) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: vec![0; len].into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    fn fake(subjects: &[&str]) -> Fake {
        Fake(subjects.iter().map(|s| message(s, 1)).collect())
    }

    fn never(kind: Kind, message: Message) {
        panic!("{kind:?} {message:?} was refused");
    }

    fn rest(intake: &mut Intake<Fake>) -> Vec<String> {
        std::iter::from_fn(|| intake.next())
            .map(|m| m.subject.to_string())
            .collect()
    }

    #[test]
    fn the_order_between_subscriptions() {
        let all = ["p.all.dormant", "p.all.started", "p.all.gate-gone"];
        let own = ["p.i.e.a.c.x", "p.i.e.a.e.disconnected", "p.i.e.a.c.y"];
        let calls = [
            "p.e.e.disconnected",
            "p.g.e.login",
            "p.c.e.started",
            "p.e.e.rebound",
            "p.s.e.z",
        ];
        let mut intake = Intake::new(
            Sources {
                all: Some(fake(&all)),
                own: fake(&own),
                calls: fake(&calls),
            },
            100,
        );
        intake.take(never);
        let mut expected = vec!["p.all.started"];
        expected.extend(&calls[1..]);
        expected.extend(own);
        expected.extend(["p.e.e.disconnected", "p.all.dormant", "p.all.gate-gone"]);
        assert_eq!(rest(&mut intake), expected);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(intake.poll_take(&mut cx, never).is_pending());
        // Of calls of one subscription none overtakes another.
        intake.sources.calls = fake(&["p.g.e.a", "p.c.e.b", "p.g.e.c"]);
        intake.take(never);
        assert_eq!(rest(&mut intake), ["p.g.e.a", "p.c.e.b", "p.g.e.c"]);
    }

    #[test]
    fn a_backlog_has_bounds_and_events_have_their_own() {
        let source = |n: usize, subject: &str, len: usize| {
            Fake((0..n).map(|_| message(subject, len)).collect())
        };
        let mut intake = Intake::new(
            Sources {
                all: None,
                own: Fake::default(),
                calls: source(MAX_CALLS + 3, "p.c.s.x", 0),
            },
            usize::MAX,
        );
        let mut refused = 0;
        intake.take(|kind, _| {
            assert_eq!(kind, Kind::Call);
            refused += 1;
        });
        assert_eq!(refused, 3);
        intake.sources.calls = source(10, "p.e.s.disconnected", 1);
        intake.take(never);
        let mut lost = 0;
        intake.sources.calls = source(MAX_EVENTS, "p.e.s.disconnected", 1);
        intake.take(|kind, _| {
            assert_eq!(kind, Kind::Event);
            lost += 1;
        });
        assert_eq!(lost, 10);
        assert_eq!(rest(&mut intake).len(), MAX_CALLS + MAX_EVENTS);
        // Room again, but not for so many bytes.
        intake.sources.calls = source(65, "p.c.s.x", 1024 * 1024);
        let mut refused = 0;
        intake.take(|_, _| refused += 1);
        assert_eq!(
            (refused, intake.next().map(|m| m.payload.len())),
            (1, Some(1024 * 1024))
        );
        intake.sources.own = source(1, "p.i.s.a.c.x", 1024 * 1024);
        intake.take(never);
        assert_eq!(rest(&mut intake).len(), 64);
        assert_eq!(intake.bytes, 0);
    }
}
