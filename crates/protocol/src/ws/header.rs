//! One frame header (RFC 6455 section 5.2) and its mask (section 5.3).

use super::WsError;

/// The longest payload of a ping, pong or close frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The longest header a client can send: two bytes, a 64-bit length, a mask.
pub(super) const MAX_HEADER: usize = 14;

/// What a frame carries (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message in progress.
    Continuation = 0x0,
    /// A UTF-8 message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The last frame in its direction.
    Close = 0x8,
    /// To be answered with a pong of the same payload.
    Ping = 0x9,
    /// Answers a ping, or is sent unasked.
    Pong = 0xA,
}

impl Opcode {
    /// Close, ping and pong: short, never fragmented, allowed between fragments.
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    fn from_bits(bits: u8) -> Result<Self, WsError> {
        match bits {
            0x0 => Ok(Opcode::Continuation),
            0x1 => Ok(Opcode::Text),
            0x2 => Ok(Opcode::Binary),
            0x8 => Ok(Opcode::Close),
            0x9 => Ok(Opcode::Ping),
            0xA => Ok(Opcode::Pong),
            reserved => Err(WsError::ReservedOpcode(reserved)),
        }
    }
}

/// A client's frame header, whole and well formed in itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// Length of the payload, in bytes.
    pub(super) payload: usize,
    /// Length of this header, in bytes.
    pub(super) len: usize,
}

/// Parses the header at the front of `bytes`; `None` if it needs more of them.
///
/// A byte is judged as soon as it is there, and in order, so that the same violation is found
/// however the bytes were split: `admit_frame` after the first byte, `admit_payload` as soon as
/// the announced length is known.
#[inline]
pub(super) fn parse(
    bytes: &[u8],
    admit_frame: impl FnOnce(bool, Opcode) -> Result<(), WsError>,
    admit_payload: impl FnOnce(Opcode, u64) -> Result<usize, WsError>,
) -> Result<Option<Header>, WsError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(WsError::ReservedBits);
    }
    let fin = first & 0x80 != 0;
    let opcode = Opcode::from_bits(first & 0x0F)?;
    if opcode.is_control() && !fin {
        return Err(WsError::ControlFragmented);
    }
    admit_frame(fin, opcode)?;

    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    if second & 0x80 == 0 {
        return Err(WsError::NotMasked);
    }
    let short = second & 0x7F;
    if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
        return Err(WsError::ControlTooLong);
    }
    let rest = &bytes[2..];
    let (announced, length_bytes) = match short {
        126 => match rest.first_chunk() {
            Some(&be) => (u64::from(u16::from_be_bytes(be)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(&be) => (u64::from_be_bytes(be), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    if announced >> 63 != 0 {
        return Err(WsError::LengthTopBit);
    }
    let minimal = match length_bytes {
        2 => announced > 125,
        8 => announced > 0xFFFF,
        _ => true,
    };
    if !minimal {
        return Err(WsError::LengthNotMinimal);
    }
    let payload = admit_payload(opcode, announced)?;

    let Some(&mask) = rest[length_bytes..].first_chunk() else {
        return Ok(None);
    };
    Ok(Some(Header {
        fin,
        opcode,
        mask,
        payload,
        len: 2 + length_bytes + mask.len(),
    }))
}

/// Applies (or takes off) the mask, eight bytes at a time. `offset` is the position of
/// `data` in the frame's payload, which may arrive in pieces.
#[inline]
pub(super) fn unmask(data: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset & 3);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = data.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
}
