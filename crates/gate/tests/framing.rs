//! Frames that are wrong, and frames in any number of pieces: TCP and WebSocket alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's helpers too, they fail the test"
)]

use std::time::Duration;

use proptest::prelude::*;
use tidegate::{CloseReason, ErrorCode, Limits, Tcp, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

mod support;

use support::ws::{BINARY, masked};
use support::{Rig, WsClient, assert_echo, quiet, raw_v1, read_all, read_v1, v1};

/// What a frame does to its connection over TCP: the reason it is closed with, or
/// `None` if it goes on.
async fn over_tcp(rig: &mut Rig, bytes: &[u8], limits: Limits) -> Option<CloseReason> {
    let mut client = rig.tcp(limits);
    client.write_all(bytes).await.unwrap();
    match timeout(Duration::from_millis(1), client.read(&mut [0; 1])).await {
        Ok(closed) => {
            assert_eq!(closed.unwrap(), 0, "a FIN and nothing else");
            drop(client);
            Some(rig.reason().await)
        }
        Err(_) => {
            assert_echo(&mut client).await;
            drop(client);
            assert_eq!(rig.reason().await, CloseReason::ClientLeft);
            None
        }
    }
}

/// The same with the bytes as one binary message; the close frame has the same code.
async fn over_ws(rig: &mut Rig, message: &[u8], limits: Limits) -> Option<CloseReason> {
    let mut client = rig.ws(limits).await;
    client.send_frame(0x80 | BINARY, message).await;
    let closed = client.next_within(Duration::from_millis(1)).await;
    match closed {
        Some(frame) => {
            let code = frame.close_code().unwrap();
            drop(client);
            let reason = rig.reason().await;
            assert_eq!(reason.code(), code, "hook and close frame agree");
            Some(reason)
        }
        None => {
            client.assert_echo().await;
            drop(client);
            assert_eq!(rig.reason().await, CloseReason::ConnectionLost);
            None
        }
    }
}

#[tokio::test(start_paused = true)]
async fn announced_lengths_zero_to_five() {
    let mut rig = Rig::new().await;
    let limits = Limits::default;
    for total in 0..=5u16 {
        for topic_len in 0..=3u16 {
            let mut frame = total.to_le_bytes().to_vec();
            frame.extend_from_slice(&topic_len.to_le_bytes());
            frame.push(b'a');
            frame.truncate(usize::from(total).max(2));
            let expected = match (total, topic_len) {
                (0..4, _) => Some(CloseReason::BadFrame),
                (4, 0) | (5, 0) => Some(CloseReason::BadTopic),
                (5, 1) => None,
                _ => Some(CloseReason::BadFrame),
            };
            let what = format!("total {total}, topic {topic_len}");
            assert_eq!(
                over_tcp(&mut rig, &frame, limits()).await,
                expected,
                "{what}"
            );
            // A message is what it is, so that here the shortest ones are shorter.
            frame.truncate(total.into());
            assert_eq!(
                over_ws(&mut rig, &frame, limits()).await,
                expected,
                "{what}"
            );
        }
    }
    assert!(rig.gate().closed(CloseReason::BadFrame) > 20);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_is_refused_when_announced_and_at_the_limit_served() {
    let mut rig = Rig::new().await;
    let mut limits = Limits::default();
    limits.max_packet_size = 1000;
    let at_limit = v1("echo/take", &[0; 1000 - 13]);
    assert_eq!(at_limit.len(), 1000);
    assert_eq!(over_tcp(&mut rig, &at_limit, limits.clone()).await, None);
    assert_eq!(over_ws(&mut rig, &at_limit, limits.clone()).await, None);
    let two_bytes = 1001u16.to_le_bytes();
    let too_large = Some(CloseReason::FrameTooLarge);
    assert_eq!(
        over_tcp(&mut rig, &two_bytes, limits.clone()).await,
        too_large
    );
    let over = v1("echo/take", &[0; 1001 - 13]);
    let too_big = Some(CloseReason::MessageTooBig);
    assert_eq!(over_ws(&mut rig, &over, limits).await, too_big);
    let lies = [0xff, 0xff, 1, 0, b'a'];
    let bad = Some(CloseReason::BadFrame);
    assert_eq!(over_ws(&mut rig, &lies, Limits::default()).await, bad);
    assert_eq!(rig.gate().closed(CloseReason::FrameTooLarge), 1);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn every_byte_value_as_topic_and_topics_beyond_the_frame() {
    let mut rig = Rig::new().await;
    for byte in 0..=255u8 {
        let frame = raw_v1(&[byte], b"body");
        let expected = match byte {
            0..0x20 | 0x7f.. => Some(CloseReason::BadTopic),
            _ => None,
        };
        let got = over_tcp(&mut rig, &frame, Limits::default()).await;
        assert_eq!(got, expected, "{byte:#x}");
        let got = over_ws(&mut rig, &frame, Limits::default()).await;
        assert_eq!(got, expected, "{byte:#x}");
        if expected.is_none() {
            let code = match byte {
                b'$' => ErrorCode::RESERVED_TOPIC,
                _ => ErrorCode::BAD_TOPIC,
            };
            for _ in 0..2 {
                assert_eq!(rig.error().await, ((byte as char).to_string(), code));
            }
        }
    }
    for (topic_len, expected) in [(0xffff, true), (6, true), (5, false)] {
        let mut frame = v1("abcde", b"");
        frame[2..4].copy_from_slice(&u16::to_le_bytes(topic_len));
        let expected = expected.then_some(CloseReason::BadFrame);
        let limits = Limits::default();
        assert_eq!(over_tcp(&mut rig, &frame, limits.clone()).await, expected);
        assert_eq!(over_ws(&mut rig, &frame, limits).await, expected);
    }
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn reserved_topics_of_v1_clients_are_refused_and_counted() {
    let mut rig = Rig::new().await;
    let mut client = rig.tcp(Limits::default());
    for topic in ["$hello", "$bye", "$", "$echo/echo/1"] {
        client.write_all(&v1(topic, b"{}")).await.unwrap();
        let refused = (topic.to_owned(), ErrorCode::RESERVED_TOPIC);
        assert_eq!(rig.error().await, refused);
    }
    assert_eq!(rig.gate().packet_errors(ErrorCode::RESERVED_TOPIC), 4);
    assert_echo(&mut client).await;
    drop(client);
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn one_byte_at_a_time() {
    let mut rig = Rig::new().await;
    let mut tcp = rig.tcp(Limits::default());
    let mut ws = rig.ws(Limits::default()).await;
    let frame = v1("echo/echo/1", b"hello");
    for byte in &frame {
        tcp.write_all(&[*byte]).await.unwrap();
        quiet().await;
    }
    assert_eq!(read_v1(&mut tcp).await.unwrap().1, b"hello");
    for byte in masked(0x80 | BINARY, &frame) {
        ws.io.write_all(&[byte]).await.unwrap();
        quiet().await;
    }
    assert_eq!(ws.packet().await.1, b"hello");
    assert_echo(&mut tcp).await;
    ws.assert_echo().await;
    drop((tcp, ws));
    rig.end().await;
    rig.end().await;
    rig.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_in_fragments_equals_the_whole() {
    let rig = Rig::new().await;
    let mut client = rig.ws(Limits::default()).await;
    let frame = v1("echo/echo/1", &[7; 500]);
    let (first, rest) = frame.split_at(3);
    let (second, third) = rest.split_at(200);
    client.send_frame(BINARY, first).await;
    client.send_frame(0x89, b"between").await;
    client.send_frame(0, second).await;
    client.send_frame(0, b"").await;
    client.send_frame(0x80, third).await;
    let pong = client.next().await.unwrap();
    assert_eq!((pong.opcode, pong.payload), (10, b"between".to_vec()));
    assert_eq!(client.packet().await, ("echo/echo/1".into(), vec![7; 500]));
    client.assert_echo().await;
}

#[derive(Debug, Clone)]
struct Script {
    bodies: Vec<usize>,
    bad_end: bool,
    cuts: Vec<usize>,
    read_buffer: usize,
}

fn script() -> impl Strategy<Value = Script> {
    let size = prop_oneof![0..40usize, 0..3000usize, 8000..9000usize];
    let bodies = prop::collection::vec(size, 1..30);
    let cuts = prop::collection::vec(any::<usize>(), 0..20);
    let read_buffer = prop_oneof![Just(64), Just(2048), Just(20_000)];
    (bodies, any::<bool>(), cuts, read_buffer).prop_map(|(bodies, bad_end, cuts, read_buffer)| {
        Script {
            bodies,
            bad_end,
            cuts,
            read_buffer,
        }
    })
}

impl Script {
    fn frames(&self) -> Vec<Vec<u8>> {
        let numbered = self.bodies.iter().enumerate();
        numbered
            .map(|(i, len)| v1(&format!("echo/echo/{i}"), &vec![i as u8; *len]))
            .collect()
    }

    /// Writes all in pieces, each seen by the gate before the next.
    async fn write(&self, mut to: impl AsyncWriteExt + Unpin, bytes: &[u8]) {
        let mut cuts: Vec<_> = self.cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut at = 0;
        for cut in cuts {
            // The gate may have seen the bad end already.
            let _ = to.write_all(&bytes[at..cut]).await;
            quiet().await;
            at = cut;
        }
    }

    async fn run_tcp(&self, limits: Limits) {
        let mut rig = Rig::new().await;
        let client = rig.tcp_on(Tcp::bind("pipe").limits(limits));
        let (mut reader, writer) = tokio::io::split(client);
        let mut bytes = self.frames().concat();
        if self.bad_end {
            bytes.extend_from_slice(&[3, 0]);
        }
        let read = async {
            for i in 0..self.bodies.len() {
                let (topic, body) = read_v1(&mut reader).await.unwrap();
                assert_eq!(topic, format!("echo/echo/{i}"));
                assert_eq!(body, vec![i as u8; self.bodies[i]]);
            }
        };
        tokio::join!(self.write(writer, &bytes), read);
        if self.bad_end {
            assert!(read_all(&mut reader).await.is_empty());
            assert_eq!(rig.reason().await, CloseReason::BadFrame);
        }
    }

    async fn run_ws(&self, limits: Limits) {
        let mut rig = Rig::new().await;
        let client = rig.ws_on(WebSocket::bind("pipe").limits(limits)).await;
        let (reader, writer) = tokio::io::split(client.io);
        let reader = tokio::io::join(reader, tokio::io::sink());
        let buffer = client.buffer;
        let mut client = WsClient { io: reader, buffer };
        let frames = self.frames();
        let mut bytes: Vec<u8> = frames.iter().flat_map(|f| masked(0x82, f)).collect();
        if self.bad_end {
            bytes.extend_from_slice(&masked(0x82, &[3, 0]));
        }
        let read = async {
            for i in 0..self.bodies.len() {
                let (topic, body) = client.packet().await;
                assert_eq!(topic, format!("echo/echo/{i}"));
                assert_eq!(body, vec![i as u8; self.bodies[i]]);
            }
        };
        tokio::join!(self.write(writer, &bytes), read);
        if self.bad_end {
            let code = CloseReason::BadFrame.code();
            assert_eq!(client.closed().await, Some(code));
            assert_eq!(rig.reason().await, CloseReason::BadFrame);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_answers(script in script()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let mut limits = Limits::default();
        limits.read_buffer = script.read_buffer;
        runtime.block_on(async {
            script.run_tcp(limits.clone()).await;
            script.run_ws(limits).await;
        });
    }
}
