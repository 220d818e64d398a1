//! A client's WebSocket frames, whole and in pieces: the same events, then the same error, and
//! never more memory than twice what came.
//!
//! The first byte holds the options and how many of the next bytes are the pieces' lengths.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::ws::{Decoder, Event, Limits, TextMessages, WsError};

/// What a decoder holds besides the bytes that came.
const FIXED: usize = 512;

fuzz_target!(|data: &[u8]| {
    let Some((&options, rest)) = data.split_first() else {
        return;
    };
    let Some((steps, bytes)) = rest.split_at_checked(usize::from(options & 7)) else {
        return;
    };
    let limits = Limits {
        max_message: if options & 8 == 0 { 70_000 } else { 300 },
        max_fragments: 8,
        text: match options >> 4 & 3 {
            0 | 1 => TextMessages::Utf8,
            2 => TextMessages::Refused,
            _ => TextMessages::AnyBytes,
        },
    };
    let whole = decode(bytes, &[], &limits);
    assert_eq!(decode(bytes, steps, &limits), whole);
    assert_eq!(decode(bytes, &[1], &limits), whole);
});

fn decode(bytes: &[u8], steps: &[u8], limits: &Limits) -> (Vec<Event<'static>>, Option<WsError>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    let mut bytes = bytes.to_vec();
    let mut rest = bytes.as_mut_slice();
    let mut steps = steps.iter().cycle();
    let mut received = 0;
    while !rest.is_empty() {
        let step = steps
            .next()
            .map_or(rest.len(), |&step| usize::from(step).clamp(1, rest.len()));
        let (mut piece, behind) = rest.split_at_mut(step);
        rest = behind;
        received += step;
        while !piece.is_empty() {
            let len = piece.len();
            let (used, event) = match decoder.decode(piece, limits) {
                Ok(decoded) => decoded,
                Err(error) => {
                    assert!(decoder.finished() && decoder.buffered() == 0);
                    return (events, Some(error));
                }
            };
            assert!(used > 0);
            assert!(event.is_some() || used == len);
            match &event {
                Some(Event::Message { text, payload }) => {
                    let utf8 = *text && limits.text == TextMessages::Utf8;
                    assert!(payload.len() <= limits.max_message);
                    assert!(!utf8 || std::str::from_utf8(payload).is_ok());
                    assert!(!text || limits.text != TextMessages::Refused);
                }
                Some(Event::Ping(payload) | Event::Pong(payload)) => assert!(payload.len() <= 125),
                Some(Event::Close(_)) | None => {}
            }
            events.extend(event.map(Event::into_owned));
            piece = &mut piece[used..];
        }
        assert!(decoder.buffered() <= FIXED + 2 * received);
        assert_eq!(decoder.in_progress(), decoder.buffered() > 0);
    }
    (events, None)
}
