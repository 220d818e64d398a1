//! The encrypted frames of old clients: golden bytes of another implementation, and
//! properties.

#![allow(
    clippy::unwrap_used,
    reason = "in a test's helpers too, they fail the test"
)]

use proptest::prelude::*;
use sha1::{Digest, Sha1};
use tidegate_protocol::{Cipher, CloseReason, Codec, FrameError, KeyError, Legacy, Packet, V1};

const MAX: usize = V1::MAX_FRAME;
const KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD";

/// One error whatever is wrong behind the length.
const UNREADABLE: FrameError = FrameError::Malformed("the frame is not one of this cipher and key");

fn hex(text: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn ecb(len: usize) -> Legacy {
    Legacy::new(&Cipher::aes_ecb(&KEY[..len]).unwrap())
}

fn cbc(len: usize) -> Legacy {
    Legacy::new(&Cipher::aes_cbc(&KEY[..len]).unwrap())
}

/// Every form and length of key.
fn all() -> Vec<Legacy> {
    let ecb = [1, 5, 15, 16, 17, 24, 32, 40].map(ecb);
    ecb.into_iter().chain([16, 24, 32].map(cbc)).collect()
}

fn encode(codec: &dyn Codec, packet: &Packet) -> Vec<u8> {
    let mut out = b"before".to_vec();
    codec.encode(packet, &mut out);
    out.split_off(6)
}

fn packet(topic: &str, len: usize) -> Packet {
    let body: Vec<_> = (0..len).map(|i| (7 * i + 3) as u8).collect();
    Packet::try_new(topic, body).unwrap()
}

// --- golden bytes

fn codec(form: &str, key: &str) -> Box<dyn Codec> {
    match form {
        "plain" => Box::new(V1),
        "aes-ecb" => Box::new(Legacy::new(&Cipher::aes_ecb(hex(key)).unwrap())),
        "aes-cbc" => Box::new(Legacy::new(&Cipher::aes_cbc(hex(key)).unwrap())),
        other => panic!("{other}"),
    }
}

#[test]
fn golden_bytes_both_ways() {
    let mut forms = std::collections::BTreeMap::new();
    for line in include_str!("data/legacy.txt").lines() {
        if line.starts_with('#') {
            continue;
        }
        let fields: Vec<_> = line.split(' ').collect();
        let [form, key, topic, body, frame] = fields[..] else {
            panic!("{line}");
        };
        *forms.entry((form, key.len() / 2)).or_insert(0) += 1;
        let packet = match body.split_once(':').unwrap() {
            ("hex", bytes) => Packet::try_new(topic, hex(bytes)).unwrap(),
            (_, len) => packet(topic, len.parse().unwrap()),
        };
        let codec = codec(form, key);
        let encoded = encode(&*codec, &packet);
        match frame.strip_prefix("sha1:") {
            Some(hash) => {
                let digest = Sha1::digest(&encoded);
                let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(format!("{digest}:{}", encoded.len()), hash, "{form} {key}");
                // It is the largest that there is.
                let larger = self::packet(topic, packet.body.len() + 1);
                assert!(codec.encoded_len(&larger) > MAX, "{form}");
            }
            None => assert_eq!(encoded, hex(frame), "{line}"),
        }
        assert_eq!(codec.encoded_len(&packet), encoded.len());
        assert_eq!(codec.frame_len(&encoded, MAX), Ok(Some(encoded.len())));
        assert_eq!(codec.decode(&encoded), Ok(packet), "{form} {key}");
    }
    let keys = |form| {
        forms
            .keys()
            .filter(move |(f, _)| *f == form)
            .map(|(_, k)| *k)
    };
    assert_eq!(keys("plain").count(), 1);
    assert!(keys("aes-ecb").eq([1, 5, 15, 16, 17, 24, 32, 40]));
    assert!(keys("aes-cbc").eq([16, 24, 32]));
}

#[test]
fn the_three_frames_captured_from_the_original() {
    let hello = Packet::try_new("svc/echo/1", "hello").unwrap();
    let key = "30313233343536373839616263646566";
    for (form, frame) in [
        ("plain", "13000a007376632f6563686f2f3168656c6c6f"),
        (
            "aes-ecb",
            "2e003137426d56784f2f33396b44525945695a74494e785636585046673751627278524869433876495a374c633d",
        ),
        (
            "aes-cbc",
            "2200bb55d70481dcf0b04613cb86e65fb129dac669d3c157f4665ac0bc4c4110254b",
        ),
    ] {
        let codec = codec(form, key);
        assert_eq!(encode(&*codec, &hello), hex(frame));
        assert_eq!(codec.decode(&hex(frame)), Ok(hello.clone()));
    }
}

// --- keys

#[test]
fn keys_are_checked_and_never_shown() {
    assert_eq!(Cipher::aes_ecb("").unwrap_err(), KeyError::Empty);
    for len in 0..=40 {
        assert_eq!(Cipher::aes_ecb(&KEY[..len]).is_ok(), len > 0);
        match Cipher::aes_cbc(&KEY[..len]) {
            Ok(_) => assert!([16, 24, 32].contains(&len)),
            Err(error) => {
                assert_eq!(error, KeyError::Length(len));
                let text = format!("{error} {error:?}");
                assert!(!text.contains("012345"), "{text}");
            }
        }
    }
    let ecb = Cipher::aes_ecb(KEY).unwrap();
    let cbc = Cipher::aes_cbc(&KEY[..16]).unwrap();
    assert_eq!(
        format!("{ecb:?} {cbc:?}"),
        "AesEcb(redacted) AesCbc(redacted)"
    );
    assert_eq!(format!("{:?}", Legacy::new(&cbc)), "Legacy(aes-cbc)");
}

#[test]
fn one_key_does_not_read_what_another_wrote() {
    let hello = packet("a/b", 20);
    for (i, writer) in all().iter().enumerate() {
        let frame = encode(writer, &hello);
        for (j, reader) in all().iter().enumerate() {
            let expected = if i == j {
                Ok(hello.clone())
            } else {
                Err(UNREADABLE)
            };
            assert_eq!(reader.decode(&frame), expected, "{writer:?} {i} {j}");
        }
    }
}

// --- lengths

#[test]
fn frames_that_announce_too_little_or_too_much() {
    for (codec, smallest) in [(ecb(5), 26), (cbc(16), 18)] {
        let len = |total: u16, max| codec.frame_len(&total.to_le_bytes(), max);
        for total in 0..smallest {
            let error = FrameError::TooShort(total.into());
            assert_eq!(error.close_reason(), CloseReason::BadFrame);
            assert_eq!(len(total, MAX), Err(error));
        }
        assert_eq!(len(smallest, MAX), Ok(Some(smallest.into())));
        assert_eq!(encode(&codec, &packet("a", 0)).len(), usize::from(smallest));
        let too_large = FrameError::TooLarge {
            len: 1001,
            max: 1000,
        };
        assert_eq!(len(1001, 1000), Err(too_large));
        assert_eq!(codec.frame_len(&[200], 100), Ok(None));
        let mut long = encode(&codec, &packet("a", 0));
        long.push(0);
        let mismatch = FrameError::LengthMismatch {
            announced: smallest.into(),
            actual: long.len(),
        };
        assert_eq!(codec.decode(&long), Err(mismatch));
        for short in [&b""[..], b"\x01"] {
            assert_eq!(codec.decode(short), Err(FrameError::TooShort(short.len())));
        }
    }
}

/// The largest body goes through in one frame; one byte more has no length that a frame
/// could announce, and says so instead of wrapping.
#[test]
fn the_largest_body() {
    for (codec, largest) in [(ecb(5), 36_847), (cbc(16), 49_135)] {
        let largest = packet("t", largest - 1);
        assert!(codec.encoded_len(&largest) <= MAX);
        let frame = encode(&codec, &largest);
        assert_eq!(codec.decode(&frame).as_ref(), Ok(&largest));
        let more = packet("t", largest.body.len() + 1);
        assert!(codec.encoded_len(&more) > MAX);
    }
}

// --- what is forged

/// What becomes of bytes in place of a frame's rest: `true` if they are a packet. Anything
/// else must give the one error, and the one close reason.
fn opens(codec: &Legacy, rest: &[u8]) -> bool {
    let total = (2 + rest.len()) as u16;
    let frame = [&total.to_le_bytes(), rest].concat();
    match codec.decode(&frame) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, UNREADABLE);
            assert_eq!(error.close_reason(), CloseReason::BadFrame);
            false
        }
    }
}

#[test]
fn every_flip_and_every_truncation_gives_the_one_error() {
    for codec in [ecb(5), cbc(16), cbc(24), cbc(32)] {
        for body in [0, 1, 7, 30] {
            let frame = encode(&codec, &packet("a/b", body));
            let rest = &frame[2..];
            assert!(opens(&codec, rest));
            for len in 0..rest.len() {
                assert!(!opens(&codec, &rest[..len]), "{codec:?} {len}");
            }
            for i in 0..rest.len() {
                for flip in 1..=255u8 {
                    let mut forged = rest.to_vec();
                    forged[i] ^= flip;
                    // In CBC the first block's flips reach the second; a flip of the
                    // padding into other padding needs a block of garbage before it.
                    assert!(!opens(&codec, &forged), "{codec:?} {body} {i} {flip}");
                }
            }
        }
    }
}

/// Encrypts any text in place of the base64 of a packet, with the key of `ecb(16)`.
fn seal(text: &[u8], padding: &[u8]) -> Vec<u8> {
    use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
    use base64::Engine;
    let key: [u8; 16] = KEY.as_bytes()[..16].try_into().unwrap();
    let aes = aes::Aes128::new(&Array(key));
    let mut bytes = [text, padding].concat();
    let (blocks, rest) = aes::Block::slice_as_chunks_mut(&mut bytes);
    assert!(rest.is_empty());
    aes.encrypt_blocks(blocks);
    base64::engine::general_purpose::STANDARD
        .encode(bytes)
        .into()
}

#[test]
fn whatever_is_wrong_inside_gives_the_one_error() {
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let padded = |text: &[u8]| {
        let missing = 16 - text.len() % 16;
        seal(text, &vec![missing as u8; missing])
    };
    let codec = ecb(16);
    assert!(opens(&codec, &padded(base64(b"\x03\0a/bbody").as_bytes())));
    // Line breaks are passed over, within and without.
    assert!(opens(&codec, &padded(b"AwBh\r\nL2J4\r\n")));
    let mut broken = padded(base64(b"\x01\0a").as_bytes());
    broken.splice(5..5, *b"\r\n");
    broken.push(b'\n');
    assert!(opens(&codec, &broken));
    for wrong in [
        // Padding.
        seal(b"AwBhL2J4eHh4", b"\x04\x04\x05\x04"),
        seal(b"AwBhL2J4eHh4", b"\x00\x00\x00\x00"),
        seal(b"AwBhL2J4eHh4eHh4", b""),
        seal(b"AwBhL2J4eHh4", b"\x11\x11\x11\x11"),
        // Nothing in it; no base64 in it.
        padded(b""),
        padded(b"AwBhL2J"),
        padded(b"AwBh-2J4"),
        padded(b"AwBh L2J4"),
        // Nothing in that, half a length, a length beyond it, a topic that is none.
        padded(base64(b"").as_bytes()),
        padded(base64(b"\x01").as_bytes()),
        padded(base64(b"\x02\0a").as_bytes()),
        padded(base64(b"\xff\xffa").as_bytes()),
        padded(base64(b"\0\0body").as_bytes()),
        padded(base64(b"\x01\0\x1b").as_bytes()),
        padded(base64(b"\x01\0\xff").as_bytes()),
        // Not armoured as it must be.
        b"".to_vec(),
        b"=".to_vec(),
        b"AAAA".to_vec(),
        vec![0xff; 64],
    ] {
        assert!(!opens(&codec, &wrong), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn any_packet_survives(
        which in 0usize..11,
        topic in "[^\\p{Cc}]{1,40}",
        body in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let codec = &all()[which];
        let packet = Packet::try_new(&topic, body).unwrap();
        let bytes = encode(codec, &packet);
        prop_assert_eq!(bytes.len(), codec.encoded_len(&packet));
        prop_assert_eq!(codec.decode(&bytes), Ok(packet));
    }

    /// However a stream of frames is cut, the same packets come of it.
    #[test]
    fn split_points(
        which in 0usize..11,
        bodies in proptest::collection::vec(0usize..200, 1..5),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let codec = &all()[which];
        let packets: Vec<_> = bodies.iter().map(|len| packet("a/b", *len)).collect();
        let stream: Vec<u8> = packets.iter().flat_map(|p| encode(codec, p)).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(stream.len())).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let (mut from, mut buffered, mut got) = (0, Vec::new(), Vec::new());
        for to in cuts {
            buffered.extend_from_slice(&stream[from..to]);
            from = to;
            while let Some(len) = codec.frame_len(&buffered, MAX).unwrap() {
                if len > buffered.len() {
                    break;
                }
                let frame: Vec<_> = buffered.drain(..len).collect();
                got.push(codec.decode(&frame).unwrap());
            }
        }
        prop_assert_eq!(got, packets);
    }

    #[test]
    fn any_bytes_never_panic(
        which in 0usize..11,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        max in 0usize..70_000,
    ) {
        let codec = &all()[which];
        if let Ok(Some(len)) = codec.frame_len(&bytes, max) {
            prop_assert!(len <= max);
        }
        let _ = codec.decode(&bytes);
        opens(codec, &bytes);
    }
}
