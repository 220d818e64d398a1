//! A packet for many: encoded once for each codec.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_protocol::{Codec, Packet};

type Frames = SmallVec<[(Arc<dyn Codec>, Arc<[u8]>); 1]>;

/// A packet that stands in many queues at a time.
pub(crate) struct SharedPacket {
    packet: Packet,
    frames: Mutex<Frames>,
}

impl SharedPacket {
    pub(crate) fn new(packet: Packet) -> Arc<Self> {
        Arc::new(Self {
            packet,
            frames: Mutex::new(SmallVec::new()),
        })
    }

    pub(crate) fn packet(&self) -> &Packet {
        &self.packet
    }

    /// The packet's frame in `codec`.
    pub(crate) fn frame(&self, codec: &Arc<dyn Codec>) -> Arc<[u8]> {
        let mut frames = self.frames.lock();
        if let Some((_, frame)) = frames.iter().find(|(c, _)| Arc::ptr_eq(c, codec)) {
            return frame.clone();
        }
        let mut frame = Vec::with_capacity(codec.encoded_len(&self.packet));
        codec.encode(&self.packet, &mut frame);
        let frame: Arc<[u8]> = frame.into();
        frames.push((codec.clone(), frame.clone()));
        frame
    }
}

impl fmt::Debug for SharedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedPacket").field(&self.packet).finish()
    }
}
