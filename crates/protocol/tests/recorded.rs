//! Frames of the extended protocol on record: what the JavaScript client writes is read here,
//! and what is written here is read by the JavaScript client's tests
//! (`clients/js/test/recorded.test.js`).
//!
//! `TIDEGATE_TEST_WRITE=1 cargo test -p tidegate-protocol --test recorded` writes the record
//! anew; `TIDEGATE_TEST_WRITE=1 node --test clients/js/test/recorded.test.js` the other.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_protocol::extended::*;
use tidegate_protocol::{CloseReason, Codec, ErrorCode, Packet, V1};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// One frame: its bytes, and what they mean.
#[derive(Deserialize)]
struct Frame {
    hex: String,
    topic: String,
    value: Value,
}

#[test]
fn what_the_javascript_client_writes_is_read() {
    let record = std::fs::read_to_string(file("extended-client-js.json")).unwrap();
    let connections: Vec<Vec<Frame>> = serde_json::from_str(&record).unwrap();
    assert_eq!(connections.len(), 2);
    let mut taken = 0;
    for (i, frames) in connections.iter().enumerate() {
        for (j, frame) in frames.iter().enumerate() {
            let bytes = unhex(&frame.hex);
            assert_eq!(
                V1.frame_len(&bytes, V1::MAX_FRAME).unwrap(),
                Some(bytes.len())
            );
            let packet = V1.decode(&bytes).unwrap();
            assert_eq!(packet.topic.as_str(), frame.topic);
            let value = match ClientControl::read(&packet) {
                Ok(ClientControl::Hello(hello)) => {
                    assert_eq!(j, 0, "the first packet");
                    assert!(hello.wants(RESUME));
                    let resume = hello.resume.as_ref();
                    assert_eq!(resume.map(|r| &*r.token), [None, Some("t-2")][i]);
                    serde_json::to_value(&*hello).unwrap()
                }
                Ok(ClientControl::Ping(n) | ClientControl::Pong(n) | ClientControl::Ack(n)) => {
                    n.into()
                }
                Ok(ClientControl::Bye) => Value::Null,
                Err(_) => {
                    assert!(is_counted(&packet.topic));
                    taken += 1;
                    std::str::from_utf8(&packet.body).unwrap().into()
                }
            };
            assert_eq!(value, frame.value, "connection {i}, frame {j}");
            if j == 1 {
                assert_eq!(packet.topic.as_str(), ACK, "first behind the $welcome");
            }
        }
    }
    assert!(taken > 4, "{taken}");
    let topics: Vec<_> = connections.iter().flatten().map(|f| &*f.topic).collect();
    for topic in [HELLO, PING, PONG, ACK, BYE] {
        assert!(topics.contains(&topic), "{topic}");
    }
}

/// Every control packet of a gate, with and without what may be left out.
fn gate_packets() -> Vec<GateControl> {
    let bare = Welcome {
        version: VERSION,
        gate: "gate-1".into(),
        session: "0f3a".into(),
        user: None,
        capabilities: Vec::new(),
        heartbeat: Heartbeat {
            client_ms: 25_000,
            gate_ms: 30_000,
        },
        max_packet: 65_535,
        resume: None,
        resumed: false,
        refused: None,
        received: 0,
    };
    let resumed = Welcome {
        user: Some("änna".into()),
        capabilities: vec![RESUME.into()],
        resume: Some(Resumption {
            token: "Zk-_".into(),
            window_ms: 120_000,
        }),
        resumed: true,
        received: (1 << 53) - 1,
        ..bare.clone()
    };
    let refused = Welcome {
        refused: Some(ResumeRefusal::Expired.into()),
        ..bare.clone()
    };
    let gap = |count, reason| GateControl::Gap(Gap { count, reason });
    vec![
        GateControl::Welcome(Box::new(bare)),
        GateControl::Welcome(Box::new(resumed)),
        GateControl::Welcome(Box::new(refused)),
        GateControl::Ping(1),
        GateControl::Pong(u64::MAX),
        GateControl::Ack(0x0102_0304_0506),
        GateControl::Error(ErrorPacket {
            topic: "echo/nothing/7".into(),
            packet: 12,
            code: ErrorCode::NOT_FOUND.0,
            message: "no such method for this client".into(),
        }),
        gap(3, GapReason::Dropped),
        gap(1, GapReason::Replaced),
        gap(2, GapReason::TooLarge),
        GateControl::Token(TokenUpdate {
            token: Some("next".into()),
            refused: None,
        }),
        GateControl::Token(TokenUpdate {
            token: None,
            refused: Some(ResumeRefusal::Overflowed.into()),
        }),
        GateControl::Drain(Drain {
            deadline_ms: 10_000,
            retry_after_ms: 800,
        }),
        GateControl::Close(Close::new(CloseReason::Shutdown, Some(1500))),
        GateControl::Close(Close::new(CloseReason::Kicked, Some(1500))),
    ]
}

/// What a client writes that keeps its state as this crate does.
fn client_packets() -> Vec<Packet> {
    let mut session = ClientSession::default();
    let hello = Hello::read(
        br#"{"versions":[1],"agent":"my-game/2.1","device":"phone-7f","capabilities":["resume"],
            "auth":{"token":"a"},"heartbeat":{"client_ms":25000,"gate_ms":30000}}"#,
    )
    .unwrap();
    let mut written = vec![session.hello(&hello)];
    let mut packets = gate_packets().into_iter();
    let Some(GateControl::Welcome(mut welcome)) = packets.nth(1) else {
        panic!("the second is a $welcome that can be resumed");
    };
    (welcome.resumed, welcome.received) = (false, 0);
    session.welcome(&welcome).unwrap();
    written.push(session.confirm());
    let note = Packet::try_new("chat/say", "grüße").unwrap();
    session.write(&note);
    written.push(note);
    for _ in 0..ACK_PACKETS {
        let push = Packet::try_new("chat/said", "x").unwrap();
        session.take(push).unwrap();
    }
    written.push(session.ack().unwrap());
    let ping = GateControl::Ping(77).packet();
    let Taken::Reply(pong) = session.take(ping).unwrap() else {
        panic!("a $ping is answered");
    };
    written.extend([pong, ClientControl::Ping(5).packet()]);
    written.push(session.hello(&hello));
    written.push(ClientControl::Bye.packet());
    written
}

fn frame(packet: &Packet) -> Value {
    let mut bytes = Vec::new();
    V1.encode(packet, &mut bytes);
    let value: Value = match packet.topic.as_str() {
        // As text: a number of JSON may be too small for it.
        PING | PONG | ACK => {
            let bytes = <[u8; 8]>::try_from(&*packet.body).unwrap();
            u64::from_le_bytes(bytes).to_string().into()
        }
        topic if topic.starts_with('$') && !packet.body.is_empty() => {
            serde_json::from_slice(&packet.body).unwrap()
        }
        _ => std::str::from_utf8(&packet.body).unwrap().into(),
    };
    json!({ "hex": hex(&bytes), "topic": packet.topic.as_str(), "value": value })
}

#[test]
fn what_is_written_here_is_as_recorded() {
    let gate: Vec<_> = gate_packets().iter().map(|c| frame(&c.packet())).collect();
    let client: Vec<_> = client_packets().iter().map(frame).collect();
    let written = json!({ "gate": gate, "client": client });
    let path = file("extended-rust.json");
    if std::env::var_os("TIDEGATE_TEST_WRITE").is_some() {
        let text = serde_json::to_string_pretty(&written).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    assert_eq!(written, recorded);
}
