//! What `docs/protocol.md` says of the extended protocol is what the code does.
#![allow(clippy::unwrap_used, reason = "tests")]

use tidegate_protocol::extended::{self, ClientControl, GateControl, Hello};
use tidegate_protocol::{Codec, Packet, V1};

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The JSON blocks of the page that `read` takes.
fn examples<T>(read: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let blocks = PAGE.split("```json\n").skip(1);
    let text = blocks.map(|block| block.split("```").next().unwrap_or_default());
    text.filter_map(read).collect()
}

/// Reads the body of a `$` packet of the gate's.
fn gate_control(topic: &str, body: &str) -> Option<GateControl> {
    let packet = Packet::try_new(topic, body.to_owned()).unwrap();
    GateControl::read(&packet).ok()
}

#[test]
fn the_examples_of_the_extended_protocol_are_right() {
    let hello = examples(|text| Hello::read(text.as_bytes()).ok());
    assert_eq!(hello.len(), 1);
    assert_eq!(hello[0].resume.as_ref().unwrap().received, 118);
    assert!(hello[0].wants(extended::RESUME));
    for topic in [
        extended::WELCOME,
        extended::ERROR,
        extended::GAP,
        extended::DRAIN,
        extended::CLOSE,
    ] {
        let found = examples(|text| gate_control(topic, text));
        assert_eq!(found.len(), 1, "{topic}");
        // What the code writes has the same fields as the page.
        let fields = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        let written = found[0].packet().body;
        let written = fields(std::str::from_utf8(&written).unwrap());
        assert!(
            examples(|text| (fields(text) == written).then_some(())).len() == 1,
            "{topic}: {written}"
        );
    }
    for text in [
        r#"{"token": "…"}"#,
        r#"{"refused": {"code": 3, "text": "…"}}"#,
    ] {
        assert!(PAGE.contains(text));
        assert!(gate_control(extended::TOKEN, text).is_some());
    }
}

#[test]
fn the_numbers_of_the_extended_protocol_are_right() {
    for (value, phrase) in [
        (u64::from(extended::VERSION), "this page is version {}"),
        (
            extended::MAX_LIST as u64,
            "versions of the extended protocol that the client speaks, at most {};",
        ),
        (extended::MAX_LIST as u64, "can do and wants, at most {};"),
        (extended::MAX_NAME as u64, "for logs; at most {} bytes"),
        (
            extended::MAX_NAME as u64,
            "one login for each; at most {} bytes",
        ),
        (
            u64::from(extended::ACK_PACKETS),
            "acknowledges after {} packets",
        ),
        (extended::ACK_DELAY.as_secs(), "packets or {} s"),
        (
            extended::MIN_HEARTBEAT.as_secs(),
            "Intervals are between {} s and half",
        ),
    ] {
        let phrase = phrase.replace("{}", &value.to_string());
        assert!(PAGE.contains(&phrase), "not in docs/protocol.md: {phrase}");
    }
    let golden = "10 00                    total = 16\n04 00                    topic_len = 4\n\
        24 61 63 6b              \"$ack\"\n03 00 00 00 00 00 00 00  3\n";
    assert!(PAGE.contains(golden));
    let mut frame = Vec::new();
    V1.encode(&ClientControl::Ack(3).packet(), &mut frame);
    assert_eq!(frame, b"\x10\0\x04\0$ack\x03\0\0\0\0\0\0\0");
}
