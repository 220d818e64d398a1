//! Server frames: never masked, never fragmented (RFC 6455 section 5).

use super::{MAX_CONTROL_PAYLOAD, Opcode, is_legal_close_code};

/// The longest header a server sends, in bytes.
const MAX_SERVER_HEADER: usize = 10;

/// Appends the header of a whole, unmasked frame whose payload of `payload_len` bytes the
/// caller appends next. For a control opcode `payload_len` is at most
/// [`MAX_CONTROL_PAYLOAD`].
#[inline]
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    debug_assert!(!opcode.is_control() || payload_len <= MAX_CONTROL_PAYLOAD);
    let first = 0x80 | opcode as u8;
    match payload_len {
        0..=125 => out.extend_from_slice(&[first, payload_len as u8]),
        126..=0xFFFF => {
            let [a, b] = (payload_len as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, a, b]);
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// Appends one binary message.
#[inline]
pub fn encode_binary(out: &mut Vec<u8>, payload: &[u8]) {
    encode(out, Opcode::Binary, payload);
}

/// Appends one text message.
pub fn encode_text(out: &mut Vec<u8>, text: &str) {
    encode(out, Opcode::Text, text.as_bytes());
}

/// Appends a ping. A payload beyond [`MAX_CONTROL_PAYLOAD`] bytes is cut there, for a longer
/// control frame is illegal (RFC 6455 section 5.5).
pub fn encode_ping(out: &mut Vec<u8>, payload: &[u8]) {
    encode(out, Opcode::Ping, control_payload(payload));
}

/// Appends a pong, which repeats its ping's payload (RFC 6455 section 5.5.3). A payload beyond
/// [`MAX_CONTROL_PAYLOAD`] bytes is cut there; no ping can have carried it.
pub fn encode_pong(out: &mut Vec<u8>, payload: &[u8]) {
    encode(out, Opcode::Pong, control_payload(payload));
}

/// Appends a close frame (RFC 6455 section 5.5.1).
///
/// A reason beyond 123 bytes is cut at the last whole character that fits. A code that must
/// not travel (see [`is_legal_close_code`]; 1005 above all, "no code") makes a close frame
/// without code and reason.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    if !is_legal_close_code(code) {
        encode_header(out, Opcode::Close, 0);
        return;
    }
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    encode_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

fn control_payload(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)]
}

#[inline]
fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(MAX_SERVER_HEADER + payload.len());
    encode_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}
