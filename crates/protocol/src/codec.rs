//! Frames: how a packet looks on the wire.
//!
//! A listener has one [`Codec`]. [`V1`] is the version 1 frame in plain, as opposed to
//! [`Legacy`](crate::Legacy)'s:
//!
//! ```text
//! frame = u16 total | u16 topic_len | topic | body        little-endian
//! ```
//!
//! `total` counts the whole frame, its own two bytes too.

use bytes::Bytes;
use thiserror::Error;

use crate::close::CloseReason;
use crate::packet::Packet;
use crate::topic::{Topic, TopicError};

/// Turns packets into frames and frames into packets.
///
/// A codec holds no state of a connection; one value serves all connections of
/// its listener. On a stream transport frames follow each other; on WebSocket one
/// binary message is one frame.
pub trait Codec: Send + Sync + 'static {
    /// Length in bytes of the first frame in `buffered`, or `None` while that
    /// cannot be told yet. The length may exceed `buffered`. Called on stream
    /// transports only, again whenever more bytes arrived. An error ends the
    /// connection: a frame longer than `max` must be refused as soon as its
    /// length is known.
    fn frame_len(&self, buffered: &[u8], max: usize) -> Result<Option<usize>, FrameError>;

    /// Reads one whole frame. An error ends the connection.
    fn decode(&self, frame: &[u8]) -> Result<Packet, FrameError>;

    /// Exact length in bytes of the frame that [`encode`](Self::encode) writes for `packet`.
    fn encoded_len(&self, packet: &Packet) -> usize;

    /// Appends the frame of `packet` to `out`.
    ///
    /// The gate calls it only with packets whose [`encoded_len`](Self::encoded_len)
    /// is within the listener's packet limit.
    fn encode(&self, packet: &Packet, out: &mut Vec<u8>);
}

/// A frame that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The announced length cannot hold a header.
    #[error("frame length {0} is below the smallest legal frame")]
    TooShort(usize),
    /// The announced length exceeds the limit.
    #[error("frame length {len} exceeds the limit of {max} bytes")]
    TooLarge {
        /// Announced, in bytes.
        len: usize,
        /// Allowed, in bytes.
        max: usize,
    },
    /// The announced length is not the message's.
    #[error("frame length {announced} does not equal the message's {actual} bytes")]
    LengthMismatch {
        /// Announced, in bytes.
        announced: usize,
        /// Bytes in the message.
        actual: usize,
    },
    /// The topic does not fit the frame.
    #[error("topic length {0} goes beyond the frame")]
    TopicBeyondFrame(usize),
    /// The topic is not one.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// For codecs other than [`V1`]: what was wrong, without the client's bytes.
    #[error("{0}")]
    Malformed(&'static str),
}

impl FrameError {
    /// The reason the connection is closed with.
    pub fn close_reason(&self) -> CloseReason {
        match self {
            Self::TooLarge { .. } => CloseReason::FrameTooLarge,
            Self::Topic(_) => CloseReason::BadTopic,
            Self::TooShort(_)
            | Self::LengthMismatch { .. }
            | Self::TopicBeyondFrame(_)
            | Self::Malformed(_) => CloseReason::BadFrame,
        }
    }
}

/// A packet that does not fit a frame: refused to whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the packet's frame has {len} bytes, {max} are allowed")]
pub struct TooLarge {
    /// Length of the frame, in bytes.
    pub len: usize,
    /// The packet limit, in bytes.
    pub max: usize,
}

/// The version 1 frame, in plain.
#[derive(Debug, Clone, Copy, Default)]
pub struct V1;

impl V1 {
    /// Bytes of the two length fields.
    pub const HEADER_LEN: usize = 4;
    /// Largest frame that the length field can announce, in bytes.
    pub const MAX_FRAME: usize = u16::MAX as usize;

    fn total(frame: &[u8]) -> Option<usize> {
        let head = frame.first_chunk::<2>()?;
        Some(usize::from(u16::from_le_bytes(*head)))
    }
}

impl Codec for V1 {
    fn frame_len(&self, buffered: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
        let Some(total) = Self::total(buffered) else {
            return Ok(None);
        };
        if total < Self::HEADER_LEN {
            return Err(FrameError::TooShort(total));
        }
        if total > max {
            return Err(FrameError::TooLarge { len: total, max });
        }
        // Known from the header already: no need to wait for the rest.
        if let Some([_, _, low, high]) = buffered.first_chunk::<4>() {
            let topic_len = usize::from(u16::from_le_bytes([*low, *high]));
            if topic_len > total - Self::HEADER_LEN {
                return Err(FrameError::TopicBeyondFrame(topic_len));
            }
        }
        Ok(Some(total))
    }

    fn decode(&self, frame: &[u8]) -> Result<Packet, FrameError> {
        let Some((total, rest)) = frame.split_first_chunk::<2>() else {
            return Err(FrameError::TooShort(frame.len()));
        };
        let total = usize::from(u16::from_le_bytes(*total));
        if rest.len() < 2 {
            return Err(FrameError::TooShort(frame.len()));
        }
        if total != frame.len() {
            return Err(FrameError::LengthMismatch {
                announced: total,
                actual: frame.len(),
            });
        }
        read_packet(rest)
    }

    fn encoded_len(&self, packet: &Packet) -> usize {
        Self::HEADER_LEN + packet.size()
    }

    fn encode(&self, packet: &Packet, out: &mut Vec<u8>) {
        // Callers check encoded_len against a limit of at most MAX_FRAME.
        let total = self.encoded_len(packet) as u16;
        let topic_len = packet.topic.len() as u16;
        out.extend_from_slice(&total.to_le_bytes());
        out.extend_from_slice(&topic_len.to_le_bytes());
        out.extend_from_slice(packet.topic.as_str().as_bytes());
        out.extend_from_slice(&packet.body);
    }
}

/// Reads what is behind the length of a frame: `u16 topic_len | topic | body`.
pub(crate) fn read_packet(rest: &[u8]) -> Result<Packet, FrameError> {
    let Some((topic_len, rest)) = rest.split_first_chunk::<2>() else {
        return Err(FrameError::TooShort(rest.len()));
    };
    let topic_len = usize::from(u16::from_le_bytes(*topic_len));
    let Some((topic, body)) = rest.split_at_checked(topic_len) else {
        return Err(FrameError::TopicBeyondFrame(topic_len));
    };
    Ok(Packet {
        topic: Topic::from_bytes(topic)?,
        body: Bytes::copy_from_slice(body),
    })
}
