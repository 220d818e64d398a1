//! A packet for many: encoded once for each codec.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_protocol::{Codec, Packet};

type Frames = SmallVec<[(usize, Arc<[u8]>); 1]>;

/// A packet that stands in many queues at a time.
#[derive(Debug)]
pub(crate) struct SharedPacket {
    packet: Packet,
    /// By the address of the codec: a gate has a handful, and they outlive its packets.
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
        let key = Arc::as_ptr(codec).cast::<()>() as usize;
        let mut frames = self.frames.lock();
        if let Some((_, frame)) = frames.iter().find(|(k, _)| *k == key) {
            return frame.clone();
        }
        let mut frame = Vec::with_capacity(codec.encoded_len(&self.packet));
        codec.encode(&self.packet, &mut frame);
        let frame: Arc<[u8]> = frame.into();
        frames.push((key, frame.clone()));
        frame
    }
}
