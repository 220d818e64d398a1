//! Packets that answer no request, and who reads them.

use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use thiserror::Error;
use tidegate_protocol::Packet;
use tokio::sync::broadcast;

/// Reader of packets that answer no request. Get one from
/// [`Client::pushes`](crate::Client::pushes) or
/// [`Client::subscribe`](crate::Client::subscribe).
#[derive(Debug)]
pub struct Pushes {
    /// None when the client had ended before.
    receiver: Option<broadcast::Receiver<Packet>>,
}

/// So many packets were overwritten before this reader came for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("missed {0} packets")]
pub struct Missed(pub u64);

impl Pushes {
    /// The next packet, in the order of arrival; `None` once the client has ended and
    /// all is read. [`Missed`] stands where packets are lacking; reading goes on with the
    /// oldest that is left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Result<Packet, Missed>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(packet) => Some(Ok(packet)),
            Err(broadcast::error::RecvError::Lagged(n)) => Some(Err(Missed(n))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Packet, Missed>> + Send + Unpin {
        let next = |mut pushes: Self| async move { Some((pushes.recv().await?, pushes)) };
        stream::unfold(self, next).boxed()
    }

    /// The next packet, if one has arrived: `None` says neither that more will come nor
    /// that none will.
    pub fn try_recv(&mut self) -> Option<Result<Packet, Missed>> {
        match self.receiver.as_mut()?.try_recv() {
            Ok(packet) => Some(Ok(packet)),
            Err(broadcast::error::TryRecvError::Lagged(n)) => Some(Err(Missed(n))),
            Err(_) => None,
        }
    }
}

/// Who reads which packets.
#[derive(Debug)]
pub(crate) struct Readers {
    buffer: usize,
    /// Collects from the beginning, for the first to ask.
    first: Mutex<Option<broadcast::Receiver<Packet>>>,
    /// None when the client has ended.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    all: broadcast::Sender<Packet>,
    some: Vec<Subscription>,
}

/// A reader of packets of some topics. Its queue is its own: others do not fill it.
#[derive(Debug)]
struct Subscription {
    topic: String,
    packets: broadcast::Sender<Packet>,
}

impl Subscription {
    fn takes(&self, topic: &str) -> bool {
        match self.topic.ends_with('/') {
            true => topic.starts_with(&self.topic),
            false => topic == self.topic,
        }
    }
}

impl Readers {
    /// Keeps so many packets for each reader that is slow.
    pub(crate) fn new(buffer: usize) -> Self {
        let (all, first) = broadcast::channel(buffer);
        Self {
            buffer,
            first: Mutex::new(Some(first)),
            open: Mutex::new(Some(Open {
                all,
                some: Vec::new(),
            })),
        }
    }

    /// A reader of all packets.
    pub(crate) fn all(&self) -> Pushes {
        let first = self.first.lock().take();
        Pushes {
            receiver: first.or_else(|| Some(self.open.lock().as_ref()?.all.subscribe())),
        }
    }

    /// A reader of packets of this topic, or, if it ends with `/`, of those that begin so.
    pub(crate) fn some(&self, topic: &str) -> Pushes {
        let mut open = self.open.lock();
        let receiver = open.as_mut().map(|open| {
            open.some.retain(|s| s.packets.receiver_count() > 0);
            let (packets, receiver) = broadcast::channel(self.buffer);
            open.some.push(Subscription {
                topic: topic.to_owned(),
                packets,
            });
            receiver
        });
        Pushes { receiver }
    }

    /// Hands a packet to those who read it. Answers whether there is one.
    pub(crate) fn publish(&self, packet: Packet) -> bool {
        let mut open = self.open.lock();
        let Some(open) = open.as_mut() else {
            return false;
        };
        let mut read = false;
        let takers = open.some.iter().filter(|s| s.takes(packet.topic.as_str()));
        for taker in takers {
            read |= taker.packets.send(packet.clone()).is_ok();
        }
        read | open.all.send(packet).is_ok()
    }

    /// The client has ended: readers find the end behind what they have not read.
    pub(crate) fn close(&self) {
        *self.open.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(topic: &str) -> Packet {
        Packet::try_new(topic, "").unwrap()
    }

    fn topics(pushes: &mut Pushes) -> Vec<Result<String, Missed>> {
        let next = || pushes.try_recv();
        let read = std::iter::from_fn(next);
        read.map(|p| p.map(|p| p.topic.to_string())).collect()
    }

    #[test]
    fn a_subscription_takes_a_topic_or_what_begins_with_it() {
        let readers = Readers::new(4);
        let mut chat = readers.some("chat/");
        let mut one = readers.some("chat/a");
        let mut all = readers.all();
        for topic in ["chat/a", "chat/ab", "chat", "chats/a", "chat/"] {
            assert!(readers.publish(packet(topic)));
        }
        let ok = |topics: &[&str]| topics.iter().map(|t| Ok(t.to_string())).collect::<Vec<_>>();
        assert_eq!(topics(&mut chat), ok(&["chat/a", "chat/ab", "chat/"]));
        assert_eq!(topics(&mut one), ok(&["chat/a"]));
        assert_eq!(topics(&mut all)[0], Err(Missed(1)), "its queue is its own");
    }

    #[test]
    fn readers_that_are_gone_are_forgotten() {
        let readers = Readers::new(4);
        drop(readers.all());
        for _ in 0..3 {
            drop(readers.some("a"));
        }
        assert!(!readers.publish(packet("a")), "nobody reads");
        let mut last = readers.some("a");
        assert_eq!(readers.open.lock().as_ref().unwrap().some.len(), 1);
        assert!(readers.publish(packet("a")));
        readers.close();
        assert_eq!(topics(&mut last).len(), 1);
        assert!(!readers.publish(packet("a")));
    }
}
