//! The version 1 frame: golden bytes and properties.

use proptest::prelude::*;
use tidegate_protocol::{Codec, FrameError, Packet, TopicError, V1};

const MAX: usize = V1::MAX_FRAME;

fn frame(total: u16, topic_len: u16, rest: &[u8]) -> Vec<u8> {
    let mut out = total.to_le_bytes().to_vec();
    out.extend(topic_len.to_le_bytes());
    out.extend(rest);
    out
}

fn encode(packet: &Packet) -> Vec<u8> {
    let mut out = Vec::new();
    V1.encode(packet, &mut out);
    out
}

#[test]
fn golden_bytes() {
    let packet = Packet::try_new("svc/echo/1", "hello").unwrap();
    let bytes = b"\x13\x00\x0a\x00svc/echo/1hello";
    assert_eq!(encode(&packet), bytes);
    assert_eq!(V1.frame_len(bytes, MAX), Ok(Some(19)));
    assert_eq!(V1.decode(bytes), Ok(packet));
}

#[test]
fn lengths_below_the_header_are_refused() {
    for total in 0..=3u16 {
        assert_eq!(
            V1.frame_len(&total.to_le_bytes(), MAX),
            Err(FrameError::TooShort(usize::from(total)))
        );
    }
    assert_eq!(V1.frame_len(&[4, 0], MAX), Ok(Some(4)));
    assert_eq!(
        V1.decode(&frame(4, 0, b"")),
        Err(FrameError::Topic(TopicError::Empty))
    );
    assert_eq!(
        V1.decode(&frame(5, 0, b"x")),
        Err(FrameError::Topic(TopicError::Empty))
    );
    for short in [&b""[..], b"\x04", b"\x04\x00\x00"] {
        assert_eq!(V1.decode(short), Err(FrameError::TooShort(short.len())));
    }
}

#[test]
fn length_over_the_limit_is_refused_from_two_bytes() {
    assert_eq!(
        V1.frame_len(&1001u16.to_le_bytes(), 1000),
        Err(FrameError::TooLarge {
            len: 1001,
            max: 1000
        })
    );
    assert_eq!(V1.frame_len(&1000u16.to_le_bytes(), 1000), Ok(Some(1000)));
    assert_eq!(V1.frame_len(&[1], 1000), Ok(None));
}

#[test]
fn topic_beyond_the_frame() {
    assert_eq!(
        V1.decode(&frame(7, 4, b"abc")),
        Err(FrameError::TopicBeyondFrame(4))
    );
    assert!(V1.decode(&frame(7, 3, b"abc")).is_ok());
    // Four bytes are enough to know.
    assert_eq!(
        V1.frame_len(b"\xff\xff\xff\xff", MAX),
        Err(FrameError::TopicBeyondFrame(0xffff))
    );
    assert!(V1.frame_len(b"GET / HTTP/1.1", MAX).is_ok(), "a long frame");
    assert_eq!(V1.frame_len(&[7, 0, 3, 0], MAX), Ok(Some(7)));
}

#[test]
fn a_message_must_have_the_announced_length() {
    assert!(matches!(
        V1.decode(&frame(8, 3, b"abc")),
        Err(FrameError::LengthMismatch {
            announced: 8,
            actual: 7
        })
    ));
}

#[test]
fn every_topic_byte() {
    for b in 0..=255u8 {
        let got = V1.decode(&frame(5, 1, &[b]));
        assert_eq!(got.is_ok(), (0x20..0x7f).contains(&b), "{b:#x}");
    }
}

proptest! {
    #[test]
    fn any_packet_survives(topic in "[^\\p{Cc}]{1,40}", body in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let packet = Packet::try_new(&topic, body).unwrap();
        let bytes = encode(&packet);
        prop_assert_eq!(bytes.len(), V1.encoded_len(&packet));
        prop_assert_eq!(V1.frame_len(&bytes, MAX), Ok(Some(bytes.len())));
        prop_assert_eq!(V1.decode(&bytes), Ok(packet));
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), max in 0usize..70_000) {
        let _ = V1.frame_len(&bytes, max);
        if let Ok(packet) = V1.decode(&bytes) {
            prop_assert_eq!(encode(&packet), bytes);
        }
    }
}
