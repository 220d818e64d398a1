//! The encrypted frames of old clients: any bytes as a frame, any bytes under the
//! encryption, and packets, changed or not.

#![no_main]

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Block};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use tidegate_protocol::{Cipher, CloseReason, Codec, Legacy, Packet};

const KEY: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let cipher = match choice & 3 {
        0 => Cipher::aes_ecb(&KEY[..16]),
        1 => Cipher::aes_cbc(&KEY[..16]),
        2 => Cipher::aes_cbc(&KEY[..24]),
        _ => Cipher::aes_cbc(KEY),
    };
    let codec = Legacy::new(&cipher.unwrap());
    match choice >> 2 & 3 {
        0 => as_frame(&codec, data),
        1 => as_frame(&codec, &framed(data)),
        2 => {
            // What decrypts to these bytes, padding included.
            let codec = Legacy::new(&Cipher::aes_ecb(&KEY[..16]).unwrap());
            as_frame(&codec, &framed(&sealed(data)));
        }
        _ => as_packet(&codec, data),
    }
});

/// Decodes or gives an error that closes with the one reason. As a stream: within the limit.
fn as_frame(codec: &Legacy, bytes: &[u8]) {
    match codec.decode(bytes) {
        Ok(packet) => {
            // Line breaks apart, there is one frame for a packet.
            let len = codec.encoded_len(&packet);
            assert!(len <= bytes.len());
            let mut again = Vec::new();
            codec.encode(&packet, &mut again);
            assert_eq!(again.len(), len);
            assert_eq!(codec.decode(&again), Ok(packet));
        }
        Err(error) => assert_eq!(error.close_reason(), CloseReason::BadFrame),
    }
    for max in [100, 65_535] {
        if let Ok(Some(len)) = codec.frame_len(bytes, max) {
            assert!((18..=max).contains(&len));
        }
    }
}

/// A packet, and the same with one byte of its frame changed.
fn as_packet(codec: &Legacy, data: &[u8]) {
    let Some(([at, flip], body)) = data.split_first_chunk() else {
        return;
    };
    let packet = Packet::try_new("a/b", body.to_vec()).unwrap();
    if codec.encoded_len(&packet) > 65_535 {
        return;
    }
    let mut frame = Vec::new();
    codec.encode(&packet, &mut frame);
    assert_eq!(frame.len(), codec.encoded_len(&packet));
    assert_eq!(codec.decode(&frame), Ok(packet));
    let at = usize::from(*at) * frame.len() / 256;
    frame[at] ^= flip;
    as_frame(codec, &frame);
}

fn framed(rest: &[u8]) -> Vec<u8> {
    let total = (2 + rest.len()) as u16;
    [&total.to_le_bytes(), rest].concat()
}

fn sealed(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    bytes.resize(text.len().next_multiple_of(16), 16);
    let key: [u8; 16] = KEY.first_chunk().copied().unwrap();
    let (blocks, _) = Block::slice_as_chunks_mut(&mut bytes);
    Aes128::new(&Array(key)).encrypt_blocks(blocks);
    STANDARD.encode(bytes).into()
}
