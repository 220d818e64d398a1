//! The frame codec against the bytes of RFC 6455, every violation, and memory.

use std::iter::repeat_n;

use tidegate_protocol::ws::{
    CloseFrame, Decoder, Event, Limits, Opcode, Payload, TextMessages, WsError, encode_binary,
    encode_close, encode_header, encode_ping, encode_pong, encode_text, is_legal_close_code,
};

const LIMITS: Limits = Limits {
    max_message: 1000,
    max_fragments: 8,
    text: TextMessages::Utf8,
};
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked client frame; `first` is the byte with FIN and opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(&mut out, Opcode::Binary, payload.len());
    out[0] = first;
    out[1] |= 0x80;
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    out
}

/// Everything `bytes` decode to when they come in pieces of `step` bytes.
fn decode(bytes: &[u8], step: usize, limits: &Limits) -> (Vec<Event<'static>>, Option<WsError>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let mut at = 0;
        let len = piece.len();
        while at < len {
            match decoder.decode(&mut piece[at..], limits) {
                Ok((used, event)) => {
                    assert!(event.is_some() || at + used == len);
                    at += used;
                    events.extend(event.map(Event::into_owned));
                }
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fn message(text: bool, payload: &[u8]) -> Event<'static> {
    Event::Message {
        text,
        payload: Payload::Owned(payload.to_vec()),
    }
}

fn close(code: u16, reason: &str) -> Event<'static> {
    Event::Close(Some(CloseFrame {
        code,
        reason: reason.to_owned(),
    }))
}

#[test]
fn rfc_section_5_7_client_bytes() {
    let hello = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    let pong = [
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    for step in 1..=11 {
        assert_eq!(
            decode(&hello, step, &LIMITS),
            (vec![message(true, b"Hello")], None)
        );
        let pongs = vec![Event::Pong(Payload::Borrowed(b"Hello"))];
        assert_eq!(decode(&pong, step, &LIMITS), (pongs, None));
    }
    // "Hel" and "lo" unmasked is the RFC's example; a client masks them.
    let fragments = [frame(0x01, b"Hel"), frame(0x80, b"lo")].concat();
    assert_eq!(
        decode(&fragments, 3, &LIMITS),
        (vec![message(true, b"Hello")], None)
    );
}

#[test]
fn rfc_section_5_7_server_bytes() {
    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }
    assert_eq!(encoded(|out| encode_text(out, "Hello")), b"\x81\x05Hello");
    assert_eq!(encoded(|out| encode_ping(out, b"Hello")), b"\x89\x05Hello");
    assert_eq!(encoded(|out| encode_pong(out, b"Hello")), b"\x8a\x05Hello");
    let bytes = encoded(|out| encode_binary(out, &[7; 256]));
    assert_eq!(
        (&bytes[..4], bytes.len()),
        (&[0x82, 0x7E, 0x01, 0x00][..], 260)
    );
    let bytes = encoded(|out| encode_binary(out, &[7; 65536]));
    assert_eq!(bytes[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(
        encoded(|out| encode_close(out, 1000, "bye")),
        b"\x88\x05\x03\xe8bye"
    );
    assert_eq!(
        encoded(|out| encode_close(out, 1005, "never sent")),
        b"\x88\x00"
    );
    // A reason is cut between characters: 123 is odd, "é" has two bytes.
    let bytes = encoded(|out| encode_close(out, 1001, &"é".repeat(100)));
    assert_eq!((bytes[1], bytes.len()), (124, 126));
    assert_eq!(encoded(|out| encode_ping(out, &[1; 200])).len(), 127);
}

#[test]
fn length_encodings_at_their_edges() {
    for len in [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 70_000] {
        let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let limits = Limits {
            max_message: len,
            ..LIMITS
        };
        let bytes = frame(0x82, &payload);
        for step in [1, 1000, bytes.len()] {
            assert_eq!(
                decode(&bytes, step, &limits),
                (vec![message(false, &payload)], None)
            );
        }
        if len > 0 {
            let tight = Limits {
                max_message: len - 1,
                ..LIMITS
            };
            assert_eq!(
                decode(&bytes, 1, &tight),
                (vec![], Some(WsError::MessageTooBig))
            );
        }
    }
}

/// Each violation, whole and byte by byte, with the code it is closed with.
#[test]
fn violations() {
    let eight = |top: u8| [&[0x82, 0xFF, top, 0, 0, 0, 0, 0, 0, 125][..], &MASK].concat();
    let open = frame(0x02, b"x");
    let after = |bytes: Vec<u8>| [open.clone(), bytes].concat();
    let close_body = |body: &[u8]| frame(0x88, body);
    let table: Vec<(Vec<u8>, WsError, u16)> = vec![
        (frame(0xC2, b"x"), WsError::ReservedBits, 1002),
        (frame(0xA2, b"x"), WsError::ReservedBits, 1002),
        (frame(0x92, b"x"), WsError::ReservedBits, 1002),
        (frame(0x83, b"x"), WsError::ReservedOpcode(3), 1002),
        (frame(0x87, b"x"), WsError::ReservedOpcode(7), 1002),
        (frame(0x8B, b"x"), WsError::ReservedOpcode(11), 1002),
        (frame(0x0F, b"x"), WsError::ReservedOpcode(15), 1002),
        (vec![0x82, 0x01, b'x'], WsError::NotMasked, 1002),
        (vec![0x82, 0xFE, 0, 125], WsError::LengthNotMinimal, 1002),
        (eight(0), WsError::LengthNotMinimal, 1002),
        (
            vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            WsError::LengthNotMinimal,
            1002,
        ),
        (eight(0x80), WsError::LengthTopBit, 1002),
        (vec![0x89, 0xFE], WsError::ControlTooLong, 1002),
        (vec![0x88, 0xFF], WsError::ControlTooLong, 1002),
        (vec![0x09], WsError::ControlFragmented, 1002),
        (vec![0x08], WsError::ControlFragmented, 1002),
        (vec![0x80], WsError::UnexpectedContinuation, 1002),
        (vec![0x00], WsError::UnexpectedContinuation, 1002),
        (
            after(frame(0x82, b"x")),
            WsError::ExpectedContinuation,
            1002,
        ),
        (
            after(frame(0x01, b"x")),
            WsError::ExpectedContinuation,
            1002,
        ),
        (close_body(b"\x03"), WsError::CloseTruncated, 1002),
        (close_body(b"\x03\xed"), WsError::CloseCode(1005), 1002),
        (
            close_body(b"\x03\xe8\xff"),
            WsError::CloseReasonNotUtf8,
            1007,
        ),
        (
            close_body(b"\x03\xe8\xe2\x82"),
            WsError::CloseReasonNotUtf8,
            1007,
        ),
        (frame(0x81, b"\xff"), WsError::TextNotUtf8, 1007),
        (frame(0x81, b"\xed\xa0\x80"), WsError::TextNotUtf8, 1007),
        (frame(0x81, b"\xe2\x82"), WsError::TextNotUtf8, 1007),
        (
            [frame(0x01, b"\xe2"), frame(0x80, b"\x82")].concat(),
            WsError::TextNotUtf8,
            1007,
        ),
        (frame(0x82, &[0; 1001]), WsError::MessageTooBig, 1009),
        (
            vec![0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            WsError::MessageTooBig,
            1009,
        ),
        (
            [frame(0x02, &[0; 999]), frame(0x80, b"xx")].concat(),
            WsError::MessageTooBig,
            1009,
        ),
        (
            after(frame(0x00, b"").repeat(8)),
            WsError::TooManyFragments,
            1009,
        ),
    ];
    for (bytes, error, code) in table {
        for step in [1, 2, 3, bytes.len()] {
            let found = decode(&bytes, step, &LIMITS);
            assert_eq!(found, (vec![], Some(error)), "{bytes:02x?} by {step}");
        }
        assert_eq!(error.close_code(), code, "{error}");
    }
    let binary_only = Limits {
        text: TextMessages::Refused,
        ..LIMITS
    };
    assert_eq!(
        decode(&[0x81], 1, &binary_only),
        (vec![], Some(WsError::TextRefused))
    );
    assert_eq!(
        decode(&[0x01], 1, &binary_only),
        (vec![], Some(WsError::TextRefused))
    );
    assert_eq!(WsError::TextRefused.close_code(), 1003);
}

#[test]
fn close_codes() {
    let legal = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    for code in 0..=u16::MAX {
        let body = [&code.to_be_bytes()[..], b"why"].concat();
        let expected = match legal(code) {
            true => (vec![close(code, "why")], None),
            false => (vec![], Some(WsError::CloseCode(code))),
        };
        assert_eq!(decode(&frame(0x88, &body), 200, &LIMITS), expected);
        assert_eq!(is_legal_close_code(code), legal(code));
    }
    assert_eq!(
        decode(&frame(0x88, b""), 9, &LIMITS),
        (vec![Event::Close(None)], None)
    );
}

#[test]
fn text_fails_at_the_first_impossible_byte() {
    // A long frame, announced whole; the client never sends the rest.
    let start = "κόσμε".as_bytes();
    for bad in [
        &b"\xf4\x90"[..],
        b"\xc0",
        b"\xed\xa0",
        b"\xe0\x80",
        b"\xf5",
        b"\x80",
    ] {
        let mut bytes = frame(0x81, &[start, bad, &[b'x'; 100][..]].concat());
        bytes.truncate(6 + start.len() + bad.len());
        for step in [1, bytes.len()] {
            assert_eq!(
                decode(&bytes, step, &LIMITS),
                (vec![], Some(WsError::TextNotUtf8))
            );
            let before = &bytes[..bytes.len() - 1];
            assert_eq!(decode(before, step, &LIMITS), (vec![], None));
        }
    }
}

#[test]
fn text_of_any_bytes_where_that_is_allowed() {
    let any = Limits {
        text: TextMessages::AnyBytes,
        ..LIMITS
    };
    let payload = b"\xf4\x90 \xff\0";
    let whole = frame(0x81, payload);
    let pieces = [frame(0x01, &payload[..1]), frame(0x80, &payload[1..])].concat();
    for bytes in [whole, pieces] {
        for step in [1, 3, bytes.len()] {
            let message = Event::Message {
                text: true,
                payload: Payload::Owned(payload.to_vec()),
            };
            assert_eq!(decode(&bytes, step, &any), (vec![message], None));
        }
    }
}

#[test]
fn control_frames_between_fragments() {
    let bytes = [
        frame(0x01, "κό".as_bytes()),
        frame(0x89, b"1"),
        frame(0x00, b""),
        frame(0x8A, b""),
        frame(0x80, "σμε".as_bytes()),
        frame(0x88, b"\x0f\xa0bye"),
    ]
    .concat();
    let expected = vec![
        Event::Ping(Payload::Borrowed(b"1")),
        Event::Pong(Payload::Borrowed(b"")),
        message(true, "κόσμε".as_bytes()),
        close(4000, "bye"),
    ];
    for step in 1..=bytes.len() {
        assert_eq!(
            decode(&bytes, step, &LIMITS),
            (expected.clone(), None),
            "by {step}"
        );
    }
}

#[test]
fn nothing_is_decoded_after_a_close_frame_or_an_error() {
    let after = frame(0x82, b"late");
    for first in [frame(0x88, b""), vec![0x83]] {
        for held in [vec![], frame(0x02, b"held")] {
            let mut decoder = Decoder::new();
            let _ = decoder.decode(&mut held.clone(), &LIMITS);
            let _ = decoder.decode(&mut first.clone(), &LIMITS);
            assert!(decoder.finished() && !decoder.in_progress());
            assert_eq!(decoder.buffered(), 0);
            let mut late = after.clone();
            assert_eq!(decoder.decode(&mut late, &LIMITS), Ok((after.len(), None)));
        }
    }
}

#[test]
fn a_message_that_lies_in_the_input_is_lent() {
    let mut bytes = [frame(0x82, &[9; 64]), frame(0x81, b"text")].concat();
    let mut decoder = Decoder::new();
    let (used, event) = decoder.decode(&mut bytes, &LIMITS).unwrap();
    assert_eq!(used, 70);
    let Some(Event::Message {
        text: false,
        payload: Payload::Borrowed(payload),
    }) = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(payload, [9; 64]);
    let (_, event) = decoder.decode(&mut bytes[used..], &LIMITS).unwrap();
    assert!(matches!(
        event,
        Some(Event::Message {
            payload: Payload::Borrowed(b"text"),
            ..
        })
    ));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn memory_follows_what_came_and_is_given_back() {
    assert!(size_of::<Decoder>() <= 16);
    let limits = Limits {
        max_message: 16 << 20,
        ..LIMITS
    };
    let mut decoder = Decoder::new();
    let mut header = vec![0x82, 0xFF];
    header.extend_from_slice(&(16u64 << 20).to_be_bytes());
    header.extend_from_slice(&MASK);
    assert_eq!(decoder.decode(&mut header, &limits), Ok((14, None)));
    assert!(decoder.in_progress());
    let fixed = decoder.buffered();
    assert!(fixed < 256, "{fixed} bytes for a header");
    for received in 1..=5000 {
        decoder.decode(&mut [0], &limits).unwrap();
        assert!(decoder.buffered() - fixed <= 2 * received);
    }
    let mut rest: Vec<u8> = repeat_n(0, (16 << 20) - 5000).collect();
    let (_, event) = decoder.decode(&mut rest, &limits).unwrap();
    let Some(Event::Message {
        payload: Payload::Owned(payload),
        ..
    }) = event
    else {
        panic!("no message");
    };
    assert_eq!((payload.len(), payload.capacity()), (16 << 20, 16 << 20));
    assert!(!decoder.in_progress());
    assert_eq!(decoder.buffered(), 0);

    // A header byte, a partial ping, an unfinished message: each is held, each is let go.
    for bytes in [
        frame(0x82, b""),
        frame(0x89, b"ping"),
        frame(0x82, b"message"),
    ] {
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        assert_eq!(
            decoder.decode(&mut head.to_vec(), &limits),
            Ok((head.len(), None))
        );
        assert!(decoder.in_progress() && decoder.buffered() > 0);
        let mut tail = tail.to_vec();
        let (used, event) = decoder.decode(&mut tail, &limits).unwrap();
        assert!(used == 1 && event.is_some());
        assert!(!decoder.in_progress());
    }
}
