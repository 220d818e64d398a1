//! Properties of the frame codec: how bytes are split never matters, nothing panics, and no
//! limit can be passed.

use proptest::prelude::*;
use tidegate_protocol::ws::upgrade::{self, UpgradeLimits};
use tidegate_protocol::ws::{
    CloseFrame, Decoder, Event, Limits, Opcode, Payload, TextMessages, WsError, encode_header,
};

const LIMITS: Limits = Limits {
    max_message: 4096,
    max_fragments: 16,
    text: TextMessages::Utf8,
};

#[derive(Debug, Clone)]
enum Sent {
    Message {
        text: bool,
        payload: Vec<u8>,
        cuts: Vec<usize>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let control = || proptest::collection::vec(any::<u8>(), 0..=125);
    let cuts = || proptest::collection::vec(0usize..600, 0..5);
    prop_oneof![
        4 => (proptest::collection::vec(any::<u8>(), 0..600), cuts())
            .prop_map(|(payload, cuts)| Sent::Message { text: false, payload, cuts }),
        2 => ("\\PC{0,200}", cuts()).prop_map(|(text, cuts)| {
            Sent::Message { text: true, payload: text.into_bytes(), cuts }
        }),
        1 => control().prop_map(Sent::Ping),
        1 => control().prop_map(Sent::Pong),
    ]
}

fn put_frame(out: &mut Vec<u8>, first: u8, mask: [u8; 4], payload: &[u8]) {
    let start = out.len();
    encode_header(out, Opcode::Binary, payload.len());
    out[start] = first;
    out[start + 1] |= 0x80;
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

/// The bytes of `all`, with a ping between any two fragments, and the events they mean.
fn encode(all: &[Sent], mask: [u8; 4]) -> (Vec<u8>, Vec<Event<'static>>) {
    let mut out = Vec::new();
    let mut events = Vec::new();
    for one in all {
        match one {
            Sent::Ping(payload) => {
                put_frame(&mut out, 0x89, mask, payload);
                events.push(Event::Ping(Payload::Owned(payload.clone())));
            }
            Sent::Pong(payload) => {
                put_frame(&mut out, 0x8A, mask, payload);
                events.push(Event::Pong(Payload::Owned(payload.clone())));
            }
            Sent::Message {
                text,
                payload,
                cuts,
            } => {
                let mut cuts: Vec<usize> =
                    cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
                cuts.sort_unstable();
                let mut from = 0;
                let mut opcode = if *text { 1 } else { 2 };
                for to in cuts {
                    put_frame(&mut out, opcode, mask, &payload[from..to]);
                    put_frame(&mut out, 0x89, mask, b"between");
                    events.push(Event::Ping(Payload::Borrowed(b"between")));
                    (from, opcode) = (to, 0);
                }
                put_frame(&mut out, 0x80 | opcode, mask, &payload[from..]);
                events.push(Event::Message {
                    text: *text,
                    payload: Payload::Owned(payload.clone()),
                });
            }
        }
    }
    (out, events)
}

/// Decodes `bytes` in pieces whose lengths are `steps`, over and over.
fn decode(
    bytes: &[u8],
    steps: &[usize],
    limits: &Limits,
) -> (Vec<Event<'static>>, Option<WsError>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut bytes = bytes.to_vec();
    let mut rest = bytes.as_mut_slice();
    let mut steps = steps.iter().cycle();
    while !rest.is_empty() {
        let step = steps
            .next()
            .map_or(rest.len(), |&step| step.clamp(1, rest.len()));
        let (mut piece, behind) = rest.split_at_mut(step);
        rest = behind;
        while !piece.is_empty() {
            let (used, event) = match decoder.decode(piece, limits) {
                Ok(decoded) => decoded,
                Err(error) => return (events, Some(error)),
            };
            assert!(used > 0);
            if let Some(Event::Message { payload, .. }) = &event {
                assert!(payload.len() <= limits.max_message);
            }
            events.extend(event.map(Event::into_owned));
            piece = &mut piece[used..];
        }
        assert_eq!(decoder.in_progress(), decoder.buffered() > 0);
        assert!(decoder.buffered() <= 2 * limits.max_message + 512);
    }
    (events, None)
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        all in proptest::collection::vec(sent(), 1..8),
        mask: [u8; 4],
        steps in proptest::collection::vec(1usize..100, 1..10),
    ) {
        let (bytes, events) = encode(&all, mask);
        prop_assert_eq!(&decode(&bytes, &[], &LIMITS), &(events.clone(), None));
        prop_assert_eq!(&decode(&bytes, &steps, &LIMITS), &(events.clone(), None));
        prop_assert_eq!(&decode(&bytes, &[1], &LIMITS), &(events, None));
    }

    /// Valid frames with some bytes changed: the same events, then the same violation.
    #[test]
    fn splits_do_not_matter_to_broken_input(
        all in proptest::collection::vec(sent(), 1..6),
        mask: [u8; 4],
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        steps in proptest::collection::vec(1usize..40, 1..10),
    ) {
        let (mut bytes, _) = encode(&all, mask);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = decode(&bytes, &[], &LIMITS);
        prop_assert_eq!(&decode(&bytes, &steps, &LIMITS), &whole);
        prop_assert_eq!(&decode(&bytes, &[1], &LIMITS), &whole);
    }

    #[test]
    fn random_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        masked: bool,
        steps in proptest::collection::vec(1usize..40, 1..5),
    ) {
        if masked && bytes.len() > 1 {
            bytes[0] &= 0x8F;
            bytes[1] |= 0x80;
        }
        let whole = decode(&bytes, &[], &LIMITS);
        prop_assert_eq!(&decode(&bytes, &steps, &LIMITS), &whole);
    }

    #[test]
    fn text_is_judged_as_a_whole_string_is(
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..12),
            "\\PC{0,6}".prop_map(String::into_bytes),
        ],
        steps in proptest::collection::vec(1usize..5, 1..5),
    ) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, 0x81, [1, 2, 3, 4], &payload);
        let expected = match std::str::from_utf8(&payload) {
            Ok(_) => (vec![Event::Message { text: true, payload: Payload::Owned(payload) }], None),
            Err(_) => (vec![], Some(WsError::TextNotUtf8)),
        };
        prop_assert_eq!(&decode(&bytes, &steps, &LIMITS), &expected);
        prop_assert_eq!(&decode(&bytes, &[], &LIMITS), &expected);
    }

    #[test]
    fn close_frames_survive_splits(code in 3000u16..=4999, reason in "\\PC{0,30}", step in 1usize..9) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, 0x88, [9, 8, 7, 6], &[&code.to_be_bytes(), reason.as_bytes()].concat());
        let close = Event::Close(Some(CloseFrame { code, reason }));
        prop_assert_eq!(&decode(&bytes, &[step], &LIMITS), &(vec![close], None));
    }

    #[test]
    fn upgrade_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), get: bool) {
        let prefix: &[u8] = if get { b"GET / HTTP/1.1\r\nHost: a\r\n" } else { b"" };
        let bytes = [prefix, &bytes, b"\r\n\r\n"].concat();
        let _ = upgrade::parse(&bytes, &UpgradeLimits::default());
    }
}
