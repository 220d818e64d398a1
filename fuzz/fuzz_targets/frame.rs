//! The version 1 frame: any bytes, as a stream and as a message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::{Codec, V1};

fuzz_target!(|data: &[u8]| {
    let Some((&max, mut stream)) = data.split_first() else {
        return;
    };
    let max = usize::from(max) * 257;
    // As a message: what decodes encodes to the same bytes, and its topic routes or not.
    if let Ok(packet) = V1.decode(stream) {
        let mut again = Vec::new();
        V1.encode(&packet, &mut again);
        assert_eq!(again, stream);
        assert_eq!(V1.encoded_len(&packet), stream.len());
        let _ = packet.topic.route();
    }
    // As a stream: frames are within the limit and in the bytes that came.
    while let Ok(Some(len)) = V1.frame_len(stream, max) {
        assert!((V1::HEADER_LEN..=max).contains(&len));
        let Some((frame, rest)) = stream.split_at_checked(len) else {
            return;
        };
        if V1.decode(frame).is_err() {
            return;
        }
        stream = rest;
    }
});
