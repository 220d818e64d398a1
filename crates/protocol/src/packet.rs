//! The unit that clients and services exchange.

use bytes::Bytes;

use crate::topic::{Topic, TopicError};

/// A topic and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What the packet is about; the default router reads it as
    /// `service/method[/request-id]`.
    pub topic: Topic,
    /// Any bytes; meaning is between client and service.
    pub body: Bytes,
}

impl Packet {
    /// A packet of a topic already checked.
    pub fn new(topic: Topic, body: impl Into<Bytes>) -> Self {
        Self {
            topic,
            body: body.into(),
        }
    }

    /// Checks the topic first.
    pub fn try_new(topic: &str, body: impl Into<Bytes>) -> Result<Self, TopicError> {
        Ok(Self::new(Topic::new(topic)?, body))
    }

    /// Bytes of topic and body together: what the packet counts for in a queue.
    pub fn size(&self) -> usize {
        self.topic.len() + self.body.len()
    }
}
