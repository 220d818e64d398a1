//! What stands in a session's queue, and what becomes of it when there is no room.

use std::borrow::Cow;
use std::sync::Arc;

use tidegate_protocol::Packet;
use tidegate_protocol::extended::{Gap, GateControl};

use crate::shared_packet::SharedPacket;

/// What becomes of a packet for a client that does not keep up, or is away.
///
/// Replacing and dropping happen only before a packet is first written. A client of the
/// extended protocol is told how many packets it will not get; for others they are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// Kept: a queue without room refuses it, and a session that is dormant keeps it for
    /// its client.
    #[default]
    Critical,
    /// A newer one with this key takes its place in the queue. Not queued for a session
    /// that is dormant.
    Latest(Box<str>),
    /// Dropped, the oldest first, for another that finds no room. Not queued for a
    /// session that is dormant.
    Droppable,
}

/// A packet that waits for the client.
#[derive(Debug)]
pub(crate) enum Entry {
    /// An answer, or an error: its place was reserved when the call was made.
    Answer(Packet),
    /// A packet sent to this session.
    Push(Packet, Delivery),
    /// A packet sent to many.
    Shared(Arc<SharedPacket>, Delivery),
    /// Packets that the client will not get: for the extended protocol only.
    Gap(Gap),
    /// A control packet that is not counted, in its place among the others.
    Control(Packet),
}

impl Entry {
    /// As it is from its first writing on: the client may have it, so that nothing replaces or
    /// drops it any more.
    pub(crate) fn written(self) -> Self {
        match self {
            Self::Push(packet, _) => Self::Push(packet, Delivery::Critical),
            Self::Shared(shared, _) => Self::Shared(shared, Delivery::Critical),
            other => other,
        }
    }

    /// Bytes of topic and body.
    pub(crate) fn size(&self) -> u32 {
        match self {
            Self::Answer(packet) | Self::Push(packet, _) | Self::Control(packet) => {
                packet.size() as u32
            }
            Self::Shared(shared, _) => shared.packet().size() as u32,
            Self::Gap(_) => 0,
        }
    }

    /// How many packets it counts for.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Answer(_) | Self::Push(..) | Self::Shared(..) => 1,
            Self::Gap(gap) => gap.count,
            Self::Control(_) => 0,
        }
    }

    /// The packet that is written for it; one for many has its frame already.
    pub(crate) fn packet(&self) -> Cow<'_, Packet> {
        match self {
            Self::Answer(packet) | Self::Push(packet, _) | Self::Control(packet) => {
                Cow::Borrowed(packet)
            }
            Self::Shared(shared, _) => Cow::Borrowed(shared.packet()),
            Self::Gap(gap) => Cow::Owned(GateControl::Gap(*gap).packet()),
        }
    }

    pub(super) fn delivery(&self) -> &Delivery {
        match self {
            Self::Push(_, delivery) | Self::Shared(_, delivery) => delivery,
            Self::Answer(_) | Self::Gap(_) | Self::Control(_) => &Delivery::Critical,
        }
    }
}
