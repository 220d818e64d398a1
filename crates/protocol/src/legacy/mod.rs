//! The encrypted frames of old clients.
//!
//! ```text
//! frame   = u16 total | rest                            little-endian
//! inner   = base64( u16 topic_len | topic | body )
//! aes-ecb:  rest = base64( AES-128-ECB-PKCS7( inner ) )
//! aes-cbc:  rest = AES-CBC-PKCS7( inner )               iv = the key's last 16 bytes
//! ```
//!
//! Neither form authenticates anything, both are deterministic, and nothing in them stops
//! replay: they exist so that clients which know nothing else can go on. For everyone else
//! the answer is TLS.
//!
//! What does not decode is refused with one error, whatever is wrong with it, and
//! everything behind the decryption is looked at before that error is given: an attacker
//! who changes a captured frame must not learn whether the padding was right.

mod base64;
mod cipher;

use std::cell::RefCell;
use std::fmt;

use crate::codec::{Codec, FrameError, read_packet};
use crate::packet::Packet;

use cipher::{BLOCK, Blocks};
pub use cipher::{CbcKey, Cipher, EcbKey, KeyError};

/// Whatever is wrong with a frame behind its length.
const UNREADABLE: FrameError = FrameError::Malformed("the frame is not one of this cipher and key");

thread_local! {
    /// For what is neither packet nor frame: never more than a frame needs.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The frames of old clients that encrypt: see [`Cipher`].
///
/// Holds the expanded key and nothing of any connection.
pub struct Legacy {
    blocks: Blocks,
    /// Whether the ciphertext travels as base64.
    armoured: bool,
    name: &'static str,
}

impl Legacy {
    /// Bytes of the length field, the only part of a frame that is not encrypted.
    pub const HEADER_LEN: usize = 2;

    /// The codec for a cipher and its key.
    pub fn new(cipher: &Cipher) -> Self {
        Self {
            blocks: Blocks::new(cipher),
            armoured: matches!(cipher, Cipher::AesEcb(_)),
            name: cipher.name(),
        }
    }

    /// Bytes of the smallest frame: one block.
    fn smallest(&self) -> usize {
        Self::HEADER_LEN + self.sealed_len(BLOCK)
    }

    /// What so many bytes of ciphertext are on the wire.
    fn sealed_len(&self, ciphertext: usize) -> usize {
        match self.armoured {
            true => base64::encoded_len(ciphertext),
            false => ciphertext,
        }
    }

    /// What is behind the length field, in place; `None` whatever is wrong.
    fn open(&self, rest: &mut [u8]) -> Option<Packet> {
        // Up to the decryption nothing depends on the key.
        let len = match self.armoured {
            true => base64::decode_in_place(rest)?,
            false => rest.len(),
        };
        let ciphertext = rest.get_mut(..len)?;
        if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK) {
            return None;
        }
        self.blocks.decrypt(ciphertext);
        let inner = ciphertext;
        let padded = blank_padding(inner);
        let decoded = base64::decode_in_place(inner);
        let len = decoded.filter(|_| padded)?;
        read_packet(&inner[..len]).ok()
    }
}

impl Codec for Legacy {
    fn frame_len(&self, buffered: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
        let Some(head) = buffered.first_chunk::<2>() else {
            return Ok(None);
        };
        let total = usize::from(u16::from_le_bytes(*head));
        if total < self.smallest() {
            return Err(FrameError::TooShort(total));
        }
        if total > max {
            return Err(FrameError::TooLarge { len: total, max });
        }
        Ok(Some(total))
    }

    fn decode(&self, frame: &[u8]) -> Result<Packet, FrameError> {
        let Some((head, rest)) = frame.split_first_chunk::<2>() else {
            return Err(FrameError::TooShort(frame.len()));
        };
        let total = usize::from(u16::from_le_bytes(*head));
        if total != frame.len() {
            return Err(FrameError::LengthMismatch {
                announced: total,
                actual: frame.len(),
            });
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(rest);
            self.open(scratch).ok_or(UNREADABLE)
        })
    }

    fn encoded_len(&self, packet: &Packet) -> usize {
        let inner = base64::encoded_len(2 + packet.size());
        Self::HEADER_LEN + self.sealed_len(padded_len(inner))
    }

    fn encode(&self, packet: &Packet, out: &mut Vec<u8>) {
        // Callers check encoded_len against a limit of at most 65535.
        let total = self.encoded_len(packet) as u16;
        let topic_len = packet.topic.len() as u16;
        out.extend_from_slice(&total.to_le_bytes());
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.extend_from_slice(&topic_len.to_le_bytes());
            scratch.extend_from_slice(packet.topic.as_str().as_bytes());
            scratch.extend_from_slice(&packet.body);
            let plain_len = scratch.len();
            let inner_len = base64::encoded_len(plain_len);
            let padded = padded_len(inner_len);
            // Filled with the padding first, of which what is longer stays.
            scratch.resize(plain_len + padded, (padded - inner_len) as u8);
            let (plain, sealed) = scratch.split_at_mut(plain_len);
            base64::encode(plain, sealed);
            self.blocks.encrypt(sealed);
            match self.armoured {
                true => base64::append(sealed, out),
                false => out.extend_from_slice(sealed),
            }
        });
    }
}

impl fmt::Debug for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Legacy({})", self.name)
    }
}

/// With PKCS #7 padding: one byte at least, up to a whole block.
fn padded_len(len: usize) -> usize {
    (len / BLOCK + 1) * BLOCK
}

/// Answers whether the PKCS #7 padding is right (RFC 5652 section 6.3), and makes line
/// breaks of it, which base64 passes over: what follows takes equally long for all paddings.
fn blank_padding(plain: &mut [u8]) -> bool {
    let Some(block) = plain.last_chunk_mut::<BLOCK>() else {
        return false;
    };
    let len = block[BLOCK - 1];
    let mut wrong = (len == 0) | (usize::from(len) > BLOCK);
    for (i, byte) in block.iter_mut().rev().enumerate() {
        let is_padding = i < usize::from(len);
        wrong |= is_padding & (*byte != len);
        *byte = if is_padding { b'\n' } else { *byte };
    }
    !wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_padding_of_a_block() {
        for len in 0..=255u8 {
            let mut block = *b"0123456789abcdef";
            let padding = usize::from(len).min(BLOCK);
            block[BLOCK - padding..].fill(len);
            block[BLOCK - 1] = len;
            let right = (1..=16).contains(&len);
            assert_eq!(blank_padding(&mut block.clone()), right, "{len}");
            // One byte of it wrong.
            for i in BLOCK - padding..BLOCK - 1 {
                let mut wrong = block;
                wrong[i] ^= 1;
                assert!(!blank_padding(&mut wrong), "{len} {i}");
            }
            if right {
                blank_padding(&mut block);
                let kept = &b"0123456789abcdef"[..BLOCK - padding];
                assert_eq!(&block[..BLOCK - padding], kept);
                assert!(block[BLOCK - padding..].iter().all(|b| *b == b'\n'));
            }
        }
        assert!(!blank_padding(&mut []));
    }
}
