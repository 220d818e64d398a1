//! Which frames a connection speaks.

use std::sync::Arc;

use tidegate_protocol::{Cipher, Codec, Legacy, Packet, TooLarge, V1};

/// The frames of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Frames {
    Plain,
    Legacy(Arc<Legacy>),
}

impl Frames {
    pub(crate) fn new(cipher: Option<&Cipher>) -> Self {
        match cipher {
            Some(cipher) => Self::Legacy(Arc::new(Legacy::new(cipher))),
            None => Self::Plain,
        }
    }

    pub(crate) fn codec(&self) -> &dyn Codec {
        match self {
            Self::Plain => &V1,
            Self::Legacy(codec) => &**codec,
        }
    }

    /// Checks that the packet's frame has a length that can be written.
    pub(crate) fn fits(&self, packet: &Packet) -> Result<(), TooLarge> {
        let (len, max) = (self.codec().encoded_len(packet), V1::MAX_FRAME);
        if len > max {
            return Err(TooLarge { len, max });
        }
        Ok(())
    }
}
